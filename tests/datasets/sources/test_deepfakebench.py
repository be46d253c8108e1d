"""DeepfakeBench lists: back-slashes, compression level, splits listed twice, missing frames."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mfclip.data.manifest import check_groups
from mfclip.datasets.sources import ScanOptions
from mfclip.datasets.sources.deepfakebench import class_labels, scan
from mfclip.errors import ManifestError
from mfclip.experiment.cells import cells, trial_manifest
from mfclip.experiment.protocols import load_protocol
from mfclip.labels import Labels

Plant = Callable[..., Path]

RGB = "datasets/rgb/"
REAL = "FaceForensics++/original_sequences/youtube/c23/frames/000/"
FAKE = "FaceForensics++/manipulated_sequences/Face2Face/c23/frames/000_003/"
TRAIN = "FaceForensics++/manipulated_sequences/Face2Face/c23/frames/953_974/"


def video(label: str, *frames: str) -> dict[str, Any]:
    return {"label": label, "frames": [frame.replace("/", "\\") for frame in frames]}


def ff_list() -> str:
    real = {"000": video("FF-real", REAL + "000.png", REAL + "014.png")}
    fake = {"000_003": video("FF-F2F", FAKE + "000.png", FAKE + "gone.png")}
    train = {"953_974": video("FF-F2F", TRAIN + "000.png")}
    c40 = {"000_003": video("FF-F2F", FAKE.replace("c23", "c40") + "000.png")}
    tree = {
        "FF-real": {"train": {"c23": {}}, "test": {"c23": real}},
        "FF-F2F": {"train": {"c23": train}, "test": {"c23": fake, "c40": c40}},
    }
    return json.dumps({"FaceForensics++": tree})


FRAMES = [RGB + REAL + "000.png", RGB + REAL + "014.png", RGB + FAKE + "000.png"]
LIST = "preprocessing/dataset_json/FaceForensics++.json"


def test_labels_splits_and_groups_by_hand(plant: Plant) -> None:
    root = plant(*FRAMES, RGB + TRAIN + "000.png", **{LIST: ff_list()})
    for start in (root, root / LIST):
        result = scan(start)
        rows = [(s.path, s.labels, s.split, s.group) for s in result.manifest]
        real = Labels(False, generator="youtube")
        fake = Labels(True, "reenactment", None, "Face2Face")
        assert rows == [
            (root / FRAMES[0], real, "test", "ff_000"),
            (root / FRAMES[1], real, "test", "ff_000"),
            (root / FRAMES[2], fake, "test", "ff_000"),
            (root / RGB / TRAIN / "000.png", fake, "train", "ff_953"),
        ]
        assert result.manifest[0].video_id == "FaceForensics++/FF-real/000"
        assert any("1 of 5 frames are not on disk" in note for note in result.notes)


def test_another_machines_prefix_is_dropped(plant: Plant) -> None:
    moved = ff_list().replace("FaceForensics++\\\\", "D:\\\\data\\\\rgb\\\\FaceForensics++\\\\")
    root = plant("mine/" + FRAMES[0].removeprefix(RGB), **{"mine/list.json": moved})
    assert [s.path.name for s in scan(root / "mine").manifest] == ["000.png"]


def test_a_video_in_several_splits_is_test_else_train_and_val_is_carved(plant: Plant) -> None:
    def entry(name: str) -> dict[str, Any]:
        return {name: video("UADFV_Real", f"UADFV/real/frames/{name}/000.png")}

    names = [f"{n:04d}" for n in range(8)]
    both = {k: v for n in names for k, v in entry(n).items()}
    splits = {"train": both, "val": both, "test": entry("0000")}
    listed = json.dumps({"UADFV": {"UADFV_Real": splits, "UADFV_Fake": {"test": {}}}})
    root = plant(*(f"UADFV/real/frames/{n}/000.png" for n in names), **{"UADFV.json": listed})
    manifest = scan(root, ScanOptions(val_fraction=0.3)).manifest
    by_name = {s.path.parent.name: s.split for s in manifest}
    assert len(manifest) == 8
    assert by_name.pop("0000") == "test"
    assert set(by_name.values()) == {"train", "val"}
    assert not check_groups(manifest)


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("FF-real", Labels(False, generator="youtube")),
        ("DFDCP_Real", Labels(False, generator="original_videos")),
        ("DFDC_Real", Labels(False, generator="DFDC-real")),
        ("DF_real", Labels(False, generator="DF_real")),
        ("SimSwap", Labels(True, "face_swap", "gan", "SimSwap")),
        ("Celeb-DF-v2", Labels(True, "face_swap", "autoencoder", "Celeb-DF")),
        ("DFDCP_FakeB", Labels(True, "face_swap", None, "method_B")),
        ("DF_fake", Labels(True, "face_swap", "autoencoder", "DF-VAE")),
        ("simswap_Fake", Labels(True, "face_swap", "gan", "simswap")),
        ("Mine_Fake", Labels(True, generator="Mine_Fake")),
    ],
)
def test_class_names(name: str, labels: Labels) -> None:
    assert class_labels(name) == labels


def test_reals_of_celebdf_are_told_apart_by_the_name_of_the_video() -> None:
    assert class_labels("CelebDFv2_real", "id0_0001").generator == "Celeb-real"
    assert class_labels("CelebDFv2_real", "00170").generator == "YouTube-real"


def test_celebdf_pp_names_the_method_between_split_and_video(plant: Plant) -> None:
    swap, talk = "v3/FaceSwap/SimSwap/id0_id1_0000/0.png", "v3/TalkingFace/FLOAT/id2_0001/0.png"
    fake = {
        "SimSwap": {"id0_id1_0000": video("CelebDFv3_fake", swap)},
        "FLOAT": {"id2_0001": video("CelebDFv3_fake", talk)},
    }
    tree = {"Celeb-DF-v3": {"CelebDFv3_fake": {"train": {}, "test": fake}}}
    root = plant(swap, talk, **{"Celeb-DF-v3.json": json.dumps(tree)})
    rows = {(s.labels.generator, s.labels.manipulation, s.group) for s in scan(root).manifest}
    assert rows == {("SimSwap", "face_swap", "id0_0000"), ("FLOAT", "reenactment", "id2_0001")}


def test_table_5_takes_manifests_of_these_lists(plant: Plant) -> None:
    """Every name that the protocol asks for is what the lists' classes become."""
    videos = {
        "FaceForensics++": {
            "FF-real": ["000", "003", "005", "007"], "FF-DF": ["000_003", "005_007"],
            "FF-F2F": ["000_003", "005_007"], "FF-FS": ["000_003", "005_007"],
            "FF-NT": ["000_003", "005_007"],
        },
        "Celeb-DF-v2": {
            "CelebDFv2_real": ["id0_0000", "00170"], "CelebDFv2_fake": ["id0_id1_0000"]
        },
        "DFDC": {"DFDC_Real": ["aaa"], "DFDC_Fake": ["bbb"]},
        "DeeperForensics-1.0": {"DF_real": ["M101"], "DF_fake": ["000_M101"]},
    }  # fmt: skip
    frames, lists = [], {}
    for dataset, classes in videos.items():
        tree: dict[str, Any] = {}
        for label, names in classes.items():
            for name in names:
                frame = f"{dataset}/{label}/{name}/0.png"
                frames.append(frame)
                trains = dataset == "FaceForensics++" and name[:3] in {"005", "007"}
                split = "train" if trains else "test"
                part = tree.setdefault(label, {}).setdefault(split, {})
                (part.setdefault("c23", {}) if label.startswith("FF") else part)[name] = video(
                    label, frame
                )
        lists[f"{dataset}.json"] = json.dumps({dataset: tree})
    manifest = scan(plant(*frames, **lists), ScanOptions(val_fraction=0.0)).manifest
    # one training group cannot be divided: a copy of it stands for the validation split
    copies = [replace(s, path=s.path / "v", split="val") for s in manifest if s.split == "train"]
    manifest = replace(manifest, samples=(*manifest.samples, *copies))
    (cell,) = cells(load_protocol("table5_cross_dataset"), manifest, rows=["MFCLIP"])
    found = {trial.name: trial_manifest(manifest, cell, trial) for trial in cell.tests}
    assert {name: dict(part.counts()) for name, part in found.items()} == {
        "FF++": {
            "real": 2, "Deepfakes": 1, "Face2Face": 1, "FaceSwap": 1, "NeuralTextures": 1
        },
        "Celeb-DF": {"real": 2, "Celeb-synthesis": 1},
        "DFDC": {"real": 1, "DFDC-fake": 1},
        "DF-1.0": {"real": 2, "DF-VAE": 1},
    }  # fmt: skip


