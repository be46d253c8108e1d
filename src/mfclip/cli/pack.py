"""``mfclip data pack``: crops -> shards for training from an object store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mfclip.cli.output import open_folder, refuse_unwritable
from mfclip.data.manifest import read_manifest
from mfclip.data.shards import write_shards


def pack(
    manifest: Annotated[Path, typer.Argument(help="Manifest (.csv, .jsonl, .parquet) of crops.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the shards.")],
    faces: Annotated[int, typer.Option(min=1, help="Faces a shard.")] = 1000,
    split: Annotated[str | None, typer.Option(help="Only this split; all if omitted.")] = None,
    seed: Annotated[int, typer.Option(help="Of the order in the shards.")] = 0,
) -> None:
    """Pack pictures and labels into tar files (WebDataset), one folder a split.

    `mfclip train --set data.shards=DIR/train` then reads the training faces from there, on disk or
    at an address such as s3://bucket/train. The manifest is still needed, the training files not.
    """
    rows = read_manifest(manifest)
    for name in [split] if split else sorted({sample.split for sample in rows}):
        part = rows.split(name)
        open_folder(out / name)
        with refuse_unwritable(out / name):
            index = write_shards(part, out / name, samples_per_shard=faces, seed=seed)
        typer.echo(
            f"split '{name}': {len(part)} faces in {len(index.names)} shards -> {out / name}"
        )
