"""Sentences about faces, from a JSON file beside the manifest.

A mapping of a face to its text, its texts, or numbered questions with answers, the form in which
DD-VQA is published (Reality-Defender/Research-DD-VQA): ``{"0_001_870": {"0": {"question": "...",
"answer": ["...", "..."]}}}``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

from mfclip.data.manifest import Manifest, relative_name
from mfclip.errors import ManifestError

Texts: TypeAlias = Mapping[str, tuple[str, ...]]
"""A face's key to what is said about it; see `find_texts`."""


def read_texts(path: Path) -> Texts:
    """Read the texts of faces; a question stands before its answer, in one string.

    Raises:
        ManifestError: no such file, no JSON, or not of that form; the message names the face.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ManifestError(f"cannot read the texts in {path}: {error}") from None
    if not isinstance(tree, dict):
        raise ManifestError(f"expected {path} to map faces to texts, but got {type(tree).__name__}")
    found: dict[str, tuple[str, ...]] = {}
    for key, entry in tree.items():
        parts = list(_flatten(entry))
        found[key] = tuple(part for part in parts if isinstance(part, str) and part.strip())
        if not parts or len(found[key]) < len(parts):
            raise ManifestError(
                f"{path}: expected a text, texts, or questions with answers for '{key}', but got "
                f"{str(entry)[:80]}"
            )
    return found


def find_texts(manifest: Manifest, texts: Texts) -> tuple[tuple[str, ...], ...]:
    """Return the texts of each face of a manifest, none for a face without.

    A key is a picture's path as the manifest writes it, or its file name without the ending.

    Raises:
        ManifestError: not one face has any.
    """
    found = tuple(
        texts.get(relative_name(sample.path, manifest.root), texts.get(sample.path.stem, ()))
        for sample in manifest
    )
    if not any(found):
        raise ManifestError(
            f"data.texts speaks of none of the {len(manifest)} faces; its keys are a picture's "
            f"path ('{relative_name(manifest[0].path, manifest.root)}') or file name "
            f"('{manifest[0].path.stem}'), but the first is '{next(iter(texts), '')}'"
        )
    return found


def _flatten(entry: object) -> Iterator[object]:
    """Yield the texts of one face, whichever form they have."""
    match entry:
        case {"question": question, "answer": list(answers)}:
            yield from (f"{question} {answer}" for answer in answers)
        case dict():
            for each in entry.values():
                yield from _flatten(each)
        case list():
            yield from entry
        case _:
            yield entry
