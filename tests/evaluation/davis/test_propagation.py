"""Label propagation, against the official numbers and against the affinity of all with all."""

import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from dinotools.data.images import decode
from dinotools.data.masks import read_mask
from dinotools.evaluation.davis import propagation
from dinotools.evaluation.davis.frames import WorkingSize
from dinotools.evaluation.davis.propagation import LabelPropagation, propagate, unit
from dinotools.evaluation.davis.tracking import Tracker
from dinotools.models.checkpoints import load_backbone
from dinotools.runtime import device
from tests.evaluation.davis.drawn import DRAWN, RUNS, Run
from tests.golden.official import arrays, fill, normal

DAVIS = os.environ.get("DINOTOOLS_DAVIS")  # a folder with JPEGImages/480p/soapbox and two other sequences
GOLDEN, REAL = "davis_propagation", "davis_propagation_real"


def near(height, width, radius):
    """Whether two patches of a grid are in one another's window: (h w, h w) bool."""
    row, column = (torch.arange(height * width) // width, torch.arange(height * width) % width)
    rows_apart, columns_apart = ((axis[:, None] - axis).abs() for axis in (row, column))
    return (rows_apart <= radius) & (columns_apart <= radius) if radius else torch.ones(len(row), len(row)).bool()


def dense(target, sources, labels, *, radius, topk, temperature=0.1):
    """The plain method: (context, targets) written out."""
    height, width, _ = target.shape
    affinity = torch.cat([source.flatten(0, 1) @ target.flatten(0, 1).T for source in sources])
    affinity = (affinity / temperature).exp() * near(height, width, radius).repeat(len(sources), 1)
    affinity[affinity < affinity.topk(min(topk, len(affinity)), dim=0).values[-1]] = 0
    of_context = torch.cat([one.flatten(1) for one in labels], dim=1)
    return (of_context @ (affinity / affinity.sum(dim=0))).unflatten(1, (height, width))


def drawn_context(seed, n_sources, height, width, dim=16, classes=3):
    """A target that resembles its sources, and soft labels of these."""
    common = normal(seed, (height, width, dim))
    target, *sources = (unit(normal(seed + 1 + i, (height, width, dim)) + common) for i in range(n_sources + 1))
    labels = [normal(seed + 100 + i, (classes, height, width)).softmax(dim=0) for i in range(n_sources)]
    return target, sources, labels


# -- the official numbers


@pytest.mark.parametrize("case", [name for name in arrays(GOLDEN) if name.startswith("pure/")])
def test_the_official_propagation_alone(case):
    height, width, dim, n_sources, seed = 12, 20, 32, 3, 1100
    common = 1.5 * normal(seed + 30, (height * width, dim))
    target, *features = (
        (normal(seed + i, (height * width, dim)) + common).unflatten(0, (height, width)) for i in (20, 0, 1, 2)
    )
    if case.endswith("duplicated_context"):
        features[1] = features[0]
    labels = [(2 * normal(seed + 40 + i, (1, 4, height, width))).softmax(dim=1)[0] for i in range(n_sources)]
    radius, topk = (int(part[2:] if part.startswith("nb") else part[4:]) for part in case[5:].split("_")[:2])
    found = propagate(unit(target), [unit(one) for one in features], labels, radius=radius, topk=topk)
    np.testing.assert_allclose(found, arrays(GOLDEN)[case][0], atol=2e-5)


def test_the_official_window():
    height, width, radius = 5, 9, 3
    alike = torch.ones(height, width, 2)
    own_class = torch.eye(height * width).unflatten(1, (height, width))  # whoever listens to a patch has its class
    found = propagate(unit(alike), [unit(alike)], [own_class], radius=radius, topk=1)
    np.testing.assert_array_equal(found.flatten(1).T > 0, arrays(GOLDEN)["neighborhood_mask_small"] > 0)


def agrees_with_official(golden, name, run: Run, frames, first_mask, steps):
    """Masks and soft labels of a network with the weights of the official runs."""
    backbone = load_backbone("random", arch=run.arch, patch_size=run.patch_size)
    fill(backbone.model)
    runtime = device.prepare("cpu", "fp32", 0, 0)
    tracker = Tracker(backbone, runtime, LabelPropagation(**run.options))
    first, *others = (WorkingSize(run.short_side)(Image.fromarray(frame)) for frame in frames[: steps + 1])
    assert tracker.start(first, first_mask) == golden[f"{name}/soft_labels"].shape[1]
    np.testing.assert_array_equal(golden[f"{name}/predicted_masks"][0], first_mask)
    for i, pixels in enumerate(others):
        labels = tracker.step(pixels)
        differences = np.abs(labels.numpy() - golden[f"{name}/soft_labels"][i])
        assert (differences < 1e-4).mean() >= 0.995
        assert (tracker.mask(labels) != golden[f"{name}/predicted_masks"][i + 1]).mean() <= 1e-3


# every step of the small ones; the context is full of different frames from the second step on
@pytest.mark.parametrize("name, steps", [("run0", 2), ("run1", 2), ("run2", 4), ("run3", 5)])
def test_the_official_masks_of_drawn_frames(name, steps):
    frames, mask = DRAWN[RUNS[name].sequence].frames()
    agrees_with_official(arrays(GOLDEN), name, RUNS[name], frames, mask, steps)


@pytest.mark.skipif(DAVIS is None, reason="DINOTOOLS_DAVIS names no folder with sequences of DAVIS")
@pytest.mark.parametrize("name", ["soapbox_vit_tiny16_480", "blackswan_vit_tiny16_480", "bmx-trees_vit_small8_240"])
def test_the_official_masks_of_real_frames(name):
    sequence, rest = name.split("_", 1)
    arch, short_side = rest.rsplit("_", 1)
    patch_size = int(arch.removeprefix("vit_tiny").removeprefix("vit_small"))
    run = Run(sequence, arch.removesuffix(str(patch_size)), patch_size, int(short_side))
    frames = [np.asarray(decode(Path(DAVIS, "JPEGImages/480p", sequence, f"{i:05d}.jpg"))) for i in range(6)]
    mask = read_mask(Path(DAVIS, "Annotations/480p", sequence, "00000.png"))
    agrees_with_official(arrays(REAL), name, run, frames, mask, steps=5)


# -- the plain method


@settings(max_examples=60)
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    n_sources=st.integers(1, 4),
    radius=st.integers(0, 10),
    topk=st.integers(1, 40),
    strip=st.integers(1, 9),
    seed=st.integers(0, 1000),
)
def test_tiles_make_no_difference(height, width, n_sources, radius, topk, strip, seed):
    target, sources, labels = drawn_context(seed, n_sources, height, width)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(propagation, "STRIP", strip)
        patch.setattr(propagation, "TARGETS", 1)
        patch.setattr(propagation, "CPU_TILE", 400)
        found = propagate(target, sources, labels, radius=radius, topk=topk)
    torch.testing.assert_close(found, dense(target, sources, labels, radius=radius, topk=topk), atol=1e-5, rtol=0)


