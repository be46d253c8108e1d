"""Picture files to scores, end to end, against the engine's own rate.

    python benchmarks/end_to_end.py --out benchmarks/results/end_to_end.json

JPEG files (copies of the demo faces, 256 x 256) are judged through `Predictor.iter_predict`, with
the face step and with every picture taken whole. In each round the engine alone judges as many
prepared faces, so that both rates come from the same moments. Beside the part that is reached
stands the part that could be reached: reading takes processor time too, and what reading and
engine need together on all cores bounds the rate however well they overlap.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch

from machine.int8 import quantised_engine
from machine.subject import Subject, made_images, open_subject
from machine.timing import pinned_threads, time_ways
from mfclip.errors import MfclipError
from mfclip.predict.faces import DetectedFaces, WholePicture
from mfclip.predict.prediction import Prediction
from mfclip.predict.predictor import Predictor
from mfclip.runtime.provenance import provenance

MODELS = ("mfclip", "mfclip-small")
ENGINES = (("openvino", "fp32"), ("openvino", "bf16"), ("openvino", "int8"))
FINDERS: dict[str, Callable[[], Any]] = {"whole": WholePicture, "detected": DetectedFaces}
BATCH = 32
TARGET = 0.8
READ_ALONE = 64
"""Pictures by which the cost of reading alone is measured."""


def copy_faces(folder: Path, count: int) -> list[Path]:
    """Copies of the real demo faces under `count` names."""
    copies = []
    with as_file(files("mfclip").joinpath("assets/demo/real")) as faces:
        sources = sorted(faces.glob("*.jpg"))
        for number in range(count):
            copies.append(folder / f"{number}.jpg")
            shutil.copyfile(sources[number % len(sources)], copies[-1])
    return copies


def measure(
    subject: Subject, engine: str, precision: str, paths: list[Path], rounds: int
) -> list[dict[str, Any]]:
    """Rates of one engine alone and of files, for each way to find faces."""
    rows = []
    for finder, build in FINDERS.items():
        predictor = open_predictor(subject, engine, precision, build())
        row = compare(predictor, paths[: len(paths) // BATCH * BATCH], rounds)
        name = f"{engine} {precision}"
        rows.append({"model": subject.name, "engine": name, "faces": finder, **row})
        print({key: round(v, 3) if isinstance(v, float) else v for key, v in rows[-1].items()})
    return rows


def open_predictor(subject: Subject, engine: str, precision: str, finder: Any) -> Predictor:
    """Load the weights into an engine; int8 is quantised for its speed only."""
    if precision == "int8":
        return Predictor(quantised_engine(subject.load()), finder=finder)
    return Predictor.load(
        subject.weights, engine=engine, precision=precision, device="cpu", finder=finder
    )


def compare(predictor: Predictor, paths: list[Path], rounds: int) -> dict[str, Any]:
    """Rates, the part of the engine's that is reached, and the part that could be."""
    images = made_images(BATCH, predictor.engine.image_size)
    batches = len(paths) // BATCH
    ways = {
        "engine": lambda: [predictor.engine.judge(images) for _ in range(batches)],
        "files": lambda: judge_all(predictor, paths),
    }
    predictor.engine.judge(images)
    timings = time_ways(ways, rounds=rounds, warm_up=0)
    engine, files_ = timings["engine"], timings["files"]
    reading = reading_seconds(predictor, paths)
    alone = engine.median / len(paths)
    return {
        "engine_images_per_second": 1 / alone,
        "files_images_per_second": len(paths) / files_.median,
        "part_reached": files_.times_faster(engine),
        "part_possible": alone / (alone + reading / torch.get_num_threads()),
        "reading_processor_ms": reading * 1e3,
        "engine_seconds": engine.to_json(),
        "files_seconds": files_.to_json(),
    }


def judge_all(predictor: Predictor, paths: list[Path]) -> None:
    results = list(predictor.iter_predict(paths, batch_size=BATCH))
    wrong = [result for result in results if not isinstance(result, Prediction)]
    if wrong or len(results) != len(paths):
        raise RuntimeError(f"{len(results)} results for {len(paths)} files, {len(wrong)} failures")


def reading_seconds(predictor: Predictor, paths: list[Path]) -> float:
    """Processor seconds that reading one picture takes, on one thread."""
    chosen = paths[:READ_ALONE]
    with pinned_threads(1):
        predictor.reader.read(chosen[0])
        began = time.process_time()
        for path in chosen:
            predictor.reader.read(path)
        return (time.process_time() - began) / len(chosen)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--out", type=Path, help="JSON file")
    options = parser.parse_args()
    load, rows, absent = os.getloadavg()[0], [], []
    with tempfile.TemporaryDirectory() as folder, pinned_threads(options.threads):
        paths = copy_faces(Path(folder), options.pictures)
        for model in options.models:
            with open_subject(model, BATCH) as subject:
                for engine, precision in ENGINES:
                    try:
                        rows += measure(subject, engine, precision, paths, options.rounds)
                    except MfclipError as error:
                        absent.append(f"{model}, {engine} {precision}: {error}")
    result = {
        "command": "python benchmarks/end_to_end.py",
        "pictures": options.pictures,
        "batch": BATCH,
        "rounds": options.rounds,
        "threads": options.threads,
        "target": TARGET,
        "load_before": load,
        **asdict(provenance()),
        "rows": rows,
        "absent": absent,
    }
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
