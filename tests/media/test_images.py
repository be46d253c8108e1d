"""`read_image` against Pillow, values worked by hand, and every kind of bad file."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from hostile import claim_size, jpeg_of_scans, png
from mfclip.data.manifest import read_manifest
from mfclip.errors import InputError
from mfclip.media import images
from mfclip.media.images import (
    IMAGE_SUFFIXES,
    MAX_PIXELS,
    MAX_SCANNED,
    MAX_SCANS,
    NotAnImageError,
    open_image,
    read_image,
)

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)


def encode(image: Image.Image, format_: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def test_png_is_exact_from_file_and_from_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encode(Image.fromarray(PICTURE)))
    np.testing.assert_array_equal(read_image(path), PICTURE)
    np.testing.assert_array_equal(read_image(path.read_bytes()), PICTURE)


def test_result_is_writable_and_contiguous() -> None:
    image = read_image(encode(Image.fromarray(PICTURE)))
    assert image.flags.writeable
    assert image.flags.c_contiguous
    assert image.dtype == np.uint8


@pytest.mark.parametrize("format_", ["JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF"])
def test_equals_pillow(format_: str) -> None:
    data = encode(Image.fromarray(PICTURE), format_)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(read_image(data), expected)


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_every_suffix_can_be_read(tmp_path: Path, suffix: str) -> None:
    if suffix in {".heic", ".heif", ".hif"}:
        pytest.importorskip("pillow_heif").register_heif_opener()
    path = tmp_path / f"flat{suffix}"
    mode, grey = {".pgm": ("L", 128), ".pbm": ("1", 1)}.get(suffix, ("RGB", (128, 128, 128)))
    image = Image.new(mode, (16, 16), grey)
    image.save(path, "HEIF" if suffix == ".hif" else None)
    expected = 255 if suffix == ".pbm" else 128
    assert np.abs(read_image(path).astype(int) - expected).max() <= 2


# What each EXIF orientation asks for, in numpy's words (EXIF 2.32, table 4.6.4).
TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("format_", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", TURNS)
def test_exif_orientation(orientation: int, format_: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(PICTURE), format_, exif=exif)
    np.testing.assert_array_equal(read_image(data), TURNS[orientation](PICTURE))


def test_exif_orientation_of_a_jpeg_equals_pillow() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(Image.fromarray(PICTURE), "JPEG", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    np.testing.assert_array_equal(read_image(data), expected)


def test_damaged_exif_counts_as_upright() -> None:
    data = encode(Image.fromarray(PICTURE), "PNG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
    np.testing.assert_array_equal(read_image(data), PICTURE)


def test_transparent_pixels_lie_on_white() -> None:
    row = np.array([[[255, 0, 0, 255], [255, 0, 0, 0], [0, 0, 0, 51]]], np.uint8)
    expected = [[[255, 0, 0], [255, 255, 255], [204, 204, 204]]]  # 255 * (1 - 51/255)
    assert read_image(encode(Image.fromarray(row))).tolist() == expected


def test_grey_with_alpha() -> None:
    row = np.array([[[10, 255], [10, 0]]], np.uint8)
    expected = [[[10, 10, 10], [255, 255, 255]]]
    assert read_image(encode(Image.fromarray(row, "LA"))).tolist() == expected


def test_palette_with_and_without_a_transparent_colour() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    assert read_image(encode(image)).tolist() == [[[10, 20, 30], [40, 50, 60]]]
    data = encode(image, transparency=1)
    assert read_image(data).tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_palette_with_a_table_of_alphas_does_not_warn() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 0, 0, 0])
    image.putpixel((1, 0), 1)
    data = encode(image, transparency=bytes([255, 51]))
    assert read_image(data).tolist() == [[[10, 20, 30], [204, 204, 204]]]


def test_cmyk() -> None:
    inks = np.array([[[0, 255, 255, 0], [0, 0, 0, 255], [0, 0, 0, 0]]], np.uint8)
    image = Image.fromarray(inks, "CMYK")
    expected = [[[255, 0, 0], [0, 0, 0], [255, 255, 255]]]
    assert read_image(encode(image, "TIFF")).tolist() == expected


def test_cmyk_jpeg_is_not_inverted() -> None:
    red = Image.new("RGB", (16, 16), (200, 30, 40)).convert("CMYK")
    difference = read_image(encode(red, "JPEG")).astype(int) - [200, 30, 40]
    assert np.abs(difference).max() <= 4


def test_grey_and_bilevel() -> None:
    grey = np.array([[0, 7, 255]], np.uint8)
    assert read_image(encode(Image.fromarray(grey)))[0, :, 0].tolist() == [0, 7, 255]
    bits = Image.fromarray(grey).convert("1", dither=Image.Dither.NONE)
    assert read_image(encode(bits)).tolist() == [[[0] * 3, [0] * 3, [255] * 3]]


@pytest.mark.parametrize("format_", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_scaled_not_clipped(format_: str) -> None:
    grey = np.array([[0, 256, 0x8000, 0xFFFF]], np.uint16)
    image = read_image(encode(Image.fromarray(grey), format_))
    assert image.tolist() == [[[v] * 3 for v in (0, 1, 128, 255)]]


def test_16_bit_colour_agrees_with_16_bit_grey() -> None:
    values = (0, 300, 0x8000, 0xFFFF, 0x12FF, 511)
    data = png(2, 1, depth=16, colour=2, rows=b"\0" + struct.pack(">6H", *values))
    assert read_image(data).reshape(-1).tolist() == [v >> 8 for v in values]


def test_32_bit_whole_numbers() -> None:
    small = np.array([[0, 0x8000]], np.int32)
    assert read_image(encode(Image.fromarray(small), "TIFF"))[0, :, 0].tolist() == [0, 128]
    with pytest.raises(InputError, match="grey values beyond 16 bits; save it with 8 or 16"):
        read_image(encode(Image.fromarray(small * 4), "TIFF"))


def test_floating_point() -> None:
    fractions = np.array([[0.0, 0.5, 1.0]], np.float32)
    assert read_image(encode(Image.fromarray(fractions), "TIFF"))[0, :, 0].tolist() == [0, 128, 255]
    for bad in (fractions * 3, fractions * np.nan):
        with pytest.raises(InputError, match=r"floating-point pixels outside \[0, 1\]"):
            read_image(encode(Image.fromarray(bad), "TIFF"))


@pytest.mark.parametrize("format_", ["GIF", "PNG", "WEBP", "TIFF"])
def test_first_frame_of_an_animation(format_: str) -> None:
    frames = [Image.new("RGB", (16, 16), (shade, shade, shade)) for shade in (40, 200)]
    lossless = {"lossless": True} if format_ == "WEBP" else {}
    data = encode(frames[0], format_, save_all=True, append_images=frames[1:], **lossless)
    assert Image.open(io.BytesIO(data)).n_frames == 2
    assert (read_image(data) == 40).all()


# Bad input. Each message names the file and says what is wrong.


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.png: no such file; check the path"):
        read_image(tmp_path / "gone.png")


def test_dangling_link(tmp_path: Path) -> None:
    link = tmp_path / "link.png"
    link.symlink_to(tmp_path / "gone.png")
    with pytest.raises(InputError, match=r"link\.png: a link to a file that does not exist"):
        read_image(link)


def test_link_to_itself(tmp_path: Path) -> None:
    link = tmp_path / "loop.png"
    link.symlink_to(link)
    with pytest.raises(InputError, match=r"loop\.png: cannot be opened \(Too many levels"):
        read_image(link)


def test_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a folder; expected an image file"):
        read_image(tmp_path)


def test_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(InputError, match=r"pipe\.png: not a regular file"):
        read_image(tmp_path / "pipe.png")


def test_impossible_name() -> None:
    with pytest.raises(InputError, match="cannot be opened"):
        read_image(Path("a\0b.png"))


def test_empty(tmp_path: Path) -> None:
    path = tmp_path / "empty.jpg"
    path.touch()
    with pytest.raises(InputError, match=r"empty\.jpg: the file is empty \(0 bytes\)"):
        read_image(path)
    with pytest.raises(InputError, match=r"the image is empty \(0 bytes\)"):
        read_image(b"")


def test_not_an_image(tmp_path: Path) -> None:
    path = tmp_path / "notes.jpg"
    path.write_text("not an image")
    with pytest.raises(
        NotAnImageError, match=r"notes\.jpg: not an image in a format that is read"
    ) as found:
        read_image(path)
    assert not found.value.is_video
    path.write_bytes(b"\0\0\0\x18ftypisom" + bytes(100))
    with pytest.raises(NotAnImageError, match=r"notes\.jpg: a video; expected an image") as found:
        read_image(path)
    assert found.value.is_video


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.mark.parametrize(
    "content",
    [
        EPS,
        b"\xc5\xd0\xd3\xc6" + bytes(28) + EPS,  # EPS with a preview
        b"/* XPM */\nstatic char *a[] = {};",
        b"gimp xcf file\0",
        b"8BPS\0\1" + bytes(30),
        b"\0\0\0\x0cjP  \r\n\x87\n",  # JPEG 2000
        b"#EXTM3U\n#EXTINF:1,\n/etc/hostname\n",
        b"BM is how this text begins, and no bitmap follows",
    ],
)
def test_only_formats_that_are_meant_are_opened(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An EPS under the name of a JPEG would start Ghostscript."""

    def started(*_: object, **__: object) -> None:
        pytest.fail("a program was started")

    monkeypatch.setattr("subprocess.Popen.__init__", started)
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(NotAnImageError, match="not an image in a format that is read"):
        read_image(path)
    with pytest.raises(NotAnImageError, match="not an image in a format that is read"):
        read_image(content)


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_cut_short(tmp_path: Path, format_: str) -> None:
    noise = Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = encode(noise, format_)
    path = tmp_path / "half.img"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"half\.img: the image is damaged or cut short"):
        read_image(path)


