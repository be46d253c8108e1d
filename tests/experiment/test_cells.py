"""Cells: which runs a protocol asks for, what each trains on, and the balanced tests."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfclip.config import RunConfig
from mfclip.data.manifest import Manifest, Sample, read_manifest
from mfclip.datasets.sources.generators import builtin_table, read_table
from mfclip.errors import ConfigError, ManifestError
from mfclip.experiment.cells import Cell, cell_config, cells, train_manifest, trial_manifest
from mfclip.experiment.protocols import Protocol, Row, Subset, load_protocol
from mfclip.labels import Labels

ROOT = Path("set")


def _samples(labels: Labels, split: str, count: int, video: str | None = None) -> list[Sample]:
    name = labels.generator or "x"
    return [
        Sample(ROOT / f"{name}_{split}_{n}.png", labels, split, f"{name}{split}{n}", video)
        for n in range(count)
    ]


@pytest.fixture(scope="module")
def genface() -> Manifest:
    """4 fakes of each generator and 10 reals in train, 2 and 3 in val, 5 and 12 in test."""
    labels = set(read_table(builtin_table("genface")).labels.values())
    found: list[Sample] = []
    for label in sorted(labels, key=str):
        if label.is_fake:
            counts = (4, 2, 5)
        elif label.generator == "real":
            counts = (10, 3, 12)
        else:
            continue
        for split, count in zip(("train", "val", "test"), counts, strict=True):
            found += _samples(label, split, count)
    return Manifest(tuple(found), ROOT)


def _generators(manifest: Manifest, split: str) -> Counter[str]:
    return manifest.where(lambda s: s.split == split).counts()


@pytest.mark.parametrize(
    ("name", "runs", "tests"),
    [
        ("table1_cross_forgery", 10 * 3, 2),  # 6 cells a model
        ("table2_cross_generator_fs", 10 * 3, 2),
        ("table3_cross_diffusion", 10 * 5, 4),  # 20 cells a model
        ("table4_cross_generator_am", 10 * 3, 2),
        ("table6_components", 8, 4),
        ("table7_patch_size", 6, 4),
        ("table8_spa", 6, 3),
        ("table9_losses", 4, 4),
        ("fig7_robustness", 10, 1 + 7 * 5),
        ("fig8_prompt_levels", 8, 3),
    ],
)
def test_number_of_runs_and_tests(genface: Manifest, name: str, runs: int, tests: int) -> None:
    found = cells(load_protocol(name), genface)
    assert len(found) == runs
    assert {len(cell.tests) for cell in found} == {tests}
    assert len({cell.key for cell in found}) == runs


def test_a_cell_trains_on_its_generator_and_all_reals(genface: Manifest) -> None:
    cell = _cell(genface, "table3_cross_diffusion", "MFCLIP", "CollDiff")
    part = train_manifest(genface, cell)
    assert _generators(part, "train") == {"real": 10, "CollDiff": 4}
    assert _generators(part, "val") == {"real": 3, "CollDiff": 2}
    assert len(part) == 19  # nothing of the test split
    assert [test.name for test in cell.tests] == ["DDPM", "LatDiff", "DiffFace", "Diffae"]


def _cell(manifest: Manifest, name: str, row: str, train: str) -> Cell:
    (cell,) = cells(load_protocol(name), manifest, rows=[row], trains=[train])
    return cell


def test_manipulations_take_all_their_generators(genface: Manifest) -> None:
    cell = _cell(genface, "table1_cross_forgery", "ViT", "AM")
    part = train_manifest(genface, cell)
    assert _generators(part, "train") == {"real": 10, "Diffae": 4, "IAFaces": 4, "LatTrans": 4}
    assert [test.name for test in cell.tests] == ["EFS", "FS"]


def test_tests_are_one_to_one_on_one_pool_of_reals(genface: Manifest) -> None:
    cell = _cell(genface, "table3_cross_diffusion", "CViT", "DDPM")
    pools = []
    for test in cell.tests:
        part = trial_manifest(genface, cell, test)
        assert part.counts() == {"real": 5, test.subset.name: 5}
        assert {sample.split for sample in part} == {"test"}
        pools.append({sample.path for sample in part if not sample.labels.is_fake})
    assert all(pool == pools[0] for pool in pools)


def test_a_smaller_test_takes_a_part_of_the_same_reals(genface: Manifest) -> None:
    fewer = genface.where(lambda s: s.labels.generator != "LatDiff" or "_4." not in s.path.name)
    cell = _cell(fewer, "table3_cross_diffusion", "CViT", "DDPM")
    small, large = (
        {s.path for s in trial_manifest(fewer, cell, t) if not s.labels.is_fake}
        for t in (cell.tests[0], cell.tests[1])
    )
    assert (len(small), len(large)) == (4, 5)
    assert small < large


def test_with_more_fakes_than_reals_the_fakes_are_drawn(genface: Manifest) -> None:
    cell = _cell(genface, "table1_cross_forgery", "ViT", "AM")
    part = trial_manifest(genface, cell, cell.tests[0])  # EFS: 4 generators x 5
    assert sum(s.target for s in part) == 12
    assert len(part) == 24


@given(st.randoms(use_true_random=False), st.integers(0, 3))
@settings(max_examples=20, deadline=None)
def test_the_draw_depends_on_the_files_and_the_seed_alone(genface, random, seed) -> None:  # type: ignore[no-untyped-def]
    cell = replace(_cell(genface, "table1_cross_forgery", "ViT", "AM"), test_seed=seed)
    shuffled = list(genface.samples)
    random.shuffle(shuffled)
    moved = [replace(s, path=Path("else") / s.path.relative_to(ROOT)) for s in shuffled]
    one = trial_manifest(genface, cell, cell.tests[0])
    other = trial_manifest(Manifest(tuple(moved), Path("else")), cell, cell.tests[0])
    assert {s.path.name for s in one} == {s.path.name for s in other}


def test_another_test_seed_draws_others(genface: Manifest) -> None:
    cell = _cell(genface, "table3_cross_diffusion", "CViT", "DDPM")
    draws = {
        frozenset(
            s.path for s in trial_manifest(genface, replace(cell, test_seed=n), cell.tests[0])
        )
        for n in range(4)
    }
    assert len(draws) > 1


def test_training_seeds_share_the_tests(genface: Manifest) -> None:
    protocol = load_protocol("table8_spa")
    found = cells(protocol, genface, rows=["CLIP w/ SPA"], seeds=[3, 5])
    assert [cell.seed for cell in found] == [3, 5]
    assert [cell.key for cell in found] == [
        "CLIP_w_SPA__CollDiff__seed3", "CLIP_w_SPA__CollDiff__seed5",
    ]  # fmt: skip
    one, other = (trial_manifest(genface, c, c.tests[0]) for c in found)
    assert one == other


def _video_protocol(balanced: bool) -> Protocol:
    subset = Subset(name="all")
    return Protocol(
        name="videos", title="", data="", rows=(Row(name="r"),), train=(subset,), test=(subset,),
        balanced=balanced,
    )  # fmt: skip


@pytest.mark.parametrize(("balanced", "fake_videos"), [(True, 2), (False, 3)])
def test_whole_videos_are_drawn(balanced: bool, fake_videos: int) -> None:
    fake, real = Labels(True, "face_swap", None, "F"), Labels(False, generator="R")
    found: list[Sample] = []
    for split, (label, count) in product(("train", "val", "test"), ((fake, 3), (real, 2))):
        for video in range(count):
            frames = _samples(label, split, 4, f"{split}{video}")
            found += [replace(s, path=s.path.with_suffix(f".{video}")) for s in frames]
    manifest = Manifest(tuple(found), ROOT)
    (cell,) = cells(_video_protocol(balanced), manifest)
    part = trial_manifest(manifest, cell, cell.tests[0])
    counts = Counter((s.target, s.video_id) for s in part)
    assert set(counts.values()) == {4}  # never a part of a video
    assert Counter(target for target, _ in counts) == {1: fake_videos, 0: 2}


def _ff() -> Manifest:
    """The four sets of Table V, one video each a split and class; DF-1.0 without its real part."""
    fakes = ["Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures", "Celeb-synthesis"]
    reals = ["youtube", "Celeb-real", "YouTube-real", "DFDC-real"]
    names = [(True, name) for name in (*fakes, "DFDC-fake", "DF-VAE")]
    names += [(False, name) for name in reals]
    return Manifest(
        tuple(
            sample
            for (is_fake, name), split in product(names, ("train", "val", "test"))
            for sample in _samples(Labels(is_fake, generator=name), split, 3)
        ),
        ROOT,
    )


def test_cross_dataset_keeps_the_reals_of_each_set_and_its_balance() -> None:
    manifest = _ff()
    (cell,) = cells(load_protocol("table5_cross_dataset"), manifest, rows=["MFCLIP"])
    reals = {
        test.name: {
            s.labels.generator for s in trial_manifest(manifest, cell, test) if not s.labels.is_fake
        }
        for test in cell.tests
    }
    assert reals == {
        "FF++": {"youtube"},
        "Celeb-DF": {"Celeb-real", "YouTube-real"},
        "DFDC": {"DFDC-real"},
        "DF-1.0": {"youtube"},
    }
    part = trial_manifest(manifest, cell, cell.tests[0])
    assert Counter(s.target for s in part) == {1: 12, 0: 3}  # the official list, not 1:1
    trained = {s.labels.generator for s in train_manifest(manifest, cell)}
    assert trained == {"Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures", "youtube"}
    assert cell.overrides["model.text.max_levels"] == 2


def test_the_settings_of_a_run(genface: Manifest) -> None:
    cell = replace(_cell(genface, "table6_components", "IE + FTE", "CollDiff"), seed=7)
    assert cell.overrides == {
        "data.sampling": "balanced",
        "model.use_noise": False,
        "model.use_predictor": False,
        "model.spa.mode": "none",
    }
    base = {"model": {"name": "mfclip-small", "spa": {"targets": "one-hot"}}, "seed": 1}
    config = cell_config(cell, base)
    assert (config.seed, config.model.name, config.model.embed_dim) == (7, "mfclip-small", 128)
    assert (config.model.use_noise, config.model.spa.mode) == (False, "none")
    assert config.model.spa.targets == "one-hot"
    assert base["seed"] == 1
    whole = _cell(genface, "table6_components", "NE + IE + FTE + predictor + SPA", "CollDiff")
    assert cell_config(replace(whole, overrides={})) == RunConfig()
    with pytest.raises(ConfigError, match="unknown key 'modl'"):
        cell_config(cell, {"modl": {}})


def test_another_detector_takes_the_image_size_and_nothing_else_of_the_base_model() -> None:
    base = {
        "model": {"name": "mfclip-small", "image_size": 128, "dropout": 0.2},
        "train": {"epochs": 3},
    }
    manifest = _ff()
    found = cells(load_protocol("table5_cross_dataset"), manifest, rows=["ViT", "CLIP", "MFCLIP"])
    vit, clip, mfclip = (cell_config(cell, base) for cell in found)
    assert [c.model.name for c in (vit, clip, mfclip)] == ["vit", "clip", "mfclip-small"]
    assert vit.model == RunConfig().model.model_copy(update={"name": "vit", "image_size": 128})
    assert (clip.model.dropout, clip.model.text.max_levels) == (0.0, 2)
    assert (mfclip.model.dropout, mfclip.model.embed_dim) == (0.2, 128)
    assert {c.train.epochs for c in (vit, clip, mfclip)} == {3}


def test_an_absent_generator_is_named_with_those_present(genface: Manifest) -> None:
    protocol = load_protocol("table3_cross_diffusion")
    lacking = genface.where(lambda s: s.labels.generator != "LatDiff")
    with pytest.raises(ManifestError, match="training set 'LatDiff': no sample of generator") as e:
        cells(protocol, lacking)
    for name in ("LatDiff in split train", "CollDiff", "DDPM", "StyleGAN3", "TOML"):
        assert name in str(e.value)
    kept = ["DDPM", "CollDiff"]
    found = cells(protocol, lacking, trains=kept, tests=kept, rows=["MFCLIP"])
    assert [(c.train.name, [t.name for t in c.tests]) for c in found] == [
        ("DDPM", ["CollDiff"]), ("CollDiff", ["DDPM"]),
    ]  # fmt: skip


def test_a_generator_without_test_images_is_named(genface: Manifest) -> None:
    lacking = genface.where(lambda s: s.labels.generator != "Diffae" or s.split != "test")
    with pytest.raises(ManifestError, match=r"test set 'Diffae': .*Diffae in split test; there:"):
        cells(load_protocol("table3_cross_diffusion"), lacking)


def test_missing_reals_and_manipulations_are_named(genface: Manifest) -> None:
    protocol = load_protocol("table1_cross_forgery")
    fakes = genface.where(lambda s: s.labels.is_fake)
    with pytest.raises(ManifestError, match="no real sample in split train; there: CollDiff"):
        cells(protocol, fakes)
    no_swaps = genface.where(lambda s: s.labels.manipulation != "face_swap")
    with pytest.raises(ManifestError, match="no sample of manipulation face_swap"):
        cells(protocol, no_swaps)
    with pytest.raises(ManifestError, match="no sample of real source youtube in split"):
        cells(load_protocol("table5_cross_dataset"), _ff().where(lambda s: s.target == 1))


def test_a_file_in_two_splits_is_refused(genface: Manifest) -> None:
    first = genface[0]
    twice = replace(genface, samples=(*genface.samples, replace(first, split="other")))
    with pytest.raises(ManifestError, match=r"is in split .* and in split 'other'"):
        cells(load_protocol("table9_losses"), twice)


def test_unknown_names_are_refused(genface: Manifest) -> None:
    protocol = load_protocol("table9_losses")
    for kind in ("row", "train", "test"):
        with pytest.raises(ConfigError, match=f"expected each {kind} to be one of .*but got Nope"):
            cells(protocol, genface, **{f"{kind}s": ["Nope"]})


def test_the_faces_protocols_fit_the_faces(faces_manifest: Path) -> None:
    manifest = read_manifest(faces_manifest)
    sizes = {}
    for name in ("faces_cross_family", "faces_cross_generator", "faces_unseen"):
        (cell, *_) = cells(load_protocol(name), manifest, rows=["MFCLIP"], seeds=[0])
        for test in cell.tests:
            counts = Counter(s.target for s in trial_manifest(manifest, cell, test))
            assert counts[0] == counts[1]
            sizes[name, test.name] = counts[1]
    # the table in the README of the faces: StyleGAN1, StyleGAN2 and SFHQ
    assert sizes["faces_cross_family", "gan"] == 169 + 116 + 91
    assert sizes["faces_unseen", "StableDiffusion-3"] == 81
    assert sizes["faces_unseen", "seen"] == 1948 - 834  # all fakes of test, fewer than the reals
