"""CViT is MFCLIP's image branch and head, and has its published size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from helpers import TINY, assert_close, fill, pictures, tiny_batch, tiny_model
from mfclip.baselines.cvit import ConvolutionalVisionTransformer, build_encoder
from mfclip.card import Card
from mfclip.config import ModelSettings, build_config
from mfclip.detectors import build_detector, load_detector, save_detector
from mfclip.errors import ConfigError
from mfclip.model.build import create_model

SHARED = ("image_size", "embed_dim", "num_heads", "mlp_ratio", "image")


def settings_of(**overrides: Any) -> ModelSettings:
    return build_config({"model": {"name": "cvit", **overrides}}).model


def count(**overrides: Any) -> int:
    with torch.device("meta"):
        detector = build_detector(settings_of(**overrides))
    return sum(p.numel() for p in detector.parameters())


@pytest.mark.parametrize("shared_projection", [False, True])
def test_it_is_mfclip_without_noise_and_text(shared_projection: bool) -> None:
    sizes = {key: TINY[key] for key in SHARED}
    mfclip = tiny_model(use_noise=False, use_text=False, shared_projection=shared_projection).eval()
    cvit = build_detector(settings_of(**sizes, shared_projection=shared_projection)).eval()
    prefix = "vision_encoder.image_encoder."
    moved = {k.replace(prefix, "encoder."): v for k, v in mfclip.state_dict().items()}
    moved.pop("log_logit_scale")
    cvit.load_state_dict(moved)  # strict: the same parameters under the same names
    assert_close(cvit(pictures(3)), mfclip(pictures(3)))
    with torch.autocast("cpu", torch.bfloat16):
        logits = cvit(pictures(3)).float(), mfclip(pictures(3)).float()
        torch.testing.assert_close(*logits, rtol=2e-2, atol=2e-2)  # bf16 has 8 bits
    batch = tiny_batch(4)
    assert_close(cvit.loss(batch)["cross_entropy"], mfclip.loss(batch)["cross_entropy"])


def test_parameters_as_in_mfclip_and_as_published() -> None:
    mfclip = create_model("mfclip", use_noise=False, use_text=False)
    scale = mfclip.log_logit_scale.numel()
    assert count() == sum(p.numel() for p in mfclip.parameters()) - scale
    published = count(embed_dim=1024, mlp_ratio=2.0, options={"head": "mlp"})
    assert 89.0e6 < published < 90.0e6


def test_weights_of_another_image_size_are_a_start(tmp_path: Path) -> None:
    sizes = {key: TINY[key] for key in SHARED}
    small = settings_of(**sizes)
    save_detector(build_detector(small), small, tmp_path / "w.safetensors", card=Card())
    start = str(tmp_path / "w.safetensors")
    larger = build_detector(settings_of(**{**sizes, "image_size": 64}, pretrained=start)).eval()
    smaller = load_detector(start)[0]
    before, after = (net.encoder.token.projection for net in (smaller, larger))
    assert after.weight.shape[1] == 8 * 16**2
    even = torch.arange(8.0)[:, None, None]  # a map that is the same at all places
    assert_close(after(even.expand(8, 16, 16).flatten()), before(even.expand(8, 8, 8).flatten()))


def test_the_published_head_is_two_layers_on_plain_features() -> None:
    encoder = nn.Flatten()
    model = fill(
        ConvolutionalVisionTransformer(encoder, embed_dim=12, image_size=2, head="mlp")
    ).eval()
    images = pictures(2, 2)
    first, _, _, last = model.head
    hidden = ((images * 2 - 1).flatten(1) @ first.weight.T + first.bias).clamp(min=0)
    assert_close(model(images), hidden @ last.weight.T + last.bias)


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="image_size to be a multiple of 32, since 5 stages"):
        build_encoder(image_size=225)
    with pytest.raises(ConfigError, match=r"as many image\.widths as image\.convs"):
        build_encoder(widths=(4, 8), convs=(1,))
    with pytest.raises(ConfigError, match="high_pass_start means nothing to 'cvit'"):
        build_detector(settings_of(image={"high_pass_start": 0.5}))
