"""Which face stands for a video, and which moments for the face: cases counted by hand."""

from __future__ import annotations

from mfclip.predict.video_prediction import FrameScore, Track, find_moments, find_suspect


def track(number: int, scores: list[float]) -> Track:
    frames = tuple(FrameScore(i, i / 2, score, None) for i, score in enumerate(scores))
    return Track(number, frames, {})


def test_the_highest_mean_decides_not_the_highest_frame() -> None:
    calm, jumpy = track(1, [0.6] * 10), track(2, [1.0, *[0.1] * 9])
    assert find_suspect([calm, jumpy], 10) is calm


def test_two_frames_of_forty_do_not_decide_but_four_do() -> None:
    main = track(1, [0.2] * 40)
    for frames, decides in ((2, False), (3, False), (4, True)):
        brief = track(2, [0.9] * frames)
        assert (find_suspect([main, brief], 40) is brief) == decides


def test_where_no_face_stays_the_one_seen_longest_decides() -> None:
    faces = [track(1, [0.9]), track(2, [0.1, 0.2]), track(3, [0.3, 0.4]), track(4, [0.8])]
    assert find_suspect(faces, 40).number == 3


def test_moments_keep_their_distance() -> None:
    face = track(1, [0.1, 0.8, 0.9, 0.7, 0.2, 0.6])  # half a second apart
    assert [moment.index for moment in find_moments(face, 3, 0.0)] == [2, 1, 3]
    assert [moment.index for moment in find_moments(face, 3, 1.0)] == [2, 5, 0]
    assert [moment.index for moment in find_moments(face, 9, 1.2)] == [2, 5]
