"""Checkpoints of others: tensors come out, and nothing of a file runs."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from mfclip.checkpoints import read_checkpoint
from mfclip.errors import WeightsError

TENSORS = {"a.weight": torch.arange(6.0).view(2, 3), "a.count": torch.tensor(7)}


class Trap:
    """Leaves a trace if anything calls it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))  # what unpickling would call


def same(found: dict[str, Tensor], expected: dict[str, Tensor] = TENSORS) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
        assert found[name].dtype == value.dtype


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "tree",
    [
        TENSORS,
        {"state_dict": TENSORS, "epoch": 3},
        {"optimizer": {"state": {0: {"step": torch.ones(1)}}}, "model": TENSORS, "best": 0.5},
        {"state_dict": {f"module.{k}": v for k, v in TENSORS.items()}},
        {"args": argparse.Namespace(lr=1e-4), "model": TENSORS},
        {"net_g": TENSORS, "epoch": 3},
    ],
)
def test_the_networks_tensors_are_found(tree: Any, zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    torch.save(tree, path, _use_new_zipfile_serialization=zipped)
    same(read_checkpoint(path))


def test_safetensors_and_half_precision_come_as_float32(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    half = {name: v.half() if v.is_floating_point() else v for name, v in TENSORS.items()}
    safetensors.torch.save_file(half, path)
    same(read_checkpoint(path))


def test_a_whole_module_gives_its_tensors_without_its_class(tmp_path: Path) -> None:
    stranger = types.ModuleType("stranger")
    kind = type("Network", (nn.Module,), {"__module__": "stranger"})
    stranger.Network = kind  # type: ignore[attr-defined]
    sys.modules["stranger"] = stranger
    network = kind()
    network.last = nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 2))
    network.norm = nn.BatchNorm1d(2)
    path = tmp_path / "whole.p"
    torch.save(network, path)
    del sys.modules["stranger"]
    same(read_checkpoint(path), network.state_dict())


def test_nothing_of_a_file_runs(tmp_path: Path) -> None:
    path, trace = tmp_path / "trap.pth", tmp_path / "trace"
    torch.save({"model": TENSORS, "extra": Trap(trace)}, path)
    with contextlib.suppress(WeightsError):  # refused, or read without it
        same(read_checkpoint(path))
    assert not trace.exists()
    torch.load(path, weights_only=False)  # the trap itself works
    assert trace.exists()


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ([torch.ones(1)], "holds no dictionary of tensors, but a list"),
        ({"left": TENSORS, "right": TENSORS}, r"under none of \[state_dict, .*\[left, right\]"),
        ({"epoch": 3}, r"under none of"),
    ],
)
def test_files_without_one_network_are_refused(tree: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    torch.save(tree, path)
    with pytest.raises(WeightsError, match=message):
        read_checkpoint(path)


def test_damaged_and_absent_files_are_refused(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.pth", tmp_path / "cut.pth"
    torch.save(TENSORS, whole)
    cut.write_bytes(whole.read_bytes()[:-200])
    for path in (cut, tmp_path / "words.pth", tmp_path / "empty.pth"):
        if path != cut:
            path.write_text("no pickle" if path.name == "words.pth" else "")
        with pytest.raises(WeightsError, match=r"cannot be read for its tensors alone"):
            read_checkpoint(path)
    with pytest.raises(WeightsError, match="no checkpoint at"):
        read_checkpoint(tmp_path / "absent.pth")


def test_a_torchscript_program_is_refused_with_advice(tmp_path: Path) -> None:
    path = tmp_path / "program.pt"
    with pytest.warns(DeprecationWarning, match="deprecated"):
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), path)
    with pytest.raises(WeightsError, match="TorchScript program; take the safetensors file"):
        read_checkpoint(path)
