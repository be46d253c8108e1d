"""The detectors by name, and their weights.

Adding one: a file in `baselines` with `forward(images) -> logits` and `loss(batch)`, and a row in
`DETECTORS`. A class whose arguments are plain numbers needs no builder of its own:
``"name": Row(_plain(Class))``.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from inspect import signature
from pathlib import Path
from textwrap import shorten
from typing import Any, Protocol

from jaxtyping import Float, Int
from torch import Tensor, nn

from mfclip.baselines.cevit import CrossEfficientViT
from mfclip.baselines.clip import CLIP, build_towers
from mfclip.baselines.cvit import ConvolutionalVisionTransformer, build_encoder
from mfclip.baselines.dd_vqa import DdVqa
from mfclip.baselines.dire import Dire
from mfclip.baselines.fatformer import SENTENCES, FatFormer
from mfclip.baselines.focus import FoCus
from mfclip.baselines.freqnet import FreqNet
from mfclip.baselines.gend import GenD
from mfclip.baselines.guan import Guan
from mfclip.baselines.options import read_options, refuse_unused
from mfclip.baselines.recce import Recce
from mfclip.baselines.sbi import Sbi
from mfclip.baselines.uia_vit import UiaVit
from mfclip.baselines.vit import VisionTransformer
from mfclip.baselines.vlffd import Vlffd
from mfclip.baselines.xception import Xception
from mfclip.baselines.yu import Yu
from mfclip.batch import Batch
from mfclip.card import Card
from mfclip.config import LossSettings, ModelSettings, build_config
from mfclip.errors import ConfigError, WeightsError
from mfclip.labels import Labels
from mfclip.model.build import build_contrastive, build_mfclip, start_trunk
from mfclip.model.delta import remember_base, with_base, without_base
from mfclip.model.ftg import number_sentences, prompts
from mfclip.model.mfclip import MFCLIP, are_normalised
from mfclip.model.tokenizer import VOCAB_SIZE, tokenize
from mfclip.weights import (
    FORMAT,
    WeightFile,
    check_build,
    load_tensors,
    read_tensors,
    read_weights,
    write_weights,
)

TRAINING_PARTS = ("language_encoder.", "contrastive.", "predictor.")
"""Parts of MFCLIP that inference does not need."""

EMBEDDED = "assets/weights/mfclip-lite.safetensors"
"""The weights that come with the package."""


class Detector(Protocol):
    """What training, evaluation and use ask of a detector, an `nn.Module`.

    Training also uses, where a detector has them:

    - ``advance(done: float, epoch: int)``, called before every step with the share of the run that
      lies behind, in [0, 1), and the epoch, from 0. What it keeps must be buffers of fixed shape,
      so that a resumed run stays equal to the bit.
    - ``not_averaged: tuple[str, ...]``, patterns of buffers that `train.ema` copies, not averages.
    - ``compares_samples``, ``encode_image``, ``feature_loss``: `train.accumulate.ComparesSamples`.
    - ``compiled: tuple[str, ...]``, parts that `train.compile` compiles: they see pictures and no
      labels. Without it the detector itself, which its ``loss`` then must call.
    - ``before_saving(labels)``, called with the labels of the training split before its weights
      are kept.
    """

    image_size: int

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 2"]:
        """Judge RGB faces with pixel values in [0, 1]; column 1 = fake."""
        ...

    def loss(self, batch: Batch) -> Mapping[str, Tensor]:
        """Return weighted loss terms, whose sum is minimised."""
        ...


Builder = Callable[[ModelSettings, LossSettings], nn.Module]


def _plain(detector: type[nn.Module]) -> Builder:
    """Make the builder of a class that takes image size, maybe dropout, and options."""
    given = {"image_size", "loss_settings", "dropout"} & set(signature(detector).parameters)

    def build(settings: ModelSettings, loss: LossSettings) -> nn.Module:
        refuse_unused(settings, given - {"loss_settings"})
        values = {name: getattr(settings, name) for name in given - {"loss_settings"}}
        (options,) = read_options(settings, detector, given=given)
        return detector(**values, **options, loss_settings=loss)

    return build


def _build_cvit(settings: ModelSettings, loss: LossSettings) -> nn.Module:
    shared = ("embed_dim", "num_heads", "mlp_ratio", "shared_projection")
    refuse_unused(settings, (*shared, "dropout", "image"))
    if settings.image.high_pass_start:
        raise ConfigError("model.image.high_pass_start means nothing to 'cvit'; leave it out")
    encoder = build_encoder(
        image_size=settings.image_size,
        widths=settings.image.widths,
        convs=settings.image.convs,
        depth=settings.image.depth,
        **{name: getattr(settings, name) for name in shared},
    )
    given = ("encoder", "embed_dim", "image_size", "dropout", "loss_settings")
    (options,) = read_options(settings, ConvolutionalVisionTransformer, given=given)
    return ConvolutionalVisionTransformer(
        encoder,
        embed_dim=settings.embed_dim,
        image_size=settings.image_size,
        dropout=settings.dropout,
        loss_settings=loss,
        **options,
    )


def _build_clip(settings: ModelSettings, loss: LossSettings) -> nn.Module:
    """Hand CLIP the sentences, the tokenizer and the contrastive loss that MFCLIP has."""
    refuse_unused(settings, ("embed_dim", "text", "spa"))
    parts = ("towers", "tokenize", "class_ids", "contrastive", "number_sentences", "loss_settings")
    given = ("image_size", "embed_dim", "context_length", *parts)
    sizes, options = read_options(settings, build_towers, CLIP, given=given)
    context_length = settings.text.context_length
    towers = build_towers(
        image_size=settings.image_size,
        embed_dim=settings.embed_dim,
        context_length=context_length,
        **sizes,
    )

    def prompt_ids(labels: Sequence[Labels]) -> Int[Tensor, "n context"]:
        levels = settings.text.max_levels
        texts = [", ".join(prompts(one, levels, real)) for one in labels]
        return tokenize([[text] for text in texts], context_length)[:, 0]

    real = settings.text.real_prompts
    verdicts = [prompts(Labels(is_fake), 1, real) for is_fake in (False, True)]
    return CLIP(
        towers,
        prompt_ids,
        tokenize(verdicts, context_length)[:, 0],
        build_contrastive(settings),
        lambda labels: number_sentences(labels, settings.text.max_levels, real),
        image_size=settings.image_size,
        loss_settings=loss,
        **options,
    )


def _build_fatformer(settings: ModelSettings, loss: LossSettings) -> nn.Module:
    refuse_unused(settings, ())
    given = ("class_ids", "image_size", "loss_settings")
    (options,) = read_options(settings, FatFormer, given=given)
    ids = tokenize([[text] for text in SENTENCES])[:, 0]
    return FatFormer(ids, image_size=settings.image_size, loss_settings=loss, **options)


def _build_vlffd(settings: ModelSettings, loss: LossSettings) -> nn.Module:
    """Hand VLFFD CLIP's towers, the tokenizer, and a loss in which equal sentences share."""
    refuse_unused(settings, ("embed_dim",))
    given = ("image_size", "embed_dim", "context_length", "towers", "tokenize", "contrastive")
    sizes, options = read_options(settings, build_towers, Vlffd, given=(*given, "loss_settings"))
    towers = build_towers(image_size=settings.image_size, embed_dim=settings.embed_dim, **sizes)
    spa = settings.spa.model_copy(update={"mode": "none", "targets": "equal"})
    return Vlffd(
        towers,
        lambda texts: tokenize([[text] for text in texts])[:, 0],
        build_contrastive(settings.model_copy(update={"spa": spa})),
        image_size=settings.image_size,
        loss_settings=loss,
        **options,
    )


