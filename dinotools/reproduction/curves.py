"""Curves of pre-training runs: loss, entropy and KL divergence, k-NN, signs of health, schedules.

Source: DINO, Fig. 6 (teacher and student by k-NN; kinds of teacher compared) and Fig. 7 (entropy and KL divergence).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dinotools.reporting import figures, html
from dinotools.reporting.training_curves import Panel, Points, colours_of, described, draw, draw_one
from dinotools.reproduction.training import Run, summary, without_empty_columns

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
class Picture:
    """Panels that are seen together.

    Args:
        file: stem of a file that holds them.
        title: heading.
        text: what is to be seen, or "".
        panels: at least one with a line.
    """

    file: str
    title: str
    text: str
    panels: Sequence[Panel]


def pictures(runs: Sequence[Run]) -> list[Picture]:
    """The pictures, as far as there is something to be seen in them."""
    drawn = (
        Picture("loss", "Loss", "", loss_panels(runs)),
        Picture("collapse", "Entropy and KL divergence", COLLAPSE_TEXT, collapse_panels(runs)),
        Picture("knn", "k-NN", "Top-1 accuracy on the monitor's data.", knn_panels(runs)),
        Picture("signs", "Signs of health", "", sign_panels(runs)),
        Picture("schedules", "Schedules", "", schedule_panels(runs)),
    )
    seen = [(each, [panel for panel in each.panels if any(panel.lines.values())]) for each in drawn]
    return [replace(each, panels=panels) for each, panels in seen if panels]


def save_pictures(runs: Sequence[Run], folder: Path) -> list[Path]:
    """Writes each picture as a PNG, for slides and documents, and returns the files; none without runs."""
    paths = []
    for picture in pictures(runs) if runs else ():
        paths.append(folder / f"{picture.file}.png")
        figures.save(draw(picture.panels, x_label(runs)), paths[-1])
    return paths


def section(runs: Sequence[Run]) -> str:
    """The runs as a part of a page: where they stand, what the detector says, the curves; HTML."""
    parts = [html.table(without_empty_columns([summary(each) for each in runs]), "training runs", cards=True)]
    parts += [
        f'<p class="alarm"><strong>{html.text(each.name)}</strong>: {html.text(found.message)}</p>'
        for each in runs
        for found in each.collapses
    ]
    shown = pictures(runs)
    colours = colours_of([panel for picture in shown for panel in picture.panels])  # a run keeps its own everywhere
    for picture in shown:
        parts.append(f"<h3>{html.text(picture.title)}</h3>")
        parts.append(f"<p>{html.text(picture.text)}</p>" if picture.text else "")
        parts.append(_legend(picture.panels, colours))
        charts = [_chart(panel, x_label(runs), colours) for panel in picture.panels]
        parts.append(f'<div class="charts">{"".join(charts)}</div>')
    return "\n".join(part for part in parts if part)


def x_label(runs: Sequence[Run]) -> str:
    """What x counts in all curves."""
    return "epoch" if in_epochs(runs) else "step"


def _chart(panel: Panel, counted: str, colours: Mapping[str, str]) -> str:
    drawn = figures.svg(draw_one(panel, counted, colours), described(panel, counted))
    return html.figure(drawn, panel.title)


def _legend(panels: Sequence[Panel], colours: Mapping[str, str]) -> str:
    """Names of lines beside their colours; "" where one line stands for itself."""
    if all(len(panel.lines) == 1 for panel in panels):
        return ""
    pens = {colour: f"var(--series-{i})" for i, colour in enumerate(figures.COLOURS, start=1)}
    items = "".join(
        f'<li><span style="background: {pens.get(colour, colour)}"></span>{html.text(name)}</li>'
        for name, colour in colours.items()
        if any(panel.lines.get(name) for panel in panels)
    )
    return f'<ul class="legend">{items}</ul>'


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
