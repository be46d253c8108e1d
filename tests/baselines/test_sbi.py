"""SBI's EfficientNet: timm's on pixels as they are; the names of the authors' package."""

from __future__ import annotations

import pytest
import torch

from helpers import assert_close, pictures
from mfclip.baselines.sbi import Sbi
from mfclip.layers.vision_packages import efficientnet_name, import_vision
from oracles import fill_by_shape, parameter_count


def test_parameters_are_those_of_efficientnet_b4() -> None:
    with torch.device("meta"):
        found = parameter_count(Sbi())
    assert found == 19_341_616 - 998 * (1792 + 1)  # the package's with 1000 classes


@torch.no_grad()
def test_pixels_are_given_as_they_are() -> None:
    torch.manual_seed(0)
    detector = fill_by_shape(Sbi(image_size=64, backbone="efficientnet_b0")).eval()
    theirs = import_vision("timm").create_model("tf_efficientnet_b0", num_classes=2).eval()
    fill_by_shape(theirs)
    assert_close(detector(pictures(2, 64)), theirs(pictures(2, 64)))


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("_conv_stem.weight", "conv_stem.weight"),
        ("_bn1.running_var", "bn2.running_var"),
        ("_fc.bias", "classifier.bias"),
        ("_blocks.1._project_conv.weight", "blocks.0.1.conv_pw.weight"),  # of the first stage
        ("_blocks.2._project_conv.weight", "blocks.1.0.conv_pwl.weight"),
        ("_blocks.5._se_expand.bias", "blocks.1.3.se.conv_expand.bias"),
        ("_blocks.6._bn2.bias", "blocks.2.0.bn3.bias"),
        ("classifier.weight", "classifier.weight"),
    ],
)
def test_names_of_blocks_are_counted_through_the_stages(theirs: str, ours: str) -> None:
    assert efficientnet_name(theirs, [2, 4, 4, 6, 6, 8, 2]) == ours
