"""``mfclip evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mfclip.cli.options import Device, Engine, ManifestOption, OutFolder, Precision, Root, Weights
from mfclip.cli.output import claim_folder, files_of, refuse_unwritable
from mfclip.errors import ConfigError

if TYPE_CHECKING:
    from mfclip.evaluate.report import Evaluation

MAX_ROWS = 20
"""Images without a score that are listed on the terminal; metrics.json has no limit."""


def evaluate(
    manifest: ManifestOption,
    weights: Weights = None,
    out: OutFolder = Path("results/evaluate"),
    split: Annotated[str, typer.Option(help="Split to score.")] = "test",
    fit_split: Annotated[
        str | None,
        typer.Option(
            help="Fit the second threshold on this split; default: the one stored with the weights."
        ),
    ] = None,
    root: Root = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change one setting, e.g. evaluate.bootstrap=0. Repeatable.",
        ),
    ] = None,
    device: Device = "auto",
    engine: Engine = "torch",
    precision: Precision = None,
) -> None:
    """Score a split; write scores.csv, metrics.json and metrics.md, and print the table.

    Every kind of forgery is held against all reals of the split. The intervals (95%) are from a
    bootstrap over groups; n/a means not defined, e.g. for a split of one class. Images that
    cannot be read are listed and left out.

    Exit status: 0, everything was scored; 1, some images could not be scored (they are listed and
    in no figure); 2, nothing could be scored, or the command was wrong.
    """
    from rich.console import Console  # noqa: PLC0415

    from mfclip.cli.progress import Bars  # noqa: PLC0415
    from mfclip.config import load_config  # noqa: PLC0415
    from mfclip.data.manifest import read_manifest  # noqa: PLC0415
    from mfclip.evaluate.run import OUTPUTS, evaluate_weights  # noqa: PLC0415
    from mfclip.runtime.device import find_device  # noqa: PLC0415

    settings = load_config(None, set_ or []).evaluate
    for change in set_ or []:
        if not change.strip().startswith("evaluate."):
            raise ConfigError(
                f"--set {change} changes nothing here; expected a key such as evaluate.bootstrap"
            )
    rows = read_manifest(manifest, root=root)
    claim_folder("--out", out, inputs=files_of(manifest, rows, weights), names=OUTPUTS)
    with refuse_unwritable(out), Bars() as bars:
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
            progress=lambda done, total: bars.tell(f"scoring {split}", done, total),
        )
    Console().print(evaluation.to_table())
    typer.echo(f"scores.csv, metrics.json and metrics.md are in {out}")
    raise typer.Exit(_tell_errors(evaluation))


def _tell_errors(evaluation: Evaluation) -> int:
    """List the images without a score on the standard error, and return the exit status."""
    from mfclip.report.wording import printable  # noqa: PLC0415

    errors = evaluation.errors
    for path, error in errors[:MAX_ROWS]:
        typer.echo(f"not scored: {printable(path)}: {printable(error)}", err=True)
    if len(errors) > MAX_ROWS:
        typer.echo(f"not scored: {len(errors) - MAX_ROWS} more; metrics.json lists all", err=True)
    if evaluation.overall.num_real + evaluation.overall.num_fake == 0:
        return 2
    return 1 if errors else 0