def _build_dd_vqa(settings: ModelSettings, loss: LossSettings) -> nn.Module:
    """Hand DD-VQA the tokenizer, and what labels say where a face has no text of its own."""
    refuse_unused(settings, ("text",))
    given = ("tokenize", "answer", "vocabulary", "image_size", "loss_settings")
    (options,) = read_options(settings, DdVqa, given=given)
    text = settings.text

    def answer(labels: Labels) -> str:
        return ", ".join(prompts(labels, text.max_levels, text.real_prompts))

    return DdVqa(
        lambda texts: tokenize([[one] for one in texts], text.context_length)[:, 0],
        answer,
        vocabulary=VOCAB_SIZE,
        image_size=settings.image_size,
        loss_settings=loss,
        **options,
    )


@dataclass(frozen=True, slots=True)
class Row:
    """A detector that `model.name` can name.

    Attributes:
        build: makes it from the settings.
        reimplemented: no code of its authors could be read, so that it is our reading of a
            description, and is called so wherever its name is shown; see `describe_name`.
        judges_maps: its pictures are maps that were computed from faces, and not the faces.
    """

    build: Builder
    reimplemented: bool = False
    judges_maps: bool = False


DETECTORS: dict[str, Row] = {
    "mfclip": Row(build_mfclip),
    "mfclip-small": Row(build_mfclip),
    "mfclip-lite": Row(build_mfclip),
    "xception": Row(_plain(Xception)),
    "vit": Row(_plain(VisionTransformer)),
    "cvit": Row(_build_cvit),
    "clip": Row(_build_clip),
    "freqnet": Row(_plain(FreqNet)),
    "recce": Row(_plain(Recce)),
    "uia_vit": Row(_plain(UiaVit)),
    "cevit": Row(_plain(CrossEfficientViT)),
    "guan": Row(_plain(Guan)),
    "dire": Row(_plain(Dire), judges_maps=True),
    "fatformer": Row(_build_fatformer),
    "vlffd": Row(_build_vlffd, reimplemented=True),
    "yu": Row(_plain(Yu), reimplemented=True),
    "dd_vqa": Row(_build_dd_vqa, reimplemented=True),
    "focus": Row(_plain(FoCus), reimplemented=True),
    "gend": Row(_plain(GenD)),
    "sbi": Row(_plain(Sbi)),
}


