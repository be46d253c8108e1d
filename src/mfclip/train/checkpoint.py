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
from torch import Tensor, nn

from mfclip.errors import ConfigError, TrainingError, WeightsError
from mfclip.train.optimiser import AveragedWeights
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
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    validated: int = 0
    best: float | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    fingerprint: str = ""


def save_checkpoint(
    path: Path,
    progress: Progress,
    *,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: AveragedWeights | None,
) -> None:
    """Write the state of a run, whole or not at all.

    Raises:
        TrainingError: it cannot be written (disk full, no permission); the last one is intact.
    """
    tensors: dict[str, Tensor] = {f"model.{k}": v for k, v in module.state_dict().items()}
    state = optimizer.state_dict()
    for index, entries in state["state"].items():
        tensors.update({f"optimizer.{index}.{k}": v for k, v in entries.items()})
    if average is not None:
        tensors.update({f"average.{k}": v for k, v in average.tensors.items()})
    tensors["random.torch"] = torch.get_rng_state()
    metadata = {
        "progress": json.dumps(asdict(progress)),
        "groups": json.dumps(state["param_groups"]),
        "average_step": str(average.step if average else 0),
    }
    try:
        write_tensors(tensors, path, metadata)
    except OSError as error:
        message = f"cannot write the checkpoint {path} ({error}); the one before it is intact"
        raise TrainingError(message) from error


def load_checkpoint(
    path: Path,
    *,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: AveragedWeights | None,
    fingerprint: str,
) -> Progress:
    """Restore the state of a run.

    Raises:
        WeightsError: the file is absent, damaged, or of another model.
        ConfigError: it belongs to a run with another configuration.
    """
    tensors, metadata = read_tensors(path)
    if "progress" not in metadata:
        raise WeightsError(f"{path} is no checkpoint of a training run")
    progress = Progress(**json.loads(metadata["progress"]))
    if progress.fingerprint != fingerprint:
        message = (
            f"{path} belongs to a run with another configuration; "
            "resume with the same one, or give another --out"
        )
        raise ConfigError(message)
    module.load_state_dict(_under(tensors, "model."))
    entries: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _under(tensors, "optimizer.").items():
        index, key = name.split(".", 1)
        entries.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": entries, "param_groups": json.loads(metadata["groups"])})
    _restore_layout(optimizer)
    if average is not None:
        average.step = int(metadata["average_step"])
        for name, tensor in _under(tensors, "average.").items():
            average.tensors[name].copy_(tensor)
    torch.set_rng_state(tensors["random.torch"])
    return progress


def _restore_layout(optimizer: torch.optim.Optimizer) -> None:
    """Lay moments out as their parameters are: fused kernels walk both in memory order."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
