"""What a detector is given: one batch of faces with their labels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mfclip.labels import Labels


@dataclass(frozen=True, slots=True)
class Batch:
    """Faces that are trained or scored together.

    Attributes:
        images: RGB, pixel values in [0, 1].
        target: 1 = fake, 0 = real.
        labels: everything known about each face, same order.
        index: row of each face in its manifest.
    """

    images: Float[Tensor, "b 3 h w"]
    target: Int[Tensor, " b"]
    labels: tuple[Labels, ...]
    index: Int[Tensor, " b"]

    def __len__(self) -> int:
        return len(self.labels)

    def split(self, parts: int) -> list[Batch]:
        """Cut into at most `parts` equal batches, in order."""
        size = -(-len(self) // parts)
        cuts = [slice(start, start + size) for start in range(0, len(self), size)]
        return [Batch(self.images[c], self.target[c], self.labels[c], self.index[c]) for c in cuts]

    def channels_last(self) -> Batch:
        """Lay the images out with the channels innermost, which convolutions like best."""
        return replace(self, images=self.images.to(memory_format=torch.channels_last))

    def to(self, device: torch.device | str) -> Batch:
        """Move the tensors; the copy overlaps with work on the device when memory is pinned."""
        return replace(
            self,
            images=self.images.to(device, non_blocking=True),
            target=self.target.to(device, non_blocking=True),
            index=self.index.to(device, non_blocking=True),
        )
