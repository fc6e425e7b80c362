"""Every miniature opens with the loader that reads the real set."""

import numpy as np
import pytest
from PIL import Image

from dinotools.data.copydays import open_copydays
from dinotools.data.copydays_making import QUALITIES, REMOVED
from dinotools.data.images import ImageFiles
from dinotools.data.list_files import read_list
from dinotools.data.masks import VOID, palette, read_mask
from dinotools.data.oxford_paris import open_retrieval
from dinotools.data.sources import open_images, open_labelled_splits
from dinotools.data.voc import open_voc
from dinotools.evaluation.davis.layout import ANNOTATIONS, FRAMES, find_files, read_split


@pytest.mark.parametrize("name", ["imagenet", "cifar10", "cars"])
def test_labelled_sets_have_thirty_and_ten_images_of_ten_classes(miniatures, name):
    train, val = open_labelled_splits(str(miniatures / name))
    assert np.bincount(train.labels).tolist() == [30] * 10
    assert np.bincount(val.labels).tolist() == [10] * 10
    assert train.classes == val.classes and [word[-1] for word in train.classes] == list("0123456789")
    assert train.load(0).size == (32, 32)
    pixels = [{source.load(index).tobytes() for index in range(len(source))} for source in (train, val)]
    assert len(pixels[0]) == 300 and not pixels[0] & pixels[1]


@pytest.mark.parametrize("name, count", [("gldv2", 128), ("r1m", 20), ("yfcc/distractors", 20), ("yfcc/whitening", 40)])
def test_unlabelled_sets_are_folders_of_different_images(miniatures, name, count):
    source = open_images(miniatures / name, "train")
    assert len(source) == count
    assert len({source.load(index).tobytes() for index in range(count)}) == count


def test_the_clean_part_of_google_landmarks_is_a_list(miniatures):
    source = read_list(miniatures / "gldv2" / "clean.txt")
    assert np.bincount(source.labels).tolist() == [12] * 9
    assert source.load(53).size == (96, 96)


@pytest.mark.parametrize("name", ["roxford5k", "rparis6k"])
def test_every_query_has_right_and_wrong_images(miniatures, name):
    data = open_retrieval(name, miniatures / name, crop_queries=True)
    assert data.name == name and len(data.queries) == 6 and len(data.database) == 87
    for index, query in enumerate(data.truth.query_names):
        lists = (data.truth.easy[index], data.truth.hard[index], data.truth.junk[index])
        assert list(map(len, lists)) == [3, 3, 1]
        place = query.removesuffix("query")
        assert {i for i, found in enumerate(data.truth.database_names) if found.startswith(place)} == set(
            sum(lists, ())
        )
        cropped, whole = data.queries.load(index), Image.open(data.queries.paths[index])
        assert cropped.width * cropped.height < 0.95 * whole.width * whole.height


def test_the_box_of_a_query_holds_the_place(miniatures):
    """An easy view is more like the cropped query than any view of another place is, for most queries."""
    data = open_retrieval("roxford5k", miniatures / "roxford5k", crop_queries=True)

    def thumbnail(image):
        pixels = np.asarray(image.convert("L").resize((16, 16))).astype(float).ravel()
        return (pixels - pixels.mean()) / pixels.std()

    database = np.stack([thumbnail(data.database.load(i)) for i in range(len(data.database))])
    queries = np.stack([thumbnail(data.queries.load(i)) for i in range(len(data.queries))])
    best = (queries @ database.T).argmax(axis=1).tolist()
    assert sum(first in easy for first, easy in zip(best, data.truth.easy, strict=True)) >= 5


def test_copydays_has_all_of_its_blocks(miniatures):
    data = open_copydays(miniatures / "copydays")
    names = [f"jpegqual/{quality}" for quality in QUALITIES] + [f"crops/{percent}" for percent in REMOVED]
    assert [block.name for block in data.blocks] == ["original", "strong", *names]
    assert [len(block.images) for block in data.blocks] == [8, 16, *[8] * len(names)]
    assert data.blocks[1].positives == tuple((i // 2,) for i in range(16))
    sides = {name: data.blocks[2 + names.index(name)].images.load(0).size for name in ("jpegqual/3", "crops/80")}
    assert sides["jpegqual/3"] == (48, 40)
    assert np.prod(sides["crops/80"]) == pytest.approx(0.2 * 192 * 160, rel=0.02)


def test_davis_has_two_sequences_whose_objects_stay_and_move(miniatures):
    root = miniatures / "davis2017"
    names = read_split(root, "val")
    frames, annotations = find_files(root, FRAMES, names), find_files(root, ANNOTATIONS, names)
    assert names == ["one-disc", "two-discs"]
    for name, objects in zip(names, (1, 2), strict=True):
        assert [path.stem for path in frames[name]] == [path.stem for path in annotations[name]]
        masks = [read_mask(path) for path in annotations[name]]
        assert len(masks) == 8
        assert all(Image.open(path).size == (160, 96) for path in frames[name])
        assert all(mask.shape == (96, 160) for mask in masks)
        sizes = [np.bincount(mask.ravel()).tolist() for mask in masks]
        assert len(sizes[0]) == objects + 1 and sizes == [sizes[0]] * 8  # whole in every frame
        assert all(not np.array_equal(masks[0], mask) for mask in masks[1:])
        with Image.open(annotations[name][0]) as image:
            assert image.mode == "P" and bytes(image.getpalette()) == palette()[: len(image.getpalette())]


def test_masks_of_davis_are_those_of_the_frames(miniatures):
    """What a mask marks looks the same in every frame, to the loss of JPEG, wherever it is."""
    root, names = miniatures / "davis2017", ["one-disc"]
    pairs = zip(find_files(root, FRAMES, names)[names[0]], find_files(root, ANNOTATIONS, names)[names[0]], strict=True)
    marked = np.stack([np.asarray(Image.open(frame))[read_mask(mask) == 1].astype(float) for frame, mask in pairs])
    assert np.abs(marked - marked[0]).mean() < 5  # with the first mask for all of them it is 49


def test_voc_has_objects_of_one_class_and_void_rims(miniatures):
    objects = open_voc(miniatures / "voc2012", "val", "objects")
    classes = open_voc(miniatures / "voc2012", "val", "classes")
    assert len(objects) == len(classes) == 4
    for index, count in enumerate((2, 3, 2, 3)):
        image, numbered = objects[index]
        _, labelled = classes[index]
        assert image.size == (160, 120)
        assert numbered.unique().tolist() == [0, *range(1, count + 1), VOID]
        assert labelled.unique().tolist() == [0, 8, 15, VOID]
        assert ((numbered == VOID) == (labelled == VOID)).all() and ((numbered == 1) == (labelled == 8)).all()


def test_readme_is_no_image(miniatures):
    assert all(not path.endswith(".txt") for path in ImageFiles.in_folder(miniatures / "r1m").paths)
