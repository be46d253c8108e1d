"""The three networks of MTCNN in OpenVINO: the same weights and values, about twice as fast.

The graphs are built from PyTorch's layers, one by one, in a tenth of a second; nothing is exported.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from mfclip.errors import require
from mfclip.media.mtcnn import Array, Cascade, load_cascade
from mfclip.runtime.openvino import openvino_core
from mfclip.runtime.provenance import usable_cores


class OpenVinoCascade:
    """See `mfclip.media.mtcnn.Networks`; may be used by several threads, each on a core of its own.

    Args:
        cascade: whose weights are taken.

    Raises:
        MissingExtraError: openvino is not installed.
    """

    def __init__(self, cascade: Cascade) -> None:
        proposal, refinement, output = cascade
        self._proposal = _Network(proposal.features, (proposal.box, proposal.face))
        heads = (refinement.box, refinement.face)
        self._refinement = _Network(refinement.features, heads, refinement.dense)
        self._output = _Network(
            output.features, (output.box, output.landmarks, output.face), output.dense
        )

    def propose(self, images: NDArray[np.uint8]) -> tuple[Array, Array]:
        """See `mfclip.media.mtcnn.Networks`."""
        offsets, faces = self._proposal(images)
        return offsets, faces[:, 1]

    def refine(self, patches: NDArray[np.uint8]) -> tuple[Array, Array]:
        """See `mfclip.media.mtcnn.Networks`."""
        offsets, faces = self._refinement(patches)
        return offsets, faces[:, 1]

    def place(self, patches: NDArray[np.uint8]) -> tuple[Array, Array, Array]:
        """See `mfclip.media.mtcnn.Networks`."""
        offsets, landmarks, faces = self._output(patches)
        return offsets, landmarks.reshape(-1, 2, 5), faces[:, 1]


@cache
def load_openvino_cascade() -> OpenVinoCascade:
    """Build the networks with the weights that come with this package, once for all.

    Raises:
        MissingExtraError: openvino is not installed.
    """
    return OpenVinoCascade(load_cascade())


class _Network:
    """One network, compiled for inputs of any size; the last head becomes probabilities."""

    def __init__(
        self,
        features: nn.Sequential,
        heads: tuple[nn.Module, ...],
        dense: nn.Sequential | None = None,
    ) -> None:
        openvino = require("openvino", extra="export")
        ops = openvino.opset8
        images = ops.parameter([-1, -1, -1, 3], np.uint8)
        pixels = ops.convert(ops.transpose(images, [0, 3, 1, 2]), "f32")
        scaled = ops.multiply(ops.subtract(pixels, np.float32(127.5)), np.float32(1 / 128))
        found = _append(ops, scaled, features)
        if dense is not None:
            # columns, rows, channels: the order the dense layers were trained with
            rows = ops.reshape(ops.transpose(found, [0, 3, 2, 1]), [0, -1], special_zero=True)
            found = _append(ops, rows, dense)
        values = [_append(ops, found, [head]) for head in heads]
        values[-1] = ops.softmax(values[-1], 1)
        model = openvino.Model([ops.result(value) for value in values], [images])
        settings = {
            # each thread that looks for faces has a core of its own, as the engine does
            "NUM_STREAMS": usable_cores(),
            "INFERENCE_NUM_THREADS": usable_cores(),
            "INFERENCE_PRECISION_HINT": "f32",
        }
        self._compiled = openvino_core().compile_model(model, "CPU", settings)
        self._own = threading.local()

    def __call__(self, images: NDArray[np.uint8]) -> list[Array]:
        if not hasattr(self._own, "request"):
            self._own.request = self._compiled.create_infer_request()
        found = self._own.request.infer([images])
        return [found[place].copy() for place in range(len(found))]


def _append(ops: Any, value: Any, layers: Iterable[nn.Module]) -> Any:
    """Put the layers of a network behind what there is of a graph."""
    for layer in layers:
        match layer:
            case nn.Conv2d(weight=weight, bias=bias):
                ones, none = [1, 1], [0, 0]
                value = ops.convolution(value, _numbers(weight), ones, none, none, ones)
                value = ops.add(value, _numbers(bias).reshape(1, -1, 1, 1))
            case nn.Linear(weight=weight, bias=bias):
                value = ops.matmul(value, _numbers(weight), transpose_a=False, transpose_b=True)
                value = ops.add(value, _numbers(bias))
            case nn.PReLU(weight=weight):
                value = ops.prelu(value, _numbers(weight))
            case nn.MaxPool2d(kernel_size=int(side), stride=int(step)):
                pool = ops.max_pool(
                    value, [step] * 2, [1, 1], [0, 0], [0, 0], [side] * 2, rounding_type="ceil"
                )
                value = pool.output(0)
            case _:
                raise TypeError(f"expected a layer of MTCNN, but got {type(layer).__name__}")
    return value


def _numbers(parameter: Any) -> Array:
    numbers: Array = parameter.detach().numpy()
    return numbers
