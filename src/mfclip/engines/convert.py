"""A graph to ONNX: what onnxruntime runs and OpenVINO reads."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from mfclip.engines.graph import INPUT, VisionGraph
from mfclip.errors import ConfigError, require

OPSET = 17


def to_onnx(graph: VisionGraph) -> bytes:
    """Turn a graph into an ONNX file with any batch size.

    The exporter by tracing takes half a second where the newer one takes seven.

    Raises:
        ConfigError: the detector uses an operation that ONNX lacks.
        MissingExtraError: onnx is not installed.
    """
    require("onnx", extra="export")
    size = graph.facts.image_size
    example = torch.linspace(0, 1, 2 * 3 * size * size).view(2, 3, size, size)
    buffer = io.BytesIO()
    with warnings.catch_warnings(), _without_graph_dump(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                graph,
                (example,),
                buffer,  # type: ignore[arg-type]  # the annotation forgets files
                dynamo=False,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=graph.outputs,
                dynamic_axes={name: {0: "batch"} for name in [INPUT, *graph.outputs]},
            )
        except torch.onnx.errors.OnnxExporterError as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(f"this detector runs with engine torch only: {reason}") from error
    return buffer.getvalue()


@contextmanager
def _without_graph_dump() -> Iterator[None]:
    """Keep the exporter from printing the whole graph where an operation is missing."""
    native: Any = torch._C
    log = getattr(native, "_jit_onnx_log", None)
    native._jit_onnx_log = lambda *_: None
    try:
        yield
    finally:
        native._jit_onnx_log = log
