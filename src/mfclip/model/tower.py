"""Image towers of other packages as IE: any that timm builds, and CLIP's of open_clip.

Source: Yermakov et al., "Deepfake detection that generalizes across benchmarks" (GenD),
arXiv 2508.06248: a pretrained tower of which little more than the layer norms learns.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mfclip.config import ImageEncoderSettings
from mfclip.errors import ConfigError, WeightsError
from mfclip.layers.lora import add_lora
from mfclip.layers.vision_packages import import_vision
from mfclip.weights import read_tensors

HUB = "hub"
"""`image.trunk_weights` that are fetched: those that the package names for the tower."""


class TowerEncoder(nn.Module):
    """IE as a tower that was trained elsewhere; its pooled features, at its own width.

    Args:
        name: ``timm:NAME`` or ``open_clip:NAME``.
        image_size: side of the images in pixels.
        settings: where its LoRA comes from.

    Attributes:
        width: of the features.
        source: where its own weights came from, see `base_weights`; None for random ones.

    Raises:
        ConfigError: the package knows no such tower, or it cannot take images of this size.
        MissingExtraError: the package is not installed.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, name: str, image_size: int, settings: ImageEncoderSettings) -> None:
        super().__init__()
        package, _, own = name.partition(":")
        build = {"timm": _build_timm, "open_clip": _build_open_clip}.get(package)
        if build is None:
            raise ConfigError(
                "expected image.trunk to be cvit, efficientnet-lite0, 1 or 2, timm:NAME or "
                f"open_clip:NAME, but got {name!r}"
            )
        self.name = name
        self.source: str | None = None
        self.tower, self.width, mean, std = build(own, image_size)
        if settings.lora.rank:
            lora = settings.lora
            add_lora(
                self.tower,
                lora.targets,
                rank=lora.rank,
                alpha=lora.alpha,
                dropout=lora.dropout,
            )
        # from values in [-1, 1] to what the tower was trained with
        channels = (1, 3, 1, 1)
        scale = 0.5 / torch.tensor(std).view(channels)
        shift = (0.5 - torch.tensor(mean).view(channels)) / torch.tensor(std).view(channels)
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("shift", shift, persistent=False)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Encode images with values in [-1, 1]."""
        features: Tensor = self.tower(images * self.scale + self.shift)
        return features

    @property
    def training_warning(self) -> str | None:
        """What to say at the start of a training that changes all of a pretrained tower."""
        if self.source is None or not all(each.requires_grad for each in self.tower.parameters()):
            return None
        return (
            f"every weight of {self.name} learns, and what it knew is soon lost: the authors of "
            "GenD report a mean AUC of about 57 then; name what shall learn in train.learn"
        )

    def base_weights(self, source: str) -> dict[str, Tensor]:
        """Read the weights that training starts from, by the names they have in this encoder.

        Args:
            source: a safetensors file, or `HUB` to fetch those that the package names.

        Raises:
            WeightsError: they cannot be read or fetched, or are those of another tower.
        """
        package, _, own = self.name.partition(":")
        if source == HUB:
            tensors = _fetch(package, own, self.tower)
        else:
            tensors = read_tensors(Path(source))[0]
        expected = {
            name: each for name, each in self.tower.state_dict().items() if "lora_" not in name
        }
        kept = {name: tensors[name] for name in expected if name in tensors}
        wrong = [name for name, each in expected.items() if name not in kept] + [
            name for name, each in kept.items() if each.shape != expected[name].shape
        ]
        if wrong:
            raise WeightsError(
                f"{source} are not the weights of {self.name}: {len(wrong)} of its {len(expected)} "
                f"tensors are missing or of another shape, such as {wrong[0]}; is image_size the "
                "one they were made for?"
            )
        return {f"tower.{name}": each for name, each in kept.items()}


def fingerprint(tensors: dict[str, Tensor]) -> str:
    """SHA-256 of tensors by name, in hexadecimal: tells one set of base weights from another."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        flat = tensors[name].detach().contiguous().cpu().view(-1).view(torch.uint8)
        digest.update(flat.numpy().tobytes())
    return digest.hexdigest()


def _build_timm(name: str, image_size: int) -> tuple[nn.Module, int, Any, Any]:
    timm = import_vision("timm")
    if not timm.is_model(name):
        raise ConfigError(f"timm has no model {name!r}; timm.list_models() lists them")
    build = {"pretrained": False, "num_classes": 0}
    try:
        tower = timm.create_model(name, img_size=image_size, **build)
    except TypeError:  # towers of convolutions take any size
        tower = timm.create_model(name, **build)
    except AssertionError as error:
        raise ConfigError(f"{name} cannot take images of {image_size} pixels: {error}") from error
    made_for = tower.pretrained_cfg
    return tower, tower.num_features, made_for["mean"], made_for["std"]


def _build_open_clip(name: str, image_size: int) -> tuple[nn.Module, int, Any, Any]:
    open_clip = import_vision("open_clip")
    if name not in open_clip.list_models():
        raise ConfigError(f"open_clip has no model {name!r}; open_clip.list_models() lists them")
    tower = open_clip.create_model(name, force_image_size=image_size).visual
    width = getattr(tower, "ln_post", None)
    if width is None or getattr(tower, "proj", None) is None:
        raise ConfigError(f"open_clip:{name} has no vision transformer of open_clip's own")
    tower.proj = None  # features before the projection, as GenD and timm take them
    return tower, int(width.normalized_shape[0]), tower.image_mean, tower.image_std


def _fetch(package: str, name: str, tower: nn.Module) -> dict[str, Tensor]:
    try:
        if package == "timm":
            size = getattr(getattr(tower, "patch_embed", None), "img_size", None)
            options = {} if size is None else {"img_size": size}
            timm = import_vision("timm")
            loaded = timm.create_model(name, pretrained=True, num_classes=0, **options)
        else:
            raise WeightsError(
                f"open_clip names several weights for {name}; save one as safetensors and give "
                "its path as model.image.trunk_weights"
            )
    except (OSError, RuntimeError) as error:
        raise WeightsError(f"the weights of {package}:{name} cannot be fetched: {error}") from error
    weights: dict[str, Tensor] = loaded.state_dict()
    return weights
