"""A manifest as a map-style data set of faces, and how faces are joined to a `Batch`.

An item is asked for by ``(index, epoch)`` and its randomness comes from (seed, epoch, index) alone,
so a resumed run and a run with another number of workers see the same pixels to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import Dataset

from mfclip.batch import Batch
from mfclip.data.manifest import Manifest, inside_name
from mfclip.data.sampling import AS_IT_IS, FORGED_HALF
from mfclip.errors import InputError
from mfclip.labels import Labels
from mfclip.media.blending import mix_reconstruction, self_blend
from mfclip.media.images import read_image
from mfclip.media.transforms import (
    AugmentLevel,
    Pixels,
    augment,
    centre_square,
    check_level,
    check_sizes,
    resize_short_side,
)

Key: TypeAlias = tuple[int, int] | tuple[int, int, int]
"""Row of the manifest, epoch, and role (see `mfclip.data.sampling`); without one, as it is."""

SELF_BLENDED = Labels(True, "face_swap", "graphics", "self-blended")
"""Labels of a real face that was blended with itself (SBI, Shiohara and Yamasaki 2022)."""

RECONSTRUCTED = Labels(True, "attribute_manipulation", "autoencoder", "reconstructed")
"""Labels of a real face in which a network's reconstruction shows."""

RECONSTRUCTION_CHANCE = 0.6
"""Share of the pairs that are made with a reconstruction, where there is one."""


@dataclass(frozen=True, slots=True)
class FaceItem:
    """One face as the model will see it.

    Attributes:
        image: RGB, pixel values in [0, 255].
        labels: what is known about it, a blended real face counting as fake.
        index: row in the manifest.
    """

    image: Pixels
    labels: Labels
    index: int


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A picture that could not be read.

    Attributes:
        index: row in the manifest.
        path: the file.
        message: what is wrong with it; begins with the path.
    """

    index: int
    path: Path
    message: str


class FaceDataset(Dataset[FaceItem]):
    """The faces of a manifest.

    Args:
        manifest: what is read, in this order.
        resize: side in pixels of the square before the crop.
        image_size: side in pixels of the items.
        augment: ``none`` for evaluation, ``light``, ``strong`` or ``perturb`` for training.
        seed: of the augmentation.
        cache: keep the decoded squares in memory (``3 * resize**2`` bytes each; each loader
            process has its own, threads share one).
        twins: folder of reconstructions of real faces (``mfclip data reconstruct``), at their
            path below the manifest's folder, as PNG; None to make pairs by blending alone.

    Raises:
        ConfigError: `resize` is smaller than `image_size`, or `augment` is unknown.
    """

    def __init__(
        self,
        manifest: Manifest,
        *,
        resize: int,
        image_size: int,
        augment: AugmentLevel = "none",
        seed: int = 0,
        cache: bool = False,
        twins: Path | None = None,
    ) -> None:
        check_sizes(resize, image_size)
        check_level(augment)
        self.manifest = manifest
        self.resize = resize
        self.image_size = image_size
        self.augment: AugmentLevel = augment
        self.seed = seed
        self.twins = twins
        self._cache: dict[int, Pixels] | None = {} if cache else None

    def __len__(self) -> int:
        return len(self.manifest)

    def __getitem__(self, key: Key) -> FaceItem:
        """Read, forge and augment one face.

        The two halves of a pair are drawn from one stream: crop, damage and all else that follows
        is the same for both, so that nothing but the forgery tells them apart.

        Args:
            key: row of the manifest and epoch, both from 0, and role.

        Raises:
            InputError: the file cannot be read.
        """
        index, epoch, *roles = key
        rng = np.random.default_rng((self.seed, epoch, index))
        image, labels = self._square(index), self.manifest[index].labels
        (role,) = roles or [AS_IT_IS]
        if role != AS_IT_IS:
            real, fake, forged = self._make_pair(image, index, rng)
            image, labels = (fake, forged) if role == FORGED_HALF else (real, labels)
        image = augment(
            image, resize=self.resize, image_size=self.image_size, level=self.augment, rng=rng
        )
        return FaceItem(image, labels, index)

    def _make_pair(
        self, image: Pixels, index: int, rng: np.random.Generator
    ) -> tuple[Pixels, Pixels, Labels]:
        """Make a real face and its forgery out of one photograph."""
        twin = self._twin(index)
        if twin is not None and rng.random() < RECONSTRUCTION_CHANCE:
            return image, mix_reconstruction(image, twin, rng), RECONSTRUCTED
        return *self_blend(image, rng), SELF_BLENDED

    def _twin(self, index: int) -> Pixels | None:
        if self.twins is None:
            return None
        name = inside_name(self.manifest[index].path, self.manifest.root)
        path = (self.twins / name).with_suffix(".png")
        if not path.is_file():
            return None
        return resize_short_side(centre_square(read_image(path)), self.resize)

    def read_or_report(self, key: Key) -> FaceItem | Unreadable:
        """Read one face, or say why that is impossible."""
        try:
            return self[key]
        except InputError as error:
            return Unreadable(key[0], self.manifest[key[0]].path, str(error))

    def _square(self, index: int) -> Pixels:
        if self._cache is not None and index in self._cache:
            return self._cache[index]
        image = centre_square(read_image(self.manifest[index].path))
        image = resize_short_side(image, self.resize)
        if self._cache is not None:
            image = np.ascontiguousarray(image)
            image.setflags(write=False)
            self._cache[index] = image
        return image


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """Faces joined but still uint8: a quarter of the bytes to hand between processes.

    Attributes:
        images: RGB, pixel values in [0, 255], channels last.
        labels: one a face.
        index: row of each face.
        errors: pictures of this batch that could not be read; they are not in `images`.
    """

    images: UInt8[Tensor, "b h w 3"]
    labels: tuple[Labels, ...]
    index: tuple[int, ...]
    errors: tuple[Unreadable, ...] = ()


def pack(items: Sequence[FaceItem | Unreadable]) -> PackedBatch:
    """Join faces and set the unreadable ones aside."""
    faces = [item for item in items if isinstance(item, FaceItem)]
    errors = tuple(item for item in items if isinstance(item, Unreadable))
    images = np.stack([face.image for face in faces]) if faces else np.empty((0, 0, 0, 3), np.uint8)
    return PackedBatch(
        torch.from_numpy(images),
        tuple(face.labels for face in faces),
        tuple(face.index for face in faces),
        errors,
    )


def unpack(packed: PackedBatch) -> Batch:
    """Scale the pixels to [0, 1], channels first.

    numpy, not torch: this runs in a background thread, where torch would start a second team of
    threads beside the training step's.
    """
    pixels = packed.images.numpy().transpose(0, 3, 1, 2)
    images = np.empty(pixels.shape, np.float32)
    np.divide(pixels, np.float32(255), out=images, dtype=np.float32)
    return Batch(
        images=torch.from_numpy(images),
        target=torch.tensor([int(known.is_fake) for known in packed.labels], dtype=torch.int64),
        labels=packed.labels,
        index=torch.tensor(packed.index, dtype=torch.int64),
    )


def collate(items: Sequence[FaceItem]) -> Batch:
    """Join faces to one batch."""
    return unpack(pack(items))