def test_a_grid_of_several_tiles_as_they_are():
    target, sources, labels = drawn_context(0, 7, 40, 45)
    lines, columns = propagation._tile_sides(40, 45, 12, 7, target.device)
    assert lines < 40
    assert columns < 45
    found = propagate(target, sources, labels)
    torch.testing.assert_close(found, dense(target, sources, labels, radius=12, topk=5), atol=1e-5, rtol=0)


def test_what_equals_the_last_is_kept():
    target, (source,), _ = drawn_context(0, 1, 4, 6)
    labels = [torch.full((1, 4, 6), value) for value in (0.0, 0.3, 0.9)]
    found = propagate(target, [source] * 3, labels, radius=2, topk=1)
    torch.testing.assert_close(found, torch.full((1, 4, 6), 0.4))
    everywhere = propagate(
        torch.ones(4, 6, 2), [torch.ones(4, 6, 2)], [torch.arange(24.0).view(1, 4, 6)], radius=0, topk=1
    )
    torch.testing.assert_close(everywhere, torch.full((1, 4, 6), 11.5))


def test_one_of_a_kind_takes_the_label_of_its_like():
    features = torch.eye(12).unflatten(0, (3, 4))
    labels = normal(0, (2, 3, 4)).softmax(dim=0)
    torch.testing.assert_close(propagate(unit(features), [unit(features)], [labels], radius=1, topk=1), labels)


