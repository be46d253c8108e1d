"""``mfclip data pack``: crops -> shards for training from an object store."""

from __future__ import annotations

from typing import Annotated

import typer

from mfclip.cli.options import ManifestArgument, OutFolder, Root, Seed, Split
from mfclip.cli.output import claim_folder, files_of, refuse_unwritable
from mfclip.data.manifest import read_manifest
from mfclip.data.shards import write_shards


def pack(
    manifest: ManifestArgument,
    out: OutFolder,
    faces: Annotated[int, typer.Option(min=1, help="Faces a shard.")] = 1000,
    split: Split = None,
    root: Root = None,
    seed: Seed = 0,
) -> None:
    """Pack face crops and labels into tar files (WebDataset), one folder a split.

    `mfclip train --set data.shards=DIR/train` then reads the training faces from there, on disk or
    at an address such as s3://bucket/train. The manifest is still needed, the training files not.
    """
    rows = read_manifest(manifest, root=root)
    names = [split] if split else sorted({sample.split for sample in rows})
    indices = [f"{name}/index.json" for name in names]
    claim_folder("--out", out, inputs=files_of(manifest, rows), names=indices)
    for name in names:
        part = rows.split(name)
        with refuse_unwritable(out / name):
            index = write_shards(part, out / name, samples_per_shard=faces, seed=seed)
        typer.echo(
            f"split '{name}': {len(part)} faces in {len(index.names)} shards -> {out / name}"
        )
