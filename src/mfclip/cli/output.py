"""What commands write, and what they must not: the one rule for every output option.

`claim_file` and `claim_folder` are called by each command before its work begins. They refuse a
name that is no place for this output (a foreign ending, a folder, ``-``), one of the command's own
inputs, and a place that cannot be written. `refuse_unwritable` says what failed later all the same.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mfclip.errors import ConfigError
from mfclip.runtime.whole_file import sweep

if TYPE_CHECKING:
    from mfclip.data.manifest import Manifest
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


FILE_ENDINGS = frozenset(
    """
    .avi .avif .bin .bmp .csv .docx .flv .gif .heic .heif .htm .html .jfif .jpe .jpeg .jpg .json
    .jsonl .m4v .md .mkv .mov .mp4 .mpeg .mpg .onnx .parquet .pdf .png .pt .pth .safetensors .svg
    .tif .tiff .toml .tsv .ts .txt .webm .webp .wmv .xlsx .xml .yaml .yml .zip
    """.split()  # noqa: SIM905 - a list of them fills the page
)
"""Endings that nobody means a folder to have; ``runs/v1.5`` is a folder."""


def claim_file(
    option: str,
    path: Path,
    endings: Sequence[str],
    *,
    inputs: Iterable[str | Path | None] = (),
    beside: Iterable[Path] = (),
) -> Path:
    """Check that an output may be written, and make its folder.

    Args:
        option: as the user typed it, for the message.
        path: the file that the option names; a pipe or device is taken whatever its name.
        endings: that the file may have, lower case.
        inputs: what the command reads, None for nothing; asked for only if there already is a file
            of that name.
        beside: further files that the command writes with this one.

    Returns:
        The path.

    Raises:
        ConfigError: it has another ending, is a folder, is one of `inputs`, or cannot be written.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        return path
    if path.suffix.lower() not in endings or path.is_dir():
        found = "that is a folder" if path.is_dir() else f"got '{path}'"
        known = " or ".join(filter(None, [", ".join(endings[:-1]), endings[-1]]))
        raise ConfigError(
            f"expected {option} to be followed by the file to write, ending in {known}, but {found}"
        )
    _refuse_inputs(option, [path, *beside], inputs)
    open_folder(path.parent)
    return path


def claim_folder(
    option: str,
    folder: Path,
    *,
    inputs: Iterable[str | Path | None] = (),
    names: Iterable[str] = (),
) -> Path:
    """Check that files may be written to a folder, and make it.

    Args:
        option: as the user typed it, for the message.
        folder: the folder that the option names.
        inputs: what the command reads, None for nothing; asked for only if files of these names
            are there.
        names: of the files that the command writes below the folder.

    Returns:
        The folder.

    Raises:
        ConfigError: it has a file's ending or is called ``-``, one of its files is one of `inputs`,
            or nothing can be written there.
    """
    looks_like_a_file = folder.suffix.lower() in FILE_ENDINGS and not folder.is_dir()
    if looks_like_a_file or str(folder) == "-":
        raise ConfigError(f"expected {option} to be followed by a folder, but got '{folder}'")
    _refuse_inputs(option, [folder / name for name in names], inputs)
    open_folder(folder)
    return folder


def files_of(
    manifest: Path | None, rows: Manifest | None, *more: str | Path | None
) -> Iterator[str | Path | None]:
    """Yield a manifest, every file that it names, and what else a command reads."""
    yield from (manifest, *more)
    yield from (sample.path for sample in rows or ())


def _refuse_inputs(
    option: str, outputs: Sequence[Path], inputs: Iterable[str | Path | None]
) -> None:
    """Compare the files themselves: an input may go by another name, or a link lead to it."""
    there = {(seen.st_dev, seen.st_ino): path for path in outputs if (seen := _stat(path))}
    if not there:
        return
    for name in inputs:
        if name and (seen := _stat(name)) and (path := there.get((seen.st_dev, seen.st_ino))):
            raise ConfigError(
                f"{option} would write {path} over {name}, which this command reads; no input is "
                "ever overwritten: choose another name"
            )


def _stat(path: str | Path) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None


def open_folder(folder: Path) -> None:
    """Make a folder and try to write in it, before long work relies on it.

    What a killed command left there half written is removed.

    Raises:
        ConfigError: it cannot be made, or nothing can be written there.
    """
    if folder.is_file():
        raise ConfigError(f"cannot write {folder}: it is a file, not a folder; {ADVICE}")
    with refuse_unwritable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        sweep(folder)


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
