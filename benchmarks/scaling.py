"""Time and memory against the number of pictures: 10^2, 10^3, 10^4, with --full also 10^5.

    python benchmarks/scaling.py --full --out benchmarks/results/scaling.json

Each count is judged in a process of its own, through `Predictor.iter_predict` (every picture taken
whole) and through the loader that evaluation scores with (up to 10^4: it is PyTorch's time); the
files are copies of two demo faces, named again and again. Given are the seconds, the processor's
milliseconds a picture, which other work on the machine hardly changes, and the largest memory of
the process once its first batch was judged. Linear means that the time a picture stays what it is;
flat that the memory does.
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
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch

from end_to_end import copy_faces
from machine.memory import process_peak, reset_process_peak
from mfclip.data.dataset import FaceDataset
from mfclip.data.loader import scoring_loader
from mfclip.data.manifest import Manifest, Sample
from mfclip.detectors import load_detector
from mfclip.evaluate.score import evaluating, fake_scores
from mfclip.labels import Labels
from mfclip.predict.faces import WholePicture
from mfclip.predict.predictor import Predictor
from mfclip.runtime.provenance import provenance

COUNTS, LONGEST = (100, 1_000, 10_000), 100_000
FILES = 200
"""Distinct names, so that nothing can be kept by name."""

WAYS = ("predict", "score")
BATCH = 64


def predict(paths: list[Path], count: int, engine: str) -> Iterator[int]:
    """Judge through the predictor; yields the pictures done."""
    name, _, precision = engine.partition(" ")
    predictor = Predictor.load(engine=name, precision=precision or "fp32", finder=WholePicture())
    results = predictor.iter_predict(islice(cycle(paths), count), batch_size=BATCH)
    for done, _ in enumerate(results, start=1):
        yield done


def score(paths: list[Path], count: int, engine: str) -> Iterator[int]:
    """Score through the loader of evaluation with PyTorch; yields the pictures done."""
    del engine
    detector = load_detector()[0].to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    samples = (Sample(path, Labels(False), "test", "") for path in islice(cycle(paths), count))
    dataset = FaceDataset(Manifest(tuple(samples), paths[0].parent), resize=256, image_size=224)
    done = 0
    with evaluating(detector), torch.inference_mode():
        for batch in scoring_loader(dataset, BATCH):
            done += len(fake_scores(detector, batch.images))
            yield done


def measure_here(way: str, folder: Path, count: int, engine: str) -> dict[str, Any]:
    """Judge `count` pictures in this process."""
    paths = sorted(folder.glob("*.jpg"))
    ways = {"predict": predict, "score": score}
    progress = ways[way](paths, count, engine)
    next(progress)  # the first batch: what is loaded and prepared once does not count
    known, began, used = reset_process_peak(), time.perf_counter(), time.process_time()
    for _ in progress:
        pass
    seconds, used = time.perf_counter() - began, time.process_time() - used
    return {
        "way": way,
        "pictures": count,
        "seconds": seconds,
        "ms_per_picture": 1e3 * seconds / (count - BATCH),
        "processor_ms_per_picture": 1e3 * used / (count - BATCH),
        "peak_mib": (process_peak() or 0) / 2**20 if known else None,
    }


def measure_apart(way: str, folder: str, count: int, engine: str) -> dict[str, Any]:
    """Do that in a process of its own."""
    arguments = [__file__, "--one", way, "--folder", folder, "--count", str(count)]
    done = subprocess.run(
        [sys.executable, *arguments, "--engine", engine],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def growth(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Compare the largest count of each way with its smallest but one."""
    found = {}
    for way in dict.fromkeys(row["way"] for row in rows):
        own = [row for row in rows if row["way"] == way]
        few, many = own[min(1, len(own) - 1)], own[-1]
        found[way] = {
            "pictures": [few["pictures"], many["pictures"]],
            "time_per_picture_ratio": many["processor_ms_per_picture"]
            / few["processor_ms_per_picture"],
            "memory_ratio": many["peak_mib"] / few["peak_mib"] if few["peak_mib"] else None,
        }
    return found


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="also 100,000 pictures")
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS)
    parser.add_argument("--engine", default="auto", help='auto, torch, onnx, "openvino bf16"...')
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = parse()
    if options.one:
        print(json.dumps(measure_here(options.one, options.folder, options.count, options.engine)))
        return
    counts = [*options.counts, *([LONGEST] if options.full else [])]
    load, rows = os.getloadavg()[0], []
    with tempfile.TemporaryDirectory() as folder:
        copy_faces(Path(folder), FILES)
        for count in counts:
            for way in options.ways if count < LONGEST else WAYS[:1]:
                rows.append(measure_apart(way, folder, count, options.engine))
                print(rows[-1], flush=True)
    result = {
        "command": f"python benchmarks/scaling.py{' --full' if options.full else ''} "
        f"--ways {' '.join(options.ways)} --engine {options.engine!r}",
        "counts": counts,
        "batch": BATCH,
        "engine": options.engine,
        "threads": torch.get_num_threads(),
        "load_before": load,
        **asdict(provenance()),
        "rows": rows,
        "growth": growth(rows),
    }
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
