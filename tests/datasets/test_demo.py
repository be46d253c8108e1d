from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mfclip.data.manifest import check_files, read_manifest
from mfclip.datasets import demo
from mfclip.datasets.demo import EYES, PORTRAITS, make_demo
from mfclip.media.images import read_image

SHIPPED = Path(str(resources.files("mfclip"))) / "assets" / "demo"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    make_demo(folder)
    return folder


def files(folder: Path) -> list[Path]:
    return sorted(path.relative_to(folder) for path in folder.rglob("*.jpg"))


def test_shipped_pictures_are_what_the_code_makes(made: Path) -> None:
    assert files(SHIPPED) == files(made)
    assert len(files(made)) == 12
    for name in files(made):
        # Other builds of libjpeg round a level up or down.
        shipped, fresh = (read_image(folder / name).astype(int) for folder in (SHIPPED, made))
        assert np.abs(shipped - fresh).max() <= 3, name
    assert (SHIPPED / "manifest.csv").read_text() == (made / "manifest.csv").read_text()


def test_manifest_names_every_face() -> None:
    manifest = read_manifest(SHIPPED / "manifest.csv")
    assert check_files(manifest) == []
    assert manifest.counts() == {
        "real": 2, "self-blended": 2, "splice": 2, "local-warp": 2, "retouch": 2
    }  # fmt: skip
    for sample in manifest:
        assert sample.path.parent.name == ("fake" if sample.target else "real")
        assert sample.path.name.startswith(sample.group)


def test_files_are_small_and_saved_alike() -> None:
    tables = set()
    for name in files(SHIPPED):
        assert (SHIPPED / name).stat().st_size < 100_000
        with Image.open(SHIPPED / name) as image:
            if name.parts[0] != "photo":
                assert image.size == (256, 256)
                tables.add(str(image.quantization))
    assert len(tables) == 1  # else a detector could tell the fakes by their compression


def test_every_forgery_changes_the_face_and_little_else() -> None:
    for sample in read_manifest(SHIPPED / "manifest.csv"):
        if not sample.target:
            continue
        real = read_image(SHIPPED / "real" / f"{sample.group}.jpg").astype(int)
        change = np.abs(read_image(sample.path).astype(int) - real).mean(-1)
        inside, outside = change[80:200, 80:176].mean(), change[:, :12].mean()
        assert inside > 1.5
        assert inside > 3 * outside or sample.labels.generator == "self-blended"


@pytest.mark.parametrize("portrait", PORTRAITS, ids=lambda portrait: portrait.name)
def test_pupils_come_to_their_places(portrait: demo.Portrait) -> None:
    """A black disc drawn on each pupil of the photograph is found at `EYES`."""
    photo = np.full_like(portrait.read(), 255)
    y, x = np.mgrid[: photo.shape[0], : photo.shape[1]]
    for column, row in portrait.eyes:
        photo[(x - column + 0.5) ** 2 + (y - row + 0.5) ** 2 < 16] = 0
    marked = demo.Portrait(portrait.name, lambda: photo, portrait.eyes, portrait.outline)
    dark = 255 - demo._cut(marked)[..., 0].astype(float)
    for half, expected in zip(
        (dark[:, :128], dark[:, 128:]), EYES - [[0, 0], [128, 0]], strict=True
    ):
        rows, columns = np.indices(half.shape) + 0.5
        found = [(columns * half).sum() / half.sum(), (rows * half).sum() / half.sum()]
        np.testing.assert_allclose(found, expected, atol=1)
    np.testing.assert_allclose(demo._place(portrait.eyes, portrait), EYES)
