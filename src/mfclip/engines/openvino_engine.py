"""OpenVINO as an engine, on the CPU."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mfclip.card import EngineName, Precision
from mfclip.engines.engine import Judged, ModelFacts
from mfclip.errors import ConfigError, WeightsError
from mfclip.runtime.openvino import openvino_core


class OpenVinoEngine:
    """Run a graph with OpenVINO, tuned for the answer to one batch at a time.

    Args:
        model: an OpenVINO model, or an ONNX file's bytes.
        facts: of the model.
        precision: ``bf16`` computes what is safe in bf16, where the processor has it; ``int8`` is
            a property of the model itself.

    Raises:
        ConfigError: the processor has no bf16.
        MissingExtraError: openvino is not installed.
        WeightsError: OpenVINO cannot read the graph.
    """

    name: EngineName = "openvino"

    def __init__(self, model: Any, facts: ModelFacts, precision: Precision = "fp32") -> None:
        core = openvino_core()
        if precision == "bf16" and not has_bf16(core):
            raise ConfigError("this processor does not compute in bf16; use precision fp32")
        rest = "f32" if precision == "fp32" or not has_bf16(core) else "bf16"
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": rest,  # of what is not int8 in an int8 model
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        try:
            if isinstance(model, bytes):
                model = core.read_model(model)
            compiled = core.compile_model(model, "CPU", settings)
        except RuntimeError as error:
            raise WeightsError(f"OpenVINO cannot run this graph: {error}") from error
        self.precision = precision
        self.facts, self.image_size = facts, facts.image_size
        self._names = [output.names for output in compiled.outputs]
        self._request = compiled.create_infer_request()

    def judge(self, images: Float[Tensor, "b 3 h w"]) -> Judged:
        """Judge RGB faces with pixel values in [0, 1]."""
        out = self._request.infer([images.contiguous().cpu().numpy()])
        found = {
            name: torch.from_numpy(out[place].copy())
            for place, names in enumerate(self._names)
            for name in names
        }
        return Judged(found["logits"], found.get("features"), found.get("patch_index"))


def has_bf16(core: Any) -> bool:
    """Whether the processor computes in bf16."""
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
