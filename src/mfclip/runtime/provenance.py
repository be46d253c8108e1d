"""Where a result comes from: versions, commit and machine, stored beside every result."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Provenance:
    """The software and the machine that made a result.

    Attributes:
        mfclip: version of this package.
        torch: version, with its build suffix (``+cpu``, ``+cu128``).
        numpy: version.
        python: version.
        commit: git commit of the sources, ``-changed`` appended where tracked files differ from it;
            None where the package does not run from its own repository.
        processor: name of the CPU.
        cores: logical cores this process may use.
        accelerators: names of the visible GPUs.
        system: operating system and architecture.
    """

    mfclip: str
    torch: str
    numpy: str
    python: str
    commit: str | None
    processor: str
    cores: int
    accelerators: tuple[str, ...]
    system: str


def provenance() -> Provenance:
    """Collect versions, commit and machine; names no host, user or path.

    Example:
        >>> provenance().python.split(".")[0]
        '3'
    """
    import numpy as np  # noqa: PLC0415
    import torch  # noqa: PLC0415

    gpus = range(torch.cuda.device_count())
    return Provenance(
        mfclip=metadata.version("mfclip"),
        torch=torch.__version__,
        numpy=np.__version__,
        python=platform.python_version(),
        commit=commit(Path(__file__)),
        processor=_processor(),
        cores=usable_cores(),
        accelerators=tuple(torch.cuda.get_device_name(i) for i in gpus),
        system=f"{platform.system()} {platform.machine()}",
    )


def commit(file: Path) -> str | None:
    """Return the git commit that `file` belongs to.

    A package installed inside somebody else's repository is not tracked there, and gives None.
    """
    if _git(file.parent, "ls-files", "--error-unmatch", file.name) is None:
        return None
    head = _git(file.parent, "rev-parse", "HEAD")
    changes = _git(file.parent, "status", "--porcelain", "--untracked-files=no")
    return f"{head}-changed" if head and changes else head


def _git(folder: Path, *arguments: str) -> str | None:
    # without the option `status` rewrites the index, and leaves it locked when the time is up
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Count the logical cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
