"""Figures over seeds, and what has none."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from mfclip.errors import InputError
from mfclip.evaluate.cross_auc import cross_auc
from mfclip.evaluate.metrics import auc, equal_error_rate
from mfclip.evaluate.scores import read_scores, video_scores
from mfclip.experiment.paper import paper_value
from mfclip.experiment.protocols import plain_name
from mfclip.experiment.report_text import to_csv
from mfclip.experiment.results import read_results, summarise
from mfclip.experiment.store import Store, write_json
from mfclip.experiment.tables import Notes, build_sections

Storer = Callable[..., Store]
TABLE = "table3_cross_diffusion"


def test_mean_and_deviation_over_seeds_by_hand() -> None:
    figure = summarise([0.8, 0.9, 1.0], [0.7, 0.8, 0.9], [0.9, 1.0, 1.0])
    assert figure.mean == pytest.approx(0.9)
    assert figure.spread == pytest.approx(0.1)  # sqrt((0.01 + 0 + 0.01) / 2)
    assert figure.low == pytest.approx(0.8)
    assert figure.high == pytest.approx(2.9 / 3)
    assert math.isnan(summarise([0.8], [0.7], [0.9]).spread)
    assert math.isnan(summarise([0.8, math.nan], [0.7, 0.7], [0.9, 0.9]).mean)


def test_entries_are_means_of_what_the_scores_give(storer: Storer) -> None:
    store = storer(TABLE, ["MFCLIP"], train="CollDiff", seeds=(0, 1, 2))
    entries = read_results(store).find("MFCLIP", "CollDiff")
    assert [e.test for e in entries] == ["DDPM", "LatDiff", "DiffFace", "Diffae"]
    for entry in entries:
        parts = [
            read_scores(store.finished(f"MFCLIP__CollDiff__seed{n}") / "tests" / entry.test
                        / "scores.csv")
            for n in range(3)
        ]  # fmt: skip
        for name, function in (("auc", auc), ("eer", equal_error_rate)):
            mean = sum(function(part.score, part.target) for part in parts) / 3
            assert entry.figures[name].mean == pytest.approx(mean)
        assert entry.seeds == (0, 1, 2)
        assert (entry.num_real, entry.num_fake) == (10, 10)
        figure = entry.figures["auc"]
        assert figure.low < figure.mean < figure.high


def test_videos_are_judged_by_the_mean_of_their_frames(storer: Storer) -> None:
    store = storer("table5_cross_dataset", ["MFCLIP"], train="FF++")
    results = read_results(store)
    frames, videos = (results.find("MFCLIP", "FF++", unit) for unit in ("frame", "video"))
    assert [e.test for e in frames] == [e.test for e in videos]
    for frame, video in zip(frames, videos, strict=True):
        path = store.finished("MFCLIP__FF__seed0") / "tests" / plain_name(frame.test)
        scores = read_scores(path / "scores.csv")
        pooled = video_scores(scores)
        assert frame.figures["auc"].mean == auc(scores.score, scores.target)
        assert video.figures["auc"].mean == auc(pooled.score, pooled.target)
        assert video.num_fake == frame.num_fake / 2


def test_cross_auc_is_that_of_the_tests_scores(storer: Storer) -> None:
    store = storer("table5_cross_dataset", ["MFCLIP"], train="FF++", seeds=(0, 1))
    results = read_results(store)
    videos = next(each for each in results.crossed if each.unit == "video")
    expected = []
    for seed in (0, 1):
        tests = store.finished(f"MFCLIP__FF__seed{seed}") / "tests"
        parts = {
            place.name: video_scores(read_scores(place / "scores.csv")) for place in tests.iterdir()
        }
        expected.append(cross_auc(parts, resamples=0).cross_auc)
    assert videos.figures["cross_auc"].mean == pytest.approx(sum(expected) / 2)
    assert (videos.tests, videos.seeds) == (4, (0, 1))
    section = build_sections(results, Notes())[-1]
    assert section.title == "Trained on FF++, over all tests, videos"
    assert section.tables[0].lines[0].values[0].text.startswith(f"{50 * sum(expected):.2f} ")
    lines = [line for line in to_csv(results).splitlines() if ",cross_auc," in line]
    assert len(lines) == 2  # frames and videos


def test_tests_on_one_data_set_have_no_cross_auc(storer: Storer) -> None:
    assert read_results(storer(TABLE, ["MFCLIP"], train="CollDiff")).crossed == ()


def test_the_papers_figures_stand_only_beside_the_papers_cells(storer: Storer) -> None:
    store = storer(TABLE, ["MFCLIP", "Xception"], train="CollDiff")
    for entry in read_results(store).entries:
        for metric in ("auc", "accuracy"):
            value = paper_value("III", entry.row, "CollDiff", entry.test, metric)
            assert entry.paper[metric].value == value


def test_own_protocols_have_no_printed_figures(storer: Storer, protocol_file: Path) -> None:
    entries = read_results(storer(protocol_file, ["MFCLIP"], train="A")).entries
    assert not any(entry.paper for entry in entries)
    places = [(e.unit, e.subset, e.perturbation, e.level) for e in entries]
    assert places == [
        (unit, subset, *damage)
        for unit in ("frame", "video")
        for subset in ("A", "B")
        for damage in ((None, 0), ("GB", 5))
    ]


def test_what_has_no_figures_says_why(storer: Storer) -> None:
    store = storer(TABLE, ["MFCLIP"], train="CollDiff")
    store.unfinished("ViT__DDPM__seed0").mkdir(parents=True)
    store.fail("ViT__DDPM__seed0", ValueError("no good"))
    absent = read_results(store).absent
    assert absent["ViT__DDPM__seed0"] == "failed: ValueError: no good"
    assert absent["DIRE"].startswith("skipped: 'dire' judges maps")
    assert absent["Xception"] == "not run yet"
    assert not {"MFCLIP", "ViT"} & absent.keys()


def test_runs_are_in_the_order_of_the_protocol(storer: Storer) -> None:
    store = storer(TABLE, ["MFCLIP", "CViT"], train="CollDiff", seeds=(1, 0))
    runs = [(run["row"], run["seed"]) for run in read_results(store).runs]
    assert runs == [("CViT", 0), ("CViT", 1), ("MFCLIP", 0), ("MFCLIP", 1)]


def test_folders_that_cannot_be_read(storer: Storer, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no experiment in .*mfclip experiment run"):
        read_results(Store(tmp_path))
    store = storer(TABLE, ["MFCLIP"], train="CollDiff")
    path = store.finished("MFCLIP__CollDiff__seed0") / "result.json"
    write_json(path, {**json.loads(path.read_text()), "schema": 99})
    with pytest.raises(InputError, match=r"not of this version of mfclip \(schema 1\)"):
        read_results(store)
    path.write_text(path.read_text()[:50])
    with pytest.raises(InputError, match="damaged"):
        read_results(store)


def test_rows_that_were_reimplemented_say_so(storer: Storer) -> None:
    results = read_results(storer(TABLE, ["MFCLIP", "VLFFD"], train="CollDiff"))
    sections = build_sections(results, Notes())
    names = {line.row for each in sections for table in each.tables for line in table.lines}
    assert names == {"MFCLIP", "VLFFD (re-implemented from its description)"}
