"""Options that cannot work, or are known to fail, found before anything is written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dinotools.configs.crops import N_GLOBAL
from dinotools.configs.pretraining import PretrainConfig
from dinotools.data.epoch_order import quotas
from dinotools.models.vit import SIZES
from dinotools.runtime import distributed
from dinotools.runtime.errors import DinotoolsError, require

POSITIVE = (
    *("epochs", "batch_size", "accumulate", "save_every", "knn_k", "gpus", "nodes", "hours", "in_chans"),
    *("patch_size", "out_dim", "head_layers", "head_hidden_dim", "sinkhorn_iterations", "queue_size"),
    *("teacher_temp", "warmup_teacher_temp", "student_temp"),
    *("global_crop_size", "local_crop_size"),
)
POSITIVE_IF_GIVEN = ("knn_resize_size", "epoch_images", "num_heads")
NOT_NEGATIVE = (
    *("lr", "min_lr", "weight_decay", "weight_decay_end", "clip_grad", "warmup_epochs", "freeze_last_layer"),
    *("seed", "local_crops_number", "warmup_teacher_temp_epochs", "knn_every", "keep_every", "save_minutes"),
    "head_bottleneck_dim",
)
SHARES = ("momentum_teacher", "center_momentum", "max_bad")

# peak rates after scaling with the batch: an order of magnitude above the official ones (0.002 with AdamW and 1,024
# images, 0.48 with SGD and 4,080)
UNSAFE_LR = {"adamw": 0.02, "sgd": 5.0, "lars": 20.0}
UNSAFE_TEACHER_TEMP = 0.08  # paper, appendix D: 0.06 still learns, 0.08 does not (k-NN 0.1 %)
UNSAFE_CENTER_MOMENTUM = 0.999  # the same: k-NN 0.1 %


def check_config(config: PretrainConfig) -> None:
    """Refuses values that cannot work, and without --force values that are known to fail.

    Raises:
        DinotoolsError: naming the option.
    """
    for name in POSITIVE:
        require(getattr(config, name) > 0, f"is {getattr(config, name)}", name, "It must be above 0.")
    for name in POSITIVE_IF_GIVEN:
        value = getattr(config, name)
        require(value is None or value > 0, f"is {value}", name, "It must be above 0.")
    for name in NOT_NEGATIVE:
        require(getattr(config, name) >= 0, f"is {getattr(config, name)}", name, "It must not be below 0.")
    for name in SHARES:
        require(0 <= getattr(config, name) <= 1, f"is {getattr(config, name)}", name, "It must lie between 0 and 1.")
    for name in ("global_crops_scale", "local_crops_scale"):
        low, high = getattr(config, name)
        require(0 < low <= high <= 1, f"is {low},{high}", name, "Write two shares of the area, such as 0.4,1.")
    rate, (low, high) = config.drop_path_rate, config.blur_radius
    require(0 <= rate < 1, f"is {rate}", "drop_path_rate", "It must be at least 0 and below 1.")
    require(0 <= low <= high, f"is {low},{high}", "blur_radius", "Write two radii in pixels, such as 0.1,2.")
    for name in ("warmup_epochs", "warmup_teacher_temp_epochs"):
        require(
            getattr(config, name) <= config.epochs,
            f"a warm-up of {getattr(config, name)} epochs does not fit into {config.epochs}",
            name,
            f"Use at most {config.epochs}.",
        )
    _check_crops(config)
    _check_channels(config)
    _check_loss(config)
    _check_ranks(config)
    if not config.force:
        for what, option, remedy in unsafe(config):
            raise DinotoolsError(what, "--" + option.replace("_", "-"), f"{remedy}, or add --force.")


def unsafe(config: PretrainConfig) -> Iterator[tuple[str, str, str]]:
    """Values that are known to fail: what is wrong, the option's name, and the remedy."""
    lr, limit = config.lr * config.batch_size / 256, UNSAFE_LR[config.optimizer]
    if lr > limit:
        yield f"peaks at {lr:.3g} after scaling with the batch, more than {limit:g}", "lr", "Lower it"
    if config.loss != "ce":
        return
    hottest = max(config.teacher_temp, config.warmup_teacher_temp)
    if hottest >= min(UNSAFE_TEACHER_TEMP, config.student_temp):
        why = "the teacher is hardly sharper than the student and collapses to the uniform distribution"
        yield f"reaches {hottest:g}: {why}", "teacher_temp", "Stay at 0.07 or below, and below --student-temp"
    if config.centering == "none":
        why = "without centring one dimension wins (Fig. 7)"
        yield f"is none: {why}", "centering", "Use center, sinkhorn or batch-softmax"
    if config.centering == "center" and config.center_momentum >= UNSAFE_CENTER_MOMENTUM:
        yield f"is {config.center_momentum:g}: so slow a centre collapses", "center_momentum", "Use 0.9 to 0.99"
    if config.centering == "center" and config.teacher in ("student", "previous-iteration"):
        why = "so young a teacher collapses with plain centring (Fig. 6)"
        yield f"is {config.teacher}: {why}", "teacher", "Use momentum, or --centering sinkhorn"


