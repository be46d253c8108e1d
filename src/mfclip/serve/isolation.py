"""Judge a video through a process that may crash, hang or be ended, without harm to the server."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from mfclip.engines import Engine
from mfclip.errors import InputError
from mfclip.predict.predictor import Predictor
from mfclip.serve.pipe import receive, send

MODULE = "mfclip.serve.video_process"

POLL_MILLISECONDS = 200
"""How soon it is noticed that a result is no longer wanted."""

PATIENCE_SECONDS = 5
"""For a process that was ended to go."""


class CrashError(Exception):
    """The other process went without a word."""


@dataclass(frozen=True, slots=True)
class JudgedVideo:
    """What the other process found.

    Attributes:
        video: its entry of the JSON form.
        frames: index of a judged frame -> JPEG.
    """

    video: dict[str, Any]
    frames: Mapping[int, bytes]


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
    with _process() as process:
        talk = _Talk(process, check)
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
                    return JudgedVideo(header["video"], frames)
                case _:
                    raise CrashError(f"an unknown message: {header}")


class _Talk:
    """One end of the pipes to a process.

    Args:
        process: with pipes for its input and output.
        check: called while waiting.
    """

    def __init__(self, process: subprocess.Popen[bytes], check: Callable[[], None]) -> None:
        self._process = process
        self._check = check
        assert process.stdin is not None  # both were asked for
        assert process.stdout is not None
        self._input, self._output = process.stdin, process.stdout
        self._poll = select.poll()
        self._poll.register(self._output, select.POLLIN | select.POLLHUP)

    def say(self, header: dict[str, Any], *arrays: np.ndarray) -> None:
        try:
            send(self._input, header, *arrays)  # type: ignore[arg-type]
        except OSError as error:
            raise CrashError("the process is gone") from error

    def hear(self) -> tuple[dict[str, Any], list[np.ndarray]]:
        try:
            return receive(self._read)
        except (ValueError, KeyError, TypeError) as error:
            raise CrashError("a malformed message") from error

    def _read(self, size: int) -> bytes:
        content = bytearray()
        while len(content) < size:
            self._check()
            if not self._poll.poll(POLL_MILLISECONDS):
                continue
            chunk = os.read(self._output.fileno(), min(size - len(content), 1 << 20))
            if not chunk:
                raise CrashError("the process ended")
            content += chunk
        return bytes(content)


@contextmanager
def _process() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", MODULE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "MFCLIP_API_KEY": ""},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(PATIENCE_SECONDS)
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()


def _settings(predictor: Predictor) -> dict[str, Any]:
    engine, facts = predictor.engine, predictor.engine.facts
    about = {
        "name": engine.name,
        "precision": engine.precision,
        "image_size": facts.image_size,
        "patch_size": facts.patch_size,
        "prompts": facts.prompts.to_json() if facts.prompts else None,
    }
    return {"card": predictor.card, "bands": asdict(predictor.bands), "engine": about}


def _answer(talk: _Talk, engine: Engine, arrays: list[np.ndarray]) -> None:
    (images,) = arrays
    judged = engine.judge(torch.from_numpy(images.copy()))
    found = {
        "logits": judged.logits,
        "features": judged.features,
        "patch_index": judged.patch_index,
    }
    tensors = {name: value.cpu() for name, value in found.items() if value is not None}
    talk.say({"names": list(tensors)}, *(value.numpy() for value in tensors.values()))
