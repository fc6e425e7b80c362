"""Colours and blur of many crops at once, each with its own parameters, on any device.

Every operation does what Pillow does, and torchvision with Pillow's images: after each one the values are whole and
within 0..255, luma has integer weights, hue and saturation are bytes, the Gaussian blur is three extended box blurs a
direction. float32 holds whole numbers exactly, so devices and reader processes make the same crops up to rounding.

    table = [row(crop) for crop in crops]
    for each of the four places of colour jitter, then gray, blur, solarize:
        for each operation: crops[those that have it there] = operation(these crops, their factors)

Which crops those are is worked out from the table before anything is sent, so that no step waits for the device.
"""

from __future__ import annotations

import math
from collections import defaultdict

import torch
import torch.nn.functional as F
from torch import Tensor

JITTER = ("brightness", "contrast", "saturation", "hue")
PLACES = len(JITTER)
HUE, NONE = JITTER.index("hue"), -1
GRAY, RADIUS, SOLARIZE = range(2 * PLACES, 2 * PLACES + 3)
COLUMNS = SOLARIZE + 1
BLUR_PASSES = 3


def row(jitter: tuple[tuple[str, float], ...], gray: bool, blur_radius: float | None, solarize: bool) -> list[float]:
    """The parameters of one crop as numbers: operation at each place, factor at each place, gray, radius, solarize."""
    missing = PLACES - len(jitter)
    operations = [float(JITTER.index(name)) for name, _ in jitter] + [float(NONE)] * missing
    factors = [factor for _, factor in jitter] + [0.0] * missing
    return [*operations, *factors, float(gray), blur_radius or 0.0, float(solarize)]


def apply(crops: Tensor, table: list[list[float]]) -> Tensor:
    """Carries out the photometric steps of every crop.

    Args:
        crops: (n, 3, H, W) uint8; float32, or another number of channels, where the table holds nothing but blur. Whole
            numbers are rounded after each pass of the blur, float32 is not.
        table: one ``row`` per crop.

    Returns:
        New crops of the same shape, type and device; those with an empty row are unchanged.
    """
    steps = _steps(table)
    if not steps:
        return crops.clone()
    whole = not crops.is_floating_point()
    values = crops.to(torch.float32, copy=True)
    sizes = [len(members) for members in steps.values()]
    members = [member for group in steps.values() for member in group]
    all_rows = _send(torch.tensor([index for index, _ in members], dtype=torch.int64), crops.device)
    all_numbers = _send(torch.tensor([numbers for _, numbers in members], dtype=torch.float32), crops.device)
    for step, rows, numbers in zip(steps, all_rows.split(sizes), all_numbers.split(sizes), strict=True):
        if len(rows) == len(values):
            values = _carry_out(step, values, numbers, whole)
        else:
            values.index_copy_(0, rows, _carry_out(step, values.index_select(0, rows), numbers, whole))
    if whole:
        values = values.to(torch.int16)  # from float32 straight to uint8 takes a CPU five times as long
    return values.to(crops.dtype)


def _steps(table: list[list[float]]) -> dict[tuple[int, int], list[tuple[int, tuple[float, float]]]]:
    """(place, operation) in the order of the work -> the crops that have it, each with its parameters."""
    steps: dict[tuple[int, int], list[tuple[int, tuple[float, float]]]] = defaultdict(list)
    for index, parameters in enumerate(table):
        for place in range(PLACES):
            operation, factor = int(parameters[place]), parameters[PLACES + place]
            if operation == HUE:
                factor = int(factor * 255) % 256  # a byte that wraps, as torchvision turns hues
            if operation != NONE:
                steps[place, operation].append((index, (factor, 0.0)))
        if parameters[GRAY]:
            steps[GRAY, 0].append((index, (0.0, 0.0)))
        if parameters[RADIUS]:
            reach, *weights = box(parameters[RADIUS])
            steps[RADIUS, reach].append((index, (weights[0], weights[1])))
        if parameters[SOLARIZE]:
            steps[SOLARIZE, 0].append((index, (0.0, 0.0)))
    return dict(sorted(steps.items()))


def _send(tensor: Tensor, device: torch.device) -> Tensor:
    if device.type == "cuda" and torch.cuda.is_available():
        tensor = tensor.pin_memory()  # or the copy waits for what the device is doing
    return tensor.to(device, non_blocking=True)


