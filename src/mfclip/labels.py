"""The forgery taxonomy as data: real/fake > manipulation > family > generator.

Source: paper Sec. III-B (levels of the fine-grained text generator) and the GenFace labels.
Labels are the contract between `data`, which reads them, and `model`, which turns them into text.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from mfclip.errors import ManifestError

LEVELS = ("label", "manipulation", "family", "generator")
"""Names of the four levels, coarse to fine; also the manifest's column names."""

MANIPULATIONS = (
    "entire_face_synthesis",
    "attribute_manipulation",
    "face_swap",
    "reenactment",
)
"""Level 2. The first three are the paper's EFS, AM and FS; FF++ and DF40 add reenactment."""

FAMILIES = ("diffusion", "gan", "graphics", "autoencoder")
"""Level 3. The first two are the paper's; the others cover FF++, DFDC and hand-made forgeries."""

ABSENT = ("", "none", "nan", "null", "-")
"""Spellings of "this level is not known", compared in lower case."""


@dataclass(frozen=True, slots=True)
class Labels:
    """What is known about one face, coarse to fine.

    Attributes:
        is_fake: level 1.
        manipulation: level 2, one of `MANIPULATIONS`; None for real or unknown.
        family: level 3, one of `FAMILIES`; None for real or unknown.
        generator: level 4, the generator's free name; for a real face the name of its source.

    Example:
        >>> Labels(True, "face_swap", "gan", "FSLSD").depth
        4
        >>> Labels(True, "face_swap").depth
        2
    """

    is_fake: bool
    manipulation: str | None = None
    family: str | None = None
    generator: str | None = None

    def __post_init__(self) -> None:
        _check("manipulation", self.manipulation, MANIPULATIONS)
        _check("family", self.family, FAMILIES)
        if not self.is_fake and (self.manipulation or self.family):
            message = (
                "a real face has no manipulation and no family, but got "
                f"manipulation={self.manipulation!r}, family={self.family!r}; leave both empty"
            )
            raise ManifestError(message)

    @property
    def depth(self) -> int:
        """Number of levels known without a gap from the top, 1 to 4; a real face counts as 1."""
        if not self.is_fake:
            return 1
        names = (self.manipulation, self.family, self.generator)
        return 1 + next((i for i, name in enumerate(names) if name is None), len(names))

    def cut(self, depth: int) -> Labels:
        """Forget the levels below `depth` (1 keeps real/fake only)."""
        kept = [getattr(self, field.name) for field in fields(self)[:depth]]
        return Labels(*kept)


def parse_label(text: str) -> bool:
    """Read the real/fake column: ``real``/``fake`` or ``0``/``1`` (1 = fake).

    Raises:
        ManifestError: any other word.
    """
    word = text.strip().lower()
    if word in {"fake", "1", "true"}:
        return True
    if word in {"real", "0", "false"}:
        return False
    raise ManifestError(f"expected label to be one of [real, fake, 0, 1], but got {text!r}")


def parse_level(text: str | None) -> str | None:
    """Read a finer level; the spellings in `ABSENT` mean unknown."""
    word = (text or "").strip()
    return None if word.lower() in ABSENT else word


def _check(name: str, value: str | None, allowed: tuple[str, ...]) -> None:
    if value is not None and value not in allowed:
        choices = ", ".join(allowed)
        raise ManifestError(f"expected {name} to be one of [{choices}] or empty, but got {value!r}")
