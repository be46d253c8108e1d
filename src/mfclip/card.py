"""The card of some weights: how faces are cut for them, what their scores mean, how often they err.

It stands beside the tensors in a weight file, as JSON, and whoever wrote that file is not known. So
every value is checked for its type and range when it is read, once, here; the rest of the package
relies on it. A value that a file does not name has the default below.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from dataclasses import field, replace
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    model_validator,
)
from pydantic.dataclasses import dataclass

from mfclip.errors import ConfigError, WeightsError
from mfclip.labels import Labels

FaceStep: TypeAlias = Literal["detected", "whole"]
"""How a picture becomes faces: every face is found and cut out, or the whole picture is one."""

Verdict: TypeAlias = Literal["real", "uncertain", "fake"]

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
"""All verdicts, in the order of rising scores."""

Basis: TypeAlias = Literal["validation", "threshold", "given"]
EngineName: TypeAlias = Literal["torch", "onnx", "openvino"]
Precision: TypeAlias = Literal["fp32", "bf16", "int8"]

# "strict": 1 is no bool, "0.5" no number
Number: TypeAlias = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Count: TypeAlias = Annotated[int, Field(strict=True, ge=0)]
Ratio: TypeAlias = Annotated[Number, Field(ge=0, le=1)]
Text: TypeAlias = Annotated[str, Field(max_length=10_000)]


def _undefined_as_none(value: object) -> object:
    """Read a figure that is not defined, such as the AUC of one class, as None."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