def test_no_pixels() -> None:
    with pytest.raises(InputError, match=r"the image has no pixels|damaged"):
        read_image(png(0, 0, depth=8, colour=2, rows=b""))


def test_too_large_is_refused_before_decoding() -> None:
    """The file holds no pixels at all, so decoding would say that it is cut short."""
    data = png(20_000, 20_000, depth=8, colour=2, rows=b"")
    with pytest.raises(InputError, match="more than the 178,956,970 pixels that are read; scale"):
        read_image(data)
    assert MAX_PIXELS < 20_000 * 20_000


def test_too_large_with_pillow_unlimited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    data = png(20_000, 20_000, depth=8, colour=2, rows=b"")
    with pytest.raises(InputError, match="20000 x 20000 pixels, more than the 178,956,970"):
        read_image(data)


def test_large_pictures_do_not_warn(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(Image.fromarray(PICTURE))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)  # 35 pixels: beyond the warning's limit
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        Image.open(io.BytesIO(data))
        np.testing.assert_array_equal(read_image(data), PICTURE)
    assert [w.category for w in seen] == [Image.DecompressionBombWarning]  # Pillow's own call


@contextmanager
def as_ordinary_user() -> Iterator[Path]:
    """A folder that everybody may enter, and no rights of root."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        is_root = os.geteuid() == 0
        try:
            yield Path(name)
        finally:
            if is_root:
                os.seteuid(0)


def test_no_permission() -> None:
    with as_ordinary_user() as folder:
        (folder / "closed").mkdir()
        (folder / "closed" / "in.png").write_bytes(encode(Image.fromarray(PICTURE)))
        (folder / "secret.png").write_bytes(encode(Image.fromarray(PICTURE)))
        (folder / "secret.png").chmod(0)
        (folder / "closed").chmod(0)
        if os.geteuid() == 0:
            os.seteuid(65534)
        with pytest.raises(InputError, match=r"secret\.png: no permission to read it; change"):
            read_image(folder / "secret.png")
        with pytest.raises(InputError, match=r"in\.png: no permission to look into its folder"):
            read_image(folder / "closed" / "in.png")
        if os.geteuid() != 65534:
            (folder / "closed").chmod(0o700)


@settings(max_examples=100, deadline=None)
@given(
    format_=st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"]),
    cut=st.floats(0, 1),
    place=st.floats(0, 0.999),
    value=st.integers(0, 255),
)
def test_damaged_bytes_give_pixels_or_an_input_error(
    format_: str, cut: float, place: float, value: int
) -> None:
    data = bytearray(encode(Image.fromarray(PICTURE), format_))
    data[int(place * len(data))] = value
    del data[max(1, int(cut * len(data) * 2)) :]
    with suppress(InputError):
        image = read_image(bytes(data))
        assert image.ndim == 3
        assert image.shape[2] == 3


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("extra", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("size", [(1, 1), (33, 17), (512, 384)])
def test_the_fast_way_equals_pillow(
    subsampling: str, extra: dict[str, object], size: tuple[int, int]
) -> None:
    for quality in (5, 40, 75, 90, 100):
        coarse = RNG.integers(0, 256, (size[1] // 3 + 1, size[0] // 3 + 1, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize(size)
        content = encode(picture, "JPEG", quality=quality, subsampling=subsampling, **extra)
        with Image.open(io.BytesIO(content)) as image:
            fast, complaint = images._decode_jpeg(content, image.mode)
            assert not complaint
            np.testing.assert_array_equal(fast, np.asarray(image))
        np.testing.assert_array_equal(read_image(content), fast)


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_every_jpeg_equals_pillow(mode: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.fromarray(PICTURE).resize((50, 40)).convert(mode)
    content = encode(picture, "JPEG", quality=80, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")
    np.testing.assert_array_equal(read_image(content), np.asarray(expected))


def test_a_jpeg_of_several_images_gives_the_first() -> None:
    first, second = (Image.new("RGB", (16, 16), (shade,) * 3) for shade in (40, 200))
    content = encode(first, "MPO", save_all=True, append_images=[second])
    assert np.abs(read_image(content).astype(int) - 40).max() <= 1


# Corrupt data: what the decoder complains of is told.

FACE = np.asarray(Image.fromarray(PICTURE).resize((120, 160), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_corrupt_jpeg_is_named_damaged(mode: str, progressive: bool) -> None:
    whole = encode(Image.fromarray(FACE).convert(mode), "JPEG", progressive=progressive)
    content = whole[: len(whole) * 4 // 5] + b"\xff\xd9"
    with Image.open(io.BytesIO(content)) as image:
        expected = np.asarray(image.convert("RGB"))  # Pillow says nothing
    opened = open_image(content)
    assert "Corrupt JPEG data" in opened.damage
    np.testing.assert_array_equal(opened.pixels, expected)
    with pytest.raises(InputError, match=r"the image is damaged or cut short \(Corrupt JPEG data"):
        read_image(content)
    assert not open_image(whole).damage


def test_what_says_nothing_about_the_pixels_is_no_damage() -> None:
    whole = encode(Image.fromarray(FACE), "JPEG")
    odd_version = whole[:11] + b"\x07" + whole[12:]
    behind = whole + b"something that a camera wrote behind the image"
    for content in (odd_version, behind):
        assert not open_image(content).damage
        np.testing.assert_array_equal(read_image(content), read_image(whole))


@pytest.mark.parametrize("format_", ["PNG", "TIFF"])
def test_a_flipped_bit_in_deflated_pixels_is_refused(format_: str) -> None:
    options = {"compression": "tiff_adobe_deflate"} if format_ == "TIFF" else {}
    content = bytearray(encode(Image.fromarray(FACE), format_, **options))
    content[len(content) // 2] ^= 1
    with pytest.raises(InputError, match="the image is damaged or cut short"):
        read_image(bytes(content))


def test_everything_that_is_asked_of_a_file_comes_from_one_reading(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encode(Image.fromarray(FACE), "JPEG", quality=60))
    opened = open_image(path)
    assert opened.path == str(path)
    assert opened.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert opened.format == "JPEG"
    assert opened.quality == pytest.approx(60, abs=1)
    assert open_image(encode(Image.fromarray(FACE))).quality is None


# Files that ask for much.


def test_scans_of_a_jpeg_are_bounded_before_decoding() -> None:
    fine = jpeg_of_scans(64, 64, 10)
    assert read_image(fine).shape == (64, 64, 3)
    with pytest.raises(InputError, match="coded in 20,000 passes, more than are read; save it"):
        read_image(jpeg_of_scans(7000, 7000, 20_000))
    with pytest.raises(InputError, match=f"coded in {MAX_SCANS + 1} passes"):
        read_image(jpeg_of_scans(64, 64, MAX_SCANS + 1))
    side, scans = 10_000, MAX_SCANNED // 10_000**2 + 1
    with pytest.raises(InputError, match=f"coded in {scans} passes"):
        read_image(jpeg_of_scans(side, side, scans))


@pytest.mark.parametrize("format_", ["JPEG", "WEBP", "AVIF"])
def test_a_size_that_is_only_claimed_is_refused_by_its_header(format_: str) -> None:
    small = encode(Image.fromarray(FACE), format_)
    huge = claim_size(small, 16_000, 16_000)
    with pytest.raises(InputError, match=r"more than the .* pixels that are read|damaged"):
        read_image(huge)


def test_the_bound_on_pixels_can_be_lower() -> None:
    content = encode(Image.fromarray(FACE))
    assert open_image(content, max_pixels=160 * 120).pixels.shape == (160, 120, 3)
    with pytest.raises(InputError, match="120 x 160 pixels, more than the 19,199 pixels"):
        open_image(content, max_pixels=160 * 120 - 1)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encode(Image.fromarray(FACE)))
    os.truncate(path, images.MAX_FILE + 1)  # holes: takes no place on the disk
    with pytest.raises(InputError, match=r"a file of 671,088,641 bytes, more than"):
        read_image(path)


def test_threads_read_the_same() -> None:
    data = encode(Image.fromarray(PICTURE), "JPEG")
    expected, found = read_image(data), []
    threads = [threading.Thread(target=lambda: found.append(read_image(data))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 8
    assert all(np.array_equal(image, expected) for image in found)


def test_faces_equal_plain_pillow(faces_manifest: Path) -> None:
    for sample in read_manifest(faces_manifest).samples[::500]:
        expected = np.asarray(Image.open(sample.path).convert("RGB"))
        np.testing.assert_array_equal(read_image(sample.path), expected)
