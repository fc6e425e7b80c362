"""Every command of README and docs runs: in order, in a folder of its own, on miniatures of the data and networks.

README and the quick start run always, the other pages where ``-m slow`` asks for it.
"""

import shlex
import shutil
from pathlib import Path

import pytest

from dinotools.configs.data_sets import DataSampleConfig
from dinotools.data.manifests import manifest
from dinotools.data.miniatures import command as miniatures
from dinotools.models.zoo import SHIPPED, ZOO
from tests.command_line import forked
from tests.pages import PAGES, Page

ALWAYS = ("README.md", "docs/quickstart.md")

# What makes a command one of seconds. The last word on a line wins.
SIZES = "--resize-size 32 --crop-size 32 --workers 0"
SMALL = {
    "pretrain": "--arch vit_micro --patch-size 8 --num-heads 4 --out-dim 32 --head-hidden-dim 32 --epochs 1 "
    "--head-bottleneck-dim 16 --epoch-images 8 --batch-size 8 --accumulate 1 --crops 2x32+1x16 --warmup-epochs 0 "
    "--warmup-teacher-temp-epochs 0 --workers 0 --gpus 1 --no-compile --knn-k 5 --knn-resize-size 32 --force",
    "knn": f"{SIZES} --k 5 --gpus 1",
    "linear": f"{SIZES} --epochs 1 --train-batch-size 64",
    "lowshot": SIZES,
    "features": f"{SIZES} --gpus 1",
    "finetune": f"{SIZES} --epochs 1 --warmup-epochs 0 --batch-size 64 --accumulate 1",
    "embed": f"{SIZES} --method pca",
    "retrieval": "--imsize 64 --gpus 1 --workers 0",
    "copydays": "--imsize 64 --workers 0",
    "attention": "--imsize 64 --workers 0",
    "jaccard": "--imsize 64 --workers 0",
    "davis": "--short-side 64 --workers 0",
    "pca-video": "--imsize 64 --workers 0",
    "index": "--imsize 64 --workers 0",
    "search": "--workers 0",
    "duplicates": "--imsize 64 --workers 0",
    "recipes run": "--smoke --dry-run",  # recipes refuse miniatures otherwise
    "models throughput": "--seconds 0.1 --size 32 --batch-size 2",
}
# Beginnings of commands, or options, that are only parsed (test_docs.py), and why.
NOT_RUN = {
    "demo": "takes minutes, and has a test of its own",
    "data fetch": "needs a network",
    "--download": "needs a network",
    "--slurm": "needs Slurm",
    "data check": "a miniature lacks nearly everything, which it says",
    "--evaluate dino_": "needs a network",
    "shards/": "the shards are the reader's; tests/data/test_shards.py trains on some",
}
PYTHON_NOT_RUN = {
    "places/": "the photographs are the reader's; tests/data/test_oxford_paris.py opens some",
    "nearest_mean": "stands in files of the package; test_docs.py puts it there",
}


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> Path:
    """data/NAME of every data set in small, runs/small, a run of seconds, and results/knn, what was measured of it."""
    root = tmp_path_factory.mktemp("shared")
    for name in manifest.names():
        miniatures.run(DataSampleConfig(name=name, to=root / "data" / name))
    for words in (
        f"pretrain --data {root}/data/imagenet/train --out {root}/runs/small {SMALL['pretrain']}",
        f"knn --data {root}/data/imagenet --ckpt {root}/runs/small --out {root}/results/knn {SMALL['knn']}",
    ):
        done = forked(*shlex.split(words))
        assert done.returncode == 0, done.stderr
    return root


@pytest.fixture
def folder(shared, tmp_path, monkeypatch) -> Path:
    """Where a page is read: data/ as its readers have it, results/, and the two runs that pages speak of."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DINOTOOLS_CACHE", str(tmp_path / "cache"))
    shutil.copytree(shared / "results", "results")
    Path("data").mkdir()
    for path in (shared / "data").iterdir():
        Path("data", path.name).symlink_to(path)
    for name in ("vits16", "cifar"):
        shutil.copytree(shared / "runs" / "small", Path("runs", name))
    return tmp_path


def in_small(words: list[str]) -> list[str]:
    """The command with networks that are here, in a size of seconds."""
    names = {name for name in ZOO if name not in SHIPPED}
    words = ["dino_micro_cifar10" if word in names or word.startswith("timm:") else word for word in words]
    wanted = SMALL.get(" ".join(words[:2])) or SMALL.get(words[0], "")
    return words + wanted.split()


def reason(words: list[str]) -> str | None:
    """Why a command is not run."""
    line = " ".join(words)
    return next((why for what, why in NOT_RUN.items() if line.startswith(what) or f" {what}" in f" {line}"), None)


def make_room(words: list[str]) -> None:
    """Pages make what others find there: a miniature, or a run of a name that pages share."""
    for flag in ("--out", "--to"):
        if flag in words and "--resume" not in words:
            path = Path(words[words.index(flag) + 1])
            if path.is_symlink():
                path.unlink()
            elif path.parent == Path("runs") and words[0] in ("pretrain", "finetune"):
                shutil.rmtree(path, ignore_errors=True)


def run_python(text: str) -> None:
    exec(compile(text, "page", "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=() if page.name in ALWAYS else pytest.mark.slow, id=page.name) for page in PAGES],
)
def test_every_command_runs(page: Page, folder):
    failed = []
    for block in page.blocks:
        if block.language == "python" and not any(what in block.text for what in PYTHON_NOT_RUN):
            run_python(block.text)
        for words in block.lines if block.language == "bash" else ():
            if words[0] != "dinotools" or reason(words[1:]):
                continue
            make_room(words[1:])
            done = forked(*in_small(words[1:]))
            if done.returncode != 0:
                failed.append(f"{shlex.join(in_small(words[1:]))}\n{done.stdout[-200:]}{done.stderr[-600:]}")
    assert not failed, "\n".join(failed)
