import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from mfclip.errors import InputError
from mfclip.evaluate.metrics import FIGURES, compute_metrics
from mfclip.evaluate.report import evaluate_scores
from mfclip.evaluate.scores import ScoredSample, Scores
from mfclip.labels import Labels

KINDS = (
    Labels(False, generator="FFHQ"),
    Labels(False, generator="MEBeauty"),
    Labels(True, "face_swap", "gan", "FSLSD"),
    Labels(True, "face_swap", "diffusion", "DiffFace"),
    Labels(True, "entire_face_synthesis", "diffusion", "DDPM"),
    Labels(True),
)


@pytest.fixture
def scores() -> Scores:
    """Ten samples of each kind, and one that failed."""
    random = np.random.default_rng(0)
    rows = [
        ScoredSample(f"{k}/{i}.png", kind, "test", f"g{i}", score=float(random.beta(1 + k, 4)))
        for k, kind in enumerate(KINDS)
        for i in range(10)
    ]
    failed = ScoredSample("bad.png", KINDS[2], "test", "bad", error="the file is empty")
    return Scores((*rows, failed))


def test_every_kind_meets_the_same_reals(scores: Scores) -> None:
    found = evaluate_scores(scores, fitted_threshold=0.3, resamples=20)
    rows = {(row.level, row.name): row for row in found.rows}
    assert [*rows] == [
        ("overall", "all"),
        ("generator", "DDPM"),
        ("generator", "DiffFace"),
        ("generator", "FSLSD"),
        ("generator", "unknown"),
        ("manipulation", "entire_face_synthesis"),
        ("manipulation", "face_swap"),
        ("manipulation", "unknown"),
        ("family", "diffusion"),
        ("family", "gan"),
        ("family", "unknown"),
    ]
    assert {row.metrics.num_real for row in found.rows} == {20}
    assert [row.metrics.num_fake for row in found.rows] == [
        40,
        10,
        10,
        10,
        10,
        10,
        20,
        10,
        20,
        10,
        10,
    ]
    part = scores.scored.where(
        lambda s: not s.labels.is_fake or s.labels.manipulation == "face_swap"
    )
    expected = compute_metrics(part.score, part.target, fitted_threshold=0.3)
    assert rows["manipulation", "face_swap"].metrics == expected


def test_equal_fakes_make_equal_overall(scores: Scores) -> None:
    # AUC over all fakes is the mean of the generators' (ten fakes each, same reals).
    found = evaluate_scores(scores, resamples=0)
    parts = [row.metrics.auc for row in found.rows if row.level == "generator"]
    assert found.overall.auc == pytest.approx(np.mean(parts))


def test_json_holds_what_is_needed_to_repeat(scores: Scores, tmp_path: Path) -> None:
    found = evaluate_scores(
        scores, resamples=10, seed=4, config_fingerprint="c0", manifest_fingerprint="m0"
    )
    path = tmp_path / "new" / "metrics.json"
    found.write(path)
    read = json.loads(path.read_text(encoding="utf-8"))
    assert read["schema"] == 1
    assert read["errors"] == [{"path": "bad.png", "error": "the file is empty"}]
    assert read["bootstrap"] == {"resamples": 10, "seed": 4, "num_groups": 10, "interval": 0.95}
    assert (read["config_fingerprint"], read["manifest_fingerprint"]) == ("c0", "m0")
    assert {"mfclip", "torch", "numpy", "python", "commit", "processor"} <= set(read["provenance"])
    first = read["rows"][0]
    assert tuple(first["figures"]) == FIGURES
    assert first["figures"]["auc"] == found.overall.auc
    assert first["figures"]["accuracy_fitted"] is None
    assert first["undefined"]["accuracy_fitted"] == "not defined: no fitted threshold"
    low, high = first["intervals"]["auc"]["low"], first["intervals"]["auc"]["high"]
    assert low <= first["figures"]["auc"] <= high
    assert [file.name for file in path.parent.iterdir()] == ["metrics.json"]
    assert (read["unit"], read["pool"]) == ("frame", None)


