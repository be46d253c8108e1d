"""Score a source into a place: what is there already is not scored again; status and join."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mfclip.errors import ConfigError, ManifestError, require
from mfclip.report.results import Run, tell_difference
from mfclip.runtime.whole_file import partial_file
from mfclip.scale.loop import Limits, Pool, Report, run_parts
from mfclip.scale.part import FailedPart, Part, PartResult
from mfclip.scale.place import Place, persist
from mfclip.scale.source import Source
from mfclip.scale.table import TYPES, read_facts, schema

JOB, PLAN, FAILED = "job.json", "parts.jsonl", "failed.jsonl"

READERS = 16
"""Files whose metadata is read at the same time."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A part as `PLAN` lists it.

    Attributes:
        number: of the part.
        start: its first row.
        num_rows: inputs in it.
        name: of its file.
    """

    number: int
    start: int
    num_rows: int
    name: str


@dataclass(frozen=True, slots=True)
class Status:
    """How far a run is.

    Attributes:
        source: what is scored, as it was named.
        parts: of the plan.
        done: names of those that are there.
        num_errors: inputs without a score in them.
        seconds: of work in them, of all workers together.
        failed: parts that the last run gave up and that are not there.
        stray: files of parts that are not of the plan.
    """

    source: str
    parts: tuple[Planned, ...]
    done: frozenset[str]
    num_errors: int
    seconds: float
    failed: tuple[FailedPart, ...] = ()
    stray: tuple[str, ...] = ()

    @property
    def missing(self) -> list[Planned]:
        """Parts that are not there."""
        return [part for part in self.parts if part.name not in self.done]

    @property
    def num_rows(self) -> int:
        """Inputs of all parts."""
        return sum(part.num_rows for part in self.parts)

    @property
    def rows_done(self) -> int:
        """Inputs of the parts that are there."""
        return sum(part.num_rows for part in self.parts if part.name in self.done)


@dataclass(slots=True)
class Scoring:
    """A run that is ready to begin.

    Attributes:
        place: where results go.
        plan: all parts.
        missing: numbers of those that this run scores.
        failed: what it gave up so far.
    """

    place: Place
    source: Source
    run: Run
    plan: tuple[Planned, ...]
    missing: list[int]
    failed: list[FailedPart] = field(default_factory=list)

    @property
    def num_rows(self) -> int:
        """Inputs that this run scores."""
        return sum(self.plan[number].num_rows for number in self.missing)

    def score(self, pool: Pool, limits: Limits, report: Report) -> None:
        """Score what is missing; arguments as `run_parts` takes them.

        Raises:
            ConfigError: as `run_parts`.
            GivenUpError: as `run_parts`.
            ManifestError: the source changed since it was planned.
        """
        self.place.remove(FAILED)

        def note(what: PartResult | FailedPart | str) -> None:
            if isinstance(what, FailedPart):
                self.failed.append(what)
                lines = "".join(json.dumps(asdict(each)) + "\n" for each in self.failed)
                self._note_failures(lines)
            report(what)

        if self.missing:
            run_parts(pool, self.run, self._parts(), limits, note)

    def _note_failures(self, lines: str) -> None:
        with suppress(OSError):  # a full disk may be why; they are reported all the same
            self.place.write(FAILED, lines.encode())

    def _parts(self) -> Iterator[Part]:
        wanted = iter(self.missing)
        number = next(wanted, None)
        for part in self.source.parts():
            if number is None:
                return
            if part.number != number:
                continue
            if part.name(self.run.key) != self.plan[number].name:
                break
            yield part
            number = next(wanted, None)
        if number is not None:
            raise ManifestError(
                f"part {number} is another than when this run began: the source was changed "
                "meanwhile; run the command again"
            )


def begin(
    source: Source, named: str, place: Place, run: Run, *, limit_parts: int | None = None
) -> Scoring:
    """Plan a run, and find out what of it is there.

    The source is read once from beginning to end, so that what is wrong with it is told before
    anything is scored.

    Args:
        source: what is scored.
        named: as the user named it.
        place: where results go.
        run: what scores.
        limit_parts: score at most so many parts now.

    Raises:
        ConfigError: the place holds results of other weights or settings, or is no place for them.
        ManifestError: the source cannot be read, or is empty.
        OSError: the place cannot be written.
    """
    _refuse_others(place, run)
    plan = tuple(
        Planned(part.number, part.start, part.num_rows, part.name(run.key))
        for part in source.parts()
    )
    if not plan:
        raise ManifestError(f"{named} holds nothing to score")
    head = {"key": run.key, "input": named, **run.to_json()}
    persist(lambda: place.write(JOB, (json.dumps(head, indent=1) + "\n").encode()))
    lines = "".join(json.dumps(asdict(part)) + "\n" for part in plan)
    persist(lambda: place.write(PLAN, lines.encode()))
    there = place.names()
    missing = [part.number for part in plan if part.name not in there]
    return Scoring(place, source, run, plan, missing[:limit_parts])


def _refuse_others(place: Place, run: Run) -> None:
    content = place.read(JOB)
    if content is None:
        return
    try:
        head = json.loads(content)
        if head["key"] == run.key:
            return
    except (ValueError, KeyError, TypeError):
        raise ConfigError(
            f"{place} holds a {JOB} that mfclip did not write; name another folder"
        ) from None
    raise ConfigError(tell_difference(str(place), head, run.to_json(), place="folder"))


def read_status(place: Place) -> Status:
    """Find out how far a run is, from what lies in its place.

    Raises:
        ConfigError: no run was begun there.
    """
    head, lines = place.read(JOB), place.read(PLAN)
    if head is None or lines is None:
        raise ConfigError(f"no scores at {place}; expected what 'mfclip score' wrote to --out")
    parts = tuple(Planned(**json.loads(line)) for line in lines.splitlines())
    there = place.names()
    planned = {part.name for part in parts}
    done = planned & there
    with ThreadPoolExecutor(READERS) as pool:
        facts = list(pool.map(lambda name: _facts_of(place, name), sorted(done)))
    failed = (FailedPart(**json.loads(line)) for line in (place.read(FAILED) or b"").splitlines())
    names = {part.number: part.name for part in parts}
    return Status(
        source=json.loads(head)["input"],
        parts=parts,
        done=frozenset(done),
        num_errors=sum(each["errors"] for each in facts),
        seconds=sum(each["seconds"] for each in facts),
        failed=tuple(each for each in failed if names.get(each.number) not in done),
        stray=tuple(sorted(n for n in there - planned if n.startswith("part-"))),
    )


def _facts_of(place: Place, name: str) -> dict[str, Any]:
    try:
        with place.open(name) as file:
            return read_facts(file)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{place}/{name} is damaged ({error}); delete it, and score again"
        ) from error


def join(place: Place, out: Path, *, progress: Callable[[int, int], None] | None = None) -> Status:
    """Write all parts as one table, in the order of the source.

    Args:
        place: of a run that is complete.
        out: ending in ``.parquet`` or ``.csv``; written whole or not at all.
        progress: told the parts written and all parts.

    Raises:
        ConfigError: a part is not there, or holds other rows than planned.
        OSError: `out` cannot be written.
    """
    status = read_status(place)
    if missing := status.missing:
        first = missing[0]
        raise ConfigError(
            f"{place} lacks {len(missing)} of {len(status.parts)} parts, the first with rows "
            f"{first.start} to {first.start + first.num_rows - 1}; 'mfclip score' with the same "
            "options makes them"
        )
    write = _join_csv if out.suffix.lower() == ".csv" else _join_parquet
    with partial_file(out) as partial:
        write(_tables(place, status, progress), partial)
    return status


def _tables(
    place: Place, status: Status, progress: Callable[[int, int], None] | None
) -> Iterator[Any]:
    parquet = require("pyarrow.parquet", extra="cluster")
    for number, part in enumerate(status.parts):
        with place.open(part.name) as file:
            table = parquet.read_table(file)
        rows = set(table["row"].to_pylist())
        if rows != set(range(part.start, part.start + part.num_rows)):
            raise ConfigError(
                f"{place}/{part.name} holds other rows than {part.start} to "
                f"{part.start + part.num_rows - 1}; delete it, and score again"
            )
        yield table.replace_schema_metadata(None)
        if progress is not None:
            progress(number + 1, len(status.parts))


def _join_parquet(tables: Iterator[Any], path: Path) -> None:
    parquet = require("pyarrow.parquet", extra="cluster")
    with parquet.ParquetWriter(path, schema(), compression="zstd") as writer:
        for table in tables:
            writer.write_table(table)


def _join_csv(tables: Iterator[Any], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(TYPES)
        for table in tables:
            columns = (table[name].to_pylist() for name in TYPES)
            writer.writerows(zip(*columns, strict=True))
