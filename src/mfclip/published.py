"""Checkpoints that the authors of detectors published, and how each becomes a weight file.

Nothing of them comes with this package and nothing is downloaded: whoever has a file reads it once
with ``mfclip import``. Facts are those of the authors' code; a licence that was not looked up says
so.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from mfclip.card import Card, read_card
from mfclip.checkpoints import read_checkpoint
from mfclip.config import ModelSettings, load_config
from mfclip.detectors import (
    DETECTORS,
    build_random,
    describe_name,
    find_weights,
    rename_published,
    save_detector,
)
from mfclip.errors import ConfigError, WeightsError
from mfclip.weights import (
    FORMAT,
    PICKLED,
    import_advice,
    load_tensors,
    read_metadata,
    read_text,
)

HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
OPENAI = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))

UNCHECKED = "not known here; see the source"
_BENCH = "https://github.com/SCLBD/DeepfakeBench"
_BENCH_LICENCE = "CC BY-NC 4.0"
_BENCH_CROP = "face turned upright, square 1.3 times as wide"

Sizes = Callable[[Mapping[str, Tensor]], Sequence[str]]


def _as_it_is(_: Mapping[str, Tensor]) -> Sequence[str]:
    return ()


def _text_depth(tensors: Mapping[str, Tensor]) -> Sequence[str]:
    """MFCLIP's text half has 12 blocks as its code builds it, and 6 in the paper."""
    found = [re.match(r"(?:module\.)?transformer\.resblocks\.(\d+)\.", name) for name in tensors]
    depth = max((int(each[1]) + 1 for each in found if each), default=0)
    return [f"model.text.depth={depth}"] if depth else ["model.use_text=false"]


def _adapters(tensors: Mapping[str, Tensor]) -> Sequence[str]:
    """FatFormer's published weights have three adapters, its code eight."""
    pattern = re.compile(r"(?:module\.)?clip_model\.visual\..*\.forgery_aware_adapter\.freq_scale")
    return [f"model.options.adapters={sum(map(bool, map(pattern.fullmatch, tensors)))}"]


@dataclass(frozen=True, slots=True)
class Origin:
    """What is known of a published checkpoint.

    Attributes:
        settings: the detector and its sizes, as ``key=value``.
        source: where its authors offer it.
        licence: of the file, or that it is not known.
        scaling: mean and deviation of red, green and blue for pixels in [0, 1]; None where the
            network takes levels of 0 to 255 as they are.
        crop: how its authors cut a face, in words.
        resize: side of the square before the centre crop to the input, pixels.
        face_margin: how many times wider than the bare face `mfclip` cuts, to come near that.
        face_align: whether faces are turned upright.
        fake_column: which column of the authors' last layer means fake; here it is always 1. None
            for a single log-odds of fake.
        judges: what the network looks at.
        sizes: settings that can be read off the file's shapes.
    """

    settings: Sequence[str]
    source: str
    licence: str
    scaling: tuple[tuple[float, ...], tuple[float, ...]] | None
    crop: str
    resize: int
    face_margin: float = 1.3
    face_align: bool = False
    fake_column: int | None = 1
    judges: str = "faces"
    sizes: Sizes = _as_it_is


