"""What a detector is given: one batch of faces with their labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from mfclip.labels import Labels


@dataclass(frozen=True, slots=True)
class Batch:
    """Faces that are trained or scored together.

    Attributes:
        images: RGB, pixel values in [0, 1]; on their way to a GPU still uint8, in [0, 255].
        target: 1 = fake, 0 = real.
        labels: everything known about each face, same order.
        index: row of each face in its manifest.
        masks: share of each pixel that is forged, in [0, 1]; None if not loaded.
        partner: place in this batch of the real face that a forged one belongs to, -1 for none;
            None if not loaded.
        texts: a sentence about each face, None for a face without; None if not loaded.
    """

    images: Float[Tensor, "b 3 h w"] | UInt8[Tensor, "b 3 h w"]
    target: Int[Tensor, " b"]
    labels: tuple[Labels, ...]
    index: Int[Tensor, " b"]
    masks: Float[Tensor, "b 1 h w"] | None = None
    partner: Int[Tensor, " b"] | None = None
    texts: tuple[str | None, ...] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def split(self, parts: int) -> list[Batch]:
        """Cut into at most `parts` equal batches, in order.

        Places in `partner` count from the start of the part; a partner that lies in another part
        becomes -1, since a loss over pairs sees one part at a time.
        """
        size = -(-len(self) // parts)
        return [self._cut(start, start + size) for start in range(0, len(self), size)]

    def channels_last(self) -> Batch:
        """Lay the images out with the channels innermost, which convolutions like best."""
        return replace(self, images=self.images.to(memory_format=torch.channels_last))

    def to(self, device: torch.device | str) -> Batch:
        """Move the tensors, and scale pixels that are still uint8 to [0, 1].

        The copy overlaps with work on the device when memory is pinned.
        """
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=True)
            for name, value in self._present()
            if isinstance(value, Tensor)
        }
        if not moved["images"].is_floating_point():
            moved["images"] = moved["images"].float() / 255
        return replace(self, **moved)

    def pin(self) -> Batch:
        """Put the images into memory that a GPU can fetch by itself."""
        return replace(self, images=self.images.pin_memory())

    def _present(self) -> Iterator[tuple[str, Any]]:
        """Names and values of what was loaded."""
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        return ((name, value) for name, value in values if value is not None)

    def _cut(self, start: int, stop: int) -> Batch:
        part = replace(self, **{name: value[start:stop] for name, value in self._present()})
        if part.partner is None:
            return part
        inside = (part.partner >= start) & (part.partner < stop)
        return replace(part, partner=torch.where(inside, part.partner - start, -1))
