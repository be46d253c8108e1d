"""``mfclip train``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mfclip.cli.interrupt import tell_how_to_go_on
from mfclip.cli.options import Changes, Device, OutFolder
from mfclip.cli.output import claim_folder

if TYPE_CHECKING:
    from mfclip.train.checkpoint import Progress


def train(
    config: Annotated[
        Path | None,
        typer.Option(help="TOML with what differs from the defaults (the paper's recipe)."),
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Manifest: .csv, .jsonl or .parquet; in place of the configuration's "
            "data.manifest.",
        ),
    ] = None,
    set_: Changes = None,
    out: OutFolder = Path("runs/train"),
    device: Device = "auto",
    seed: Annotated[int | None, typer.Option(help="In place of the configuration's seed.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")
    ] = False,
    max_steps: Annotated[
        int | None,
        typer.Option(min=1, help="Stop after so many steps, with a checkpoint to go on from."),
    ] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Run a few steps and say where their time goes.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Measure a few steps and say what the run would cost."),
    ] = False,
) -> None:
    """Train a detector on a manifest; the best epoch is chosen on the validation split.

    The manifest has the columns path, label, manipulation, family, generator, split and optionally
    group, video_id; mfclip data scan makes one. Several processes:
    torchrun --standalone --nproc-per-node=2 -m mfclip train ...

    Ctrl+C and SIGTERM end the run at its next step with a checkpoint; --resume goes on from it.
    """
    from mfclip.config import load_config  # noqa: PLC0415
    from mfclip.train.loop import LAST  # noqa: PLC0415
    from mfclip.train.loop import train as run  # noqa: PLC0415
    from mfclip.weights import BEST  # noqa: PLC0415

    overrides = [*(set_ or []), *([f"seed={seed}"] if seed is not None else [])]
    if manifest is not None:
        overrides.append(f"data.manifest={json.dumps(str(manifest))}")
    settings = load_config(config, overrides)
    if dry_run:
        from mfclip.train.profile import estimate_training  # noqa: PLC0415

        typer.echo(estimate_training(settings, device=device))
        return
    inputs = [config, settings.data.manifest, settings.model.pretrained]
    # a run that goes on may take its own config.toml, which is the same settings in full
    names = [BEST, LAST, *([] if resume else ["config.toml"])]
    claim_folder("--out", out, inputs=inputs, names=names)
    if profile:
        from mfclip.train.profile import profile_training  # noqa: PLC0415

        typer.echo(profile_training(settings, out, device=device))
        return

    def advice() -> str:
        if not (out / LAST).is_file():
            return "there is no checkpoint yet"
        return f"the same command with --resume goes on from the last checkpoint in {out}"

    with tell_how_to_go_on(advice):
        progress = run(settings, out, resume=resume, device=device, max_steps=max_steps)
    if os.environ.get("RANK", "0") == "0":  # once, not by every process of torchrun
        typer.echo(_outcome(progress, out, max_steps))


def _outcome(progress: Progress, out: Path, max_steps: int | None) -> str:
    done = f"trained {progress.epoch} epochs, {progress.step} steps"
    if progress.step == max_steps and progress.validated != progress.step:
        return f"{done}; checkpoint in {out}: the same command with --resume goes on from it"
    return f"{done}; best weights in {out}"
