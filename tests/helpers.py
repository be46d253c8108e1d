"""What several test files need: parameters by formula, tolerances by type, a tiny MFCLIP."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from types import ModuleType
from typing import Any, TypeVar, get_args, get_origin

import torch
from torch import Tensor, nn

from mfclip.batch import Batch
from mfclip.labels import Labels
from mfclip.model.build import create_model
from mfclip.model.mfclip import MFCLIP

ModuleT = TypeVar("ModuleT", bound=nn.Module)

TOLERANCES = {
    torch.float64: 1e-10,
    torch.float32: 1e-5,
    torch.float16: 2e-3,
    torch.bfloat16: 2e-2,
}
"""Largest allowed |actual - expected| / (1 + |expected|), by type."""

TINY: dict[str, Any] = {
    "image_size": 32,
    "embed_dim": 16,
    "num_heads": 2,
    "mlp_ratio": 2.0,
    "image": {"widths": (4, 8), "convs": (1, 1), "depth": 1},
    "noise": {"patch_size": 16, "widths": (4,), "convs": (1,), "depth": 1},
    "text": {"depth": 1},
    "spa": {"batch_size": 8},
}
"""Sizes of an MFCLIP that builds and runs in milliseconds."""

SIZES: dict[str, dict[str, Any]] = {
    "mfclip": TINY,
    "mfclip-small": {**TINY, "noise": {"patch_size": 16, "depth": 1}},
    "xception": {"image_size": 32},
    "vit": {
        "image_size": 32,
        "options": {"patch_size": 8, "width": 24, "depth": 2, "num_heads": 3},
    },
    "cvit": {k: TINY[k] for k in ("image_size", "embed_dim", "num_heads", "mlp_ratio", "image")},
    "clip": {
        "image_size": 32,
        "embed_dim": 16,
        "spa": {"batch_size": 8},
        "options": {
            "patch_size": 16,
            "width": 64,
            "depth": 1,
            "text_width": 64,
            "text_depth": 1,
        },
    },
    "freqnet": {"image_size": 32},
    "recce": {"image_size": 32, "options": {"width": 0.02}},
    "uia_vit": {
        "image_size": 32,
        "options": {"patch_size": 8, "width": 24, "depth": 4, "num_heads": 3},
    },
    "dire": {"image_size": 32},
    "yu": {"image_size": 32, "options": {"width": 8}},
    "focus": {"image_size": 64, "options": {"backbone": "resnet18"}},
    "sbi": {"image_size": 32, "options": {"backbone": "efficientnet_b0"}},
    "gend": {
        "image_size": 32,
        "options": {"tower": "pe", "patch_size": 8, "width": 64, "depth": 2, "num_heads": 2},
    },
    "dd_vqa": {
        "image_size": 32,
        "options": {
            "patch_size": 8,
            "width": 24,
            "depth": 2,
            "num_heads": 3,
            "text_depth": 1,
        },
    },
    "fatformer": {
        "image_size": 32,
        "options": {
            "patch_size": 8,
            "width": 128,
            "depth": 2,
            "text_width": 64,
            "text_depth": 1,
            "adapters": 1,
            "bottleneck": 8,
        },
    },
    "vlffd": {
        "image_size": 32,
        "embed_dim": 16,
        "options": {
            "patch_size": 16,
            "width": 64,
            "depth": 1,
            "text_width": 64,
            "text_depth": 1,
        },
    },
    "guan": {"image_size": 32, "options": {"backbone": "convnext_atto"}},
    "cevit": {"image_size": 32, "options": {"width": 8, "depth": 1, "hidden": 16}},
}
"""Overrides that make a detector fast to test; none for those that need none."""

SLOW = ("xception", "yu")
"""Detectors without small sizes, whose tests take seconds."""

KINDS = (
    Labels(False),
    Labels(True, "entire_face_synthesis", "diffusion", "DDPM"),
    Labels(True, "face_swap", "gan", "FSLSD"),
    Labels(True, "attribute_manipulation", "diffusion", "Diffae"),
    Labels(True, "entire_face_synthesis", "gan", "StyleGAN3"),
)
"""Five kinds of faces with five distinct prompts."""


def fill(module: ModuleT) -> ModuleT:
    """Set parameters and running statistics by a formula, since random streams may change."""
    with torch.no_grad():
        for number, (name, tensor) in enumerate(module.state_dict().items()):
            if tensor.is_floating_point():
                wave = torch.arange(tensor.numel(), dtype=torch.float64)
                wave = (wave * 0.7548776662 + number).sin().view(tensor.shape)
                tensor.copy_(_scaled(wave, name))
    return module


def _scaled(wave: Tensor, name: str) -> Tensor:
    if name.endswith("running_var"):
        return 1 + 0.5 * wave
    if wave.ndim >= 2:
        return wave * (2 / max(wave[0].numel(), 1)) ** 0.5
    return 0.1 * wave + (1 if name.endswith("weight") else 0)


def assert_close(actual: Tensor, expected: Tensor, factor: float = 1.0) -> None:
    """Compare within the tolerance of the coarser of the two types, times `factor`."""
    tolerance = factor * max(TOLERANCES[actual.dtype], TOLERANCES[expected.dtype])
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance, check_dtype=False)


def pictures(count: int, size: int = 32) -> Tensor:
    """Make distinct RGB pictures in [0, 1] with 8-bit levels and no symmetry."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    planes = [
        torch.sin(0.07 * (k + 1) * x * (1 + channel) + 0.03 * y * y / (1 + k) + k)
        for k in range(count)
        for channel in range(3)
    ]
    levels = ((torch.stack(planes) + 1) * 127.5).round()
    return (levels / 255).view(count, 3, size, size)