def test_groups_follow_the_names_of_each_data_set(plant: Plant) -> None:
    names = {
        ("CelebDFv2_fake", "id0_id1_0000"): "id0_0000",
        ("CelebDFv2_real", "id0_0000"): "id0_0000",
        ("DFD_fake", "01_02__exit_phone_room__YVGY8LOK"): "actor_01",
        ("DF_fake", "000_M101"): "M101",
        ("DFDC_Fake", "aagfhgtpmv"): "X+/aagfhgtpmv",
    }
    tree: dict[str, Any] = {}
    for label, name in names:
        tree.setdefault(label, {})["test"] = {name: video(label, f"f/{name}/0.png")}
    root = plant(*(f"f/{n}/0.png" for _, n in names), **{"X.json": json.dumps({"X+": tree})})
    found = {(s.video_id or "").removeprefix("X+/"): s.group for s in scan(root).manifest}
    assert found == {f"{label}/{name}": group for (label, name), group in names.items()}


def test_broken_copies(plant: Plant, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"expected a JSON list.*docs/data/deepfakebench.md"):
        scan(tmp_path)
    root = plant(**{LIST: ff_list()})
    with pytest.raises(ManifestError, match=r"expected frames such as FaceForensics\+\+/original"):
        scan(root)
    plant(**{LIST: '{"FaceForensics++": {"FF-real": {"train": []}}}'})
    with pytest.raises(ManifestError, match="expected data set -> class -> split -> video"):
        scan(root)
    plant(**{LIST: '{"FaceForensics++": {"FF-real": {"train": {}}}}'})
    with pytest.raises(ManifestError, match="but got 0 videos"):
        scan(root)
