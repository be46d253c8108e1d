"""What every engine is: pictures in, verdicts out, whatever computes them.

Axes: b images, d width of the features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from mfclip.card import EngineName, Precision
from mfclip.engines.known_prompts import KnownPrompts

PRECISIONS: dict[str, Precision] = {"fp32": "fp32", "bf16": "bf16", "int8": "int8"}


@dataclass(frozen=True, slots=True)
class Judged:
    """What an engine says about a batch; all tensors lie on the CPU.

    Attributes:
        logits: column 0 = real, column 1 = fake; fp32, not yet divided by a temperature.
        features: L2-normalised vision features; None for a model that has none.
        patch_index: the patch of richest texture, counted row by row; None without a noise branch.
    """

    logits: Float[Tensor, "b 2"]
    features: Float[Tensor, "b d"] | None = None
    patch_index: Int[Tensor, " b"] | None = None


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What must be known of a model beside its outputs.

    Attributes:
        image_size: side of the square input, pixels.
        patch_size: side of the patches among which the richest is chosen, pixels; None without a
            noise branch.
        prompts: the sentences that name the kind of a forgery; None for a model without.
    """

    image_size: int
    patch_size: int | None = None
    prompts: KnownPrompts | None = None


@runtime_checkable
class Engine(Protocol):
    """Judges batches of faces.

    Attributes:
        name: ``torch``, ``onnx`` or ``openvino``.
        precision: ``fp32``, ``bf16`` or ``int8``, of the arithmetic inside; outputs are fp32.
        image_size: side of the square input, pixels.
        facts: what must be known of the model beside its outputs.
    """

    name: EngineName
    precision: Precision
    image_size: int
    facts: ModelFacts

    def judge(self, images: Float[Tensor, "b 3 h w"]) -> Judged:
        """Judge RGB faces with pixel values in [0, 1], h = w = `image_size`, any number of them."""
        ...
