"""A graph to ONNX: what onnxruntime runs and OpenVINO reads."""

from __future__ import annotations

import io
import warnings

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
    # else it prints the whole graph when an operation is missing
    getattr(torch._C, "_jit_set_onnx_log_enabled", bool)(False)
    with warnings.catch_warnings(), torch.no_grad():
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
