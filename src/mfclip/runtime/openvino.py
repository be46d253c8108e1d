"""The one OpenVINO core of this process."""

from __future__ import annotations

from threading import Lock
from typing import Any

from mfclip.errors import require

_CORES: list[Any] = []
_MAKING = Lock()


def openvino_core() -> Any:
    """Return the one OpenVINO core of this process, made when first asked for, from any thread.

    The CPU plugin of a core gives the thread that loads it an alternate signal stack (for AMX), and
    puts the former one back when it is closed. Cores that are closed in the order in which they
    were opened leave the thread a stack that is no longer mapped, and the next signal, such as
    Ctrl+C, ends the process. So there is one core, and it is never closed.

    Raises:
        MissingExtraError: openvino is not installed.
    """
    openvino = require("openvino", extra="export")
    with _MAKING:  # of two made at once, one would be closed
        if not _CORES:
            core = openvino.Core()
            # loads the plugin now, so that cores which others make (nncf does) open and close
            # inside this one's life
            core.get_versions("CPU")
            _CORES.append(core)
        return _CORES[0]