def describe_name(name: str, shown: str | None = None) -> str:
    """Name a detector to a reader, and say so where it is our reading of a description.

    Args:
        name: a key of `DETECTORS`; others are no detector's and stay as they are.
        shown: what a table calls it; None takes the key.

    Example:
        >>> describe_name("yu", "Yu et al."), describe_name("xception")
        ('Yu et al. (re-implemented from its description)', 'xception')
    """
    row = DETECTORS.get(name)
    note = " (re-implemented from its description)" if row and row.reimplemented else ""
    return f"{shown or name}{note}"


def build_detector(settings: ModelSettings, loss: LossSettings | None = None) -> nn.Module:
    """Build a detector, with the weights that `settings.pretrained` names, if any.

    Raises:
        ConfigError: an unknown name, or sizes that do not fit together.
        WeightsError: the named weights cannot be used.
    """
    detector = build_random(settings, loss)
    if isinstance(detector, MFCLIP) and settings.pretrained is None:
        start_trunk(detector, settings)
    if settings.pretrained is not None:
        _start_from(detector, settings.pretrained)
    elif getattr(detector, "needs_pretrained", False):
        raise ConfigError(
            f"{settings.name!r} with these options trains no tower, so it needs weights; set "
            "model.pretrained to a file or hub id"
        )
    return detector


def load_detector(weights: str | Path | None = None) -> tuple[nn.Module, Card]:
    """Load a detector with its card.

    Args:
        weights: a safetensors file, a folder that holds one (a run's, or one saved for the hub),
            a hub id such as ``owner/name``, or None for those that come with the package.

    Returns:
        The detector in eval mode, and its card.

    Raises:
        MissingExtraError: the detector needs a package that is not installed.
        WeightsError: they are absent, damaged, or of another model.
    """
    file = read_weights(find_weights(weights))
    source = str(weights or "the embedded weights")
    return restore_detector(file, source, trusted=weights is None), file.card


