"""A batch in parts against the whole batch: the same loss and the same gradients."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from helpers import tiny_batch, tiny_model
from mfclip.batch import Batch
from mfclip.model.mfclip import MFCLIP
from mfclip.train.accumulate import compare_all_parts
from mfclip.train.processes import Processes
from mfclip.train.step import TrainingStep

CONTENT = {"mode": "content", "shared_targets": True}


def make_model(**overrides: Any) -> MFCLIP:
    """A model whose batch norms keep to their running statistics, as no cut can change them."""
    model = tiny_model(**overrides).train()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.eval()
    return model


def gradients(model: MFCLIP) -> dict[str, Tensor]:
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def in_parts(
    model: MFCLIP, batch: Batch, count: int, scale: Callable[[Tensor], Tensor] = lambda loss: loss
) -> dict[str, Tensor]:
    return compare_all_parts(model, batch, batch.split(count), precision="32-true", scale=scale)


@pytest.mark.parametrize("count", [2, 3, 8])
@pytest.mark.parametrize("spa", [{"mode": "batch", "batch_size": 8}, CONTENT])
def test_loss_and_gradients_are_those_of_the_whole_batch(count: int, spa: dict[str, Any]) -> None:
    whole, batch = make_model(spa=spa), tiny_batch(8)
    parts = copy.deepcopy(whole)
    expected = whole.loss(batch)
    torch.stack(list(expected.values())).sum().backward()
    actual = in_parts(parts, batch, count)
    torch.testing.assert_close(actual, {k: v.detach() for k, v in expected.items()})
    assert gradients(whole).keys() == dict(whole.named_parameters()).keys()
    torch.testing.assert_close(gradients(parts), gradients(whole), rtol=1e-4, atol=1e-6)


def test_a_mean_over_parts_is_another_loss() -> None:
    model, batch = make_model(), tiny_batch(8)
    whole = in_parts(model, batch, 2)["contrastive"]
    parts = [model.loss(part)["contrastive"].detach() for part in batch.split(2)]
    assert torch.stack(parts).mean() < whole - 0.3  # half as many negatives


def test_running_statistics_see_each_part_once() -> None:
    model, batch = tiny_model().train(), tiny_batch(8)
    reference = copy.deepcopy(model)
    in_parts(model, batch, 2)
    with torch.no_grad():
        for part in batch.split(2):
            reference.encode_image(part.images)
    torch.testing.assert_close(dict(model.named_buffers()), dict(reference.named_buffers()))


def test_a_scaled_loss_scales_every_gradient() -> None:
    plain, batch = make_model(), tiny_batch(6)
    scaled = copy.deepcopy(plain)
    terms = in_parts(plain, batch, 2), in_parts(scaled, batch, 2, lambda loss: 8 * loss)
    torch.testing.assert_close(*terms)
    expected = {name: 8 * gradient for name, gradient in gradients(plain).items()}
    torch.testing.assert_close(gradients(scaled), expected, rtol=1e-4, atol=1e-6)


def test_a_frozen_vision_half_lets_the_rest_learn() -> None:
    model = make_model()
    model.vision_encoder.requires_grad_(requires_grad=False)
    in_parts(model, tiny_batch(6), 2)
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    assert gradients(model).keys() == learning
    assert learning


def test_bf16_features_give_float32_gradients() -> None:
    model, batch = make_model(), tiny_batch(6)
    exact = copy.deepcopy(model)
    parts = batch.split(2)
    compare_all_parts(model, batch, parts, precision="bf16-mixed", scale=lambda loss: loss)
    in_parts(exact, batch, 2)
    for name in ("head.2.weight", "language_encoder.projection.weight"):
        actual, expected = gradients(model)[name], gradients(exact)[name]
        assert actual.dtype == torch.float32
        assert (actual - expected).norm() < 0.05 * expected.norm()


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    rendezvous = f"file://{folder}/rendezvous"
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=2)
    processes = Processes(rank, 2, torch.device("cpu"))
    model, batch = make_model(spa=CONTENT), tiny_batch(8).split(2)[rank]
    processes.wrap(TrainingStep(model, "32-true"))  # as `Run` does; its hooks must not interfere
    terms = in_parts(model, batch, 2)
    processes.average_gradients(model)
    torch.save((terms, gradients(model)), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.dist
@pytest.mark.slow
def test_parts_in_two_processes_equal_the_whole_batch_in_one(tmp_path: Path) -> None:
    mp.spawn(work, (str(tmp_path),), nprocs=2)
    model = make_model(spa=CONTENT)
    expected = model.loss(tiny_batch(8))
    torch.stack(list(expected.values())).sum().backward()
    results = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    for name, term in expected.items():
        mean = (results[0][0][name] + results[1][0][name]) / 2
        torch.testing.assert_close(mean, term.detach())
    for _, actual in results:
        torch.testing.assert_close(actual, gradients(model), rtol=1e-4, atol=1e-6)
