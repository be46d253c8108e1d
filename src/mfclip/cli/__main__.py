"""``python -m mfclip.cli``: the command line."""

from __future__ import annotations

from mfclip.cli import main

if __name__ == "__main__":  # processes that it starts import this file under another name
    main()
