"""``mfclip benchmark``: how fast this machine judges, trains and reads, and what its limit is."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mfclip.cli.output import open_folder, refuse_unwritable
from mfclip.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from mfclip.benchmark.record import Measurements, Row


class What(StrEnum):
    """What can be measured."""

    INFERENCE = "inference"
    TRAINING = "training"
    DATA = "data"
    PATCH = "patch"
    ALL = "all"


TITLES = {
    "inference": "judging pictures",
    "training": "training",
    "data": "reading pictures",
    "patch": "finding the richest patch",
}

GIGA, MEBI = 1e9, 2**20


def benchmark(
    what: Annotated[What, typer.Argument(help="What to measure.")] = What.ALL,
    model: Annotated[
        str,
        typer.Option(help="A detector's name (random weights), a weight file, folder or hub id."),
    ] = "mfclip",
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write everything as JSON.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures at a time.")] = 24,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads on a CPU; default: torch's choice.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    quick: Annotated[bool, typer.Option("--quick", help="Fewer rounds, for a first look.")] = False,
) -> None:
    """Measure speed on this machine, against its own measured limit.

    Every figure is the median of several rounds after a warm-up, with its quartiles; engines and
    number types take turns in each round. The ceiling is what this machine reaches on one large
    matrix product and one large convolution: "of ceiling" says how near the work comes to that.
    Measure on a machine that does nothing else.
    """
    from mfclip.benchmark.run import PARTS, Settings, measure  # noqa: PLC0415

    settings = Settings(model, batch_size, threads, device=device)
    parts = [part for part in PARTS if what in {part, What.ALL}]
    if json is not None:  # found out before the work, not after
        open_folder(json.parent)
        if json.is_dir():
            raise ConfigError(f"cannot write {json}: it is a folder; name a file in it")
    with _Progress() as progress:
        found = measure(parts, settings.quick() if quick else settings, progress.tell)
    if json is not None:
        with refuse_unwritable(json):
            _write(found, json)
    show(found)


def show(found: Measurements) -> None:
    """Print the ceilings, a table for each part, and what was absent."""
    from rich.console import Console  # noqa: PLC0415

    console = Console()
    if not console.is_terminal:  # a file or a pipe: keep each row on one line
        console.width = 120
    used = found.settings
    console.print(
        f"{used['model']} on {used['device']}, {used['threads']} threads, {used['rounds']} rounds",
        highlight=False,
    )
    for name, ceiling in found.ceilings.items():
        line = f"ceiling of {name}: products {ceiling.product / GIGA:,.0f} GFLOP/s, "
        line += f"convolutions {ceiling.convolution / GIGA:,.0f} GFLOP/s"
        console.print(line, highlight=False)
    for part, rows in found.parts.items():
        console.print(_table(TITLES[part], rows))
    _show_absent(found, console)


def _table(title: str, rows: list[Row]) -> Table:
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    columns = ["", "images/s", "middle half of rounds", "ms a round", "GFLOP/s", "of ceiling"]
    columns.append("peak memory")
    used = [
        place for place in range(len(columns)) if any(_cells(row)[place] != "-" for row in rows)
    ]
    for place in used:
        table.add_column(columns[place], justify="right" if place else "left", no_wrap=place > 0)
    for row in rows:
        cells = _cells(row)
        table.add_row(*(cells[place] for place in used))
    return table


def _cells(row: Row) -> list[str]:
    low, high = row.timing.quartiles
    rate, fraction, memory = row.flops_per_second, row.fraction, row.peak_memory
    return [
        row.name + (" (best batch)" if row.best_batch else ""),
        f"{row.images_per_second:,.1f}",
        f"{row.images / high:,.1f} to {row.images / low:,.1f}",
        f"{row.timing.median * 1e3:,.1f}",
        "-" if rate is None else f"{rate / GIGA:,.0f}",
        "-" if fraction is None else f"{fraction:.0%}",
        "-" if memory is None else f"{memory / MEBI:,.0f} MiB",
    ]


def _show_absent(found: Measurements, console: Console) -> None:
    for line in found.absent:
        console.print(f"not measured: {line}", style="yellow", highlight=False, markup=False)


def _write(found: Measurements, path: Path) -> None:
    from json import dumps  # noqa: PLC0415

    path.write_text(dumps(found.to_json(), indent=1) + "\n", encoding="utf-8")


class _Progress:
    """A line on the standard error that says what is being measured, if that is a terminal."""

    def __enter__(self) -> _Progress:
        from rich.console import Console  # noqa: PLC0415

        self._status = Console(stderr=True).status("starting")
        self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def tell(self, what: str, done: int, total: int) -> None:
        """Show what is being measured."""
        self._status.update(f"{what}: round {done} of {total}")
