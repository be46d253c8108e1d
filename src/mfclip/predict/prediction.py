"""What is said about one face: the records, and their JSON form (schema 2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import UInt8

from mfclip.card import Bands, Verdict

SCHEMA = 2
"""Version of the JSON form. It rises when a key changes its meaning or goes; new keys may come."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels; `right` and `bottom` lie just outside it.

    Example:
        >>> Box(10, 20, 40, 60).width
        30
    """

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """Pixels from left to right."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Pixels from top to bottom."""
        return self.bottom - self.top

    def to_json(self) -> dict[str, int]:
        """Return the four sides by name."""
        return {"left": self.left, "top": self.top, "right": self.right, "bottom": self.bottom}


@dataclass(frozen=True, slots=True)
class Kind:
    """One possible kind of forgery: an indication, never a finding.

    Attributes:
        name: the kind, ``real`` for no forgery, ``unknown`` where the prompts do not say.
        probability: share in [0, 1] of the similarity to all known prompts; a level sums to 1.
        similarity: cosine in [-1, 1] to the nearest known prompt of this name; None where it was
            averaged away (videos).
    """

    name: str
    probability: float
    similarity: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the record as it stands in ``kinds`` of the JSON form."""
        return {
            "name": self.name,
            "probability": self.probability,
            "similarity": self.similarity,
        }


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says about one face.

    Attributes:
        path: the file as it was named by the caller; None for an array.
        score: probability of fake, in [0, 1].
        bands: which scores get which verdict.
        kinds: level (``label``, ``manipulation``, ``family``, ``generator``) to its kinds, most
            similar first. Empty for a model that knows no prompts.
        patch: the patch of richest texture, in pixels of the model input; None for a model
            without a noise branch.
        image_size: side of the square model input, pixels.
        face: the face in the picture as it is seen upright, pixels; None when the whole picture
            was taken as the face.
        width: of the upright picture, pixels.
        height: of the upright picture, pixels.
        sha256: of the file's bytes, in hexadecimal; None for an array.
        warnings: reasons to trust the score less.
        unreliable: those of them for which the score decides nothing: the image is worse than any
            that the bands were measured on, or no face. The verdict is then ``uncertain``.
        pixels: the model input, RGB; None unless it was asked for. Not part of the JSON form.
        preview: small copy of the image, RGB; likewise.
    """

    path: str | None
    score: float
    bands: Bands
    kinds: Mapping[str, tuple[Kind, ...]]
    patch: Box | None
    image_size: int
    face: Box | None
    width: int
    height: int
    sha256: str | None = None
    warnings: tuple[str, ...] = ()
    unreliable: tuple[str, ...] = ()
    pixels: UInt8[np.ndarray, "h w 3"] | None = field(default=None, repr=False, compare=False)
    preview: UInt8[np.ndarray, "h2 w2 3"] | None = field(default=None, repr=False, compare=False)

    @property
    def verdict(self) -> Verdict:
        """``real``, ``uncertain`` or ``fake``, by the bands of the weights."""
        return "uncertain" if self.unreliable else self.bands.verdict(self.score)

    def likely_kind(self, level: str) -> Kind | None:
        """Return the most similar forgery of a level, passing over ``real``; None if unknown."""
        forgeries = (kind for kind in self.kinds.get(level, ()) if kind.name != "real")
        return next(forgeries, None)

    def to_json(self) -> dict[str, Any]:
        """Return the record as it stands in ``predictions`` of the JSON form."""
        return {
            "path": self.path,
            "score": self.score,
            "verdict": self.verdict,
            "real_below": self.bands.real_below,
            "fake_from": self.bands.fake_from,
            "kinds": {
                level: [kind.to_json() for kind in kinds] for level, kinds in self.kinds.items()
            },
            "patch": self.patch.to_json() if self.patch else None,
            "image_size": self.image_size,
            "face": self.face.to_json() if self.face else None,
            "width": self.width,
            "height": self.height,
            "sha256": self.sha256,
            "warnings": list(self.warnings),
            "unreliable": list(self.unreliable),
        }


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that could not be judged.

    Attributes:
        path: the file as it was named by the caller; None for an array.
        error: what was wrong, what was expected, what to do.
    """

    path: str | None
    error: str

    def to_json(self) -> dict[str, Any]:
        """Return the record as it stands in ``errors`` of the JSON form."""
        return {"path": self.path, "error": self.error}


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file of a folder that is left out: it promises neither an image nor a video.

    Attributes:
        path: the file.
        reason: what it is not.
    """

    path: str
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Return the record as it stands in ``skipped`` of the JSON form."""
        return {"path": self.path, "reason": self.reason}


Result: TypeAlias = Prediction | Failure
"""Every input gives one failure, or one prediction for each of its faces."""
