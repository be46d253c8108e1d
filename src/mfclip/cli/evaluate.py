"""``mfclip evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    manifest: Annotated[Path, typer.Option(help="CSV, JSON lines or Parquet.")],
    weights: Annotated[
        str | None,
        typer.Option(help="A .safetensors file, a run's folder or a hub id; default: embedded."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("results/evaluate"),
    split: Annotated[str, typer.Option(help="Split to score.")] = "test",
    fit_split: Annotated[
        str | None,
        typer.Option(
            help="Fit the second threshold on this split; default: the one stored with the weights."
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change one setting, e.g. evaluate.bootstrap=0. Repeatable."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Score a split; write scores.csv, metrics.json and metrics.md, and print the table.

    Every kind of forgery is held against all reals of the split. The intervals (95%) are from a
    bootstrap over groups. Pictures that cannot be read are listed and left out.
    """
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    from mfclip.config import load_config  # noqa: PLC0415
    from mfclip.data.manifest import read_manifest  # noqa: PLC0415
    from mfclip.device import find_device  # noqa: PLC0415
    from mfclip.evaluate.run import evaluate_weights  # noqa: PLC0415

    settings = load_config(None, set_ or []).evaluate
    rows = read_manifest(manifest)
    console = Console(stderr=True)
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(f"scoring {split}", total=None)
        evaluation = evaluate_weights(
            weights,
            rows,
            out,
            split=split,
            fit_split=fit_split,
            settings=settings,
            device=str(find_device(device)),
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    Console().print(evaluation.to_table())
    for path, error in evaluation.errors[:10]:
        console.print(f"not scored: {path}: {error}", style="yellow", highlight=False)
    typer.echo(f"scores.csv, metrics.json and metrics.md are in {out}")