def test_tables_show_the_same_numbers(scores: Scores) -> None:
    found = evaluate_scores(scores, fitted_threshold=0.25, resamples=20)
    markdown = found.to_markdown()
    lines = markdown.splitlines()
    assert lines[0].endswith("1 sample(s) not scored")
    assert len(lines) == 2 + 2 + len(found.rows)
    assert len({line.count("|") for line in lines[2:]}) == 1
    interval = found.rows[0].intervals["auc"]
    text = f"{found.overall.auc:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
    assert lines[4].startswith(f"| all | 20 | 40 | {text} |")
    assert "ACC@0.250 (fitted)" in lines[2]


def test_terminal_table_fits_and_shows_the_same_numbers(scores: Scores) -> None:
    found = evaluate_scores(scores, fitted_threshold=0.25, resamples=20)
    console = Console(width=85, file=io.StringIO())
    console.print(found.to_table())
    shown = console.file.getvalue().splitlines()
    assert "n/a" not in shown[0]
    for row in found.rows:
        line = next(line for line in shown if line.startswith(f"{row.name} "))
        interval = row.intervals["auc"]
        values = [
            f"{value:.3f}".removeprefix("0")
            for value in (row.metrics.auc, interval.low, interval.high, row.metrics.brier)
        ]
        cells = line.split()
        assert cells[1] == str(row.metrics.num_fake)
        assert [cells[2], *cells[3].split("-"), cells[-1]] == values
        shown.remove(line)


def test_one_class_is_said_not_crashed(scores: Scores) -> None:
    found = evaluate_scores(scores.where(lambda s: s.labels.is_fake), resamples=10)
    assert found.overall.undefined["auc"] == "not defined: only fakes"
    assert "| n/a |" in found.to_markdown()
    assert "n/a = not defined: only fakes" in found.to_markdown().splitlines()[0]
    assert found.to_dict()["rows"][0]["figures"]["auc"] is None


def test_nothing_scored_is_said_not_crashed(scores: Scores) -> None:
    found = evaluate_scores(scores.failed, resamples=10)
    assert "n/a = not defined: no samples" in found.to_markdown()
    assert [row.level for row in found.rows] == ["overall"]
    assert found.overall.undefined["auc"] == "not defined: no samples"


def test_splits_are_not_mixed(scores: Scores) -> None:
    other = ScoredSample("x", KINDS[0], "val", "x", score=0.5)
    with pytest.raises(InputError, match=r"one split, but got \[test, val\]"):
        evaluate_scores(Scores((*scores, other)))
    with pytest.raises(InputError, match=r"one split, but got \[\]"):
        evaluate_scores(Scores(()))


def test_videos_are_counted_and_their_frames_joined() -> None:
    random = np.random.default_rng(1)
    rows, means = [], {}
    for number in range(24):
        kind, video = KINDS[number % 4], f"v{number}"
        values = random.beta(2 + number % 4, 4, 3)
        means[video] = float(values.mean())
        rows += [
            ScoredSample(f"{video}/{i}.png", kind, "test", video, video, float(value))
            for i, value in enumerate(values)
        ]
    found = evaluate_scores(Scores(tuple(rows)), pool="mean", resamples=50)
    target = np.array([int(KINDS[number % 4].is_fake) for number in range(24)])
    expected = compute_metrics(np.array(list(means.values())), target)
    assert found.overall.auc == expected.auc
    assert (found.overall.num_real, found.overall.num_fake, found.num_groups) == (12, 12, 24)
    assert (found.unit, found.to_dict()["pool"]) == ("video", "mean")
    assert found.to_markdown().startswith("test, videos (mean of frames): ")


def test_more_frames_of_the_same_videos_do_not_narrow_the_interval() -> None:
    # equal copies of each frame say nothing new, so the intervals stay to the digit
    random = np.random.default_rng(2)
    once = [
        ScoredSample(f"{i}", KINDS[3 * (i % 2)], "test", f"frame {i}", f"v{i}", random.random())
        for i in range(40)
    ]
    copies = [
        ScoredSample(f"{s.path}-{n}", s.labels, "test", f"{s.group}-{n}", s.video_id, s.score)
        for s in once
        for n in range(8)
    ]
    intervals = [
        evaluate_scores(Scores(tuple(rows)), resamples=200).rows[0].intervals["auc"]
        for rows in (once, copies)
    ]
    assert intervals[1].high - intervals[1].low == pytest.approx(
        intervals[0].high - intervals[0].low, abs=0.04
    )
