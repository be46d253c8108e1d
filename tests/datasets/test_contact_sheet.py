from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mfclip.data.manifest import Manifest, Sample
from mfclip.datasets.contact_sheet import LABEL_WIDTH, MARGIN, choose, contact_sheet
from mfclip.errors import ManifestError
from mfclip.labels import Labels
from mfclip.media.video import write_video

GREEN, BLUE = (0, 200, 0), (0, 0, 200)


def _manifest(folder: Path, count: int = 3) -> Manifest:
    """Green wide reals and blue tall fakes."""
    samples = []
    for number in range(count):
        for name, colour, size in (("real", GREEN, (40, 20)), ("fake", BLUE, (20, 40))):
            path = folder / f"{name}{number}.png"
            Image.new("RGB", size, colour).save(path)
            samples.append(Sample(path, Labels(name == "fake"), "train", path.name))
    return Manifest(tuple(samples), folder)


def _centres(sheet: Image.Image, columns: int, size: int) -> list[list[tuple[int, ...]]]:
    pixels, pitch = np.asarray(sheet), size + MARGIN
    rows = (sheet.height - MARGIN) // pitch
    return [
        [
            tuple(
                pixels[MARGIN + r * pitch + size // 2, LABEL_WIDTH + c * pitch + size // 2].tolist()
            )
            for c in range(columns)
        ]
        for r in range(rows)
    ]


def test_reals_come_first_and_missing_pictures_leave_paper(tmp_path: Path) -> None:
    sheet = contact_sheet(_manifest(tmp_path), columns=4, size=32)
    white = (255, 255, 255)
    assert _centres(sheet, 4, 32) == [[GREEN] * 3 + [white], [BLUE] * 3 + [white]]


def test_pictures_are_fitted_whole(tmp_path: Path) -> None:
    pixels = np.asarray(contact_sheet(_manifest(tmp_path), columns=1, size=32))
    tile = pixels[MARGIN : MARGIN + 32, LABEL_WIDTH : LABEL_WIDTH + 32]
    green = (tile == GREEN).all(axis=-1)
    assert green.sum() == 32 * 16  # twice as wide as tall, as the file
    assert green[8:24].all()


def test_a_damaged_picture_is_crossed_out(tmp_path: Path) -> None:
    manifest = _manifest(tmp_path, 1)
    manifest[1].path.write_text("damaged")
    real, fake = _centres(contact_sheet(manifest, columns=1, size=32), 1, 32)
    assert real == [GREEN]
    assert fake not in ([GREEN], [BLUE])


def test_of_a_video_the_middle_frame_is_shown(tmp_path: Path) -> None:
    plain = [np.full((32, 32, 3), level, np.uint8) for level in (0, 128, 255)]
    write_video(tmp_path / "a.mp4", plain, 5.0)
    samples = (Sample(tmp_path / "a.mp4", Labels(False), "train", "a"),)
    sheet = contact_sheet(Manifest(samples, tmp_path), columns=1, size=32)
    centre = _centres(sheet, 1, 32)[0][0]
    assert all(abs(value - 128) <= 3 for value in centre)


def test_every_row_is_labelled(tmp_path: Path) -> None:
    pixels = np.asarray(contact_sheet(_manifest(tmp_path), columns=1, size=64))
    beside = pixels[:, 20 : LABEL_WIDTH - MARGIN].min(axis=(1, 2))
    assert (beside[MARGIN : MARGIN + 64] < 100).any()
    assert (beside[2 * MARGIN + 64 :] < 100).any()


def test_the_same_seed_shows_the_same_and_another_seed_others(tmp_path: Path) -> None:
    samples = _manifest(tmp_path, 30).samples
    first = choose(samples, 5, seed=0, name="a")
    assert first == choose(samples, 5, seed=0, name="a")
    assert first != choose(samples, 5, seed=1, name="a")
    assert first != choose(samples, 5, seed=0, name="b")
    assert [samples.index(s) for s in first] == sorted({samples.index(s) for s in first})


def test_an_empty_manifest_and_a_size_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="nothing to show"):
        contact_sheet(Manifest((), tmp_path))
    with pytest.raises(ManifestError, match="size >= 16, but got 8 and 2"):
        contact_sheet(_manifest(tmp_path), size=2)
