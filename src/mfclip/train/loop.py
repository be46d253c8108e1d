"""The training loop: batches to steps, epochs to checkpoints, validation to the best weights."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mfclip.batch import Batch
from mfclip.config import RunConfig, dump_toml
from mfclip.data.manifest import Manifest
from mfclip.detectors import build_detector
from mfclip.errors import ConfigError, TrainingError
from mfclip.layers.convolution import ConvStages
from mfclip.model.mfclip import MFCLIP
from mfclip.runtime.memory import keep_freed_memory, peak_memory
from mfclip.runtime.provenance import provenance
from mfclip.train.accumulate import compare_all_parts
from mfclip.train.checkpoint import Progress, load_checkpoint, save_checkpoint
from mfclip.train.feed import open_manifest, training_data, validation_data
from mfclip.train.log import RunLog
from mfclip.train.optimiser import (
    AveragedWeights,
    build_optimizer,
    freeze,
    learning_rate,
    set_learning_rate,
)
from mfclip.train.processes import Processes, autocast, join_processes
from mfclip.train.selection import Candidate, keep_if_best, validate
from mfclip.weights import BEST

LAST = "last.safetensors"
"""The checkpoint a run resumes from."""


class TrainingStep(nn.Module):
    """A detector whose forward pass is its loss, so that gradients are joined over processes."""

    def __init__(self, detector: nn.Module, precision: str) -> None:
        super().__init__()
        self.detector = detector
        self.loss: Any = detector.loss
        self.precision = precision

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted loss terms."""
        with autocast(batch.images.device, self.precision):
            terms: dict[str, Tensor] = self.loss(batch)
        return terms


def train(
    config: RunConfig,
    out: Path,
    *,
    resume: bool = False,
    device: str = "auto",
    max_steps: int | None = None,
) -> Progress:
    """Train a detector on the training split, choosing the best epoch on the validation split.

    Writes into `out`: ``config.toml`` (resolved), ``log.jsonl`` (versions, machine and data, then
    losses and validations), ``tensorboard/``, ``last.safetensors`` and ``best.safetensors``. The
    test split is never looked at.

    Args:
        config: everything that defines the run.
        out: its folder.
        resume: go on from ``last.safetensors``, to the bit on a CPU.
        device: ``auto``, ``cpu`` or ``cuda``.
        max_steps: stop after so many optimiser steps, checkpoint written; None for all.

    Raises:
        ConfigError: no manifest given, `out` holds another run, or an impossible setting.
        ManifestError: files are missing, a split is empty, or the shards hold other faces.
        WeightsError: the checkpoint to resume from is damaged.
        TrainingError: loss or weights are not finite, or `out` cannot be written.
    """
    manifest = open_manifest(config)
    if (out / LAST).exists() and not resume:
        raise ConfigError(f"{out} already holds a run; go on with --resume or give another --out")
    with _explain_unwritable(out), join_processes(device) as processes:
        out.mkdir(parents=True, exist_ok=True)
        run = Run(config, manifest, out, processes)
        try:
            run.start(resume=resume)
            run.fit(max_steps)
        finally:
            run.log.close()
    return run.progress