def tiny_model(**overrides: Any) -> MFCLIP:
    """Build an MFCLIP of the sizes in `TINY`, parameters by formula."""
    merged = {**TINY}
    for key, value in overrides.items():
        merged[key] = {**merged[key], **value} if isinstance(merged.get(key), dict) else value
    return fill(create_model("mfclip", **merged))


def tiny_batch(count: int = 8, size: int = 32) -> Batch:
    """Make a batch whose labels run through `KINDS`."""
    labels = tuple(KINDS[i % len(KINDS)] for i in range(count))
    target = torch.tensor([int(label.is_fake) for label in labels])
    return Batch(pictures(count, size), target, labels, torch.arange(count))


def import_open_clip(part: str) -> ModuleType:
    """Import one file of open_clip, without its package.

    The file is imported under a package of its own, since open_clip's own ``__init__`` takes
    seconds. Where torchvision lacks its compiled operators its import fails; declaring the two
    operators that it looks for is then enough.
    """
    spec = importlib.util.find_spec("open_clip")
    assert spec is not None  # the extra dev brings it
    package = sys.modules.setdefault("_open_clip_parts", ModuleType("_open_clip_parts"))
    package.__path__ = spec.submodule_search_locations
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(f"_open_clip_parts.{part}")
        except RuntimeError as error:
            if "torchvision::" not in str(error):
                raise
        _declare_torchvision_operators()
        return importlib.import_module(f"_open_clip_parts.{part}")


def _declare_torchvision_operators() -> None:
    for module in [m for m in sys.modules if m.split(".")[0] == "torchvision"]:
        del sys.modules[module]
    schemas = {
        "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
        "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    }
    for operator, schema in schemas.items():
        if not hasattr(torch.ops.torchvision, operator):
            torch.library.define(f"torchvision::{operator}", schema)


def value_type(parameter: Any) -> Any:
    """Type of one value of a command's option or argument; of a list that of its entries."""
    asked = parameter.type_descriptor.annotation
    return get_args(asked)[0] if get_origin(asked) is list else asked
