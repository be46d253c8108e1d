"""The fast model and the straightforward one compute the same."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

from mfclip.baselines.recce import GraphReasoning
from mfclip.baselines.uia_vit import consistency_loss
from mfclip.batch import Batch
from mfclip.labels import Labels
from mfclip.model.build import create_model


def _load() -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "benchmarks" / "straightforward.py"
    spec = importlib.util.spec_from_file_location("straightforward", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_loops_of_baselines_give_what_is_done_at_once() -> None:
    slow = _load()
    torch.manual_seed(0)
    reasoning = GraphReasoning(8, 4, finer=(4, 4), drop_rate=0.2).eval()
    coarse = torch.randn(2, 8, 3, 3, requires_grad=True)
    finer = (torch.randn(2, 4, 6, 6), torch.randn(2, 4, 12, 12))
    both = [reasoning(coarse, finer), slow.reason_place_by_place(reasoning, coarse, finer)]
    torch.testing.assert_close(*both)
    torch.testing.assert_close(*(torch.autograd.grad(out.sum(), coarse)[0] for out in both))

    attention, forged = torch.rand(5, 9, 9), torch.rand(5, 9) > 0.5
    constants = [torch.tensor(value, requires_grad=True) for value in (0.6, 0.5, 0.2)]
    for target in ([0, 1, 1, 0, 1], [1] * 5, [0] * 5):
        given = (attention, torch.tensor(target), forged, *constants)
        both = [consistency_loss(*given), slow.consistency_row_by_row(*given)]
        torch.testing.assert_close(*both)
    attention.requires_grad_()
    losses = (consistency_loss, slow.consistency_row_by_row)
    slopes = [torch.autograd.grad(loss(attention, *given[1:]), attention)[0] for loss in losses]
    torch.testing.assert_close(*slopes)


def test_features_loss_and_gradients_are_those_of_the_straightforward_way() -> None:
    slow = _load()
    spa = {"mode": "batch", "batch_size": 4, "targets": "one-hot"}
    noise = {"patch_size": 32}
    model = create_model("mfclip-small", image_size=64, embed_dim=32, noise=noise, spa=spa)
    kinds = (Labels(False), Labels(True, "face_swap"), Labels(True, "face_swap", "gan", "X"))
    labels = (*kinds, kinds[2])
    images = torch.randint(0, 256, (4, 3, 64, 64)) / 255
    batch = Batch(images, torch.tensor([0, 1, 1, 1]), labels, torch.arange(4))
    fast_loss = torch.stack(list(model.loss(batch).values())).sum()
    slow_loss = slow.loss(model, batch)
    assert slow_loss.item() == pytest.approx(fast_loss.item(), rel=1e-5)
    parameters = list(model.parameters())
    fast = torch.autograd.grad(fast_loss, parameters)
    for gradient, oracle in zip(fast, torch.autograd.grad(slow_loss, parameters), strict=True):
        torch.testing.assert_close(gradient, oracle, rtol=1e-3, atol=1e-5)
    model.eval()
    torch.testing.assert_close(
        model.encode_image(images), slow.encode_image(model, images), rtol=1e-4, atol=1e-5
    )
