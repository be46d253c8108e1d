"""GenD: sizes of the towers, losses at the oracle and pair by pair, what learns."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from helpers import assert_close, fill, pictures, tiny_batch
from mfclip.baselines.gend import GenD
from mfclip.errors import ConfigError
from mfclip.layers.sphere import alignment_loss, uniformity_loss
from mfclip.layers.vision_packages import import_vision
from oracles import fill_by_shape, parameter_count, wave

SMALL: dict[str, Any] = {
    "image_size": 32, "patch_size": 8, "width": 64, "depth": 2, "num_heads": 2,
}  # fmt: skip


def features() -> torch.Tensor:
    return functional.normalize(wave(4, 6), dim=1)


def test_losses_are_those_of_the_authors_code() -> None:
    labels = torch.tensor([0, 0, 1, 1])
    assert alignment_loss(features(), labels).item() == pytest.approx(2.3344075, abs=1e-6)
    assert uniformity_loss(features()).item() == pytest.approx(-3.5054633, abs=1e-6)


def test_losses_are_those_of_their_pairs_and_have_their_gradients() -> None:
    labels = torch.tensor([0, 1, 0, 1])
    squares = torch.pdist(features()).square()
    assert_close(uniformity_loss(features()), (-2 * squares).exp().mean().log())
    pairs = [(features()[i] - features()[j]).square().sum() for i, j in ((0, 2), (1, 3))]
    assert_close(alignment_loss(features(), labels), sum(pairs) / 2)
    assert alignment_loss(features()[:2], labels[:2]) == uniformity_loss(features()[:1]) == 0
    free = wave(4, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: alignment_loss(x, labels), free)
    assert torch.autograd.gradcheck(uniformity_loss, features().requires_grad_())


@pytest.mark.parametrize(
    ("tower", "size", "whole", "norms"),
    [("clip", 224, 303_179_776, 102_400), ("pe", 336, 316_102_656, 104_448)],
)
def test_towers_are_those_of_timm_and_only_their_norms_learn(
    tower: Any, size: int, whole: int, norms: int
) -> None:
    with torch.device("meta"):
        detector = GenD(image_size=size, tower=tower, learn="norms")
    assert parameter_count(detector) == whole + 2 * 1024 + 2
    learns = [p.numel() for p in detector.parameters() if p.requires_grad]
    assert sum(learns) == norms + 2 * 1024 + 2
    assert detector.needs_pretrained
    with torch.device("meta"):
        assert not GenD().needs_pretrained


@pytest.mark.parametrize(
    ("tower", "name"),
    [("clip", "vit_base_patch32_clip_quickgelu_224"), ("pe", "vit_pe_core_tiny_patch16_384")],
)
@torch.no_grad()
def test_a_tower_is_built_as_timm_builds_it(tower: Any, name: str) -> None:
    timm = import_vision("timm")
    theirs = timm.create_model(name, num_classes=0, img_size=64, depth=2).eval()
    width, patch = theirs.embed_dim, theirs.patch_embed.patch_size[0]
    detector = GenD(
        image_size=64, tower=tower, patch_size=patch, width=width, depth=2,
        num_heads=theirs.blocks[0].attn.num_heads,
    )  # fmt: skip
    fill_by_shape(theirs)
    detector.load_state_dict(detector.from_published(theirs.state_dict()))
    images = pictures(2, 64)
    mean, deviation = (
        torch.tensor(theirs.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std")
    )
    expected = functional.normalize(theirs((images - mean) / deviation), dim=1)
    assert_close(detector.eval().encode(images), expected)
    assert (expected[0] - expected[1]).abs().max() > 1e-4


@torch.no_grad()
def test_the_terms_are_weighed() -> None:
    torch.manual_seed(0)
    detector = GenD(**SMALL, uniformity_weight=0.3, alignment_weight=0.2).eval()
    batch = tiny_batch(6)
    terms, found = detector.loss(batch), detector.encode(batch.images)
    assert_close(found.norm(dim=1), torch.ones(6))
    assert_close(
        terms["cross_entropy"], functional.cross_entropy(detector.head(found), batch.target)
    )
    assert_close(terms["uniformity"], 0.3 * uniformity_loss(found))
    assert_close(terms["alignment"], 0.2 * alignment_loss(found, batch.target))
    plain = GenD(**SMALL, uniformity_weight=0.0, alignment_weight=0.0).eval().loss(batch)
    assert plain["uniformity"] == plain["alignment"] == 0


def test_frozen_parts_get_no_gradient() -> None:
    detector = fill(GenD(**SMALL, tower="pe", learn="norms")).train()
    torch.stack(list(detector.loss(tiny_batch(6)).values())).sum().backward()
    got = {name for name, p in detector.named_parameters() if p.grad is not None}
    assert got == {
        name
        for name, _ in detector.named_parameters()
        if "norm" in name or name.startswith("head.")
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": 0}, "of at least 1"),
        ({"depth": 100_000}, "at most 1000"),
        ({"patch_size": 7}, "a multiple of patch_size"),
        ({"width": 48}, "width of num_heads and of 32"),
        ({"alignment_weight": -1.0}, "weights of at least 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GenD(**{**SMALL, **change})
