"""Batches: cut and moved with whatever was loaded."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from helpers import tiny_batch
from mfclip.batch import Batch


@pytest.fixture
def whole() -> Batch:
    """Five faces with masks, partners and sentences."""
    batch = tiny_batch(5)
    return replace(
        batch,
        masks=torch.arange(5.0).view(5, 1, 1, 1).expand(5, 1, 32, 32) / 5,
        partner=torch.tensor([-1, 0, 4, 2, -1]),
        texts=("one", None, "three", "four", None),
    )


def test_parts_hold_every_field_in_order(whole: Batch) -> None:
    parts = whole.split(2)
    assert list(map(len, parts)) == [3, 2]
    for name in ("images", "target", "index", "masks"):
        joined = torch.cat([getattr(part, name) for part in parts])
        assert torch.equal(joined, getattr(whole, name))
    assert parts[0].labels + parts[1].labels == whole.labels
    assert [part.texts for part in parts] == [("one", None, "three"), ("four", None)]


def test_partners_are_places_in_the_part(whole: Batch) -> None:
    parts = whole.split(2)
    assert [part.partner.tolist() for part in parts] == [[-1, 0, -1], [-1, -1]]
    assert replace(whole, partner=torch.tensor([1, 0, -1, 4, 3])).split(2)[1].partner.tolist() == [
        1,
        0,
    ]


def test_what_was_not_loaded_stays_away() -> None:
    for part in [*tiny_batch(4).split(3), tiny_batch(4).to("cpu"), tiny_batch(4).channels_last()]:
        assert part.masks is part.partner is part.texts is None


def test_every_tensor_moves(whole: Batch) -> None:
    moved = whole.to("meta")
    assert {moved.images.device, moved.masks.device, moved.partner.device} == {torch.device("meta")}
    assert moved.texts == whole.texts
