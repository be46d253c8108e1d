"""Settings to MFCLIP: the only place where the parts are given their sizes."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from mfclip.config import (
    MODEL_PRESETS,
    ImageEncoderSettings,
    LossSettings,
    ModelSettings,
    NoiseEncoderSettings,
    build_config,
)
from mfclip.errors import ConfigError
from mfclip.layers.efficientnet_lite import EfficientNetLite, imagenet_weights
from mfclip.model.fle import FineGrainedLanguageEncoder
from mfclip.model.image_encoder import ImageEncoder, TrunkImageEncoder, start_high_pass
from mfclip.model.losses import ContrastiveLoss
from mfclip.model.mfclip import MFCLIP
from mfclip.model.mve import MultiModalVisionEncoder
from mfclip.model.noise_encoder import GatedNoiseEncoder, NoiseEncoder
from mfclip.model.released import (
    ReleasedLanguageEncoder,
    ReleasedMFCLIP,
    ReleasedTokenTransformer,
    ReleasedVisionEncoder,
)
from mfclip.model.spa import PairMode, SamplePairAttention
from mfclip.model.tower import TowerEncoder


def create_model(name: str = "mfclip", **overrides: Any) -> MFCLIP:
    """Build an MFCLIP with random weights.

    Args:
        name: ``mfclip``, the paper's sizes (122.74 M parameters), or ``mfclip-small``.
        **overrides: any key of the configuration's ``model`` table, nested tables as dicts, e.g.
            ``create_model("mfclip", embed_dim=256, noise={"patch_size": 56})``.

    Raises:
        ConfigError: an unknown name or key, sizes that do not fit together, or `pretrained`, which
            `mfclip.detectors.build_detector` and `mfclip.Predictor.load` read.

    Example:
        >>> create_model("mfclip-small").image_size
        224
    """
    if name not in MODEL_PRESETS:
        choices = ", ".join(MODEL_PRESETS)
        raise ConfigError(f"expected name to be one of [{choices}], but got {name!r}")
    if overrides.get("pretrained") is not None:
        raise ConfigError(
            "create_model gives random weights; pass pretrained to "
            "mfclip.detectors.build_detector, or load weights with mfclip.Predictor.load"
        )
    return build_mfclip(build_config({"model": {"name": name, **overrides}}).model)


def build_mfclip(settings: ModelSettings, loss_settings: LossSettings | None = None) -> MFCLIP:
    """Build an MFCLIP from its settings.

    Raises:
        ConfigError: sizes that do not fit together.
    """
    _check(settings)
    if settings.released:
        return _build_released(settings, loss_settings)
    image_encoder = _build_image_encoder(settings) if settings.use_image else None
    noise_encoder = _build_noise_encoder(settings) if settings.use_noise else None
    vision_encoder = MultiModalVisionEncoder(
        image_encoder,
        noise_encoder,
        patch_size=settings.noise.patch_size,
        pixel_scale=settings.noise.pixel_scale,
    )
    language_encoder = _build_language_encoder(settings) if settings.use_text else None
    return MFCLIP(
        vision_encoder,
        language_encoder,
        build_contrastive(settings) if settings.use_text else None,
        embed_dim=settings.embed_dim,
        image_size=settings.image_size,
        use_predictor=settings.use_predictor and settings.use_text,
        dropout=settings.dropout,
        head_norm=settings.head == "norm",
        loss_settings=loss_settings,
    )


def _build_released(settings: ModelSettings, loss_settings: LossSettings | None) -> ReleasedMFCLIP:
    """Build the authors' network: the same boxes with released parts."""
    encoders: list[nn.Module | None] = [None, None]
    if settings.use_image:
        encoders[0] = _release(_build_image_encoder(settings), settings.image, settings)
    if settings.use_noise:
        encoders[1] = _release(_build_noise_encoder(settings), settings.noise, settings)
    return ReleasedMFCLIP(
        ReleasedVisionEncoder(
            *encoders,
            patch_size=settings.noise.patch_size,
            pixel_scale=settings.noise.pixel_scale,
        ),
        _build_language_encoder(settings) if settings.use_text else None,
        build_contrastive(settings) if settings.use_text else None,
        embed_dim=settings.embed_dim,
        image_size=settings.image_size,
        use_predictor=settings.use_predictor and settings.use_text,
        dropout=settings.dropout,
        loss_settings=loss_settings,
    )


def _release(
    encoder: Any,
    sizes: ImageEncoderSettings | NoiseEncoderSettings,
    settings: ModelSettings,
) -> Any:
    """Exchange what an encoder has behind its convolutions."""
    channels = sizes.widths[-1]
    encoder.token = ReleasedTokenTransformer(
        channels,
        round((encoder.token.projection.in_features / channels) ** 0.5),
        sizes.depth,
        settings.embed_dim,
        num_heads=settings.num_heads,
        mlp_ratio=settings.mlp_ratio,
    )
    return encoder


