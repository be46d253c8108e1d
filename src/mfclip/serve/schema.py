"""The shape of what is answered, typed where it is made and published as OpenAPI.

What was judged has the JSON form of `mfclip.predict.schema`; ``docs/serve.md`` explains the rest.
Documents may gain keys.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema
from typing_extensions import TypedDict

from mfclip.predict.schema import Document

Judged = Annotated[
    dict[str, Any],
    WithJsonSchema({"$ref": f"#/components/schemas/{Document.__name__}"}),
    Field(description="As `mfclip predict --json` writes it, of one file."),
]


class ProblemDocument(TypedDict):
    """What went wrong (RFC 9457); programs look at ``code``."""

    type: Literal["about:blank"]
    title: str
    status: int
    code: str
    detail: str


class Progress(TypedDict):
    """Frames (pictures: 1) judged, and in all; null while unknown."""

    done: int
    total: int | None


class Links(TypedDict):
    """Where to ask on."""

    self: str
    events: str
    report: str


class JobDocument(TypedDict):
    """Work that outlives its request."""

    id: str
    kind: Literal["picture", "video"]
    name: str
    status: Literal["queued", "running", "done", "failed", "cancelled"]
    progress: Progress
    created: str
    expires: str | None
    result: Judged | None
    error: ProblemDocument | None
    links: Links


class Health(TypedDict):
    """Whether it judges."""

    status: Literal["ok", "stopping"]
    version: str
    key_needed: bool


class Models(TypedDict):
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
