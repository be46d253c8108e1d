"""onnxruntime as an engine, on the CPU."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mfclip.card import EngineName, Precision
from mfclip.engines.engine import Judged, ModelFacts
from mfclip.engines.graph import INPUT
from mfclip.errors import WeightsError, require


class OnnxEngine:
    """Run a graph with onnxruntime.

    Args:
        model: an ONNX file's bytes.
        facts: of the model.
        precision: what the file computes in.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        WeightsError: onnxruntime cannot read the graph.
    """

    name: EngineName = "onnx"

    def __init__(self, model: bytes, facts: ModelFacts, precision: Precision = "fp32") -> None:
        runtime = require("onnxruntime", extra="export")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        try:
            self._session = runtime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its error classes have no public common parent
            raise WeightsError(f"onnxruntime cannot read this graph: {error}") from error
        self.precision = precision
        self.facts, self.image_size = facts, facts.image_size
        self._names = [output.name for output in self._session.get_outputs()]

    def judge(self, images: Float[Tensor, "b 3 h w"]) -> Judged:
        """Judge RGB faces with pixel values in [0, 1]."""
        out = self._session.run(self._names, {INPUT: images.contiguous().cpu().numpy()})
        found = {n: torch.from_numpy(value) for n, value in zip(self._names, out, strict=True)}
        return Judged(found["logits"], found.get("features"), found.get("patch_index"))
