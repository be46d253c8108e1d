"""The training loop: batches to steps, epochs to checkpoints, validation to the best weights."""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mfclip.batch import Batch
from mfclip.config import RunConfig, dump_toml
from mfclip.data.manifest import Manifest, settle_framing
from mfclip.detectors import build_detector
from mfclip.errors import ConfigError, TrainingError
from mfclip.runtime.device import emulation_warning, fast_kernels
from mfclip.runtime.lock import try_lock
from mfclip.runtime.memory import is_out_of_memory, keep_freed_memory, peak_memory
from mfclip.runtime.provenance import provenance
from mfclip.runtime.whole_file import write_whole
from mfclip.train.checkpoint import Progress, load_checkpoint, save_checkpoint
from mfclip.train.feed import UnreadableList, open_manifest, training_data, validation_data
from mfclip.train.log import Meter, RunLog
from mfclip.train.optimiser import count_reductions, learning_rate, validations_without_gain
from mfclip.train.processes import Processes, join_processes
from mfclip.train.selection import (
    Candidate,
    ValidationStopped,
    keep_if_best,
    merit_of,
    validate,
)
from mfclip.train.step import Learner
from mfclip.train.stop import Stopped, StopRequest
from mfclip.weights import BEST

LAST = "last.safetensors"
"""The checkpoint a run resumes from."""

