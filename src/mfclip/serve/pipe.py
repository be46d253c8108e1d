"""Messages between two processes: a JSON header and arrays. Nothing that is read can run code."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

MAX_BYTES = 1 << 30
"""Of a message; more is taken for damage."""

TYPES = ("float32", "int64", "uint8")

Read = Callable[[int], bytes]
"""Returns exactly so many bytes, or raises."""


def send(stream: BinaryIO, header: dict[str, Any], *arrays: NDArray[Any]) -> None:
    """Write one message.

    Args:
        stream: to the other process.
        header: anything that JSON can say; the key ``arrays`` is taken.
        arrays: of one of `TYPES`.
    """
    shapes = [[array.dtype.name, *array.shape] for array in arrays]
    text = json.dumps({**header, "arrays": shapes}).encode()
    stream.write(len(text).to_bytes(4, "big") + text)
    for array in arrays:
        stream.write(np.ascontiguousarray(array).tobytes())
    stream.flush()


def receive(read: Read) -> tuple[dict[str, Any], list[NDArray[Any]]]:
    """Read one message.

    Raises:
        ValueError: it is malformed or too long.
    """
    header = json.loads(read(_checked(int.from_bytes(read(4), "big"))))
    if not isinstance(header, dict):
        raise ValueError("expected an object")
    return header, [_read_array(read, shape) for shape in header.pop("arrays")]


def _read_array(read: Read, description: Sequence[Any]) -> NDArray[Any]:
    name, *shape = description
    if name not in TYPES or not all(isinstance(side, int) and side >= 0 for side in shape):
        raise ValueError(f"expected an array of {TYPES}, but got {description}")
    dtype = np.dtype(name)
    content = read(_checked(math.prod(shape) * dtype.itemsize))
    return np.frombuffer(content, dtype).reshape(shape)


def _checked(size: int) -> int:
    if size > MAX_BYTES:
        raise ValueError(f"expected at most {MAX_BYTES} bytes, but got {size}")
    return size
