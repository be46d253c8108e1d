"""An engine in the shape of a detector, for code that scores detectors."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from mfclip.engines.engine import Engine


class EngineDetector(nn.Module):
    """Gives an engine's logits.

    Args:
        engine: what judges.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine = engine
        self.image_size = engine.image_size

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 2"]:
        """Judge RGB faces with pixel values in [0, 1]; column 1 = fake."""
        return self.engine.judge(images).logits
