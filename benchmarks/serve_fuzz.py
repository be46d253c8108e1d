"""Send damaged files and requests to a server on loopback: no 5xx, no hang, memory returns.

    python benchmarks/serve_fuzz.py --out benchmarks/results/serve_fuzz.json

Starts ``mfclip serve`` and sends thousands of mutated pictures of ten formats and hundreds of
mutated videos of seven, from four clients, and lets schemathesis make requests from the OpenAPI
document: the same in each of several rounds, so that memory that grows would show. After each
round come the attacks of `attacks.py`, while an honest picture is sent again and again. A clean
picture is judged before and after: its score must be the same.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
from PIL import Image

import attacks
from mfclip.media.images import read_image
from mfclip.runtime.provenance import provenance
from serve_load import DEMO, Server, start_server

PICTURES = {
    "PNG": {}, "JPEG": {"quality": 85}, "WEBP": {"quality": 80}, "GIF": {}, "TIFF": {},
    "BMP": {}, "PPM": {}, "AVIF": {"quality": 70}, "JPEG progressive": {"progressive": True},
    "TIFF packed": {"compression": "tiff_lzw"},
}  # fmt: skip
VIDEOS = {
    "mp4": "libx264", "mkv": "libx264", "webm": "libvpx", "avi": "mpeg4", "mpg": "mpeg2video",
    "flv": "flv", "ts": "mpeg2video",
}  # fmt: skip
INTERESTING = (0, 1, 0x7F, 0x80, 0xFF)
CLIENTS = 4
ANSWER_SECONDS = 120
SIDE = 96
STALL_SECONDS = 10
"""For which stalled uploads and silent connections are held."""

HONEST = (DEMO / "real" / "hopper.jpg").read_bytes()

REST_SECONDS = 15
"""Finished jobs are forgotten after five; freed memory is handed back within five more."""


def make_pictures() -> dict[str, bytes]:
    """Encode one small face in every format."""
    pixels = read_image(DEMO / "real" / "hopper.jpg")
    face = Image.fromarray(pixels).resize((SIDE, SIDE))
    made = {}
    for name, options in PICTURES.items():
        buffer = io.BytesIO()
        face.save(buffer, name.split()[0], **options)  # type: ignore[arg-type]
        made[name] = buffer.getvalue()
    return made


def make_videos(folder: Path) -> dict[str, bytes]:
    """Encode one second in every container."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 200, SIDE)[None, :, None] + rng.integers(0, 40, (SIDE, SIDE, 3))
    made = {}
    for ending, codec in VIDEOS.items():
        path = folder / f"a.{ending}"
        with av.open(str(path), "w") as container:
            stream: Any = container.add_stream(codec, rate=25)
            stream.width = stream.height = SIDE
            stream.pix_fmt = "yuv420p"
            for shift in range(12):
                image = np.roll(ramp, 3 * shift, 1).clip(0, 255).astype(np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())
        made[ending] = path.read_bytes()
    return made


def mutate(content: bytes, rng: random.Random) -> bytes:
    """Damage a file in one to three ways."""
    damaged = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        if not damaged:
            break
        rng.choice(MUTATIONS)(damaged, rng)
    return bytes(damaged)


def _flip(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 30)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _head(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 6)):
        data[rng.randrange(min(len(data), 200))] = rng.choice(INTERESTING)


def _number(data: bytearray, rng: random.Random) -> None:
    place = rng.randrange(len(data))
    value = rng.choice([0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, rng.randrange(1 << 32)])
    data[place : place + 4] = value.to_bytes(4, rng.choice(["big", "little"]))


def _cut(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data)) :]


def _remove(data: bytearray, rng: random.Random) -> None:
    place = rng.randrange(len(data))
    del data[place : place + rng.randint(1, 400)]


def _repeat(data: bytearray, rng: random.Random) -> None:
    place = rng.randrange(len(data))
    data[place:place] = data[place : place + rng.randint(1, 400)] * rng.randint(1, 5)


def _insert(data: bytearray, rng: random.Random) -> None:
    place = rng.randrange(len(data))
    data[place:place] = rng.randbytes(rng.randint(1, 100))


MUTATIONS: Sequence[Callable[[bytearray, random.Random], None]] = (
    _flip, _head, _number, _cut, _remove, _repeat, _insert,
)  # fmt: skip


def damaged_files(
    seeds: dict[str, bytes], count: int, rng: random.Random
) -> Iterator[tuple[str, bytes]]:
    """Yield mutated files, all formats in turn."""
    names = sorted(seeds)
    for number in range(count):
        name = names[number % len(names)]
        yield name, mutate(seeds[name], rng)