class Run:
    """One run's moving parts.

    Args:
        config: everything that defines the run.
        manifest: holds the training and the validation split.
        out: the run's folder.
        processes: this process among those that train together.
    """

    def __init__(
        self, config: RunConfig, manifest: Manifest, out: Path, processes: Processes
    ) -> None:
        self.config = config
        self.out = out
        self.processes = processes
        torch.manual_seed(config.seed)
        self.samples = manifest.split(config.data.train_split)
        self.validation = validation_data(config, manifest)
        self.detector = build_detector(config.model, config.train.loss).to(processes.device)
        if config.train.channels_last:
            self.detector.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        settings = config.train
        if settings.keep_memory and processes.device.type == "cpu":
            keep_freed_memory()
        if settings.checkpoint_activations:
            _checkpoint_activations(self.detector)
        self.frozen = freeze(self.detector, settings.freeze)
        self.optimizer = build_optimizer(self.detector, settings)
        self.step = processes.wrap(TrainingStep(self.detector, settings.precision))
        self.forward = torch.compile(self.step) if settings.compile else self.step
        self.encode: Any = getattr(self.detector, "encode_image", None)
        if settings.compile and self.encode is not None:
            self.encode = torch.compile(self.encode)
        self.scaler = torch.amp.GradScaler(
            processes.device.type, enabled=settings.precision == "16-mixed"
        )
        self.average = AveragedWeights(self.detector, settings.ema) if settings.ema else None
        self.loader = training_data(config, self.samples, processes)
        self.progress = Progress(fingerprint=config.fingerprint)
        self.log = RunLog(out, total=0, done=0, enabled=False)

    def start(self, *, resume: bool) -> None:
        """Restore a checkpoint, or write what defines the run."""
        if resume and (self.out / LAST).exists():
            self.progress = load_checkpoint(
                self.out / LAST,
                module=self.detector,
                optimizer=self.optimizer,
                average=self.average,
                fingerprint=self.config.fingerprint,
            )
        done = self.progress.epoch * len(self.loader) + self.progress.batch
        first = self.processes.is_first
        total = self.config.train.epochs * len(self.loader)
        self.log = RunLog(self.out, total=total, done=done, enabled=first)
        if first:
            (self.out / "config.toml").write_text(dump_toml(self.config), encoding="utf-8")
            self.log.record("start", self.progress.step, self._facts())

    def _facts(self) -> dict[str, Any]:
        return {
            **asdict(provenance()),
            "config": self.config.fingerprint,
            "manifest": self.samples.fingerprint,
            "train_samples": len(self.samples),
            "val_samples": len(self.validation),
            "parameters": sum(p.numel() for p in self.detector.parameters()),
            "processes": self.processes.world_size,
        }

    def fit(self, max_steps: int | None) -> None:
        """Train until the last epoch, or until `max_steps`."""
        settings = self.config.train
        while self.progress.epoch < settings.epochs:
            self._epoch(max_steps)
            if max_steps is not None and self.progress.step >= max_steps:
                self._save()
                return
            self.progress.epoch += 1
            self.progress.batch = 0
            last = self.progress.epoch == settings.epochs
            if last or self.progress.epoch % settings.validate_every == 0:
                self._validate()
            self._save()

    def _start_learning(self) -> None:
        self.step.train()
        for part in self.frozen:  # their batch-norm statistics stay, too
            part.eval()

    def _epoch(self, max_steps: int | None) -> None:
        self._start_learning()
        meter = _Meter(self.processes)
        for batch in self.loader.epoch(self.progress.epoch, self.progress.batch):
            terms = self._train_on(batch.to(self.processes.device))
            meter.add(terms, len(batch))
            self.progress.batch += 1
            self.progress.step += 1
            self.log.advance()
            if self.progress.step % self.config.train.log_every == 0:
                self._report(meter)
            if self.progress.step % self.config.train.checkpoint_every == 0:
                self._save()
            if max_steps is not None and self.progress.step >= max_steps:
                return
        self._report(meter)

    def timed_step(self, batches: Iterator[Batch]) -> tuple[float, float]:
        """Train on the next batch; return the seconds waited for it and those spent on it."""
        self._start_learning()
        began = time.perf_counter()
        batch = next(batches)
        ready = time.perf_counter()
        terms = self._train_on(batch.to(self.processes.device))
        torch.stack(list(terms.values())).sum().item()  # waits for the device
        return ready - began, time.perf_counter() - ready

    def _train_on(self, batch: Batch) -> dict[str, Tensor]:
        settings = self.config.train
        lr = learning_rate(self.progress.step, steps_per_epoch=len(self.loader), settings=settings)
        set_learning_rate(self.optimizer, lr)
        batch = batch.channels_last() if settings.channels_last else batch
        parts = batch.split(settings.accumulate)
        model = self.detector
        if len(parts) > 1 and isinstance(model, MFCLIP) and model.contrastive is not None:
            sums = self._compare(model, batch, parts)
        else:
            sums = self._add_up(parts)
        if settings.clip_norm:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.detector.parameters(), settings.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update(self.detector)
        return sums

    def _add_up(self, parts: list[Batch]) -> dict[str, Tensor]:
        """Take the gradients of a loss that is a mean over samples."""
        sums: dict[str, Tensor] = {}
        total = sum(map(len, parts))
        for number, part in enumerate(parts, start=1):
            waits, share = number < len(parts), len(part) / total
            with self.processes.unsynchronised(self.step, enabled=waits):
                terms = self.forward(part)
                loss = torch.stack(list(terms.values())).sum() * share
                self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            for name, term in terms.items():
                sums[name] = sums.get(name, 0) + term.detach() * share
        return sums

    def _compare(self, model: MFCLIP, batch: Batch, parts: list[Batch]) -> dict[str, Tensor]:
        """Take the gradients of a loss that compares samples of all parts."""
        terms = compare_all_parts(
            model,
            batch,
            parts,
            precision=self.config.train.precision,
            scale=self.scaler.scale,
            encode=self.encode,
        )
        self.processes.average_gradients(model)
        return terms

    def _report(self, meter: _Meter) -> None:
        values = meter.read()
        if not values:
            return
        if not all(math.isfinite(value) for value in values.values()):
            raise TrainingError(
                f"the loss is not finite at step {self.progress.step}: {values}; "
                f"lower train.lr, set train.clip_norm, or look at the data; the last checkpoint "
                f"in {self.out} is from before"
            )
        values["lr"] = float(self.optimizer.param_groups[0]["lr"])
        values["epoch"] = self.progress.epoch + self.progress.batch / len(self.loader)
        values["peak_memory_mb"] = round(peak_memory(self.processes.device) / 1e6, 1)
        self.log.record("train", self.progress.step, values)
        self.log.show("  ".join(f"{k} {v:.3g}" for k, v in values.items()))

    def _validate(self) -> None:
        """Score the validation split with the (averaged) weights and keep them if best."""
        if self.average is not None:
            self.average.swap(self.detector)
        try:
            if self.processes.is_first:
                result = validate(self.detector, self.validation, self.config)
                candidate = Candidate(self.detector, self.samples, self.config, result)
                better = keep_if_best(candidate, self.progress, self.out / BEST)
                self.progress.history.append(result | {"epoch": self.progress.epoch})
                self.log.record("val", self.progress.step, result)
                figures = "  ".join(f"{k} {v:.4g}" for k, v in result.items())
                mark = "  (best so far)" if better else ""
                self.log.say(f"epoch {self.progress.epoch}: validation {figures}{mark}")
        finally:
            if self.average is not None:
                self.average.swap(self.detector)
        self.processes.wait()

    def _save(self) -> None:
        finite = torch.stack([p.detach().isfinite().all() for p in self.detector.parameters()])
        if not bool(finite.all()):
            raise TrainingError(
                f"the weights are not finite after step {self.progress.step}; lower train.lr, set "
                f"train.clip_norm, or look at the data; the last checkpoint in {self.out} is from "
                "before"
            )
        if self.processes.is_first:
            save_checkpoint(
                self.out / LAST,
                self.progress,
                module=self.detector,
                optimizer=self.optimizer,
                average=self.average,
            )
        self.processes.wait()


