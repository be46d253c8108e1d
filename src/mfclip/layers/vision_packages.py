"""timm and open_clip, also where torchvision comes without its compiled operators."""

from __future__ import annotations

import functools
import importlib
import sys
import warnings
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
