"""``mfclip evaluate``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mfclip.cli.options import Device, Engine, OutFolder, Precision, Root, Weights
from mfclip.cli.output import claim_folder, files_of, refuse_unwritable
from mfclip.errors import ConfigError

if TYPE_CHECKING:
    from mfclip.config import EvaluateSettings
    from mfclip.evaluate.scores import Scores

MAX_ROWS = 20
"""Images without a score that are listed on the terminal; scores.csv has no limit."""


def evaluate(
    manifest: Annotated[
        list[Path],
        typer.Option(
            "--manifest",
            metavar="FILE",
            help="Manifest: .csv, .jsonl or .parquet. Repeatable: data sets to compare.",
        ),
    ],
    weights: Weights = None,
    out: OutFolder = Path("results/evaluate"),
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

    Every kind of forgery is held against all reals of the split. Videos, whose frames share a
    video_id, are counted besides their frames: scores-video.csv, metrics-video.json. The intervals
    (95%) are from a bootstrap over groups and videos, never over frames; n/a means not defined,
    e.g. for a split of one class. Images that cannot be read are listed and left out.

    Several manifests are scored one by one, each into a folder of its own, and compared in
    cross_auc.json.

    Exit status: 0, everything was scored; 1, some images could not be scored (they are listed and
    in no figure); 2, nothing could be scored, or the command was wrong.
    """
    from rich.console import Console  # noqa: PLC0415

    from mfclip.cli.progress import Bars  # noqa: PLC0415
    from mfclip.data.manifest import read_manifest  # noqa: PLC0415
    from mfclip.evaluate.run import evaluate_domains, load_evaluator, output_names  # noqa: PLC0415
    from mfclip.runtime.device import find_device  # noqa: PLC0415

    settings = _read_settings(set_ or [])
    names = name_manifests(manifest)
    manifests = {
        name: read_manifest(path, root=root) for name, path in zip(names, manifest, strict=True)
    }
    inputs = [
        each
        for path, rows in zip(manifest, manifests.values(), strict=True)
        for each in files_of(path, rows, weights)
    ]
    claim_folder("--out", out, inputs=inputs, names=output_names(names))
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
    with refuse_unwritable(out), Bars() as bars:

        def start(name: str) -> Callable[[int, int], None]:
            return partial(bars.tell, f"scoring {name}")

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


def _read_settings(changes: Sequence[str]) -> EvaluateSettings:
    from mfclip.config import load_config  # noqa: PLC0415

    for change in changes:
        if not change.strip().startswith("evaluate."):
            raise ConfigError(
                f"--set {change} changes nothing here; expected a key such as evaluate.bootstrap"
            )
    return load_config(None, changes).evaluate


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
    """List the images without a score on the standard error, and return the exit status."""
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
