"""``mfclip import`` and ``mfclip calibrate``: weights that were trained elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mfclip.cli.output import open_folder, refuse_unwritable
from mfclip.cli.release import show_verdicts


def import_weights(
    name: Annotated[
        str | None, typer.Argument(help="Which published network; left out, all are listed.")
    ] = None,
    file: Annotated[
        Path | None, typer.Argument(help="What its authors published: .pth, .pt, .safetensors.")
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The .safetensors file to write.")
    ] = Path("imported.safetensors"),
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Another size than the published one, e.g. model.image_size=256."
        ),
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="For the card: who may use the weights, if you know.")
    ] = None,
) -> None:
    """Turn weights that others published into a file for --weights, once.

    Only tensors are read, and no code of the file runs. Every tensor must have the name and shape
    of the network. The card says where the weights come from and under which licence, how faces are
    cut and scaled for them, and that nobody measured how often they err: mfclip calibrate does.
    """
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    from mfclip.errors import ConfigError  # noqa: PLC0415
    from mfclip.published import ORIGINS  # noqa: PLC0415
    from mfclip.published import import_weights as run_import  # noqa: PLC0415

    if name is None:
        table = Table("name", "source", "licence", box=None)
        for each, origin in ORIGINS.items():
            table.add_row(each, origin.source, origin.licence)
        Console().print(table)
        return
    if file is None:
        raise ConfigError(f"expected the file to import as {name!r}, but got none")
    open_folder(out.parent)
    with refuse_unwritable(out):
        card = run_import(name, file, out, overrides=set_ or (), licence=licence)
    typer.echo(f"{out}: {name}, from {file.name}; licence: {card.licence}")
    typer.echo(f"{card.limits}")


def calibrate(  # noqa: PLR0913, PLR0917 - options of a command
    weights: Annotated[
        str, typer.Argument(help="A .safetensors file, a run's folder or a hub id.")
    ],
    manifest: Annotated[Path, typer.Option(help="CSV, JSON lines or Parquet.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The .safetensors file to write.")],
    split: Annotated[
        str, typer.Option(help="Split to fit on; the weights must not have seen its faces.")
    ] = "val",
    splits: Annotated[
        str, typer.Option(help="Splits to measure the fitted weights on, with commas.")
    ] = "",
    max_error: Annotated[
        float,
        typer.Option(
            min=0,
            max=0.5,
            help="Share of the split's real faces that may be called fake, and of its fakes that "
            "may be called real; the faces between are uncertain.",
        ),
    ] = 0.1,
    max_false_alarm: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=0.5,
            help="Share of real faces that may be called fake in any of their sources (folders); "
            "as --max-error if left out.",
        ),
    ] = None,
    found: Annotated[
        Path | None,
        typer.Option(help="Manifest of the same faces as 'mfclip data prepare' cuts them."),
    ] = None,
    limits: Annotated[str, typer.Option(help="For the card: what the weights cannot do.")] = "",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Give weights bands of verdicts and error rates, measured on faces of yours.

    Temperature, threshold and bands are fitted on one split, and how often the verdicts err is
    measured on it and on --splits. The weights themselves stay as they are.
    """
    from rich.console import Console  # noqa: PLC0415

    from mfclip.data.manifest import read_manifest  # noqa: PLC0415
    from mfclip.evaluate.release import calibrate as run_calibrate  # noqa: PLC0415
    from mfclip.runtime.device import find_device  # noqa: PLC0415
    from mfclip.weights import read_weights  # noqa: PLC0415

    rows = read_manifest(manifest)
    open_folder(out.parent)
    with refuse_unwritable(out):
        evaluations = run_calibrate(
            weights,
            rows,
            out,
            val=split,
            splits=[each.strip() for each in splits.split(",") if each.strip()],
            facts={"limits": limits} if limits else None,
            max_error=max_error,
            max_false_alarm=max_false_alarm,
            found=None if found is None else read_manifest(found),
            device=str(find_device(device)),
        )
    for evaluation in evaluations.values():
        Console().print(evaluation.to_table())
    show_verdicts(read_weights(out).card.bands("whole"))
    typer.echo(f"calibrated weights and their card: {out}")
