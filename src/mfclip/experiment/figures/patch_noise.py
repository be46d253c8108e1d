"""Richest and poorest patches with their SRM noise, real and forged (paper Fig. 1a)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mfclip.data.dataset import FaceItem
from mfclip.experiment.figures.faces import kind_of
from mfclip.experiment.figures.style import COLOURS, LABEL, TITLE, new_figure, show_picture
from mfclip.media.transforms import Pixels
from mfclip.model.patch_selector import homogeneity, to_grey
from mfclip.model.srm import TRUNCATION, noise_residual
from mfclip.predict.face_scorer import to_images
from mfclip.predict.prediction import Box

ROWS = ("face", "richest patch", "its noise", "poorest patch", "its noise")
FRAMES = ((COLOURS[6], "-"), (COLOURS[5], "--"))
"""Colour and dashes around the richest and the poorest patch."""


@dataclass(frozen=True, slots=True)
class Patch:
    """A patch of a face.

    Attributes:
        box: where it lies, in pixels of the face.
        homogeneity: of its GLCM, (0, 1]; the richest patch has the smallest.
    """

    box: Box
    homogeneity: float

    def cut(self, face: Pixels) -> Pixels:
        """Cut the patch out of its face."""
        return face[self.box.top : self.box.bottom, self.box.left : self.box.right]


def find_patches(face: Pixels, patch_size: int) -> tuple[Patch, Patch]:
    """Find the richest and the poorest of a face's non-overlapping patches (Sec. III-C).

    Args:
        face: RGB.
        patch_size: p, side of a patch in pixels.
    """
    grey = to_grey(to_images([face]))[0]
    # h w -> rows columns p p
    tiles = grey.unfold(0, patch_size, patch_size).unfold(1, patch_size, patch_size)
    values = homogeneity(tiles)
    patches = []
    for index in (int(values.argmin()), int(values.argmax())):
        row, column = divmod(index, values.shape[1])
        left, top = column * patch_size, row * patch_size
        box = Box(left, top, left + patch_size, top + patch_size)
        patches.append(Patch(box, float(values[row, column])))
    return patches[0], patches[1]


def draw_patch_noise(
    faces: Sequence[FaceItem], *, patch_size: int, pixel_scale: float = 255.0
) -> Any:
    """Draw one column a face: the face, its richest patch and noise, its poorest and noise.

    Noise is shown as the mean of the three residuals; its strength is their mean size.

    Args:
        faces: real and forged, of one size.
        patch_size: p, side of a patch in pixels.
        pixel_scale: value of white when the SRM kernels are applied: the detector's.

    Returns:
        A matplotlib figure.
    """
    figure = new_figure(0.5 + 1.35 * len(faces), 0.6 + 1.5 * len(ROWS))
    grid = figure.subplots(len(ROWS), len(faces), squeeze=False)
    for column, face in zip(grid.T, faces, strict=True):
        _draw_column(column, face, patch_size, pixel_scale)
    for place, words in zip(grid[:, 0], ROWS, strict=True):
        place.set_ylabel(words, fontsize=LABEL)
    figure.suptitle("Richest patch: solid, poorest: dashed", fontsize=TITLE)
    return figure


def _draw_column(column: Any, face: FaceItem, patch_size: int, pixel_scale: float) -> None:
    column[0].set_title(kind_of(face.labels), fontsize=LABEL)
    show_picture(column[0], face.image)
    for number, patch in enumerate(find_patches(face.image, patch_size)):
        _frame(column[0], patch.box, *FRAMES[number])
        pixels = patch.cut(face.image)
        noise = noise_residual(to_images([pixels]), pixel_scale)[0]
        note = f"homogeneity {patch.homogeneity:.2f}"
        show_picture(column[1 + 2 * number], pixels, note=note)
        note = f"strength {float(noise.abs().mean()):.2f}"
        grey = {"cmap": "gray", "vmin": -TRUNCATION, "vmax": TRUNCATION}
        show_picture(column[2 + 2 * number], noise.mean(0).numpy(), note=note, **grey)


def _frame(place: Any, box: Box, colour: str, dashes: str) -> None:
    x = [box.left, box.right - 1, box.right - 1, box.left, box.left]
    y = [box.top, box.top, box.bottom - 1, box.bottom - 1, box.top]
    place.plot(x, y, color="#000000", linewidth=2.4)  # seen on any skin
    place.plot(x, y, color=colour, linewidth=1.4, linestyle=dashes)
