"""The JSON form of what was judged, schema 2: written, published and checked from these records.

A document is what ``mfclip predict --json`` writes and the service answers; ``docs/predict.md``
explains its keys. New keys may come, so that readers must allow others.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SkipValidation,
    WithJsonSchema,
)
from pydantic.json_schema import GenerateJsonSchema

from mfclip.predict import prediction as record
from mfclip.predict import video_prediction

# Ranges stand in the schema and are not checked while writing: a result must not be lost because a
# sum of floats comes to 1.0000001.
Share = Annotated[float, WithJsonSchema({"type": "number", "minimum": 0, "maximum": 1})]
Bound = Annotated[float, WithJsonSchema({"type": "number", "minimum": 0, "maximum": 1.000001})]
"""A score; just above 1 where no score is high enough."""

Cosine = Annotated[
    float, WithJsonSchema({"type": "number", "minimum": -1.000001, "maximum": 1.000001})
]
Count = Annotated[int, WithJsonSchema({"type": "integer", "minimum": 0})]
Size = Annotated[int, WithJsonSchema({"type": "integer", "minimum": 1})]
Sha256 = Annotated[str, WithJsonSchema({"type": "string", "pattern": "^[0-9a-f]{64}$"})]
Quality = Annotated[int, WithJsonSchema({"type": "integer", "minimum": 1, "maximum": 100})]
Thousandths = Annotated[float, BeforeValidator(lambda value: round(value, 3))]
Word = Literal["real", "uncertain", "fake"]
Text = Annotated[str, SkipValidation]
"""Of file names, and what quotes them: names need not be valid Unicode, which pydantic refuses."""

Warnings = Annotated[list[Text], Field(description="Reasons to trust the score less.")]
Unreliable = Annotated[
    list[Text],
    Field(
        description="Those warnings for which the score decides nothing; the verdict is then "
        "uncertain."
    ),
]


class Form(BaseModel):
    """A record of the JSON form; made from what holds the same attributes."""

    model_config = ConfigDict(extra="allow", from_attributes=True)


class Box(Form):
    """A rectangle in pixels; right and bottom lie just outside it."""

    left: int
    top: int
    right: int
    bottom: int


class Kind(Form):
    """One possible kind of forgery: an indication, never a finding."""

    name: str
    probability: Share
    similarity: Cosine | None


Kinds = Annotated[
    dict[str, list[Kind]],
    Field(
        description="Level (label, manipulation, family, generator) to its kinds, most probable "
        "first; empty for a model that knows no prompts."
    ),
]


class Rate(Form):
    """A share with its 95% interval; null where it is not defined."""

    value: Share | None
    low: Share | None = None
    high: Share | None = None


class Bands(Form):
    """Which scores get which verdict, and how often that erred."""

    real_below: Bound
    fake_from: Bound
    basis: Literal["validation", "threshold", "given"]
    max_error: float | None
    fitted_on: str | None = None
    rates: Annotated[dict[str, dict[str, Rate | None]], Field(description="Split to its rates.")]


class Model(Form):
    """What judged. Beside these the facts that the weights carry."""

    weights: str | None = None
    weights_sha256: Sha256 | None = None
    verdict: Bands
    temperature: Annotated[float, WithJsonSchema({"type": "number", "exclusiveMinimum": 0})]
    image_size: Size
    resize: Size
    jpeg_quality: Quality | None = None
    engine: Literal["torch", "onnx", "openvino"]
    precision: Literal["fp32", "bf16", "int8"]
    faces: str
    trained_on: str | None = None
    limits: str | None = None
    licence: str | None = None
    metrics: dict[str, Any] | None = None


def _of_bands(name: str) -> Any:
    return Field(validation_alias=AliasChoices(name, AliasPath("bands", name)))


class Prediction(Form):
    """One face of one picture."""

    path: Text | None
    score: Annotated[Share, Field(description="Probability of fake.")]
    verdict: Word
    real_below: Bound = _of_bands("real_below")
    fake_from: Bound = _of_bands("fake_from")
    kinds: Kinds
    patch: Box | None
    image_size: Size
    face: Box | None
    width: Size
    height: Size
    sha256: Sha256 | None
    warnings: Warnings
    unreliable: Unreliable


class Frame(Form):
    """One face in one frame."""

    index: Count
    seconds: Thousandths
    score: Share
    box: Box | None


class Moment(Frame):
    """A suspect frame of the face that decides; `time` is `seconds` for reading."""

    time: str
    track: Size


class Track(Form):
    """One face followed through the frames that were judged."""

    id: Size = Field(validation_alias=AliasChoices("id", "number"))
    score: Share
    spread: Share
    frames: list[Frame] = Field(json_schema_extra={"minItems": 1})


class Video(Form):
    """What the model says about one video."""

    path: Text
    score: Annotated[Share, Field(description="Probability of fake of the suspect face.")]
    spread: Share
    verdict: Word
    real_below: Bound = _of_bands("real_below")
    fake_from: Bound = _of_bands("fake_from")
    suspect_track: Size = Field(
        validation_alias=AliasChoices("suspect_track", AliasPath("suspect", "number"))
    )
    num_frames: Count
    num_judged: Count
    num_with_face: Count
    kinds: Kinds
    moments: list[Moment] = Field(validation_alias=AliasChoices("told_moments", "moments"))
    tracks: list[Track] = Field(json_schema_extra={"minItems": 1})
    seconds: Thousandths
    fps: Thousandths
    width: Size
    height: Size
    codec: str
    sha256: Sha256 | None
    warnings: Warnings
    unreliable: Unreliable


class Failure(Form):
    """A file that could not be judged."""

    path: Text | None
    error: Text


class Skipped(Form):
    """A file of a folder that is neither an image nor a video."""

    path: Text
    reason: Text


class Document(Form):
    """The JSON form of ``mfclip predict``."""

    schema_: Literal[2] = Field(alias="schema")
    model: Model
    predictions: list[Prediction]
    videos: list[Video]
    errors: list[Failure]
    skipped: list[Skipped]


FORMS: dict[type, type[Form]] = {
    record.Prediction: Prediction,
    record.Failure: Failure,
    record.Skipped: Skipped,
    video_prediction.VideoPrediction: Video,
}


def to_json(
    found: record.Prediction | record.Failure | record.Skipped | video_prediction.VideoPrediction,
) -> dict[str, Any]:
    """Return a record as it stands in the document, for `json.dumps`.

    Example:
        >>> to_json(record.Failure("a.jpg", "empty file"))
        {'path': 'a.jpg', 'error': 'empty file'}
    """
    form = FORMS[type(found)].model_validate(found, from_attributes=True)
    return form.model_dump(exclude_unset=True)


class _Untitled(GenerateJsonSchema):
    """Gives no field a title: it would repeat its name."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        del schema
        return False


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the document (draft 2020-12)."""
    schema = Document.model_json_schema(mode="serialization", schema_generator=_Untitled)
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        **schema,
        "title": "What mfclip predict --json writes, schema 2",
    }
