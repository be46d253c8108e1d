"""Results as JSON, JSON Lines and CSV; at once, or written as they come in."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from mfclip import __version__
from mfclip.errors import ConfigError
from mfclip.predict import schema
from mfclip.predict.prediction import SCHEMA, Failure, Prediction, Skipped
from mfclip.predict.video_prediction import AnyResult, VideoPrediction
from mfclip.runtime.whole_file import lock


def to_json(results: Sequence[AnyResult], model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON form (schema 2), for programs that hold all results in memory.

    Args:
        results: in any order; predictions, videos and errors each keep theirs.
        model: what judged, see `mfclip.predict.predictor.Predictor.describe`.

    Example:
        >>> to_json([Failure("a.jpg", "empty file")], {})["errors"]
        [{'path': 'a.jpg', 'error': 'empty file'}]
    """
    return {
        "schema": SCHEMA,
        "model": dict(model),
        "predictions": [schema.to_json(r) for r in results if isinstance(r, Prediction)],
        "videos": [schema.to_json(r) for r in results if isinstance(r, VideoPrediction)],
        "errors": [schema.to_json(r) for r in results if isinstance(r, Failure)],
        "skipped": [schema.to_json(r) for r in results if isinstance(r, Skipped)],
    }


class JsonResults:
    """Writes the same, one result at a time; only errors and what was skipped are in memory.

    Args:
        file: where to write.
        model: what judged, from `mfclip.predict.predictor.Predictor.describe`.
    """

    def __init__(self, file: TextIO, model: Mapping[str, Any]) -> None:
        self._file = file
        self._errors: list[dict[str, Any]] = []
        self._skipped: list[dict[str, Any]] = []
        self._separators = {"faces": "\n", "videos": "\n"}
        file.write(f'{{"schema": {SCHEMA},\n"model": {_dump(dict(model))},\n"predictions": [')
        self._videos = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115

    def add(self, result: AnyResult) -> None:
        """Write a prediction, or keep a video or an error for the end."""
        if isinstance(result, Failure):
            self._errors.append(schema.to_json(result))
            return
        if isinstance(result, Skipped):
            self._skipped.append(schema.to_json(result))
            return
        is_video = isinstance(result, VideoPrediction)
        kind, file = ("videos", self._videos) if is_video else ("faces", self._file)
        file.write(self._separators[kind] + _dump(schema.to_json(result)))
        self._separators[kind] = ",\n"

    def close(self) -> None:
        """Write videos and errors and end the document; the file stays open."""
        self._file.write('],\n"videos": [')
        with self._videos as videos:
            videos.seek(0)
            shutil.copyfileobj(videos, self._file)
        errors, skipped = (",\n".join(map(_dump, each)) for each in (self._errors, self._skipped))
        self._file.write(f'],\n"errors": [{errors}],\n"skipped": [{skipped}]}}\n')


KIND_LEVELS = ("manipulation", "family", "generator")

ROW_ENDINGS = (".jsonl", ".csv")
"""Of files with one row a result, written as the results come in, that can be gone on with."""

MOST_OF_ONE_INPUT = 2**20
"""Bytes that the CSV rows of one input may take."""

CSV_COLUMNS = (
    *("path", "record", "score", "verdict", "real_below", "fake_from"),
    *KIND_LEVELS,
    *("face_left", "face_top", "face_right", "face_bottom", "num_faces", "width", "height"),
    *("seconds", "num_frames", "spread", "sha256", "warnings", "error", "run"),
)
"""Of the CSV form; a cell is empty where it does not apply. Kinds are an indication, no finding."""


