"""Options that cannot work, found before anything is written."""

from __future__ import annotations

from dinotools.configs.pretraining import PretrainConfig
from dinotools.models.vit import SIZES
from dinotools.runtime.errors import require

POSITIVE = (
    *("epochs", "batch_size", "save_every", "knn_k"),
    *("patch_size", "out_dim", "head_layers", "head_hidden_dim", "head_bottleneck_dim"),
    *("teacher_temp", "warmup_teacher_temp", "student_temp"),
    *("global_crop_size", "local_crop_size"),
)
NOT_NEGATIVE = (
    *("lr", "min_lr", "weight_decay", "weight_decay_end", "clip_grad", "warmup_epochs", "freeze_last_layer"),
    *("seed", "local_crops_number", "warmup_teacher_temp_epochs", "knn_every", "keep_every", "save_minutes"),
)
SHARES = ("momentum_teacher", "center_momentum", "max_bad")


def check_config(config: PretrainConfig) -> None:
    """Refuses values that cannot work.

    Raises:
        DinotoolsError: naming the option.
    """
    for name in POSITIVE:
        require(getattr(config, name) > 0, f"is {getattr(config, name)}", name, "It must be above 0.")
    for name in NOT_NEGATIVE:
        require(getattr(config, name) >= 0, f"is {getattr(config, name)}", name, "It must not be below 0.")
    for name in SHARES:
        require(0 <= getattr(config, name) <= 1, f"is {getattr(config, name)}", name, "It must lie between 0 and 1.")
    for name in ("global_crops_scale", "local_crops_scale"):
        low, high = getattr(config, name)
        require(0 < low <= high <= 1, f"is {low},{high}", name, "Write two shares of the area, such as 0.4,1.")
    rate, (low, high), size = config.drop_path_rate, config.blur_radius, config.knn_resize_size
    require(0 <= rate < 1, f"is {rate}", "drop_path_rate", "It must be at least 0 and below 1.")
    require(0 <= low <= high, f"is {low},{high}", "blur_radius", "Write two radii in pixels, such as 0.1,2.")
    require(size is None or size > 0, f"is {size}", "knn_resize_size", "It must be above 0.")
    for name in ("warmup_epochs", "warmup_teacher_temp_epochs"):
        require(
            getattr(config, name) <= config.epochs,
            f"a warm-up of {getattr(config, name)} epochs does not fit into {config.epochs}",
            name,
            f"Use at most {config.epochs}.",
        )
    if config.arch in SIZES:
        crops = ["global_crop_size"] + (["local_crop_size"] if config.local_crops_number else [])
        for name in crops:
            size = getattr(config, name)
            require(
                size >= config.patch_size,
                f"a crop of {size} pixels is smaller than a patch of {config.patch_size}",
                name,
                "Use larger crops or a smaller --patch-size.",
            )


def check_images(config: PretrainConfig, n_images: int) -> None:
    """Refuses data sets too small for one step.

    Raises:
        DinotoolsError: fewer images than --batch-size.
    """
    require(
        n_images >= config.batch_size,
        f"a step takes {config.batch_size} images, and there are only {n_images}",
        "batch_size",
        f"Use at most {n_images}.",
    )
