"""The linear classifier itself, its score, and its files, which have the layout of the official ones.

Such a file holds ``state_dict`` with ``module.linear.weight`` (C, D) and ``module.linear.bias`` (C,); a file of ours
also says what the classifier reads (``pooling``, ``backbone``) and what it tells apart (``classes``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinotools.features.pooling import Pooling
from dinotools.metrics.classification import top_accuracy
from dinotools.models.checkpoint_files import network_state, read_checkpoint, sha256_of
from dinotools.models.download import fetch
from dinotools.models.names import did_you_mean
from dinotools.models.zoo import RELEASES
from dinotools.runtime.console import warn
from dinotools.runtime.errors import DinotoolsError
from dinotools.runtime.run_directory import write_atomically

FILE = "linear.pth"
WEIGHT, BIAS = "linear.weight", "linear.bias"
INITIAL_STD = 0.01
CHUNK = 4096  # features scored at a time
# of the settings of features: which network they are of, and how an image reaches it
NETWORK = ("sha256", "key", "arch", "patch_size", "seed")
VIEW = ("resize_size", "crop_size", "mean", "std")
RELEASED = {  # the name of a released network -> the address of its classifier (official hub, README)
    name: f"{RELEASES}/dino_{folder}_pretrain/dino_{folder}_linearweights.pth"
    for name, folder in (
        ("dino_vits16", "deitsmall16"),
        ("dino_vits8", "deitsmall8"),
        ("dino_vitb16", "vitbase16"),
        ("dino_vitb8", "vitbase8"),
        ("dino_resnet50", "resnet50"),
    )
}


def initial_weight(width: int, n_classes: int, seed: int) -> Tensor:
    """The weight of a new classifier: normal with deviation 0.01, as officially; (n_classes, width), on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    return torch.empty(n_classes, width, device="cpu").normal_(std=INITIAL_STD, generator=generator)


def build_classifier(width: int, n_classes: int, seed: int) -> nn.Linear:
    """A new classifier, with a bias of zero; the global generator is left as it was.

    Args:
        width: of a feature.
        n_classes: how many classes.
        seed: of the weights.
    """
    return as_linear(initial_weight(width, n_classes, seed), torch.zeros(n_classes))


def as_linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """The classifier of given weights (C, D) and bias (C,), which it does not copy."""
    with torch.device("meta"):  # no initial values to overwrite
        classifier = nn.Linear(weight.shape[1], weight.shape[0])
    classifier.load_state_dict({"weight": weight, "bias": bias}, assign=True)
    return classifier


@dataclass(frozen=True)
class Score:
    """Of a classifier on a split: mean cross-entropy, accuracies in percent, predicted classes (N,) on the CPU."""

    loss: float
    top1: float
    top5: float
    predictions: Tensor


@torch.no_grad()
def score(classifier: nn.Linear, features: Tensor, labels: Tensor) -> Score:
    """Scores a classifier; with fewer than five classes, top-5 counts them all.

    Args:
        classifier: on any device.
        features: (N, D), sent there piece by piece.
        labels: (N,) int64, on the CPU.
    """
    device = classifier.weight.device
    losses, rankings = [], []
    for rows, wanted in zip(features.split(CHUNK), labels.split(CHUNK), strict=True):
        logits = classifier(rows.to(device)).cpu()
        losses.append(F.cross_entropy(logits, wanted, reduction="sum"))
        rankings.append(logits.topk(min(5, logits.shape[1]), dim=1).indices)
    ranking = torch.cat(rankings)
    return Score(
        loss=torch.stack(losses).sum().item() / len(labels),
        top1=top_accuracy(ranking, labels, 1),
        top5=top_accuracy(ranking, labels, 5),
        predictions=ranking[:, 0],
    )


def write_classifier(
    path: Path,
    weight: Tensor,
    bias: Tensor,
    pooling: Pooling,
    classes: Sequence[str],
    settings: Mapping[str, Any],
    **content: Any,
) -> None:
    """Writes a classifier atomically.

    Args:
        path: the file.
        weight: (C, D), for features in the official order.
        bias: (C,).
        pooling: what it reads.
        classes: what it tells apart.
        settings: of the features, as ``network.settings_of`` gives them.
        content: further entries: the official ``epoch``, ``optimizer``, ``scheduler``, ``best_acc``, and ours.
    """
    state = {f"module.{WEIGHT}": weight.detach().cpu().clone(), f"module.{BIAS}": bias.detach().cpu().clone()}
    backbone = {name: settings[name] for name in NETWORK + VIEW}
    entries = {**content, "state_dict": state, "pooling": str(pooling), "classes": list(classes), "backbone": backbone}
    write_atomically(path, lambda temporary: torch.save(entries, temporary))