@dataclass(frozen=True, slots=True)
class Run:
    """What judged, and how: results of two runs may stand in one file only if these are equal.

    Attributes:
        model: what judged, from `mfclip.predict.predictor.Predictor.describe`.
        settings: how, e.g. the frames of a video.
    """

    model: Mapping[str, Any]
    settings: Mapping[str, Any]

    @property
    def key(self) -> str:
        """Short hash of everything that a score depends on; the weights' place does not count."""
        facts = self.to_json()
        facts["model"].pop("weights", None)
        text = json.dumps(facts, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """Return the first line of the JSON Lines form, but for its `run`."""
        return {
            "record": "run",
            "schema": SCHEMA,
            "version": __version__,
            "settings": dict(self.settings),
            "model": dict(self.model),
        }


class ResultRows:
    """JSON Lines or CSV with a row a face, video or error, each input's there once it was judged.

    The rows of one input are written together, so a file that was left at any moment lacks only
    inputs, whose results follow when the run goes on. Only the rows of one input are in memory,
    and the names of those that were judged before.

    Args:
        path: ending in one of `ROW_ENDINGS`.
        run: what judges now.
        resume: go on with a file that is there; a torn end is cut off.

    Attributes:
        done: inputs that the file held before, as they were named then.
        num_errors: those of them that could not be judged.

    Raises:
        ConfigError: the file is there and `resume` is not asked for; it was written by another
            run or is no such file; another process is writing it.
    """

    def __init__(self, path: Path, run: Run, *, resume: bool = False) -> None:
        self.done: set[str] = set()
        self.num_errors = 0
        self._path, self._run, self._key = path, run, run.key
        self._is_csv = path.suffix.lower() == ".csv"
        self._waiting: list[AnyResult] = []
        if path.exists() and path.stat().st_size and not resume:
            raise ConfigError(
                f"{path} is there already; --resume goes on with it, and to begin anew name "
                "another file or delete it"
            )
        self._file = path.open("r+b" if path.exists() else "x+b")
        try:
            if lock(self._file.fileno()) is False:
                raise ConfigError(f"{path} is being written by another process; wait for its end")
            self._file.seek(self._read())
            self._file.truncate()
            if not self._file.tell():
                self._write(self._head())
        except BaseException:
            self._file.close()
            raise

    def add(self, result: AnyResult) -> None:
        """Take in a result; it is written once that of another input follows."""
        if self._waiting and self._waiting[0].path != result.path:
            self.flush()
        self._waiting.append(result)

    def flush(self) -> None:
        """Write the rows of the last input, once no more of them can come."""
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            self._write("".join(self._row(result, len(waiting)) for result in waiting))

    def close(self) -> None:
        """End the file; an input whose rows were not flushed may lack faces, and is left out."""
        self._file.close()

    def _write(self, text: str) -> None:
        # names that are no text in UTF-8 keep their bytes in CSV; JSON escapes them
        self._file.write(text.encode("utf-8", "surrogateescape"))
        self._file.flush()

    def _head(self) -> str:
        if self._is_csv:
            return ",".join(CSV_COLUMNS) + "\n"
        head = self._run.to_json()
        return _dump({"record": head.pop("record"), "run": self._key, **head}) + "\n"

    def _row(self, result: AnyResult, num_faces: int) -> str:
        record: dict[str, Any] = {
            "path": result.path,
            "record": _record_of(result),
            "run": self._key,
        }
        if isinstance(result, Prediction):
            record["num_faces"] = num_faces
        if not self._is_csv:
            return _dump({**record, **schema.to_json(result)}) + "\n"
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
        writer.writerow({**record, **_cells(result)})
        return text.getvalue()

    def _read(self) -> int:
        """Note what was judged before; return where the rows of the last whole input end."""
        end = self._read_head()
        path, missing = None, 0
        try:
            for row, finish in (_read_csv if self._is_csv else _read_jsonl)(self._file):
                if row["run"] != self._key:
                    break
                if row["path"] != path or not missing:
                    path, missing = row["path"], int(row.get("num_faces") or 1)
                missing -= 1
                if not missing:
                    end = finish
                    self.done.add(str(path))
                    self.num_errors += row["record"] == "error"
            else:
                return end
        except (ValueError, KeyError, TypeError, csv.Error) as error:
            raise ConfigError(
                f"{self._path} is damaged behind byte {end} ({error}); nothing was changed, mend "
                "it or name another file"
            ) from error
        raise ConfigError(tell_difference(self._path, {}, {}))

    def _read_head(self) -> int:
        """Check that the file is ours and of this run; return where its head ends."""
        line, ours = self._file.readline(), self._head().encode()
        if line == ours:
            return len(line)
        if ours.startswith(line):  # it was left before there was a row
            self._file.seek(0, os.SEEK_END)
            return 0
        try:
            head = {} if self._is_csv else json.loads(line)
            if head["run"] == self._key:  # the weights may lie in another place than before
                return len(line)
            message = tell_difference(self._path, head, self._run.to_json())
        except (ValueError, KeyError, TypeError):
            message = (
                f"{self._path} was not written by mfclip predict; nothing was changed, name "
                "another file"
            )
        raise ConfigError(message)


def tell_difference(
    path: Path | str, then: Mapping[str, Any], now: Mapping[str, Any], *, place: str = "file"
) -> str:
    """Say that a file is another run's, and by what it is told, where the heads are known.

    Args:
        path: of the file, or of the folder that a run fills.
        then: `Run.to_json` of the run that wrote it.
        now: of this one.
        place: the word for `path`.
    """
    names = [name for name in ("schema", "version") if then.get(name) != now.get(name)]
    for group in ("settings", "model"):
        theirs, ours = then.get(group, {}), now.get(group, {})
        names += [n for n in sorted({*theirs, *ours}) if theirs.get(n) != ours.get(n)]
    told = f" ({', '.join(names)})" if names else ""
    return (
        f"{path} holds results of other weights or settings{told}; go on with those, or name "
        f"another {place}"
    )


def _read_jsonl(file: BinaryIO) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield rows up to the first that was cut short."""
    while (line := file.readline()).endswith(b"\n"):
        yield json.loads(line), file.tell()


def _read_csv(file: BinaryIO) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield rows up to the first that was cut short; a row may have more than one line."""
    whole = iter(lambda: line if (line := file.readline()).endswith(b"\n") else b"", b"")
    rows = csv.reader((line.decode("utf-8", "surrogateescape") for line in whole), strict=True)
    end = file.tell()
    try:
        for row in rows:
            end = file.tell()
            yield dict(zip(CSV_COLUMNS, row, strict=True)), end
    except csv.Error:  # ends within a quoted cell: cut short, unless a quote was lost long before
        if file.seek(0, os.SEEK_END) - end > MOST_OF_ONE_INPUT:
            raise


def _record_of(result: AnyResult) -> str:
    if isinstance(result, Failure):
        return "error"
    if isinstance(result, Skipped):
        return "skipped"
    return "video" if isinstance(result, VideoPrediction) else "prediction"


def _cells(result: AnyResult) -> dict[str, Any]:
    """What stands in a CSV row, besides what all kinds of row have."""
    if isinstance(result, Failure):
        return {"error": result.error}
    if isinstance(result, Skipped):
        return {"error": result.reason}
    cells: dict[str, Any] = {
        "score": result.score,
        "verdict": result.verdict,
        "real_below": result.bands.real_below,
        "fake_from": result.bands.fake_from,
        "width": result.width,
        "height": result.height,
        "sha256": result.sha256,
        "warnings": "; ".join(result.warnings),
    }
    if isinstance(result, VideoPrediction):
        return cells | {
            "seconds": round(result.seconds, 3),
            "num_frames": result.num_frames,
            "spread": result.spread,
        }
    if result.verdict == "fake":  # as in the table: for no other verdict is a kind named
        likely = {level: result.likely_kind(level) for level in KIND_LEVELS}
        cells |= {level: kind.name for level, kind in likely.items() if kind}
    sides = asdict(result.face) if result.face else {}
    return cells | {f"face_{side}": value for side, value in sides.items()}


def _dump(value: dict[str, Any]) -> str:
    return json.dumps(value, allow_nan=False)
