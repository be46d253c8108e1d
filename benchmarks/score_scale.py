"""What `mfclip score` costs beyond the scoring itself: processor time on Ray, and memory.

    python benchmarks/score_scale.py overhead --rows 10000 --out score_overhead.json
    python benchmarks/score_scale.py memory --rows 1000000 --out score_memory.json

`overhead` scores the package's demo pictures, repeated, with the embedded weights: in one process
and by Ray's workers on this machine, each with one thread. `processor_seconds_scoring` is what the
scoring processes took for their parts, as each notes it in its file: it leaves out starting Ray
and loading the weights, which are in `seconds` less the scoring. `processor_seconds_command` is
that of the command's own process, which with `local` also scores.

`memory` scores one picture, repeated, with a tiny detector of random weights: the scores mean
nothing, and the rows are as many as they would be with a real one. It compares the largest resident
memory for a tenth of the rows with that for all.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pyarrow import parquet

from machine.subject import random_detector
from mfclip.card import Card
from mfclip.config import build_config
from mfclip.detectors import save_detector
from mfclip.runtime.provenance import provenance
from mfclip.scale.place import Place
from mfclip.scale.run import read_status
from mfclip.scale.table import read_facts

TINY: dict[str, Any] = {
    "image_size": 32,
    "embed_dim": 16,
    "num_heads": 2,
    "mlp_ratio": 2.0,
    "image": {"widths": (4, 8), "convs": (1, 1), "depth": 1},
    "noise": {"patch_size": 16, "widths": (4,), "convs": (1,), "depth": 1},
    "text": {"depth": 1},
    "spa": {"batch_size": 8},
}


def main() -> None:
    options = parse()
    load = os.getloadavg()[0]
    measure = {"overhead": measure_overhead, "memory": measure_memory}[options.what]
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), options.rows, options.rows_per_part)
    result = {"load_before": load, **found, **asdict(provenance())}
    text = json.dumps(result, indent=2)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text + "\n", encoding="utf-8")
    print(text)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["overhead", "memory"])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--rows-per-part", type=int, default=1_000)
    parser.add_argument("--out", type=Path, help="JSON file")
    return parser.parse_args()


def measure_overhead(folder: Path, rows: int, rows_per_part: int) -> dict[str, Any]:
    demo = Path(str(files("mfclip").joinpath("assets/demo")))
    pictures = sorted(demo.glob("*/*.jpg"))
    manifest = write_manifest(folder / "faces.csv", pictures, rows)
    words = ["--engine", "torch", "--rows-per-part", str(rows_per_part)]
    runs = {
        "local": run(manifest, folder / "local", words),
        "ray": run(manifest, folder / "ray", [*words, "--executor", "ray"]),
    }
    scoring = {name: each["processor_seconds_scoring"] for name, each in runs.items()}
    return {
        "what": "demo pictures repeated, embedded weights",
        "rows": rows,
        "runs": runs,
        "equal_scores": scores(folder / "local") == scores(folder / "ray"),
        "ray_over_local_scoring": round(scoring["ray"] / scoring["local"], 4),
    }


def measure_memory(folder: Path, rows: int, rows_per_part: int) -> dict[str, Any]:
    settings = build_config({"model": TINY}).model
    weights = folder / "tiny.safetensors"
    save_detector(random_detector(settings), settings, weights, card=Card(resize=36))
    picture = folder / "picture.png"
    pixels = np.random.default_rng(0).integers(0, 256, (36, 36, 3), np.uint8)
    Image.fromarray(pixels).save(picture)
    words = ["--engine", "torch", "--weights", str(weights), "--rows-per-part", str(rows_per_part)]
    runs = []
    for count in (rows // 10, rows):
        manifest = write_manifest(folder / f"{count}.csv", [picture], count)
        runs.append({"rows": count, **run(manifest, folder / f"out-{count}", words)})
    return {
        "what": "one picture repeated, a tiny detector of random weights",
        "rows": rows,
        "runs": runs,
        "peak_of_all_over_peak_of_a_tenth": round(runs[1]["peak_mib"] / runs[0]["peak_mib"], 4),
    }


def write_manifest(path: Path, pictures: list[Path], rows: int) -> Path:
    with path.open("w", encoding="utf-8") as file:
        file.write("path\n")
        for number in range(rows):
            file.write(f"{pictures[number % len(pictures)]}\n")
    return path


def run(manifest: Path, out: Path, words: list[str]) -> dict[str, Any]:
    """Run the command in a process of its own, and say what it took."""
    command = [sys.executable, "-m", "mfclip", "score", str(manifest), "--out", str(out), *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    began = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, code, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(code)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    place = Place(str(out))
    status = read_status(place)
    facts = []
    for part in status.parts:
        with place.open(part.name) as file:
            facts.append(read_facts(file))
    return {
        "parts": len(status.parts),
        "errors": status.num_errors,
        "seconds": round(time.perf_counter() - began, 1),
        "processor_seconds_scoring": round(sum(each["processor_seconds"] for each in facts), 2),
        "processor_seconds_command": round(used.ru_utime + used.ru_stime, 2),
        "peak_mib": round(used.ru_maxrss / 1024, 1),
    }


def scores(out: Path) -> list[float | None]:
    place = Place(str(out))
    return [
        score
        for part in read_status(place).parts
        for score in parquet.read_table(Path(str(place)) / part.name)["score"].to_pylist()
    ]


if __name__ == "__main__":
    main()
