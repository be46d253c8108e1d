"""timm and open_clip, also where torchvision comes without its compiled operators."""

from __future__ import annotations

import functools
import importlib
import re
import sys
import warnings
from collections.abc import Sequence
from types import ModuleType

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mfclip.errors import require
from mfclip.layers.normalisation import JointBatchNorm2d

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def import_vision(module: str) -> ModuleType:
    """Import a module of a package that imports torchvision.

    Raises:
        MissingExtraError: the package, or torchvision, is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # these packages warn about their own old names
        _mend_torchvision()
        return require(module, extra="baselines")


@functools.cache
def _mend_torchvision() -> None:
    """Declare the two operators that torchvision's import looks for, if it fails for their lack.

    A torchvision that was built for another torch cannot load its operators, and then even
    ``import torchvision`` fails. Neither timm's nor open_clip's networks call them.
    """
    try:
        importlib.import_module("torchvision")
    except ImportError:
        return  # `require` names the extra
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        for operator in ("nms", "qnms"):
            if not hasattr(torch.ops.torchvision, operator):
                torch.library.define(f"torchvision::{operator}", _SCHEMA)
        importlib.import_module("torchvision")


def join_statistics(module: nn.Module) -> nn.Module:
    """Replace each batch norm inside a module by one that covers all processes; names stay."""
    for name, part in module.named_children():
        if not isinstance(part, nn.BatchNorm2d):
            join_statistics(part)
        elif not isinstance(part, JointBatchNorm2d):
            kind = _JointBatchNormAct2d if hasattr(part, "act") else JointBatchNorm2d
            joint = kind(part.num_features, part.eps, part.momentum)
            joint.load_state_dict(part.state_dict())
            if isinstance(joint, _JointBatchNormAct2d):
                joint.drop, joint.act = part.get_submodule("drop"), part.get_submodule("act")
            setattr(module, name, joint)
    return module


class _JointBatchNormAct2d(JointBatchNorm2d):
    """timm's batch norm with its activation."""

    drop: nn.Module
    act: nn.Module

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        out: Tensor = self.act(self.drop(super().forward(input)))
        return out


_FIRST_STAGE = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_se_reduce": "se.conv_reduce",
    "_se_expand": "se.conv_expand",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
_OTHER_STAGES = _FIRST_STAGE | {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_OUTSIDE_BLOCKS = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}


def efficientnet_name(name: str, stages: Sequence[int]) -> str:
    """Turn a name of the package efficientnet_pytorch into timm's; others stay.

    Args:
        name: of a tensor.
        stages: blocks of each stage.

    Example:
        >>> efficientnet_name("_blocks.1._bn0.bias", [1, 2])
        'blocks.1.0.bn1.bias'
    """
    first, _, rest = name.partition(".")
    if first in _OUTSIDE_BLOCKS:
        return f"{_OUTSIDE_BLOCKS[first]}.{rest}"
    block = re.fullmatch(r"_blocks\.(\d+)\.(_\w+)\.(\w+)", name)
    if block is None:
        return name
    number, part, kind = block.groups()
    places = [(stage, place) for stage, count in enumerate(stages) for place in range(count)]
    stage, place = places[int(number)]
    names = _OTHER_STAGES if stage else _FIRST_STAGE  # the first one widens nothing
    return f"blocks.{stage}.{place}.{names[part]}.{kind}"
