"""What is said about one face; `mfclip.predict.schema` has the JSON form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

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


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that could not be judged.

    Attributes:
        path: the file as it was named by the caller; None for an array.
        error: what was wrong, what was expected, what to do.
    """

    path: str | None
    error: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file of a folder that is left out: it promises neither an image nor a video.

    Attributes:
        path: the file.
        reason: what it is not.
    """

    path: str
    reason: str


Result: TypeAlias = Prediction | Failure
"""Every input gives one failure, or one prediction for each of its faces."""