def _check_crops(config: PretrainConfig) -> None:
    sizes = config.crop_sizes
    if config.arch in SIZES:
        named = {sizes[0]: "global_crop_size"} | dict.fromkeys(sizes[N_GLOBAL:], "local_crop_size")
        for size, name in named.items():
            require(
                size >= config.patch_size,
                f"a crop of {size} pixels is smaller than a patch of {config.patch_size}",
                name if config.crops is None else "crops",
                "Use larger crops or a smaller --patch-size.",
            )


def _check_channels(config: PretrainConfig) -> None:
    given = {"channel_mean": config.channel_mean, "channel_std": config.channel_std}
    for name, values in given.items():
        require(
            len(values) in (0, config.in_chans) and bool(values) == bool(config.channel_mean),
            f"has {len(values)} values for {config.in_chans} channels",
            name,
            "Write one value for each channel; `dinotools data stats` prints both.",
        )
    require(
        config.in_chans == 3 or bool(config.channel_mean),
        f"has no mean and deviation for {config.in_chans} channels",
        "channel_mean",
        "`dinotools data stats` prints them.",
    )
    require(all(s > 0 for s in config.channel_std), "has values that are not above 0", "channel_std", "Mend them.")


def _check_loss(config: PretrainConfig) -> None:
    allowed = {"ce": ("center", "batch-softmax", "sinkhorn", "none"), "mse": ("center", "none"), "infonce": ("none",)}
    require(
        config.centering in allowed[config.loss],
        f"is {config.centering}, which --loss {config.loss} does not know",
        "centering",
        f"Use {' or '.join(allowed[config.loss])}.",
    )
    require(
        config.accumulate == 1 or config.centering in ("center", "none"),
        f"is {config.accumulate}, and --centering {config.centering} needs the whole batch at once",
        "accumulate",
        "Use --accumulate 1 and --checkpoint-activations, which saves memory too.",
    )
    queue_gib = config.out_dim * config.queue_size * 4 / 2**30
    require(
        config.loss != "infonce" or queue_gib <= 4,
        f"is {config.out_dim}, which makes --queue-size {config.queue_size} a queue of {queue_gib:.0f} GiB",
        "out_dim",
        "Use 128, as MoCo-v2 does: --preset moco-v2.",
    )
    require(
        config.accumulate == 1 or config.loss != "infonce",
        f"is {config.accumulate}, and --loss infonce fills its queue once a step",
        "accumulate",
        "Use --accumulate 1.",
    )


def _check_ranks(config: PretrainConfig) -> None:
    """The images of a step must be shared out evenly: to the ranks, and there to the parts."""
    for name, value in (("nodes", 1), ("partition", None), ("slurm_options", ())):
        require(config.slurm or getattr(config, name) == value, "is for Slurm alone", name, "Add --slurm.")
    ranks = max(distributed.world_size(), config.gpus * config.nodes)
    require(
        config.batch_size >= ranks,
        f"{config.batch_size} images a step cannot be shared by {ranks} processes",
        "batch_size",
        f"Use at least {ranks}.",
    )
    require(
        config.batch_size % (ranks * config.accumulate) == 0,
        f"{config.batch_size} images a step cannot be cut into {ranks * config.accumulate} equal parts "
        f"({ranks} process(es) x --accumulate {config.accumulate})",
        "batch_size",
        f"Use a multiple of {ranks * config.accumulate}.",
    )


def check_images(config: PretrainConfig, sizes: Sequence[int]) -> None:
    """Refuses data sets too small for one step, and weights that do not fit them.

    Args:
        config: the options.
        sizes: images of each part of the data set.

    Raises:
        DinotoolsError: an epoch has fewer images than --batch-size, or --data-weights are not one for each part.
    """
    per_epoch = config.epoch_images or sum(sizes)
    require(
        per_epoch >= config.batch_size,
        f"a step takes {config.batch_size} images, and an epoch has only {per_epoch}",
        "batch_size",
        f"Use at most {per_epoch}.",
    )
    if config.data_weights:
        quotas(config.data_weights, len(sizes), per_epoch)
