"""``mfclip data scan``: a data set as its authors hand it out -> a manifest."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from mfclip.cli.options import Seed
from mfclip.cli.output import claim_file, refuse_unwritable
from mfclip.data.manifest import Manifest, Sample, read_manifest
from mfclip.datasets.sources import SOURCES, ScanOptions, Source
from mfclip.errors import ConfigError, ManifestError

_CHOICES = {"prefer": ("videos", "frames"), "group_by": ("file", "folder")}
_ENDINGS = (".parquet", ".csv", ".jsonl")
_SPLITS = ("train", "val", "test")


def scan(
    source: Annotated[str, typer.Argument(help=f"One of: {', '.join(SOURCES)}.")],
    root: Annotated[
        Path, typer.Argument(help="Folder of the data set, file of a table, name on a hub.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="FILE", help="Manifest to write: .parquet, .csv or .jsonl."
        ),
    ] = Path("manifest.parquet"),
    option: Annotated[
        list[str] | None,
        typer.Option(
            help="KEY=VALUE, may be repeated: compression=c40, prefer=frames, lists=FOLDER, "
            "table=FILE.toml, ff_root=FOLDER, celebdf_root=FOLDER, columns=path:FILE,label:FAKE, "
            "group_by=folder, fake=1, files=FOLDER, val_fraction=0.1. Which of them a source heeds "
            "is on its page."
        ),
    ] = None,
    seed: Seed = 0,
) -> None:
    """Read a data set from disk and write its manifest: paths, labels, groups, splits.

    Says what was found and what is missing. Where to ask for each data set and how it must lie on
    disk is in docs/data.
    """
    chosen = _find_source(source)
    options = replace(parse_options(option or [], chosen), seed=seed)
    if "files" in chosen.options and options.files is None:
        options = replace(options, files=out.parent / f"{out.stem}-files")
    claim_file("--out", out, _ENDINGS, inputs=_files_read(out, root, options))
    with refuse_unwritable(out):
        result = chosen.scan(root, options)
        manifest = replace(result.manifest, root=out.absolute().parent)
        manifest.write(out)
    Console().print(_counts(manifest))
    for note in result.notes:
        typer.echo(f"note: {note}")
    typer.echo(f"{len(manifest)} files -> {out}; more on this data set: {chosen.page}")


def _files_read(out: Path, root: Path, options: ScanOptions) -> Iterator[Path]:
    """Yield what the scan may read: the table, the files that options name, lists below folders.

    A data set's own lists may be CSV too. What is there and is no manifest is taken for one.
    """
    named = (getattr(options, field.name) for field in fields(options))
    roots = [root, *(value for value in named if isinstance(value, Path))]
    yield from (path for path in roots if path.is_file())
    try:
        read_manifest(out)
    except ManifestError:
        if any(out.resolve().is_relative_to(path.resolve()) for path in roots):
            yield out


def parse_options(words: Sequence[str], source: Source) -> ScanOptions:
    """Read ``key=value`` words into options.

    Raises:
        ConfigError: a word without ``=``, a key the source does not heed, a value of another type.
    """
    known = (*source.options, "val_fraction")
    values = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            raise ConfigError(f"expected --option KEY=VALUE, but got '{word}'")
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise ConfigError(
                f"{source.name} does not heed the option '{key}'; it heeds {', '.join(known)}{hint}"
            )
        values[key] = _parse_value(key, text)
    return ScanOptions(**values)


def _parse_value(key: str, text: str) -> Any:
    if key in _CHOICES and text not in _CHOICES[key]:
        raise ConfigError(f"expected {key} to be one of {list(_CHOICES[key])}, but got '{text}'")
    if key == "fake":
        return tuple(text.split(","))
    if key == "columns":
        pairs = [pair.partition(":") for pair in text.split(",")]
        if not all(name and column for name, _, column in pairs):
            raise ConfigError(f"expected columns=path:FILE,label:FAKE, but got '{text}'")
        return {name: column for name, _, column in pairs}
    types = {field.name: str(field.type) for field in fields(ScanOptions)}
    if "Path" in types[key]:
        return Path(text)
    if types[key] in {"int", "float"}:
        try:
            return float(text) if types[key] == "float" else int(text)
        except ValueError:
            raise ConfigError(f"expected {key} to be a number, but got '{text}'") from None
    return text


def _find_source(name: str) -> Source:
    if name in SOURCES:
        return SOURCES[name]
    near = difflib.get_close_matches(name, SOURCES, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    raise ConfigError(f"expected a source among {', '.join(SOURCES)}, but got '{name}'{hint}")


def _counts(manifest: Manifest) -> Table:
    """Files by class and split."""
    splits = [*_SPLITS, *sorted({s.split for s in manifest} - set(_SPLITS))]
    counted = Counter((_class(sample), sample.split) for sample in manifest)
    table = Table(title="files by class and split")
    for heading in ("label", "manipulation", "family", "generator", *splits):
        table.add_column(heading, justify="right" if heading in splits else "left")
    for row in sorted({row for row, _ in counted}):
        table.add_row(*row, *(str(counted[row, split]) for split in splits))
    return table


def _class(sample: Sample) -> tuple[str, str, str, str]:
    labels = sample.labels
    word = "fake" if labels.is_fake else "real"
    return (word, labels.manipulation or "-", labels.family or "-", labels.generator or "-")
