"""Judge a video through a process that may crash, hang or be ended, without harm to the server."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from typing import Any

import numpy as np
import torch

from mfclip.engines import Engine
from mfclip.errors import InputError
from mfclip.predict.predictor import Predictor
from mfclip.runtime.isolated import PATIENCE_SECONDS, POLL_SECONDS, CrashError
from mfclip.runtime.pipe import MAX_BYTES, receive, send
from mfclip.serve import video_process


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
        task: ``path``, ``whole``, ``frames``, ``max_pixels``, ``max_seconds``.
        check: called several times a second; what it raises ends the other process.
        progress: told the frames looked at, and how many there will be.

    Raises:
        InputError: the video cannot be judged.
        CrashError: the other process crashed.
    """
    with _process() as line:
        talk = _Talk(line, check)
        talk.say({**task, **_settings(predictor)})
        while True:
            header, arrays = talk.hear()
            match header.get("kind"):
                case "judge":
                    _answer(talk, predictor.engine, arrays)
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


class _Talk:
    """One end of the line to a process.

    Args:
        line: to the process.
        check: called while waiting.
    """

    def __init__(self, line: Connection, check: Callable[[], None]) -> None:
        self._line = line
        self._check = check

    def say(self, header: dict[str, Any], *arrays: np.ndarray) -> None:
        try:
            send(self._line, header, *arrays)
        except OSError as error:
            raise CrashError("the process is gone") from error

    def hear(self) -> tuple[dict[str, Any], list[np.ndarray]]:
        try:
            return receive(self._read)
        except (EOFError, OSError, ValueError, KeyError, TypeError) as error:
            raise CrashError("the process is gone, or speaks nonsense") from error

    def _read(self) -> bytes:
        self._check()
        while not self._line.poll(POLL_SECONDS):
            self._check()
        return self._line.recv_bytes(MAX_BYTES)


@cache
def _starter() -> ForkServerContext:
    """What starts the processes: a process that has imported everything, and no model."""
    starter = multiprocessing.get_context("forkserver")
    starter.set_forkserver_preload([video_process.__name__])
    return starter


def prepare() -> None:
    """Start what starts the processes, so that the first video need not wait for it."""
    _starter()
    forkserver.ensure_running()


@contextmanager
def _process() -> Iterator[Connection]:
    ours, theirs = _starter().Pipe()
    process = _starter().Process(target=video_process.main, args=(theirs,), daemon=True)
    with ours:
        process.start()
        theirs.close()
        try:
            yield ours
        finally:
            process.kill()
            process.join(PATIENCE_SECONDS)
            process.close()


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


def _answer(talk: _Talk, engine: Engine, arrays: list[np.ndarray]) -> None:
    (images,) = arrays
    judged = engine.judge(torch.from_numpy(images))
    found = {
        "logits": judged.logits,
        "features": judged.features,
        "patch_index": judged.patch_index,
    }
    tensors = {name: value.cpu() for name, value in found.items() if value is not None}
    talk.say({"names": list(tensors)}, *(value.numpy() for value in tensors.values()))
