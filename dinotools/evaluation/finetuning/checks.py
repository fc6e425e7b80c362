"""Options that cannot work, found before anything is written."""

from __future__ import annotations

from dinotools.configs.finetuning import FinetuneConfig
from dinotools.features.network import check_sizes
from dinotools.runtime.errors import require

POSITIVE = ("epochs", "accumulate", "repeats", "eval_every", "lr", "layer_decay")
NOT_NEGATIVE = (
    *("warmup_epochs", "warmup_lr", "min_lr", "weight_decay", "head_init_scale"),
    *("randaugment_ops", "mixup", "cutmix"),
)
SHARES = ("erasing", "label_smoothing", "layer_decay")
BELOW_ONE = ("drop_path_rate", "ema_decay")


def check_config(config: FinetuneConfig) -> None:
    """Refuses values that cannot work.

    Raises:
        DinotoolsError: naming the option.
    """
    check_sizes(config)
    values = vars(config)
    for name in POSITIVE:
        require(values[name] > 0, f"is {values[name]}", name, "It must be above 0.")
    for name in NOT_NEGATIVE:
        require(values[name] >= 0, f"is {values[name]}", name, "It must not be below 0.")
    for name in SHARES:
        require(0 <= values[name] <= 1, f"is {values[name]}", name, "It must lie between 0 and 1.")
    for name in BELOW_ONE:
        require(0 <= values[name] < 1, f"is {values[name]}", name, "It must be at least 0 and below 1.")
    low, high = config.crop_scale
    require(0 < low <= high <= 1, f"is {low},{high}", "crop_scale", "Write two shares of the area, such as 0.08,1.")
    magnitude = config.randaugment_magnitude
    require(0 <= magnitude <= 10, f"is {magnitude}", "randaugment_magnitude", "It must lie between 0 and 10.")
    warmup, epochs = config.warmup_epochs, config.epochs
    wide = f"a warm-up of {warmup} epochs does not fit into {epochs}"
    require(warmup <= epochs, wide, "warmup_epochs", f"Use at most {epochs}.")
    for name in ("accumulate", "repeats"):
        more = f"{values[name]} of the {config.batch_size} images of a step"
        require(values[name] <= config.batch_size, more, name, f"Use at most {config.batch_size}.")


def check_images(config: FinetuneConfig, n_images: int, n_classes: int) -> None:
    """Refuses data from which nothing can be learned.

    Raises:
        DinotoolsError: fewer images than --batch-size, or a single class.
    """
    few = f"a step takes {config.batch_size} images, and there are only {n_images}"
    require(n_images >= config.batch_size, few, "batch_size", f"Use at most {n_images}.")
    require(n_classes > 1, "all training images are of one class", "data", "A classifier needs two classes at least.")
