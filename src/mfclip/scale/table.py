"""The result of a part as a Parquet file: a row a face, a face of a video, a video or an error."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mfclip.errors import require
from mfclip.labels import parse_label
from mfclip.predict.prediction import Failure, Prediction, Skipped
from mfclip.predict.video_prediction import AnyResult
from mfclip.scale.part import Part, Row

TYPES: Mapping[str, str] = {
    "part": "int64",
    "row": "int64",
    "record": "string",
    "path": "string",
    "label": "string",
    "manipulation": "string",
    "family": "string",
    "generator": "string",
    "split": "string",
    "group": "string",
    "video_id": "string",
    "target": "int8",
    "score": "float64",
    "verdict": "string",
    "face": "int32",
    "left": "int32",
    "top": "int32",
    "right": "int32",
    "bottom": "int32",
    "num_frames": "int32",
    "warnings": "string",
    "error": "string",
}
"""Column to Arrow's name of its type; a cell that does not apply is null. ``docs/scale.md``
explains them."""

FACTS = b"mfclip"
"""Key under which a file's metadata holds what `read_facts` gives."""


def records(
    part: Part, number: int, row: Row, face: int, found: AnyResult
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of one result.

    Args:
        part: that is scored.
        number: of the input within the part, from 0.
        row: the input.
        face: number of a picture's face, from 1, the largest first.
        found: what was said.
    """
    known = {name: value or None for name, value in row._asdict().items() if name != "error"}
    if row.label:
        known["target"] = int(parse_label(row.label))
    place = {"part": part.number, "row": part.start + number}
    for cells in _cells(face, found):
        both = {**place, **known, **cells}
        yield tuple(both.get(name) for name in TYPES)


def _cells(face: int, found: AnyResult) -> Iterator[dict[str, Any]]:
    if isinstance(found, Failure):
        yield {"record": "error", "error": found.error}
        return
    if isinstance(found, Skipped):
        yield {"record": "skipped", "error": found.reason}
        return
    said = {
        "score": found.score,
        "verdict": found.verdict,
        "warnings": "; ".join(found.warnings) or None,
    }
    if isinstance(found, Prediction):
        box = found.face
        sides = ("left", "top", "right", "bottom")
        yield {
            "record": "image",
            **said,
            "face": face,
            **({side: getattr(box, side) for side in sides} if box else {}),
        }
        return
    for track in found.tracks:
        yield {
            "record": "track",
            "score": track.score,
            "verdict": found.bands.verdict(track.score),
            "face": track.number,
            "num_frames": len(track.frames),
        }
    yield {
        "record": "video",
        **said,
        "face": found.suspect.number,
        "num_frames": found.num_judged,
    }


def schema() -> Any:
    """Return the columns for Arrow."""
    arrow = require("pyarrow", extra="cluster")
    return arrow.schema([(name, arrow.type_for_alias(kind)) for name, kind in TYPES.items()])


def to_parquet(rows: Iterable[tuple[Any, ...]], facts: Mapping[str, Any]) -> bytes:
    """Write rows as a Parquet file.

    Args:
        rows: cells in the order of `TYPES`.
        facts: kept in the file's metadata, for `read_facts`.
    """
    arrow = require("pyarrow", extra="cluster")
    parquet = require("pyarrow.parquet", extra="cluster")
    kinds = schema()
    columns = list(zip(*rows, strict=True)) or [()] * len(TYPES)
    arrays = [
        arrow.array([_text(cell) for cell in cells], kind.type)
        for cells, kind in zip(columns, kinds, strict=True)
    ]
    table = arrow.Table.from_arrays(arrays, schema=kinds)
    content = io.BytesIO()
    parquet.write_table(
        table.replace_schema_metadata({FACTS: json.dumps(facts)}), content, compression="zstd"
    )
    return content.getvalue()


def _text(cell: Any) -> Any:
    """Names that are no text in UTF-8 keep a readable form; Arrow refuses them."""
    return cell.encode("utf-8", "backslashreplace").decode() if isinstance(cell, str) else cell


def read_facts(file: Any) -> dict[str, Any]:
    """Return what `to_parquet` kept in a file's metadata; its rows are not read."""
    parquet = require("pyarrow.parquet", extra="cluster")
    facts: dict[str, Any] = json.loads(parquet.read_metadata(file).metadata[FACTS])
    return facts
