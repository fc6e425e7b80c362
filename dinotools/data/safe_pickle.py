"""Plain data out of a pickle, without running any code that it may hold.

A pickle is a program that names functions and calls them. Here a name leads to one of the few constructors at the end
of this file or nowhere. Those that stand for NumPy's are not NumPy's own, which believe what a file says about the
layout of memory: they check it, and make plain values.
"""

from __future__ import annotations

import io
import pickle
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from dinotools.runtime.errors import DinotoolsError

DTYPES = re.compile(r"b1|[iu][1248]|f[248]|[SU][1-9]\d{0,5}|O8?")  # no structures, no dates
SHOWN = 80  # characters of a name that a file made up


def read_pickle(content: bytes, where: object) -> Any:
    """Reads a pickle of any protocol, of Python 2 as well, whose byte strings become text (latin-1).

    Args:
        content: what the file holds.
        where: what an error names as the place.

    Returns:
        Plain values and containers; an array is a list (nested as its dimensions; ``[]`` if any of them is 0) and a
        NumPy number is Python's. An allowed name that is not called stays an inert object: check types.

    Raises:
        DinotoolsError: it is no pickle, damaged, or asks for more than containers, text, numbers and arrays.
    """
    try:
        return _Unpickler(io.BytesIO(content), encoding="latin1").load()
    except _Refused as refused:
        raise DinotoolsError(
            f"refused: it asks for {refused}, which is no plain data and might run code",
            where,
            "If you trust it, open it in Python and save lists and numbers alone, or JSON.",
        ) from None
    except Exception as error:  # damaged bytes lead anywhere
        raise DinotoolsError("is no pickle, or a damaged one", where, "Download or copy it again.") from error


class _Refused(Exception):
    """Names what a pickle asks for and does not get."""

    def __init__(self, name: str) -> None:
        super().__init__(ascii(name)[1:-1][:SHOWN])  # no line breaks or terminal commands from a file


@dataclass(frozen=True)
class _Constructor:
    """What a name in a pickle leads to, made anew each time. To call it is all that a pickle can do with it."""

    make: Callable[..., Any]

    def __call__(self, *arguments: Any) -> Any:
        return self.make(*arguments)

    def __setstate__(self, state: object) -> None:  # or a pickle could set the attributes of what it named
        raise _Refused("changes to a function")


# The one in Python remembers in a dictionary; the one in C allocates whatever number of places a file mentions.
class _Unpickler(pickle._Unpickler):
    def find_class(self, module: str, name: str) -> _Constructor:
        if (module, name) not in CONSTRUCTORS:
            raise _Refused(f"{module}.{name}")
        return _Constructor(CONSTRUCTORS[module, name])

    def get_extension(self, code: int) -> None:  # a number for a name, which may be known without find_class
        raise _Refused(f"copyreg extension {code}")

    def load_bytearray8(self: Any) -> None:  # Python's own allocates what the file announces before it looks for it
        (size,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(size)))

    dispatch: ClassVar[Any] = pickle._Unpickler.dispatch | {pickle.BYTEARRAY8[0]: load_bytearray8}


class _Dtype:
    """Stands for a ``numpy.dtype``: a type and a byte order."""

    def __init__(self, code: Any, *_: object) -> None:
        if not isinstance(code, str) or not DTYPES.fullmatch(code):
            raise _Refused(f"numpy.dtype({code!r})" if isinstance(code, str) else "an odd numpy.dtype")
        self.code, self.byteorder = code, "="

    def __setstate__(self, state: Any) -> None:
        _, byteorder, subarray, names, fields, *_ = state  # of sizes and flags, the code says enough
        if byteorder not in ("<", ">", "=", "|") or not subarray is names is fields is None:
            raise _Refused("a structured numpy.dtype")
        self.byteorder = byteorder

    def read(self, data: Any, shape: Any, order: Literal["C", "F"] = "C") -> Any:
        """The values in memory of that layout as a list, or as one number if the shape is ()."""
        if 0 in shape:
            return []
        if self.code.startswith("O"):
            if not isinstance(data, list) or shape != (len(data),):
                raise _Refused("an array of objects in several dimensions")
            return data
        content = data.encode("latin1") if isinstance(data, str) else data  # Python 2 had one type for both
        if not isinstance(content, (bytes, bytearray)):
            raise TypeError("an array without memory")
        array = np.ndarray(shape, self.byteorder + self.code, content, order=order)  # or too little memory: TypeError
        return (np.char.decode(array, "latin1") if array.dtype.kind == "S" else array).tolist()


class _Array(list[Any]):
    """Stands for a ``numpy.ndarray``: comes empty, is then given its contents."""

    def __init__(self, *_: object) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, is_fortran, data = state
        self[:] = _values(data, dtype, shape, "F" if is_fortran else "C")


def _values(data: Any, dtype: Any, shape: Any = (), order: Any = "C") -> Any:
    if not isinstance(dtype, _Dtype) or not isinstance(shape, tuple) or order not in ("C", "F"):
        raise TypeError("an array without a layout")
    return dtype.read(data, shape, order)


def _scalar(dtype: Any, data: Any) -> Any:
    return _values(data, dtype)


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":  # the only one that pickles of bytes need; others are whole programs
        raise _Refused("_codecs.encode to another encoding")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    return b""


CONSTRUCTORS: dict[tuple[str, str], Callable[..., Any]] = {
    ("__builtin__", "bytes"): _no_bytes,  # these two are how protocols 0 to 2 write bytes
    ("_codecs", "encode"): _encode,
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Array,
}
for _core in ("numpy.core", "numpy._core"):  # before and since NumPy 2
    CONSTRUCTORS |= {
        (f"{_core}.multiarray", "_reconstruct"): _Array,
        (f"{_core}.multiarray", "scalar"): _scalar,
        (f"{_core}.numeric", "_frombuffer"): _values,  # protocol 5
    }
