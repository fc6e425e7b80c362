"""Weights into a network, each into its place and none left over."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dinotools.models.checkpoint_files import few
from dinotools.runtime.errors import DinotoolsError


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], name: str, where: object) -> None:
    """Copies tensors into a module, each into its place and none left over; half precision is widened.

    Args:
        module: what is filled.
        tensors: its state dict; batch counters, which old files lack, may be missing.
        name: what an error calls the module.
        where: what an error names as the place.

    Raises:
        DinotoolsError: tensors are missing, unexpected, or of another shape or kind; the module is left untouched.
    """
    wanted = module.state_dict()
    missing = [n for n in wanted if n not in tensors and not n.endswith("num_batches_tracked")]
    unexpected = [n for n in tensors if n not in wanted]
    shared = [n for n in wanted if n in tensors]
    wrong = [
        f"{n} is {_form(tensors[n])}, not {_form(wanted[n])}" for n in shared if _form(tensors[n]) != _form(wanted[n])
    ]
    faults = {"missing": missing, "unexpected": unexpected, "wrong": wrong}
    if any(faults.values()):
        told = "; ".join(f"{fault} {few(names)}" for fault, names in faults.items() if names)
        raise DinotoolsError(
            f"its weights do not fit {name}: {told}",
            where,
            "See `dinotools models info`, or name the network with --arch and --patch-size.",
        )
    module.load_state_dict(dict(tensors))


def _form(tensor: Tensor) -> str:
    """Shape and kind of number, but not the precision: half-precision weights are welcome, integer ones are not."""
    return f"{list(tensor.shape)}" + ("" if tensor.is_floating_point() else f" {dtype_name(tensor.dtype)}")


def dtype_name(dtype: torch.dtype) -> str:
    """As in ``torch.float16``, without the ``torch``."""
    return str(dtype).removeprefix("torch.")
