"""Shards: what comes out is what went in, once, whoever reads it."""

import io
import tarfile
from itertools import chain
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader
from webdataset import tariterators

from mfclip.data.dataset import FaceDataset
from mfclip.data.manifest import Manifest, Sample
from mfclip.data.shards import ShardDataset, write_shards
from mfclip.errors import ConfigError, ManifestError
from mfclip.labels import Labels

SIZES = {"resize": 40, "image_size": 32}


@pytest.fixture
def manifest(tmp_path):
    chance = np.random.default_rng(0)
    samples = []
    for number in range(23):
        ending = "png" if number % 2 else "jpg"
        path = tmp_path / "raw" / f"{number}.{ending}"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(chance.integers(0, 256, (44, 50, 3), np.uint8)).save(path)
        fake = number % 3 == 0
        labels = Labels(fake, "face_swap", "gan", "FSLSD") if fake else Labels(False)
        samples.append(Sample(path=path, labels=labels, split="train", group=str(number)))
    return Manifest(tuple(samples), tmp_path / "raw")


@pytest.fixture
def shards(manifest, tmp_path):
    write_shards(manifest, tmp_path / "shards", samples_per_shard=4)
    return tmp_path / "shards"


def test_files_go_in_byte_for_byte(manifest, shards):
    found = {}
    for path in sorted(shards.glob("*.tar")):
        with tarfile.open(path) as tar:
            for entry in tar:
                if not entry.name.endswith(".json"):
                    found[int(Path(entry.name).stem)] = tar.extractfile(entry).read()
    assert found == {row: sample.path.read_bytes() for row, sample in enumerate(manifest)}
    assert len(list(shards.glob("*.tar"))) == 6


def test_webdataset_reads_them(manifest, shards):
    found = []
    for path in sorted(shards.glob("*.tar")):
        with path.open("rb") as file:
            entries = ({"__url__": path.name, **e} for e in tariterators.tar_file_iterator(file))
            found += tariterators.group_by_keys(entries)
    assert sorted(int(item["__key__"]) for item in found) == list(range(23))
    for item in found:
        sample = manifest[int(item["__key__"])]
        assert item[sample.path.suffix[1:]] == sample.path.read_bytes()


def test_same_manifest_gives_the_same_bytes(manifest, shards, tmp_path):
    write_shards(manifest, tmp_path / "again", samples_per_shard=4)
    for path in shards.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("level", ["none", "strong"])
def test_items_equal_those_of_the_face_dataset(manifest, shards, level):
    direct = FaceDataset(manifest, **SIZES, augment=level, seed=3)
    stream = ShardDataset(shards, **SIZES, level=level, seed=3, shuffle=8)
    stream.set_epoch(2)
    faces = list(stream)
    assert sorted(face.index for face in faces) == list(range(23))
    for face in faces:
        expected = direct[face.index, 2]
        np.testing.assert_array_equal(face.image, expected.image)
        assert face.labels == expected.labels


def test_order_changes_with_the_epoch_and_repeats_with_it(shards):
    stream = ShardDataset(shards, **SIZES, shuffle=8)

    def order(epoch):
        stream.set_epoch(epoch)
        return [face.index for face in stream]

    assert order(0) != order(1)
    assert order(1) == order(1)
    assert order(0) != sorted(order(0))


@pytest.mark.parametrize("world", [1, 2, 3])
def test_ranks_share_the_faces(shards, world):
    parts = [
        [face.index for face in ShardDataset(shards, **SIZES, ranks=(rank, world))]
        for rank in range(world)
    ]
    assert sorted(chain(*parts)) == list(range(23))


@pytest.mark.parametrize("world", [2, 3, 5])
def test_ranks_stay_in_step_in_training(shards, world):
    left_out = set(range(23))
    for epoch in range(20):
        parts = []
        for rank in range(world):
            stream = ShardDataset(shards, **SIZES, shuffle=4, ranks=(rank, world))
            stream.set_epoch(epoch)
            parts.append([face.index for face in stream])
        assert len({len(part) for part in parts}) == 1
        seen = list(chain(*parts))
        assert len(seen) == len(set(seen)) >= 3
        left_out -= set(seen)
    assert not left_out


@pytest.mark.slow
def test_workers_share_the_faces_and_see_the_epoch(shards):
    stream = ShardDataset(shards, **SIZES)
    loader = DataLoader(
        stream,
        batch_size=None,
        num_workers=2,
        persistent_workers=True,
        multiprocessing_context="spawn",
    )
    assert sorted(face.index for face in loader) == list(range(23))
    shuffled = ShardDataset(shards, **SIZES, shuffle=4)
    loader = DataLoader(
        shuffled,
        batch_size=None,
        num_workers=2,
        persistent_workers=True,
        multiprocessing_context="spawn",
    )
    first = [face.index for face in loader]
    shuffled.set_epoch(1)
    assert [face.index for face in loader] != first


def test_another_place_is_read_through_its_opener(manifest, shards):
    store = {f"bucket://faces/{p.name}": p.read_bytes() for p in shards.iterdir()}
    stream = ShardDataset("bucket://faces", **SIZES, opener=lambda place: io.BytesIO(store[place]))
    assert sorted(face.index for face in stream) == list(range(23))


def test_an_address_is_read_with_fsspec(manifest, shards):
    store = fsspec.filesystem("memory")
    for path in shards.iterdir():
        store.pipe(f"/faces/{path.name}", path.read_bytes())
    stream = ShardDataset("memory://faces", **SIZES)
    assert sorted(face.index for face in stream) == list(range(23))


def test_too_few_shards(shards):
    stream = ShardDataset(shards, **SIZES, shuffle=4, ranks=(0, 7))
    with pytest.raises(ConfigError, match=r"7 readers .* cannot share 6 shards"):
        iter(stream)


def test_what_is_wrong_is_named(manifest, shards, tmp_path):
    with pytest.raises(ManifestError, match=r"holds no readable shards\.json"):
        ShardDataset(tmp_path, **SIZES)
    stream = ShardDataset(shards, **SIZES)
    tar = shards / "000003.tar"
    tar.write_bytes(tar.read_bytes()[:700])
    with pytest.raises(ManifestError, match=r"000003\.tar: the shard is absent or damaged"):
        list(stream)
    manifest[4].path.unlink()
    with pytest.raises(ManifestError, match=r"row 5: cannot read .*4\.jpg"):
        write_shards(manifest, tmp_path / "more")
    with pytest.raises(ConfigError, match="at least 1"):
        write_shards(manifest, tmp_path / "more", samples_per_shard=0)
