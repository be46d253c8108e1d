"""Messages between two processes: a JSON header and arrays. Nothing that is read can run code."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_PART_BYTES = 1 << 30
"""Of a part of a message; more is taken for damage."""

TYPES = ("float32", "int64", "uint8")

Read = Callable[[], bytes]
"""Returns the next part of a message, or raises."""


def send(line: Connection, header: dict[str, Any], *arrays: NDArray[Any]) -> None:
    """Write one message.

    Args:
        line: to the other process.
        header: anything that JSON can say; the key ``arrays`` is taken.
        arrays: of one of `TYPES`.
    """
    shapes = [[array.dtype.name, *array.shape] for array in arrays]
    line.send_bytes(json.dumps({**header, "arrays": shapes}).encode())
    for array in arrays:
        line.send_bytes(np.ascontiguousarray(array).tobytes())


def receive(read: Read) -> tuple[dict[str, Any], list[NDArray[Any]]]:
    """Read one message.

    Raises:
        ValueError: it is malformed or too long.
    """
    header = json.loads(read())
    if not isinstance(header, dict):
        raise ValueError("expected an object")
    return header, [_read_array(read, shape) for shape in header.pop("arrays")]


def _read_array(read: Read, description: Sequence[Any]) -> NDArray[Any]:
    name, *shape = description
    if name not in TYPES or not all(isinstance(side, int) and side >= 0 for side in shape):
        raise ValueError(f"expected an array of {TYPES}, but got {description}")
    content = read()
    if len(content) != math.prod(shape) * np.dtype(name).itemsize:
        raise ValueError(f"expected {description}, but got {len(content)} bytes")
    return np.frombuffer(content, np.dtype(name)).reshape(shape).copy()
