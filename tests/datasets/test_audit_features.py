from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mfclip.datasets.audit_features import (
    FEATURES,
    SPECTRUM_BINS,
    colour_statistics,
    quantisation_tables,
    radial_power_spectrum,
    read_features,
    shrink,
)

# ITU-T T.81, table K.1, first and last rows: luminance quantisation at libjpeg's quality 50
LUMINANCE_FIRST = [16, 11, 10, 16, 24, 40, 51, 61]
LUMINANCE_LAST = [72, 92, 95, 98, 112, 100, 103, 99]
CHROMINANCE_FIRST = [17, 18, 24, 47, 99, 99, 99, 99]


def _wave(cycles: int, side: int, axis: int) -> np.ndarray:
    """A grey sinusoid of so many cycles over the picture's side."""
    line = 127.5 + 100 * np.cos(2 * np.pi * cycles * np.arange(side) / side)
    grey = np.broadcast_to(line, (side, side)) if axis else np.broadcast_to(line, (side, side)).T
    return np.repeat(np.rint(grey).astype(np.uint8)[:, :, None], 3, axis=2)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("cycles", "side"), [(20, 256), (61, 256), (100, 256), (16, 128)])
def test_a_sinusoid_lands_in_the_ring_of_its_frequency(cycles: int, side: int, axis: int) -> None:
    spectrum = radial_power_spectrum(_wave(cycles, side, axis))
    ring = int(cycles / side * 2 * SPECTRUM_BINS)
    assert spectrum.argmax() == ring
    others = np.delete(spectrum, [ring - 1, ring, ring + 1])
    assert spectrum[ring] - others.max() > 2  # the window leaks into neighbours only


def test_the_spectrum_of_white_noise_is_flat_and_as_high_as_its_variance() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (256, 256), dtype=np.uint8)
    spectrum = radial_power_spectrum(np.repeat(noise[:, :, None], 3, axis=2))
    # mean power = variance x mean squared window: (256^2 - 1) / 12 x (3 / 8)^2
    expected = np.log10((256**2 - 1) / 12 * (3 / 8) ** 2)
    assert np.abs(spectrum[4:] - expected).max() < 0.1


def test_a_small_picture_has_a_full_spectrum() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (24, 31, 3), dtype=np.uint8)
    spectrum = radial_power_spectrum(noise)
    assert spectrum.shape == (SPECTRUM_BINS,)
    assert np.isfinite(spectrum).all()


def test_quantisation_tables_are_those_of_the_standard(tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    Image.new("RGB", (16, 16)).save(path, quality=50)
    with Image.open(path) as image:
        luminance, chrominance = quantisation_tables(image).reshape(2, 8, 8).tolist()
    assert luminance[0] == LUMINANCE_FIRST
    assert luminance[7] == LUMINANCE_LAST
    assert chrominance[0] == CHROMINANCE_FIRST


def test_a_png_has_no_quantisation_tables(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    Image.new("RGB", (16, 16)).save(path)
    with Image.open(path) as image:
        assert not quantisation_tables(image).any()


def test_colour_statistics_of_half_red_half_black() -> None:
    pixels = np.zeros((4, 6, 3), dtype=np.uint8)
    pixels[:2, :, 0] = 200
    # red: hue 0, saturation 255, value 200; black: 0, 0, 0
    means, deviations = colour_statistics(pixels).reshape(2, 6)
    assert means.tolist() == [100, 0, 0, 0, 127.5, 100]
    assert deviations.tolist() == [100, 0, 0, 0, 127.5, 100]


def test_the_thumbnail_averages_equal_areas() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (36, 24, 3), dtype=np.uint8)
    expected = pixels.reshape(12, 3, 12, 2, 3).mean(axis=(1, 3)).reshape(-1)
    assert np.abs(shrink(pixels) - expected).max() <= 1  # rounded once an axis


def test_all_features_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    Image.new("RGB", (40, 20), "red").save(path)
    values = read_features(path).values
    assert tuple(values) == FEATURES
    assert values["file size"].item() == pytest.approx(np.log(path.stat().st_size))
    assert values["dimensions"] == pytest.approx(np.log([40, 20, 2]))
    assert values["format"].tolist() == [0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("content", [b"", b"no picture", None])
def test_a_file_that_cannot_be_read_is_reported(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "broken.jpg"
    if content is not None:
        path.write_bytes(content)
    features = read_features(path)
    assert features.problem
    assert not features.values
