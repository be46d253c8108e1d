"""Outputs that cannot be written end in one clear line, if possible before the work is done."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mfclip.errors import ConfigError

if TYPE_CHECKING:
    from mfclip.predict.predictor import Predictor

ADVICE = "choose another place, or make room in this one"
"""What to do, at the end of each message."""


def tell_unmeasured(predictor: Predictor) -> None:
    """Say on the standard error that nobody measured what a lower precision does to the scores."""
    precision = predictor.engine.precision
    if precision != "fp32" and predictor.card.export is None:
        typer.echo(
            f"{precision} changes scores, and by how much was not measured for these weights; "
            f"mfclip export --precision {precision} --manifest FACES measures it",
            err=True,
        )


def open_folder(folder: Path) -> None:
    """Make a folder and try to write in it, before long work relies on it.

    Raises:
        ConfigError: it cannot be made, or nothing can be written there.
    """
    if folder.is_file():
        raise ConfigError(f"cannot write {folder}: it is a file, not a folder; {ADVICE}")
    with refuse_unwritable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


@contextmanager
def refuse_unwritable(*targets: str | Path | None) -> Iterator[None]:
    """Turn a failure to write into one clear line.

    Args:
        targets: the files or folders that are written meanwhile; None is passed over, ``-`` is the
            standard output.

    Raises:
        ConfigError: what could not be written, why, and what to do.
    """
    try:
        yield
    except OSError as error:
        wanted = [str(target) for target in targets if target is not None]
        named = " or ".join("the standard output" if name == "-" else name for name in wanted)
        reason = _blocking_file(wanted) or error.strerror or str(error)
        raise ConfigError(f"cannot write {named}: {reason}; {ADVICE}") from error


def _blocking_file(names: list[str]) -> str | None:
    """Name a file that stands where a folder is needed."""
    folders = (parent for name in names for parent in Path(name).parents)
    blocking = next((folder for folder in folders if folder.is_file()), None)
    return None if blocking is None else f"{blocking} is a file, not a folder"