ORIGINS: dict[str, Origin] = {
    "mfclip": Origin(
        ["model.name=mfclip", "model.released=true"],
        "https://github.com/Jenine-321/MFCLIP",
        "none given",
        None,
        "face pictures squeezed to 224 x 224",
        resize=224,
        sizes=_text_depth,
    ),
    "xception": Origin(
        ["model.name=xception", "model.image_size=299"],
        "https://github.com/ondyari/FaceForensics",
        UNCHECKED,
        HALF,
        "square 1.3 times as wide as the face",
        resize=299,
    ),
    "xception-deepfakebench": Origin(
        ["model.name=xception", "model.image_size=256"],
        _BENCH,
        _BENCH_LICENCE,
        HALF,
        _BENCH_CROP,
        resize=256,
        face_align=True,
    ),
    "recce": Origin(
        ["model.name=recce", "model.image_size=299"],
        "https://github.com/VISION-SJTU/RECCE",
        "MIT",
        HALF,
        "faces at 299 x 299",
        resize=299,
        fake_column=None,
    ),
    "recce-deepfakebench": Origin(
        ["model.name=recce", "model.image_size=256"],
        _BENCH,
        _BENCH_LICENCE,
        HALF,
        _BENCH_CROP,
        resize=256,
        face_align=True,
    ),
    "uia_vit": Origin(
        ["model.name=uia_vit"],
        "https://github.com/wany0824/UIA-ViT",
        "none given",
        HALF,
        "faces at 224 x 224",
        resize=224,
    ),
    "uia_vit-deepfakebench": Origin(
        ["model.name=uia_vit"],
        _BENCH,
        _BENCH_LICENCE,
        HALF,
        _BENCH_CROP,
        resize=224,
        face_align=True,
    ),
    "cevit": Origin(
        ["model.name=cevit"],
        "https://github.com/davide-coccomini/Combining-EfficientNet-and-Vision-Transformers-for-"
        "Video-Deepfake-Detection",
        "MIT",
        None,
        "faces at 224 x 224, blue first",
        resize=224,
        fake_column=None,
    ),
    "cvit": Origin(
        [
            "model.name=cvit",
            "model.embed_dim=1024",
            "model.mlp_ratio=2",
            "model.options.head=mlp",
            "model.options.published=true",
        ],
        "https://github.com/erprogs/CViT",
        UNCHECKED,
        IMAGENET,
        "bare face and 10 pixels around it, at 224 x 224",
        resize=224,
        face_margin=1.0,
        fake_column=0,
    ),
    "fatformer": Origin(
        ["model.name=fatformer"],
        "https://github.com/Michel-liu/FatFormer",
        "Apache-2.0",
        IMAGENET,
        "whole pictures squeezed to 256 x 256, centre 224",
        resize=256,
        sizes=_adapters,
    ),
    "dire": Origin(
        ["model.name=dire"],
        "https://github.com/ZhendongWang6/DIRE",
        "none given",
        IMAGENET,
        "maps at 256, centre 224",
        resize=256,
        fake_column=None,
        judges="maps of reconstruction errors, not pictures (mfclip data reconstruct)",
    ),
    "freqnet": Origin(
        ["model.name=freqnet"],
        "https://github.com/chuangchuangtan/FreqNet-DeepfakeDetection",
        UNCHECKED,
        IMAGENET,
        "whole pictures at 256, centre 224",
        resize=256,
        fake_column=None,
    ),
    "gend": Origin(
        ["model.name=gend"],
        "https://huggingface.co/yermandy/GenD_CLIP_L_14",
        "MIT",
        OPENAI,
        _BENCH_CROP,
        resize=224,
        face_align=True,
    ),
    "gend-pe": Origin(
        ["model.name=gend", "model.options.tower=pe"],
        "https://huggingface.co/yermandy/GenD_PE_L",
        "MIT",
        HALF,
        _BENCH_CROP,
        resize=224,
        face_align=True,
    ),
    "sbi": Origin(
        ["model.name=sbi", "model.image_size=380"],
        "https://github.com/mapooon/SelfBlendedImages",
        "research only; commercial use needs a contract",
        ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        "box 1.25 times as large as the face, squeezed to 380 x 380",
        resize=380,
        face_margin=1.25,
    ),
    "clip": Origin(
        ["model.name=clip", "model.options.variant=zero-shot"],
        "https://github.com/mlfoundations/open_clip",
        UNCHECKED,
        OPENAI,
        "any picture",
        resize=224,
    ),
}
"""Published checkpoints by the name that ``mfclip import`` takes."""

_LOSS_ONLY = ("same_out", "same_in", "across")
"""Parameters that only a loss uses (UIA-ViT's), which a file need not hold."""


