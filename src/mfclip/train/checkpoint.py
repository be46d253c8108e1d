"""Checkpoints: one safetensors file with everything needed to go on to the bit.

Nothing in it can execute code: tensors, and numbers as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mfclip.errors import ConfigError, ManifestError, TrainingError, WeightsError
from mfclip.train.step import Learner
from mfclip.weights import read_tensors, write_tensors


@dataclass
class Progress:
    """Where a run stands.

    Attributes:
        epoch: the epoch under way, from 0.
        batch: batches of that epoch already trained on.
        step: optimiser steps so far.
        validated: the step of the last validation.
        best: best validation figure so far; None before the first validation.
        history: one record a validation.
        fingerprint: hash of the run's configuration.
        data: hash of the training and validation rows; empty in checkpoints of 0.1.0.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    validated: int = 0
    best: float | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    fingerprint: str = ""
    data: str = ""


def save_checkpoint(path: Path, progress: Progress, learner: Learner) -> None:
    """Write the state of a run, whole or not at all.

    There is no state of random numbers in it: each step seeds them anew.

    Raises:
        TrainingError: it cannot be written (disk full, no permission); the last one is intact.
    """
    tensors = {f"model.{k}": v for k, v in learner.detector.state_dict().items()}
    state, average = learner.optimizer.state_dict(), learner.average
    for index, entries in state["state"].items():
        # momentum that has not begun is None
        kept = {k: v for k, v in entries.items() if v is not None}
        tensors.update({f"optimizer.{index}.{k}": v for k, v in kept.items()})
    if average is not None:
        tensors.update({f"average.{k}": v for k, v in average.tensors.items()})
    metadata = {
        "progress": json.dumps(asdict(progress)),
        "groups": json.dumps(state["param_groups"]),
        "average_step": str(average.step if average else 0),
        "scaler": json.dumps(learner.scaler.state_dict()),
    }
    try:
        write_tensors(tensors, path, metadata)
    except OSError as error:
        message = f"cannot write the checkpoint {path} ({error}); the one before it is intact"
        raise TrainingError(message) from error


def load_checkpoint(path: Path, learner: Learner, *, fingerprint: str, data: str) -> Progress:
    """Restore the state of a run.

    Args:
        path: what `save_checkpoint` wrote.
        learner: gets weights, moments and averages.
        fingerprint: of the configuration that goes on.
        data: of its training and validation rows, as in `Progress`.

    Raises:
        WeightsError: the file is absent, damaged, or of another model.
        ConfigError: it belongs to a run with another configuration.
        ManifestError: it belongs to a run on other data.
    """
    tensors, metadata = read_tensors(path)
    try:
        progress = Progress(**json.loads(metadata["progress"]))
        groups = json.loads(metadata["groups"])
        scaler = json.loads(metadata.get("scaler", "{}"))
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path} is no checkpoint of a training run") from error
    if progress.fingerprint != fingerprint:
        message = (
            f"{path} belongs to a run with another configuration; "
            "resume with the same one, or give another --out"
        )
        raise ConfigError(message)
    if progress.data not in ("", data):
        raise ManifestError(
            f"{path} belongs to a run on other data: files, labels, groups or splits of the "
            "training or validation rows have changed; resume with the manifest as it was, or give "
            "another --out"
        )
    learner.detector.load_state_dict(_under(tensors, "model."))
    entries: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _under(tensors, "optimizer.").items():
        index, key = name.split(".", 1)
        entries.setdefault(int(index), {})[key] = tensor
    learner.optimizer.load_state_dict({"state": entries, "param_groups": groups})
    _restore_layout(learner.optimizer)
    if scaler:
        learner.scaler.load_state_dict(scaler)
    if learner.average is not None:
        learner.average.step = int(metadata["average_step"])
        for name, tensor in _under(tensors, "average.").items():
            learner.average.tensors[name].copy_(tensor)
    return progress


def _restore_layout(optimizer: torch.optim.Optimizer) -> None:
    """Lay moments out as their parameters are: fused kernels walk both in memory order."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
