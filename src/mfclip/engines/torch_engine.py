"""PyTorch as an engine: batch norms folded, channels last, bf16 on request."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mfclip.card import EngineName, Precision
from mfclip.engines.engine import Judged
from mfclip.engines.graph import VisionGraph


class TorchEngine:
    """Run a detector with PyTorch.

    Args:
        detector: it is copied, not changed.
        precision: ``fp32`` or ``bf16``; the first filters, the patch selection and everything
            after the features stay in fp32.
        device: where it runs.
    """

    name: EngineName = "torch"

    def __init__(
        self, detector: nn.Module, precision: Precision, device: torch.device | None = None
    ) -> None:
        graph = VisionGraph(detector)
        self.precision = precision
        self.facts, self.image_size = graph.facts, graph.facts.image_size
        self.device = device or torch.device("cpu")
        self._names = graph.outputs
        graph.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # stubs lack it
        self._graph = graph.to(self.device)

    @torch.inference_mode()
    def judge(self, images: Float[Tensor, "b 3 h w"]) -> Judged:
        """Judge RGB faces with pixel values in [0, 1]."""
        images = images.to(self.device, non_blocking=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            out = self._graph(images)
        found = {name: value.cpu() for name, value in zip(self._names, out, strict=True)}
        return Judged(found["logits"], found.get("features"), found.get("patch_index"))
