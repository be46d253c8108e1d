"""ViT against timm's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from helpers import assert_close, fill, pictures, tiny_batch
from mfclip.baselines.vit import VisionTransformer
from mfclip.errors import ConfigError
from mfclip.layers.vision_packages import import_vision

SMALL: dict[str, Any] = {"patch_size": 8, "width": 24, "depth": 2, "num_heads": 3}


def small(image_size: int = 32) -> VisionTransformer:
    return fill(VisionTransformer(image_size=image_size, **SMALL)).eval()


def test_parameters_are_those_counted_and_named_as_timms() -> None:
    timm = import_vision("timm")
    with torch.device("meta"):
        model = VisionTransformer()
        oracle = timm.create_model("vit_base_patch16_224", num_classes=2)
    assert sum(p.numel() for p in model.parameters()) == 85_800_194
    shapes = {name: tensor.shape for name, tensor in model.network.state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in oracle.state_dict().items()}


def test_scores_and_loss_are_timms() -> None:
    model = small()
    oracle = import_vision("timm").create_model(
        "vit_base_patch16_224",
        img_size=32,
        patch_size=8,
        embed_dim=24,
        depth=2,
        num_heads=3,
        num_classes=2,
    )
    oracle.load_state_dict(model.network.state_dict())
    batch = tiny_batch(3)
    logits = oracle.eval()((batch.images - 0.5) / 0.5)
    assert_close(model(batch.images), logits)
    by_hand = -logits.log_softmax(1)[torch.arange(3), batch.target].mean()
    assert_close(model.loss(batch)["cross_entropy"], by_hand)


def test_published_weights_fit_another_image_size() -> None:
    published = {k: v for k, v in small(32).network.state_dict().items() if "head" not in k}
    same, larger = small(32), small(64)
    with torch.no_grad():
        same.network.pos_embed.zero_()
    same.load_state_dict(same.from_published(published))
    assert_close(same(pictures(2)), small(32)(pictures(2)))
    larger.load_state_dict(larger.from_published(published))
    old, new = published["pos_embed"], larger.network.pos_embed
    assert new.shape == (1, 65, 24)
    torch.testing.assert_close(new[:, 0], old[:, 0])  # of the class token
    for key in ("patch_embed.proj.weight", "blocks.1.mlp.fc1.weight"):
        torch.testing.assert_close(larger.network.state_dict()[key], published[key])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 25}, "a width that is a multiple of num_heads, but got 8, 25, 2, 3"),
        ({"depth": 0}, "at least 1"),
        ({"image_size": 30}, "image_size to be a multiple of patch_size 8, but got 30"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        VisionTransformer(**{**SMALL, "image_size": 32, **change})
