"""``mfclip train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


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
    profile: Annotated[
        bool, typer.Option("--profile", help="Run a few steps and say where their time goes.")
    ] = False,
) -> None:
    """Train a detector on a manifest; the best epoch is chosen on the validation split.

    The manifest (data.manifest) is CSV, JSON lines or Parquet with the columns path, label,
    manipulation, family, generator, split and optionally group, video_id. Several processes: start
    this command under torchrun.
    """
    from mfclip.config import load_config  # noqa: PLC0415

    overrides = [*(set_ or []), *([f"seed={seed}"] if seed is not None else [])]
    settings = load_config(config, overrides)
    if profile:
        from mfclip.train.profile import profile_training  # noqa: PLC0415

        typer.echo(profile_training(settings, out, device=device))
        return
    from mfclip.train.loop import train as run  # noqa: PLC0415

    progress = run(settings, out, resume=resume, device=device)
    typer.echo(f"trained {progress.epoch} epochs, {progress.step} steps; best weights in {out}")
