"""Videos made here: which frames come, when they are shown, and what broken files say."""

from fractions import Fraction

import av
import numpy as np
import pytest

import mfclip.media.video as video_module
from mfclip.errors import InputError
from mfclip.media.video import check_ends, frames, frames_at, probe, scan, write_video


def grey(number, size=(48, 64)):
    """A picture whose brightness tells its number."""
    return np.full((*size, 3), 4 * number, np.uint8)


def number_of(frame):
    return round(float(frame.image.mean()) / 4)


def encode(path, images, *, times=None, rotation=0, codec="libx264", gop=12):
    """Write a video with PyAV itself; `times` in milliseconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"g": str(gop), "crf": "1"})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = times[index] if times else index * 40
            frame.time_base = Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture
def video(tmp_path):
    return encode(tmp_path / "plain.mp4", [grey(i) for i in range(60)])


def test_count_takes_the_middle_of_equal_parts(video):
    found = list(frames(video, count=4))
    assert [f.index for f in found] == [7, 22, 37, 52]
    assert [number_of(f) for f in found] == [7, 22, 37, 52]
    np.testing.assert_allclose([f.seconds for f in found], np.array([7, 22, 37, 52]) / 25)


def test_every_nth(video):
    assert [number_of(f) for f in frames(video, every=13)] == [0, 13, 26, 39, 52]


@pytest.mark.parametrize("gop", [1, 5, 250])
def test_jumping_to_keyframes_equals_decoding_all(tmp_path, gop):
    chance = np.random.default_rng(0)
    images = [chance.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(70)]
    path = encode(tmp_path / "noise.mp4", images, gop=gop)
    with av.open(str(path)) as container:
        whole = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    for count in (1, 3, 9, 69, 70):
        for frame in frames(path, count=count):
            np.testing.assert_array_equal(frame.image, whole[frame.index])
    assert [f.index for f in frames(path, count=200)] == list(range(70))


def test_a_late_frame_is_reached_by_a_jump(tmp_path, monkeypatch):
    path = encode(tmp_path / "long.mp4", [grey(i % 60) for i in range(300)], gop=20)
    decoded = []
    plain = video_module._good_frames

    def counted(container, stream):
        for frame in plain(container, stream):
            decoded.append(frame.pts)
            yield frame

    monkeypatch.setattr(video_module, "_good_frames", counted)
    (late,) = frames_at(path, scan(path), [290])
    assert number_of(late) == 290 % 60
    assert len(decoded) <= 20
    decoded.clear()
    assert len(list(frames(path, every=1))) == 300
    assert len(decoded) == 300


def test_frames_of_two_sizes_are_all_read(tmp_path):
    """A transport stream of two, joined end to end."""
    parts = [
        encode(tmp_path / f"{part}.ts", [grey(9, size)] * 10, times=times)
        for part, size, times in (
            (0, (48, 64), [40 * i for i in range(10)]),
            (1, (64, 96), [800 + 40 * i for i in range(10)]),
        )
    ]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    shapes = [frame.image.shape[:2] for frame in frames(joined, every=1)]
    assert shapes[-10:] == [(64, 96)] * 10
    assert set(shapes[:-10]) == {(48, 64)}


def test_frames_come_one_by_one(video):
    stream = frames(video, every=1)
    assert next(stream).index == 0
    assert next(stream).index == 1


def test_variable_frame_rate_keeps_the_true_times(tmp_path):
    times = [0, 40, 80, 500, 520, 2000, 2040, 5000]
    path = encode(tmp_path / "variable.mp4", [grey(i * 5) for i in range(8)], times=times)
    found = list(frames(path, count=8))
    assert [number_of(f) // 5 for f in found] == list(range(8))
    np.testing.assert_allclose([f.seconds for f in found], np.array(times) / 1000, atol=2e-3)


@pytest.mark.parametrize("rotation", [0, 90, -90, 180])
def test_rotation_is_applied(tmp_path, rotation):
    image = np.zeros((48, 64, 3), np.uint8)
    image[:24, :32] = 200
    path = encode(tmp_path / "turned.mp4", [image] * 3, rotation=rotation)
    frame = next(frames(path, count=1))
    expected = np.rot90(image, rotation // 90)
    assert frame.image.shape == expected.shape
    assert np.abs(frame.image.astype(int) - expected).mean() < 8
    info = probe(path)
    assert (info.height, info.width) == expected.shape[:2]


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.avi", "mpeg4"), ("a.avi", "mjpeg"), ("a.mkv", "libx264"), ("a.ts", "mpeg4")],
)
def test_other_containers(tmp_path, name, codec):
    times = [i * 40 for i in range(30)]
    path = encode(tmp_path / name, [grey(2 * i) for i in range(30)], codec=codec, times=times)
    found = list(frames(path, count=3))
    assert [f.index for f in found] == [5, 15, 25]
    assert [number_of(f) / 2 for f in found] == pytest.approx([5, 15, 25], abs=0.6)
    np.testing.assert_allclose([f.seconds for f in found], [0.2, 0.6, 1.0], atol=2e-3)


def test_stream_without_header_or_times(tmp_path):
    """Bare H.264: no duration, no frame count, no time stamps."""
    path = encode(tmp_path / "bare.h264", [grey(i) for i in range(20)])
    found = list(frames(path, count=4))
    assert [f.index for f in found] == [2, 7, 12, 17]
    assert [number_of(f) for f in found] == [2, 7, 12, 17]
    assert probe(path).num_frames == 20


def test_probe_by_hand(video):
    info = probe(video)
    assert (info.width, info.height, info.num_frames, info.codec) == (64, 48, 60, "h264")
    assert info.seconds == pytest.approx(60 / 25)
    assert info.fps == pytest.approx(25)


def test_damaged_middle_gives_the_good_frames(tmp_path):
    chance = np.random.default_rng(0)
    images = [chance.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(40)]
    path = encode(tmp_path / "damaged.mkv", images, gop=4)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + len(content) // 10] = bytes(len(content) // 10)
    path.write_bytes(content)
    found = [f.index for f in frames(path, count=8)]
    assert found == sorted(set(found))
    assert 4 <= len(found) <= 8


def test_cut_off_end_gives_what_is_there(tmp_path):
    chance = np.random.default_rng(0)
    images = [chance.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(40)]
    path = encode(tmp_path / "cut.mkv", images, gop=4)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found = list(frames(path, count=5))
    assert len(found) == 5
    assert 10 < probe(path).num_frames < 30
    assert found[-1].index < 30


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "empty"), (b"no video at all " * 50, "not a video"), (None, "no such file")],
)
def test_what_is_no_video(tmp_path, content, message):
    path = tmp_path / "wrong.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        list(frames(path))
    with pytest.raises(InputError, match=message):
        probe(path)


@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi", "mov", "ts"])
def test_whole_videos_have_both_ends(tmp_path, ending):
    check_ends(encode(tmp_path / f"a.{ending}", [grey(i) for i in range(60)]))


@pytest.mark.parametrize("gop", [12, 250])
def test_a_missing_end_is_found(tmp_path, gop):
    chance = np.random.default_rng(0)
    images = [chance.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(50)]
    whole, path = encode(tmp_path / "whole.mp4", images, gop=gop), tmp_path / "download.mp4"
    with (
        av.open(str(whole)) as source,
        av.open(str(path), "w", options={"movflags": "faststart"}) as copy,
    ):  # the header first, as videos for the web have it
        stream = copy.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                copy.mux(packet)
    check_ends(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    with pytest.raises(InputError, match="its end is missing"):
        check_ends(path)


def test_header_cut_off(video):
    video.write_bytes(video.read_bytes()[:700])
    with pytest.raises(InputError, match="header is cut off"):
        list(frames(video))


def test_a_title_in_an_unknown_encoding_does_not_matter(video):
    with av.open(str(video)) as source, av.open(str(video.with_name("titled.mp4")), "w") as copy:
        copy.metadata["title"] = "TITLETITLE"
        track = copy.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = track
                copy.mux(packet)
    content = video.with_name("titled.mp4").read_bytes()
    assert content.count(b"TITLETITLE") == 1
    broken = video.with_name("broken.mp4")
    broken.write_bytes(content.replace(b"TITLETITLE", b"\xff\xfe" * 5))
    assert [number_of(f) for f in frames(broken, count=4)] == [7, 22, 37, 52]


def test_sound_alone_is_no_video(tmp_path):
    path = tmp_path / "sound.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(InputError, match="holds no video"):
        probe(path)


@pytest.mark.parametrize("wrong", [{"count": 0}, {"every": 0}])
def test_counts_below_one(video, wrong):
    with pytest.raises(InputError, match="at least 1"):
        list(frames(video, **wrong))


def test_written_video_reads_back(tmp_path):
    images = [grey(i, (47, 63)) for i in range(30)]
    path = tmp_path / "folder" / "copy.mp4"
    write_video(path, iter(images), 10.0)
    found = list(frames(path, every=1))
    assert [number_of(f) for f in found] == list(range(30))
    assert found[0].image.shape == (48, 64, 3)
    assert found[-1].seconds == pytest.approx(2.9)
    assert [file.name for file in path.parent.iterdir()] == ["copy.mp4"]


def test_failed_writing_leaves_nothing(tmp_path):
    with pytest.raises(InputError, match="expected pictures of"):
        write_video(tmp_path / "a.mp4", [grey(0), grey(1, (32, 32))], 25.0)
    with pytest.raises(InputError, match="no picture"):
        write_video(tmp_path / "b.mp4", [], 25.0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [b"#EXTM3U\n#EXTINF:1,\n/etc/hostname\n", b"ffconcat version 1.0\nfile a.mp4\n", b"RIFF"],
)
def test_playlists_and_the_like_are_not_opened(tmp_path, content):
    """FFmpeg would read the files and addresses that they name."""
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.mp4: not a video in a format that is read; expected"):
        probe(path)


def test_whatever_pyav_raises_names_the_file(video, monkeypatch):
    """A damaged header can leave PyAV without a decoder, which it meets with an AttributeError."""

    class NoDecoder:
        disposition = 0
        codec_context = None

    class Container:
        streams = type("Streams", (), {"video": [NoDecoder()]})()

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

    monkeypatch.setattr(av, "open", lambda *_, **__: Container())
    with pytest.raises(
        InputError, match=r"the video's coding is unknown, or its header is damaged"
    ):
        scan(video)
    monkeypatch.setattr(NoDecoder, "codec_context", "nonsense")
    for use in (scan, check_ends, probe):
        with pytest.raises(InputError, match=r"\.mp4: the video is damaged \(.*; get it anew"):
            use(video)
