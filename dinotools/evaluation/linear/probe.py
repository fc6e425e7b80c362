"""Linear evaluation of frozen features: ``dinotools linear``, in the protocol that the options name.

``paper`` trains one classifier on augmented images (``paper.py``), ``cached`` a grid on features extracted once
(``cached.py``), ``--evaluate`` scores one that is there: a file of either, or one that the authors released.

    dinotools linear --ckpt dino_vits16 --data /datasets/imagenet --evaluate dino_vits16
"""

from __future__ import annotations

from dinotools.configs.linear import LinearConfig
from dinotools.evaluation.linear import cached, paper
from dinotools.evaluation.linear.evaluate import evaluate
from dinotools.features.network import check_sizes
from dinotools.runtime import device
from dinotools.runtime.errors import require
from dinotools.runtime.results import Result


def run(config: LinearConfig) -> Result:
    """Checks the options and hands over to the protocol.

    Raises:
        DinotoolsError: options contradict each other; checkpoint, data or classifier cannot be used.
        RunFailed: the training diverged, or a feature is not finite.
    """
    check_config(config)
    runtime = device.prepare(config.device, config.precision, config.workers, config.seed)
    if config.evaluate is not None:
        return evaluate(config, runtime)
    return cached.run(config, runtime) if config.protocol == "cached" else paper.run(config, runtime)


def check_config(config: LinearConfig) -> None:
    """Refuses options that mean nothing, alone or together.

    Raises:
        DinotoolsError: names the option.
    """
    check_sizes(config)
    for name in ("epochs", "train_batch_size"):
        require(getattr(config, name) > 0, f"is {getattr(config, name)}", name, "It must be above 0.")
    for name, rates in (("lr", (1.0 if config.lr is None else config.lr,)), ("lrs", config.lrs)):
        require(bool(rates) and min(rates) > 0, f"is {','.join(map(str, rates))}", name, "It must be above 0.")
    require(0 < config.holdout <= 0.5, f"is {config.holdout}", "holdout", "It must lie between 0 and a half.")
    require(all(n > 0 for n in config.n_last_blocks), "counts from 1", "n_last_blocks", "Use 1 or 4.")
    grid = config.protocol == "cached" and config.evaluate is None
    if grid:
        require(config.lr is None, "is one learning rate, but the grid has several", "lr", "Use --lrs.")
        require(not config.resume, "goes with --protocol paper", "resume", "Use --cache to keep the features.")
        return
    require(len(config.n_last_blocks) < 2, "several need a grid", "n_last_blocks", "Use --protocol cached.")
    require(config.cache is None, "is for grids of features", "cache", "Use --protocol cached, or leave it out.")
    if config.evaluate is not None:
        require(not config.resume, "trains, but --evaluate does not", "resume", "Leave one of them out.")
        return
    require(
        config.features is None,
        "the paper's protocol augments images, which stored features cannot be",
        "features",
        "Use --protocol cached, or give --ckpt and --data.",
    )
    require(not config.resume or config.out is not None, "needs the run's directory", "resume", "Add --out.")
