"""timm and open_clip, also where torchvision comes without its compiled operators."""

from __future__ import annotations

import functools
import importlib
import sys
import warnings
from types import ModuleType

import torch
from torch import nn

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
        if type(part) is nn.BatchNorm2d:
            joint = JointBatchNorm2d(part.num_features, part.eps, part.momentum)
            joint.load_state_dict(part.state_dict())
            setattr(module, name, joint)
        else:
            join_statistics(part)
    return module
