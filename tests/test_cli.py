"""The command line as a user meets it."""

import importlib.metadata
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import torch
import typer
from typer.testing import CliRunner

from dinotools.configs.attention import AttentionConfig, JaccardConfig
from dinotools.configs.classification import KnnConfig
from dinotools.configs.copydays import CopydaysConfig, CopydaysMakeConfig
from dinotools.configs.demo import DemoConfig
from dinotools.configs.embedding import EmbedConfig
from dinotools.configs.features import FeaturesConfig
from dinotools.configs.finetuning import FinetuneConfig
from dinotools.configs.linear import LinearConfig
from dinotools.configs.lowshot import LowshotConfig
from dinotools.configs.option import Opt, fields
from dinotools.configs.photos import DuplicatesConfig, IndexConfig, SearchConfig
from dinotools.configs.pretraining import PretrainConfig
from dinotools.configs.retrieval import RetrievalConfig
from dinotools.configs.video import DavisConfig, DavisScoreConfig, PcaVideoConfig
from dinotools.options import command
from dinotools.runtime.errors import DinotoolsError
from dinotools.runtime.results import Result
from tests.command_line import dinotools, forked

TINY = "--arch vit_micro --patch-size 16 --out-dim 32 --head-hidden-dim 32 --head-bottleneck-dim 16 --epochs 2 "
TINY += "--global-crop-size 32 --local-crop-size 16 --local-crops-number 1 --warmup-epochs 0 --batch-size 8 --workers 0"
PHOTO_NETWORK = "--ckpt random --arch vit_micro --patch-size 16 --imsize 32 --workers 0 --device cpu"
SIZES = "--resize-size 32 --crop-size 32 --workers 0"


