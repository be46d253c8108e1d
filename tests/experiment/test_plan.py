"""What is run and what is skipped, and every mistake that is found before anything trains."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from mfclip.data.manifest import Framing, Manifest, Sample, read_manifest
from mfclip.detectors import DETECTORS, build_random
from mfclip.errors import ConfigError, ManifestError, MissingExtraError
from mfclip.experiment.plan import (
    Experiment,
    join_manifests,
    plan_experiment,
    refuse_ineffective,
    row_config,
    skip_reason,
)
from mfclip.experiment.protocols import load_protocol
from mfclip.labels import Labels

Planner = Callable[..., Experiment]


def test_rows_without_a_detector_are_skipped_with_the_reason(planner: Planner) -> None:
    found = planner()
    keys = [cell.key for cell in found.cells]
    assert keys == [
        "MFCLIP__A__seed0", "MFCLIP__A__seed1", "image_alone__A__seed0", "image_alone__A__seed1",
    ]  # fmt: skip
    assert [skipped.row for skipped in found.skipped] == ["DIRE"]
    assert "'dire' judges maps that are computed from faces" in found.skipped[0].reason
    config = row_config(found.protocol, "MFCLIP", {"model": {"name": "mfclop"}})
    assert "no detector 'mfclop'; it has mfclip, mfclip-small" in str(skip_reason(config))


def test_every_detector_there_is_is_run(planner: Planner) -> None:
    found = planner()
    for name in DETECTORS:
        config = row_config(found.protocol, "MFCLIP", {"model": {"name": name}})
        assert (skip_reason(config) is None) == (name != "dire")


TABLES = ("table1_cross_forgery", "table2_cross_generator_fs", "table3_cross_diffusion",
          "table4_cross_generator_am", "table5_cross_dataset", "fig7_robustness")  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_all_rows_of_the_paper_can_be_run_but_that_of_maps(name: str, tmp_path: Path) -> None:
    """The dry run: every cell has its faces and a detector that can be built."""
    protocol = load_protocol(name)
    pictures = {split: tmp_path / f"{split}.png" for split in ("train", "val", "test")}
    for path in pictures.values():
        Image.new("RGB", (32, 32)).save(path)
    samples = []
    for subset in dict.fromkeys((*protocol.train, *protocol.test)):
        fakes = [
            Labels(True, manipulation, None, generator)
            for manipulation in subset.manipulation or ("face_swap",)
            for generator in subset.generator or ("any",)
        ]
        reals = [Labels(False, generator=source) for source in subset.real or ("FFHQ",)]
        for number, labels in enumerate([*fakes, *reals] * 2):
            for split, path in pictures.items():
                samples.append(Sample(path, labels, split, f"{subset.name} {split} {number}"))
    planned = plan_experiment(protocol, Manifest(tuple(samples), tmp_path))
    rows = [row.name for row in protocol.rows]
    assert [skipped.row for skipped in planned.skipped] == [row for row in rows if row == "DIRE"]
    runs = {row: sum(cell.row == row for cell in planned.cells) for row in rows if row != "DIRE"}
    assert set(runs.values()) == {len(protocol.train) * len(protocol.seeds)}
    reimplemented = {"VLFFD", "DD-VQA", "FoCus", "Yu et al."}
    for cell in planned.cells:
        with torch.device("meta"):
            build_random(planned.config(cell).model)
        note = " (re-implemented from its description)"
        assert cell.label == cell.row + note * (cell.row in reimplemented)


def test_settings_are_base_then_row_then_seed(planner: Planner, made_faces: Path) -> None:
    found = planner()
    config = found.config(found.cells[-1], Path("somewhere.csv"))
    assert (config.model.use_noise, config.seed, config.train.epochs) == (False, 1, 2)
    assert config.data.manifest == Path("somewhere.csv")
    assert config.data.root == made_faces.parent
    assert found.config(found.cells[-1]).fingerprint == config.fingerprint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {"train_split": "val"}}, r"leave out data\.train_split"),
        ({"model": {"name": "xception"}}, "size MFCLIP .* got 'xception'"),
        ({"train": {"epoch": 3}}, "did you mean 'train.epochs'"),
    ],
)
def test_shared_settings_that_cannot_be(
    planner: Planner, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        planner(base=change)


def test_a_setting_that_a_row_fixes_cannot_be_changed(planner: Planner) -> None:
    refuse_ineffective(planner(), ["train.epochs", "model.embed_dim"])
    with pytest.raises(ConfigError, match="'image, alone', so --set model"):
        refuse_ineffective(planner(), ["model.use_noise"])
    refuse_ineffective(planner(rows=["MFCLIP"]), ["model.use_noise"])


def test_pictures_that_are_not_on_disk_are_found_at_once(
    planner: Planner, made_faces: Path
) -> None:
    whole = read_manifest(made_faces)
    moved = [
        replace(s, path=s.path.with_suffix(".gone")) if s.split == "test" else s for s in whole
    ]
    with pytest.raises(ManifestError, match="6 pictures of the test 'A' are not on disk"):
        planner(manifest=Manifest(tuple(moved), whole.root))


def test_video_compression_without_its_package_is_refused_before_training(
    planner: Planner, protocol_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    protocol_file.write_text(protocol_file.read_text().replace('["GB"]', '["GB", "VC"]'))
    monkeypatch.setitem(sys.modules, "av", None)  # as if it were not installed
    with pytest.raises(MissingExtraError, match=r"mfclip\[video\]"):
        planner()


def test_joined_manifests_hold_all_samples(made_faces: Path, tmp_path: Path) -> None:
    whole = read_manifest(made_faces)
    whole.split("test").write(tmp_path / "test.csv")
    parts = join_manifests([made_faces, made_faces])
    assert len(parts) == 2 * len(whole)
    assert parts.root == whole.root
    elsewhere = join_manifests([tmp_path / "test.csv"], root=made_faces.parent)
    assert [s.path for s in elsewhere] == [s.path for s in whole.split("test")]
    with pytest.raises(ManifestError, match="at least one manifest"):
        join_manifests([])


def test_joined_manifests_must_be_cut_alike(made_faces: Path, tmp_path: Path) -> None:
    whole = read_manifest(made_faces)
    paths = []
    for name, margin in (("a", 1.3), ("b", 1.3), ("c", 1.15)):
        framing = Framing(margin, align=True)
        replace(whole, framing=framing).write(tmp_path / name / "m.csv")
        paths.append(tmp_path / name / "m.csv")
    joined = join_manifests([*paths[:2], made_faces])  # of the last nothing is known
    assert joined.framing == Framing(1.3, align=True)
    with pytest.raises(ManifestError, match=r"not cut alike .*margin 1\.3.*margin 1\.15"):
        join_manifests(paths)


def test_settings_that_contradict_the_framing_are_refused_before_training(
    protocol_file: Path, made_faces: Path
) -> None:
    manifest = replace(read_manifest(made_faces), framing=Framing(1.3, align=True))
    with pytest.raises(ConfigError, match=r"data\.face_margin = 1\.15 contradicts the data"):
        plan_experiment(load_protocol(protocol_file), manifest, {"data": {"face_margin": 1.15}})
