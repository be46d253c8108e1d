"""The command line: ``mfclip train | evaluate | release | predict | demo | data``."""

from __future__ import annotations

from mfclip.cli.app import main

__all__ = ["main"]
