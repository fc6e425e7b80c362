"""How similar two photos must be to count as copies: the lowest threshold that makes few false groups.

What "similar" means depends on the network and on the photos: there is no number for all. The rule: of a thousand
photos that have no copy in the folder, one may be as similar to another as the threshold says, so that it would be
grouped falsely. This counts photos and not pairs: a folder twice as large holds twice as many others to be mistaken
for, the nearest of them is nearer, and the threshold rises.

::

    of up to 2,000 photos:   s = the similarity to the nearest other photo of the folder
    u = -log(1 - s)          # minus the logarithm of half the squared distance
    u's median m and upper quartile q
    threshold = 1 - exp(-(m + 4.58 (q - m)))   # the 99.9 % point of a normal law with this median and quartile
    again without the others that reach the threshold, until it stays

The tail of ``s`` itself cannot be counted, because it is there that the real copies of the folder are, and with 300
photos a thousandth is not even one. Median and quartile hardly see these copies once those that are found are left out;
the first threshold takes the lower quartile, which bears copies of up to a third of the photos. As people keep whole
folders twice, others that are practically the same are left out from the beginning: those as similar as nine in ten of
the ``JPEG 75`` copies made here are to their originals. At most three others of a photo are left out, lest a network
that confuses everything leave out everything.

That ``u`` is nearly normal is seen, not proven. Among 12,000 images of CIFAR-10, which has copies, pairs just above
the threshold were copies to the eye, and those below were ever more often not. Series of one motif are no accident and
reach the threshold more often; a person may want to see them grouped.

Which copies the threshold finds is told by kind: up to 100 photos are attacked in twelve ways, and those copies are
found that are as similar to their originals as the threshold says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from numpy.random import RandomState
from torch import Tensor

from dinotools.features.descriptors import Descriptors
from dinotools.photos.attacked import KINDS, MILD, AttackedPhotos
from dinotools.photos.storage import Index
from dinotools.runtime.errors import DinotoolsError
from dinotools.search.exact import nearest
from dinotools.search.rows import rows_of

FALSE_SHARE = 0.001  # of photos without a copy that may be grouped
DEVIATIONS = 3.0902 / 0.6745  # the 99.9 % point of a normal law, in distances of a quartile from the median
LARGEST = 1 - 1e-6  # identical files must pass, whatever order their pixels are summed in
MOST_COMPARED, MOST_ATTACKED = 2000, 100  # photos
LEAST = 20  # photos that have a median and a quartile to speak of
LEFT_OUT = 3  # others of a photo that may count as practically the same
MILD_SHARE = 0.1  # of mild copies that may be less similar than what counts as practically the same


@dataclass(frozen=True)
class Calibration:
    """A threshold, and what it finds.

    Args:
        threshold: the least similarity of copies.
        found: kind of attack -> share of the copies made here that reach it.
        photos: how many were attacked.
        compared: how many were compared with all others.
    """

    threshold: float
    found: dict[str, float]
    photos: int
    compared: int

    def describe(self) -> dict[str, Any]:
        """For results.json."""
        shares = {"false_share": FALSE_SHARE, "found": self.found}
        return shares | {"attacked": self.photos, "compared": self.compared}


def calibrate(index: Index, descriptors: Descriptors, seed: int) -> Calibration:
    """Finds the threshold for the photos of an index.

    Args:
        index: up to date.
        descriptors: the network that made it.
        seed: of the choice of photos and of the attacks.

    Raises:
        DinotoolsError: there are too few photos, or too many of them cannot be read.
    """
    photos = index.photos
    if len(photos) < LEAST:
        what = f"{len(photos)} photos are too few to find a threshold, which takes {LEAST}"
        raise DinotoolsError(what, index.facts["photos"], "Give --threshold, such as 0.95.")
    shards = index.shards()
    drawn = RandomState(seed).permutation(len(photos))
    attacked = torch.from_numpy(drawn[:MOST_ATTACKED])
    similar = copies_of(index, attacked, descriptors, seed)
    practically_same = float(similar[MILD].quantile(MILD_SHARE))
    compared = torch.from_numpy(drawn[:MOST_COMPARED])
    others = others_of(shards, compared, descriptors.runtime.device)
    threshold = threshold_among(others, practically_same)
    found = {kind: float((similarity >= threshold).double().mean()) for kind, similarity in similar.items()}
    return Calibration(threshold, found, len(attacked), len(compared))


def copies_of(index: Index, rows: Tensor, descriptors: Descriptors, seed: int) -> dict[str, Tensor]:
    """Attacks photos and compares.

    Args:
        index: the index.
        rows: (n,) int64, of the photos.
        descriptors: the network that made it.
        seed: of the attacks.

    Returns:
        Kind of attack -> similarities of the copies that could be made to their originals.
    """
    photos = index.photos
    images = AttackedPhotos([index.path(photos[row]) for row in rows.tolist()], seed)
    copies = descriptors.of(images, "attacked photos")
    original, kind = copies.indices // len(KINDS), copies.indices % len(KINDS)
    vectors = rows_of(index.shards(), rows)[original]
    similarity = F.cosine_similarity(copies.tensor(), vectors)
    return {name: similarity[kind == number] for number, name in enumerate(KINDS)}


def others_of(shards: Sequence[Tensor], rows: Tensor, device: torch.device) -> Tensor:
    """Similarities of photos to their nearest others.

    Args:
        shards: vectors of all photos.
        rows: (n,) int64, the photos.
        device: where to compute.

    Returns:
        (n, 4) float32, descending.
    """
    queries = rows_of(shards, rows).to(device)
    similarity, found = (x.cpu() for x in nearest(queries, shards, LEFT_OUT + 2, cosine=True))
    similarity = similarity.masked_fill(found == rows[:, None], -torch.inf)  # the photo itself
    return similarity.sort(dim=1, descending=True).values[:, : LEFT_OUT + 1]


def threshold_among(others: Tensor, practically_same: float) -> float:
    """The threshold for photos of which some have copies.

    Args:
        others: (n, 4) float32, similarities of photos to their nearest others, descending.
        practically_same: the similarity of what surely is a copy.
    """

    def fit(quartile: float) -> float:
        left_out = (others[:, :LEFT_OUT] >= copies).sum(dim=1, keepdim=True)
        return threshold_for(others.gather(1, left_out)[:, 0], quartile)

    copies = practically_same
    copies = min(copies, fit(0.25))
    while (threshold := fit(0.75)) < copies:
        copies = threshold
    return threshold


def threshold_for(others: Tensor, quartile: float = 0.75) -> float:
    """The similarity that one in a thousand photos without a copy would reach.

    Args:
        others: (n,) float32, similarity of photos to the nearest other, a few of which may be copies after all.
        quartile: 0.75 looks towards the tail that is asked for; 0.25 away from it, where no copies are.
    """
    nearness = -torch.log((1 - others.double()).clamp(min=1 - LARGEST))
    median, other = nearness.quantile(torch.tensor([0.5, quartile], dtype=torch.float64)).tolist()
    return min(LARGEST, 1 - math.exp(-(median + DEVIATIONS * abs(other - median))))
