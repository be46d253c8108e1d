"""The comparison of all detectors: who is in it, the same faces for all, and a run that goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import baselines
from mfclip.config import build_config
from mfclip.data.manifest import Manifest, Sample, read_manifest
from mfclip.detectors import DETECTORS, build_random
from mfclip.experiment.protocols import merge
from mfclip.labels import Labels


def test_every_detector_that_judges_faces_has_a_row_that_builds() -> None:
    shared, rows = baselines.read_rows()
    found = set()
    for row in rows.values():
        budget = {"image_size": 128, "epochs": 1, "batch_size": 16}
        config = baselines.plan(shared, row, Path("m.csv"), Path(), budget)
        found.add(config.model.name)
        assert config.train.validate_every == config.train.epochs == 1
        with torch.device("meta"):
            size = sum(p.numel() for p in build_random(config.model).parameters())
        assert 1e6 < size < 50e6, config.model.name
    maps = {name for name, row in DETECTORS.items() if row.judges_maps}
    assert found == set(DETECTORS) - maps - {"mfclip", "mfclip-lite"}


def test_rows_differ_in_their_model_alone_but_for_the_one_that_is_about_its_data() -> None:
    shared, rows = baselines.read_rows()
    for name, row in rows.items():
        config = build_config(merge(shared, row))
        same = build_config(shared)
        assert config.train == same.train
        assert (config.data == same.data) == (name != "SBI")


def test_a_thinned_split_is_half_real_and_the_same_each_time() -> None:
    labels = [Labels(False), Labels(True, "face_swap"), Labels(True, "entire_face_synthesis")]
    samples = [Sample(Path(f"{n}.png"), labels[n % 3], "train", str(n)) for n in range(90)]
    whole = Manifest((*samples, Sample(Path("x.png"), labels[0], "val", "x")), Path())
    part = baselines.thin(whole, 20, "train")
    assert part.samples == baselines.thin(whole, 20, "train").samples
    assert part.samples != baselines.thin(whole, 20, "train", seed=1).samples
    assert sum(sample.target for sample in part) == 10
    assert len({sample.path for sample in part}) == 20
    assert len(baselines.thin(whole, 1000, "train")) == 90


@pytest.mark.slow
def test_a_run_is_measured_once_and_gone_on_with(
    made_faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = read_manifest(made_faces)
    unseen = [Sample(s.path, s.labels, "test_unseen", f"u{s.group}") for s in whole.split("test")]
    manifest = made_faces.with_name("set.csv")
    Manifest((*whole.samples, *unseen), whole.root).write(manifest)
    out = tmp_path / "out.json"
    command = [
        str(manifest), "--runs", str(tmp_path / "runs"), "--out", str(out), "--max-steps", "2",
        "--batch-size", "4", "--image-size", "64", "--faces", "6", "--resamples", "20", "--rows",
    ]  # fmt: skip
    baselines.main([*command, "ViT"])
    report = json.loads(out.read_text())
    row = report["rows"]["ViT"]
    assert (row["steps"], report["budget"]["faces"]) == (2, 8)
    assert 0 <= row["test"]["low"] <= row["test"]["auc"] <= row["test"]["high"] <= 1
    assert row["test"]["real"] + row["test_unseen"]["fake"] == 6
    before = out.read_text()
    baselines.main([*command, "ViT"])  # nothing is left to do
    assert out.read_text() == before
    assert "| ViT | " in capsys.readouterr().out
    with pytest.raises(SystemExit):
        baselines.main([*command, "ViTT"])
    assert "expected --rows among MFCLIP (small), Xception" in capsys.readouterr().err


def test_the_table_names_what_was_reimplemented() -> None:
    figure = {"auc": 0.9, "low": 0.85, "high": None}
    rows = {
        "Yu et al.": {"model": "yu", "parameters": 21_860_000, "test": {**figure, "high": 0.95},
                      "test_unseen": {**figure, "low": None}},
    }  # fmt: skip
    assert baselines.render({"rows": rows}).splitlines()[2] == (
        "| Yu et al. (re-implemented from its description) | 21.86 M | 0.900 [0.850, 0.950] "
        "| 0.900 |"
    )
