"""Patch selection as rows."""

from __future__ import annotations

import torch

from machine.patches import measure_patches
from mfclip.model.patch_selector import PATCH_SIZES


def test_one_row_a_patch_size_of_the_paper() -> None:
    rows = measure_patches(torch.device("cpu"), batch_size=3, rounds=4)
    sizes = [int(row.name.split()[2]) for row in rows]
    assert sizes == [112, 56, 28]
    assert set(sizes) <= set(PATCH_SIZES)
    assert {(row.images, len(row.timing.seconds)) for row in rows} == {(3, 4)}
