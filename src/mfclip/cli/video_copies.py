"""Where ``mfclip predict --annotate`` writes, settled before anything is judged."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from mfclip.cli.output import open_folder
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
        from mfclip.media.video import VIDEO_SUFFIXES  # noqa: PLC0415
        from mfclip.report.annotate import ENDINGS  # noqa: PLC0415

        self._target = target
        self._taken: set[Path] = set()
        ending = target.suffix.lower()
        self._is_file = ending in ENDINGS and not target.is_dir()
        if ending in VIDEO_SUFFIXES - ENDINGS and not target.is_dir():
            known = ", ".join(sorted(ENDINGS))
            raise ConfigError(f"cannot write {target}: a copy's name ends in one of {known}")
        self._check_inputs(names)
        open_folder(target.parent if self._is_file else target)

    def _check_inputs(self, names: list[str]) -> None:
        from mfclip.predict.files import find_files  # noqa: PLC0415
        from mfclip.predict.mixed import is_video_file  # noqa: PLC0415

        found = (path for path in find_files(names) if isinstance(path, Path))
        videos = list(islice(filter(is_video_file, found), 2))
        if not videos:
            raise ConfigError("--annotate copies videos, and there is none among the files named")
        if self._is_file and len(videos) > 1:
            raise ConfigError(
                f"--annotate {self._target} is one file, but several videos were named; name a "
                "folder instead"
            )
        if self._is_file and self._target.resolve() == videos[0].resolve():
            raise ConfigError(f"--annotate {self._target} is the video itself; choose another name")

    def place(self, video: Path) -> Path:
        """Return the file for the copy of the next video."""
        if self._is_file:
            self._taken.add(self._target)
            return self._target
        numbers = ("", *(f"-{number}" for number in range(2, len(self._taken) + 3)))
        choices = (self._target / f"{video.stem}-annotated{number}.mp4" for number in numbers)
        chosen = next(path for path in choices if path not in self._taken)
        self._taken.add(chosen)
        return chosen

    def has_written(self, path: Path) -> bool:
        """Tell a copy of this run, which may lie in a folder that is still being searched."""
        return path.resolve() in {copy.resolve() for copy in self._taken}
