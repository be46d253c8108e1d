"""``mfclip data prepare``: pictures and videos -> aligned face crops."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

from mfclip.cli.interrupt import tell_how_to_go_on
from mfclip.cli.options import ManifestArgument, OutFolder, Root, Workers, count_workers
from mfclip.cli.output import claim_folder, files_of, refuse_unwritable
from mfclip.cli.progress import Bars
from mfclip.data.manifest import read_manifest
from mfclip.datasets.prepare import OUTPUTS, PrepareOptions, PrepareReport
from mfclip.datasets.prepare import prepare as run


def prepare(
    manifest: ManifestArgument,
    out: OutFolder,
    frames: Annotated[
        int,
        typer.Option("--frames", "--num-frames", min=1, help="Frames of a video, evenly spaced."),
    ] = 32,
    size: Annotated[int, typer.Option(help="Side of a crop, pixels.")] = 256,
    margin: Annotated[float, typer.Option(help="View, in widths of the bare face.")] = 1.3,
    every_face: Annotated[
        bool, typer.Option("--every-face", help="Keep all faces, not the largest person alone.")
    ] = False,
    quality: Annotated[
        int | None, typer.Option(help="JPEG quality, 1 to 100, for real and fake alike; else PNG.")
    ] = None,
    root: Root = None,
    workers: Workers = None,
) -> None:
    """Cut the faces out of images and videos, upright and of one size.

    Writes FOLDER/manifest.csv with the labels, splits and groups of the sources, FOLDER/crops.csv
    with the place of each crop, and FOLDER/failures.csv with every input that gave none and why.
    A run that was stopped goes on where it was when the same command is given again.
    """
    options = PrepareOptions(
        num_frames=frames,
        size=size,
        margin=margin,
        every_face=every_face,
        quality=quality,
    )
    table = read_manifest(manifest, root=root)
    count = count_workers(workers)
    claim_folder("--out", out, inputs=files_of(manifest, table), names=OUTPUTS)
    advice = "what is done is kept; the same command goes on"
    with refuse_unwritable(out), tell_how_to_go_on(lambda: advice), Bars() as bars:
        report = run(
            table, out, options, workers=count if len(table) > count else 0, progress=bars.tell
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
