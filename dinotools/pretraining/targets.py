"""From the teacher's outputs to the distributions that the student is to predict.

Whatever the centring, they are softmax((outputs - offset) / temperature): the ways differ in what is taken from each
prototype, so that no prototype takes all images. ``center`` takes a moving average of the outputs (DINO, section 3.1);
``sinkhorn`` the offsets with which all prototypes get equal shares of the batch, nearly so after a few iterations
(SwAV); ``batch-softmax`` is one such iteration: a softmax over the batch, then each image's row normalised (Table 15).
"""

from __future__ import annotations

import torch
from torch import Tensor

from dinotools.runtime import distributed


@torch.no_grad()
def sinkhorn_offsets(teacher: Tensor, temp: float, iterations: int) -> Tensor:
    """Offsets of the prototypes by Sinkhorn-Knopp, for each view by itself, over the images of all ranks.

    As pseudo-code, for one view::

        P = exp(teacher / temp)
        repeat iterations times:
            P = P / P.sum(over images)        every prototype gets the same
            P = P / P.sum(over prototypes)    every image gives the same

    The last P is softmax((teacher - offset) / temp). Here it is P's logarithm that is moved, so nothing overflows at
    any temperature; the last of its row sums is that of the softmax and is left to it.

    Args:
        teacher: logits (2, B, K), any floating type.
        temp: temperature of the teacher.
        iterations: at least 1.

    Returns:
        (2, 1, K), float32, or float64 for float64 logits.
    """
    scores = teacher.to(torch.promote_types(teacher.dtype, torch.float32)) / temp
    prototypes = _logsumexp_over_images(scores)
    for _ in range(iterations - 1):
        images = (scores - prototypes).logsumexp(dim=-1, keepdim=True)
        prototypes = _logsumexp_over_images(scores - images)
    return prototypes * temp


def _logsumexp_over_images(scores: Tensor) -> Tensor:
    """(2, B, K) to (2, 1, K), over the B images of every rank."""
    largest = distributed.max_over_ranks(scores.amax(dim=1, keepdim=True))
    return distributed.sum_over_ranks((scores - largest).exp_().sum(dim=1, keepdim=True)).log_().add_(largest)