Figure: TypeAlias = Annotated[Number | None, BeforeValidator(_undefined_as_none)]
ShareValue: TypeAlias = Annotated[Ratio | None, BeforeValidator(_undefined_as_none)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Share(_Part):
    """A measured ratio with its 95% interval.

    Attributes:
        value: the ratio; None where it is not defined.
        low: lower end of the interval; None where none was drawn.
        high: its upper end.
    """

    value: ShareValue
    low: ShareValue = None
    high: ShareValue = None

    @model_validator(mode="before")
    @classmethod
    def _read_older_forms(cls, entry: object) -> object:
        """Take ``[value, low, high]`` and a bare number, as the first cards had them, or none."""
        if isinstance(entry, list | tuple):
            return dict(zip(("value", "low", "high"), entry, strict=False))
        return {"value": entry} if entry is None or isinstance(entry, int | float) else entry


class KindShare(Share):
    """How often the kind that is named for a forgery is right.

    Attributes:
        chance: what a guess would reach, ratio.
        faces: number of forgeries looked at.
    """

    chance: Ratio
    faces: Count


@dataclass(frozen=True, slots=True)
class Bands:
    """Which scores get which verdict, and how often that errs.

    Attributes:
        real_below: scores below are called real.
        fake_from: scores from here upwards are called fake; between the two lies uncertain. With
            both equal there are two verdicts only.
        basis: ``validation``, fitted so that errors are rare; ``threshold``, the weights carry
            one threshold only, or none (then 0.5); ``given``, chosen by the user.
        max_error: largest share of validation's real faces called fake, and of its fakes called
            real, that the bands were fitted for; None unless `basis` is ``validation``.
        rates: split to its measured shares, from `mfclip.evaluate.verdicts.verdict_rates`; empty
            where nothing was measured.
        fitted_on: the split on which they were fitted: `rates` on it are in-sample.

    Example:
        >>> Bands(0.2, 0.7).verdict(0.5)
        'uncertain'
        >>> Bands(0.5, 0.5).verdict(0.5)
        'fake'
    """

    real_below: Annotated[Number, Field(ge=0)]
    fake_from: Annotated[Number, Field(le=2)]  # just above 1: nothing is called fake
    basis: Basis = "given"
    max_error: Ratio | None = None
    rates: Mapping[str, Mapping[str, Share]] = field(
        default_factory=dict, repr=False, compare=False
    )
    fitted_on: str | None = None

    @model_validator(mode="after")
    def _check_order(self) -> Bands:
        if self.real_below > self.fake_from:
            raise ValueError("expected real_below <= fake_from")
        return self

    def verdict(self, score: float) -> Verdict:
        """Judge a score (probability of fake)."""
        if score >= self.fake_from:
            return "fake"
        return "real" if score < self.real_below else "uncertain"

    @property
    def allow_uncertain(self) -> bool:
        """Whether there are scores that decide nothing."""
        return self.real_below < self.fake_from

    def to_json(self) -> dict[str, Any]:
        """Return the bands as they stand in ``model.verdict`` of the JSON form."""
        return {
            "real_below": self.real_below,
            "fake_from": self.fake_from,
            "basis": self.basis,
            "max_error": self.max_error,
            "fitted_on": self.fitted_on,
            "rates": {
                split: {name: share.model_dump(exclude_unset=True) for name, share in rates.items()}
                for split, rates in self.rates.items()
            },
        }


class TrainingData(_Part):
    """What the weights were trained on.

    Attributes:
        manifest: fingerprint of the manifest.
        counts: faces of each generator, and of ``real``.
    """

    manifest: Text
    counts: dict[str, Count]


class Parity(_Part):
    """A fixed batch, judged by an engine and by PyTorch in fp32.

    Attributes:
        num_images: faces that come with the package, and noise.
        max_score_difference: of a probability of fake.
        max_feature_difference: of an entry of the L2-normalised features; None without features.
        same_patches: whether the richest patches agree; None without a noise branch.
    """

    num_images: Count
    max_score_difference: Number
    max_feature_difference: Figure = None
    same_patches: Annotated[bool, Field(strict=True)] | None = None


class Change(_Part):
    """A test split, judged by an engine and by PyTorch in fp32.

    Attributes:
        split: its name.
        manifest: its fingerprint.
        num_faces: scored by both.
        auc: of PyTorch in fp32.
        auc_change: what the engine adds to it.
        mean_score_change: mean of the absolute differences.
        max_score_change: the largest.
        verdicts_changed: share of the faces on the other side of the card's threshold, ratio.
    """

    split: Text
    manifest: Text
    num_faces: Count
    auc: Ratio
    auc_change: Number
    mean_score_change: Number
    max_score_change: Number
    verdicts_changed: Ratio


class Export(_Part):
    """What was measured when a file was exported.

    Attributes:
        engine: what runs it.
        precision: of the arithmetic inside.
        versions: of the packages that made it.
        parity: on a fixed batch.
        change: on a test split; None for fp32 without a manifest.
    """

    engine: EngineName
    precision: Precision
    versions: dict[str, Text] = {}
    parity: Parity | None = None
    change: Change | None = None


class Base(_Part):
    """A tower's own weights, which a file of trained weights lies on and does not hold.

    Attributes:
        trunk: the tower, as in `model.image.trunk`.
        weights: name of the file they came from, or ``hub``.
        sha256: of its tensors, see `mfclip.model.tower.fingerprint`.
    """

    trunk: Text
    weights: Text
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Card(BaseModel):
    """What is known of some weights; other keys are kept as they are.

    Attributes:
        resize: side of the square around a face before the centre crop to the input, pixels.
        face_margin: how many times wider the square was than the bare face, in training.
        face_align: whether the training faces were turned upright.
        jpeg_quality: faces are saved with it before they are judged, as all training faces were.
        temperature: the logits are divided by it.
        threshold: of best balanced accuracy on `fitted_on`; None where none was fitted.
        verdict: the bands of the three verdicts, and how often those err, for each way to come by
            faces for which they were measured; see `bands`.
        fitted_on: the split on which temperature, threshold and bands were fitted: figures on it
            are in-sample.
        kinds: split and level to how often the named kind is right.
        metrics: split and figure to what was measured.
        epoch: that of these weights; a fraction where validation came within an epoch.
        validation: figures on the validation split when they were chosen.
        training_data: what they were trained on.
        config: the configuration of the run, see `mfclip.config.RunConfig`.
        config_fingerprint: its short hash.
        mfclip: version that trained them.
        torch: version that trained them.
        detector: its name, and whether it is re-implemented from its description.
        trained_on: the data, in words.
        licence: who may use them.
        limits: what they cannot do, in words.
        command: what made them.
        export: what was measured when they were exported.
        base: the tower's own weights that the file does not hold.
        prompts: what the stored prompt features stand for.

    Example:
        >>> Card(threshold=0.4).bands("whole").verdict(0.4)
        'fake'
        >>> old = Card.model_validate({"verdict": {"real_below": 0.2, "fake_from": 0.6}})
        >>> old.bands("whole").verdict(0.4)
        'uncertain'
    """

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, JsonValue] = Field(init=False)

    resize: Annotated[int, Field(strict=True, ge=8, le=4096)] = 256
    face_margin: Annotated[Number, Field(ge=0.1, le=10)] = 1.3
    face_align: Annotated[bool, Field(strict=True)] = True
    jpeg_quality: Annotated[int, Field(strict=True, ge=1, le=100)] | None = None
    temperature: Annotated[Number, Field(ge=1e-3, le=1e3)] = 1.0
    threshold: Ratio | None = None
    verdict: dict[FaceStep, Bands] = {}
    fitted_on: Text | None = None
    kinds: dict[str, dict[str, KindShare]] = {}
    metrics: dict[str, dict[str, Share]] = {}
    epoch: Annotated[Number, Field(ge=0)] | None = None
    validation: dict[str, Figure] = {}
    training_data: TrainingData | None = None
    config: dict[str, JsonValue] = {}
    config_fingerprint: Text | None = None
    mfclip: Text | None = None
    torch: Text | None = None
    detector: Text | None = None
    trained_on: Text | None = None
    licence: Text | None = None
    limits: Text | None = None
    command: Text | None = None
    export: Export | None = None
    base: Base | None = None
    prompts: tuple[Labels, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _read_older_forms(cls, entry: object) -> object:
        """Take cards whose bands were those of whole pictures and did not name their split."""
        if not isinstance(entry, Mapping):
            return entry
        card = {key: value for key, value in entry.items() if key != "image_size"}  # the model's
        bands = card.get("verdict")
        if isinstance(bands, Mapping) and "real_below" in bands:
            card["verdict"] = {"whole": {"basis": "validation", **bands}}
            rates = bands.get("rates")
            if "fitted_on" not in card and isinstance(rates, Mapping) and rates:
                card["fitted_on"] = next(iter(rates))  # validation came first
        return card

    def changed(self, **values: object) -> Card:
        """Return a card with other values, checked as those of a file are.

        Raises:
            WeightsError: a value of the wrong type or out of its range.
        """
        kept = {name: getattr(self, name) for name in self.model_fields_set}
        return read_card({**kept, **values})

    def bands(self, faces: str, threshold: float | None = None) -> Bands:
        """Return the bands of the verdict for a way to come by faces.

        Where they were fitted for another way only, the bounds are taken and the error rates left
        out, for they are not those of what is done.

        Args:
            faces: a `FaceStep`, or the name of a finder of one's own.
            threshold: the user's own, which leaves two verdicts; None takes the card's.

        Raises:
            ConfigError: a threshold outside [0, 1].
        """
        if threshold is not None:
            if not 0 <= threshold <= 1:
                raise ConfigError(f"expected a threshold in [0, 1], but got {threshold}")
            return Bands(threshold, threshold)
        for step, bands in self.verdict.items():
            if step == faces:
                return replace(bands, fitted_on=self.fitted_on)
        for bands in self.verdict.values():
            return replace(bands, fitted_on=self.fitted_on, rates={})
        fitted = 0.5 if self.threshold is None else self.threshold
        return Bands(fitted, fitted, "threshold")

    def to_json(self) -> dict[str, Any]:
        """Return what was named, without the prompts; figures that are not defined are None."""
        tree = self.model_dump(mode="json", exclude_unset=True, exclude={"prompts", "verdict"})
        if self.verdict:
            tree["verdict"] = {step: bands.to_json() for step, bands in self.verdict.items()}
        return tree


def read_card(entry: object, source: str = "the card") -> Card:
    """Check a card.

    Args:
        entry: a mapping as JSON gives it.
        source: whose it is, for the message.

    Raises:
        WeightsError: a value of the wrong type or out of its range; the message names the first.
    """
    try:
        return Card.model_validate(entry)
    except ValidationError as error:
        problem = error.errors()[0]
        key, reason = ".".join(map(str, problem["loc"])), problem["msg"].lower()
        raise WeightsError(
            f"{source} is damaged: '{key}': {reason}, but got {reprlib.repr(problem['input'])}; "
            "fetch the weights again, or release them again"
        ) from None
