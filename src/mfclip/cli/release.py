"""``mfclip release``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mfclip.cli.output import open_folder, refuse_unwritable

if TYPE_CHECKING:
    from mfclip.card import Bands


def release(  # noqa: PLR0913, PLR0917 - options of a command
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    manifest: Annotated[Path, typer.Option(help="CSV, JSON lines or Parquet.")],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
    splits: Annotated[
        str, typer.Option(help="Splits to measure the finished weights on, with commas.")
    ] = "test",
    max_error: Annotated[
        float,
        typer.Option(
            min=0,
            max=0.5,
            help="Share of validation's real faces that may be called fake, and of its fakes that "
            "may be called real; the faces between are uncertain.",
        ),
    ] = 0.1,
    max_false_alarm: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=0.5,
            help="Share of validation's real faces that may be called fake in any of their "
            "sources (folders); as --max-error if left out.",
        ),
    ] = None,
    found: Annotated[
        Path | None,
        typer.Option(
            help="Manifest of the same faces as 'mfclip data prepare' cuts them: the bands of "
            "verdicts on images in which faces are found first."
        ),
    ] = None,
    trained_on: Annotated[
        str, typer.Option(help="For the card: the data, in words.")
    ] = "not stated",
    licence: Annotated[str, typer.Option(help="For the card: who may use the weights.")] = "",
    limits: Annotated[str, typer.Option(help="For the card: what they cannot do.")] = "",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Make a run's best weights ready for others: calibrated, measured, without the text half.

    Temperature, threshold and the bands of the three verdicts are fitted on validation. The card,
    which every prediction and report quotes, says what the weights were trained on and how often
    they err.
    """
    from rich.console import Console  # noqa: PLC0415

    from mfclip.data.manifest import read_manifest  # noqa: PLC0415
    from mfclip.evaluate.release import release as run_release  # noqa: PLC0415
    from mfclip.runtime.device import find_device  # noqa: PLC0415
    from mfclip.weights import read_weights  # noqa: PLC0415

    words = {"trained_on": trained_on, "licence": licence, "limits": limits}
    facts = {name: text for name, text in words.items() if text}
    rows = read_manifest(manifest)
    names = [name.strip() for name in splits.split(",")]
    open_folder(out.parent)
    with refuse_unwritable(out):
        evaluations = run_release(
            run,
            rows,
            out,
            splits=names,
            facts=facts,
            max_error=max_error,
            max_false_alarm=max_false_alarm,
            found=None if found is None else read_manifest(found),
            device=str(find_device(device)),
        )
    for evaluation in evaluations.values():
        Console().print(evaluation.to_table())
    show_verdicts(read_weights(out).card.bands("whole"))
    typer.echo(f"weights, card and evaluations: {out}")


def show_verdicts(bands: Bands) -> None:
    """Print what the verdicts mean, and how often they err on each split."""
    from rich import box  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    from mfclip.report.document import rate_rows  # noqa: PLC0415
    from mfclip.report.wording import Words  # noqa: PLC0415

    words = Words()
    table = Table(title="verdicts", box=box.SIMPLE_HEAD)
    for heading in ("", *bands.rates):
        table.add_column(heading)
    for name, cells in rate_rows(bands, words):
        table.add_row(name, *cells)
    Console().print(table)
    typer.echo(words.bands(bands, origin=True))
