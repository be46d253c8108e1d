"""``mfclip data``: from files on disk to a checked manifest."""

from __future__ import annotations

from functools import cache
from typing import Any

import typer
from typer.core import TyperGroup


class DataGroup(TyperGroup):
    """Imports the data commands only when one of them is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - click's signature
        """Name the commands in the order in which a user needs them."""
        return list(_commands().commands)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        """Find one command."""
        return _commands().commands.get(cmd_name)


data = typer.Typer(cls=DataGroup, no_args_is_help=True, rich_markup_mode="markdown")


@data.callback()
def root() -> None:
    """Scan, prepare, check, perturb, reconstruct and pack data sets."""


@cache
def _commands() -> Any:
    from mfclip.cli.check import audit, doctor, show  # noqa: PLC0415
    from mfclip.cli.pack import pack  # noqa: PLC0415
    from mfclip.cli.perturb import perturb  # noqa: PLC0415
    from mfclip.cli.prepare import prepare  # noqa: PLC0415
    from mfclip.cli.reconstruct import reconstruct  # noqa: PLC0415
    from mfclip.cli.scan import scan  # noqa: PLC0415

    commands = typer.Typer(rich_markup_mode="markdown")
    for command in (scan, prepare, doctor, audit, show, perturb, reconstruct, pack):
        commands.command()(command)
    return typer.main.get_command(commands)
