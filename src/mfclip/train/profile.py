"""What a training will cost, and where the time of its steps goes."""

from __future__ import annotations

import json
from itertools import chain, count
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from torch.profiler import ProfilerActivity, profile

from mfclip.config import RunConfig
from mfclip.runtime.memory import peak_memory
from mfclip.runtime.whole_file import write_whole
from mfclip.train.feed import open_manifest
from mfclip.train.loop import Run
from mfclip.train.processes import join_processes

WARM_UP = 2
STEPS = 5
ROWS = 15


def profile_training(config: RunConfig, out: Path, *, device: str = "auto") -> str:
    """Train a few steps, write a trace and say where their time went.

    Writes ``trace.json`` (for a trace viewer) and ``profile.json`` into `out`.

    Args:
        config: the run.
        out: folder of the trace.
        device: as in `train`.

    Returns:
        A table of the costliest operators, above the time a step waited for data.

    Raises:
        ConfigError: no manifest given, or an impossible setting.
        ManifestError: files are missing, or a split is empty or of one class.
    """
    manifest = open_manifest(config)
    out.mkdir(parents=True, exist_ok=True)
    with join_processes(device) as processes:
        run = Run(config, manifest, out, processes)
        waits, steps = [], []
        # as many epochs as the steps need
        batches = chain.from_iterable(map(run.loader.epoch, count()))
        activities = [ProfilerActivity.CPU]
        if processes.device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        for _ in range(WARM_UP):
            run.timed_step(batches)
        with profile(activities=activities) as profiler:
            for _ in range(STEPS):
                wait, step = run.timed_step(batches)
                waits.append(wait)
                steps.append(step)
    profiler.export_chrome_trace(str(out / "trace.json"))
    key = "self_cuda_time_total" if len(activities) > 1 else "self_cpu_time_total"
    figures = {"seconds_waiting_for_data": waits, "seconds_in_step": steps}
    with write_whole(out / "profile.json") as file:
        json.dump(figures, file, indent=2)
    table = profiler.key_averages().table(
        sort_by=key, row_limit=ROWS, max_name_column_width=40, header="costliest operators"
    )
    return (
        f"{table}\na step: {sum(steps) / STEPS:.3f} s computing, "
        f"{sum(waits) / STEPS:.3f} s waiting for data; trace in {out / 'trace.json'}"
    )


def estimate_training(config: RunConfig, *, device: str = "auto") -> str:
    """Train a few steps in memory and say what the whole run would take; nothing is written.

    Args:
        config: the run.
        device: as in `train`.

    Returns:
        Faces, parameters, steps, hours and memory, in words. The hours are those of training
        without its validations.

    Raises:
        ConfigError: no manifest given, or an impossible setting.
        ManifestError: files are missing, or a split is empty or of one class.
        TrainingError: memory runs out.
    """
    manifest = open_manifest(config)
    with TemporaryDirectory() as folder, join_processes(device) as processes:
        run = Run(config, manifest, Path(folder), processes)
        batches = chain.from_iterable(map(run.loader.epoch, count()))
        for _ in range(WARM_UP):
            run.timed_step(batches)
        seconds = [sum(run.timed_step(batches)) for _ in range(STEPS)]
        parameters = list(run.detector.parameters())
        step = median(seconds)
        learning = sum(p.numel() for p in parameters if p.requires_grad)
        return (
            f"{len(run.samples)} faces to train on, {len(run.validation)} to validate on\n"
            f"{sum(p.numel() for p in parameters):,} parameters, of which {learning:,} learn\n"
            f"{run.steps} steps of {config.train.batch_size} faces, {step:.3g} s each "
            f"({min(seconds):.3g} to {max(seconds):.3g}) on {processes.device}\n"
            f"about {run.steps * step / 3600:.2g} h without validation, "
            f"{peak_memory(processes.device) / 2**30:.2g} GiB of memory at the peak; "
            "nothing was written"
        )