@pytest.fixture(scope="module")
def trained(image_folder, tmp_path_factory) -> Path:
    """A run directory, made by the command itself."""
    out = tmp_path_factory.mktemp("trained") / "run"
    done = forked("pretrain", "--data", image_folder, "--out", out, *TINY.split())
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def features(trained, image_folder, tmp_path_factory) -> Path:
    """Features of that run's teacher, extracted by the command itself."""
    out = tmp_path_factory.mktemp("features") / "wide"
    words = ["--ckpt", trained, "--data", image_folder, "--out", out, "--pooling", "cls4+avg", *SIZES.split()]
    done = forked("features", *words)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize(
    ("command", "files", "metric"),
    [
        ("knn --k 1,3", [], "k1"),
        ("linear --protocol cached --epochs 20 --train-batch-size 8", ["linear-grid.png", "linear.pth"], "top1"),
        ("lowshot --fraction 0.5 --c 1,10", [], None),
        ("embed --method pca", ["embedding.png", "embedding.html"], None),
    ],
)
def test_features_serve_every_protocol(command, files, metric, features, tmp_path):
    done = forked(*command.split(), "--features", features, "--out", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert json.loads(done.stdout) == results
    assert metric is None or metric in results["metrics"]
    assert {"config.toml", *files} <= {path.name for path in (tmp_path / "out").iterdir()}
    assert results["details"]["checkpoint"]["key"] == "teacher"


def test_a_fine_tuned_network_is_a_checkpoint(trained, image_folder, tmp_path):
    words = [
        "--epochs",
        "1",
        "--warmup-epochs",
        "0",
        "--batch-size",
        "8",
        "--crop-size",
        "32",
        "--resize-size",
        "32",
        "--workers",
        "0",
    ]
    done = forked("finetune", "--ckpt", trained, "--data", image_folder, "--out", tmp_path / "out", *words)
    assert done.returncode == 0, done.stderr
    info = json.loads(forked("models", "info", tmp_path / "out", "--json").stdout)["metrics"]
    assert (info["arch"], info["problem"]) == ("vit_micro", None)
    assert "head.weight" in info["dropped"]


@pytest.mark.parametrize("words", [["--help"], ["pretrain", "--help"], ["knn", "--help"], ["finetune", "--help"]])
def test_help_does_not_import_torch(words):
    code = "import sys; from dinotools.options import run_app; from dinotools.cli import app\n"
    code += f"status = run_app(lambda: app(args={words}), debug=True)\n"
    code += (
        "heavy = {'torch', 'torchvision', 'numpy', 'matplotlib', 'sklearn', 'faiss', 'PIL', 'av'} & set(sys.modules)\n"
    )
    code += "assert not heavy, heavy; sys.exit(status)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout


@pytest.mark.parametrize(
    ("command", "config_class"),
    [
        ("pretrain", PretrainConfig),
        ("features", FeaturesConfig),
        ("knn", KnnConfig),
        ("linear", LinearConfig),
        ("lowshot", LowshotConfig),
        ("finetune", FinetuneConfig),
        ("retrieval", RetrievalConfig),
        ("copydays", CopydaysConfig),
        ("copydays-make", CopydaysMakeConfig),
        ("index", IndexConfig),
        ("search", SearchConfig),
        ("duplicates", DuplicatesConfig),
        ("davis", DavisConfig),
        ("davis-score", DavisScoreConfig),
        ("pca-video", PcaVideoConfig),
        ("attention", AttentionConfig),
        ("jaccard", JaccardConfig),
        ("embed", EmbedConfig),
        ("demo", DemoConfig),
    ],
)
def test_every_option_stands_in_the_help_with_its_panel_and_default(command, config_class):
    text = forked(command, "--help", COLUMNS="240").stdout
    for field in fields(config_class):
        shown_as = field.name if field.opt.positional else field.flag
        line = next(line for line in text.splitlines() if re.match(rf"│[ *]*{shown_as}\b(?!-)", line))
        assert field.opt.help in line
        if field.opt.positional:
            continue
        assert f"─ {field.opt.panel} ─" in text
        if field.required:
            assert "required" in line
        elif field.default in (None, ()):
            assert "[default" not in line
        elif not isinstance(field.default, bool):
            shown = ",".join(map(str, field.default)) if isinstance(field.default, tuple) else str(field.default)
            assert f"[default: {shown}]" in line or f"[default: ({shown})]" in line, line


def test_version():
    import dinotools as package

    assert dinotools("--version").stdout.strip() == f"dinotools {package.__version__}"


def test_knn_prints_a_table_and_leaves_results(trained, image_folder, tmp_path):
    out = tmp_path / "knn"
    done = dinotools("knn", "--ckpt", trained, "--data", image_folder, "--k", "1,3", "--out", out, *SIZES.split())
    assert done.returncode == 0, done.stderr
    assert "top-1 %" in done.stdout and "top-5 %" in done.stdout
    results = json.loads((out / "results.json").read_text())
    assert set(results["metrics"]) == {"k1", "k3", "per_class"}
    assert 0 <= results["metrics"]["k1"]["top1"] <= 100
    assert results["details"]["data"]["train"] == {"images": 24, "skipped": []}
    assert results["details"]["data"]["val"]["images"] == 12
    assert len(results["details"]["checkpoint"]["sha256"]) == 64
    assert results["details"]["checkpoint"]["key"] == "teacher"
    assert results["versions"]["torch"] == importlib.metadata.version("torch")
    assert results["wall_time_s"] > 0 and results["peak_memory_mb"]["host"] > 0
    again = forked("knn", "--config", out / "config.toml", "--out", tmp_path / "again", "--json")
    assert json.loads(again.stdout.splitlines()[-1])["metrics"] == results["metrics"]


def test_flags_win_over_the_file_and_the_file_over_the_preset(image_folder, tmp_path):
    options = tmp_path / "options.toml"
    options.write_text(f'data = "{image_folder}"\nepochs = 1\nwarmup_epochs = 0\nout_dim = 16\n')
    words = ["--preset", "digits", "--config", options, "--out", tmp_path / "run", "--batch-size", 12, "--knn-every", 0]
    done = forked("pretrain", *words, "--workers", 0, "--json")
    assert done.returncode == 0, done.stderr
    config = json.loads(done.stdout.splitlines()[-1])["config"]
    assert (config["batch_size"], config["out_dim"], config["arch"]) == (12, 16, "vit_micro")
    assert config["optimizer"] == "adamw"


def test_models(trained):
    listed = forked("models", "list", "--json")
    assert json.loads(listed.stdout)["metrics"]["dino_vits16"]["knn_top1"] == 74.5
    info = json.loads(forked("models", "info", trained, "--json").stdout)["metrics"]
    assert (info["arch"], info["patch_size"], info["img_size"], info["epoch"]) == ("vit_micro", 16, 32, 2)


def write_evil_pickle(path: Path, canary: Path) -> None:
    class Evil:
        def __reduce__(self):
            return (Path.touch, (canary,))

    torch.save({"teacher": {"a": torch.zeros(1)}, "args": Evil()}, path)


BAD = {
    "missing folder": (["knn", "--ckpt", "RUN", "--data", "nowhere"], "nowhere"),
    "folder without images": (["pretrain", "--data", "EMPTY", "--out", "OUT"], "holds no images"),
    "one class": (["knn", "--ckpt", "RUN", "--train", "ONE", "--val", "ONE", "--k", "1"], "one class"),
    "too few images for k": (["knn", "--ckpt", "RUN", "--data", "DATA"], "--k 10,20"),
    "wrong architecture": (["knn", "--ckpt", "RUN", "--data", "DATA", "--arch", "vit_small", "--k", "3"], "vit_micro"),
    "code in a pickle": (["knn", "--ckpt", "EVIL", "--data", "DATA", "--k", "3"], "refused"),
    "no weights": (["knn", "--ckpt", "nothing.pth", "--data", "DATA", "--k", "3"], "nothing.pth"),
    "crop below a patch": (
        ["pretrain", "--data", "DATA", "--out", "OUT", "--local-crop-size", "8"],
        "--local-crop-size: a crop of 8 pixels is smaller than a patch of 16",
    ),
    "crop below a patch in the k-NN": (
        ["knn", "--ckpt", "RUN", "--data", "DATA", "--k", "3", "--crop-size", "8"],
        "--crop-size: a crop of 8 pixels is smaller than a patch of 16",
    ),
    "temperature zero": (["knn", "--ckpt", "RUN", "--data", "DATA", "--temperature", "0"], "--temperature: is 0.0"),
    "output not empty": (["pretrain", "--data", "DATA", "--out", "RUN", *TINY.split()], "--resume"),
    "overwriting what is measured": (
        ["knn", "--ckpt", "RUN", "--data", "DATA", "--k", "3", "--out", "RUN", "--overwrite", *SIZES.split()],
        "--overwrite would delete what this command reads",
    ),
    "overwriting what is no run": (
        ["pretrain", "--data", "DATA", "--out", "DATA", "--overwrite", *TINY.split()],
        "holds something that is no run of dinotools",
    ),
    "k of the monitor": (
        ["pretrain", "--data", "DATA", "--out", "OUT", *TINY.split(), "--knn-every", "1", "--knn-k", "50"],
        "--knn-k: 50 neighbours of only 24 training images. Use --knn-k 24",
    ),
    "option missing": (["knn", "--data", "DATA", "--k", "3"], "--ckpt: no network to measure"),
    "features that are none": (["knn", "--features", "DATA"], "holds no features"),
    "features and images": (["knn", "--features", "FEATURES", "--data", "DATA"], "--data: was given beside"),
    "k beyond the features": (["knn", "--features", "FEATURES", "--k", "50"], "Use --k 24"),
    "pooling that is none": (
        ["features", "--ckpt", "RUN", "--data", "DATA", "--out", "OUT", "--pooling", "max"],
        "cls4",
    ),
    "a subset of strangers": (["lowshot", "--features", "FEATURES", "--subset", "LIST"], "nobody.png"),
    "a classifier with code": (["linear", "--features", "FEATURES", "--evaluate", "EVIL"], "refused"),
    "unknown preset": (["pretrain", "--preset", "big", "--data", "DATA", "--out", "OUT"], "digits"),
    "corrupt images": (
        ["pretrain", "--data", "CORRUPT", "--out", "OUT", *TINY.split(), "--batch-size", "2"],
        "--max-bad",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_with_the_remedy_and_exit_code_2(case, trained, features, image_folder, tmp_path):
    (tmp_path / "empty").mkdir()
    one = tmp_path / "one" / "only"
    one.mkdir(parents=True)
    (one / "0.png").write_bytes((image_folder / "train/red/0.png").read_bytes())
    corrupt = tmp_path / "corrupt"
    corrupt.mkdir()
    for i in range(4):
        (corrupt / f"{i}.jpg").write_bytes(b"this is no image")
    (tmp_path / "list.txt").write_text("nobody.png\n")
    canary, evil = tmp_path / "canary", tmp_path / "evil.pth"
    write_evil_pickle(evil, canary)
    places = {
        "RUN": trained, "EMPTY": tmp_path / "empty", "ONE": one.parent, "DATA": image_folder, "OUT": tmp_path / "out",
        "EVIL": evil, "CORRUPT": corrupt, "FEATURES": features, "LIST": tmp_path / "list.txt",
    }  # fmt: skip
    before = {path: path.stat().st_mtime_ns for path in trained.iterdir()}
    words, expected = BAD[case]
    done = forked(*(places.get(word, word) for word in words), COLUMNS="400")
    assert done.returncode == 2, done.stderr
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    if case != "unknown preset":  # Typer's own message, in a frame
        lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
        assert len(lines) == 1
    assert not canary.exists()
    assert {path: path.stat().st_mtime_ns for path in trained.iterdir()} == before
    assert not (tmp_path / "out").exists()


def test_debug_shows_the_traceback():
    assert "Traceback" in dinotools("knn", "--data", "nowhere", "--ckpt", "x", "--debug").stderr


@dataclass(frozen=True, kw_only=True)
class WordsConfig:
    """Take words as they come."""

    first: Annotated[str, Opt("the first word", positional=True)]
    others: Annotated[tuple[str, ...], Opt("the words that are left", positional=True)]
    place: Annotated[Path | None, Opt("a path")] = None


def echoed(config: WordsConfig) -> Result:
    return Result("words", [], {"first": config.first, "others": config.others, "place": str(config.place)})


def test_a_positional_tuple_takes_the_words_that_are_left():
    app = typer.Typer()
    command(app, "words", WordsConfig, f"{__name__}:echoed")
    done = CliRunner().invoke(app, ["a b", "c,d", "e f", "--json"])
    assert json.loads(done.stdout)["metrics"] == {"first": "a b", "others": ["c,d", "e f"], "place": "None"}
    with pytest.raises(DinotoolsError, match="missing OTHERS"):
        CliRunner().invoke(app, ["a"], catch_exceptions=False)


def test_a_path_that_the_shell_did_not_expand_lies_in_the_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    app = typer.Typer()
    command(app, "words", WordsConfig, f"{__name__}:echoed")
    done = CliRunner().invoke(app, ["a", "b", "--place=~/page.html", "--json"])
    assert json.loads(done.stdout)["metrics"]["place"] == str(tmp_path / "page.html")


def test_photos_are_indexed_searched_and_compared(image_folder, tmp_path):
    copy = image_folder / "train/red/0.png"
    photos = tmp_path / "photos"
    photos.mkdir()
    for path in (image_folder / "train").glob("*/*.png"):
        (photos / f"{path.parent.name}{path.name}").write_bytes(path.read_bytes())
    (photos / "again.png").write_bytes(copy.read_bytes())
    network = PHOTO_NETWORK.split()
    done = forked("index", photos, "--out", tmp_path / "index", *network)
    assert done.returncode == 0, done.stderr
    words = ("search", tmp_path / "index", copy, photos / "blue3.png", "--top", 2, "--json")
    found = json.loads(forked(*words, "--html", tmp_path / "found.html").stdout)["metrics"]["queries"]
    assert {Path(hit["path"]).name for hit in found[str(copy)]} == {"again.png", "red0.png"}
    assert Path(found[str(photos / "blue3.png")][0]["path"]).name == "blue3.png"
    assert (tmp_path / "found.html").is_file()
    words = ("duplicates", photos, "--threshold", 0.9999, "--index", tmp_path / "index", *network, "--json")
    [group] = json.loads(forked(*words).stdout)["metrics"]["groups_found"]
    assert {Path(photo["path"]).name for photo in group} == {"again.png", "red0.png"}
