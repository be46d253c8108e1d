"""A contact sheet: some pictures of every class and generator, to look at before training."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mfclip.data.manifest import Manifest, Sample
from mfclip.errors import InputError, ManifestError
from mfclip.media.images import read_image
from mfclip.media.video import frames, is_picture

MARGIN = 6
LABEL_WIDTH = 250
REAL, FAKE = "#0072B2", "#D55E00"
"""Blue and vermilion of Okabe and Ito, told apart by the colour-blind; the word stands beside."""

PAPER, INK, GAP = "white", "#222222", "#DDDDDD"


def contact_sheet(
    manifest: Manifest, *, columns: int = 8, size: int = 128, seed: int = 0
) -> Image.Image:
    """Draw one row of pictures for each class and generator, reals first.

    The choice depends on the seed, the row and its pictures alone: a generator that is added leaves
    the other rows as they are. Pictures are scaled to fit and never cropped; of a video the middle
    frame is shown; what cannot be read is a crossed square.

    Args:
        manifest: what to draw from.
        columns: pictures a row.
        size: side of a picture in pixels.
        seed: of the choice.

    Raises:
        ManifestError: the manifest is empty, or `columns` or `size` is too small.
        MissingExtraError: a video is to be shown and PyAV is not installed.
    """
    if columns < 1 or size < 16:  # noqa: PLR2004
        message = f"expected columns >= 1 and size >= 16, but got {columns} and {size}"
        raise ManifestError(message)
    rows = sorted(_rows(manifest).items())
    if not rows:
        raise ManifestError("the manifest is empty: there is nothing to show")
    pitch = size + MARGIN
    width, height = LABEL_WIDTH + columns * pitch + MARGIN, len(rows) * pitch + MARGIN
    sheet = Image.new("RGB", (width, height), PAPER)
    for number, (name, samples) in enumerate(rows):
        top = MARGIN + number * pitch
        _write_label(sheet, name, len(samples), top, size)
        for place, sample in enumerate(choose(samples, columns, seed=seed, name=str(name))):
            sheet.paste(_tile(sample, size), (LABEL_WIDTH + place * pitch, top))
    return sheet


def choose(samples: Sequence[Sample], count: int, *, seed: int, name: str) -> list[Sample]:
    """Pick at most `count` samples, the same ones for the same seed and name, in manifest order."""
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    rows = rng.choice(len(samples), size=min(count, len(samples)), replace=False)
    return [samples[row] for row in sorted(rows.tolist())]


def _rows(manifest: Manifest) -> dict[tuple[int, str, str, str], list[Sample]]:
    rows: dict[tuple[int, str, str, str], list[Sample]] = {}
    for sample in manifest:
        labels = sample.labels
        levels = (labels.manipulation or "", labels.family or "", labels.generator or "unnamed")
        rows.setdefault((sample.target, *levels), []).append(sample)
    return rows


def _write_label(
    sheet: Image.Image, name: tuple[int, str, str, str], count: int, top: int, size: int
) -> None:
    """Write label, generator, manipulation, family and count beside a row, as far as they fit."""
    target, manipulation, family, generator = name
    draw = ImageDraw.Draw(sheet)
    colour = FAKE if target else REAL
    draw.rectangle((MARGIN, top, MARGIN + 5, top + size - 1), fill=colour)
    lines = [generator, "fake" if target else "real", manipulation.replace("_", " "), family]
    lines = [line for line in (*lines, f"{count} files") if line]
    step = min(22, size // len(lines))
    font = ImageFont.load_default(min(15, step))
    for place, line in enumerate(lines):
        draw.text((MARGIN + 14, top + place * step), line[:30], fill=INK, font=font)


def _read(path: Path) -> NDArray[np.uint8]:
    return read_image(path) if is_picture(path) else next(frames(path, count=1)).image


def _tile(sample: Sample, size: int) -> Image.Image:
    tile = Image.new("RGB", (size, size), GAP)
    try:
        picture = Image.fromarray(_read(sample.path))
    except InputError:
        draw = ImageDraw.Draw(tile)
        draw.line((0, 0, size, size), fill=INK, width=2)
        draw.line((0, size, size, 0), fill=INK, width=2)
        return tile
    scale = size / max(picture.size)
    width, height = (max(1, round(length * scale)) for length in picture.size)
    picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    tile.paste(picture, ((size - width) // 2, (size - height) // 2))
    return tile
