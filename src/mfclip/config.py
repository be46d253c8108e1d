"""Typed, frozen run configuration: TOML in, resolved TOML out.

A run is a TOML file that holds only what differs from the defaults below, and the defaults are the
paper's setting (Sec. IV-A). ``--set train.lr=3e-4`` changes one key on the command line.
"""

from __future__ import annotations

import copy
import difflib
import hashlib
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mfclip.errors import ConfigError

REAL_PROMPTS = (
    "a photo of a real face",
    "a photo of a pristine face",
    "a photo taken by a camera",
    "the source is a camera",
)
"""What real faces say at L1 to L4; the paper gives L1 only."""

MODEL_PRESETS: dict[str, dict[str, Any]] = {
    "mfclip": {},  # the paper's sizes, which are the defaults below
    "mfclip-small": {  # the same boxes, narrow enough for a CPU
        "embed_dim": 128,
        "num_heads": 4,
        "mlp_ratio": 2.0,
        "shared_projection": True,
        "image": {
            "widths": (16, 32, 64, 96, 128),
            "convs": (1, 2, 2, 3, 3),
            "depth": 2,
            "high_pass_start": 0.75,
        },
        "noise": {
            "widths": (16, 16, 32),
            "convs": (2, 2, 2),
            "depth": 1,
            "pixel_scale": 64.0,
        },
        "text": {"depth": 2},
    },
    "mfclip-lite": {  # the small boxes around a trunk that has seen ImageNet
        "embed_dim": 128,
        "num_heads": 4,
        "mlp_ratio": 2.0,
        "image": {"trunk": "efficientnet-lite0", "depth": 1, "taps": (2, 3, 5)},
        "noise": {"widths": (16, 16, 32), "convs": (2, 2, 2), "depth": 1, "pixel_scale": 64.0},
        "text": {"depth": 2},
    },
}
"""Model sizes by name: only the differences from the paper's."""

RELEASED: dict[str, Any] = {
    "noise": {"pixel_scale": 1.0},
    # the code reads the depth off OpenAI's ViT-B/32 file, which has twice the paper's L
    "text": {"depth": 12},
    "spa": {"mode": "batch", "targets": "one-hot"},
}
"""What ``model.released = true`` changes among the defaults: the authors' code, not their paper."""


