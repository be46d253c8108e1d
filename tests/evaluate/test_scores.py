import resource
from pathlib import Path

import numpy as np
import pytest

from mfclip.errors import InputError
from mfclip.evaluate.scores import COLUMNS, ScoredSample, Scores, read_scores, video_scores
from mfclip.labels import Labels

REAL = Labels(False, generator="FF-real")
SWAP = Labels(True, "face_swap", "autoencoder", "Deepfakes")
REENACTED = Labels(True, "reenactment", "graphics", "Face2Face")


def frame(
    path: str, labels: Labels, video: str | None, score: float | None, group: str | None = None
) -> ScoredSample:
    error = None if score is not None else "the picture is damaged"
    return ScoredSample(path, labels, "test", group or path, video, score, error)


def test_csv_round_trip(tmp_path: Path) -> None:
    scores = Scores(
        (
            frame('a, "b".png', REAL, "000", 1 / 3),
            frame("ü/ö.png", SWAP, None, float(np.float32(0.1)), "person 7"),
            frame("bad.png", Labels(True), None, None),
        )
    )
    path = tmp_path / "new" / "scores.csv"
    scores.write(path)
    assert read_scores(path) == scores
    assert path.read_text(encoding="utf-8").splitlines()[0] == ",".join(COLUMNS)
    assert [file.name for file in path.parent.iterdir()] == ["scores.csv"]


def test_a_failed_write_leaves_the_old_table(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    good = Scores((frame("a.png", REAL, None, 0.5),))
    good.write(path)
    more = Scores(tuple(frame(f"{number}.png", REAL, None, 0.1) for number in range(1000)))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            more.write(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert read_scores(path) == good
    assert list(tmp_path.iterdir()) == [path]


def test_arrays_and_parts() -> None:
    rows = (frame("a", REAL, None, 0.25), frame("b", SWAP, None, None), frame("c", SWAP, None, 1.0))
    scores = Scores(rows)
    np.testing.assert_array_equal(scores.score, [0.25, np.nan, 1])
    np.testing.assert_array_equal(scores.target, [0, 1, 1])
    assert scores.groups == ["a", "b", "c"]
    assert scores.scored.samples == (rows[0], rows[2])
    assert scores.failed.samples == (rows[1],)
    assert len(scores.split("val")) == 0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.png,fake,,,,test,g,,0,0.5,", "row 1: label 'fake' and target '0' disagree"),
        ("a.png,fake,,,,test,g,,1,high,", "row 1: could not convert string to float: 'high'"),
        ("a.png,maybe,,,,test,g,,1,0.5,", "row 1: expected label to be one of"),
        ("a.png,fake", "row 1: "),
    ],
)
def test_wrong_rows_are_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "scores.csv"
    path.write_text(f"{','.join(COLUMNS)}\n{line}\n", encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_scores(path)


def test_absent_table_and_column_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no table of scores at"):
        read_scores(tmp_path / "scores.csv")
    (tmp_path / "scores.csv").write_text("path,label\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"lacks the column\(s\) manipulation, family"):
        read_scores(tmp_path / "scores.csv")


@pytest.mark.parametrize(("how", "expected"), [("mean", 0.4), ("median", 0.3), ("max", 0.8)])
def test_frames_are_pooled(how: str, expected: float) -> None:
    frames = [frame(f"{i}.png", SWAP, "000_003", s) for i, s in enumerate((0.8, 0.3, 0.1, None))]
    (video,) = video_scores(Scores(tuple(frames)), how)
    assert video.score == pytest.approx(expected)
    assert (video.path, video.group, video.labels) == ("000_003", "000_003", SWAP)


def test_manipulations_of_one_name_stay_apart() -> None:
    rows = [
        frame("r1", REAL, "000", 0.1, "p0"),
        frame("s1", SWAP, "000", 0.7, "p0"),
        frame("f1", REENACTED, "000", 0.9, "p0"),
        frame("r2", REAL, "000", 0.3, "p0"),
        frame("still1", REAL, None, 0.5),
        frame("still2", REAL, None, 0.6),
    ]
    found = [(v.path, v.labels, v.score, v.group) for v in video_scores(Scores(tuple(rows)))]
    assert found == [
        ("000", REAL, pytest.approx(0.2), "p0"),
        ("000", SWAP, 0.7, "p0"),
        ("000", REENACTED, 0.9, "p0"),
        ("still1", REAL, 0.5, "still1"),
        ("still2", REAL, 0.6, "still2"),
    ]


def test_a_video_without_scored_frames_is_an_error() -> None:
    (video,) = video_scores(Scores((frame("a", REAL, "7", None), frame("b", REAL, "7", None))))
    assert video.score is None
    assert video.error == "none of 2 frame(s) could be scored: the picture is damaged"


def test_frames_of_a_video_are_drawn_together_whatever_their_groups() -> None:
    rows = (
        frame("a1", REAL, "a", 0.1, "p0"),
        frame("a2", REAL, "a", 0.2, "p1"),  # a manifest that gives each frame its own group
        frame("b1", SWAP, "b", 0.7, "p1"),
        frame("c1", SWAP, "c", 0.8, "p2"),
        frame("still", REAL, None, 0.5, "p2"),
        frame("other", REAL, None, 0.5, "p3"),
    )
    groups = Scores(rows).groups
    assert groups[0] == groups[1] == groups[2]
    assert groups[3] == groups[4]
    assert len(set(groups)) == 3
