"""Collapse: the teacher says the same of every image, the loss has nothing left to teach, and nothing else shows it.

Source: DINO, section 5.3 and Fig. 7: without sharpening the output becomes uniform, without centring one dimension
wins; either way KL(Pt || Ps) goes to zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from dinotools.configs.pretraining import PretrainConfig

Kind = Literal["uniform", "one dimension", "equal outputs"]

# Shares of ln K. Digits and CIFAR-10 with sharpening or centring off fall below both after 70 to 210 steps. The healthy
# run that comes nearest, on digits, stays above 0.037 and 0.045; a fresh ViT-S has 0.08 and 0.06.
KL = 0.02  # how far a student that has caught up is from the teacher
INFORMATION = 0.02  # what the teacher's output tells of its image
# Of losses without distributions; see ``diagnostics.feature_std``. Digits without predictor and centring fall below
# after 200 steps, to 0.03; with the predictor they stay above 0.84.
OUTPUT_STD = 0.1
PERSISTENCE = 40  # steps that it must last: a run may look collapsed for a moment
SMALL_BATCH = 256  # images; below, a centre of momentum 0.9 jumps with the batch


@dataclass(frozen=True)
class Collapse:
    """What has happened, and a message that names the likely cause and the remedies."""

    kind: Kind
    message: str


DISTRIBUTIONS = {"teacher_entropy", "mean_entropy", "kl"}


class CollapseDetector:
    """Looks at the means of a few steps and says so, once, when the teacher's output no longer depends on the image.

    The mutual information of image and dimension, H(mean of Pt) - mean of H(Pt), vanishes in both of the paper's kinds
    of collapse, whatever the temperatures; so does KL(Pt || Ps). Both must stay near zero for PERSISTENCE steps: a
    fresh network's outputs are nearly alike too, but its student does not predict them.

    Args:
        config: the options of the run; K sets the scale, the others point to the cause.
    """

    def __init__(self, config: PretrainConfig) -> None:
        self.config = config
        self._kind: Kind | None = None
        self._since = 0
        self._reported: Kind | None = None

    def look(self, step: int, values: Mapping[str, float]) -> Collapse | None:
        """A collapse that is news: of a kind that has lasted, and was not the last one told.

        Args:
            step: steps taken so far.
            values: means over the last steps: ``teacher_entropy``, ``mean_entropy`` and ``kl`` in nats, or for losses
                without distributions ``output_std``. Without them the look is left out.
        """
        if not (values.keys() >= DISTRIBUTIONS or ("output_std" in values and "kl" not in values)):
            return None
        kind = kind_of(values, self.config.out_dim)
        if kind != self._kind:
            self._kind, self._since = kind, step
        if kind in (None, self._reported) or step - self._since < PERSISTENCE:
            return None
        self._reported = kind
        return Collapse(kind, describe(kind, step, values, self.config))


def kind_of(values: Mapping[str, float], out_dim: int) -> Kind | None:
    """The kind of collapse that the values of a moment look like; None is a healthy one."""
    if "kl" not in values:
        return "equal outputs" if values["output_std"] < OUTPUT_STD else None
    whole = math.log(out_dim)
    information = values["mean_entropy"] - values["teacher_entropy"]
    if values["kl"] > KL * whole or information > INFORMATION * whole:
        return None
    return "uniform" if values["mean_entropy"] > whole / 2 else "one dimension"


def describe(kind: Kind, step: int, values: Mapping[str, float], config: PretrainConfig) -> str:
    """The message: what is seen, the likely cause, what helps."""
    if kind == "equal outputs":
        seen = f"the outputs of all images are equal (relative deviation {values['output_std']:.3f})"
    else:
        whole = math.log(config.out_dim)
        entropy, kl = values["teacher_entropy"] / whole, values["kl"] / whole
        numbers = f"entropy {100 * entropy:.0f} % and KL {100 * kl:.1f} % of ln K"
        if kind == "uniform":
            seen = f"the teacher's output is uniform for every image ({numbers}; loss = ln K = {whole:.2f})"
        else:
            seen = f"the teacher gives every image the same few of its {config.out_dim:,} dimensions ({numbers})"
    cause, remedy = likely_cause(kind, config)
    return f"collapse at step {step:,}: {seen}. Likely cause: {cause}. {remedy}"


def likely_cause(kind: Kind, config: PretrainConfig) -> tuple[str, str]:
    """What in the options leads to this kind of collapse, and what to change: (cause, remedy)."""
    temperature = max(config.teacher_temp, config.warmup_teacher_temp)
    if config.teacher in ("student", "previous-iteration"):
        return f"--teacher {config.teacher}, which the student can follow at once", "Use --teacher momentum."
    if kind == "uniform" and temperature >= config.student_temp:
        return (
            f"no sharpening, as the teacher's temperature {temperature:g} is not below the student's "
            f"{config.student_temp:g}",
            "Use --teacher-temp 0.04 and --warmup-teacher-temp 0.04.",
        )
    if kind == "one dimension" and config.centering == "none":
        return "--centering none, so that nothing holds the strongest dimension back", "Use --centering center."
    if kind == "one dimension" and config.center_momentum > 0.99:
        return f"a centre that hardly moves, at --center-momentum {config.center_momentum:g}", "Use 0.9 to 0.99."
    if config.loss == "mse" and not config.predictor:
        return "--loss mse without a predictor, so that nothing keeps images apart", "Add --predictor."
    if config.batch_size < SMALL_BATCH and not config.use_bn_in_head:
        return (
            f"batches of {config.batch_size} images, with which the centre jumps from step to step",
            "Add --use-bn-in-head or take larger batches; else a lower --teacher-temp or --center-momentum 0.99.",
        )
    if kind == "equal outputs":
        return "too high a learning rate", "Lower --lr, or add --use-bn-in-head."
    return (
        f"a teacher temperature of {temperature:g} or a learning rate too high for these images",
        "Lower --teacher-temp or --lr, lengthen --warmup-epochs or --freeze-last-layer, or add --use-bn-in-head.",
    )