class Settings(BaseModel):
    """A frozen group of settings that knows its keys and no others."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class LoraSettings(Settings):
    """Linear layers of a tower that learn through two thin matrices (Hu et al., 2022)."""

    rank: int = Field(0, ge=0, le=1024)  # 0 = none
    alpha: float = Field(64.0, gt=0)  # scale of the product, in units of the rank
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: tuple[str, ...] = ("*.attn.qkv",)  # patterns of their names


class ImageEncoderSettings(Settings):
    """IE, the CViT branch (paper Sec. III-C)."""

    # cvit: the paper's convolutions; efficientnet-lite0, 1, 2: pretrained on ImageNet;
    # timm:NAME, open_clip:NAME: a tower of theirs, at its own width (model.embed_dim)
    trunk: str = "cvit"
    # where training starts: imagenet for efficientnet-lite; a file or hub for towers; "" = random
    trunk_weights: str | None = "imagenet"
    lora: LoraSettings = LoraSettings()  # of towers
    taps: tuple[int, ...] = ()  # stages whose mean and spread go to the token, too; 1 = first
    widths: tuple[int, ...] = (32, 64, 128, 256, 512)  # channels of the stages; CViT
    convs: tuple[int, ...] = (3, 3, 3, 4, 4)  # convolutions a stage; CViT
    depth: int = Field(6, ge=1)  # transformer blocks; paper
    high_pass_start: float = Field(0.0, ge=0, le=1)  # share of first filters that start high-pass


class NoiseEncoderSettings(Settings):
    """PS, SRM and NE, the noise branch (paper Sec. III-C)."""

    patch_size: int = Field(112, ge=8)  # pixels, p of Table VII; paper
    widths: tuple[int, ...] = (32, 64)  # channels of the stages; released code
    convs: tuple[int, ...] = (3, 3)  # convolutions a stage; released code
    depth: int = Field(3, ge=1)  # B, transformer blocks; paper
    pixel_scale: float = Field(255.0, gt=0, le=65_535)  # value of white for SRM; the filters' own
    gate: bool = False  # NE times a learned number that starts at 0; not in paper


Sentence: TypeAlias = Annotated[str, Field(min_length=1, max_length=1000)]


class LanguageEncoderSettings(Settings):
    """FLE, the text branch (paper Sec. III-D)."""

    max_levels: int = Field(4, ge=1, le=4)  # prompt levels; paper
    context_length: int = Field(77, ge=4, le=4096)  # tokens a level; CLIP
    real_prompts: tuple[Sentence, ...] = Field(REAL_PROMPTS, min_length=1, max_length=4)
    depth: int = Field(6, ge=1)  # L, transformer blocks; paper


class PairAttentionSettings(Settings):
    """SPA (paper Sec. III-E)."""

    # features: ours; batch: the paper's; literal: as Eq. 9-12 are printed; none: plain CLIP
    mode: Literal["features", "batch", "content", "literal", "none"] = "features"
    batch_size: int = Field(24, ge=1)  # side of A in `batch` and `literal` mode; paper
    targets: Literal["one-hot", "equal", "soft"] = "soft"  # who shares a target; paper: one-hot
    beta: float = Field(8.0, ge=0)  # of `soft`: how much closer equal prompts are than related ones


class ModelSettings(Settings):
    """MFCLIP (paper Fig. 3). Switches are the rows of Table VI."""

    name: str = "mfclip"  # a key of DETECTORS
    image_size: int = Field(224, ge=32, le=4096)  # pixels; paper
    embed_dim: int = Field(512, ge=8)  # d; paper
    num_heads: int = Field(8, ge=1)  # attention heads of every transformer; paper
    mlp_ratio: float = Field(4.0, gt=0)  # MLP 2048 at d = 512; paper
    dropout: float = Field(0.0, ge=0, lt=1)  # on the vision features before the head; not in paper
    head: Literal["norm", "linear"] = "norm"  # whether a layer norm stands before the verdict
    shared_projection: bool = False  # also project the maps' means; not in paper
    use_image: bool = True  # IE
    use_noise: bool = True  # NE
    use_text: bool = True  # FLE and the contrastive loss
    use_predictor: bool = True  # predictor and the KL loss
    image: ImageEncoderSettings = ImageEncoderSettings()
    noise: NoiseEncoderSettings = NoiseEncoderSettings()
    text: LanguageEncoderSettings = LanguageEncoderSettings()
    spa: PairAttentionSettings = PairAttentionSettings()
    released: bool = False  # the authors' network, for their weights; docs/concepts.md
    pretrained: str | None = None  # None, a path or a hub id
    options: dict[str, Any] = Field(default_factory=dict)  # arguments of a baseline's builder


class DataSettings(Settings):
    """What is read, and how a picture becomes a model input."""

    manifest: Path | None = None  # .csv, .jsonl or .parquet
    root: Path | None = None  # folder of relative paths; the manifest's own if empty
    shards: str | None = None  # folder or address of the training split's shards; else its files
    train_split: str = "train"
    val_split: str = "val"
    test_split: str = "test"
    resize: int = Field(256, ge=32, le=4096)  # short side in pixels before the crop
    face_margin: float = Field(1.3, ge=0.1, le=10)  # how the faces were cut; `Predictor` cuts alike
    face_align: bool = True  # whether they were turned upright
    workers: int = Field(0, ge=0)  # loader processes; 0 = decode in the training process's threads
    masks: bool = False  # also load which part of each face was forged, for detectors that learn it
    cache: bool = False  # keep decoded pictures in memory (196 kB each at 256 x 256)
    sampling: Literal["shuffle", "balanced", "source", "generator", "paired"] = "shuffle"
    augment: Literal["none", "light", "strong", "perturb", "everyday"] = "none"  # not in paper
    self_blend: float = Field(0.0, ge=0, le=1)  # share of a batch: reals and forgeries of them
    twins: Path | None = None  # folder of reconstructions, to make such forgeries with, too
    texts: Path | None = None  # .json with sentences about faces, for detectors that read them
    max_unreadable: int = Field(100, ge=0)  # images passed over before training stops


class LossSettings(Settings):
    """Weights of the three losses (paper Eq. 2: all 1)."""

    contrastive: float = Field(1.0, ge=0)
    kl: float = Field(1.0, ge=0)
    cross_entropy: float = Field(1.0, ge=0)
    kl_temperature: float = Field(0.5, gt=0)  # paper Eq. 13
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    alignment: float = Field(0.0, ge=0)  # draws faces of one class together; GenD: 0.1
    uniformity: float = Field(0.0, ge=0)  # spreads all faces over the sphere; GenD: 0.5


class GroupSettings(Settings):
    """Parameters that learn at a rate of their own."""

    match: str = Field(min_length=1)  # pattern of their names, e.g. vision_encoder.*; first wins
    lr: float = Field(gt=0)  # in the place of train.lr; the schedule scales it likewise


class TrainSettings(Settings):
    """The optimiser and its schedule (paper Sec. IV-A)."""

    epochs: int = Field(30, ge=1)  # not stated in the paper: two steps of the schedule
    batch_size: int = Field(24, ge=1)  # images a step over all processes; paper
    accumulate: int = Field(1, ge=1)  # micro-batches a step; the loss stays that of the batch
    freeze: tuple[str, ...] = ()  # parts that keep their weights, e.g. vision_encoder
    learn: tuple[str, ...] = ()  # patterns of the parameters that learn, e.g. *norm*; () = all
    groups: tuple[GroupSettings, ...] = ()  # parameters with a learning rate of their own
    checkpoint_activations: bool = False  # compute each convolution stage twice, to save memory
    keep_memory: bool = False  # on a CPU: hold freed memory for the next step
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"  # paper
    lr: float = Field(1e-4, gt=0)  # paper
    weight_decay: float = Field(1e-3, ge=0)  # paper
    momentum: float = Field(0.9, ge=0, lt=1)  # of sgd
    schedule: Literal["step", "cosine", "onecycle", "plateau"] = "step"  # paper: lr / 10 ...
    step_epochs: int = Field(15, ge=1)  # ... every 15 epochs
    step_iterations: int | None = Field(None, ge=1)  # steps instead of step_epochs
    step_gamma: float = Field(0.1, gt=0, le=1)  # factor of `step` and `plateau`; paper
    patience: int = Field(10, ge=0)  # validations without gain before `plateau` lowers the rate
    warmup_epochs: float = Field(0.0, ge=0)  # linear rise from 0
    warmup_share: float = Field(0.3, ge=0, lt=1)  # of `onecycle`, if warmup_epochs is 0
    final_lr: float = Field(0.0, ge=0)  # where `cosine` and `onecycle` end
    stop_after: int | None = Field(None, ge=1)  # validations without gain that end the run
    clip_norm: float | None = Field(None, gt=0)  # largest gradient norm
    ema: float = Field(0.0, ge=0, lt=1)  # decay of the averaged weights a step; 0 = off
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    matmul: Literal["highest", "high", "medium"] = "high"  # GPU: high = TF32 for 32-bit products
    compile: bool = False
    channels_last: bool = True
    select: Literal["auc", "loss", "accuracy"] = "auc"  # validation figure of the best checkpoint
    validate_every: int | float = Field(1, gt=0)  # epochs; 0.1 = ten times an epoch
    log_every: int = Field(10, ge=1)  # steps
    checkpoint_every: int = Field(500, ge=1)  # steps; one is also written after every epoch
    loss: LossSettings = LossSettings()


class EvaluateSettings(Settings):
    """Metrics (protocols c.8)."""

    batch_size: int = Field(64, ge=1)
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    bootstrap: int = Field(1000, ge=0)  # resamples of groups for the 95% intervals
    ece_bins: int = Field(15, ge=2)


class RunConfig(Settings):
    """Everything that defines a run."""

    seed: int = 0
    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings()
    train: TrainSettings = TrainSettings()
    evaluate: EvaluateSettings = EvaluateSettings()

    @property
    def fingerprint(self) -> str:
        """Short hash of the differences from the defaults; stored beside every result.

        Where the data lies does not count: the manifest has a fingerprint of its own.
        """
        place = {"data": {"manifest", "root", "shards", "twins", "texts", "workers", "cache"}}
        tree = self.model_dump(mode="json", exclude=place, exclude_defaults=True)
        changed = {group: values for group, values in tree.items() if values != {}}
        text = json.dumps(changed, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def load_config(path: Path | None = None, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a TOML file and apply ``key=value`` overrides.

    Args:
        path: TOML that holds the differences from the defaults; None for the defaults. A top-level
            key ``extends = "other.toml"`` reads that file (relative to this one) first.
        overrides: dotted keys with TOML values, e.g. ``train.lr=3e-4``; a bare word is a string.

    Raises:
        ConfigError: no such file, not TOML, files that extend each other, an unknown key (with
            the nearest known one), or a value of the wrong type (with key, wanted and got).

    Example:
        >>> load_config(None, ["train.lr=3e-4"]).train.lr
        0.0003
    """
    tree = _read_toml(path) if path else {}
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator:
            raise ConfigError(f"expected an override such as train.lr=1e-4, but got {override!r}")
        _insert(tree, key.strip(), _parse_value(text.strip()))
    return build_config(tree)


