"""``mfclip data prepare``: pictures and videos -> aligned face crops."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mfclip.cli.output import open_folder, refuse_unwritable
from mfclip.data.manifest import read_manifest
from mfclip.datasets.prepare import PrepareOptions, PrepareReport
from mfclip.datasets.prepare import prepare as run


def prepare(
    manifest: Annotated[Path, typer.Argument(help="Pictures and videos: .csv, .jsonl, .parquet.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the crops.")],
    num_frames: Annotated[int, typer.Option(help="Frames of a video, evenly spaced.")] = 32,
    size: Annotated[int, typer.Option(help="Side of a crop, pixels.")] = 256,
    margin: Annotated[float, typer.Option(help="View, in widths of the bare face.")] = 1.3,
    every_face: Annotated[
        bool, typer.Option("--every-face", help="Keep all faces, not the largest person alone.")
    ] = False,
    quality: Annotated[
        int | None, typer.Option(help="JPEG quality, 1 to 100, for real and fake alike; else PNG.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes; as many as there are cores if left out.")
    ] = None,
) -> None:
    """Cut the faces out of pictures and videos, upright and of one size.

    Writes DIR/manifest.csv with the labels, splits and groups of the sources, DIR/crops.csv with
    the place of each crop, and DIR/failures.csv with every input that gave none and the reason.
    A run that was stopped goes on where it was when the same command is given again.
    """
    options = PrepareOptions(
        num_frames=num_frames,
        size=size,
        margin=margin,
        every_face=every_face,
        quality=quality,
    )
    table = read_manifest(manifest)
    count = (os.cpu_count() or 1) if workers is None else workers
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("time left"),
        TimeRemainingColumn(),
    )
    open_folder(out)
    with (
        refuse_unwritable(out),
        Progress(*columns, console=Console(stderr=True)) as bar,
    ):
        task = bar.add_task("finding faces", total=None)
        report = run(
            table,
            out,
            options,
            workers=count if len(table) > count else 0,
            progress=lambda stage, done, total: bar.update(
                task, description=stage, completed=done, total=total
            ),
        )
    for line in describe(report):
        typer.echo(line)


def describe(report: PrepareReport) -> list[str]:
    """The report in a few lines.

    Args:
        report: of `mfclip.datasets.prepare.prepare`.
    """
    before = f" ({report.resumed} done by an earlier run)" if report.resumed else ""
    lines = [f"{report.inputs} inputs{before}: {report.crops} faces -> {report.manifest}"]
    if report.without_face:
        lines.append(f"without a face: {_count(report.without_face)}")
    if report.unreadable:
        lines.append(f"unreadable: {_count(report.unreadable)}")
    if report.without_face or report.unreadable:
        lines.append(f"each with its reason: {report.failures}")
    return lines


def _count(by_class: Counter[str]) -> str:
    parts = ", ".join(f"{name} {count}" for name, count in sorted(by_class.items()))
    return f"{by_class.total()} ({parts})"
