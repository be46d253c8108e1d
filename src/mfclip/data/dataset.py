"""A manifest as a map-style data set of faces, and how faces are joined to a `Batch`.

An item is asked for by ``(index, epoch)`` and its randomness comes from (seed, epoch, index) alone,
so a resumed run and a run with another number of workers see the same pixels to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from mfclip.batch import Batch
from mfclip.data.manifest import Manifest, Sample, inside_name
from mfclip.data.sampling import AS_IT_IS, FORGED_HALF
from mfclip.data.texts import Texts, find_texts
from mfclip.errors import ConfigError, InputError
from mfclip.labels import Labels
from mfclip.media.blending import landmark_mask, mix_reconstruction, self_blend
from mfclip.media.images import read_image
from mfclip.media.transforms import (
    AugmentLevel,
    Layers,
    Pixels,
    augment,
    centre_square,
    check_level,
    check_sizes,
    resize_short_side,
)

Key: TypeAlias = tuple[int, int] | tuple[int, int, int] | tuple[int, int, int, int]
"""Row of the manifest, epoch, role (see `mfclip.data.sampling`) and the row whose augmentation is
drawn; without a role as it is, without another row its own."""

MAX_REPLACEMENTS = 10
"""Faces that are tried in the place of one that cannot be read."""

SELF_BLENDED = Labels(True, "face_swap", "graphics", "self-blended")
"""Labels of a real face that was blended with itself (SBI, Shiohara and Yamasaki 2022)."""

RECONSTRUCTED = Labels(True, "attribute_manipulation", "autoencoder", "reconstructed")
"""Labels of a real face in which a network's reconstruction shows."""

RECONSTRUCTION_CHANCE = 0.6
"""Share of the pairs that are made with a reconstruction, where there is one."""


UNPAIRED = -1


