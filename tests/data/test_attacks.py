import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.random import RandomState
from PIL import Image, ImageFilter

from dinotools.data import attacks

SIDES = st.integers(16, 300)


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """Something smooth, with all colours."""
    pixels = RandomState(seed).randint(0, 256, (5, 7, 3)).astype(np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


def distance(a: Image.Image, b: Image.Image) -> float:
    """Mean absolute difference of the values, at the size of the first."""
    return float(np.abs(np.asarray(a, float) - np.asarray(b.resize(a.size), float)).mean())


@settings(max_examples=15)
@given(SIDES, SIDES, st.integers(0, 2**32 - 1), st.sampled_from(attacks.KINDS))
@example(16, 6000, 0, "print-and-scan")
@example(6000, 16, 0, "text")
@example(6000, 16, 0, "paint")
@example(16, 16, 0, "text")
@example(16, 3000, 0, "insertion")
def test_a_strong_attack_takes_any_size_and_changes_the_image(width, height, seed, kind):
    image, other = photo(width, height), photo(width, height, seed=1)
    before = image.tobytes(), other.tobytes()
    random = RandomState(seed)
    made = attacks.attack(image, attacks.draw_strong(kind, random), random, other)
    assert made.mode == "RGB"
    assert 0.3 * min(image.size) <= min(made.size) <= 1.3 * min(image.size) + 4
    assert distance(image, made) > 0.1
    assert (image.tobytes(), other.tobytes()) == before


@pytest.mark.parametrize("kind", attacks.KINDS)
def test_the_same_state_gives_the_same_pixels_and_another_state_others(kind):
    def made(seed: int) -> bytes:
        random = RandomState(seed)
        name = attacks.draw_strong(kind, random)
        return attacks.attack(photo(90, 60), name, random, photo(50, 50, 1)).tobytes()

    assert made(3) == made(3)
    assert (made(3) == made(4)) == (kind == "mirror")  # which leaves nothing to chance


@settings(max_examples=60)
@given(st.integers(16, 400), st.integers(16, 400), st.sampled_from((10, 15, 20, 30, 40, 50, 60, 70, 80)))
def test_a_crop_removes_that_share_of_the_surface(width, height, percent):
    made = attacks.crop(photo(width, height), percent, RandomState(0))
    removed = 1 - made.width * made.height / (width * height)
    assert abs(removed - percent / 100) <= made.width / (2 * width * height) + 1e-9  # half a row
    assert abs(made.width / width - made.height / height) < 2 / min(width, height)


def test_a_crop_is_a_part_of_the_image_at_a_drawn_place():
    image = Image.fromarray(RandomState(0).randint(0, 256, (40, 50, 3)).astype(np.uint8))
    pixels, places = np.asarray(image), set()
    for seed in range(8):
        part = np.asarray(attacks.crop(image, 80, RandomState(seed)))
        height, width = part.shape[:2]
        found = [
            (y, x)
            for y in range(40 - height + 1)
            for x in range(50 - width + 1)
            if np.array_equal(pixels[y : y + height, x : x + width], part)
        ]
        assert len(found) == 1
        places.update(found)
    assert all(len(set(positions)) > 3 for positions in zip(*places, strict=True))


def test_a_sixteenth_of_the_pixels_is_kept():
    assert attacks.sixteenth(photo(400, 240)).size == (100, 60)
    assert attacks.sixteenth(photo(16, 1)).size == (4, 1)


def test_mirror_exchanges_left_and_right():
    image = photo(31, 20)
    made = attacks.attack(image, "mirror", RandomState(0), image)
    assert np.array_equal(np.asarray(made), np.asarray(image)[:, ::-1])


def test_insertion_shows_the_image_within_the_other():
    made = np.asarray(
        attacks.insertion(Image.new("RGB", (80, 40), "red"), RandomState(0), Image.new("RGB", (30, 90), "blue"))
    )
    assert made.shape == (40, 80, 3)
    red = (made == (255, 0, 0)).all(2)
    assert (red | (made == (0, 0, 255)).all(2)).all()
    assert 0.2 < red.mean() < 0.6


@pytest.mark.parametrize("kind, most", [("paint", 0.7), ("text", 0.7)])
def test_what_is_laid_over_leaves_much_of_the_image(kind, most):
    image = photo(300, 200)
    for seed in range(20):
        made = attacks.attack(image, kind, RandomState(seed), image)
        changed = (np.asarray(made) != np.asarray(image)).any(2).mean()
        assert 0.02 < changed < most


def test_blur_removes_fine_detail():
    image = Image.fromarray(RandomState(0).randint(0, 256, (100, 100, 3)).astype(np.uint8))
    made = attacks.blur(image, RandomState(0), image)
    assert np.asarray(made, float).std() < 0.5 * np.asarray(image, float).std()


@pytest.mark.parametrize("kind", ["colour", "blur", "print-and-scan", "paint", "text"])
def test_the_layout_of_the_image_can_still_be_seen(kind):
    """At the size of a stamp, its brightness is closer to that of its original than to any of 29 others."""

    def stamp(image: Image.Image) -> np.ndarray:
        pixels = np.asarray(image.filter(ImageFilter.BoxBlur(3)).convert("HSV").getchannel("V").resize((12, 12)), float)
        return (pixels - pixels.mean()) / (pixels.std() + 1e-9)

    others = [stamp(photo(200, 150, seed)) for seed in range(30)]
    for seed in range(5):
        made = attacks.attack(photo(200, 150, seed), kind, RandomState(seed), photo(200, 150, 99))
        assert np.argmin([np.abs(stamp(made) - other).mean() for other in others]) == seed


def test_a_mixture_is_two_or_three_attacks_in_the_order_of_the_table():
    drawn = [attacks.draw_strong("mixture", RandomState(seed)).split("+") for seed in range(200)]
    order = list(attacks.STRONG)
    assert {len(parts) for parts in drawn} == {2, 3}
    assert all(
        [order.index(part) for part in parts] == sorted({order.index(part) for part in parts}) for parts in drawn
    )
    assert {part for parts in drawn for part in parts} == set(order)
    assert attacks.draw_strong("blur", RandomState(0)) == "blur"


def test_several_attacks_are_applied_one_after_the_other():
    image, random = photo(60, 40), RandomState(5)
    step = attacks.attack(image, "paint", random, image)
    step = attacks.attack(step, "blur", random, image)
    assert step.tobytes() == attacks.attack(image, "paint+blur", RandomState(5), image).tobytes()
