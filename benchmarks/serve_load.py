"""Load a server on loopback: throughput, latencies, batches, and lost or wrong answers.

    python benchmarks/serve_load.py --out benchmarks/results/serve_load.json

Starts ``mfclip serve`` and sends the faces and photographs that come with the package, each varied
so that its score tells it from all others, from 1 to 32 clients that ask one after the other. Every
answer is compared with the one to the same picture asked alone.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from mfclip.media.images import read_image
from mfclip.runtime.provenance import provenance

DEMO = Path(__file__).resolve().parents[1] / "src" / "mfclip" / "assets" / "demo"
CLIENTS = (1, 4, 16, 32)
START_SECONDS = 120
ANSWER_SECONDS = 120


@dataclass(frozen=True)
class Server:
    """A running ``mfclip serve``; `folder` is where it may write."""

    url: str
    pid: int
    folder: Path

    def memory(self) -> float:
        """Resident memory of the server and the processes it started, shared pages once, MiB."""
        return sum(map(_memory, self.processes()))

    def processes(self) -> list[int]:
        """Return the numbers of the server and the processes it started, directly or not."""
        parents: dict[int, list[int]] = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # it ended
                parent = int(path.read_text().rpartition(")")[2].split()[1])
                parents.setdefault(parent, []).append(int(path.parent.name))
        found = [self.pid]
        for pid in found:
            found += parents.get(pid, [])
        return found

    def uploads(self) -> list[str]:
        """Return what lies in its private folder."""
        return [path.name for path in self.folder.glob("mfclip-*/*")]


def _memory(pid: int) -> float:
    """Proportional set size of a process, MiB: pages of several processes count in parts."""
    with contextlib.suppress(OSError):
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        return int(re.findall(r"^Pss:\s+(\d+)", rollup, re.MULTILINE)[0]) / 1024
    return 0.0


@contextmanager
def start_server(*options: str) -> Iterator[Server]:
    """Run ``mfclip serve`` on a free port until the block ends."""
    port = 8000 + os.getpid() % 20_000
    with tempfile.TemporaryDirectory() as folder:
        script = Path(sys.executable).with_name("mfclip")
        command = [str(script), "serve", "--port", str(port), *options]
        with subprocess.Popen(command, env={**os.environ, "TMPDIR": folder}) as process:
            try:
                server = Server(f"http://127.0.0.1:{port}", process.pid, Path(folder))
                wait_for(server.url)
                yield server
            finally:
                process.terminate()
                process.wait(30)


def wait_for(url: str) -> None:
    """Wait until a server answers."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        try:
            httpx.get(f"{url}/v1/health", trust_env=False).raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.2)
        else:
            return
    raise TimeoutError("the server does not start")


def vary(paths: Sequence[Path], count: int) -> list[bytes]:
    """Return JPEGs that differ a little from each other."""
    rng = np.random.default_rng(0)
    varied = []
    for number in range(count):
        pixels = read_image(paths[number % len(paths)]).astype(np.int16)
        noise = rng.normal(0, 1 + 6 * rng.random(), pixels.shape)
        image = Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=int(rng.integers(60, 96)))
        varied.append(buffer.getvalue())
    return varied


async def ask(client: httpx.AsyncClient, content: bytes, whole: bool) -> tuple[float, list[float]]:
    """Return the seconds an answer took, and its scores; none for an answer other than 200."""
    begun = time.perf_counter()
    answer = await client.post(
        "/v1/predictions",
        files={"file": ("a.jpg", content)},
        data={"whole": str(whole).lower()},
    )
    seconds = time.perf_counter() - begun
    if answer.status_code != httpx.codes.OK:
        return seconds, []
    return seconds, [p["score"] for p in answer.json()["predictions"]]


async def load(
    url: str, contents: Sequence[bytes], num_clients: int, whole: bool
) -> list[tuple[float, list[float]]]:
    """Let clients share the pictures, each asking one after the other; in the pictures' order."""
    answers: dict[int, tuple[float, list[float]]] = {}
    waiting = iter(enumerate(contents))
    async with httpx.AsyncClient(base_url=url, timeout=ANSWER_SECONDS, trust_env=False) as client:

        async def work() -> None:
            for number, content in waiting:
                answers[number] = await ask(client, content, whole)

        await asyncio.gather(*(work() for _ in range(num_clients)))
    return [answers[number] for number in range(len(contents))]


def batches(url: str) -> tuple[float, float]:
    """Return the number of faces and of forward passes so far."""
    text = httpx.get(f"{url}/metrics", trust_env=False).text
    total, count = (
        float(re.findall(rf"^mfclip_batch_faces_{name} (\S+)", text, re.MULTILINE)[0])
        for name in ("sum", "count")
    )
    return total, count


def measure(
    server: Server, contents: Sequence[bytes], num_clients: int, whole: bool,
    alone: Sequence[list[float]],
) -> dict[str, Any]:  # fmt: skip
    """Load the server once and compare its answers with those to pictures asked alone."""
    before, begun = batches(server.url), time.perf_counter()
    answers = asyncio.run(load(server.url, contents, num_clients, whole))
    seconds, after = time.perf_counter() - begun, batches(server.url)
    taken = np.array([took for took, _ in answers])
    lost = sum(len(found) != len(known) for (_, found), known in zip(answers, alone, strict=True))
    pairs = zip((found for _, found in answers), alone, strict=True)
    apart = [abs(a - b) for found, known in pairs for a, b in zip(found, known, strict=False)]
    return {
        "clients": num_clients,
        "requests": len(contents),
        "distinct_scores": len({score for known in alone for score in known}),
        "lost": lost,
        "largest_difference_of_scores": max(apart),
        "requests_per_second": len(contents) / seconds,
        "p50_ms": 1000 * float(np.quantile(taken, 0.5)),
        "p99_ms": 1000 * float(np.quantile(taken, 0.99)),
        "faces_per_forward": (after[0] - before[0]) / max(1.0, after[1] - before[1]),
        "memory_mib": server.memory(),
    }


def main() -> None:
    """Measure both kinds of pictures and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--requests", type=int, default=200, help="of each kind and number of clients"
    )
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    kinds = {
        "faces of 256 pixels, taken as they are": (sorted(DEMO.glob("fake/*.jpg")), True),
        "photographs of 512 pixels, faces found": (sorted(DEMO.glob("photo/*.jpg")), False),
    }
    results: dict[str, Any] = {}
    with start_server("--engine", arguments.engine, "--queue", "64") as server:
        for kind, (paths, whole) in kinds.items():
            contents = vary(paths, arguments.requests)
            alone = [scores for _, scores in asyncio.run(load(server.url, contents, 1, whole))]
            results[kind] = [measure(server, contents, count, whole, alone) for count in CLIENTS]
        model = httpx.get(f"{server.url}/v1/models", trust_env=False).json()["models"][0]
    found = {**asdict(provenance()), "engine": model["engine"], "results": results}
    found["load_average"] = os.getloadavg()
    arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
