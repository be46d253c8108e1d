"""timm and open_clip import everywhere; batch norms that cover all processes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from helpers import assert_close, fill, pictures
from mfclip.errors import MissingExtraError
from mfclip.layers.normalisation import JointBatchNorm2d
from mfclip.layers.vision_packages import import_vision, join_statistics


def test_a_missing_package_names_the_extra() -> None:
    with pytest.raises(MissingExtraError, match=r"'no_such_package'.*mfclip\[baselines\]"):
        import_vision("no_such_package.models")


def test_torchvision_is_whole_after_the_import() -> None:
    import_vision("timm")
    import torchvision  # noqa: PLC0415

    boxes = torchvision.ops.box_area(torch.tensor([[0.0, 0, 2, 3]]))
    assert boxes.tolist() == [6]


def test_join_statistics_changes_the_type_and_nothing_else() -> None:
    def build() -> nn.Sequential:
        inner = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4, eps=1e-3, momentum=0.3))
        return fill(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), inner))

    plain, joint = build(), build()
    join_statistics(joint)
    assert list(plain.state_dict()) == list(joint.state_dict())
    assert sum(isinstance(part, JointBatchNorm2d) for part in joint.modules()) == 2
    images = pictures(3, 12)
    for module in (plain, joint):
        module.train()
    assert_close(joint(images), plain(images))  # also moves the running statistics
    assert_close(joint.eval()(images), plain.eval()(images))


def test_timms_norms_with_activations_keep_them() -> None:
    def build() -> nn.Module:
        timm = import_vision("timm.layers")
        return fill(nn.Sequential(timm.BatchNormAct2d(3, eps=1e-3, act_layer=nn.SiLU)))

    plain, joint = build().train(), join_statistics(build()).train()
    assert isinstance(joint[0], JointBatchNorm2d)
    images = pictures(3, 12)
    assert_close(joint(images), plain(images))
    assert list(joint.state_dict()) == list(plain.state_dict())
    assert_close(joint.eval()(images), plain.eval()(images))
