"""``mfclip evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mfclip.cli.output import open_folder, refuse_unwritable

if TYPE_CHECKING:
    from mfclip.evaluate.report import Evaluation

MAX_ROWS = 20
"""Pictures without a score that are listed on the terminal; metrics.json has no limit."""


def evaluate(  # noqa: PLR0913, PLR0917 - the options of the command
    manifest: Annotated[Path, typer.Option(help="CSV, JSON lines or Parquet.")],
    weights: Annotated[
        str | None,
        typer.Option(
            help="A .safetensors file, a run's folder, a hub id or an exported file; "
            "default: embedded."
        ),
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
    engine: Annotated[
        str, typer.Option(help="torch, the reference; onnx, openvino or auto, the fastest.")
    ] = "torch",
    precision: Annotated[
        str | None, typer.Option(help="fp32 or bf16; default: the exported file's, else fp32.")
    ] = None,
) -> None:
    """Score a split; write scores.csv, metrics.json and metrics.md, and print the table.

    Every kind of forgery is held against all reals of the split. The intervals (95%) are from a
    bootstrap over groups; n/a means not defined, e.g. for a split of one class. Pictures that
    cannot be read are listed and left out.

    Exit status: 0, everything was scored; 1, some pictures could not be scored (they are listed and
    in no figure); 2, nothing could be scored, or the command was wrong.
    """
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    from mfclip.config import load_config  # noqa: PLC0415
    from mfclip.data.manifest import read_manifest  # noqa: PLC0415
    from mfclip.evaluate.run import evaluate_weights  # noqa: PLC0415
    from mfclip.runtime.device import find_device  # noqa: PLC0415

    settings = load_config(None, set_ or []).evaluate
    rows = read_manifest(manifest)
    open_folder(out)
    console = Console(stderr=True)
    with refuse_unwritable(out), Progress(console=console, transient=True) as bar:
        task = bar.add_task(f"scoring {split}", total=None, visible=console.is_terminal)
        evaluation = evaluate_weights(
            weights,
            rows,
            out,
            split=split,
            fit_split=fit_split,
            settings=settings,
            device=str(find_device(device)),
            engine=engine,
            precision=precision,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    Console().print(evaluation.to_table())
    typer.echo(f"scores.csv, metrics.json and metrics.md are in {out}")
    raise typer.Exit(_tell_errors(evaluation))


def _tell_errors(evaluation: Evaluation) -> int:
    """List the pictures without a score on the standard error, and return the exit status."""
    from mfclip.report.wording import printable  # noqa: PLC0415

    errors = evaluation.errors
    for path, error in errors[:MAX_ROWS]:
        typer.echo(f"not scored: {printable(path)}: {printable(error)}", err=True)
    if len(errors) > MAX_ROWS:
        typer.echo(f"not scored: {len(errors) - MAX_ROWS} more; metrics.json lists all", err=True)
    if evaluation.overall.num_real + evaluation.overall.num_fake == 0:
        return 2
    return 1 if errors else 0