# -- the context


def test_the_first_frame_and_the_last_ones_are_remembered():
    frames = [normal(i, (4, 5, 8)) for i in range(5)]
    labels = [normal(9, (3, 4, 5)).softmax(dim=0)]
    method = LabelPropagation(n_last_frames=2, radius=1, topk=3)
    method.start(frames[0], labels[0])
    for i, frame in enumerate(frames[1:], start=1):
        context = [0, *range(max(1, i - 2), i)]
        expected = propagate(
            unit(frame), [unit(frames[j]) for j in context], [labels[j] for j in context], radius=1, topk=3
        )
        labels.append(method.step(frame))
        torch.testing.assert_close(labels[-1], expected, atol=0, rtol=0)


def test_no_last_frames_leaves_the_first():
    first, *frames = (normal(i, (3, 3, 8)) for i in range(3))
    labels = normal(9, (2, 3, 3)).softmax(dim=0)
    method = LabelPropagation(n_last_frames=0)
    method.start(first, labels)
    for frame in frames:
        torch.testing.assert_close(method.step(frame), propagate(unit(frame), [unit(first)], [labels]))


def test_a_new_video_forgets_the_old():
    method = LabelPropagation(radius=2)
    labels = normal(9, (2, 3, 4)).softmax(dim=0)
    answers = []
    for _ in range(2):
        method.start(normal(0, (3, 4, 8)), labels)
        answers.append([method.step(normal(i, (3, 4, 8))) for i in (1, 2)])
    for one, other in zip(*answers, strict=True):
        assert torch.equal(one, other)


def test_a_step_needs_a_start():
    with pytest.raises(RuntimeError, match="start"):
        LabelPropagation().step(torch.ones(2, 2, 4))


# -- memory and devices


class LargestTensor(TorchDispatchMode):
    """The elements of the largest tensor that an operation makes."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, (list, tuple)) else [made]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return made


def largest_tensor(height, width, radius, n_sources=8, dim=384):
    with FakeTensorMode(), LargestTensor() as largest:
        sources = [torch.empty(height, width, dim)] * n_sources
        propagate(sources[0], sources, [torch.empty(3, height, width)] * n_sources, radius=radius)
    return largest.elements


def test_the_affinity_of_all_with_all_never_exists():
    patches = 60 * 104
    assert largest_tensor(60, 104, 12) < 8 * patches * patches / 20
    context = 8 * patches * 384
    assert largest_tensor(60, 104, 0) <= context
    assert largest_tensor(30, 52, 12) < 2 * largest_tensor(30, 30, 12)


@pytest.mark.parametrize("radius", [12, 0])
def test_on_an_accelerator_the_host_never_waits(fake_cuda, radius):
    with fake_cuda:
        features, labels = torch.rand(30, 52, 16), torch.rand(3, 30, 52)
    method = LabelPropagation(radius=radius)
    method.start(features, labels)  # a tensor of unknown shape or value would raise
    for _ in range(2):
        found = method.step(features)
    assert found.device.type == "cuda"
    assert found.shape == (3, 30, 52)


def test_pieces_are_few_and_nearly_of_one_length():
    for length, longest in ((52, 32), (104, 32), (30, 7), (5, 9), (1, 1)):
        pieces = propagation._pieces(length, longest)
        lengths = [end - start for start, end in pieces]
        assert sum(lengths) == length
        assert len(pieces) == -(-length // longest)
        assert max(lengths) <= min(longest, min(lengths) + 1)
        assert all(end == start for (_, end), (start, _) in pairwise(pieces))