@dataclass(frozen=True, slots=True)
class FaceItem:
    """One face as the model will see it.

    Attributes:
        image: RGB, pixel values in [0, 255].
        labels: what is known about it, a blended real face counting as fake.
        index: row in the manifest.
        instead_of: the face in whose place it stands, since that could not be read.
        pair: equal for the two halves of a pair.
        group: identity or source.
        mask: what was forged, 255, and what was not, 0; None if masks are not loaded.
        text: a sentence about it; None if there is none.
    """

    image: Pixels
    labels: Labels
    index: int
    instead_of: Unreadable | None = None
    pair: int = UNPAIRED
    group: str = ""
    mask: UInt8[np.ndarray, "_ _"] | None = None
    text: str | None = None


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
        masks: also load which part of each face was forged: none of a real face, all of an entirely
            synthesised one, of the others what the manifest's ``mask_path`` shows.
        twins: folder of reconstructions of real faces (``mfclip data reconstruct``), at their
            path below the manifest's folder, as PNG; None to make pairs by blending alone.
        texts: what is said about faces; one of a face's texts is drawn each time. None to load
            none.

    Raises:
        ConfigError: `resize` is smaller than `image_size`, `augment` is unknown, or `masks` are
            wanted of fakes without any.
        ManifestError: the texts are of other faces.
    """

    def __init__(  # noqa: PLR0913 - what a face may bring along
        self,
        manifest: Manifest,
        *,
        resize: int,
        image_size: int,
        augment: AugmentLevel = "none",
        seed: int = 0,
        cache: bool = False,
        masks: bool = False,
        twins: Path | None = None,
        texts: Texts | None = None,
    ) -> None:
        check_sizes(resize, image_size)
        check_level(augment)
        if masks:
            _check_masks(manifest)
        self.manifest = manifest
        self.resize = resize
        self.image_size = image_size
        self.augment: AugmentLevel = augment
        self.seed = seed
        self.masks = masks
        self.twins = twins
        self.texts = None if texts is None else find_texts(manifest, texts)
        self._cache: dict[int, Layers] | None = {} if cache else None

    def __len__(self) -> int:
        return len(self.manifest)

    def __getitem__(self, key: Key) -> FaceItem:
        """Read, forge and augment one face.

        The two halves of a pair are drawn from one stream: crop, damage and all else that follows
        is the same for both, so that nothing but the forgery tells them apart.

        Args:
            key: see `Key`; row and epoch are counted from 0.

        Raises:
            InputError: the file cannot be read.
        """
        index, epoch, *rest = key
        role, draw = rest[0] if rest else AS_IT_IS, rest[1] if len(rest) > 1 else index
        rng = np.random.default_rng((self.seed, epoch, draw))
        sample = self.manifest[index]
        image, labels = self._square(index), sample.labels
        if role != AS_IT_IS:
            real, fake, forged = self._make_pair(image[..., :3], index, rng)
            image, labels = (fake, forged) if role == FORGED_HALF else (real, labels)
            if self.masks:
                touched = (real != fake).any(axis=2) & (role == FORGED_HALF)
                image = np.dstack([image, touched.astype(np.uint8) * 255])
        image = augment(
            image, resize=self.resize, image_size=self.image_size, level=self.augment, rng=rng
        )
        mask = image[..., 3] if self.masks else None
        text = self._draw_text(index, rng) if role != FORGED_HALF else None
        return FaceItem(
            image[..., :3], labels, index, pair=draw, group=sample.group, mask=mask, text=text
        )

    def _draw_text(self, index: int, rng: np.random.Generator) -> str | None:
        """Draw one of a face's texts, after all else, so that its picture is the same without."""
        if self.texts is None or not self.texts[index]:
            return None
        return self.texts[index][int(rng.integers(len(self.texts[index])))]

    def _make_pair(
        self, image: Pixels, index: int, rng: np.random.Generator
    ) -> tuple[Pixels, Pixels, Labels]:
        """Make a real face and its forgery out of one photograph."""
        landmarks = self.manifest[index].landmarks
        mask = (
            None
            if landmarks is None
            else landmark_mask(landmarks, image.shape[0], image.shape[1], rng)
        )
        twin = self._twin(index)
        if twin is not None and rng.random() < RECONSTRUCTION_CHANCE:
            return image, mix_reconstruction(image, twin, rng, mask=mask), RECONSTRUCTED
        return *self_blend(image, rng, mask=mask), SELF_BLENDED

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

    def read_or_replace(self, key: Key) -> FaceItem | Unreadable:
        """Read one face, or another of its kind in its place.

        A long training shall not end at one damaged file, and a batch that misses a face would be
        another batch: processes that train together need equally many. Which face takes the place
        depends on (seed, epoch, index) alone, as all randomness here.

        Returns:
            `Unreadable` if several others of its kind cannot be read either.
        """
        item = self.read_or_report(key)
        if isinstance(item, FaceItem):
            return item
        index, epoch, *roles = key
        rng = np.random.default_rng((self.seed, epoch, index, 1))
        others = self._like(index)
        for other in rng.permutation(others)[:MAX_REPLACEMENTS].tolist():
            found = self.read_or_report((other, epoch, (roles or [AS_IT_IS])[0]))
            if isinstance(found, FaceItem):
                return replace(found, instead_of=item)
        return item

    def _like(self, index: int) -> list[int]:
        """Other rows with the same labels; if there are none, of the same class."""
        own = self.manifest[index].labels
        rows = [(row, sample.labels) for row, sample in enumerate(self.manifest) if row != index]
        same = [row for row, labels in rows if labels == own]
        return same or [row for row, labels in rows if labels.is_fake == own.is_fake]

    def _square(self, index: int) -> Layers:
        if self._cache is not None and index in self._cache:
            return self._cache[index]
        image: Layers = read_image(self.manifest[index].path)
        if self.masks:
            image = np.dstack([image, _read_mask(self.manifest[index], image.shape[:2])])
        image = resize_short_side(centre_square(image), self.resize)
        if self._cache is not None:
            image = np.ascontiguousarray(image)
            image.setflags(write=False)
            self._cache[index] = image
        return image


def _check_masks(manifest: Manifest) -> None:
    """Refuse fakes of which nobody knows what was forged."""
    unknown = [
        sample.path
        for sample in manifest
        if sample.labels.is_fake and sample.mask is None and not _is_whole(sample)
    ]
    if unknown:
        raise ConfigError(
            f"masks are wanted, but {len(unknown)} fakes have no mask_path, the first: "
            f"{unknown[0]}; add the column (only entirely synthesised faces do without), or set "
            "data.masks=false"
        )