def restore_detector(file: WeightFile, source: str, *, trusted: bool = False) -> nn.Module:
    """Build the detector of a weight file that was read; its tensors are used up.

    Args:
        file: from `mfclip.weights.read_weights`.
        source: what messages call it.
        trusted: the file came with the package, so that it need not be asked first what it would
            build: that imports torch's compiler, which takes longer than all else.

    Raises:
        MissingExtraError: the detector needs a package that is not installed.
        WeightsError: the file is damaged, or of another model.
    """
    try:
        settings = build_config({"model": {**file.settings, "pretrained": None}}).model
    except ConfigError as error:
        reason = shorten(str(error), 300)
        message = f"{source} are damaged or come from another version of mfclip: {reason}"
        raise WeightsError(message) from None
    file, base = with_base(file, settings)
    prompt_features = file.tensors.pop("prompt_features", None)
    settings = _without_absent_text(settings, file)
    if not trusted:
        check_build(lambda: build_random(settings), file.tensors, source)
    detector = build_random(settings)
    load_tensors(detector, file.tensors, source)
    remember_base(detector, base)
    if file.card.resize < settings.image_size:
        message = f"resize {file.card.resize} is smaller than the input, {settings.image_size}"
        raise WeightsError(f"the card of {source} is damaged: {message}; use others")
    if isinstance(detector, MFCLIP) and (file.card.prompts or prompt_features is not None):
        _restore_prompts(detector, file.card.prompts, prompt_features, source)
    return detector.eval()


def save_detector(
    detector: nn.Module,
    settings: ModelSettings,
    path: Path,
    *,
    card: Card,
    vision_only: bool = False,
) -> None:
    """Write a detector's weights with settings and card.

    Args:
        detector: what to save.
        settings: what it was built from.
        path: a ``.safetensors`` file.
        card: what is known of it; the prompts are added.
        vision_only: leave out what inference does not need (MFCLIP's text half).
    """
    tensors = dict(detector.state_dict())
    if isinstance(detector, MFCLIP):
        if vision_only:
            tensors = {k: v for k, v in tensors.items() if not k.startswith(TRAINING_PARTS)}
        if detector.prompts:
            tensors["prompt_features"] = detector.prompt_features
            card = card.changed(prompts=detector.prompts)
    tensors, base = without_base(detector, tensors)
    card = card if base is None else card.changed(base=base)
    write_weights(WeightFile(tensors, settings.model_dump(mode="json"), card), path)


def fit_projections(tensors: Mapping[str, Tensor], detector: nn.Module) -> dict[str, Tensor]:
    """Adapt weights that were trained at another image or patch size.

    The projection of a C x h x w map to a token is interpolated to the detector's h x w, and
    scaled so that an even map still gives the same token.
    """
    own, out = detector.state_dict(), dict(tensors)
    for name in own.keys() & out.keys():
        old, new = out[name].shape, own[name].shape
        if name.endswith("token.projection.weight") and old != new:
            channels = _channels_before(detector, name)
            side_before, side = (round((shape[1] / channels) ** 0.5) for shape in (old, new))
            grid = out[name].view(-1, channels, side_before, side_before)
            grid = nn.functional.interpolate(grid, size=(side, side), mode="bilinear")
            out[name] = grid.flatten(1) * (side_before / side) ** 2
    return out


def _channels_before(detector: nn.Module, name: str) -> int:
    """Channels of the map that a projection reads: those of its encoder's last convolution."""
    encoder = detector.get_submodule(name.removesuffix(".token.projection.weight"))
    return [part.out_channels for part in encoder.modules() if isinstance(part, nn.Conv2d)][-1]


def build_random(settings: ModelSettings, loss: LossSettings | None = None) -> nn.Module:
    """Build a detector with random weights, also one that is of no use with them.

    Raises:
        ConfigError: an unknown name, or sizes that do not fit together.
    """
    if settings.name not in DETECTORS:
        choices = ", ".join(map(describe_name, DETECTORS))
        raise ConfigError(
            f"expected model.name to be one of [{choices}], but got {settings.name!r}"
        )
    return DETECTORS[settings.name].build(settings, loss or LossSettings())


def _start_from(detector: nn.Module, source: str) -> None:
    """Copy weights that mfclip wrote, or those that a baseline's authors published."""
    path = find_weights(source)
    tensors, metadata = read_tensors(path)
    if not hasattr(detector, "from_published") or metadata.get("format") == FORMAT:
        tensors = read_weights(path).tensors
        tensors.pop("prompt_features", None)  # training makes its own
        tensors = _without_switched_off(tensors, detector)
        tensors = fit_projections(tensors, detector)
    else:
        tensors = rename_published(detector, tensors, source)
    load_tensors(detector, tensors, source)