def check_detector(weights: str, name: str) -> None:
    """Check that weights are those of a detector, before anything is loaded.

    Args:
        weights: a file, a run's folder or a hub id.
        name: a key of `ORIGINS` or `DETECTORS`.

    Raises:
        ConfigError: an unknown name, or weights of another detector.
        WeightsError: they are absent, or as their authors published them: the message says how to
            import them.
    """
    if name not in ORIGINS and name not in DETECTORS:
        known = dict.fromkeys([*DETECTORS, *ORIGINS])
        raise ConfigError(
            f"expected a detector among [{', '.join(map(describe_name, known))}], but got {name!r}"
        )
    path = find_weights(weights)
    if path.suffix.lower() in PICKLED and path.is_file():
        raise WeightsError(f"{path} holds what its authors published; {_advice(path, name)}")
    metadata = read_metadata(path)
    if metadata.get("format") != FORMAT:
        raise WeightsError(f"{path} was not written by mfclip; {_advice(path, name)}")
    found = str(read_text(metadata, "settings", path).get("name", "mfclip"))
    wanted = load_config(None, ORIGINS[name].settings).model.name if name in ORIGINS else name
    if found != wanted:
        raise ConfigError(f"{weights} are weights of '{found}', and not of '{wanted}'")


def _advice(path: Path, name: str) -> str:
    """Say how to import, where there is something to import."""
    if name in ORIGINS:
        return import_advice(path, name)
    return f"of '{name}' no authors' file is known; train it, or name weights of mfclip"


def import_weights(
    name: str, path: Path, out: Path, *, overrides: Sequence[str] = (), licence: str | None = None
) -> Card:
    """Turn a published checkpoint into a weight file of mfclip, with a card that names its origin.

    Only tensors are read. They are renamed, and each must be there with the shape of the network.

    Args:
        name: a key of `ORIGINS`.
        path: the authors' file.
        out: the ``.safetensors`` file to write.
        overrides: settings of another size than the published one, as ``model.image_size=256``.
        licence: who may use the file, if you know better.

    Raises:
        ConfigError: an unknown name, or settings that do not fit together.
        WeightsError: the file cannot be read, or is another network.
    """
    if name not in ORIGINS:
        raise ConfigError(f"expected a name among [{', '.join(ORIGINS)}], but got {name!r}")
    origin, tensors = ORIGINS[name], read_checkpoint(path)
    keys = [*origin.settings, *origin.sizes(tensors), *overrides]
    settings = load_config(None, keys).model
    detector = build_random(settings)
    renamed = rename_published(detector, tensors, str(path))
    own = {key: value.data_ptr() for key, value in detector.named_parameters()}
    absent = [
        key
        for key, place in own.items()
        if key in renamed and renamed[key].data_ptr() == place and not key.endswith(_LOSS_ONLY)
    ]
    if absent:
        raise WeightsError(
            f"{path} is a start for {settings.name!r} and no detector: it lacks {absent[0]}"
            f"{' and others' * (len(absent) > 1)}; train from it with --set model.pretrained"
        )
    load_tensors(detector, renamed, str(path))
    card = _card(name, origin, path, settings, licence)
    save_detector(detector, settings, out, card=card)
    return card


def _card(
    name: str, origin: Origin, path: Path, settings: ModelSettings, licence: str | None
) -> Card:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    mean, deviation = origin.scaling or (None, None)
    size = settings.image_size
    facts = {
        "resize": max(origin.resize, size),
        "face_margin": origin.face_margin,
        "face_align": origin.face_align,
        "detector": describe_name(settings.name),
        "trained_on": f"as {origin.source} says; mfclip did not train these weights",
        "licence": licence or origin.licence,
        "limits": "Nobody measured with mfclip how often these weights err; mfclip calibrate does.",
        "command": f"mfclip import {name} {path.name}",
        "imported": {
            "name": name,
            "source": origin.source,
            "file": path.name,
            "sha256": digest,
            "mean": None if mean is None else list(mean),
            "deviation": None if deviation is None else list(deviation),
            "crop": origin.crop,
            "fake_column": origin.fake_column,
            "judges": origin.judges,
        },
    }
    return read_card(facts)
