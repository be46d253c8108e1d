"""``mfclip data``: from files on disk to a checked manifest."""

from __future__ import annotations

import typer

from mfclip.cli.check import audit, doctor, show
from mfclip.cli.perturb import perturb
from mfclip.cli.prepare import prepare
from mfclip.cli.scan import scan

data = typer.Typer(
    help="Scan, prepare, check and perturb data sets.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for command in (scan, prepare, doctor, audit, show, perturb):
    data.command()(command)
