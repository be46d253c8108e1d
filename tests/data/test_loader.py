"""Loaders against the plan, the data set, and each other."""

from __future__ import annotations

import multiprocessing
import re
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hostile import corrupt_jpeg
from mfclip.batch import Batch
from mfclip.data import dataset as dataset_module
from mfclip.data.dataset import FaceDataset
from mfclip.data.loader import ScoringLoader, StreamingLoader, TrainingLoader, scoring_loader
from mfclip.data.manifest import Manifest, Sample
from mfclip.data.sampling import BatchPlan, Sampling
from mfclip.data.shards import ShardDataset, write_shards
from mfclip.errors import ConfigError, InputError
from mfclip.labels import Labels

MODES: tuple[Sampling, ...] = ("shuffle", "balanced", "generator", "paired")


@pytest.fixture
def small(tmp_path: Path) -> Manifest:
    """Eleven noisy pictures on disk, four of them fake."""
    samples = []
    for number in range(11):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        path = tmp_path / f"{number}.png"
        Image.fromarray(pixels).save(path)
        samples.append(Sample(path, Labels(number < 4), "train", f"person {number}"))
    return Manifest(tuple(samples), tmp_path)


def faces(manifest: Manifest, **options: object) -> FaceDataset:
    return FaceDataset(manifest, resize=40, image_size=32, augment="strong", **options)


def load(
    manifest: Manifest, plan: BatchPlan, epoch: int, start: int = 0, **options: int
) -> list[Batch]:
    with closing(TrainingLoader(faces(manifest), plan, **options)) as loader:
        return list(loader.epoch(epoch, start))


def assert_equal(first: list[Batch], second: list[Batch]) -> None:
    assert len(first) == len(second) > 0
    for a, b in zip(first, second, strict=True):
        assert a.index.tolist() == b.index.tolist()
        assert a.labels == b.labels
        assert torch.equal(a.images, b.images)


def test_batches_hold_the_planned_faces(small: Manifest) -> None:
    dataset, plan = faces(small), BatchPlan(small, "balanced", 4)
    batches = load(small, plan, 2)
    assert [b.index.tolist() for b in batches] == plan.batches(2)[..., 0].tolist()
    first = batches[0]
    expected = dataset[int(first.index[0]), 2].image
    assert torch.equal(first.images[0], torch.tensor(expected.copy()).permute(2, 0, 1) / 255)


@pytest.mark.parametrize("mode", MODES)
def test_two_ranks_joined_equal_one(small: Manifest, mode: Sampling) -> None:
    plan = BatchPlan(small, mode, 4)
    alone = load(small, plan, 1)
    halves = [load(small, plan, 1, rank=rank, world_size=2) for rank in (0, 1)]
    for whole, left, right in zip(alone, *halves, strict=True):
        assert len(left) == len(right) == 2
        assert torch.equal(whole.images, torch.cat([left.images, right.images]))
        assert torch.equal(whole.index, torch.cat([left.index, right.index]))
        assert whole.labels == left.labels + right.labels


def test_batch_that_ranks_cannot_share_is_refused(small: Manifest) -> None:
    plan = BatchPlan(small, "shuffle", 4)
    with pytest.raises(ConfigError, match="batch_size 4 cannot be shared equally by 3 processes"):
        TrainingLoader(faces(small), plan, world_size=3)


@pytest.mark.parametrize("start", [0, 1, 3])
def test_resume_equals_skipping(small: Manifest, start: int) -> None:
    plan = BatchPlan(small, "shuffle", 2)
    assert_equal(load(small, plan, 5, start), load(small, plan, 5)[start:])


def test_resume_after_the_last_batch_is_empty(small: Manifest) -> None:
    plan = BatchPlan(small, "shuffle", 2)
    assert load(small, plan, 0, start=len(plan)) == []


def stream(place: Path, rank: int = 0, world_size: int = 1) -> ShardDataset:
    options = {"resize": 40, "image_size": 32, "level": "strong", "shuffle": 3}
    return ShardDataset(place, **options, ranks=(rank, world_size))


