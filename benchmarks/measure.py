"""How fast this machine judges, trains and reads, and how near that comes to its own limit.

    python benchmarks/measure.py                # everything, paper's sizes, random weights
    python benchmarks/measure.py inference --model mfclip-small --batch-size 32 --threads 8
    python benchmarks/measure.py training --out speed.json
    python benchmarks/measure.py --quick        # fewer rounds, for a first look

Every figure is the median of several rounds after a warm-up, with its quartiles; engines and number
types take turns in each round. The ceiling is what this machine reaches on one large matrix product
and one large convolution: "of ceiling" says how near the work comes to that. Measure on a machine
that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from machine.record import Measurements, Row
from machine.run import PARTS, Settings, measure
from mfclip.cli.output import open_folder
from mfclip.errors import ConfigError, MfclipError

TITLES = {
    "inference": "judging images",
    "training": "training",
    "data": "reading images",
    "patch": "finding the richest patch",
}

GIGA, MEBI = 1e9, 2**20


def show(found: Measurements, console: Console) -> None:
    """Print the ceilings, a table for each part, and what was not measured."""
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
        console.print(table_of(TITLES[part], rows))
    for line in found.absent:
        console.print(f"not measured: {line}", style="yellow", highlight=False, markup=False)


def table_of(title: str, rows: list[Row]) -> Table:
    """Make the table of one part; columns that would be empty are left out."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    headings = ["", "images/s", "middle half of rounds", "ms a round", "GFLOP/s", "of ceiling"]
    columns = zip([*headings, "peak memory"], *map(cells_of, rows), strict=True)
    used = [column for column in columns if set(column[1:]) != {"-"}]
    for place, column in enumerate(used):
        table.add_column(column[0], justify="right" if place else "left", no_wrap=place > 0)
    for cells in zip(*(column[1:] for column in used), strict=True):
        table.add_row(*cells)
    return table


def cells_of(row: Row) -> list[str]:
    """Write one row's figures; "-" where there is none."""
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


def main(words: Sequence[str] | None = None) -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=[*PARTS, "all"], default="all")
    parser.add_argument("--model", default="mfclip", help="detector (random weights), or weights")
    parser.add_argument("--out", type=Path, help="also write everything as JSON")
    parser.add_argument("--batch-size", type=int, default=24)
    parser.add_argument("--threads", type=int, help="on a CPU; default: torch's choice")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, for a first look")
    chosen = parser.parse_args(words)
    settings = Settings(chosen.model, chosen.batch_size, chosen.threads, device=chosen.device)
    if chosen.out is not None:  # found out before the work, not after
        open_folder(chosen.out.parent)
        if chosen.out.is_dir():
            raise ConfigError(f"cannot write {chosen.out}: it is a folder; name a file in it")
    parts = [part for part in PARTS if chosen.what in {part, "all"}]
    with Console(stderr=True).status("starting") as status:
        found = measure(
            parts,
            settings.quick() if chosen.quick else settings,
            lambda what, done, total: status.update(f"{what}: round {done} of {total}"),
        )
    if chosen.out is not None:
        text = json.dumps(found.to_json(), indent=1) + "\n"
        chosen.out.write_text(text, encoding="utf-8")
    console = Console()
    if not console.is_terminal:  # a file or a pipe: keep each row on one line
        console.width = 120
    show(found, console)


if __name__ == "__main__":
    try:
        main()
    except MfclipError as error:
        sys.exit(f"error: {error}")
