"""Faces damaged while they are read, so that 35 damaged copies of a test need no disk."""

from __future__ import annotations

from mfclip.data.dataset import FaceDataset, FaceItem, Key
from mfclip.data.manifest import Manifest, inside_name
from mfclip.media.images import read_image
from mfclip.media.perturbations import BLOCK_UNIT, check_level, find_perturbation, perturb, seed_of
from mfclip.media.transforms import Pixels, prepare_face


class DamagedFaces(FaceDataset):
    """The faces of a manifest under one kind of damage, for scoring.

    The whole picture is damaged, then cut and resized as in `FaceDataset`. A file's seed comes from
    its path, so the pixels are those that ``mfclip data perturb`` writes. Differs from
    DeeperForensics: where its rule draws no grey blocks, in pictures whose short side is below 256
    pixels, blocks are drawn in proportion to the area.

    Args:
        manifest: what is read, in this order.
        kind: a key of `mfclip.media.perturbations.PERTURBATIONS`.
        level: 1 (mild) to 5 (strong).
        resize: side in pixels of the square before the crop.
        image_size: side in pixels of the items.

    Raises:
        ConfigError: no such kind or level, or sizes that do not fit.
    """

    def __init__(
        self, manifest: Manifest, kind: str, level: int, *, resize: int, image_size: int
    ) -> None:
        super().__init__(manifest, resize=resize, image_size=image_size)
        find_perturbation(kind)
        check_level(level)
        self.kind = kind
        self.level = level

    def __getitem__(self, key: Key) -> FaceItem:
        """Read and damage one face.

        Args:
            key: row of the manifest and epoch, both from 0; the epoch changes nothing.

        Raises:
            InputError: the file cannot be read, or is too small to be damaged.
        """
        index = key[0]
        image = prepare_face(self._damaged(index), resize=self.resize, image_size=self.image_size)
        return FaceItem(image, self.manifest[index].labels, index)

    def _damaged(self, index: int) -> Pixels:
        path = self.manifest[index].path
        image = read_image(path)
        name = inside_name(path, self.manifest.root)
        small = min(image.shape[:2]) < BLOCK_UNIT
        return perturb(image, self.kind, self.level, seed=seed_of(name), scale_blocks=small)