@pytest.mark.parametrize("workers", [0, 2])
def test_streamed_batches_are_the_files_and_resume(
    small: Manifest, tmp_path: Path, workers: int
) -> None:
    write_shards(small, tmp_path / "shards", samples_per_shard=2)
    loader = StreamingLoader(stream(tmp_path / "shards"), 2, workers=workers)
    assert len(loader) == (4 if workers else 5)  # two shards or three a process, the last of one
    orders = []
    for epoch in range(3):
        batches = list(loader.epoch(epoch))
        assert len(batches) == len(loader)
        orders.append([row for batch in batches for row in batch.index.tolist()])
        assert len(set(orders[-1])) == 2 * len(loader)  # no face twice
        for batch in batches:
            for image, row in zip(batch.images, batch.index.tolist(), strict=True):
                expected = torch.tensor(faces(small)[row, epoch].image.copy())
                assert torch.equal(image, expected.permute(2, 0, 1) / 255)
        assert_equal(list(loader.epoch(epoch, 2)), batches[2:])
    assert orders[0] != orders[1] != orders[2]


def test_streams_of_two_ranks_share_the_faces_in_step(small: Manifest, tmp_path: Path) -> None:
    write_shards(small, tmp_path, samples_per_shard=2)
    loaders = [StreamingLoader(stream(tmp_path, rank, 2), 4) for rank in (0, 1)]
    for epoch in range(5):
        left, right = (list(loader.epoch(epoch)) for loader in loaders)
        assert len(left) == len(right) == len(loaders[0]) == 2
        rows = [row for batch in (*left, *right) for row in batch.index.tolist()]
        assert len(set(rows)) == 8


def test_shards_too_few_for_a_batch(small: Manifest, tmp_path: Path) -> None:
    write_shards(small, tmp_path, samples_per_shard=2)
    with pytest.raises(ConfigError, match=r"6 shards of 11 faces cannot give 8 readers a batch"):
        StreamingLoader(stream(tmp_path), 2, workers=8)


@pytest.mark.parametrize("damaged", [[3], [0, 1, 2], list(range(10))])
def test_a_damaged_picture_in_a_shard_is_replaced_and_named(
    small: Manifest, tmp_path: Path, damaged: list[int]
) -> None:
    for row in damaged:
        small[row].path.write_bytes(b"no picture")
    write_shards(small, tmp_path / "shards", samples_per_shard=11)
    loader = StreamingLoader(stream(tmp_path / "shards"), 11)
    (batch,) = loader.epoch(0)
    kept = sorted(set(range(11)) - set(damaged))
    assert sorted(set(batch.index.tolist())) == kept
    assert len(batch) == 11  # as many as without damage, so that readers stay in step
    assert len(loader.unreadable) == len(damaged)
    for name, message in loader.unreadable.items():
        assert re.fullmatch(r"\d+\.png in .*000000\.tar", name)
        assert message.startswith(f"{name}: ")


def test_a_shard_without_any_picture_ends_the_epoch(small: Manifest, tmp_path: Path) -> None:
    for sample in small:
        sample.path.write_bytes(b"no picture")
    write_shards(small, tmp_path / "shards", samples_per_shard=11)
    with pytest.raises(InputError, match=r"\.png in .*000000\.tar: .*no picture of this shard"):
        list(StreamingLoader(stream(tmp_path / "shards"), 2).epoch(0))


def test_processes_load_the_same_pixels_as_threads(small: Manifest) -> None:
    """Over several epochs of the same processes, one of them left in the middle."""
    others = set(multiprocessing.active_children())
    plan = BatchPlan(small, "balanced", 2)
    threads = TrainingLoader(faces(small), plan)
    processes = TrainingLoader(faces(small), plan, workers=2)
    assert len(threads) == len(processes) == 5
    assert_equal(list(threads.epoch(0)), list(processes.epoch(0)))
    left_early = processes.epoch(1)
    next(left_early)
    left_early.close()
    assert_equal(list(threads.epoch(2, 1)), list(processes.epoch(2, 1)))
    assert len(set(multiprocessing.active_children()) - others) == 2
    processes.close()
    assert set(multiprocessing.active_children()) <= others