def rename_published(
    detector: nn.Module, tensors: Mapping[str, Tensor], source: str
) -> dict[str, Tensor]:
    """Bring the tensors of a detector's authors under its own names.

    Raises:
        WeightsError: they are those of another network.
    """
    rename: Any = getattr(detector, "from_published", dict)
    try:
        return dict(rename(tensors))
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, ValueError) as error:
        # what reshapes or looks for a tensor meets another network's here
        reason = str(error).strip().partition("\n")[0][:200]
        raise WeightsError(f"{source} belongs to another model: {reason}") from error


def _without_switched_off(tensors: Mapping[str, Tensor], detector: nn.Module) -> dict[str, Tensor]:
    """Leave out MFCLIP's training parts that these settings switch off, e.g. SPA's weights."""
    own = detector.state_dict()
    return {k: v for k, v in tensors.items() if k in own or not k.startswith(TRAINING_PARTS)}


def find_weights(weights: str | Path | None) -> Path:
    """Find a weight file on disk, on the hub, or in the package.

    A hub id is ``owner/name``, or ``owner/name:file.safetensors`` if the file is not called
    ``model.safetensors``.

    Raises:
        WeightsError: there is none.
    """
    if weights is None:
        with as_file(files("mfclip").joinpath(EMBEDDED)) as path:
            if not path.is_file():
                raise WeightsError("this build of mfclip carries no weights; name some")
            return path
    path = Path(weights)
    if path.exists():
        return _find_in_folder(path) if path.is_dir() else path
    hub_id = re.fullmatch(r"([\w.-]+/[\w.-]+)(?::(.+\.safetensors))?", str(weights))
    if path.suffix == ".safetensors" and not (hub_id and hub_id[2]):
        return path
    # The hub is asked, again and again while it does not answer, only for what can be no path.
    if hub_id and not path.parent.is_dir():
        return _download(*filter(None, hub_id.groups()))
    near = difflib.get_close_matches(path.name, _names_in(path.parent), n=1)
    hint = f"; did you mean '{path.with_name(near[0])}'?" if near else ""
    expected = "; expected a .safetensors file, a run's folder or a hub id (owner/name)"
    raise WeightsError(f"no weights at {weights}{hint or expected}")


def _names_in(folder: Path) -> list[str]:
    return os.listdir(folder) if folder.is_dir() else []


def _find_in_folder(folder: Path) -> Path:
    """Find what `HubPredictor` saved, or the best weights of a run."""
    for name in ("model.safetensors", "best.safetensors"):
        if (folder / name).is_file():
            return folder / name
    raise WeightsError(
        f"no weights in the folder {folder}; expected model.safetensors (a hub folder) or "
        "best.safetensors (a run's folder, after its first validation)"
    )


def _download(hub_id: str, file: str = "model.safetensors") -> Path:
    from huggingface_hub import hf_hub_download  # noqa: PLC0415
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError  # noqa: PLC0415

    try:
        return Path(hf_hub_download(hub_id, file))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        message = f"no weights file and no reachable hub model named {hub_id!r}: {error}"
        raise WeightsError(message) from error


def _without_absent_text(settings: ModelSettings, file: WeightFile) -> ModelSettings:
    """Leave out MFCLIP's text half if the file does not hold it: most of the time to build it."""
    held = any(name.startswith("language_encoder.") for name in file.tensors)
    row = DETECTORS.get(settings.name)
    if held or row is None or row.build is not build_mfclip:
        return settings
    return settings.model_copy(update={"use_text": False})


def _restore_prompts(
    model: MFCLIP, prompts: tuple[Labels, ...], features: Tensor | None, source: str
) -> None:
    """Give the model its prompts."""
    expected = (len(prompts), model.prompt_features.shape[1])
    if features is None or tuple(features.shape) != expected or not features.is_floating_point():
        got = features if features is None else f"{features.dtype} {tuple(features.shape)}"
        raise WeightsError(f"{source}: expected prompt features of shape {expected}, got {got}")
    features = features.float()  # as the model holds them
    if not are_normalised(features):
        message = f"{source} hold prompt features that are not finite or not of length 1"
        raise WeightsError(f"{message}; use others")
    model.prompts, model.prompt_features = prompts, features
