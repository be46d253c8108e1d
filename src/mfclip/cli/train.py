"""``mfclip train``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mfclip.train.checkpoint import Progress


def train(
    config: Annotated[
        Path | None,
        typer.Option(help="TOML with what differs from the defaults (the paper's recipe)."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change one setting, e.g. train.lr=3e-4. Repeatable."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the run.")] = Path("runs/train"),
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    seed: Annotated[int | None, typer.Option(help="Overrides the configuration's seed.")] = None,
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
) -> None:
    """Train a detector on a manifest; the best epoch is chosen on the validation split.

    The manifest (data.manifest) is CSV, JSON lines or Parquet with the columns path, label,
    manipulation, family, generator, split and optionally group, video_id. Several processes:
    torchrun --standalone --nproc-per-node=2 -m mfclip train ...

    Ctrl+C and SIGTERM end the run at its next step with a checkpoint; --resume goes on from it.
    """
    from mfclip.config import load_config  # noqa: PLC0415

    overrides = [*(set_ or []), *([f"seed={seed}"] if seed is not None else [])]
    settings = load_config(config, overrides)
    if profile:
        from mfclip.train.profile import profile_training  # noqa: PLC0415

        typer.echo(profile_training(settings, out, device=device))
        return
    from mfclip.train.loop import train as run  # noqa: PLC0415
    from mfclip.train.stop import Stopped  # noqa: PLC0415

    try:
        progress = run(settings, out, resume=resume, device=device, max_steps=max_steps)
    except Stopped as stop:
        typer.echo(str(stop), err=True)
        raise typer.Exit(stop.status) from None
    if os.environ.get("RANK", "0") == "0":  # once, not by every process of torchrun
        typer.echo(_outcome(progress, out, max_steps))


def _outcome(progress: Progress, out: Path, max_steps: int | None) -> str:
    done = f"trained {progress.epoch} epochs, {progress.step} steps"
    if progress.step == max_steps and progress.validated != progress.step:
        return f"{done}; checkpoint in {out}: the same command with --resume goes on from it"
    return f"{done}; best weights in {out}"
