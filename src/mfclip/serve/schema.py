"""The shape of what is answered, for OpenAPI; ``docs/serve.md`` and ``docs/predict.md`` explain it.

Documents may gain keys, so that other keys are allowed everywhere.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

PREDICTION: JsonDict = {
    "path": "photo.jpg",
    "score": 0.93,
    "verdict": "fake",
    "real_below": 0.21,
    "fake_from": 0.74,
    "kinds": {"manipulation": [{"name": "face_swap", "probability": 0.7}]},
    "patch": {"left": 0, "top": 112, "right": 112, "bottom": 224},
    "image_size": 224,
    "face": {"left": 40, "top": 32, "right": 180, "bottom": 190},
    "width": 1024,
    "height": 768,
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "warnings": [],
}
DOCUMENT: JsonDict = {
    "schema": 2,
    "model": {"weights": "embedded"},
    "predictions": [PREDICTION],
    "videos": [],
    "errors": [],
}
JOB: JsonDict = {
    "id": "Yw0bHqkXn1yVtXvYzqJ0Aw",
    "kind": "video",
    "name": "clip.mp4",
    "status": "running",
    "progress": {"done": 12, "total": 32},
    "created": "2026-01-31T12:00:00Z",
    "expires": None,
    "result": None,
    "error": None,
    "links": {
        "self": "/v1/jobs/Yw0bHqkXn1yVtXvYzqJ0Aw",
        "events": "/v1/jobs/Yw0bHqkXn1yVtXvYzqJ0Aw/events",
        "report": "/v1/jobs/Yw0bHqkXn1yVtXvYzqJ0Aw/report",
    },
}
PROBLEM: JsonDict = {
    "type": "about:blank",
    "title": "Unprocessable Content",
    "status": 422,
    "code": "no_face",
    "detail": "no face found; send whole=true to judge the whole picture as one face",
}


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class ProblemDocument(_Open):
    """What went wrong (RFC 9457); programs look at ``code``."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"examples": [PROBLEM]})
    type: Literal["about:blank"]
    title: str
    status: int
    code: str
    detail: str


class Prediction(_Open):
    """What the model says about one face."""

    path: str
    score: float = Field(ge=0, le=1, description="probability of fake")
    verdict: Literal["real", "uncertain", "fake"]
    kinds: dict[str, list[dict[str, Any]]]
    patch: dict[str, int] | None
    face: dict[str, int] | None
    width: int
    height: int
    warnings: list[str]


class Video(_Open):
    """What the model says about one video."""

    path: str
    score: float = Field(ge=0, le=1, description="probability of fake of the suspect face")
    verdict: Literal["real", "uncertain", "fake"]
    warnings: list[str]


class Document(_Open):
    """The JSON form of ``mfclip predict``, of one file."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"examples": [DOCUMENT]})
    schema_: Literal[2] = Field(alias="schema")
    model: dict[str, Any]
    predictions: list[Prediction]
    videos: list[Video]
    errors: list[dict[str, Any]]


class Progress(_Open):
    """Frames (pictures: 1) judged, and in all; null while unknown."""

    done: int
    total: int | None


class JobDocument(_Open):
    """Work that outlives its request."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"examples": [JOB]})
    id: str
    kind: Literal["picture", "video"]
    name: str
    status: Literal["queued", "running", "done", "failed"]
    progress: Progress
    created: str
    expires: str | None
    result: Document | None
    error: ProblemDocument | None
    links: dict[str, str]


class Health(_Open):
    """Whether it judges."""

    status: Literal["ok", "stopping"]
    version: str
    key_needed: bool


class Models(_Open):
    """What judges, and what this server takes on."""

    models: list[dict[str, Any]]
    server: dict[str, Any]


FORM: dict[str, Any] = {
    "type": "object",
    "required": ["file"],
    "additionalProperties": False,
    "properties": {
        "file": {"type": "string", "format": "binary", "description": "a picture or a video"},
        "whole": {
            "type": "boolean",
            "default": False,
            "description": "take the whole picture, or frame of a video, as one face",
        },
        "evidence": {
            "type": "boolean",
            "default": False,
            "description": "add small pictures that show why",
        },
        "async": {
            "type": "boolean",
            "default": False,
            "description": "make a job of a picture too; a video always becomes one",
        },
    },
}
