"""The command tree. Each command lives in a file of its own and imports what it needs when run."""

from __future__ import annotations

import atexit
import gc
import sys

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
from mfclip.cli.serve import serve
from mfclip.cli.train import train
from mfclip.errors import MfclipError

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
app.add_typer(experiment, name="experiment")


def main() -> None:
    """Run the command line; a user's mistake ends in one clear line and exit status 2."""
    # What imports make stays: looking through it for garbage takes an eighth of their time, and
    # doing so again when the process ends takes another fifth of a short command's.
    gc.set_threshold(50_000, 20, 20)
    atexit.register(gc.freeze)
    try:
        app()
    except MfclipError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
