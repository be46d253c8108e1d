"""What decoding takes is what is promised before it: measured in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mfclip.media.images import BYTES_PER_PIXEL

SIDE = 800
FIXED = 4_000_000
"""Bytes that do not grow with the image: buffers, threads."""

MEASURE = """
import json, re, sys
from pathlib import Path
from mfclip.media.images import EncodedImage
def status(name):
    return 1024 * int(re.search(name + r":\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
found = {}
for path in map(Path, sys.argv[1:]):
    for _ in range(2):  # the first time imports the decoder
        image = EncodedImage(path)
        Path("/proc/self/clear_refs").write_text("5")  # sets the highest use to the present one
        before = status("VmRSS")
        image.decode()
        found[path.name] = (image.format, status("VmHWM") - before)
print(json.dumps(found))
"""


def make_files(folder: Path) -> None:
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (SIDE // 20, SIDE // 20, 3), np.uint8))
    rgb = small.resize((SIDE, SIDE))
    clear = rgb.copy()
    clear.putalpha(99)
    lying = Image.Exif()
    lying[0x0112] = 6
    cmyk = rgb.convert("CMYK")
    cmyk.save(folder / "a.jpg", progressive=True, subsampling=0, exif=lying)
    content = (folder / "a.jpg").read_bytes()
    (folder / "corrupt.jpg").write_bytes(content[: len(content) * 4 // 5] + b"\xff\xd9")
    rgb.save(folder / "b.jpg", progressive=True, subsampling=0, exif=lying)
    clear.save(folder / "a.png", compress_level=1, exif=lying)
    clear.save(folder / "a.webp", lossless=True, quality=0, method=0)
    clear.save(folder / "b.webp", save_all=True, append_images=[rgb], method=0, exif=lying)
    rgb.save(folder / "a.gif")
    clear.save(folder / "a.bmp")
    rgb.save(folder / "a.ppm")
    clear.save(folder / "a.tif", compression="tiff_lzw", exif=lying)
    grey = np.asarray(rgb.convert("L")).astype(np.float32) / 255
    Image.fromarray(grey).save(folder / "b.tif")
    clear.save(folder / "a.avif", speed=10, subsampling="4:4:4", exif=lying)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_format_takes_more_than_it_is_said_to(tmp_path: Path) -> None:
    make_files(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *sorted(map(str, tmp_path.iterdir()))],
        # every array from the system and back to it, so that none hides in what was freed before
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    found = json.loads(done.stdout)
    assert {format_ for format_, _ in found.values()} == set(BYTES_PER_PIXEL) - {"HEIF"}
    taken = {name: (taken - FIXED) / SIDE**2 for name, (_, taken) in found.items()}
    too_much = {
        name: round(each, 1)
        for name, each in taken.items()
        if each > BYTES_PER_PIXEL[found[name][0]]
    }
    assert not too_much
    assert max(taken.values()) > 10  # the measurement sees something
