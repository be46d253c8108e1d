"""``mfclip score``: judge more files than one run, or one machine, should hold."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from mfclip.cli.interrupt import tell_how_to_go_on
from mfclip.cli.options import Device, Engine, Precision, Root, Threshold, Weights
from mfclip.cli.output import claim_file, claim_folder, refuse_unwritable
from mfclip.errors import ConfigError

if TYPE_CHECKING:
    from mfclip.scale.part import FailedPart, PartResult
    from mfclip.scale.place import Place
    from mfclip.scale.run import Scoring, Status
    from mfclip.scale.worker import ScoreJob

MAX_FAILED = 10
"""Failed parts that are listed on the terminal; ``failed.jsonl`` has no limit."""

EVERY = 30.0
"""Seconds between two lines of progress where the standard error is no terminal."""


class ScoreGroup(TyperGroup):
    """Takes ``mfclip score faces.csv`` for ``mfclip score run faces.csv``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put in the word that may be left out."""
        if args and args[0] not in {*self.commands, "--help"}:
            args = ["run", *args]
        return super().parse_args(ctx, args)


score = typer.Typer(cls=ScoreGroup, no_args_is_help=True, rich_markup_mode="markdown")

OutAddress = Annotated[
    str,
    typer.Option(
        "--out", "-o", metavar="FOLDER|ADDRESS", help="Where results go; s3://bucket/run too."
    ),
]

Scores = Annotated[
    str, typer.Argument(metavar="FOLDER|ADDRESS", help="What --out of `mfclip score` named.")
]


@score.callback()
def root() -> None:
    """Score millions of files, on one machine or many, so that nothing is done twice.

    `mfclip score faces.csv --out scores` is `mfclip score run faces.csv --out scores`.
    """


@score.command()
def run(
    source: Annotated[
        str,
        typer.Argument(
            metavar="MANIFEST|FOLDER|SHARDS",
            help="Table with a column path, folder of files, or folder of shards; or an address.",
        ),
    ],
    out: OutAddress,
    weights: Weights = None,
    faces: Annotated[
        Literal["whole", "detect"] | None,
        typer.Option(
            help="Take each picture as one face, or find the faces in it; default: detect for "
            "folders, whole for the rest, which mostly holds faces that were cut out."
        ),
    ] = None,
    executor: Annotated[
        Literal["local", "ray"],
        typer.Option(help="Where parts are scored: in this process, or on a Ray cluster."),
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(help="Of the Ray cluster, or auto; default: one is started on this machine."),
    ] = None,
    actors: Annotated[
        int | None,
        typer.Option(min=1, help="Ray: workers; default: as many as the cluster has room for."),
    ] = None,
    cpus_per_actor: Annotated[
        int, typer.Option(min=1, help="Ray: cores for each worker, and its threads.")
    ] = 1,
    gpus_per_actor: Annotated[
        float, typer.Option(min=0, help="Ray: GPUs for each worker; 0.5 lets two share one.")
    ] = 0.0,
    tries: Annotated[
        int, typer.Option(min=1, help="Ray: workers that may die of a part before it is given up.")
    ] = 3,
    start_timeout: Annotated[
        float, typer.Option(min=1, help="Ray: seconds to wait for the first worker.")
    ] = 600.0,
    rows_per_part: Annotated[
        int, typer.Option(min=1, help="Rows that are scored and written together.")
    ] = 10_000,
    limit_parts: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many parts; to try it out.")
    ] = None,
    root: Root = None,
    threshold: Threshold = None,
    frames: Annotated[int, typer.Option(min=1, help="Frames of a video, evenly spaced.")] = 32,
    every: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Judge every N-th frame instead.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Faces judged together.")] = 32,
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = None,
) -> None:
    """Score a manifest, a folder or shards, part by part; the same command goes on.

    Each part becomes one Parquet file, named by its rows, the weights and the settings, and there
    whole or not at all. Parts that are there are not scored again, however a run ended. `status`
    says how far it is, `join` makes one table.

    Exit status: 0, everything was scored; 1, some files could not be judged, or parts failed; 2,
    the command was wrong or could not begin; 130 or 143, it was interrupted.
    """
    from mfclip.scale.loop import GivenUpError, Limits, LocalPool  # noqa: PLC0415
    from mfclip.scale.run import begin, read_status  # noqa: PLC0415
    from mfclip.scale.source import open_source  # noqa: PLC0415
    from mfclip.scale.worker import ScoreJob, Worker  # noqa: PLC0415

    place = _claim(out, source)
    opened = open_source(source, rows_per_part=rows_per_part, root=root)
    job = ScoreJob(
        out=str(place),
        root=opened.root,
        kind=opened.kind,
        faces=faces or ("detect" if opened.kind == "folder" else "whole"),
        rows_per_part=rows_per_part,
        weights=_absolute(weights),
        # an engine that this machine lacks or would choose may be another one than a GPU's
        engine="torch" if gpus_per_actor and engine == "auto" else engine,
        precision=precision,
        device="cpu" if executor == "ray" else device,
        threshold=threshold,
        batch_size=batch_size,
        frames=frames,
        every=every,
    )
    predictor = job.load()
    judging = job.run_of(predictor)
    job = replace(job, engine=predictor.engine.name, key=judging.key)
    meter = _Meter()
    with (
        refuse_unwritable(out),
        tell_how_to_go_on(lambda: f"{out} holds what was scored; the same command goes on"),
    ):
        scoring = begin(opened, source, place, judging, limit_parts=limit_parts)
        meter.begin(scoring)
        if executor == "local" or not scoring.missing:
            workers = 1
            pool: Any = LocalPool(job, lambda told: Worker(told, predictor))
        else:
            del predictor  # this process only hands out parts
            on_cluster = replace(job, device=device, threads=cpus_per_actor)
            pool = _open_cluster(on_cluster, cpus_per_actor, gpus_per_actor, address)
            workers = min(actors or pool.most_workers(), len(scoring.missing))
        try:
            with meter.shown():
                scoring.score(pool, Limits(workers, tries, start_timeout), meter.take)
        except GivenUpError as error:
            typer.echo(str(error), err=True)
        finally:
            pool.close()
        status = read_status(place)
    _tell_failures(scoring.failed)
    _tell(status, out)
    raise typer.Exit(int(bool(scoring.failed or status.num_errors)))


@score.command()
def status(scores: Scores) -> None:
    """Say how far a run is: parts, rows, errors, rows a second, and what failed.

    Exit status: 0, all parts are there; 1, some are not; 2, no run was begun there.
    """
    from mfclip.scale.place import Place  # noqa: PLC0415
    from mfclip.scale.run import read_status  # noqa: PLC0415

    found = read_status(Place(scores))
    _tell_failures(found.failed)
    _tell(found, scores)
    raise typer.Exit(int(bool(found.missing)))


@score.command()
def join(
    scores: Scores,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="FILE.parquet|.csv", help="The table to write."),
    ],
) -> None:
    """Make one table of all parts, in the order of the source; every row once.

    It is written only if all parts are there. Files of other rows, left from before a manifest
    was changed, are not taken.
    """
    from mfclip.cli.progress import Bars  # noqa: PLC0415
    from mfclip.scale.place import Place  # noqa: PLC0415
    from mfclip.scale.run import join as write_table  # noqa: PLC0415

    place = Place(scores)
    parts = () if place.is_remote else [Path(str(place)) / name for name in place.names()]
    claim_file("--out", out, [".parquet", ".csv"], inputs=parts)
    with refuse_unwritable(out), Bars() as bars:
        found = write_table(place, out, progress=lambda n, of: bars.tell("joining parts", n, of))
    _tell_stray(found)
    typer.echo(f"{found.num_rows:,} rows of {len(found.parts):,} parts are in {out}")


def _claim(out: str, source: str) -> Place:
    """Check that results may be written, and that the next run will not take them for input."""
    from mfclip.scale.place import Place, is_address  # noqa: PLC0415
    from mfclip.scale.run import FAILED, JOB, PLAN  # noqa: PLC0415

    place = Place(out)
    inside = f"{place}/".startswith(f"{Place(source)}/")
    if inside:
        raise ConfigError(
            f"--out {out} lies in {source}, which is read: the next run would take the results "
            "for files to score; choose a folder outside"
        )
    if not is_address(out):
        claim_folder("--out", Path(out), inputs=[source], names=[JOB, PLAN, FAILED])
    return place


def _absolute(weights: str | None) -> str | None:
    """Workers start in other folders; a hub id stays what it is."""
    return str(Path(weights).absolute()) if weights and Path(weights).exists() else weights


def _open_cluster(job: ScoreJob, cpus: int, gpus: float, address: str | None) -> Any:
    from mfclip.scale.ray_pool import Ask, RayPool  # noqa: PLC0415

    return RayPool(job, Ask(cpus, gpus), address=address)


@dataclass(slots=True)
class _Meter:
    """Shows rows done, rows a second and the time left."""

    total: int = 0
    done: int = 0
    began: float = field(default_factory=time.monotonic)
    _shown: float = 0.0
    _line: Any = None

    def begin(self, scoring: Scoring) -> None:
        """Take in what there is to do, and say so."""
        self.total = scoring.num_rows
        there = len(scoring.plan) - len(scoring.missing)
        kept = f"; {there:,} parts are there or left out" if there else ""
        typer.echo(f"{self.total:,} rows in {len(scoring.missing):,} parts{kept}", err=True)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Keep a line on the terminal while the block runs; elsewhere print one now and then."""
        from rich.console import Console  # noqa: PLC0415

        self.began = self._shown = time.monotonic()
        console = Console(stderr=True)
        if not console.is_terminal:
            yield
            return
        with console.status("starting") as self._line:
            yield

    def take(self, what: PartResult | FailedPart | str) -> None:
        """Take in what became of a part, or a note."""
        from mfclip.scale.part import PartResult  # noqa: PLC0415

        if isinstance(what, str):
            typer.echo(what, err=True)
        if isinstance(what, PartResult):
            self.done += what.num_rows
        if self._line is not None:
            self._line.update(self.line())
        elif time.monotonic() - self._shown > EVERY:
            self._shown = time.monotonic()
            typer.echo(self.line(), err=True)

    def line(self) -> str:
        """Return the line."""
        from mfclip.train.log import in_words  # noqa: PLC0415

        rate = self.done / max(time.monotonic() - self.began, 1e-9)
        left = in_words((self.total - self.done) / rate if rate else math.nan)
        return f"{self.done:,} of {self.total:,} rows, {rate:,.1f} rows/s, {left} left"


def _tell_failures(failed: list[FailedPart] | tuple[FailedPart, ...]) -> None:
    for part in failed[:MAX_FAILED]:
        reason = part.reason.strip().rpartition("\n")[2]
        typer.echo(
            f"failed: part {part.number}, rows {part.start} to {part.stop - 1}, after "
            f"{part.tries} tries: {reason}",
            err=True,
        )
    if len(failed) > MAX_FAILED:
        typer.echo(f"failed: {len(failed) - MAX_FAILED} more; failed.jsonl lists all", err=True)


def _tell_stray(status: Status) -> None:
    if status.stray:
        typer.echo(
            f"{len(status.stray)} files are of rows that the source does not have any more, such "
            f"as {status.stray[0]}; no table takes them, and they may be deleted",
            err=True,
        )


def _tell(status: Status, out: str) -> None:
    rate = f", {status.rows_done / status.seconds:,.1f} rows/s a worker" if status.seconds else ""
    _tell_stray(status)
    typer.echo(
        f"{len(status.done):,} of {len(status.parts):,} parts and {status.rows_done:,} of "
        f"{status.num_rows:,} rows of {status.source} are in {out}; "
        f"{status.num_errors:,} errors{rate}"
    )
