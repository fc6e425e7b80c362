"""``dinotools report``: how pre-training runs went, or are going, as pictures on a page.

Source: DINO, Fig. 6 (teacher and student by k-NN; kinds of teacher compared) and Fig. 7 (entropy and KL divergence).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dinotools.configs import files
from dinotools.configs.pretraining import PretrainConfig
from dinotools.configs.report import ReportConfig
from dinotools.pretraining.collapse import Collapse, CollapseDetector
from dinotools.reporting import figures, html
from dinotools.reporting.training_curves import Panel, Points, draw
from dinotools.runtime import run_directory
from dinotools.runtime.errors import DinotoolsError
from dinotools.runtime.results import Result, versions
from dinotools.runtime.run_log import LOG, STEPS, read_log

PAGE = "index.html"
SCHEDULES = {
    "lr": "learning rate",
    "weight_decay": "weight decay",
    "momentum_teacher": "momentum of the teacher",
    "teacher_temp": "temperature of the teacher",
}
SIGNS = {
    "grad_norm": "norm of the gradient",
    "center_norm": "norm of the centre",
    "feature_std": "deviation of the features (1: everywhere, 0: all equal)",
    "images_per_s": "images per second",
}
LR_KNEE, TEMPERATURE_KNEE = "lr warm-up ends", "temperature warm-up ends"
COLLAPSE_TEXT = (
    "Fig. 7 of the paper. Both must stay away from zero; an entropy at ln K or at zero together with a KL divergence "
    "of zero is a collapse."
)


@dataclass(frozen=True)
class Run:
    """What a run directory tells.

    Args:
        name: how it is called in the report.
        folder: the run directory.
        config: its options.
        epochs: lines of log.jsonl.
        steps: lines of steps.jsonl; runs of older versions have none.
    """

    name: str
    folder: Path
    config: PretrainConfig
    epochs: Sequence[dict[str, Any]]
    steps: Sequence[dict[str, Any]]

    @property
    def steps_per_epoch(self) -> float | None:
        """Known as soon as an epoch is over."""
        return next((record["step"] / record["epoch"] for record in self.epochs if record.get("epoch")), None)

    def values(self, name: str) -> list[tuple[int, float]]:
        """A quantity by step: where it was measured every few steps, those; else by epoch."""
        records = self.steps if any(name in record for record in self.steps) else self.epochs
        return [(record["step"], record[name]) for record in records if name in record]

    def last(self, name: str) -> float | None:
        """The latest value of a quantity, the mean of its epoch where there is one."""
        found = [record[name] for record in [*self.steps, *self.epochs] if name in record]
        return found[-1] if found else None

    @cached_property
    def collapses(self) -> list[Collapse]:
        """What the detector has told, or would have."""
        detector = CollapseDetector(self.config)
        return [found for record in self.steps if (found := detector.look(record["step"], record))]


def run(config: ReportConfig) -> Result:
    """Draws the runs and writes a page.

    Raises:
        DinotoolsError: a folder is no run, or has measured nothing yet; --out is a run or cannot be written.
    """
    runs = read_runs(tuple(dict.fromkeys(config.runs)))
    out = config.out or config.runs[0] / "report"
    if (out / LOG).exists():
        raise DinotoolsError("is a run directory", out, "Choose another --out.")
    run_directory.check_writable(out / PAGE, "--out")
    rows = without_empty_columns([summary(each) for each in runs])
    warnings = [f"{each.name}: {found.message}" for each in runs for found in each.collapses]
    sections = [html.Section("Where they stand" if len(runs) > 1 else "Where it stands", rows=rows)]
    sections += [
        html.Section(f"Collapse of {each.name}", found.message[0].upper() + found.message[1:])
        for each in runs
        for found in each.collapses
    ]
    sections += draw_sections(runs, out)
    text = html.page(
        "Training of " + ", ".join(each.name for each in runs),
        "; ".join(dict.fromkeys(f"{each.config.arch} on {each.config.data}" for each in runs)),
        sections,
        f"dinotools {versions()['dinotools']}. Drawn from log.jsonl and steps.jsonl of each run.",
    )
    run_directory.write_atomically(out / PAGE, lambda path: path.write_text(text, encoding="utf-8"))
    return Result(
        title=f"report · {', '.join(each.name for each in runs)}",
        rows=rows,
        metrics={row["run"]: row for row in rows},
        details={"runs": [str(each.folder) for each in runs], "collapses": warnings},
        notes=(*warnings, f"Page: {out / PAGE}"),
    )


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Reads run directories; those of the same name are told apart by their paths.

    Raises:
        DinotoolsError: one is no directory of `dinotools pretrain`, or has measured nothing yet.
    """
    counts = Counter(folder.resolve().name for folder in folders)
    found = []
    for folder in folders:
        options = folder / run_directory.OPTIONS
        remedy = "Name the --out of a `dinotools pretrain`."
        if not options.is_file():
            raise DinotoolsError("is no run directory (it has no config.toml)", folder, remedy)
        try:
            config = files.load(PretrainConfig, options)
        except (DinotoolsError, TypeError) as error:
            raise DinotoolsError(f"does not come from `dinotools pretrain` ({error})", folder, remedy) from error
        epochs, steps = read_log(folder / LOG), read_log(folder / STEPS)
        if not epochs and not steps:
            raise DinotoolsError("has measured nothing yet", folder, "Wait for the first steps of the run.")
        name = folder.resolve().name
        found.append(Run(name if counts[name] == 1 else str(folder), folder, config, epochs, steps))
    return found