def test_threads_end_with_the_epoch_and_when_it_is_left(small: Manifest) -> None:
    before = set(threading.enumerate())
    epoch = TrainingLoader(faces(small), BatchPlan(small, "shuffle", 2)).epoch(0)
    next(epoch)
    assert set(threading.enumerate()) > before
    epoch.close()
    assert set(threading.enumerate()) == before


@pytest.mark.parametrize(
    ("workers", "content", "words"),
    [
        (0, b"nonsense", "not an image in a format"),
        (1, b"nonsense", "not an image in a format"),
        (
            0,
            corrupt_jpeg(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)),
            "the image is damaged or cut short (Corrupt JPEG",
        ),
    ],
)
def test_another_of_its_kind_takes_the_place_of_an_unreadable_picture(
    small: Manifest, workers: int, content: bytes, words: str
) -> None:
    small[3].path.write_bytes(content)
    plan = BatchPlan(small, "shuffle", 11)
    loader = TrainingLoader(faces(small), plan, workers=workers)
    with closing(loader):
        orders = [next(iter(loader.epoch(epoch))).index.tolist() for epoch in range(5)]
    replaced = set()
    for epoch, order in enumerate(orders):
        planned = plan.batches(epoch)[0, :, 0].tolist()
        place = planned.index(3)
        replaced.add(order[place])
        assert [*order[:place], *order[place + 1 :]] == [row for row in planned if row != 3]
    assert replaced <= {0, 1, 2}  # the other forgeries
    assert len(replaced) > 1  # not the same each time
    (message,) = loader.unreadable.values()
    assert message.startswith(f"{small[3].path}: {words}")


def test_training_ends_where_nothing_can_take_the_place(small: Manifest) -> None:
    for row in range(4):
        small[row].path.write_bytes(b"nonsense")
    with pytest.raises(InputError, match="nor could others of its kind be read in its place"):
        load(small, BatchPlan(small, "shuffle", 11), 0)


def test_batches_for_a_gpu_are_bytes_until_they_are_there(small: Manifest) -> None:
    plan = BatchPlan(small, "shuffle", 4)
    gpu = torch.device("cuda")
    for kept, sent in (
        (TrainingLoader(faces(small), plan), TrainingLoader(faces(small), plan, device=gpu)),
        (scoring_loader(faces(small), 4), scoring_loader(faces(small), 4, device=gpu)),
    ):
        passes = [iter(x) if isinstance(x, ScoringLoader) else x.epoch(0) for x in (kept, sent)]
        for floats, raw in zip(*passes, strict=True):
            assert raw.images.dtype == torch.uint8
            assert floats.images.dtype == torch.float32
            moved = raw.to("cpu")
            assert torch.equal(moved.images, floats.images)
            assert torch.equal(moved.index, floats.index)


def test_unexpected_errors_arrive_where_batches_are_consumed(
    small: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object, **named: object) -> np.ndarray:
        raise ZeroDivisionError("in the blend")

    monkeypatch.setattr(dataset_module, "self_blend", broken)
    loader = TrainingLoader(faces(small), BatchPlan(small, "balanced", 2, pairs=1.0))
    with pytest.raises(ZeroDivisionError, match="in the blend"):
        list(loader.epoch(0))


@pytest.mark.parametrize("workers", [0, 2])
def test_scoring_keeps_manifest_order_and_lists_bad_files(small: Manifest, workers: int) -> None:
    for number in (1, 4, 5, 6, 7):
        small[number].path.write_bytes(b"")
    dataset = FaceDataset(small, resize=40, image_size=32)
    loader = scoring_loader(dataset, 4, workers)
    for _ in range(2):  # a second pass finds the same
        batches = list(loader)
        assert [b.index.tolist() for b in batches] == [[0, 2, 3], [8, 9, 10]]
        assert [error.index for error in loader.errors] == [1, 4, 5, 6, 7]
        assert loader.errors[0].message.startswith(f"{small[1].path}: the file is empty")
    loader.close()
    assert isinstance(loader, ScoringLoader)
    assert len(loader) == 3
    assert torch.equal(
        batches[0].images[1], torch.tensor(dataset[2, 0].image.copy()).permute(2, 0, 1) / 255
    )
