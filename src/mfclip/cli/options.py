"""Options that several commands have: spelt, explained and meant alike in all of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

ManifestArgument = Annotated[
    Path, typer.Argument(metavar="MANIFEST", help="Manifest: .csv, .jsonl or .parquet.")
]
"""Of commands that work on a manifest: ``mfclip data``."""

ManifestOption = Annotated[
    Path, typer.Option("--manifest", metavar="FILE", help="Manifest: .csv, .jsonl or .parquet.")
]
"""Of commands that work on weights, and read faces for it."""

Manifests = Annotated[
    list[Path],
    typer.Option(
        "--manifest",
        metavar="FILE",
        help="Manifest: .csv, .jsonl or .parquet. Repeatable; several are joined.",
    ),
]

Root = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER", help="Folder of the manifest's relative paths; its own if omitted."
    ),
]

WEIGHTS = "A .safetensors file, a run's folder, a hub id or an exported file; default: embedded."

Weights = Annotated[str | None, typer.Option(metavar="WEIGHTS", help=WEIGHTS)]

OutFolder = Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where to write.")]

Split = Annotated[str | None, typer.Option(help="Only this split; all if omitted.")]

Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change one setting, e.g. train.lr=3e-4. Repeatable."
    ),
]

Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]

Engine = Annotated[
    str, typer.Option(help="torch (the reference), onnx, openvino, or auto: the fastest here.")
]

Precision = Annotated[
    str | None, typer.Option(help="fp32 or bf16; default: the exported file's, else fp32.")
]

Threshold = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Two verdicts only: fake from here upwards, else real."),
]

Seed = Annotated[int, typer.Option(help="Of whatever is chosen at random.")]

Workers = Annotated[
    int | None, typer.Option(min=0, help="Processes; all cores if omitted, 0 works in this one.")
]


def count_workers(workers: int | None) -> int:
    """Return the number of processes that `Workers` asks for."""
    return (os.cpu_count() or 1) if workers is None else workers
