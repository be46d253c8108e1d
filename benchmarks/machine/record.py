"""What was measured, as records, and their JSON form (schema 1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from machine.roofline import Ceiling, Flops, fraction_reached, to_json
from machine.timing import Timing
from mfclip.runtime.provenance import provenance

SCHEMA = 1
"""Version of the JSON form. It rises when a key changes its meaning or goes; new keys may come."""


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that was timed.

    Attributes:
        name: what it is, short.
        images: pictures that one round worked through.
        timing: seconds of the rounds.
        flops: of one round; None where no arithmetic is meant.
        precision: number type that its ceiling is of; None without one.
        ceiling: of that type; None where it was not measured.
        peak_memory: bytes; see `machine.memory.peak_memory`.
        best_batch: whether this row's batch was the fastest of a search.
    """

    name: str
    images: int
    timing: Timing
    flops: Flops | None = None
    precision: str | None = None
    ceiling: Ceiling | None = None
    peak_memory: int | None = None
    best_batch: bool = False

    @property
    def images_per_second(self) -> float:
        """Rate of the median round."""
        return self.images / self.timing.median

    @property
    def flops_per_second(self) -> float | None:
        """Operations a second of the median round."""
        return self.flops.total / self.timing.median if self.flops else None

    @property
    def fraction(self) -> float | None:
        """Part of what the ceilings of this machine allow."""
        if self.flops is None or self.ceiling is None:
            return None
        return fraction_reached(self.flops, self.timing.median, self.ceiling)

    def to_json(self) -> dict[str, Any]:
        """Return the record as it stands in the JSON form."""
        return {
            "name": self.name,
            "images": self.images,
            "seconds": self.timing.to_json(),
            "images_per_second": self.images_per_second,
            "precision": self.precision,
            "flops": asdict(self.flops) if self.flops else None,
            "flops_per_second": self.flops_per_second,
            "fraction_of_ceiling": self.fraction,
            "peak_memory_bytes": self.peak_memory,
            "best_batch": self.best_batch,
        }


@dataclass(frozen=True, slots=True)
class Measurements:
    """All rows of one run.

    Attributes:
        settings: what was asked for: model, batch size, threads, device, rounds.
        ceilings: by number type; empty if they were not measured.
        parts: ``inference``, ``training``, ``data``, ``patch`` to their rows.
        absent: what could not be measured here, and why.
    """

    settings: Mapping[str, Any]
    ceilings: Mapping[str, Ceiling]
    parts: Mapping[str, list[Row]]
    absent: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the whole JSON form, machine and versions included."""
        return {
            "schema": SCHEMA,
            **asdict(provenance()),
            "settings": dict(self.settings),
            "ceilings_flops_per_second": to_json(self.ceilings),
            **{part: [row.to_json() for row in rows] for part, rows in self.parts.items()},
            "absent": self.absent,
        }