@dataclass(frozen=True)
class ClassifierFile:
    """A classifier that was read from a file, and what the file says; an official one says no more than weights.

    Args:
        classifier: in float32, on the CPU.
        pooling: what it reads, or None.
        classes: what it tells apart, or None.
        backbone: ``NETWORK`` and ``VIEW`` of the features that it was trained on, or None.
        source: the file's path, or the released network's name.
        sha256: of the file.
    """

    classifier: nn.Linear
    pooling: Pooling | None
    classes: list[str] | None
    backbone: dict[str, Any] | None
    source: str
    sha256: str

    def describe(self) -> dict[str, Any]:
        """What results.json says of it."""
        said = self.pooling and str(self.pooling)
        return {"source": self.source, "sha256": self.sha256, "pooling": said}

    def check(self, width: int, classes: Sequence[str], settings: Mapping[str, Any]) -> None:
        """Refuses features and classes that are not the classifier's, as far as its file tells.

        Images of another size or normalisation are no error, but warned of.

        Args:
            width: of a feature.
            classes: of the images.
            settings: of the features, as ``network.settings_of`` gives them.

        Raises:
            DinotoolsError: they are others.
        """
        then = self.backbone or {}
        others = [name for name in then if then[name] != settings.get(name)]
        told = ", ".join(f"{name} {then[name]}, not {settings.get(name)}" for name in others)
        if not {*NETWORK}.isdisjoint(others):
            raise DinotoolsError(
                f"was trained on another network ({told})", self.source, "Give --ckpt the one it belongs to."
            )
        if others:
            warn(f"{self.source} was trained on other views of images: {told}")
        if self.classifier.out_features != len(classes):
            raise DinotoolsError(
                f"tells {self.classifier.out_features:,} classes apart, but the images have {len(classes):,}",
                self.source,
                "Evaluate it on the data set that it was trained on.",
            )
        if self.classes not in (None, list(classes)):
            raise DinotoolsError("tells other classes apart", self.source, "Evaluate it on its own data set.")
        if self.classifier.in_features != width:
            raise DinotoolsError(
                f"reads {self.classifier.in_features:,} values, but a feature has {width:,}",
                self.source,
                "Give the network that it was trained on, or change --n-last-blocks and --avgpool-patchtokens.",
            )


def read_classifier(name: str) -> ClassifierFile:
    """Reads a classifier's file, official or ours, without running any code that it may hold.

    Args:
        name: a path, or a key of ``RELEASED``, which is fetched into the cache.

    Raises:
        DinotoolsError: there is no such file or name, or it holds anything but one linear layer.
    """
    path = fetch(RELEASED[name]) if name in RELEASED else Path(name).expanduser()
    if path.is_dir():
        path = path / FILE
    if not path.is_file():
        raise DinotoolsError(
            "there is no such file, and no released classifier of that name",
            f"--evaluate {name}",
            did_you_mean(name, RELEASED),
        )
    content = read_checkpoint(path, mapped=False)
    state, _ = network_state(content, "teacher", path)
    shapes = {key: list(tensor.shape) for key, tensor in state.items()}
    n_classes, width = shapes[WEIGHT] if len(shapes.get(WEIGHT, ())) == 2 else (0, 0)
    if shapes != {WEIGHT: [n_classes, width], BIAS: [n_classes]}:
        raise DinotoolsError(
            f"is no linear classifier: it holds {', '.join(f'{k} {v}' for k, v in list(shapes.items())[:3])}",
            path,
            f"Its state_dict holds {WEIGHT} and {BIAS} alone.",
        )
    pooling = content.get("pooling")
    return ClassifierFile(
        classifier=as_linear(state[WEIGHT].float(), state[BIAS].float()),
        pooling=Pooling.parse(pooling) if isinstance(pooling, str) else None,
        classes=content.get("classes"),
        backbone=said if isinstance(said := content.get("backbone"), dict) else None,
        source=name if name in RELEASED else str(path),
        sha256=sha256_of(path),
    )
