"""One cell: train once, test on many, and write down everything the figures rest on."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mfclip.card import Card
from mfclip.config import EvaluateSettings, RunConfig, dump_toml
from mfclip.data.dataset import FaceDataset
from mfclip.data.manifest import Manifest
from mfclip.detectors import describe_name, load_detector
from mfclip.evaluate.report import Evaluation, evaluate_scores
from mfclip.evaluate.score import score_dataset
from mfclip.evaluate.scores import Scores, Unit, read_scores
from mfclip.experiment.cells import Cell, Trial, train_manifest, trial_manifest
from mfclip.experiment.damage import DamagedFaces
from mfclip.experiment.plan import Experiment
from mfclip.experiment.protocols import plain_name
from mfclip.experiment.store import RESULT, SCHEMA, read_json, write_json
from mfclip.runtime.device import find_device
from mfclip.runtime.provenance import provenance
from mfclip.runtime.whole_file import scratch_folder, write_whole
from mfclip.train.log import PLAIN_EVERY
from mfclip.train.loop import LAST, train
from mfclip.weights import BEST

Notify = Callable[[str], None]
"""Told what is being done, one line each."""

MANIFEST = "manifest.csv"
TRAINING = "training"
REUSED = "reused.json"
SCORES = "scores.csv"


def run_cell(
    experiment: Experiment,
    cell: Cell,
    folder: Path,
    *,
    device: str,
    notify: Notify,
    reuse: Sequence[Path] = (),
) -> None:
    """Train and test a cell, going on from what its folder already holds.

    Writes ``config.toml``, ``manifest.csv`` (what trained), ``training/``, one folder a test with
    ``scores.csv`` and ``metrics-*.json``, and ``result.json`` last.

    Args:
        experiment: holds the cell.
        cell: what is run.
        folder: of the cell; made if absent.
        device: ``auto``, ``cpu`` or ``cuda``.
        notify: told what is being done.
        reuse: folders of experiments whose finished cells need not be trained again, see
            `find_trained`.

    Raises:
        MfclipError: whatever training and scoring raise.
    """
    if (folder / RESULT).exists():  # stopped just before it was moved
        return
    config = experiment.config(cell, folder / MANIFEST)
    part = train_manifest(experiment.manifest, cell)
    part.write(folder / MANIFEST)
    _write_config(config, folder / "config.toml")
    reused = _copy_trained(config, part, folder, reuse)
    if reused:
        notify(f"same training as {reused}, which is reused")
    else:
        train(config, folder / TRAINING, resume=True, device=device)
    detector, card = load_detector(folder / TRAINING / BEST)
    detector.to(find_device(device))
    tests = []
    for number, trial in enumerate(cell.tests, start=1):
        notify(f"test {number} of {len(cell.tests)}: {trial.name}")
        tell = _tell_every(PLAIN_EVERY, notify)
        tests.append(_test(experiment, cell, trial, detector, card, folder, tell))
    facts = {**_facts(cell, config, detector, card, part), "trained_in": reused}
    write_json(folder / RESULT, {**facts, "tests": tests})
    (folder / TRAINING / LAST).unlink(missing_ok=True)  # three times the weights, of no more use


def find_trained(config: RunConfig, part: Manifest, reuse: Sequence[Path]) -> Path | None:
    """Find a finished cell with the same settings, seed and training data.

    The paper's tables share rows: "CE" of Table IX is "NE + IE" of Table VI, and so on.

    Args:
        config: settings of the cell that is to be trained.
        part: its training and validation samples.
        reuse: folders of other experiments.

    Raises:
        InputError: a result there is damaged.
    """
    for root in reuse:
        for path in sorted(root.glob(f"cells/*/{RESULT}")):
            result = read_json(path)
            same = (result["config_fingerprint"], result["manifest"])
            if same == (config.fingerprint, part.fingerprint):
                return path.parent
    return None


def trial_dataset(manifest: Manifest, trial: Trial, *, resize: int, image_size: int) -> FaceDataset:
    """Open the pictures of a test, damaged if the test says so.

    Args:
        manifest: the test's samples, from `mfclip.experiment.cells.trial_manifest`.
        trial: the test.
        resize: side in pixels of the square before the crop.
        image_size: side in pixels of the detector's input.
    """
    if trial.perturbation is None:
        return FaceDataset(manifest, resize=resize, image_size=image_size)
    return DamagedFaces(
        manifest, trial.perturbation, trial.level, resize=resize, image_size=image_size
    )


def measure(
    scores: Scores, unit: Unit, settings: EvaluateSettings, *, threshold: float | None
) -> Evaluation:
    """Compute the figures of a test on frames or on videos.

    Args:
        scores: of all its frames; several splits count as one test.
        unit: ``frame`` or ``video``.
        settings: of the bootstrap and the calibration error.
        threshold: fitted on the validation split's frames.
    """
    splits = "+".join(sorted({sample.split for sample in scores}))
    one = Scores(tuple(replace(sample, split=splits) for sample in scores))
    return evaluate_scores(
        one,
        pool="mean" if unit == "video" else None,
        fitted_threshold=threshold,
        resamples=settings.bootstrap,
        ece_bins=settings.ece_bins,
    )


def count_flops(detector: nn.Module, image_size: int) -> int:
    """Count the floating-point operations of one verdict: two for each multiply-add.

    Only products and convolutions count; ``thop``, which the paper used, counts one each.
    """
    first = next(detector.parameters())
    picture = torch.zeros(1, 3, image_size, image_size, device=first.device)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        detector(picture)
    return int(counter.get_total_flops())


def _copy_trained(
    config: RunConfig, part: Manifest, folder: Path, reuse: Sequence[Path]
) -> str | None:
    """Copy the training of an equal cell, whole or not at all; name that cell, or None."""
    note = folder / TRAINING / REUSED
    if note.exists():  # copied before this run was stopped
        return str(read_json(note)["trained_in"])
    if (folder / TRAINING).exists() or not (found := find_trained(config, part, reuse)):
        return None
    name = f"{found.parents[1].name}/{found.name}"
    with scratch_folder(folder / TRAINING) as scratch:
        copy = shutil.copytree(found / TRAINING, scratch / TRAINING)
        write_json(copy / REUSED, {"schema": SCHEMA, "trained_in": name})
        os.replace(copy, folder / TRAINING)
    return name


def _test(
    experiment: Experiment,
    cell: Cell,
    trial: Trial,
    detector: nn.Module,
    card: Card,
    folder: Path,
    tell: Callable[[int, int], None],
) -> dict[str, Any]:
    settings = experiment.config(cell).evaluate
    part = trial_manifest(experiment.manifest, cell, trial)
    place = folder / "tests" / plain_name(trial.name)
    if not (place / SCORES).exists():
        image_size = experiment.config(cell).model.image_size
        dataset = trial_dataset(part, trial, resize=card.resize, image_size=image_size)
        scores = score_dataset(
            detector,
            dataset,
            batch_size=settings.batch_size,
            precision=settings.precision,
            progress=tell,
        )
        scores.write(place / SCORES)
    scores = read_scores(place / SCORES)
    for unit in experiment.protocol.units:
        evaluation = measure(scores, unit, settings, threshold=card.threshold)
        evaluation = replace(
            evaluation,
            config_fingerprint=card.config_fingerprint,
            manifest_fingerprint=part.fingerprint,
        )
        evaluation.write(place / f"metrics-{unit}.json")
    return {
        "name": trial.name,
        "subset": trial.subset.name,
        "perturbation": trial.perturbation,
        "level": trial.level,
        "folder": f"tests/{place.name}",
        "manifest": part.fingerprint,
        "images": dict(part.counts()),
    }


def _tell_every(seconds: float, notify: Notify) -> Callable[[int, int], None]:
    """Say how far a test is, but not too often."""
    told = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal told
        if time.monotonic() - told >= seconds:
            told = time.monotonic()
            notify(f"  {done} of {total} faces")

    return tell


def _facts(
    cell: Cell, config: RunConfig, detector: nn.Module, card: Card, part: Manifest
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "key": cell.key,
        "row": cell.row,
        "train": cell.train.name,
        "seed": cell.seed,
        "overrides": dict(cell.overrides),
        "config_fingerprint": config.fingerprint,
        "pretrained": config.model.pretrained,
        "model": config.model.name,
        "detector": describe_name(config.model.name),
        "parameters": sum(p.numel() for p in detector.parameters()),
        "flops": count_flops(detector, config.model.image_size),
        "epoch": card.epoch,
        "validation": card.validation,
        "manifest": part.fingerprint,
        "images": {split: dict(part.split(split).counts()) for split in ("train", "val")},
        "device": str(next(detector.parameters()).device),
        "provenance": asdict(provenance()),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _write_config(config: RunConfig, path: Path) -> None:
    """Write the settings without the place of the data, which names the user's folders."""
    data = config.data.model_copy(update={"manifest": None, "root": None})
    with write_whole(path) as file:
        file.write(dump_toml(config.model_copy(update={"data": data})))