LOCK, LOCK_WAIT = ".lock", 3.0
"""File in a run's folder that one process at a time holds, and seconds to wait for it."""


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
        ConfigError: no manifest given, `out` holds another run or is at work, an impossible
            setting, or one that contradicts how the faces were cut.
        ManifestError: files are missing, a split is empty, the shards hold other faces, or the run
            to resume had other data.
        WeightsError: the checkpoint to resume from is damaged.
        TrainingError: loss or weights are not finite, memory runs out, too many pictures cannot be
            read, or `out` cannot be written.
        Stopped: Ctrl+C or SIGTERM; the checkpoint has been written.
    """
    manifest = open_manifest(config)
    data = settle_framing(config.data, manifest)
    config = config.model_copy(update={"data": data})
    with contextlib.ExitStack() as stack:
        stack.enter_context(_explain_failures(out))
        processes = stack.enter_context(join_processes(device))
        # One process decides for all, and holds the folder for all.
        resuming = processes.decide(lambda: stack.enter_context(_claim(out, resume=resume)))
        stack.enter_context(fast_kernels(processes.device, config.train.matmul))
        stop = stack.enter_context(StopRequest(patient=processes.world_size > 1))
        run = Run(config, manifest, out, processes)
        try:
            run.start(resume=resuming)
            run.fit(max_steps, stop)
        finally:
            run.log.close()
            run.loader.close()
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
        self.validation = manifest.split(config.data.val_split)
        self._share = validation_data(config, self.validation, processes)
        self.detector = build_detector(config.model, config.train.loss).to(processes.device)
        if config.train.keep_memory and processes.device.type == "cpu":
            keep_freed_memory()
        self.learner = Learner(self.detector, config.train, processes)
        self.loader = training_data(config, self.samples, processes)
        self.steps = config.train.epochs * len(self.loader)
        self.data = replace(manifest, samples=(*self.samples, *self.validation)).fingerprint
        self.progress = Progress(fingerprint=config.fingerprint, data=self.data)
        self.unreadable = UnreadableList(out, config.data.max_unreadable, processes)
        self._stop = StopRequest()
        self.log = RunLog(out, total=0, done=0, enabled=False)

    def start(self, *, resume: bool) -> None:
        """Restore the checkpoint, or write what defines the run.

        Args:
            resume: whether there is one to go on from, on which all processes have agreed.
        """
        if resume:
            self.progress = self._load()
        self.unreadable.begin(resume=resume)
        first = self.processes.is_first
        self.log = RunLog(self.out, total=self.steps, done=self.progress.step, enabled=first)
        if first:
            with write_whole(self.out / "config.toml") as file:
                file.write(dump_toml(self.config))
            self.log.record("start", self.progress.step, self._facts())
        warnings = [getattr(part, "training_warning", None) for part in self.detector.modules()]
        warnings.append(emulation_warning(self.processes.device, self.config.train.precision))
        for warning in filter(None, warnings):
            self.log.say(f"warning: {warning}")

    def _load(self) -> Progress:
        path = self.out / LAST
        fingerprint = self.config.fingerprint
        if self.processes.any(flag=not path.is_file()):
            raise ConfigError(
                f"not every process finds {path}; on several machines --out must be a folder that "
                "all of them share"
            )
        progress = load_checkpoint(path, self.learner, fingerprint=fingerprint, data=self.data)
        progress.data = self.data
        return progress

    def _facts(self) -> dict[str, Any]:
        return {
            **asdict(provenance()),
            "config": self.config.fingerprint,
            "manifest": self.samples.fingerprint,
            "train_samples": len(self.samples),
            "val_samples": len(self.validation),
            "parameters": sum(p.numel() for p in self.detector.parameters()),
            "learning": sum(p.numel() for p in self.detector.parameters() if p.requires_grad),
            "processes": self.processes.world_size,
        }

    def fit(self, max_steps: int | None, stop: StopRequest | None = None) -> None:
        """Train to the end, until validation stops to gain, or until `max_steps`.

        Raises:
            Stopped: `stop` was asked for, and the checkpoint is written.
            TrainingError: as in `train`.
        """
        self._stop = stop or self._stop
        most = self.steps if max_steps is None else max_steps
        if self._owes_validation():  # stopped between an epoch and its validation
            self._validate()
            self._save()
            self._end_if_asked()
        while self.progress.step < min(most, self.steps) and not self._gains_no_more():
            self._epoch(most)

    def _epoch(self, most: int) -> None:
        """Train on the rest of an epoch, or until step `most`, or until there is no more gain."""
        self.learner.begin()
        progress, settings = self.progress, self.config.train
        meter = Meter(self.processes)
        for batch in self.loader.epoch(progress.epoch, progress.batch):
            terms = self._learn(batch)
            meter.add(terms, len(batch))
            progress.step += 1
            progress.epoch, progress.batch = divmod(progress.step, len(self.loader))
            self.log.advance()
            is_over = progress.step in (most, self.steps) or progress.batch == 0
            if is_over or progress.step % settings.log_every == 0:
                self._report(meter)
            # who asks for some steps only gets a checkpoint, to go on from with the validation
            if self._owes_validation() and (progress.step < most or progress.step == self.steps):
                self._validate()
                self._save()
            elif progress.step == most or progress.step % settings.checkpoint_every == 0:
                self._save()
            self._end_if_asked()
            if progress.step == most or self._gains_no_more():
                return

    def _end_if_asked(self) -> None:
        """Write a checkpoint and end, if a signal came to any process."""
        if not self.processes.any(flag=self._stop.number is not None):
            return
        self._save()
        number = self._stop.number or signal.SIGTERM
        raise Stopped(
            f"stopped by {signal.Signals(number).name} after step {self.progress.step} of "
            f"{self.steps}, with a checkpoint",
            status=128 + number,
        )

    def _owes_validation(self) -> bool:
        """Whether the validation that belongs behind the last step has not been done."""
        step = self.progress.step
        span = self.config.train.validate_every * len(self.loader)  # steps between validations
        number = max(1, round(step / span))  # of the validation that lies nearest
        due = step in (self.steps, max(1, round(number * span)))
        return due and 0 < step != self.progress.validated

    def _gains_no_more(self) -> bool:
        most = self.config.train.stop_after
        return most is not None and validations_without_gain(self._merits()) >= most

    def _merits(self) -> list[float]:
        """Figures of the validations so far; higher is better."""
        select = self.config.train.select
        return [merit_of(result, select) for result in self.progress.history]

    def timed_step(self, batches: Iterator[Batch]) -> tuple[float, float]:
        """Train on the next batch; return the seconds waited for it and those spent on it."""
        self.learner.begin()
        began = time.perf_counter()
        batch = next(batches)
        ready = time.perf_counter()
        terms = self._learn(batch)
        torch.stack(list(terms.values())).sum().item()  # waits for the device
        return ready - began, time.perf_counter() - ready

    def _learn(self, batch: Batch) -> dict[str, Tensor]:
        settings, step = self.config.train, self.progress.step
        self.processes.seed(self.config.seed, step)  # so that a resumed run draws the same
        reductions = 0
        if settings.schedule == "plateau":
            reductions = count_reductions(self._merits(), settings.patience)
        lr = learning_rate(
            step, steps_per_epoch=len(self.loader), settings=settings, reductions=reductions
        )
        return self.learner.learn(
            batch.to(self.processes.device),
            lr=lr,
            done=step / self.steps,
            epoch=self.progress.epoch,
        )

    def _report(self, meter: Meter) -> None:
        self.unreadable.update(self.loader.unreadable, self.log)
        values = meter.read()
        if not values:
            return
        if not all(math.isfinite(value) for value in values.values()):
            raise TrainingError(
                f"the loss is not finite at step {self.progress.step}: {values}; "
                f"lower train.lr, set train.clip_norm, or look at the data; the last checkpoint "
                f"in {self.out} is from before"
            )
        values["lr"] = float(self.learner.optimizer.param_groups[0]["lr"])
        values["epoch"] = self.progress.step / len(self.loader)
        values["peak_memory_mb"] = round(peak_memory(self.processes.device) / 1e6, 1)
        self.log.record("train", self.progress.step, values)
        self.log.show("  ".join(f"{k} {v:.3g}" for k, v in values.items()))

    def _validate(self) -> None:
        """Score the validation split with the (averaged) weights and keep them if best."""
        average, progress = self.learner.average, self.progress
        if average is not None:
            average.swap(self.detector)
        try:
            result, unreadable = validate(
                self.detector,
                self._share,
                self.validation,
                self.config,
                self.processes,
                progress=self._tell_validated,
            )
            self.unreadable.update(unreadable, self.log)
            if result is None:
                return  # to be done when the run goes on
            epoch = progress.step / len(self.loader)
            epoch = int(epoch) if epoch.is_integer() else round(epoch, 3)
            candidate = Candidate(self.detector, self.samples, self.config, result, epoch)
            better = keep_if_best(candidate, progress, self.out / BEST, self.processes)
            progress.history.append(result | {"epoch": epoch})
            self.log.record("val", progress.step, result)
            figures = "  ".join(f"{k} {v:.4g}" for k, v in result.items())
            mark = "  (best so far)" if better else ""
            self.log.say(f"epoch {epoch}: validation {figures}{mark}")
        finally:
            if average is not None:
                average.swap(self.detector)
        progress.validated = progress.step
        self.processes.wait()

    def _tell_validated(self, done: int, total: int) -> None:
        if self._stop.number is not None:
            raise ValidationStopped
        self.log.tell(f"validation: {done} of {total} faces")

    def _save(self) -> None:
        finite = torch.stack([p.detach().isfinite().all() for p in self.detector.parameters()])
        if not bool(finite.all()):
            raise TrainingError(
                f"the weights are not finite after step {self.progress.step}; lower train.lr, set "
                f"train.clip_norm, or look at the data; the last checkpoint in {self.out} is from "
                "before"
            )
        if self.processes.is_first:
            save_checkpoint(self.out / LAST, self.progress, self.learner)
        self.processes.wait()


@contextlib.contextmanager
def _claim(out: Path, *, resume: bool) -> Iterator[bool]:
    """Hold a run's folder, and yield whether it holds a checkpoint to go on from."""
    out.mkdir(parents=True, exist_ok=True)
    # who was killed a moment ago may have loader processes that hold the lock until they notice
    with try_lock(out / LOCK, wait=LOCK_WAIT) as is_mine:
        if not is_mine:
            raise ConfigError(
                f"another process trains in {out}; wait for it, end it, or give another --out"
            )
        begun = (out / LAST).exists()
        if begun and not resume:
            raise ConfigError(
                f"{out} already holds a run; go on with --resume or give another --out"
            )
        yield begun


@contextlib.contextmanager
def _explain_failures(out: Path) -> Iterator[None]:
    """Turn a full disk, a missing permission or want of memory into one clear line."""
    try:
        yield
    except OSError as error:
        raise TrainingError(
            f"the run cannot go on: {error}; free the disk or mend the permissions of {out}, then "
            "--resume from its last checkpoint"
        ) from error
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(
            f"memory ran out ({str(error) or 'no reason given'}): lower train.batch_size, or keep "
            "it with train.accumulate=2 or more, train.checkpoint_activations=true or "
            "train.precision=bf16-mixed"
        ) from error
