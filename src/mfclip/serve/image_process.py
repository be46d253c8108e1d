"""A process that reads images and cuts out their faces; `mfclip.serve.workers` starts and ends it.

Images come from strangers: what goes wrong while one is decoded or searched ends this process and
nothing else, and of its pixels only the faces and a small copy reach the server. It has no model.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mfclip.errors import InputError
from mfclip.media.images import EncodedImage
from mfclip.predict.face_reader import FaceReader
from mfclip.predict.faces import WholePicture
from mfclip.runtime.isolated import limit_process
from mfclip.runtime.pipe import receive, send


def main(line: Connection, reader: FaceReader, memory: int) -> None:
    """Read one image after another until the other end closes: the life of the process.

    Args:
        line: to the server.
        reader: cuts out the faces.
        memory: bytes that one image may take.
    """
    limit_process(memory)
    torch.set_num_threads(1)  # there are as many processes as cores
    readers = {False: reader, True: replace(reader, finder=WholePicture(check=True))}
    send(line, {"ready": True})
    while True:
        try:
            task, _ = receive(line.recv_bytes)
        except EOFError:
            return
        try:
            header, arrays = read(readers[task["whole"]], task)
        except InputError as error:
            header, arrays = {"error": str(error)}, []
        send(line, header, *arrays)


def read(reader: FaceReader, task: dict[str, Any]) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Read one image.

    Args:
        reader: cuts out the faces.
        task: ``path``, ``max_pixels``, ``most_work`` before this is left to another time,
            ``preview`` for whether a small copy of the image is wanted.

    Returns:
        Either ``too_much`` alone, or ``faces``, their pixels, and the small copy if it is wanted:
        once, for all faces share it.

    Raises:
        InputError: it cannot be read, or there is no face in it.
    """
    encoded = EncodedImage(Path(task["path"]), max_pixels=task["max_pixels"])
    if task["most_work"] is not None and encoded.work > task["most_work"]:
        return {"too_much": True}, []
    image = encoded.decode()
    entries = [asdict(face) for face in reader.cut(image, preview=task["preview"])]
    arrays = [np.stack([entry.pop("pixels") for entry in entries])]
    previews = [entry.pop("preview") for entry in entries]
    if task["preview"]:
        arrays.append(previews[0])
    return {"faces": entries}, arrays
