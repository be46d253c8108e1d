"""The order of an epoch: every claim of the plan, counted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mfclip.data.manifest import Manifest, Sample
from mfclip.data.sampling import FORGED_HALF, REAL_HALF, BatchPlan, Sampling, check_sampling
from mfclip.errors import ConfigError
from mfclip.labels import Labels

MODES: tuple[Sampling, ...] = ("shuffle", "balanced", "generator", "paired")
GENERATORS = {"DDPM": 20, "StyleGAN2": 9, None: 4}


def sample(number: int, labels: Labels, group: str = "") -> Sample:
    return Sample(Path(f"{number}.png"), labels, "train", group or f"person {number}")


def uneven() -> Manifest:
    """70 real faces and 33 fakes of three generators; 10 fakes share a group with two reals."""
    fakes = [
        sample(number, Labels(True, "face_swap", generator=name))
        for name, count in GENERATORS.items()
        for number in range(count)
    ]
    reals = [sample(100 + number, Labels(False)) for number in range(50)]
    twins = [sample(200 + number, Labels(False), f"person {number // 2}") for number in range(20)]
    return Manifest((*fakes, *reals, *twins), Path())


def test_shuffle_visits_every_sample_once() -> None:
    plan = BatchPlan(uneven(), "shuffle", 1)
    rows = plan.batches(0)[..., 0].reshape(-1)
    assert sorted(rows.tolist()) == list(range(103))
    assert rows.tolist() != list(range(103))


@pytest.mark.parametrize("mode", MODES)
def test_last_batch_that_is_not_full_is_left_out(mode: Sampling) -> None:
    plan = BatchPlan(uneven(), mode, 24)
    assert len(plan) == 103 // 24 == 4
    assert plan.batches(0).shape == (4, 24, 3)


@pytest.mark.parametrize("mode", MODES)
def test_order_is_a_function_of_seed_and_epoch(mode: Sampling) -> None:
    manifest = uneven()
    plan, again, other = (BatchPlan(manifest, mode, 10, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(plan.batches(3), again.batches(3))
    assert not np.array_equal(plan.batches(3), plan.batches(4))
    assert not np.array_equal(plan.batches(3), other.batches(3))


@pytest.mark.parametrize("mode", ["balanced", "source", "generator", "paired"])
@pytest.mark.parametrize("batch_size", [10, 24])
def test_half_of_every_batch_is_real(mode: Sampling, batch_size: int) -> None:
    manifest = uneven()
    for batch in BatchPlan(manifest, mode, batch_size).batches(0)[..., 0]:
        assert sum(manifest[int(i)].labels.is_fake for i in batch) == batch_size // 2


@pytest.mark.parametrize("batch_size", [1, 7])
def test_odd_batches_are_balanced_over_the_epoch(batch_size: int) -> None:
    manifest = uneven()
    rows = BatchPlan(manifest, "balanced", batch_size).batches(0)[..., 0].reshape(-1)
    fakes = sum(manifest[int(i)].labels.is_fake for i in rows)
    assert abs(2 * fakes - len(rows)) <= 1


def test_balanced_repeats_the_smaller_side_evenly() -> None:
    manifest = uneven()
    rows = BatchPlan(manifest, "balanced", 2).batches(0)[..., 0].reshape(-1)
    counts = Counter(rows.tolist())
    fakes = [counts[i] for i in range(33)]  # 51 draws from 33 fakes
    reals = [counts[i] for i in range(33, 103)]  # 51 draws from 70 reals
    assert (min(fakes), max(fakes), sum(fakes)) == (1, 2, 51)
    assert (min(reals), max(reals), sum(reals)) == (0, 1, 51)


def test_balanced_reaches_every_real_face_within_a_few_epochs() -> None:
    plan = BatchPlan(uneven(), "balanced", 2)
    seen = {int(i) for epoch in range(8) for i in plan.batches(epoch)[..., 0].reshape(-1)}
    assert seen == set(range(103))


def test_every_generator_equally_often() -> None:
    manifest = uneven()
    rows = BatchPlan(manifest, "generator", 2).batches(0)[..., 0].reshape(-1)
    counts = Counter(
        manifest[int(i)].labels.generator for i in rows if manifest[int(i)].labels.is_fake
    )
    assert counts == {"DDPM": 17, "StyleGAN2": 17, None: 17}


def test_sources_by_the_root_of_their_size() -> None:
    """Generators of 16, 9 and 4 faces come as 4 to 3 to 2, and sources of real faces alike."""
    sizes = {"a": 16, "b": 9, "c": 4}
    samples = [
        Sample(Path(name if is_fake else f"real-{name}") / str(n), Labels(is_fake, generator=name)
               if is_fake else Labels(False), "train", f"{is_fake}{name}{n}")
        for is_fake in (True, False)
        for name, size in sizes.items()
        for n in range(size)
    ]  # fmt: skip
    manifest = Manifest(tuple(samples), Path())
    rows = np.concatenate(
        [BatchPlan(manifest, "source", 54).batches(epoch)[..., 0].reshape(-1) for epoch in range(4)]
    )
    seen = Counter(manifest[int(i)].path.parent.name for i in rows)
    assert seen == {
        "a": 48, "b": 36, "c": 24, "real-a": 48, "real-b": 36, "real-c": 24,
    }  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("share", [0.25, 1.0])
def test_pairs_stand_together_and_leave_the_balance(mode: Sampling, share: float) -> None:
    manifest = uneven()
    plain = BatchPlan(manifest, mode, 24, 5).batches(1)[..., 0]
    for batch, before in zip(
        BatchPlan(manifest, mode, 24, 5, share).batches(1), plain, strict=True
    ):
        halves = {role: batch[batch[:, 1] == role, 0].tolist() for role in (REAL_HALF, FORGED_HALF)}
        assert sorted(halves[REAL_HALF]) == sorted(halves[FORGED_HALF])
        reals = sum(not manifest[int(i)].labels.is_fake for i in before)
        assert len(halves[REAL_HALF]) == min(round(share * 12), reals, 24 - reals)
        assert all(not manifest[i].labels.is_fake for i in halves[REAL_HALF])
        now = [role == FORGED_HALF or manifest[int(i)].labels.is_fake for i, role, _ in batch]
        assert now == [manifest[int(i)].labels.is_fake for i in before]  # place by place


def test_paired_brings_the_real_face_of_the_group() -> None:
    manifest = uneven()
    pairs = 0
    for batch in BatchPlan(manifest, "paired", 2).batches(0)[..., 0]:
        real, fake = sorted((manifest[int(i)] for i in batch), key=lambda s: s.target)
        assert (real.target, fake.target) == (0, 1)
        if int(fake.group.split()[1]) < 10:
            assert real.group == fake.group
            pairs += 1
    assert pairs > 10


def test_the_halves_of_a_pair_share_one_draw() -> None:
    manifest = uneven()
    for batch in BatchPlan(manifest, "paired", 8).batches(0):
        draws: dict[int, list[int]] = {}
        for row, _, draw in batch.tolist():
            draws.setdefault(draw, []).append(row)
        fakes = [row for row in batch[:, 0].tolist() if manifest[row].labels.is_fake]
        assert sorted(draws) == sorted(set(fakes))  # named after the fake
        for draw, rows in draws.items():
            if fakes.count(draw) == 1:
                assert sorted(manifest[row].target for row in rows) == [0, 1]
                assert draw in rows
    made = BatchPlan(manifest, "balanced", 8, pairs=0.5).batches(0)
    assert (made[..., 2] == made[..., 0]).all()  # both halves are of one photograph


def test_slots_of_a_batch_carry_no_meaning() -> None:
    manifest = uneven()
    batches = BatchPlan(manifest, "paired", 4).batches(0)[..., 0]
    first = [manifest[int(row[0])].target for row in batches]
    assert 0 < sum(first) < len(first)


@pytest.mark.parametrize(
    ("mode", "batch_size", "message"),
    [
        ("paired", 7, "paired sampling needs an even batch_size, but got 7"),
        ("shuffle", 104, "batch_size between 1 and the 103 training samples, but got 104"),
        ("shuffle", 0, "batch_size between 1 and the 103 training samples, but got 0"),
    ],
)
def test_impossible_plans(mode: Sampling, batch_size: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BatchPlan(uneven(), mode, batch_size)


@pytest.mark.parametrize("mode", ["balanced", "source", "generator", "paired"])
def test_modes_that_need_both_classes_say_so(mode: Sampling) -> None:
    fakes = uneven().where(lambda s: s.labels.is_fake)
    with pytest.raises(ConfigError, match="the training samples hold 0 real and 33 fake; use shuf"):
        BatchPlan(fakes, mode, 8)


def test_unknown_mode() -> None:
    message = r"one of \[shuffle, balanced, source, generator, paired\], but got 'random'"
    with pytest.raises(ConfigError, match=message):
        check_sampling("random")


@pytest.mark.parametrize("mode", ["shuffle", "source"])
def test_real_faces_alone_are_halves_of_pairs(mode: Sampling) -> None:
    every = uneven()
    reals = Manifest(tuple(each for each in every if not each.labels.is_fake), Path())
    for batch in BatchPlan(reals, mode, 8, pairs=1.0).batches(0):
        halves = {role: batch[batch[:, 1] == role, 0].tolist() for role in (REAL_HALF, FORGED_HALF)}
        assert len(halves[REAL_HALF]) == 4
        assert sorted(halves[REAL_HALF]) == sorted(halves[FORGED_HALF])
    with pytest.raises(ConfigError, match="needs real and fake faces"):
        BatchPlan(reals, "source", 8, pairs=0.5)