def _carry_out(step: tuple[int, int], crops: Tensor, numbers: Tensor, whole: bool) -> Tensor:
    place, operation = step
    first, second = numbers[:, :, None, None, None].unbind(dim=1)
    if place == GRAY:
        return luma(crops).expand_as(crops).contiguous()
    if place == RADIUS:
        return blur(crops, first, second, reach=operation, whole=whole)
    if place == SOLARIZE:
        return torch.minimum(crops, 255 - crops)  # inverts from 128 upwards: those become smaller
    return (brightness, contrast, saturation, hue)[operation](crops, first)


def _blend(degenerate: Tensor, crops: Tensor, factor: Tensor) -> Tensor:
    """Pillow's ``Image.blend``: from what has lost a quality, past the crop that has it, rounded down."""
    return (crops - degenerate).mul_(factor).add_(degenerate).clamp_(0, 255).floor_()


def luma(crops: Tensor) -> Tensor:
    """(n, 3, H, W) -> (n, 1, H, W): ITU-R 601 in weights of 16 bits, as Pillow's mode L; exact in float32."""
    r, g, b = crops.split(1, dim=1)
    return (r * (19595 / 65536)).add_(g, alpha=38470 / 65536).add_(b, alpha=7471 / 65536).add_(0.5).floor_()


def brightness(crops: Tensor, factor: Tensor) -> Tensor:
    """Blends with black."""
    return (crops * factor).clamp_(max=255).floor_()


def contrast(crops: Tensor, factor: Tensor) -> Tensor:
    """Blends with the mean gray of each crop."""
    return _blend(luma(crops).mean(dim=(1, 2, 3), keepdim=True).add_(0.5).floor_(), crops, factor)


def saturation(crops: Tensor, factor: Tensor) -> Tensor:
    """Blends with the crop without colour."""
    return _blend(luma(crops), crops, factor)


def hue(crops: Tensor, shift: Tensor) -> Tensor:
    """Turns hues by 256ths of a circle: to Pillow's HSV in bytes and back.

    Whole numbers allow arithmetic in place of a selection: on a CPU ``torch.where`` takes as long as all the rest.
    """
    value = crops.amax(dim=1)
    chroma = value - crops.amin(dim=1)
    below = value[:, None] - crops  # 0 in the greatest channel
    r, g, b = (below / chroma.clamp(min=1)[:, None]).unbind(dim=1)
    not_r, not_g, _ = below.clamp_(max=1).unbind(dim=1)
    circle = torch.lerp(b - g, torch.lerp((r - b).add_(2), (g - r).add_(4), not_g), not_r).div_(6)
    byte = circle.sub_(circle.floor()).mul_(255).floor_().add_(shift[:, 0])
    turned = byte.sub_((byte / 256).floor_(), alpha=256).mul_(6 / 255)
    strength = (chroma / value.clamp(min=1)).mul_(255).floor_().mul_(value).div_(255)
    lost = torch.stack([turned - 3, turned - 2, turned - 4], dim=1).abs_().sub_(1).clamp_(0, 1)
    lost[:, 0].neg_().add_(1)
    return lost.mul_(strength.neg_()[:, None]).add_(value.add_(0.5)[:, None]).floor_()


def box(radius: float) -> tuple[int, float, float]:
    """The box whose threefold blur has the deviation of a Gaussian, as Pillow's ``GaussianBlur`` takes it.

    Source: Gwosdek et al., "Theoretical Foundations of Gaussian Convolution by Extended Box Filtering", 2011.

    Args:
        radius: that deviation in pixels.

    Returns:
        Whole pixels on either side of the centre, the weight of all those, the weight of the next one.
    """
    variance = radius**2 / BLUR_PASSES
    reach = int((math.sqrt(12 * variance + 1) - 1) / 2)
    fraction = (2 * reach + 1) * (reach * (reach + 1) - 3 * variance) / (6 * (variance - (reach + 1) ** 2))
    weight = 1 / (2 * (reach + fraction) + 1)
    return reach, weight, (1 - (2 * reach + 1) * weight) / 2


def blur(crops: Tensor, centre: Tensor, edge: Tensor, reach: int, whole: bool = True) -> Tensor:
    """Three box blurs along the rows, then three along the columns; beyond the rim its own pixels go on."""
    margin = reach + 1
    for dim, padding in ((-1, (margin, margin, 0, 0)), (-2, (0, 0, margin, margin))):
        length = crops.shape[dim]
        for _ in range(BLUR_PASSES):
            padded = F.pad(crops, padding, mode="replicate")
            parts = [padded.narrow(dim, start, length) for start in range(2 * margin + 1)]
            for part in parts[1:margin] + parts[margin + 1 : -1]:
                crops = crops + part
            crops = (parts[0] + parts[-1]).mul_(edge).addcmul_(crops, centre)
            if whole:
                crops.round_()
    return crops
