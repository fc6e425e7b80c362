"""Label propagation: soft labels of a frame from those of the first frame and of the frames just before it.

A patch takes the weighted mean of the labels of the few context patches nearest to it in cosine similarity, looked for
in a square window of every context frame, all frames together. Nothing is learned.
Paper: section 4.2.2, Table 5; official file ``eval_video_segmentation.py``.

Targets are taken in tiles, a few rows of a strip of columns at a time, so that their windows overlap: one matrix
product compares a tile with the rows and columns that its windows cover, and the affinity of all with all never exists.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

STRIP = 32  # columns of targets in a tile, at most: of a wider one, more products would lie outside the windows
TARGETS = 64  # in a tile, at least where windows are large: narrow matrix products are slow
CPU_TILE = 2**21  # affinities in a tile, about: few enough for a cache, many enough that cores seldom wait
TILE = 2**24  # the same on an accelerator, which wants few large tiles


class LabelPropagation:
    """What a video's next frame is labelled from: its first frame, and the last few before the next one.

    Args:
        n_last_frames: previous frames that are remembered, beside the first; 0 for none.
        radius: of the window, in patches, to all four sides; 0 for no window.
        topk: context patches that a patch listens to.
        temperature: of their weights; above 0.02.
    """

    def __init__(self, n_last_frames: int = 7, radius: int = 12, topk: int = 5, temperature: float = 0.1) -> None:
        self.radius, self.topk, self.temperature = radius, topk, temperature
        self._first: tuple[Tensor, Tensor] | None = None
        self._last: deque[tuple[Tensor, Tensor]] = deque(maxlen=n_last_frames)

    def start(self, features: Tensor, labels: Tensor) -> None:
        """Begins a video and forgets the one before.

        Args:
            features: of the first frame (h, w, D).
            labels: its labels (C, h, w), on the same device; with the features, on the device that computes.
        """
        self._first = (unit(features), labels.float())
        self._last.clear()

    def step(self, features: Tensor) -> Tensor:
        """Labels the next frame and remembers it.

        Args:
            features: of the frame (h, w, D).

        Returns:
            Its labels (C, h, w) float32, non-negative; they sum to 1 over C where those of the first frame do.
        """
        if self._first is None:
            raise RuntimeError("start() comes before step()")
        target = unit(features)
        sources, labels = zip(self._first, *self._last, strict=True)
        found = propagate(target, sources, labels, radius=self.radius, topk=self.topk, temperature=self.temperature)
        self._last.append((target, found))
        return found


def unit(features: Tensor) -> Tensor:
    """Features (h, w, D) in float32, of length 1."""
    return F.normalize(features.float(), dim=-1)


@torch.inference_mode()
def propagate(
    target: Tensor,
    sources: Sequence[Tensor],
    labels: Sequence[Tensor],
    *,
    radius: int = 12,
    topk: int = 5,
    temperature: float = 0.1,
) -> Tensor:
    """Weighted mean of the labels of the nearest context patches.

    ::

        a = exp(target @ sources.T / temperature)     # every target patch, every patch of every source
        a = 0 where the rows or the columns of the two are more than radius apart
        a = 0 where a < the topk-th largest a of the same target, over all sources together
        labels of a target = sum of a * labels of the sources / sum of a

    What equals the topk-th largest is kept, so more than topk can be. Memory holds the sources of one strip of
    columns and two tiles of affinities beside what is given and returned.

    Args:
        target: features (h, w, D) float32 of length 1.
        sources: n such tensors.
        labels: of the sources: n (C, h, w) float32.
        radius: in patches; 0 for everywhere.
        topk: how many.
        temperature: of the affinity; above 0.02, or it could overflow.

    Returns:
        (C, h, w) float32.
    """
    shape = labels[0].shape
    if not radius:  # where a patch lies is of no account then: the grid becomes one column
        radius = shape[1] * shape[2]
        target, *sources = (one.flatten(0, 1)[:, None] for one in (target, *sources))
        labels = [one.flatten(1)[..., None] for one in labels]
    height, width = target.shape[:2]
    # one more class that every patch has: its sum is what the other sums are divided by
    labels = [torch.cat([one, torch.ones_like(one[:1])]) for one in labels]
    sums = torch.empty_like(labels[0])
    lines, columns = _tile_sides(height, width, radius, len(sources), target.device)
    reached = len(sources) * min(height, lines + 2 * radius) * min(width, columns + 2 * radius)
    # every tile in the same memory: fetching new pages from the system would cost as much as the products
    space = target.new_empty(2, reached * lines * columns)
    for left, right in _pieces(width, columns):
        first_column, end_column = max(0, left - radius), min(width, right + radius)
        strip = torch.stack([one[:, first_column:end_column] for one in sources], dim=2)
        strip_labels = torch.stack([one[..., first_column:end_column] for one in labels], dim=3)
        near_columns = _near(first_column, end_column, left, right, radius, target.device)
        for top, bottom in _pieces(height, lines):
            first_row, end_row = max(0, top - radius), min(height, bottom + radius)
            near_rows = _near(first_row, end_row, top, bottom, radius, target.device)
            window = (near_rows[:, None, :, None] & near_columns[None, :, None, :]).flatten(2).flatten(0, 1)
            targets = target[top:bottom, left:right].flatten(0, 1)
            weights = _weights(strip[first_row:end_row].flatten(0, 1), targets, window, topk, temperature, space)
            tile_sums = strip_labels[:, first_row:end_row].flatten(1) @ weights
            sums[:, top:bottom, left:right] = tile_sums.unflatten(1, (bottom - top, right - left))
    return (sums[:-1] / sums[-1]).view(shape)


def _weights(context: Tensor, targets: Tensor, window: Tensor, topk: int, temperature: float, space: Tensor) -> Tensor:
    """What the context patches of a tile weigh for its targets, before they are normalised.

    Args:
        context: features (positions, sources, D).
        targets: features (targets, D).
        window: whether a position is in the window of a target, (positions, targets) bool.
        topk: how many are not 0, but for equals.
        temperature: of the affinity.
        space: to work in, (2, positions * sources * targets or more).

    Returns:
        (positions * sources, targets), in the first row of space.
    """
    size = context.shape[0] * context.shape[1] * len(targets)
    affinity, kept = space[:, :size].view(2, *context.shape[:2], len(targets))
    flat = affinity.flatten(0, 1)
    # divided and exponentiated as officially: what comes out equal counts as equal
    torch.mm(context.flatten(0, 1), targets.T, out=flat).div_(temperature).exp_()
    least = torch.where(window, _kth_largest(affinity, window, topk), torch.inf)
    # compared into floats: booleans of this size take the CPU four times as long
    affinity *= torch.ge(affinity, least[:, None], out=kept)
    return flat


def _tile_sides(height: int, width: int, radius: int, n_sources: int, device: torch.device) -> tuple[int, int]:
    """Rows and columns of a tile of targets."""
    columns = min(width, STRIP)
    per_target = n_sources * min(height, 2 * radius + 1) * min(width, 2 * radius + columns)
    targets = max(TARGETS, (CPU_TILE if device.type == "cpu" else TILE) // per_target)
    return min(height, max(1, targets // columns)), columns


def _pieces(length: int, longest: int) -> list[tuple[int, int]]:
    """Start and end of as few pieces as will do, of nearly one length."""
    count = -(-length // longest)
    ends = [length * i // count for i in range(count + 1)]
    return list(pairwise(ends))


def _near(first: int, end: int, start: int, stop: int, radius: int, device: torch.device) -> Tensor:
    """Which of the positions first..end lie near which of start..stop: (end - first, stop - start) bool."""
    context, target = torch.arange(first, end, device=device), torch.arange(start, stop, device=device)
    return (context[:, None] - target).abs() <= radius


def _kth_largest(affinity: Tensor, window: Tensor, k: int) -> Tensor:
    """The k-th largest affinity in the window of every target; at most the smallest where the window holds fewer.

    The k positions with the largest maxima over the sources hold the k largest affinities, so only they are sorted.

    Args:
        affinity: (positions, sources, targets), above 0.
        window: (positions, targets) bool.
        k: above 0.

    Returns:
        (targets,).
    """
    maxima, positions = (affinity.amax(dim=1) * window).T.topk(min(k, len(window)))
    targets = torch.arange(len(positions), device=affinity.device)[:, None]
    candidates = affinity[positions, :, targets] * (maxima > 0)[..., None]
    return candidates.flatten(1).topk(min(k, candidates[0].numel())).values[:, -1]
