"""A process of our own that does dangerous work under limits of time and memory, and can be ended.

What strangers send is decoded by large libraries. In a thread, work that takes too long cannot be
stopped, and memory that it takes is taken from everybody. A process can be ended, and what goes
wrong in it ends nothing else.

The process is a fresh interpreter (not a fork, which would copy locks that other threads hold, and
not `multiprocessing`'s, which would run the caller's script again). It talks through one socket, in
the messages of `mfclip.runtime.pipe`, and ends by itself when the other end closes.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from mfclip.runtime.pipe import MAX_PART_BYTES, receive, send

PATIENCE_SECONDS = 5.0
"""For a process that was ended to go."""

POLL_SECONDS = 0.2
"""How soon it is noticed that an answer is no longer wanted."""

Message = tuple[dict[str, Any], list[np.ndarray]]


class CrashError(Exception):
    """The other process exited unexpectedly."""


class TimeLimitError(Exception):
    """The other process took too long and was ended."""


def can_isolate() -> bool:
    """Whether this system can start such processes (POSIX, with an interpreter to start)."""
    return os.name == "posix" and bool(sys.executable)


class IsolatedProcess:
    """A process that answers requests one at a time.

    Args:
        module: run as ``python -m``; calls `answer_requests`.
        memory: bytes that it may take beyond what it needs to start.
    """

    def __init__(self, module: str, *, memory: int) -> None:
        ours, theirs = Pipe()
        number = theirs.fileno()
        # -P: a numpy.py in the folder where the command was started must not be imported
        command = [sys.executable, "-P", "-m", module, str(number), str(memory)]
        try:
            self._process = subprocess.Popen(
                command,
                pass_fds=[number],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=_environment(),
                start_new_session=True,  # Ctrl+C in a terminal is for us, and we end it
            )
        finally:
            theirs.close()
        self._line = ours

    def ask(
        self,
        header: dict[str, Any],
        arrays: Sequence[np.ndarray] = (),
        *,
        seconds: float,
        check: Callable[[], None] = lambda: None,
    ) -> Message:
        """Send a request and wait for the answer; after any error the process has been ended.

        Args:
            header: anything that JSON can say.
            arrays: that go with it.
            seconds: after which the process is ended.
            check: called several times a second; what it raises ends the process.

        Raises:
            TimeLimitError: it took too long.
            CrashError: it exited, or sent something else than a message.
        """
        end = time.monotonic() + seconds

        def read() -> bytes:
            while not self._line.poll(min(POLL_SECONDS, max(0.0, end - time.monotonic()))):
                check()
                if time.monotonic() >= end:
                    raise TimeLimitError(f"it took longer than {seconds:g} seconds")
            return self._line.recv_bytes(MAX_PART_BYTES)

        try:
            send(self._line, header, *arrays)
            return receive(read)
        except BaseException as error:
            self.end()
            self._line.close()  # here only: another thread may not close what this one waits on
            if isinstance(error, EOFError | OSError | ValueError | KeyError | TypeError):
                raise CrashError("the process exited unexpectedly") from error
            raise

    def end(self) -> None:
        """End the process at once; may be called from any thread, and twice."""
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE_SECONDS)


def answer_requests(answer: Callable[[dict[str, Any], list[np.ndarray]], Message]) -> None:
    """Answer one request after another until the other end closes: the life of the process."""
    number, memory = int(sys.argv[1]), int(sys.argv[2])
    limit_process(memory)
    with Connection(number) as line:
        while True:
            try:
                request = receive(line.recv_bytes)
            except EOFError:
                return
            header, arrays = answer(*request)
            send(line, header, *arrays)


def limit_process(memory: int) -> None:
    """Bound what this process takes from now on, and let it write no files.

    Args:
        memory: bytes of private memory beyond what it holds already.
    """
    import resource  # noqa: PLC0415  absent on Windows

    limit = memory + _private_memory()
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _private_memory() -> int:
    """Bytes that count against `RLIMIT_DATA` now; 0 where the system does not say."""
    status = Path("/proc/self/status")
    found = re.search(r"VmData:\s*(\d+) kB", status.read_text()) if status.is_file() else None
    return 1024 * int(found[1]) if found else 0


def _environment() -> dict[str, str]:
    """Let the process find this package, and use one thread for numpy: each has its own memory."""
    root = Path(__file__).resolve().parents[2]
    places = [os.environ.get("PYTHONPATH", "")]
    if root.name not in {"site-packages", "dist-packages"}:
        places.insert(0, str(root))
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**os.environ, **single, "PYTHONPATH": os.pathsep.join(filter(None, places))}