class Tally:
    """What was answered, and the slowest."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.slowest = (0.0, "")
        self.bad: list[str] = []

    def add(self, name: str, outcome: str, seconds: float, answer: str) -> None:
        """Count one answer; keep what must not be."""
        self.outcomes[outcome] += 1
        self.slowest = max(self.slowest, (seconds, f"{name}: {outcome}"))
        if outcome.startswith(("5", "hang")) or "internal" in outcome:
            self.bad.append(f"{name}: {answer[:300]}")

    def to_json(self) -> dict[str, Any]:
        """Return the figures."""
        return {
            "sent": self.outcomes.total(),
            "outcomes": dict(sorted(self.outcomes.items())),
            "slowest_seconds": self.slowest[0],
            "slowest": self.slowest[1],
            "bad": self.bad[:20],
        }


async def send_all(
    url: str, files: Iterator[tuple[str, bytes]], rng: random.Random, tally: Tally
) -> None:
    """Send files from several clients and follow what becomes a job to its end."""
    limits = httpx.Limits(max_connections=CLIENTS)
    async with httpx.AsyncClient(
        base_url=url, timeout=ANSWER_SECONDS, limits=limits, trust_env=False
    ) as client:

        async def work() -> None:
            for name, content in files:
                fields = {"whole": str(rng.random() < 0.8).lower()}  # noqa: PLR2004
                begun = time.perf_counter()
                outcome, answer = await send(client, name, content, fields)
                tally.add(name, outcome, time.perf_counter() - begun, answer)

        await asyncio.gather(*(work() for _ in range(CLIENTS)))


async def send(
    client: httpx.AsyncClient, name: str, content: bytes, fields: dict[str, str]
) -> tuple[str, str]:
    """Return what came of one file: status and code, for a job those of its end."""
    files = {"file": (f"{name}.bin", content)}
    try:
        answer = await client.post("/v1/predictions", files=files, data=fields)
        if answer.status_code != httpx.codes.ACCEPTED:
            code = answer.json().get("code", "")
            return f"{answer.status_code} {code}".strip(), answer.text
        place = answer.headers["location"]
        end = time.monotonic() + ANSWER_SECONDS
        while time.monotonic() < end:
            job = (await client.get(place)).json()
            if job["status"] in {"done", "failed"}:
                await client.delete(place)
                code = (job["error"] or {}).get("code", "")
                return f"job {job['status']} {code}".strip(), json.dumps(job["error"])
            await asyncio.sleep(0.05)
    except httpx.TimeoutException as error:
        return "hang", repr(error)
    return "hang", "the job did not end"


def run_schemathesis(url: str, examples: int, seed: int) -> dict[str, Any]:
    """Let schemathesis make requests from the OpenAPI document; its own checks, but for one.

    A body of random bytes fits the schema of a file and is refused all the same.
    """
    script = Path(sys.executable).with_name("schemathesis")
    command = [
        str(script), "run", f"{url}/openapi.json",
        "--seed", str(seed), "--max-examples", str(examples),
        "--exclude-checks", "positive_data_acceptance", "--request-timeout", "60", "--no-color",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:  # it leaves notes where it runs
        run = subprocess.run(
            command, capture_output=True, text=True, timeout=1800, check=False, cwd=folder
        )
    cases = re.findall(r"(\d+) generated", run.stdout)
    failures = re.findall(r"❌ (\w+ .+): (\d+)", run.stdout)
    return {
        "requests": int(cases[-1]) if cases else 0,
        "failures": {name: int(count) for name, count in failures},
        "exit_status": run.returncode,
    }


def attack(server: Server, count: int) -> dict[str, Any]:
    """Attack the server in each way, and ask for an honest image again and again meanwhile."""
    found = {}
    bodies: dict[str, dict[str, Any]] = {
        f"{count} JPEGs of 20,000 passes": form_of(attacks.many_scans()),
        f"{count} AVIFs of 49 megapixels": form_of(attacks.flat_avif()),
        f"{count} forms of 20,000 fields": {
            "content": attacks.many_fields(), "headers": attacks.FORM,
        },
        f"{count} bodies of JSON nested 100,000 times": {
            "content": attacks.nested_json(), "headers": {"Content-Type": "application/json"},
        },
    }  # fmt: skip
    for name, body in bodies.items():
        with ThreadPoolExecutor(count) as threads:
            sent = [threads.submit(send_attack, server.url, body) for _ in range(count)]
            found[name] = {
                **be_honest(server, lambda sent=sent: not all(one.done() for one in sent)),
                "answers": dict(Counter(one.result() for one in sent)),
            }
    for name, lines in {
        f"{4 * count} uploads that stall": attacks.stalled_uploads(server.url, 4 * count),
        f"{4 * count} uploads of two bytes a second": attacks.dripping_uploads(
            server.url, 4 * count
        ),
        f"{65 * count} silent connections": attacks.silent_connections(server.url, 65 * count),
    }.items():
        end = time.monotonic() + STALL_SECONDS
        with lines:
            found[name] = be_honest(server, lambda end=end: time.monotonic() < end)
    return found


def be_honest(server: Server, goes_on: Callable[[], bool]) -> dict[str, Any]:
    """Send an honest image as long as something goes on, at least once."""
    answers: Counter[str] = Counter()
    slowest = memory = 0.0
    while not answers or goes_on():
        begun = time.perf_counter()
        answers[send_attack(server.url, form_of(HONEST))] += 1
        slowest = max(slowest, time.perf_counter() - begun)
        memory = max(memory, server.memory())
    return {
        "honest images": dict(answers), "slowest_seconds": slowest, "memory_mib": memory,
    }  # fmt: skip


def form_of(content: bytes) -> dict[str, Any]:
    """Return what httpx needs to send one file, whose whole image is to be judged."""
    return {"files": {"file": ("a.jpg", content)}, "data": {"whole": "true"}}


def send_attack(url: str, body: dict[str, Any]) -> str:
    """Return status and code of the answer to one request, or the error instead of one."""
    try:
        answer = httpx.post(
            f"{url}/v1/predictions", **body, timeout=ANSWER_SECONDS, trust_env=False
        )
    except httpx.HTTPError as error:
        return type(error).__name__
    return f"{answer.status_code} {answer.json().get('code', '')}".strip()


def rest(server: Server) -> float:
    """Return the memory, MiB, of a server that had nothing to do for a while."""
    time.sleep(REST_SECONDS)
    return server.memory()


def judge_clean(server: Server) -> float:
    """Return the score of a picture that is whole."""
    content = (DEMO / "real" / "hopper.jpg").read_bytes()
    answer = httpx.post(
        f"{server.url}/v1/predictions",
        files={"file": ("a.jpg", content)}, data={"whole": "true"}, trust_env=False, timeout=60,
    )  # fmt: skip
    score: float = answer.json()["predictions"][0]["score"]
    return score


def main() -> None:
    """Fuzz, and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8, help="of the same kind of work")
    parser.add_argument("--pictures", type=int, default=500, help="a round")
    parser.add_argument("--videos", type=int, default=35, help="a round")
    parser.add_argument("--examples", type=int, default=15, help="of schemathesis, each route")
    parser.add_argument("--attacks", type=int, default=8, help="at once, after each round")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    found: dict[str, Any] = {**asdict(provenance()), **vars(arguments)}
    del found["out"]
    tallies = {"pictures": Tally(), "videos": Tally()}
    made_up, attacked, at_rest, at_work = [], [], [], []
    options = ("--max-frames", "4", "--keep-seconds", "5", "--jobs", "16", "--engine", "torch")
    with tempfile.TemporaryDirectory() as folder, start_server(*options) as server:
        seeds = {"pictures": make_pictures(), "videos": make_videos(Path(folder))}
        clean = judge_clean(server)
        at_rest.append(rest(server))
        for number in range(arguments.rounds):
            for name, tally in tallies.items():
                files = damaged_files(seeds[name], getattr(arguments, name), rng)
                asyncio.run(send_all(server.url, files, rng, tally))
            seed = arguments.seed + number
            made_up.append(run_schemathesis(server.url, arguments.examples, seed))
            attacked.append(attack(server, arguments.attacks))
            at_work.append(server.memory())
            at_rest.append(rest(server))
            print(f"round {number + 1} of {arguments.rounds}: {at_rest[-1]:.0f} MiB at rest")
        found |= {name: tally.to_json() for name, tally in tallies.items()}
        found["schemathesis"] = {
            "requests": sum(run["requests"] for run in made_up),
            "failures": [run["failures"] for run in made_up if run["failures"]],
            "exit_statuses": [run["exit_status"] for run in made_up],
        }
        found["attacks"] = attacked
        found["memory_mib"] = {
            "at rest, before and after each round": at_rest,
            "after each round, before the rest": at_work,
        }
        found["score_of_a_clean_picture"] = [clean, judge_clean(server)]
        found["uploads_left"] = server.uploads()
    found["load_average"] = os.getloadavg()
    arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
