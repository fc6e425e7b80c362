"""``dinotools models list`` and ``dinotools models info``: what there is, and what a file holds."""

from __future__ import annotations

from dataclasses import asdict

from dinotools.configs.models import InfoConfig, ListConfig
from dinotools.models.checkpoint_files import few
from dinotools.models.checkpoints import describe
from dinotools.models.zoo import WEIGHTS, ZOO, ReleasedNetwork
from dinotools.runtime.results import Result
from dinotools.runtime.run_log import read_log


def list_models(config: ListConfig) -> Result:
    """The released networks, with the paper's ImageNet accuracies (Table 2)."""
    rows = [
        {
            "name": network.name,
            "arch": network.arch,
            "patch": network.patch_size,
            "k-NN %": network.knn_top1,
            "linear %": network.linear_top1,
            "note": _note(network),
        }
        for network in ZOO.values()
    ]
    return Result(
        title="Released networks · ImageNet top-1 from the paper, Table 2",
        rows=rows,
        metrics={network.name: asdict(network) for network in ZOO.values()},
    )


def _note(network: ReleasedNetwork) -> str:
    """What is to be said of a network; of one that ships with dinotools, the k-NN accuracy at the end of its log."""
    log = read_log(WEIGHTS / f"{network.name}.jsonl")
    measured = [record["knn_teacher"] for record in log if "knn_teacher" in record]
    return network.note + (f"; k-NN {measured[-1]:.1f} % there" if measured else "")


def describe_model(config: InfoConfig) -> Result:
    """What a checkpoint holds, and whether it loads.

    Raises:
        DinotoolsError: no weights can be found in it.
    """
    described = describe(config.ckpt)
    told = {name: value for name, value in described.items() if value not in (None, []) and name != "source"}
    rows = [{"property": name, "value": _shown(value)} for name, value in told.items()]
    return Result(title=str(described["source"]), rows=rows, metrics=described)


def _shown(value: object) -> str:
    if isinstance(value, list):
        return few(value, n=10)
    return f"{value:,}" if isinstance(value, int) else str(value)
