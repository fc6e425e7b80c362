"""`dinotools retrieval`: its scores are those of the ranking written out, whatever searches."""

import json
import re
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from dinotools.configs.retrieval import RetrievalConfig
from dinotools.data.transforms import Shrink, normalize
from dinotools.evaluation.retrieval import command, lists, ranking
from dinotools.evaluation.retrieval.settings import Settings, paper_map, settings_of
from dinotools.features.scales import SCALES, MultiScale
from dinotools.features.unit_rows import UnitRows
from dinotools.features.whitening import learn
from dinotools.models.checkpoints import load_backbone
from dinotools.runtime.errors import DinotoolsError
from dinotools.search import approximate
from tests.command_line import dinotools, forked

NETWORK = {"ckpt": "random", "arch": "vit_micro", "patch_size": 16}
N_DATABASE, N_QUERIES, SIDE = 12, 4, 48


def picture(seed, size):
    """Coarse noise, so that features differ; like seeds give like pictures."""
    coarse = np.random.RandomState(seed % 100).randint(0, 256, size=(4, 4, 3)).astype(np.uint8)
    image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    noise = np.random.RandomState(seed).randint(-25, 26, size=(size[1], size[0], 3))
    return Image.fromarray((np.asarray(image).astype(int) + noise).clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def benchmark_file(tmp_path_factory):
    """Four queries; the last has no easy image, the third no positive at all."""
    folder = tmp_path_factory.mktemp("places")
    (folder / "jpg").mkdir()
    sizes = [(64, 48), (48, 64), (56, 56)]
    for i in range(N_DATABASE):
        picture(100 * i + i % 4, sizes[i % 3]).save(folder / f"jpg/d{i}.png")
    for q in range(N_QUERIES):
        picture(5000 + q, sizes[q % 3]).save(folder / f"jpg/q{q}.png")
    lists = [([0, 4], [8], [1]), ([1], [5], []), ([], [], [2]), ([], [3, 7], [11])]
    gnd = [{"bbx": [8, 8, 44, 44], "easy": easy, "hard": hard, "junk": junk} for easy, hard, junk in lists]
    names = {"imlist": [f"d{i}" for i in range(N_DATABASE)], "qimlist": [f"q{q}" for q in range(N_QUERIES)]}
    (folder / "gnd_places.json").write_text(json.dumps({**names, "gnd": gnd}))
    return folder / "gnd_places.json"


@pytest.fixture(scope="module")
def distractors(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distractors")
    for i in range(20):
        picture(100 * i + i % 7, (64, 52)).save(folder / f"{i:02d}.png")
    return folder


def config(benchmark_file, **options):
    common = {"dataset": str(benchmark_file), "imsize": SIDE, "workers": 0, "device": "cpu"}
    return RetrievalConfig(**{**NETWORK, **common, **options})


@torch.no_grad()
def described(paths, *, multiscale=True, box=None, normalized=True):
    """Features one image at a time, written out."""
    backbone = load_backbone(**NETWORK)
    network = MultiScale(backbone.model) if multiscale else backbone.model
    rows = []
    for path in paths:
        image = Image.open(path).convert("RGB")
        pixels = Shrink(SIDE)(image if box is None else image.crop(box))
        rows.append(network(normalize(pixels, backbone.mean, backbone.std)[None])[0])
    return F.normalize(torch.stack(rows), dim=1) if normalized else torch.stack(rows)


def paths_of(benchmark_file, letter, count):
    return [benchmark_file.parent / "jpg" / f"{letter}{i}.png" for i in range(count)]


def average_precisions(benchmark_file, queries, database):
    """Easy, Medium and Hard AP of every query by sorting, in percent; None without positives."""
    found = []
    for query, of in zip(queries, json.loads(benchmark_file.read_text())["gnd"], strict=True):
        order = torch.argsort(database @ query, descending=True, stable=True).tolist()
        scores = {}
        for name, positives, junk in (
            ("easy", of["easy"], of["junk"] + of["hard"]),
            ("medium", of["easy"] + of["hard"], of["junk"]),
            ("hard", of["hard"], of["junk"] + of["easy"]),
        ):
            ranking = [row for row in order if row not in junk]
            ranks = sorted(ranking.index(row) for row in positives)
            areas = [((j / r if r else 1) + (j + 1) / (r + 1)) / 2 for j, r in enumerate(ranks)]
            scores[name] = 100 * sum(areas) / len(areas) if areas else None
        found.append(scores)
    return found


def check(result, expected):
    per_query = result.metrics["per_query"]
    assert [entry.pop("query") for entry in per_query] == [f"q{q}" for q in range(N_QUERIES)]
    for measured, wanted in zip(per_query, expected, strict=True):
        assert measured == pytest.approx(wanted, abs=1e-9)
    for name in ("easy", "medium", "hard"):
        values = [scores[name] for scores in expected if scores[name] is not None]
        assert result.metrics[name]["mAP"] == pytest.approx(np.mean(values))
        assert result.metrics[name]["queries"] == len(values)


@pytest.mark.parametrize("multiscale", [False, True])
@pytest.mark.parametrize("protocol", ["dino-paper", "revisitop"])
def test_the_scores_are_those_of_the_ranking_written_out(benchmark_file, protocol, multiscale):
    result = command.run(config(benchmark_file, protocol=protocol, multiscale=multiscale))
    box = (8, 8, 44, 44) if protocol == "revisitop" else None
    queries = described(paths_of(benchmark_file, "q", N_QUERIES), multiscale=multiscale, box=box)
    database = described(paths_of(benchmark_file, "d", N_DATABASE), multiscale=multiscale)
    check(result, average_precisions(benchmark_file, queries, database))
    assert [row["queries"] for row in result.rows] == [2, 3, 3]
    assert "2 (Easy), 1 (Medium), 1 (Hard)" in result.notes[0]
    assert result.details["data"]["database"]["images"] == N_DATABASE


def with_distractors(benchmark_file, distractors):
    queries = described(paths_of(benchmark_file, "q", N_QUERIES))
    database = described([*paths_of(benchmark_file, "d", N_DATABASE), *sorted(distractors.iterdir())])
    return average_precisions(benchmark_file, queries, database)


def test_distractors_are_so_many_more_wrong_images(benchmark_file, distractors, tmp_path):
    expected = with_distractors(benchmark_file, distractors)
    assert expected != with_distractors(benchmark_file, tmp_path)  # they do matter here
    result = command.run(config(benchmark_file, distractors=str(distractors)))
    check(result, expected)
    np.save(tmp_path / "v.npy", described(sorted(distractors.iterdir())).numpy())
    check(command.run(config(benchmark_file, distractors=str(tmp_path / "v.npy"))), expected)


@pytest.mark.parametrize("kind", ["flat", "ivfpq"])
def test_an_index_is_built_once_and_serves_its_own_vectors_only(benchmark_file, distractors, tmp_path, kind):
    pytest.importorskip("faiss")
    options = {"distractors": str(distractors), "search": kind, "index": tmp_path / "d.index"}
    result = command.run(config(benchmark_file, **options))
    check(result, with_distractors(benchmark_file, distractors))
    assert result.metrics["index"]["recall_at_20"] == 1 and result.metrics["index"]["depth"] == 20
    stamp = (tmp_path / "d.index").stat().st_mtime_ns
    command.run(config(benchmark_file, **options))
    assert (tmp_path / "d.index").stat().st_mtime_ns == stamp
    with pytest.raises(DinotoolsError, match="other vectors"):
        command.run(config(benchmark_file, **options, multiscale=False))
    (tmp_path / "d.index.json").write_text("{")
    with pytest.raises(DinotoolsError, match="other vectors"):
        command.run(config(benchmark_file, **options))


@pytest.mark.parametrize("changed", ["distractors", "whiten"])
def test_an_index_is_not_used_for_vectors_that_were_written_anew(benchmark_file, distractors, tmp_path, changed):
    pytest.importorskip("faiss")
    vectors = described(sorted(distractors.iterdir())).numpy()
    sources = {"distractors": str(tmp_path / "d.npy"), "whiten": str(tmp_path / "w.npy")}
    for path in sources.values():
        np.save(path, vectors)
    options = {**sources, "search": "flat", "index": tmp_path / "d.index"}
    command.run(config(benchmark_file, **options))
    np.save(sources[changed], np.concatenate([-vectors, vectors[:1]]))
    with pytest.raises(DinotoolsError, match="other vectors"):
        command.run(config(benchmark_file, **options))


def test_an_index_that_finds_fewer_than_asked_for_does_not_know_them_all(benchmark_file, tmp_path):
    pytest.importorskip("faiss")
    generator = torch.Generator().manual_seed(0)
    rows = UnitRows([torch.randn(approximate.FEWEST, 16, generator=generator)])
    queries = F.normalize(torch.randn(3, 16, generator=generator), dim=1)
    options = {"distractors": "x", "search": "ivfpq", "index": tmp_path / "d.index", "depth": 2000}
    found = ranking.search_index(queries, rows, config(benchmark_file, **options), {})
    known = found.similarity > ranking.NO_SIMILARITY
    assert (known.sum(dim=1) < 2000).all()
    assert torch.equal(found.horizon, found.similarity.masked_fill(~known, torch.inf).amin(dim=1))


def test_positives_behind_the_distractors_that_were_found_do_not_count(benchmark_file, distractors, tmp_path):
    pytest.importorskip("faiss")
    options = {"distractors": str(distractors), "search": "flat", "index": tmp_path / "d.index", "depth": 1}
    result = command.run(config(benchmark_file, **options))
    exact = with_distractors(benchmark_file, distractors)
    medium = [(found["medium"], true["medium"]) for found, true in zip(result.metrics["per_query"], exact, strict=True)]
    assert all(found <= true + 1e-9 for found, true in medium if true is not None)
    assert any(found < true for found, true in medium if true is not None)
    assert "count as not found" in result.notes[-1]


@torch.no_grad()
def test_whitening_is_learned_on_the_images_given(benchmark_file, distractors):
    found = command.run(config(benchmark_file, multiscale=False, whiten=str(distractors), whiten_dim=8))
    learned = described(sorted(distractors.iterdir()), multiscale=False, normalized=False)
    whitening = learn([learned], 8, covariance="centred")
    rows = [
        whitening(described(paths_of(benchmark_file, letter, count), multiscale=False, normalized=False))
        for letter, count in (("q", N_QUERIES), ("d", N_DATABASE))
    ]
    check(found, average_precisions(benchmark_file, *rows))


def test_query_expansion_looks_at_database_and_distractors(benchmark_file, distractors):
    options = {"query_expansion": 3, "alpha": 2.0, "distractors": str(distractors)}
    found = command.run(config(benchmark_file, **options))
    queries = described(paths_of(benchmark_file, "q", N_QUERIES))
    database = described([*paths_of(benchmark_file, "d", N_DATABASE), *sorted(distractors.iterdir())])
    near, rows = (queries @ database.T).topk(3)
    expanded = F.normalize(queries + torch.einsum("qk,qkd->qd", near**2, database[rows]), dim=1)
    check(found, average_precisions(benchmark_file, expanded, database))


def test_the_page_shows_what_each_query_found(benchmark_file, distractors, tmp_path):
    page = tmp_path / "page.html"
    options = {"html": page, "protocol": "revisitop", "distractors": str(distractors), "out": tmp_path / "out"}
    command.run(config(benchmark_file, **options))
    text = page.read_text(encoding="utf-8")
    articles = text.split("<article")[1:]
    assert len(articles) == N_QUERIES and all('class="box"' in article for article in articles)
    shown = [len(re.findall('class="shot (?:positive|negative|junk)"', article)) for article in articles]
    assert shown == [15] * N_QUERIES
    for article, of in zip(articles, json.loads(benchmark_file.read_text())["gnd"], strict=True):
        positives = {f"d{i}" for i in of["easy"] + of["hard"]}
        seen = set(re.findall(r'class="shot positive"><img [^>]*alt="([^"]*)"', article))
        assert seen <= positives
        assert ("more positive" in article) == (len(seen) < len(positives))
    stored = json.loads((tmp_path / "out" / lists.FILE).read_text())["queries"]
    for article, of in zip(articles, stored, strict=True):
        assert [Path(hit["image"]).stem for hit in of["hits"]] == re.findall('<img [^>]*alt="([^"]*)"', article)[1:]
        assert all(Path(hit["image"]).is_absolute() for hit in of["hits"])
    few = lists.illustrated(stored[0], most=2)
    positives = sum(hit["verdict"] == "positive" for hit in stored[0]["hits"])
    assert len(few.hits) == 2
    assert few.missed + sum(hit.verdict == "positive" for hit in few.hits) == stored[0]["missed"] + positives


def test_distractors_are_never_all_in_memory(benchmark_file, distractors, tmp_path, monkeypatch):
    chunks, most = [], 0
    get = UnitRows.__getitem__

    def counted(rows, index):
        nonlocal most
        chunk = get(rows, index)
        chunks.append(weakref.ref(chunk))
        most = max(most, sum(alive() is not None for alive in chunks))
        return chunk

    monkeypatch.setattr(UnitRows, "__getitem__", counted)
    monkeypatch.setattr("dinotools.features.unit_rows.ROWS", 2)
    options = {"distractors": str(distractors), "query_expansion": 3, "html": tmp_path / "page.html"}
    command.run(config(benchmark_file, **options))
    assert most == N_DATABASE / 2  # the database is in memory; the distractors would be 20 / 2


def test_an_unreadable_image_is_an_error(benchmark_file, tmp_path):
    (tmp_path / "jpg").mkdir()
    for path in (benchmark_file.parent / "jpg").iterdir():
        (tmp_path / "jpg" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "gnd_places.json").write_bytes(benchmark_file.read_bytes())
    (tmp_path / "jpg/d3.png").write_bytes(b"broken")
    with pytest.raises(DinotoolsError, match=r"d3\.png.*every image counts"):
        command.run(config(tmp_path / "gnd_places.json"))


def test_a_page_that_cannot_be_written_is_told_before_the_work(benchmark_file, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DinotoolsError, match=r"cannot be written.*--html"):
        command.run(config(benchmark_file, html=tmp_path / "file/page.html", out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"search": "flat"}, "distractors"),
        ({"search": "flat", "distractors": "x"}, "--index"),
        ({"index": "x", "distractors": "x"}, "--search"),
        ({"whiten_dim": 3}, "--whiten"),
        ({"imsize": 0}, "above 0"),
        ({"query_expansion": -1}, "negative"),
        ({"alpha": -1.0}, "--alpha: is -1.0"),
        ({"whiten": "photos", "whiten_dim": 0}, "--whiten-dim: is 0"),
        ({"query_expansion": 13}, "13 neighbours in a database of 12"),
        ({"pooling": "max"}, "no pooling"),
        ({"gpus": 0}, "above 0"),
    ],
)
def test_options_that_mean_nothing(benchmark_file, options, complaint):
    with pytest.raises(DinotoolsError, match=complaint):
        command.run(config(benchmark_file, **options))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"dataset": "roxford5k"}, Settings(224, (1.0,), crop_queries=False)),
        ({"dataset": "RParis6k"}, Settings(512, SCALES, crop_queries=False)),
        ({"dataset": "mine.json"}, Settings(512, SCALES, crop_queries=False)),
        ({"dataset": "roxford5k", "multiscale": True, "imsize": 300}, Settings(300, SCALES, crop_queries=False)),
        ({"dataset": "rparis6k", "multiscale": False}, Settings(512, (1.0,), crop_queries=False)),
        ({"dataset": "roxford5k", "protocol": "revisitop"}, Settings(1024, SCALES, crop_queries=True)),
    ],
)
def test_what_the_protocols_fix(options, expected):
    assert settings_of(RetrievalConfig(**options)) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"medium": 51.5, "hard": 24.3}),
        ({"dataset": "rparis6k"}, {"medium": 75.3, "hard": 51.6}),
        ({"protocol": "revisitop"}, {}),
        ({"imsize": 256}, {}),
        ({"multiscale": True}, {}),
        ({"pooling": "gem"}, {}),
        ({"whiten": "x"}, {}),
        ({"query_expansion": 1}, {}),
        ({"distractors": "x"}, {}),
        ({"dataset": "mine.json"}, {}),
    ],
)
def test_the_papers_number_stands_beside_the_papers_setting_only(options, expected):
    asked = RetrievalConfig(**{"dataset": "roxford5k", **options})
    assert paper_map(asked, settings_of(asked), "dino_vits16_gldv2") == expected
    assert paper_map(asked, settings_of(asked), "runs/mine") == {}


def test_two_ranks_find_what_one_does(benchmark_file, distractors, tmp_path):
    words = ["retrieval", "--dataset", benchmark_file, "--imsize", SIDE, "--distractors", distractors, "--json"]
    words += ["--ckpt", "random", "--arch", "vit_micro", "--patch-size", "16", "--workers", "0", "--device", "cpu"]
    one = forked(*words, "--out", tmp_path / "one")
    two = dinotools(*words, "--gpus", 2, "--cache", tmp_path / "cache", "--out", tmp_path / "two")
    assert (one.returncode, two.returncode) == (0, 0), one.stderr + two.stderr
    assert json.loads(one.stdout)["metrics"] == json.loads(two.stdout)["metrics"]
    check(command.run(config(benchmark_file, distractors=str(distractors))), per_query(json.loads(one.stdout)))
    assert json.loads((tmp_path / "two/results.json").read_text())["details"]["data"]["distractors"]["images"] == 20


def per_query(document):
    return [{k: v for k, v in entry.items() if k != "query"} for entry in document["metrics"]["per_query"]]
