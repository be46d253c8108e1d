"""The manifest: one row a picture, the only description of a data set that mfclip reads.

Columns: ``path, label, manipulation, family, generator, split`` and optionally ``group, video_id,
mask_path, source_path, landmarks``.
Paths are relative to the manifest's folder unless absolute. How the faces were cut out of their
pictures lies beside it, in ``framing.json``. Source: protocols, GenFace contract.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mfclip.config import DataSettings
from mfclip.errors import ConfigError, ManifestError, require
from mfclip.labels import LEVELS, Labels, parse_label, parse_level
from mfclip.runtime.whole_file import partial_file, write_whole

SPLITS = ("train", "val", "test")
"""The splits every protocol knows; a manifest may name more, e.g. ``test_unseen``."""

REQUIRED = ("path", *LEVELS, "split")
OPTIONAL = ("group", "video_id")
EXTRA = ("mask_path", "source_path", "landmarks")
"""Columns that are written only where a row has them."""

NUM_LANDMARKS = 5

FRAMING = "framing.json"
"""File beside a manifest that says how its faces were cut."""

PREPARED = "options.json"
"""What `mfclip data prepare` keeps; says the same of sets that are older than `FRAMING`."""


@dataclass(frozen=True, slots=True)
class Framing:
    """How faces were cut out of their pictures; later ones must be cut alike to be judged.

    Attributes:
        margin: how many times wider than the bare face the view is.
        align: whether eyes, nose and mouth were brought to fixed places.
    """

    margin: float
    align: bool

    def __str__(self) -> str:
        """In words, for messages."""
        return f"margin {self.margin:g}, {'aligned' if self.align else 'not aligned'}"


DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
"""What programs write between the columns of what they call CSV; a manifest has commas."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture of one face.

    Attributes:
        path: absolute path of the picture.
        labels: what is known about it.
        split: ``train``, ``val``, ``test`` or another name.
        group: identity or source; samples of one group never straddle splits. Defaults to
            the video, then to the path.
        video_id: the video the frame was taken from; None for a still picture.
        mask: picture of which part was forged, white; None if there is none.
        source: the real picture that a fake was made from, relative to the manifest's root where it
            lies inside; None if unknown.
        landmarks: left and right eye, tip of the nose, left and right corner of the mouth, as seen
            in the picture; x and y as shares of its width and height. None if unknown.
    """

    path: Path
    labels: Labels
    split: str
    group: str
    video_id: str | None = None
    mask: Path | None = None
    source: str | None = None
    landmarks: tuple[tuple[float, float], ...] | None = None

    @property
    def target(self) -> int:
        """1 = fake, 0 = real."""
        return int(self.labels.is_fake)


@dataclass(frozen=True, slots=True)
class Manifest:
    """An ordered collection of samples.

    Attributes:
        samples: rows in file order.
        root: folder that relative paths start from.
        framing: how the faces were cut; None if nothing is known.
    """

    samples: tuple[Sample, ...]
    root: Path
    framing: Framing | None = None

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]

    def where(self, keep: Callable[[Sample], bool]) -> Manifest:
        """Keep the samples for which `keep` is true."""
        return replace(self, samples=tuple(s for s in self.samples if keep(s)))

    def split(self, name: str) -> Manifest:
        """Keep one split.

        Raises:
            ManifestError: no sample is in it; the message lists the splits there are.
        """
        part = self.where(lambda s: s.split == name)
        if not part.samples:
            found = ", ".join(sorted({s.split for s in self.samples})) or "none"
            raise ManifestError(f"no sample is in split '{name}'; splits found: {found}")
        return part

    def counts(self, level: str = "generator") -> Counter[str]:
        """Number of samples for each value of one level; reals are counted as ``real``."""
        return Counter(
            (getattr(s.labels, level) or "unknown") if s.labels.is_fake else "real"
            for s in self.samples
        )

    @property
    def fingerprint(self) -> str:
        """Short hash of all rows; stored beside every result."""
        digest = hashlib.sha256()
        for row in map(self._row, self.samples):
            digest.update("\x1f".join(row.values()).encode())
        return digest.hexdigest()[:16]

    def write(self, path: Path) -> None:
        """Write CSV, JSON lines or Parquet, by the file's ending, whole or not at all.

        What is known of the framing is written beside it.

        Raises:
            ManifestError: another ending, the disk refuses, or the folder holds the manifest of
                faces that were cut in another way.
        """
        writers = {".csv": _write_csv, ".jsonl": _write_jsonl, ".parquet": _write_parquet}
        if path.suffix.lower() not in writers:
            raise ManifestError(
                f"expected a path ending in {', '.join(writers)}, but got {path.name}"
            )
        write = writers[path.suffix.lower()]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if self.framing is not None:
                _write_framing(self.framing, path.parent)
            with partial_file(path) as partial:
                write([self._row(sample) for sample in self.samples], partial)
        except OSError as error:
            raise ManifestError(f"cannot write {path} ({error.strerror or error})") from error

    def _row(self, sample: Sample) -> dict[str, str]:
        labels = sample.labels
        return {
            "path": relative_name(sample.path, self.root),
            "label": "fake" if labels.is_fake else "real",
            "manipulation": labels.manipulation or "",
            "family": labels.family or "",
            "generator": labels.generator or "",
            "split": sample.split,
            "group": sample.group,
            "video_id": sample.video_id or "",
            **self._extra(sample),
        }

    def _extra(self, sample: Sample) -> dict[str, str]:
        """Columns of `EXTRA` that this row has; without any, fingerprints stay what they were."""
        found = {}
        if sample.mask is not None:
            found["mask_path"] = relative_name(sample.mask, self.root)
        if sample.source is not None:
            found["source_path"] = sample.source
        if sample.landmarks is not None:
            found["landmarks"] = write_landmarks(sample.landmarks)
        return found


def read_manifest(path: Path, *, root: Path | None = None) -> Manifest:
    """Read a manifest from CSV, JSON lines or Parquet.

    Args:
        path: file ending in ``.csv``, ``.jsonl`` or ``.parquet``.
        root: folder of relative paths; the manifest's own folder if omitted.

    Raises:
        ManifestError: the file is absent, cannot be read, has no such ending, lacks a column, or a
            row is wrong; the message names the row, counted from 1 without the heading.
    """
    if not path.is_file():
        raise ManifestError(f"no manifest at {path}; expected a .csv, .jsonl or .parquet file")
    base = (root or path.parent).absolute()
    samples = []
    for number, row in enumerate(iter_rows(path), start=1):
        _check_columns(row, path)
        try:
            samples.append(_parse_row(row, base))
        except ManifestError as error:
            raise ManifestError(f"{path}, row {number}: {error}") from None
    if not samples:
        raise ManifestError(f"{path} holds no rows")
    return Manifest(tuple(samples), base, read_framing(path.parent))


def read_framing(folder: Path) -> Framing | None:
    """Return how the faces of a folder's manifests were cut; None if nothing says so.

    Raises:
        ManifestError: the file is damaged.
    """
    for name, keys in ((FRAMING, ("face_margin", "face_align")), (PREPARED, ("margin", "align"))):
        path = folder / name
        if not path.is_file():
            continue
        try:
            content = json.loads(path.read_bytes())
            margin, align = (content[key] for key in keys)
            if align in {True, False} and float(margin) > 0:
                return Framing(float(margin), bool(align))
        except (ValueError, TypeError, KeyError):
            pass
        if name == FRAMING:
            raise ManifestError(
                f'{path} is damaged; expected {{"face_margin": 1.3, "face_align": true}} with how '
                "the faces beside it were cut; mend or remove it"
            )
    return None


def settle_framing(settings: DataSettings, manifest: Manifest) -> DataSettings:
    """Take over how the faces were cut, or stop where the settings say otherwise.

    Weights carry the framing of their training faces, and `Predictor` cuts later faces by it: a
    wrong one makes every later verdict worse and no training loss higher.

    Args:
        settings: their own values stand where the manifest says nothing.
        manifest: of the training faces.

    Raises:
        ConfigError: ``data.face_margin`` or ``data.face_align`` is set to something else.
    """
    known = manifest.framing
    if known is None:
        return settings
    told = {"face_margin": known.margin, "face_align": known.align}
    for name, value in told.items():
        own = getattr(settings, name)
        if name in settings.model_fields_set and own != value:
            raise ConfigError(
                f"data.{name} = {own} contradicts the data: its faces were cut with {known} "
                f"({FRAMING} or {PREPARED} beside the manifest); leave data.{name} out of the "
                "settings, or prepare the faces anew"
            )
    return settings.model_copy(update=told)


def relative_name(path: Path, root: Path) -> str:
    """Return the path below the root with forward slashes, or the whole path for outsiders.

    Example:
        >>> relative_name(Path("set/a/1.jpg"), Path("set"))
        'a/1.jpg'
    """
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def inside_name(path: Path, root: Path) -> str:
    """Return a name for something made of a picture, to be put below any folder.

    The path below the root; of outsiders the whole path below a folder ``outside``.

    Example:
        >>> inside_name(Path("/photos/1.jpg"), Path("/set"))
        'outside/photos/1.jpg'
    """
    if path.is_relative_to(root):
        return path.relative_to(root).as_posix()
    return Path("outside", *path.parts[1:]).as_posix()


def check_files(manifest: Manifest) -> list[Path]:
    """Return the files that the manifest names and the disk does not hold."""
    return [sample.path for sample in manifest if not sample.path.is_file()]


def check_groups(samples: Iterable[Sample]) -> Mapping[str, Sequence[str]]:
    """Return every group that lies in more than one split, with its splits."""
    seen: dict[str, set[str]] = {}
    for sample in samples:
        seen.setdefault(sample.group, set()).add(sample.split)
    return {group: sorted(splits) for group, splits in seen.items() if len(splits) > 1}


def _write_framing(framing: Framing, folder: Path) -> None:
    there = read_framing(folder)
    if there == framing:
        return
    if there is not None:
        raise ManifestError(
            f"{folder} holds the manifest of faces cut with {there}, and these were cut with "
            f"{framing}; write to another folder"
        )
    with write_whole(folder / FRAMING) as file:
        json.dump({"face_margin": framing.margin, "face_align": framing.align}, file)


def iter_rows(
    name: Path | str, opener: Callable[[str], Any] | None = None
) -> Iterator[dict[str, Any]]:
    """Iterate over the rows of a table as they stand there; memory does not grow with their number.

    Args:
        name: file ending in ``.csv``, ``.jsonl`` or ``.parquet``.
        opener: opens it for reading bytes, if it does not lie on this disk.

    Raises:
        ManifestError: another ending, or it is absent or cannot be read.
    """
    ending = Path(name).suffix
    read = _reader(Path(name))
    try:
        with Path(name).open("rb") if opener is None else opener(str(name)) as file:
            yield from read(file)
    except FileNotFoundError:
        message = f"no manifest at {name}; expected a .csv, .jsonl or .parquet file"
        raise ManifestError(message) from None
    except ManifestError as error:
        raise ManifestError(f"{name}, {error}") from None
    except (
        OSError,
        ValueError,
        csv.Error,
    ) as error:
        # Wrong text, JSON and Parquet are all ValueErrors.
        message = f"{name} cannot be read as {ending[1:].upper()} ({error}); write it anew"
        raise ManifestError(message) from error


def _reader(path: Path) -> Callable[[Any], Iterator[dict[str, Any]]]:
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    if path.suffix.lower() not in readers:
        raise ManifestError(f"expected a .csv, .jsonl or .parquet manifest, but got {path.name}")
    return readers[path.suffix.lower()]


# Files of object stores are no `BinaryIO`: they lack some of its names.


def _read_csv(file: Any) -> Iterator[dict[str, Any]]:
    with io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        yield from csv.DictReader(text)


def _read_jsonl(file: Any) -> Iterator[dict[str, Any]]:
    with io.TextIOWrapper(file, encoding="utf-8-sig") as text:
        lines = (json.loads(line) for line in text if line.strip())
        for number, row in enumerate(lines, start=1):
            if not isinstance(row, dict):
                raise ManifestError(f"row {number}: expected a JSON object, but got {row!r}")
            yield row


ROWS_AT_ONCE = 4096
"""Rows of a Parquet file that are in memory together."""


def _read_parquet(file: Any) -> Iterator[dict[str, Any]]:
    parquet = require("pyarrow.parquet", extra="train")
    for batch in parquet.ParquetFile(file).iter_batches(batch_size=ROWS_AT_ONCE):
        yield from batch.to_pylist()


def _check_columns(row: Mapping[str, Any], path: Path) -> None:
    missing = [name for name in REQUIRED if name not in row]
    if missing:
        found = [str(name) for name in row if name is not None]  # None: cells without a heading
        problem = f"lacks the column(s) {', '.join(missing)}"
        if len(found) == 1 and (mark := find_delimiter(found[0])) != ",":
            problem = f"has {DELIMITERS[mark]} between its columns, not commas"
        raise ManifestError(
            f"{path} {problem}; expected {', '.join(REQUIRED)}, found {', '.join(found)}. To make "
            f"a manifest of a table: mfclip data scan table {path} --out manifest.csv"
        )


def find_delimiter(heading: str) -> str:
    """Return what stands between a table's columns: the one of `DELIMITERS` seen most, or a comma.

    Example:
        >>> find_delimiter("path;label"), find_delimiter("path")
        (';', ',')
    """
    return max(DELIMITERS, key=heading.count)


def _parse_row(row: Mapping[str, Any], root: Path) -> Sample:
    text = {name: "" if value is None else str(value) for name, value in row.items() if name}
    is_fake = parse_label(text["label"])
    labels = Labels(
        is_fake,
        parse_level(text["manipulation"]),
        parse_level(text["family"]),
        parse_level(text["generator"]),
    )
    if not text["path"]:
        raise ManifestError("the path is empty")
    if not text["split"]:
        raise ManifestError("the split is empty; expected train, val, test or another name")
    video_id = parse_level(text.get("video_id"))
    path = root / text["path"].replace("\\", "/")
    return Sample(
        path=path,
        labels=labels,
        split=text["split"],
        group=parse_level(text.get("group")) or video_id or text["path"],
        video_id=video_id,
        **parse_extra(text, root),
    )


def parse_extra(text: Mapping[str, str], root: Path) -> dict[str, Any]:
    """Read the columns of `EXTRA` into fields of a sample.

    Raises:
        ManifestError: landmarks that are no five points inside the picture.
    """
    mask = text.get("mask_path", "").replace("\\", "/")
    source = text.get("source_path", "").replace("\\", "/")
    return {
        "mask": root / mask if mask else None,
        "source": source or None,
        "landmarks": parse_landmarks(text.get("landmarks", "")),
    }


def write_landmarks(landmarks: Sequence[tuple[float, float]]) -> str:
    """Write landmarks as a cell of the table.

    Example:
        >>> write_landmarks([(0.5, 0.25), (1.0, 0.0)])
        '0.5000 0.2500 1.0000 0.0000'
    """
    return " ".join(f"{x:.4f} {y:.4f}" for x, y in landmarks)


def parse_landmarks(text: str) -> tuple[tuple[float, float], ...] | None:
    """Read a cell that `write_landmarks` wrote; None if it is empty.

    Raises:
        ManifestError: it holds no five points in or near the picture.
    """
    if not text.strip():
        return None
    try:
        values = [float(word) for word in text.split()]
    except ValueError:
        values = []
    # a little outside is where a face leaves its crop
    if len(values) != 2 * NUM_LANDMARKS or not all(-1 <= value <= 2 for value in values):  # noqa: PLR2004
        raise ManifestError(
            f"expected landmarks as {NUM_LANDMARKS} points, x and y as shares of width and height "
            f"with spaces between them, but got {text!r}"
        )
    return tuple(zip(values[::2], values[1::2], strict=True))


def _columns(rows: Sequence[dict[str, str]]) -> tuple[str, ...]:
    return (*REQUIRED, *OPTIONAL, *(name for name in EXTRA if any(name in row for row in rows)))


def _write_csv(rows: Sequence[dict[str, str]], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _columns(rows))
        writer.writeheader()
        writer.writerows(rows)


def _write_jsonl(rows: Sequence[dict[str, str]], path: Path) -> None:
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text("".join(lines), encoding="utf-8")


def _write_parquet(rows: Sequence[dict[str, str]], path: Path) -> None:
    arrow = require("pyarrow", extra="train")
    parquet = require("pyarrow.parquet", extra="train")
    columns = {name: [row.get(name, "") for row in rows] for name in _columns(rows)}
    parquet.write_table(arrow.table(columns), path)
