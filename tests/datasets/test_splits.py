"""Splits by hash of the group: values by hand, and properties over random groups."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mfclip.data.manifest import Sample, check_groups
from mfclip.datasets.splits import assign_splits, carve_validation, merge_identities
from mfclip.errors import ConfigError
from mfclip.labels import Labels

NAMES = st.lists(st.text("abcdefgh", min_size=1, max_size=2), min_size=1, max_size=40)


def make(groups: Sequence[str], split: str = "") -> list[Sample]:
    labels = Labels(is_fake=False)
    return [Sample(Path(f"/{i}.png"), labels, split, g) for i, g in enumerate(groups)]


def test_the_split_is_the_place_of_the_hash() -> None:
    samples = make([str(i) for i in range(200)])
    for sample in assign_splits(samples, seed=3):
        digest = hashlib.sha256(f"3:{sample.group}".encode()).hexdigest()
        place = int(digest[:16], 16) / 16**16
        expected = "train" if place < 0.8 else "val" if place < 0.9 else "test"
        assert sample.split == expected


@given(NAMES, st.integers(0, 5))
def test_no_group_straddles_and_order_does_not_matter(groups: list[str], seed: int) -> None:
    samples = make(groups)
    assigned = assign_splits(samples, seed=seed)
    assert not check_groups(assigned)
    assert {s.path: s.split for s in assign_splits(samples[::-1], seed=seed)} == {
        s.path: s.split for s in assigned
    }
    distinct = len(set(groups))
    assert len({s.split for s in assigned}) == min(distinct, 3)
    assert "train" in {s.split for s in assigned}


def test_later_groups_do_not_move_earlier_ones() -> None:
    few, many = [str(n) for n in range(100)], [str(n) for n in range(500)]
    after = {s.group: s.split for s in assign_splits(make(many))}
    assert all(after[s.group] == s.split for s in assign_splits(make(few)))


def test_fractions_must_add_up() -> None:
    with pytest.raises(ConfigError, match="add up to 1"):
        assign_splits(make(["a"]), fractions={"train": 0.5, "test": 0.1})
    with pytest.raises(ConfigError, match="less than 1"):
        carve_validation(make(["a"], "train"), fraction=1.0)


def test_a_swap_joins_two_people_and_all_made_of_them() -> None:
    identities = [["000"], ["003"], ["000", "003"], ["007"], ["007", "010"], ["003", "010"]]
    assert merge_identities(identities) == ["000"] * 6
    assert merge_identities(identities[:-1]) == ["000", "000", "000", "007", "007"]


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=2), max_size=20))
def test_components_equal_those_of_scipy(identities: list[list[str]]) -> None:
    edges = [(ord(names[0]) - 97, ord(names[-1]) - 97) for names in identities]
    rows, columns = zip(*edges, strict=True) if edges else ((), ())
    graph = coo_array(([1] * len(edges), (rows, columns)), shape=(10, 10))
    _, component = connected_components(graph, directed=False)
    merged = merge_identities(identities)
    for (first, _), name in zip(edges, merged, strict=True):
        assert component[first] == component[ord(name) - 97]
    numbers = {component[row]: name for (row, _), name in zip(edges, merged, strict=True)}
    assert len(set(merged)) == len(numbers)


@given(NAMES, NAMES)
def test_validation_comes_from_train_and_never_touches_test(
    train: list[str], test: list[str]
) -> None:
    samples = make(train, "train") + make(test, "test")
    carved = carve_validation(samples, fraction=0.5)
    assert [s.split for s in carved[len(train) :]] == ["test"] * len(test)
    validation = {s.group for s in carved if s.split == "val"}
    assert not validation & {s.group for s in carved if s.split != "val"}
    assert bool(validation) == (len(set(train) - set(test)) > 1)


def test_an_official_validation_split_is_left_alone() -> None:
    samples = make(["a", "b", "c"], "train") + make(["d"], "val")
    assert carve_validation(samples, fraction=0.5) == samples
