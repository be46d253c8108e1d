"""Settings to MFCLIP: the only place where the parts are given their sizes."""

from __future__ import annotations

from typing import Any

from mfclip.config import MODEL_PRESETS, LossSettings, ModelSettings, build_config
from mfclip.errors import ConfigError
from mfclip.model.fle import FineGrainedLanguageEncoder
from mfclip.model.image_encoder import ImageEncoder
from mfclip.model.losses import ContrastiveLoss
from mfclip.model.mfclip import MFCLIP
from mfclip.model.mve import MultiModalVisionEncoder
from mfclip.model.noise_encoder import NoiseEncoder
from mfclip.model.spa import SamplePairAttention


def create_model(name: str = "mfclip", **overrides: Any) -> MFCLIP:
    """Build an MFCLIP with random weights.

    Args:
        name: ``mfclip``, the paper's sizes (122.74 M parameters), or ``mfclip-small``.
        **overrides: any key of the configuration's ``model`` table, nested tables as dicts, e.g.
            ``create_model("mfclip", embed_dim=256, noise={"patch_size": 56})``.

    Raises:
        ConfigError: an unknown name or key, or sizes that do not fit together.

    Example:
        >>> create_model("mfclip-small").image_size
        224
    """
    if name not in MODEL_PRESETS:
        choices = ", ".join(MODEL_PRESETS)
        raise ConfigError(f"expected name to be one of [{choices}], but got {name!r}")
    return build_mfclip(build_config({"model": {"name": name, **overrides}}).model)


def build_mfclip(settings: ModelSettings, loss_settings: LossSettings | None = None) -> MFCLIP:
    """Build an MFCLIP from its settings.

    Raises:
        ConfigError: sizes that do not fit together.
    """
    _check(settings)
    shared = {
        "embed_dim": settings.embed_dim,
        "num_heads": settings.num_heads,
        "mlp_ratio": settings.mlp_ratio,
    }
    image, noise, text = settings.image, settings.noise, settings.text
    vision_encoder = MultiModalVisionEncoder(
        ImageEncoder(
            settings.image_size,
            widths=image.widths,
            convs=image.convs,
            depth=image.depth,
            **shared,  # type: ignore[arg-type]
        )
        if settings.use_image
        else None,
        NoiseEncoder(
            noise.patch_size,
            widths=noise.widths,
            convs=noise.convs,
            depth=noise.depth,
            **shared,  # type: ignore[arg-type]
        )
        if settings.use_noise
        else None,
        patch_size=noise.patch_size,
        pixel_scale=noise.pixel_scale,
    )
    language_encoder = (
        FineGrainedLanguageEncoder(
            max_levels=text.max_levels,
            context_length=text.context_length,
            depth=text.depth,
            **shared,  # type: ignore[arg-type]
        )
        if settings.use_text
        else None
    )
    return MFCLIP(
        vision_encoder,
        language_encoder,
        _build_contrastive(settings) if settings.use_text else None,
        embed_dim=settings.embed_dim,
        image_size=settings.image_size,
        use_predictor=settings.use_predictor and settings.use_text,
        dropout=settings.dropout,
        loss_settings=loss_settings,
    )


def _build_contrastive(settings: ModelSettings) -> ContrastiveLoss:
    spa = settings.spa
    attention = None
    if spa.mode != "none":
        attention = SamplePairAttention(
            "content" if spa.mode == "content" else "batch",
            batch_size=spa.batch_size,
            embed_dim=settings.embed_dim,
        )
    return ContrastiveLoss(
        attention, shared_targets=spa.shared_targets, literal=spa.mode == "literal"
    )


def _check(settings: ModelSettings) -> None:
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
    if settings.use_noise and settings.noise.patch_size > settings.image_size:
        raise ConfigError(
            f"expected noise.patch_size <= image_size {settings.image_size}, "
            f"but got {settings.noise.patch_size}"
        )