def _is_whole(sample: Sample) -> bool:
    return sample.labels.manipulation == "entire_face_synthesis"


def _read_mask(sample: Sample, shape: tuple[int, ...]) -> UInt8[np.ndarray, "h w"]:
    """What was forged, 255; scaled to the picture's size where a set stores masks smaller."""
    if sample.mask is None:
        return np.full(shape, 255 * int(sample.labels.is_fake), np.uint8)
    mask = Image.fromarray(read_image(sample.mask)).convert("L")
    return np.array(mask.resize((shape[1], shape[0]), Image.Resampling.BILINEAR))


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """Faces joined but still uint8: a quarter of the bytes to hand between processes.

    Attributes:
        images: RGB, pixel values in [0, 255], channels last.
        labels: one a face.
        index: row of each face.
        errors: pictures of this batch that could not be read; they are not in `images`, where
            others may stand in their place.
        partner: place of the real face that each forged one belongs to, -1 for none.
        masks: what was forged, in [0, 255]; None if not loaded.
        texts: a sentence about each face, None for a face without; None if there is none at all.
    """

    images: UInt8[Tensor, "b h w 3"]
    labels: tuple[Labels, ...]
    index: tuple[int, ...]
    partner: tuple[int, ...]
    errors: tuple[Unreadable, ...] = ()
    masks: UInt8[Tensor, "b h w"] | None = None
    texts: tuple[str | None, ...] | None = None


def pack(items: Sequence[FaceItem | Unreadable]) -> PackedBatch:
    """Join faces and set the unreadable ones aside."""
    faces = [item for item in items if isinstance(item, FaceItem)]
    errors = tuple(
        error
        for item in items
        if (error := item if isinstance(item, Unreadable) else item.instead_of) is not None
    )
    images = np.stack([face.image for face in faces]) if faces else np.empty((0, 0, 0, 3), np.uint8)
    masks = [face.mask for face in faces if face.mask is not None]
    texts = tuple(face.text for face in faces)
    return PackedBatch(
        torch.from_numpy(images),
        tuple(face.labels for face in faces),
        tuple(face.index for face in faces),
        tuple(find_partners(faces)),
        errors,
        torch.from_numpy(np.stack(masks)) if masks else None,
        texts if any(texts) else None,
    )


def find_partners(faces: Sequence[FaceItem]) -> list[int]:
    """Place of the real face that each forged one was made from, or else of one of its group.

    Returns:
        One a face; -1 for a real face, and where there is none.
    """
    pairs: dict[int, int] = {}
    groups: dict[str, int] = {}
    for place, face in enumerate(faces):
        if not face.labels.is_fake:
            pairs.setdefault(face.pair, place)
            groups.setdefault(face.group, place)
    pairs.pop(UNPAIRED, None)
    groups.pop("", None)
    return [
        pairs.get(face.pair, groups.get(face.group, -1)) if face.labels.is_fake else -1
        for face in faces
    ]


def unpack(packed: PackedBatch, *, scale: bool = True) -> Batch:
    """Put the channels first and scale the pixels to [0, 1].

    numpy, not torch: this runs in a background thread, where torch would start a second team of
    threads beside the training step's.

    Args:
        packed: faces.
        scale: False leaves the pixels uint8, to be scaled by `Batch.to` on the device that they are
            sent to: a quarter of the bytes, and none of this thread's time.
    """
    images = packed.images.permute(0, 3, 1, 2)
    return Batch(
        images=torch.from_numpy(_scale(images)) if scale else images,
        target=torch.tensor([int(known.is_fake) for known in packed.labels], dtype=torch.int64),
        labels=packed.labels,
        index=torch.tensor(packed.index, dtype=torch.int64),
        partner=torch.tensor(packed.partner, dtype=torch.int64),
        masks=None if packed.masks is None else torch.from_numpy(_scale(packed.masks[:, None])),
        texts=packed.texts,
    )


def _scale(pixels: UInt8[Tensor, "*any"]) -> np.ndarray:
    values = np.empty(pixels.shape, np.float32)
    np.divide(pixels.numpy(), np.float32(255), out=values, dtype=np.float32)
    return values


def collate(items: Sequence[FaceItem]) -> Batch:
    """Join faces to one batch."""
    return unpack(pack(items))
