"""What tells whether a run is healthy, gathered on the device and read every few steps.

Source: DINO, section 5.3 and Fig. 7 (entropy of the teacher, KL divergence to the student).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dinotools.runtime import distributed


class Diagnostics:
    """Sums of scalars that stay on the device; reading them is the only wait, and one for all of them.

    A value that is not finite counts for nothing: it belongs to a step that is skipped.
    """

    def __init__(self) -> None:
        self._totals: dict[tuple[str, ...], Tensor] = {}

    @torch.no_grad()
    def observe(self, **values: Tensor) -> None:
        """Adds the values of a step, or some of them: 0-dim tensors of one device. Every rank adds the same names."""
        stacked = torch.stack([value.detach().float() for value in values.values()])
        finite = stacked.isfinite()
        added = torch.stack([stacked.where(finite, 0.0), finite.float()])
        names = tuple(values)
        if names in self._totals:
            self._totals[names] = self._totals[names].to(added.device) + added
        else:
            self._totals[names] = added

    def read(self) -> dict[str, float]:
        """The mean of every name since the last call, over steps and ranks; without those that were never finite.

        All ranks call it at the same steps.

        Raises:
            RunFailed: a rank has stopped.
        """
        if not self._totals:
            return {}
        names = [name for group in self._totals for name in group]
        totals = distributed.sum_over_ranks(torch.cat(list(self._totals.values()), dim=1))
        self._totals = {}
        sums, counts = totals.tolist()
        return {name: total / n for name, total, n in zip(names, sums, counts, strict=True) if n}

    def state_dict(self) -> dict[str, Tensor]:
        """The sums so far, so that a resumed run reads what an uninterrupted one does; names joined by commas."""
        return {",".join(names): totals for names, totals in self._totals.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Takes the sums of ``state_dict``, on whatever device they lie."""
        self._totals = {tuple(names.split(",")): totals for names, totals in state.items()}


@torch.no_grad()
def feature_std(features: Tensor) -> Tensor:
    """How much the features of a batch differ: about 1 if they point everywhere, 0 if all are the same.

    The standard deviation over the batch of the L2-normalised features, averaged over dimensions, times sqrt(D).

    Source: Chen & He 2021, SimSiam (arXiv 2011.10566), section 4.1.

    Args:
        features: (N, D) floats of any device.

    Returns:
        Scalar, float32 on the same device.
    """
    unit = F.normalize(features.detach().float(), dim=-1)
    return unit.std(dim=0, correction=0).mean() * features.shape[1] ** 0.5


def epoch_means(records: Iterable[Mapping[str, Any]], epoch: int) -> dict[str, float]:
    """The means of an epoch from the lines of steps.jsonl, each weighed by the steps that it stands for.

    Args:
        records: lines of steps.jsonl in order, each with ``step`` and ``epoch``. Since they are read from the file, a
            resumed run has those from before the interruption as well.
        epoch: as it stands in them.
    """
    sums: dict[str, float] = {}
    weights: dict[str, int] = {}
    for before, record in pairwise([{"step": 0}, *records]):
        if record.get("epoch") != epoch:
            continue
        steps = record["step"] - before["step"]
        for name in record.keys() - {"step", "epoch"}:
            sums[name] = sums.get(name, 0.0) + steps * record[name]
            weights[name] = weights.get(name, 0) + steps
    return {name: sums[name] / weights[name] for name in sorted(sums)}