def build_config(tree: Mapping[str, Any]) -> RunConfig:
    """Validate a nested mapping.

    Raises:
        ConfigError: as in `load_config`.
    """
    tree = _translate(tree)
    model = tree.get("model")
    name = model.get("name", "mfclip") if isinstance(model, Mapping) else "mfclip"
    preset = copy.deepcopy(MODEL_PRESETS.get(str(name), {}))
    if isinstance(model, Mapping) and model.get("released") is True:
        preset = _merge(preset, copy.deepcopy(RELEASED))
    try:
        return RunConfig.model_validate(_merge({"model": preset}, tree))
    except ValidationError as error:
        raise ConfigError("\n".join(map(_explain, error.errors()))) from None


def _translate(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    """Bring keys of earlier versions, which weight files still hold, to today's."""
    match tree:
        case {"model": {"spa": {"shared_targets": bool(shared), **spa}, **model}, **rest}:
            targets = "equal" if shared else "one-hot"
            return {**rest, "model": {**model, "spa": {"targets": targets, **spa}}}
    return tree


def dump_toml(config: Settings) -> str:
    """Write every setting as TOML; unset ones appear as comments, so nothing is hidden."""
    return "\n".join(_lines(config.model_dump(mode="json"), ())).strip() + "\n"


def known_keys(model: type[Settings] = RunConfig, prefix: str = "") -> Iterator[str]:
    """Iterate over the dotted names of all settings."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Settings):
            yield from known_keys(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name


def _read_toml(path: Path, children: tuple[Path, ...] = ()) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"no configuration at {path}")
    if path.resolve() in children:
        raise ConfigError(f"{path} extends itself by way of {children[-1]}; remove one 'extends'")
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None
    parent = tree.pop("extends", None)
    if parent is None:
        return tree
    if not isinstance(parent, str):
        raise ConfigError(f"{path}: expected extends to name a file, but got {parent!r}")
    return _merge(_read_toml(path.parent / parent, (*children, path.resolve())), tree)


def _merge(base: dict[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in change.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = value
    return base


def _insert(tree: dict[str, Any], key: str, value: object) -> None:
    *parents, leaf = key.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"cannot set '{key}': '{parent}' is a single value, {tree!r}")
    tree[leaf] = value


def _parse_value(text: str) -> object:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _explain(problem: Mapping[str, Any]) -> str:
    key = ".".join(map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        return f"unknown key '{key}'; {_advise(key)}"
    return f"key '{key}': {problem['msg'].lower()}, but got {problem['input']!r}"


def _advise(key: str) -> str:
    """Name the key or table that an unknown one is likely to mean, else those it could be.

    Example:
        >>> _advise("trian"), _advise("trian.lr"), _advise("batch_size")
        ("did you mean 'train'?", "did you mean 'train.lr'?", "did you mean 'train.batch_size'?")
    """
    keys = [*known_keys()]
    names = keys + sorted({key.rpartition(".")[0] for key in keys} - {""})
    table, _, leaf = key.rpartition(".")
    # a misspelt word in its own table, else the right word in no or another table, else both
    siblings = {n.rpartition(".")[2]: n for n in names if n.rpartition(".")[0] == table}
    anywhere: dict[str, str] = {}
    for name in sorted(names, key=lambda name: name.count(".")):
        anywhere.setdefault(name.rpartition(".")[2], name)
    for words, word, cutoff in (
        (siblings, leaf, 0.6),
        ({name: name for name in names}, key, 0.85),
        (anywhere, leaf, 0.8),
    ):
        if near := difflib.get_close_matches(word, words, n=1, cutoff=cutoff):
            return f"did you mean '{words[near[0]]}'?"
    if table and siblings:
        return f"[{table}] holds {', '.join(siblings)}"
    return f"there are {', '.join(name for name in names if '.' not in name)}"


def _lines(tree: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    tables = {key: value for key, value in tree.items() if isinstance(value, dict)}
    if path and len(tables) < len(tree):
        yield f"\n[{'.'.join(path)}]"
    for key, value in tree.items():
        if value is None:
            yield f"# {key} is not set"
        elif key not in tables:
            yield f"{key} = {_toml(value)}"
    for key, value in tables.items():
        yield from _lines(value, (*path, key))


def _toml(value: object) -> str:
    """Write a value as TOML does inline; what is unset in a table is left out."""
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        pairs = (f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items() if v is not None)
        return f"{{{', '.join(pairs)}}}"
    return json.dumps(value, ensure_ascii=False)


def choices(model: type[Settings], name: str) -> tuple[str, ...]:
    """Return the values a setting may take, for error messages and help."""
    return get_args(model.model_fields[name].annotation)
