"""The fast model and the straightforward one compute the same."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

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
