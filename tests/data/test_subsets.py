"""Parts of a training set: balanced, repeatable, and found by name or refused."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dinotools.data.subsets import draw_subset, hold_out, read_subset
from dinotools.runtime.errors import DinotoolsError

LABELS = torch.tensor([0] * 200 + [1] * 50 + [3] * 7 + [4])[
    torch.randperm(258, generator=torch.Generator().manual_seed(1))
]


@pytest.mark.parametrize(
    ("share", "counts"),
    [(0.01, [2, 1, 0, 1, 1]), (0.1, [20, 5, 0, 1, 1]), (0.5, [100, 25, 0, 4, 1]), (1, [200, 50, 0, 7, 1])],
)
def test_every_class_gives_the_same_share_and_one_image_at_least(share, counts):
    drawn = draw_subset(LABELS, share, seed=3)
    assert LABELS[drawn].bincount(minlength=5).tolist() == counts
    assert drawn.tolist() == sorted(set(drawn.tolist()))


def test_draws_depend_on_the_seed_alone_and_nest():
    tenth = draw_subset(LABELS, 0.1, seed=3).tolist()
    assert draw_subset(LABELS, 0.1, seed=3).tolist() == tenth
    assert draw_subset(LABELS, 0.1, seed=4).tolist() != tenth
    assert set(draw_subset(LABELS, 0.01, seed=3).tolist()) < set(tenth)


def test_draws_favour_no_image():
    labels = torch.zeros(10, dtype=torch.int64)
    often = torch.cat([draw_subset(labels, 0.3, seed) for seed in range(500)]).bincount(minlength=10)
    assert often.sum() == 1500
    assert often.min() > 100 and often.max() < 200  # 150 are expected, and 10 the deviation


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), st.floats(0.01, 0.5), st.integers(0, 100))
def test_what_is_held_out_leaves_an_image_of_every_class(labels, share, seed):
    labels = torch.tensor(labels)
    stays, held_out = hold_out(labels, share, seed)
    assert sorted(stays.tolist() + held_out.tolist()) == list(range(len(labels)))
    for count, kept in zip(labels.bincount().tolist(), labels[stays].bincount(minlength=6).tolist(), strict=False):
        assert kept == (count if count < 2 else count - max(1, int(count * share + 0.5)))
        assert (kept > 0) == (count > 0)


NAMES = ["/data/train/cat/0.jpg", "/data/train/cat/1.jpg", "/data/train/dog/0.jpg", "/data/train/dog/a/2.jpg"]


@pytest.mark.parametrize(
    ("text", "positions"),
    [
        ("1.jpg\n2.jpg\n", [1, 3]),
        ("dog/0.jpg\r\n\r\n  cat/0.jpg  \r\n", [0, 2]),
        ("./train/dog/a/2.jpg", [3]),
        ("dog\\0.jpg\n/data/train/cat/1.jpg", [1, 2]),
    ],
)
def test_images_are_found_by_name_or_end_of_path(tmp_path, text, positions):
    (tmp_path / "list.txt").write_bytes(text.encode())
    assert read_subset(tmp_path / "list.txt", NAMES).tolist() == positions


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1.jpg\nx\nog/0.jpg\ny\nz", "4 of its images are not among the training images: x, og/0.jpg, y, ..."),
        ("1.jpg\n0.jpg", r"1 of its images fit several training images: 0.jpg. Write more"),
        ("1.jpg\ncat/1.jpg", "1 of its images are listed twice: /data/train/cat/1.jpg"),
        (" \n", "lists no images"),
        (b"\xff\xfe\x00", "it is no text"),
        (None, "cannot be read"),
    ],
)  # fmt: skip
def test_a_list_that_does_not_fit_is_refused(tmp_path, text, words):
    path = tmp_path / "list.txt"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DinotoolsError) as error:
        read_subset(path, NAMES)
    assert words in str(error.value) and "list.txt" in str(error.value)