class _Meter:
    """Means of the loss terms and images a second since the last reading."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._reset()

    def _reset(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._steps = self._images = 0
        self._began = time.perf_counter()

    def add(self, terms: dict[str, Tensor], images: int) -> None:
        """Add one step; nothing is read from the device yet."""
        for name, term in terms.items():
            self._sums[name] = self._sums.get(name, 0) + term
        self._steps += 1
        self._images += images

    def read(self) -> dict[str, float]:
        """Return the means and begin anew; empty if there was no step."""
        if not self._steps:
            return {}
        means = torch.stack(list(self._sums.values())).float() / self._steps
        values = dict(zip(self._sums, self._processes.mean(means).tolist(), strict=True))
        values = {"loss": sum(values.values()), **values}
        seconds = time.perf_counter() - self._began
        values["images_per_second"] = self._images * self._processes.world_size / seconds
        self._reset()
        return values


@contextlib.contextmanager
def _explain_unwritable(out: Path) -> Iterator[None]:
    """Turn a full disk or a missing permission, wherever it is met, into one clear line."""
    try:
        yield
    except OSError as error:
        raise TrainingError(
            f"the run cannot go on: {error}; free the disk or mend the permissions of {out}, then "
            "--resume from its last checkpoint"
        ) from error


def _checkpoint_activations(detector: nn.Module) -> None:
    stages = [part for part in detector.modules() if isinstance(part, ConvStages)]
    if not stages:
        raise ConfigError(
            "this detector has no convolution stages of ours, so train.checkpoint_activations "
            "cannot save memory; set it to false, or raise train.accumulate instead"
        )
    for part in stages:
        part.checkpoint_activations = True
