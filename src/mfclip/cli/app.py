"""The command tree. Each command lives in a file of its own and imports what it needs when run."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
from types import FrameType

import typer

from mfclip import __version__
from mfclip.cli.data import data
from mfclip.cli.demo import demo
from mfclip.cli.evaluate import evaluate
from mfclip.cli.experiment import experiment
from mfclip.cli.export import export
from mfclip.cli.predict import predict
from mfclip.cli.published import calibrate, import_weights
from mfclip.cli.release import release
from mfclip.cli.score import score
from mfclip.cli.serve import serve
from mfclip.cli.train import train
from mfclip.errors import MfclipError

SPINS = 2000
"""Turns that a thread waits for its team awake before it sleeps, where libgomp runs PyTorch's
teams. Its own 300,000 keep the cores from other work, and so from the slowest of the team: beside
other work the commands become several times slower. What sleeping at once or later costs on an idle
machine was not measured."""

app = typer.Typer(
    help="Tell a real face from a forged one. A score is evidence, not proof.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="markdown",
)


@app.callback(invoke_without_command=True)
def root(
    version: bool = typer.Option(False, "--version", help="Print the version and stop."),
) -> None:
    """Tell a real face from a forged one. A score is evidence, not proof."""
    if version:
        typer.echo(f"mfclip {__version__}")
        raise typer.Exit


for command in (train, evaluate, release, calibrate, export, predict, demo, serve):
    app.command()(command)
app.command("import")(import_weights)  # a word that Python keeps for itself
app.add_typer(data, name="data")
app.add_typer(score, name="score")
app.add_typer(experiment, name="experiment")


def main() -> None:
    """Run the command line; a user's mistake ends in one clear line and exit status 2.

    Ctrl+C ends it with 130, and SIGTERM with 143; what is half written is removed then.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))  # read once, when PyTorch is loaded
    # What imports make stays: looking through it for garbage takes an eighth of their time, and
    # doing so again when the process ends takes another fifth of a short command's.
    gc.set_threshold(50_000, 20, 20)
    atexit.register(gc.freeze)
    # Python's own answer to SIGTERM would leave half-written files: no `finally` is reached.
    terminated = False

    def terminate(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - Python's own
        nonlocal terminated
        terminated = True
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, terminate)
    try:
        app()
    except SystemExit as end:
        if terminated and end.code == 128 + signal.SIGINT:
            sys.exit(128 + signal.SIGTERM)
        raise
    except MfclipError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
