"""Losses that are no mean over samples: two processes equal one on the joined batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from helpers import SIZES, assert_close, tiny_batch
from mfclip.batch import Batch
from mfclip.config import build_config
from mfclip.detectors import build_detector

WITHOUT_CHANCE: dict[str, dict[str, Any]] = {"recce": {"drop_rate": 0.0}, "uia_vit": {}, "guan": {}}
"""Options that leave nothing to chance."""


def make(name: str) -> nn.Module:
    sizes = SIZES[name]
    options = {**sizes.get("options", {}), **WITHOUT_CHANCE[name]}
    torch.manual_seed(0)
    settings = build_config({"model": {"name": name, **sizes, "options": options}}).model
    detector = build_detector(settings).train()
    if name == "uia_vit":
        detector.loss(batch())  # gather, then fit, so that all terms count
        detector.advance(0.5, 1)  # type: ignore[operator]
    return detector


def batch() -> Batch:
    return tiny_batch(8, 32)


def part(rank: int) -> Batch:
    whole, rows = batch(), slice(4 * rank, 4 * rank + 4)
    return replace(
        whole,
        images=whole.images[rows],
        target=whole.target[rows],
        labels=whole.labels[rows],
        index=whole.index[rows],
    )


def learn(detector: nn.Module, given: Batch) -> dict[str, torch.Tensor]:
    terms = detector.loss(given)
    torch.stack(list(terms.values())).sum().backward()
    return {name: term.detach() for name, term in terms.items()}


def work(rank: int, name: str, folder: str) -> None:
    torch.set_num_threads(1)
    detector = make(name)
    rendezvous = f"file://{folder}/rendezvous"
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=2)
    terms = learn(detector, part(rank))
    for value in terms.values():
        dist.all_reduce(value)
        value.div_(2)
    gradients = {}
    for key, parameter in detector.named_parameters():
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad)  # what DistributedDataParallel does: the mean
            gradients[key] = parameter.grad / 2
    torch.save((terms, gradients, dict(detector.named_buffers())), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.dist
@pytest.mark.slow
@pytest.mark.parametrize("name", WITHOUT_CHANCE)
def test_two_processes_equal_one(name: str, tmp_path: Path) -> None:
    mp.spawn(work, (name, str(tmp_path)), nprocs=2)
    detector = make(name)
    expected = learn(detector, batch())
    for rank in (0, 1):
        terms, gradients, buffers = torch.load(tmp_path / f"{rank}.pt")
        for key, value in expected.items():
            assert_close(terms[key], value, 10)
        for key, parameter in detector.named_parameters():
            if parameter.grad is not None:
                assert_close(gradients[key], parameter.grad, 100)
        for key, value in detector.named_buffers():
            assert_close(buffers[key].float(), value.float(), 10)
