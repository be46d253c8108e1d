"""Trees of class folders: GenFace, DiFF, DiffusionFace, DeepFakeFace, real/fake; broken copies."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mfclip.data.manifest import check_groups
from mfclip.datasets.sources import SOURCES, ScanOptions, count_items
from mfclip.datasets.sources.generators import builtin_table, read_table
from mfclip.errors import ManifestError
from mfclip.labels import Labels

Plant = Callable[..., Path]

MINE = """
real = ["photos"]
[generators."My Swap"]
manipulation = "face_swap"
family = "gan"
folders = ["swapped_v2"]
"""


def test_genface_labels_and_groups_by_hand(plant: Plant) -> None:
    root = plant(
        *(f"real/{n:05d}.png" for n in range(40)),
        *(f"LatDiff/{n:05d}.png" for n in range(40)),
        "Diffae/00003.png",
        "FSLSD/00001_00002.png",
        "coll_diff/notes_7.png",
        "__MACOSX/real/._00000.png",
        "real/._00000.png",
    )
    result = SOURCES["genface"].scan(root)
    rows = {s.path.relative_to(root).as_posix(): s for s in result.manifest}
    assert len(rows) == 83
    assert rows["real/00007.png"].labels == Labels(False, generator="real")
    full = Labels(True, "entire_face_synthesis", "diffusion", "LatDiff")
    assert rows["LatDiff/00007.png"].labels == full
    assert rows["Diffae/00003.png"].labels.manipulation == "attribute_manipulation"
    assert rows["coll_diff/notes_7.png"].labels.generator == "CollDiff"
    assert {s.labels.depth for s in result.manifest if s.target} == {4}
    assert rows["LatDiff/00007.png"].group == rows["real/00007.png"].group == "00007"
    swapped = {rows[f"real/{n}.png"].group for n in ("00001", "00002")}
    assert swapped == {rows["FSLSD/00001_00002.png"].group} == {"00001"}
    assert not check_groups(result.manifest)
    assert {s.split for s in result.manifest} == {"train", "val", "test"}
    assert result.manifest == SOURCES["genface"].scan(root).manifest


def test_official_split_folders_win_and_names_mean_nothing_across_them(plant: Plant) -> None:
    root = plant(
        "train/real/1.png",
        "train/DDPM/1.png",
        "valid/real/1.png",
        "Testing/DDPM/1.png",
        "DDPM/1.png",
    )
    result = SOURCES["genface"].scan(root)
    assert {(s.split, s.group) for s in result.manifest} == {
        ("train", "train/1"),
        ("val", "val/1"),
        ("test", "test/1"),
    }
    assert any("1 files lie outside" in note for note in result.notes)


def test_diff_tree_takes_the_method_below_the_condition(plant: Plant) -> None:
    root = plant(
        "train/I2I/LoRA/id_0224/lora_001_000.png",
        "train/T2I/SDXL/0001.jpg",
        "test/FS/DiffFace/7.png",
        "test/FE/unheard_of/7.png",
        "train/I2I/__MACOSX/LoRA/._x.png",
    )
    result = SOURCES["diff"].scan(root, ScanOptions(val_fraction=0.0))
    rows = {s.labels.generator: (s.labels.manipulation, s.split) for s in result.manifest}
    assert rows == {
        "LoRA": ("entire_face_synthesis", "train"),
        "SDXL": ("entire_face_synthesis", "train"),
        "DiffFace": ("face_swap", "test"),
        "FE": ("attribute_manipulation", "test"),
    }
    assert {s.labels.family for s in result.manifest} == {"diffusion"}
    assert "only fake samples were found" in result.notes


def test_deepfakeface_keeps_the_four_pictures_of_one_source_together(plant: Plant) -> None:
    name = "05/2315005_1976-04-28_2012.jpg"
    other = "06/2315006_1976-04-28_2012.jpg"
    root = plant(
        *(f"{c}/{n}" for c in ("wiki", "text2img", "inpainting", "insight") for n in (name, other))
    )
    result = SOURCES["deepfakeface"].scan(root)
    assert len({s.group for s in result.manifest}) == 2
    assert not check_groups(result.manifest)
    assert count_items(result.manifest) == dict.fromkeys(SOURCES["deepfakeface"].expected, 2)


def test_diffusionface_archives(plant: Plant) -> None:
    root = plant("SDv15_DS0.5/1.png", "DiffSwap/1.png", "CelebA-HQ-img/1.jpg", "Odd/2.png")
    result = SOURCES["diffusionface"].scan(root)
    rows = {s.labels.generator: s.labels.manipulation for s in result.manifest}
    assert rows == {
        "SDv15_DS0.5": "attribute_manipulation",
        "DiffSwap": "face_swap",
        "CelebA-HQ-img": None,
    }
    note = "1 files in folders of no known class were left out: Odd (1)"
    assert note in result.notes


def test_own_table(plant: Plant) -> None:
    root = plant("photos/a.png", "swapped-V2/a.png", **{"mine.toml": MINE})
    options = ScanOptions(table=root / "mine.toml")
    manifest = SOURCES["generator_folders"].scan(root, options).manifest
    assert [s.labels for s in manifest] == [
        Labels(False, generator="photos"),
        Labels(True, "face_swap", "gan", "My Swap"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("real = [", "is not TOML"),
        ("", r"expected 'real = \[\.\.\.\]'"),
        ('[generators.X]\nmanipulaton = "face_swap"', r"generators\.X.*but got \['manipulaton'\]"),
        ('[generators.X]\nmanipulation = "swap"', r"generators\.X.*manipulation to be one of"),
    ],
)
def test_broken_tables(plant: Plant, text: str, message: str) -> None:
    root = plant("real/1.png", **{"mine.toml": text})
    with pytest.raises(ManifestError, match=message):
        SOURCES["genface"].scan(root, ScanOptions(table=root / "mine.toml"))
    with pytest.raises(ManifestError, match="no generator table"):
        SOURCES["genface"].scan(root, ScanOptions(table=root / "absent.toml"))


def test_every_generator_of_the_papers_tables_is_in_the_genface_table() -> None:
    table = read_table(builtin_table("genface"))
    published = {
        "DDPM": ("entire_face_synthesis", "diffusion"),
        "LatDiff": ("entire_face_synthesis", "diffusion"),
        "CollDiff": ("entire_face_synthesis", "diffusion"),
        "Diffae": ("attribute_manipulation", "diffusion"),
        "LatTrans": ("attribute_manipulation", "gan"),
        "IAFaces": ("attribute_manipulation", "gan"),
        "DiffFace": ("face_swap", "diffusion"),
        "FSLSD": ("face_swap", "gan"),
        "FaceSwapper": ("face_swap", "gan"),
    }
    for name, (manipulation, family) in published.items():
        assert table.find(name) == Labels(True, manipulation, family, name)


def test_plain_folders_of_pictures_frames_and_videos(plant: Plant) -> None:
    flat = SOURCES["folders"].scan(plant("real/a.png", "real/b.mp4", "fake/c.jpg"))
    assert [(s.target, s.labels.depth, s.video_id) for s in flat.manifest] == [
        (1, 1, None),
        (0, 1, None),
        (0, 1, "real/b"),
    ]


@pytest.mark.parametrize("inside", ["", "train/"])
def test_unknown_folders_beside_real_ones_are_fakes_named_after_them(
    plant: Plant, inside: str
) -> None:
    names = ("real/a.png", "StyleGAN3/b.png", "my generator/deep/c.png", "real/Diffusion/d.png")
    extra = ("masks/b.png", "elsewhere/StyleGAN3/e.png") if not inside else ()
    result = SOURCES["folders"].scan(plant(*(inside + name for name in names), *extra))
    found = {(s.path.name, s.labels.generator if s.target else "real") for s in result.manifest}
    assert found == {
        ("a.png", "real"), ("d.png", "real"),  # below real/, whatever the folder is called
        ("b.png", "StyleGAN3"), ("c.png", "my generator"),
    } | ({("e.png", "elsewhere")} if not inside else set())  # fmt: skip
    taken = "StyleGAN3, my generator" if inside else "StyleGAN3, elsewhere, my generator"
    start = f"taken as fakes, since they lie beside the real faces: {taken}"
    assert any(note.startswith(start) for note in result.notes)
    if not inside:
        note = "1 files in folders of no known class were left out: masks (1)"
        assert note in result.notes


def test_a_split_without_reals_has_the_generators_of_the_others(plant: Plant) -> None:
    root = plant("train/real/a.png", "train/GAN/b.png", "test/GAN/c.png", "test/Other/d.png")
    result = SOURCES["folders"].scan(root, ScanOptions(val_fraction=0.0))
    rows = {(s.path.name, s.split, s.labels.generator) for s in result.manifest}
    assert rows == {("a.png", "train", None), ("b.png", "train", "GAN"), ("c.png", "test", "GAN")}
    assert any("test/Other (1)" in note for note in result.notes)


def test_what_is_no_media_is_counted_and_listed(plant: Plant) -> None:
    result = SOURCES["folders"].scan(
        plant("real/a.png", "fake/b.png", "fake/b.txt", "fake/c.TXT", "README", "real/.hidden")
    )
    listed = "README, fake/b.txt, fake/c.TXT"
    note = f"left out, neither pictures nor videos: 3 (.txt 2, no ending 1): {listed}"
    assert note in result.notes


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_a_file_whose_ending_says_nothing_is_told_by_its_content(
    plant: Plant, media: dict[str, bytes]
) -> None:
    root = plant("real/a.JPG", "fake/b.png", "fake/notes", "fake/labels.txt")
    odd = {"download": ".jpg", "c.part": ".png", "clip.bin": ".mp4", "numbers.npy": ".png"}
    for name, kind in odd.items():
        (root / "real" / name).write_bytes(media[kind])
    os.mkfifo(root / "real" / "pipe")  # to open it would never end
    result = SOURCES["folders"].scan(root, ScanOptions(val_fraction=0.0))
    videos = {s.path.name: s.video_id is not None for s in result.manifest}
    assert videos == {
        "a.JPG": False, "b.png": False, "c.part": False, "clip.bin": True, "download": False,
    }  # fmt: skip
    (note,) = [note for note in result.notes if note.startswith("left out")]
    left_out = ("fake/notes", "fake/labels.txt", "real/numbers.npy", "real/pipe")
    assert all(name in note for name in left_out)


def test_many_left_out_folders_take_one_line(plant: Plant) -> None:
    names = [f"odd{number}/{n}.png" for number in range(12) for n in range(number + 1)]
    notes = SOURCES["genface"].scan(plant("real/a.png", "DDPM/b.png", *names)).notes
    (line,) = [note for note in notes if "no known class" in note]
    assert line.startswith(f"{sum(range(13))} files in folders of no known class were left out: ")
    assert "odd11 (12), odd10 (11)" in line
    assert line.endswith("and 4 more")


def test_repeated_file_names_are_frames_and_group_by_folder(plant: Plant) -> None:
    names = [f"{c}/video{v}/{f:03d}.png" for c in ("real", "fake") for v in (1, 2) for f in (0, 1)]
    root = plant(*names)
    manifest = SOURCES["folders"].scan(root).manifest
    assert {s.group for s in manifest} == {"video1", "video2"}
    assert not check_groups(manifest)
    assert len({s.video_id for s in manifest}) == 4
    by_file = SOURCES["folders"].scan(root, ScanOptions(group_by="file")).manifest
    assert {s.group for s in by_file} == {f"video{v}/00{f}" for v in (1, 2) for f in (0, 1)}


def test_broken_copies(plant: Plant, tmp_path: Path) -> None:
    for name in ("genface", "folders", "diff"):
        with pytest.raises(ManifestError, match=rf"expected a folder at .*{SOURCES[name].page}"):
            SOURCES[name].scan(tmp_path / "absent")
    root = plant("pictures/1.png")
    with pytest.raises(ManifestError, match=r"one folder named as a class.*found pictures"):
        SOURCES["genface"].scan(root)
    (root / "DDPM" / "deep").mkdir(parents=True)
    with pytest.raises(ManifestError, match=r"expected pictures or videos at .*DDPM; found deep"):
        SOURCES["genface"].scan(root)
    with pytest.raises(ManifestError, match=r"--option table=FILE.toml"):
        SOURCES["generator_folders"].scan(root)
