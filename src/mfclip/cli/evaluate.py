"""``mfclip evaluate``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mfclip.cli.output import open_folder, refuse_unwritable
from mfclip.errors import ConfigError

if TYPE_CHECKING:
    from mfclip.evaluate.scores import Scores

MAX_ROWS = 20
"""Pictures without a score that are listed on the terminal; scores.csv has no limit."""


def evaluate(  # noqa: PLR0913, PLR0917 - the options of the command
    manifest: Annotated[
        list[Path],
        typer.Option(help="CSV, JSON lines or Parquet. Repeatable: data sets to compare."),
    ],
    weights: Annotated[
        str | None,
        typer.Option(
            help="A .safetensors file, a run's folder, a hub id or an exported file; "
            "default: embedded."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("results/evaluate"),
    split: Annotated[str, typer.Option(help="Split to score.")] = "test",
    unit: Annotated[
        Literal["frame", "video", "both"] | None,
        typer.Option(help="What the metrics count; default: both where there are videos."),
    ] = None,
    pool: Annotated[
        Literal["mean", "median", "max"],
        typer.Option(help="How a video's score is made of its frames'."),
    ] = "mean",
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

    Every kind of forgery is held against all reals of the split. Videos, whose frames share a
    video_id, are counted besides their frames: scores-video.csv, metrics-video.json. The intervals
    (95%) are from a bootstrap over groups and videos, never over frames; n/a means not defined,
    e.g. for a split of one class. Pictures that cannot be read are listed and left out.

    Several manifests are scored one by one, each into a folder of its own, and compared in
    cross_auc.json.

    Exit status: 0, everything was scored; 1, some pictures could not be scored (they are listed and
    in no figure); 2, nothing could be scored, or the command was wrong.
    """
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    from mfclip.config import load_config  # noqa: PLC0415
    from mfclip.data.manifest import read_manifest  # noqa: PLC0415
    from mfclip.evaluate.run import evaluate_domains, load_evaluator  # noqa: PLC0415
    from mfclip.runtime.device import find_device  # noqa: PLC0415

    settings = load_config(None, set_ or []).evaluate
    names = name_manifests(manifest)
    manifests = {name: read_manifest(path) for name, path in zip(names, manifest, strict=True)}
    open_folder(out)
    evaluator = load_evaluator(
        weights,
        split=split,
        fit_split=fit_split,
        units=None if unit is None else ("frame", "video") if unit == "both" else (unit,),
        pool=pool,
        settings=settings,
        device=str(find_device(device)),
        engine=engine,
        precision=precision,
    )
    for name, rows in manifests.items():
        note = evaluator.framing_note(rows)
        if note:
            typer.echo(f"warning: {name}: {note}", err=True)
    console = Console(stderr=True)
    with refuse_unwritable(out), Progress(console=console, transient=True) as bar:

        def start(name: str) -> Callable[[int, int], None]:
            task = bar.add_task(f"scoring {name}", total=None, visible=console.is_terminal)
            return lambda done, total: bar.update(task, completed=done, total=total)

        if len(manifests) == 1:
            (rows,) = manifests.values()
            found = {"": evaluator.run(rows, out, progress=start(split))}
            crossed: Mapping[Any, object] = {}
        else:
            found, crossed = evaluate_domains(evaluator, manifests, out, started=start)
    for name, each in found.items():
        if name:
            typer.echo(f"\n{name}")
        for evaluation in each.evaluations.values():
            Console().print(evaluation.to_table())
    for counted, line in crossed.items():
        typer.echo(f"\n{counted}s: {line}")
    typer.echo(f"scores, metrics and tables are in {out}")
    raise typer.Exit(_tell_errors([each.scores for each in found.values()]))


def name_manifests(paths: Sequence[Path]) -> list[str]:
    """Name each manifest after its file, or its folder where the files are called alike.

    Raises:
        ConfigError: two have the same file name and the same folder's name, or are the same file.

    Example:
        >>> name_manifests([Path("ff/manifest.csv"), Path("celeb/manifest.csv")])
        ['ff', 'celeb']
    """
    whole = [path.absolute() for path in paths]
    for names in ([path.stem for path in whole], [path.parent.name for path in whole]):
        if len(set(names)) == len(names) and all(names):
            return names
    listed = ", ".join(map(str, paths))
    raise ConfigError(f"expected manifests that differ in file or folder name, but got {listed}")


def _tell_errors(tables: Sequence[Scores]) -> int:
    """List the pictures without a score on the standard error, and return the exit status."""
    from mfclip.report.wording import printable  # noqa: PLC0415

    errors = [(each.path, each.error or "") for table in tables for each in table.failed]
    for path, error in errors[:MAX_ROWS]:
        typer.echo(f"not scored: {printable(path)}: {printable(error)}", err=True)
    if len(errors) > MAX_ROWS:
        more = len(errors) - MAX_ROWS
        typer.echo(f"not scored: {more} more; scores.csv lists all with their reasons", err=True)
    if not any(len(table.scored) for table in tables):
        return 2
    return 1 if errors else 0
