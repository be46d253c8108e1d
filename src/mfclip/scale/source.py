"""What is scored: a manifest, a folder, or shards, read as parts of bounded size.

Nothing here holds more than one part, however many there are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from mfclip.data.manifest import iter_rows
from mfclip.data.shards import INDEX, open_place, read_index
from mfclip.errors import ConfigError, ManifestError
from mfclip.labels import parse_label
from mfclip.predict.files import find_files
from mfclip.predict.prediction import Failure
from mfclip.scale.part import Part, Row, digest_rows
from mfclip.scale.place import Place, is_address, open_store

Kind: TypeAlias = Literal["manifest", "folder", "shards"]

TABLE_ENDINGS = (".csv", ".jsonl", ".parquet")


@runtime_checkable
class Source(Protocol):
    """What is scored.

    Attributes:
        kind: of source.
        root: where relative paths of rows start; a folder or an address.
    """

    @property
    def kind(self) -> Kind:
        """See `Source`."""
        ...

    @property
    def root(self) -> str:
        """See `Source`."""
        ...

    def parts(self) -> Iterator[Part]:
        """Read the parts in their order, from the beginning each time."""
        ...


def open_source(name: str, *, rows_per_part: int, root: Path | None = None) -> Source:
    """Tell what a name stands for.

    Args:
        name: a manifest, a folder of pictures and videos, or a folder of shards, which holds
            ``shards.json``; each a path or an address.
        rows_per_part: of a manifest or folder; a shard is a part.
        root: where a manifest's relative paths start; None for its own folder.

    Raises:
        ConfigError: there is no such thing, or it is none of these.
    """
    if name.lower().endswith(TABLE_ENDINGS):
        return ManifestSource(name, rows_per_part, str(root.absolute()) if root else _folder(name))
    if root is not None:
        raise ConfigError(f"--root is for manifests, and {name} is none")
    if INDEX in Place(name).names():
        return ShardSource(name)
    if is_address(name) or Path(name).is_dir():
        return FolderSource(name, rows_per_part)
    raise ConfigError(
        f"expected a manifest (.csv, .jsonl, .parquet), a folder, or a folder of shards with "
        f"{INDEX}, but got {name}"
    )


def _folder(name: str) -> str:
    return name.rpartition("/")[0] if is_address(name) else str(Path(name).absolute().parent)


@dataclass(frozen=True, slots=True)
class ManifestSource:
    """The rows of a table. Only ``path`` is needed; labels and the rest are handed on.

    Attributes:
        name: path or address of a CSV, JSON Lines or Parquet file.
        rows_per_part: the last part may have fewer.
        root: see `Source`.
        kind: see `Source`.
    """

    name: str
    rows_per_part: int
    root: str
    kind: Kind = "manifest"

    def parts(self) -> Iterator[Part]:
        """Read the table.

        Raises:
            ManifestError: it is absent, cannot be read, has no column ``path``, or a row has no
                path or an unknown label.
        """
        rows = enumerate(iter_rows(self.name, open_place), 1)
        return split((self._row(number, row) for number, row in rows), self.rows_per_part)

    def _row(self, number: int, cells: Mapping[str, Any]) -> Row:
        known = {
            name: "" if cells.get(name) is None else str(cells[name]) for name in Row._fields[:-1]
        }
        try:
            if "path" not in cells:
                found = ", ".join(str(name) for name in cells if name is not None)
                raise ManifestError(f"expected a column 'path', but found {found}")
            if not known["path"]:
                raise ManifestError("the path is empty")
            if known["label"]:
                parse_label(known["label"])
        except ManifestError as error:
            raise ManifestError(f"{self.name}, row {number}: {error}") from None
        return Row(**known)


@dataclass(frozen=True, slots=True)
class FolderSource:
    """The files of a folder and those below it, in alphabetical order.

    Attributes:
        root: the folder; paths of rows are relative to it.
        rows_per_part: the last part may have fewer.
        kind: see `Source`.
    """

    root: str
    rows_per_part: int
    kind: Kind = "folder"

    def parts(self) -> Iterator[Part]:
        """Walk through the folder; its files' contents are not looked at."""
        files = self._remote() if is_address(self.root) else self._local()
        return split(files, self.rows_per_part)

    def _local(self) -> Iterator[Row]:
        root = Path(self.root).absolute()
        for found in find_files([str(root)]):
            path = Path(str(found.path)) if isinstance(found, Failure) else found
            name = path.relative_to(root).as_posix()
            yield Row(name, error=found.error if isinstance(found, Failure) else "")

    def _remote(self) -> Iterator[Row]:
        store, root = open_store(self.root)
        for folder, folders, files in store.walk(root):
            folders.sort()  # fsspec goes on in this order
            for name in sorted(files):
                path = f"{folder}/{name}".removeprefix(f"{root}/")
                if not any(part.startswith(".") for part in path.split("/")):
                    yield Row(path)


@dataclass(frozen=True, slots=True)
class ShardSource:
    """Tar files that `mfclip data pack` wrote; each is a part.

    Attributes:
        root: folder or address that holds them.
        kind: see `Source`.
    """

    root: str
    kind: Kind = "shards"

    def parts(self) -> Iterator[Part]:
        """Read the list of shards; they themselves are read by who scores them.

        Raises:
            ManifestError: the list is damaged, or a shard that it names is absent.
        """
        index = read_index(self.root.rstrip("/"), open_place)
        start = 0
        for number, (name, count) in enumerate(zip(index.names, index.counts, strict=True)):
            address = f"{self.root.rstrip('/')}/{name}"
            text = f"{name} {count} {index.fingerprint} {_version(address)}"
            digest = hashlib.sha256(text.encode()).hexdigest()
            yield Part(number, start, count, digest, shard=address)
            start += count


def _version(address: str) -> str:
    """What tells one content of a file from another without reading it: its size, and its ETag."""
    try:
        if not is_address(address):
            return str(Path(address).stat().st_size)
        store, path = open_store(address)
        facts = store.info(path)
    except FileNotFoundError:
        raise ManifestError(
            f"{address}: no such shard, though {INDEX} names it; write the shards anew"
        ) from None
    return f"{facts['size']} {facts.get('ETag', '')}"


def split(rows: Iterable[Row], rows_per_part: int) -> Iterator[Part]:
    """Cut rows into parts.

    Example:
        >>> [part.num_rows for part in split(map(Row, "abcde"), 2)]
        [2, 2, 1]
    """
    left = iter(rows)
    number = 0
    while some := tuple(islice(left, rows_per_part)):
        start = number * rows_per_part
        yield Part(number, start, len(some), digest_rows(some), some)
        number += 1