def summary(run: Run) -> dict[str, Any]:
    """A run in one row of a table."""
    whole = math.log(run.config.out_dim)
    steps = max(record["step"] for record in [*run.steps, *run.epochs])
    done = f"{steps / run.steps_per_epoch:.1f}".removesuffix(".0") if run.steps_per_epoch else "below 1"

    entropy, kl = run.last("teacher_entropy"), run.last("kl")
    return {
        "run": run.name,
        "epochs": f"{done} of {run.config.epochs}",
        "loss": run.last("train_loss") or run.last("loss"),
        "h / ln K %": None if entropy is None else 100 * entropy / whole,
        "KL / ln K %": None if kl is None else 100 * kl / whole,
        "k-NN teacher %": run.last("knn_teacher"),
        "k-NN student %": run.last("knn_student"),
        "collapse": ", ".join(found.kind for found in run.collapses) or ("none" if run.steps else None),
    }


def without_empty_columns(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leaves out what no run has measured."""
    kept = [name for name in rows[0] if any(row[name] is not None for row in rows)]
    return [{name: row[name] for name in kept} for row in rows]


def draw_sections(runs: Sequence[Run], out: Path) -> list[html.Section]:
    """The pictures, as far as there is something to be seen in them, each in its part of the page."""
    x_label = "epoch" if in_epochs(runs) else "step"
    sections = []
    for file, title, text, panels in (
        ("loss", "Loss", "", loss_panels(runs)),
        ("collapse", "Entropy and KL divergence", COLLAPSE_TEXT, collapse_panels(runs)),
        ("knn", "k-NN", "Top-1 accuracy on the monitor's data.", knn_panels(runs)),
        ("signs", "Signs of health", "", sign_panels(runs)),
        ("schedules", "Schedules", "", schedule_panels(runs)),
    ):
        seen = [panel for panel in panels if any(panel.lines.values())]
        if seen:
            path = out / f"{file}.png"
            figures.save(draw(seen, x_label), path)
            alternative = f"By {x_label}: {'; '.join(panel.title for panel in seen)}."
            sections.append(html.Section(title, text, pictures=[(path, alternative)]))
    return sections


def loss_panels(runs: Sequence[Run]) -> list[Panel]:
    """The loss; a uniform output costs ln K."""
    lines = {**lines_of(runs, "train_loss"), **{name: line for name, line in lines_of(runs, "loss").items() if line}}
    sizes = {each.config.out_dim for each in runs if each.config.loss == "ce"}
    level = ("ln K", math.log(sizes.pop())) if len(sizes) == 1 else None
    return [Panel("loss", lines, level, common_knees(runs))]


def collapse_panels(runs: Sequence[Run]) -> list[Panel]:
    """Fig. 7, as shares of ln K."""
    return [
        Panel("entropy h(Pt) / ln K", lines_of(runs, "teacher_entropy", of_ln_k=True), ("uniform", 1.0)),
        Panel("KL(Pt || Ps) / ln K", lines_of(runs, "kl", of_ln_k=True)),
    ]


def knn_panels(runs: Sequence[Run]) -> list[Panel]:
    """Fig. 6: teacher and student of the first run; then the gap between them, or the teachers of all runs."""
    first = runs[0].name
    teachers, students = lines_of(runs, "knn_teacher"), lines_of(runs, "knn_student")
    roles = {"teacher": teachers[first], "student": students[first]}
    if len(runs) > 1:
        return [Panel(f"k-NN top-1 %, {first}", roles), Panel("k-NN top-1 % of the teachers", teachers)]
    at = dict(roles["student"])
    gap = [(x, teacher - at[x]) for x, teacher in roles["teacher"] if x in at]
    return [Panel("k-NN top-1 %", roles), Panel("teacher minus student, points", {"gap": gap}, ("equal", 0.0))]


def sign_panels(runs: Sequence[Run]) -> list[Panel]:
    """What else tells of health, as far as it was logged."""
    return [Panel(title, lines_of(runs, name), knees=common_knees(runs)) for name, title in SIGNS.items()]


def schedule_panels(runs: Sequence[Run]) -> list[Panel]:
    """The schedules, each with its own knee."""
    knees = common_knees(runs)
    own = {"lr": LR_KNEE, "teacher_temp": TEMPERATURE_KNEE}
    return [
        Panel(title, lines_of(runs, name), knees={knee: x for knee, x in knees.items() if knee == own.get(name)})
        for name, title in SCHEDULES.items()
    ]


def lines_of(runs: Sequence[Run], name: str, *, of_ln_k: bool = False) -> dict[str, Points]:
    """A quantity of every run, over epochs or steps, perhaps as a share of ln K."""
    return {
        each.name: [
            (
                step / (each.steps_per_epoch or 1) if in_epochs(runs) else step,
                value / (math.log(each.config.out_dim) if of_ln_k else 1),
            )
            for step, value in each.values(name)
        ]
        for each in runs
    }


def in_epochs(runs: Sequence[Run]) -> bool:
    """Whether x counts epochs: all runs have completed one, and batches of several sizes compare."""
    return all(each.steps_per_epoch for each in runs)


def common_knees(runs: Sequence[Run]) -> dict[str, float]:
    """Epochs at which something changes, if they are the same in all runs; not those at the very start."""
    found = [
        {
            "last layer is freed": each.config.freeze_last_layer,
            LR_KNEE: each.config.warmup_epochs,
            TEMPERATURE_KNEE: each.config.warmup_teacher_temp_epochs,
        }
        for each in runs
    ]
    alike = in_epochs(runs) and all(knees == found[0] for knees in found)
    return {name: float(epoch) for name, epoch in found[0].items() if epoch} if alike else {}
