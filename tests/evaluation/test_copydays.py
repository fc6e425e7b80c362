"""Copy detection against the official numbers, a plain loop, and bad input."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from dinotools.configs.copydays import CopydaysConfig
from dinotools.data.copydays import Block, CopydaysData
from dinotools.data.images import ImageFiles
from dinotools.data.transforms import Square
from dinotools.evaluation import copydays
from dinotools.evaluation.copydays import as_rows, average_precisions, by_block, paper_strong, run
from dinotools.features.descriptors import open_descriptors
from dinotools.features.pooling import Pooling
from dinotools.features.whitening import learn
from dinotools.runtime.device import prepare
from dinotools.runtime.errors import DinotoolsError
from tests.golden.official import HERE, arrays

OFFICIAL = json.loads((HERE / "copydays.json").read_text())["run"]


def normal(seed, *shape):
    return np.random.RandomState(seed).standard_normal(shape)


def tensor(array):
    return torch.from_numpy(array.astype(np.float32))


# -- the official numbers


@pytest.fixture(scope="module")
def official_run():
    """Queries of all blocks, originals, positives and distractors as the reference README makes them."""
    originals, queries, positives = normal(8600, 157, 48), [], []
    for block, (name, noise) in enumerate(zip(OFFICIAL["block_names"], OFFICIAL["noise"], strict=True)):
        source = arrays("copydays")["run/strong_to_original"] if name == "strong" else np.arange(157)
        queries.append(tensor(originals[source] + noise * normal(8610 + block, len(source), 48)))
        positives += [[row] for row in source.tolist()]
    return torch.cat(queries), tensor(originals), positives, tensor(normal(8601, 300, 48))


def agrees(found, expected):
    means = torch.stack([block.mean() for block in found.split(OFFICIAL["block_sizes"])])
    np.testing.assert_allclose(means, arrays("copydays")[expected], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("n", "size"), [(4096, 4096), (700, 23)])
def test_the_official_scores_of_all_blocks(official_run, n, size, monkeypatch):
    monkeypatch.setattr(copydays, "QUERIES", n)
    monkeypatch.setattr(copydays, "TILE", n * size)
    queries, originals, positives, distractors = official_run
    top20, full = average_precisions(queries, originals, positives, distractors.split([120, 180]))
    agrees(top20, "run/block_mAP_top20")
    agrees(full, "run/block_mAP_full_ranking")
    np.testing.assert_allclose(top20[157 : 157 + 229], arrays("copydays")["run/ap_strong_top20"], rtol=0, atol=1e-12)


def test_the_official_scores_after_whitening(official_run):
    queries, originals, positives, distractors = official_run
    mixing = np.eye(48) + 0.5 * normal(8603, 48, 48) / np.sqrt(48)
    whitening = learn([tensor(normal(8602, 600, 48) @ mixing + 0.2)])
    top20, _ = average_precisions(queries, originals, positives, [distractors], whitening)
    agrees(top20, "whitened/block_mAP_top20")
    similarity = whitening(queries[157:162]) @ whitening(originals[:10]).T
    np.testing.assert_allclose(similarity, arrays("copydays")["whitened/similarity_first5x10"], atol=2e-5)


# -- a small set


NETWORK = {"ckpt": "random", "arch": "vit_micro", "patch_size": 16, "imsize": 32, "pooling": "cls", "workers": 0}
WIDTH = 128


def scored(rank):
    """Average precision of a query with one positive, at a rank from 0."""
    return 1.0 if rank == 0 else 0.5 / (rank + 1)


@pytest.fixture(scope="module")
def small_set(tmp_path_factory):
    """Eight originals, two strong copies of each that a random network mistakes, and three blocks more."""
    root, random = tmp_path_factory.mktemp("copydays"), np.random.RandomState(0)

    def save(name, pixels):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / name)

    for i in range(8):
        pixels = random.randint(0, 256, size=(5, 6, 3)).repeat(8, axis=0).repeat(8, axis=1)
        save(f"original/{2000 + i}00.png", pixels)
        for copy in (1, 2):
            save(f"strong/{2000 + i}0{copy}.png", pixels[:, ::-1] + random.normal(0, 60 * copy, pixels.shape))
        save(f"jpegqual/3/{2000 + i}00.png", pixels // 32 * 32)
        for percent in (10, 80):
            cut = percent * 24 // 100
            save(f"crops/{percent}/{2000 + i}00.png", pixels[cut // 2 : 40 - cut // 2, cut:])
    return root


@pytest.fixture
def others(tmp_path):
    """Distractors and features to learn whitening from, as arrays."""
    np.save(tmp_path / "distractors.npy", 0.7 * normal(1, 30, WIDTH))
    np.save(tmp_path / "whiten.npy", normal(2, 300, WIDTH).astype(np.float16))
    return {"distractors": tmp_path / "distractors.npy", "whiten": tmp_path / "whiten.npy"}


def plain_scores(config, images):
    """Average precision of every image, in percent, with one similarity after the other."""
    runtime = prepare("cpu", "auto", 0, 0)
    descriptors = open_descriptors(config, Square(config.imsize), Pooling.parse(config.pooling), runtime)
    database = descriptors.of(ImageFiles.in_folder(config.data / "original"), "originals").tensor()
    queries = descriptors.of(images, "queries").tensor()
    if config.distractors:
        database = torch.cat([database, tensor(np.load(config.distractors))])
    if config.whiten:
        whitening = learn([tensor(np.load(config.whiten))], covariance=config.covariance)
        queries, database = whitening(queries), whitening(database)
    scores = {}
    for path, query in zip(images.paths, queries, strict=True):
        similarity = [float(F.cosine_similarity(query, row, dim=0)) for row in database]
        own = int(Path(path).name[:4]) - 2000
        scores[Path(path).name] = 100 * scored(sum(other > similarity[own] for other in similarity))
    return scores


@pytest.mark.parametrize(
    ("used", "covariance"),
    [
        ((), "official"),
        (("distractors",), "official"),
        (("whiten",), "official"),
        (("distractors", "whiten"), "centred"),
    ],
)
def test_every_copy_is_scored_as_a_plain_loop_scores_it(used, covariance, small_set, others):
    given = {name: others[name] for name in used}
    config = CopydaysConfig(**NETWORK, data=small_set, covariance=covariance, **given)
    result = run(config)
    for name in ("strong", "crops/80"):
        expected = plain_scores(config, ImageFiles.in_folder(small_set / name))
        assert result.metrics[name]["map_full"] == pytest.approx(np.mean(list(expected.values())))
    strong = plain_scores(config, ImageFiles.in_folder(small_set / "strong"))
    assert min(strong.values()) < max(strong.values())  # otherwise this would say little
    shown = {name: score if score >= 100 * scored(19) else 0.0 for name, score in strong.items()}
    assert result.metrics["strong"]["ap_top20"] == pytest.approx(shown)
    assert result.metrics["original"]["map_top20"] == 100.0


def test_what_a_result_tells(small_set, others, tmp_path):
    out = tmp_path / "out"
    result = run(CopydaysConfig(**NETWORK, data=small_set, **others, out=out))
    blocks = ["original", "strong", "jpegqual/3", "crops/10", "crops/80"]
    assert [row["block"] for row in result.rows] == [*blocks, "mean of jpegqual", "mean of crops"]
    assert [row["queries"] for row in result.rows] == [8, 16, 8, 8, 8, 8, 16]
    assert not any("paper mAP %" in row for row in result.rows) and result.notes == ()
    both = (result.metrics["crops/10"]["map_full"] + result.metrics["crops/80"]["map_full"]) / 2
    assert result.metrics["crops"]["map_full"] == pytest.approx(both)
    told = result.details["data"]
    assert (told["queries"], told["originals"]) == (48, 8)
    assert told["distractors"] == {"source": str(others["distractors"]), "images": 30, "skipped": []}
    assert told["whitening"]["images"] == 300
    assert result.details["features"]["square_side"] == 32
    assert 'covariance = "official"' in (out / "config.toml").read_text()


def test_descriptors_are_kept_and_serve_as_distractors(small_set, image_folder, tmp_path):
    given = {**NETWORK, "pooling": "cls+gem", "data": small_set}
    cached = CopydaysConfig(**given, distractors=image_folder / "val", cache=tmp_path / "cache")
    direct = run(CopydaysConfig(**given, distractors=image_folder / "val"))
    assert run(cached).metrics == direct.metrics
    stored = {json.loads((path / "index.json").read_text())["images"]: path for path in (tmp_path / "cache").iterdir()}
    assert sorted(stored) == [12, 48]  # the blocks together, and the distractors
    assert run(CopydaysConfig(**given, distractors=stored[12])).metrics == direct.metrics


def test_a_whitening_of_few_images_keeps_few_dimensions_and_says_so(small_set, tmp_path):
    np.save(tmp_path / "few.npy", normal(0, 21, WIDTH))
    result = run(CopydaysConfig(**NETWORK, data=small_set, whiten=tmp_path / "few.npy"))
    assert result.notes == ("Learned on 21 images, whitening keeps 20 of 128 dimensions; more keep all.",)


def test_a_block_that_is_not_there_has_no_mean():
    strong = Block("strong", ImageFiles(["a/200001.jpg", "a/200002.jpg"]), ((0,), (0,)))
    data = CopydaysData(
        ImageFiles(["o/200000.jpg"]), (Block("original", ImageFiles(["o/200000.jpg"]), ((0,),)), strong)
    )
    scores = by_block(data, torch.tensor([1.0, 0.5, 0.0]).double(), torch.tensor([1.0, 0.5, 0.25]).double())
    assert scores == {
        "original": {"queries": 1, "map_top20": 100.0, "map_full": 100.0},
        "strong": {
            "queries": 2,
            "map_top20": 25.0,
            "map_full": 37.5,
            "ap_top20": {"200001.jpg": 50.0, "200002.jpg": 0.0},
        },
    }
    assert [row.get("paper mAP %") for row in as_rows(scores, 85.5)] == [None, 85.5]


# -- the paper's number


class Some:
    """So many features."""

    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n


@pytest.mark.parametrize(
    ("changes", "counts", "shown"),
    [
        ({}, (157, 229, 10_000, 20_000), 85.5),
        ({}, (157, 229, 9_990, 19_950), 85.5),
        ({"ckpt": "dino_vitb16", "imsize": 224}, (157, 229, 10_000, 20_000), 81.7),
        ({"ckpt": "dino_vitb16"}, (157, 229, 10_000, 20_000), None),
        ({"ckpt": "random"}, (157, 229, 10_000, 20_000), None),
        ({"pooling": "cls"}, (157, 229, 10_000, 20_000), None),
        ({"covariance": "centred"}, (157, 229, 10_000, 20_000), None),
        ({}, (157, 200, 10_000, 20_000), None),
        ({}, (100, 229, 10_000, 20_000), None),
        ({}, (157, 229, 100, 20_000), None),
        ({}, (157, 229, 1_000_000, 20_000), None),
        ({}, (157, 229, 10_000, None), None),
        ({}, (157, 229, None, 20_000), None),
    ],
)
def test_the_papers_number_stands_only_beside_the_papers_setting(changes, counts, shown):
    config = CopydaysConfig(data=Path("copydays"), **{"ckpt": "dino_vitb8", **changes})
    originals, strong = (ImageFiles(["200000.jpg"] * n) for n in counts[:2])
    data = CopydaysData(originals, (Block("original", originals, ()), Block("strong", strong, ())))
    distractors, learned_on = (None if n is None else Some(n) for n in counts[2:])
    assert paper_strong(config, data, distractors, learned_on) == shown


# -- bad input


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": Path("nowhere")}, "there is no such folder"),
        ({"imsize": 15}, "--imsize: is 15. This network needs 16"),
        ({"distractors": Path("nowhere")}, "--distractors: there is no nowhere"),
        ({"whiten": Path("nowhere.npy")}, "--whiten: there is no nowhere.npy"),
        ({"pooling": "mean"}, "no pooling"),
        ({"ckpt": None}, "--ckpt"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(changes, words, small_set, tmp_path):
    with pytest.raises(DinotoolsError) as error:
        run(CopydaysConfig(**{**NETWORK, "data": small_set, "out": tmp_path / "out", **changes}))
    assert words in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "array", "words"),
    [
        ("whiten", normal(0, 1, WIDTH), "at least two features"),
        ("whiten", np.ones((9, WIDTH)), "all equal"),
        ("distractors", normal(0, 30, WIDTH + 1), f"(N, {WIDTH})"),
        ("distractors", np.full((3, WIDTH), np.nan), "NaN"),
    ],
)
def test_further_features_that_cannot_serve_are_named(option, array, words, small_set, tmp_path):
    np.save(tmp_path / "features.npy", array)
    with pytest.raises(DinotoolsError) as error:
        run(CopydaysConfig(**NETWORK, data=small_set, **{option: tmp_path / "features.npy"}))
    assert words in str(error.value)
    assert option in str(error.value) or "features.npy" in str(error.value)


@pytest.mark.parametrize("file", ["strong/200301.png", "original/200500.png"])
def test_an_unreadable_image_of_the_set_is_an_error_that_names_it(file, small_set, tmp_path):
    root = shutil.copytree(small_set, tmp_path / "set")
    (root / file).write_bytes(b"no image")
    with pytest.raises(DinotoolsError, match=file):
        run(CopydaysConfig(**NETWORK, data=root, max_bad=0.5))


def test_an_unreadable_distractor_is_skipped_and_counted(small_set, image_folder, tmp_path):
    folder = shutil.copytree(image_folder / "val" / "red", tmp_path / "red")
    (folder / "bad.png").write_bytes(b"no image")
    result = run(CopydaysConfig(**NETWORK, data=small_set, distractors=folder, max_bad=0.2))
    assert result.details["data"]["distractors"]["images"] == 4
    assert result.details["data"]["distractors"]["skipped"] == [str(folder / "bad.png")]
