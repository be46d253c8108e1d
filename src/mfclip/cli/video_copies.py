"""Where ``mfclip predict --annotate`` writes, settled before anything is judged."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import chain, count, islice
from pathlib import Path

from mfclip.cli.output import FILE_ENDINGS, claim_file, claim_folder
from mfclip.errors import ConfigError


class Copies:
    """Names the annotated copy of each video.

    Args:
        target: a file for one video, or a folder, which gets ``NAME-annotated.mp4`` for each.
        names: the files, folders and globs that will be judged.

    Raises:
        ConfigError: there is no video, or several for one file; the target is the video itself, of
            an ending that cannot be written, or in a folder that cannot.
    """

    def __init__(self, target: Path, names: list[str]) -> None:
        from mfclip.report.annotate import ENDINGS  # noqa: PLC0415

        self._target, self._names = target, names
        self._taken: set[Path] = set()
        self._is_file = target.suffix.lower() in FILE_ENDINGS and not target.is_dir()
        if self._is_file:
            claim_file("--annotate", target, sorted(ENDINGS), inputs=self._inputs())
        self._check_inputs()
        if not self._is_file:
            claim_folder("--annotate", target)

    def _inputs(self) -> Iterator[Path]:
        from mfclip.predict.files import find_files  # noqa: PLC0415

        return (path for path in find_files(self._names) if isinstance(path, Path))

    @cached_property
    def _resolved_inputs(self) -> set[Path]:
        """Asked for only where a copy's name is taken already."""
        return {path.resolve() for path in self._inputs()}

    def _check_inputs(self) -> None:
        from mfclip.media.video import is_video_file  # noqa: PLC0415

        videos = list(islice(filter(is_video_file, self._inputs()), 2))
        if not videos:
            raise ConfigError("--annotate copies videos, and there is none among the files named")
        if self._is_file and len(videos) > 1:
            raise ConfigError(
                f"--annotate {self._target} is one file, but several videos were named; name a "
                "folder instead"
            )

    def place(self, video: Path) -> Path:
        """Return the file for the copy of the next video; never one of the inputs."""
        if self._is_file:
            self._taken.add(self._target)
            return self._target
        numbers = chain([""], (f"-{number}" for number in count(2)))
        choices = (self._target / f"{video.stem}-annotated{number}.mp4" for number in numbers)
        chosen = next(
            path
            for path in choices
            if path not in self._taken
            and not (path.exists() and path.resolve() in self._resolved_inputs)
        )
        self._taken.add(chosen)
        return chosen

    def has_written(self, path: Path) -> bool:
        """Tell a copy of this run, which may lie in a folder that is still being searched."""
        return path.resolve() in {copy.resolve() for copy in self._taken}
