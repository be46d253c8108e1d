"""Peak memory and time of `mfclip predict` on films of two minutes, twenty minutes and two hours.

    python benchmarks/video_memory.py --out benchmarks/results/video_memory.json

The films show one of the package's demo photographs, which wanders, five frames a second. The
longer ones are the shortest, repeated without encoding it anew. Each command runs in a process of
its own, whose largest resident memory the operating system tells. Memory counts here; the times
were measured beside whatever else the machine did (`load_before`).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from mfclip.media.video import probe, write_video
from mfclip.runtime.provenance import provenance

FPS = 5
SHORTEST = 120
"""Seconds of the film that the others repeat."""

SIZE = (360, 640)
"""Height and width, pixels."""

REPEATS = {"2 minutes": 1, "20 minutes": 10, "2 hours": 60}

RUNS = (
    ("2 minutes", ("--frames", "32")),
    ("20 minutes", ("--frames", "32")),
    ("2 hours", ("--frames", "32")),
    ("2 minutes", ("--every", "20")),
    ("20 minutes", ("--every", "20")),
    ("20 minutes", ("--every", "5")),
    ("2 minutes", ("--frames", "32", "--annotate", "copy.mp4")),
    ("20 minutes", ("--frames", "32", "--annotate", "copy.mp4")),
)


def main() -> None:
    options = parse()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        films = make_films(Path(name))
        described = {title: describe(path) for title, path in films.items()}
        runs = [measure(title, films[title], words) for title, words in RUNS]
    result = {"load_before": load, "films": described, "runs": runs, **asdict(provenance())}
    text = json.dumps(result, indent=2)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text + "\n", encoding="utf-8")
    print(text)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="JSON file")
    return parser.parse_args()


def make_films(folder: Path) -> dict[str, Path]:
    shortest = folder / "2 minutes.mp4"
    write_video(shortest, wander(SHORTEST * FPS), FPS)
    films = {"2 minutes": shortest}
    for title, count in REPEATS.items():
        if count > 1:
            films[title] = repeat(shortest, folder / f"{title}.mp4", count)
    return films


def wander(count: int) -> Iterator[np.ndarray]:
    """The photograph in front of grey, on a circle."""
    path = files("mfclip").joinpath("assets/demo/photo/collins.jpg")
    with path.open("rb") as file:
        photo = np.asarray(Image.open(file).convert("RGB").resize((300, 300)))
    for number in range(count):
        turn = 2 * np.pi * number / 100
        left, top = round(170 + 120 * np.cos(turn)), round(30 + 25 * np.sin(turn))
        frame = np.full((*SIZE, 3), 110, np.uint8)
        frame[top : top + 300, left : left + 300] = photo
        yield frame


def repeat(source: Path, target: Path, count: int) -> Path:
    """Put the same packets into a file many times, one after the other."""
    with av.open(str(target), "w") as out:
        stream = None
        for turn in range(count):
            with av.open(str(source)) as container:
                track = container.streams.video[0]
                stream = stream or out.add_stream_from_template(track)
                shift = turn * track.duration
                for packet in container.demux(track):
                    if packet.dts is None:
                        continue
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = stream
                    out.mux(packet)
    return target


def describe(film: Path) -> dict[str, Any]:
    info = probe(film)
    return {
        "frames": info.num_frames,
        "seconds": round(info.seconds, 1),
        "size": f"{info.width} x {info.height}",
        "bytes": film.stat().st_size,
    }


def measure(title: str, film: Path, words: tuple[str, ...]) -> dict[str, Any]:
    """Run the command in a process of its own."""
    entry = "from mfclip.cli.app import main; main()"
    output = film.with_suffix(".json")
    arguments = ["predict", str(film), "--device", "cpu", "--json", str(output), *words]
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", entry, *arguments],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=film.parent,
    ) as process:  # fmt: skip
        said = process.stderr.read() if process.stderr else b""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"predict ended with {process.returncode}: {said.decode()}")
    (video,) = json.loads(output.read_text())["videos"]
    return {
        "film": title,
        "options": " ".join(words),
        "frames_judged": video["num_judged"],
        "peak_mib": round(usage.ru_maxrss / 1024, 1),
        "seconds": round(time.perf_counter() - start, 1),
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 1),
    }


if __name__ == "__main__":
    main()