def _build_image_encoder(
    settings: ModelSettings,
) -> ImageEncoder | TrunkImageEncoder | TowerEncoder:
    image = settings.image
    if is_tower(image.trunk):
        tower = TowerEncoder(image.trunk, settings.image_size, image)
        if tower.width != settings.embed_dim:
            raise ConfigError(
                f"expected embed_dim = {tower.width}, the width of {image.trunk}, "
                f"but got {settings.embed_dim}"
            )
        return tower
    if image.trunk != "cvit":
        return TrunkImageEncoder(
            EfficientNetLite(image.trunk),
            taps=image.taps,
            depth=image.depth,
            embed_dim=settings.embed_dim,
            num_heads=settings.num_heads,
            mlp_ratio=settings.mlp_ratio,
        )
    encoder = ImageEncoder(
        settings.image_size,
        widths=image.widths,
        convs=image.convs,
        depth=image.depth,
        embed_dim=settings.embed_dim,
        num_heads=settings.num_heads,
        mlp_ratio=settings.mlp_ratio,
        shared_projection=settings.shared_projection,
    )
    start_high_pass(encoder, image.high_pass_start)
    return encoder


def _build_noise_encoder(settings: ModelSettings) -> NoiseEncoder | GatedNoiseEncoder:
    noise = settings.noise
    encoder = NoiseEncoder(
        noise.patch_size,
        widths=noise.widths,
        convs=noise.convs,
        depth=noise.depth,
        embed_dim=settings.embed_dim,
        num_heads=settings.num_heads,
        mlp_ratio=settings.mlp_ratio,
        shared_projection=settings.shared_projection,
    )
    return GatedNoiseEncoder(encoder) if noise.gate else encoder


def _build_language_encoder(settings: ModelSettings) -> FineGrainedLanguageEncoder:
    text = settings.text
    kind = ReleasedLanguageEncoder if settings.released else FineGrainedLanguageEncoder
    return kind(
        settings.embed_dim,
        max_levels=text.max_levels,
        context_length=text.context_length,
        depth=text.depth,
        num_heads=settings.num_heads,
        mlp_ratio=settings.mlp_ratio,
        real_prompts=text.real_prompts,
    )


def build_contrastive(settings: ModelSettings) -> ContrastiveLoss:
    """Build the contrastive loss with the SPA that `settings.spa` names, or without one."""
    spa = settings.spa
    modes: dict[str, PairMode] = {"content": "content", "features": "features"}
    attention = None
    if spa.mode != "none":
        attention = SamplePairAttention(
            modes.get(spa.mode, "batch"),  # `literal` weighs with the paper's matrix, too
            batch_size=spa.batch_size,
            embed_dim=settings.embed_dim,
        )
    betas = {"one-hot": None, "equal": math.inf, "soft": spa.beta}
    return ContrastiveLoss(attention, beta=betas[spa.targets], literal=spa.mode == "literal")


def is_tower(trunk: str) -> bool:
    """Whether a trunk's name is that of another package's tower."""
    return ":" in trunk


def start_trunk(model: MFCLIP, settings: ModelSettings) -> None:
    """Give a trunk the weights that training starts from, if the settings name any.

    Raises:
        ConfigError: `image.trunk_weights` names nothing that this trunk has.
        MissingExtraError: the package that carries them is not installed (extra ``train``).
        WeightsError: they cannot be read or fetched, or are those of another tower.
    """
    encoder = model.vision_encoder.image_encoder
    source = settings.image.trunk_weights
    if isinstance(encoder, TowerEncoder):
        if source == "imagenet":
            raise ConfigError(
                f"expected image.trunk_weights to be a file with the weights of "
                f'{encoder.name}, "hub" to fetch them, or "" to start from random ones'
            )
        if source:
            encoder.load_state_dict(encoder.base_weights(source), strict=False)
            encoder.source = source
    elif isinstance(encoder, TrunkImageEncoder) and source:
        if source != "imagenet":
            raise ConfigError(
                f"expected image.trunk_weights to be 'imagenet' or empty, but got {source!r}"
            )
        encoder.trunk.load_state_dict(imagenet_weights(settings.image.trunk))


def _check(settings: ModelSettings) -> None:
    if settings.options:
        raise ConfigError("model.options are for the compared detectors; leave them out for MFCLIP")
    image = settings.image
    added = (
        settings.shared_projection
        or image.trunk != "cvit"
        or image.high_pass_start
        or settings.noise.gate
        or settings.head != "norm"
    )
    if settings.released and added:
        raise ConfigError(
            "model.released builds the authors' network, which has no shared_projection, head, "
            "image.trunk, image.high_pass_start or noise.gate; leave them out"
        )
    if image.lora.rank and not is_tower(image.trunk):
        raise ConfigError(
            f"image.lora is for towers of timm and open_clip, but image.trunk is {image.trunk!r}"
        )
    if settings.embed_dim % settings.num_heads:
        raise ConfigError(
            f"expected embed_dim to be a multiple of num_heads, but got embed_dim="
            f"{settings.embed_dim} and num_heads={settings.num_heads}"
        )
    for name in ("image", "noise"):
        part = getattr(settings, name)
        if len(part.widths) != len(part.convs):
            raise ConfigError(
                f"expected {name}.widths and {name}.convs to be equally long, "
                f"but got {part.widths} and {part.convs}"
            )
        if not part.widths or min(part.widths + part.convs) < 1:
            raise ConfigError(
                f"expected {name}.widths and {name}.convs to hold at least one stage, each number "
                f"1 or more, but got {part.widths} and {part.convs}"
            )
    if settings.use_noise and settings.noise.patch_size > settings.image_size:
        raise ConfigError(
            f"expected noise.patch_size <= image_size {settings.image_size}, "
            f"but got {settings.noise.patch_size}"
        )
