"""``mfclip data perturb``: damaged copies of a data set, for the robustness figure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mfclip.cli.output import open_folder, refuse_unwritable
from mfclip.data.manifest import read_manifest
from mfclip.datasets.perturbed_copies import FAILURES, PerturbReport, perturb_manifest
from mfclip.errors import ConfigError
from mfclip.media.perturbations import LEVELS, PERTURBATIONS

_GRID = ",".join(PERTURBATIONS)
_LEVELS = ",".join(map(str, LEVELS))


def perturb(
    manifest: Annotated[
        Path, typer.Argument(help="Manifest (.csv, .jsonl, .parquet) of the pictures to damage.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the copies and their manifests.")
    ],
    kinds: Annotated[
        str,
        typer.Option(
            help="Kinds, separated by commas. Outside the grid: "
            "jpeg_quality, webp, resize, screenshot."
        ),
    ] = _GRID,
    levels: Annotated[
        str, typer.Option(help="Levels 1 (mild) to 5 (strong), separated by commas; 0 is clean.")
    ] = _LEVELS,
    split: Annotated[str | None, typer.Option(help="Only this split; all if omitted.")] = None,
    scale_blocks: Annotated[
        bool,
        typer.Option(
            "--scale-blocks",
            help="BW: squares in proportion to the area. Without it a picture whose short side "
            "is below 256 pixels gets none, as in the original.",
        ),
    ] = False,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 works in this one.")] = 0,
) -> None:
    """Write copies of the pictures with the seven distortions of DeeperForensics at five levels.

    Each kind and level becomes a folder with its own manifest.csv. Started again after an
    interruption it goes on where it stopped. The same file is damaged alike on every machine.
    """
    source = read_manifest(manifest)
    part = source.split(split) if split else source
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    )  # fmt: skip
    open_folder(out)
    with refuse_unwritable(out), Progress(*columns, console=console) as bar:
        task = bar.add_task("perturbing")
        report = perturb_manifest(
            part,
            out,
            _words(kinds),
            [_number(word) for word in _words(levels)],
            scale_blocks=scale_blocks,
            workers=workers,
            progress=lambda _, done, total: bar.update(task, completed=done, total=total),
        )
    _tell(report, out)


def _words(text: str) -> list[str]:
    return list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def _number(word: str) -> int:
    try:
        return int(word)
    except ValueError:
        message = f"expected --levels to be numbers like {_LEVELS}, but got '{word}'"
        raise ConfigError(message) from None


def _tell(report: PerturbReport, out: Path) -> None:
    typer.echo(
        f"{report.written} pictures written, {report.kept} kept from an earlier run, "
        f"{len(report.manifests)} manifests in {out}"
    )
    if report.without_blocks:
        typer.echo(
            f"note: BW left {report.without_blocks} files unchanged, since their short side is "
            "below 256 pixels; --scale-blocks draws squares in proportion to the area"
        )
    if report.failures:
        typer.echo(f"left out {len(report.failures)} file(s), see {out / FAILURES}", err=True)
