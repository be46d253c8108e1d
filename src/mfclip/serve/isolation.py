"""Processes that read what strangers send: they may crash, hang or be ended without any harm."""

from __future__ import annotations

import math
import multiprocessing
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from multiprocessing.context import ForkServerContext
from typing import Any

import numpy as np
import torch

from mfclip.engines import Engine
from mfclip.errors import InputError
from mfclip.predict.predictor import Predictor
from mfclip.runtime.isolated import (
    PATIENCE_SECONDS,
    POLL_SECONDS,
    CrashError,
    TimeLimitError,
)
from mfclip.runtime.pipe import MAX_PART_BYTES, receive, send
from mfclip.serve import image_process, video_process


@dataclass(frozen=True, slots=True)
class JudgedVideo:
    """What the other process found.

    Attributes:
        video: its entry of the JSON form.
        frames: index of a judged frame -> JPEG.
        report: the page on it, HTML.
    """

    video: dict[str, Any]
    frames: Mapping[int, bytes]
    report: str


def judge_isolated(
    predictor: Predictor,
    task: Mapping[str, Any],
    *,
    check: Callable[[], None],
    progress: Callable[[int, int], None],
) -> JudgedVideo:
    """Judge a video: another process reads it and finds the faces, which are judged here.

    Args:
        predictor: its engine, card and bands are used.
        task: ``path``, ``whole``, ``frames``, ``max_pixels``, ``max_seconds``; ``name`` and
            ``language`` for the report.
        check: called several times a second; what it raises ends the other process.
        progress: told the frames looked at, and how many there will be.

    Raises:
        InputError: the video cannot be judged.
        CrashError: the other process crashed.
    """
    worker = Worker(video_process.main)
    try:
        worker.say({**task, **_settings(predictor)})
        while True:
            header, arrays = worker.hear(check)
            match header.get("kind"):
                case "judge":
                    _answer(worker, predictor.engine, arrays)
                case "progress":
                    progress(int(header["done"]), int(header["total"]))
                case "refused":
                    raise InputError(str(header["error"]))
                case "done":
                    jpegs = (array.tobytes() for array in arrays)
                    frames = dict(zip(header["judged"], jpegs, strict=False))
                    return JudgedVideo(header["video"], frames, header["report"])
                case _:
                    raise CrashError(f"an unknown message: {header}")
    finally:
        worker.end()


class Worker:
    """A process that works for this one, and the line to it.

    Args:
        target: what it runs, given its end of the line and `arguments`.
        arguments: are pickled.
    """

    def __init__(self, target: Callable[..., None], *arguments: object) -> None:
        self._line, theirs = _starter().Pipe()
        self._process = _starter().Process(target=target, args=(theirs, *arguments), daemon=True)
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid or 0

    def say(self, header: dict[str, Any], *arrays: np.ndarray) -> None:
        """Send a message.

        Raises:
            CrashError: the process is gone.
        """
        try:
            send(self._line, header, *arrays)
        except OSError as error:
            raise CrashError("the process exited unexpectedly") from error

    def hear(
        self, check: Callable[[], None], *, seconds: float = math.inf
    ) -> tuple[dict[str, Any], list[np.ndarray]]:
        """Wait for a message.

        Args:
            check: called several times a second; what it raises ends the waiting.
            seconds: how long it may take.

        Raises:
            TimeLimitError: it took longer.
            CrashError: the process is gone, or sent something else than a message.
        """
        end = time.monotonic() + seconds

        def read() -> bytes:
            wait()
            return self._line.recv_bytes(MAX_PART_BYTES)

        def wait() -> None:
            check()
            while not self._line.poll(POLL_SECONDS):
                check()
                if time.monotonic() > end:
                    raise TimeLimitError(f"it took longer than {seconds:g} seconds")

        wait()
        try:
            return receive(read)
        except (EOFError, OSError, ValueError, KeyError, TypeError) as error:
            raise CrashError("the process exited unexpectedly") from error

    def kill(self) -> None:
        """End the process at once; may be called from any thread, while another one hears."""
        self._process.kill()

    def end(self) -> None:
        """End the process and forget it."""
        self._process.kill()
        self._process.join(PATIENCE_SECONDS)
        self._process.close()
        self._line.close()


@cache
def _starter() -> ForkServerContext:
    """What starts the processes: a process that has imported everything, and no model."""
    starter = multiprocessing.get_context("forkserver")
    starter.set_forkserver_preload([image_process.__name__, video_process.__name__])
    return starter


def _settings(predictor: Predictor) -> dict[str, Any]:
    engine, facts = predictor.engine, predictor.engine.facts
    about = {
        "name": engine.name,
        "precision": engine.precision,
        "image_size": facts.image_size,
        "patch_size": facts.patch_size,
        "prompts": facts.prompts.to_json() if facts.prompts else None,
    }
    return {"card": predictor.card.to_json(), "threshold": predictor.threshold, "engine": about}


def _answer(worker: Worker, engine: Engine, arrays: list[np.ndarray]) -> None:
    (images,) = arrays
    judged = engine.judge(torch.from_numpy(images))
    found = {
        "logits": judged.logits,
        "features": judged.features,
        "patch_index": judged.patch_index,
    }
    tensors = {name: value.cpu() for name, value in found.items() if value is not None}
    worker.say({"names": list(tensors)}, *(value.numpy() for value in tensors.values()))
