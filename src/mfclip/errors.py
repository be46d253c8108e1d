"""The errors that mfclip raises for things a user can mend.

::

    MfclipError
    ├── InputError         a picture, video or array that cannot be judged
    ├── ManifestError      a manifest with a missing column, an unknown label, an absent file
    ├── ConfigError        an unknown key, a wrong type, sizes that do not fit together
    ├── WeightsError       weights that are absent, cut short, or of another model
    ├── TrainingError      a run that cannot go on: loss not finite, checkpoint not writable
    └── MissingExtraError  an optional package is not installed; the message names the extra

Every message says what was wrong, what was expected, and what to do.
"""

from __future__ import annotations

import importlib
import re
from types import ModuleType

MAX_MESSAGE = 1000
"""Characters of a message that may quote a file of unknown origin."""


class MfclipError(Exception):
    """Root of all errors a user can mend."""


class InputError(MfclipError, ValueError):
    """A picture, video or array cannot be judged."""


class ManifestError(MfclipError, ValueError):
    """A manifest breaks its contract."""


class ConfigError(MfclipError, ValueError):
    """A configuration value is unknown, of the wrong type, or impossible."""


class WeightsError(MfclipError, ValueError):
    """Weights are absent, damaged, or belong to another model.

    The message is one line of readable length, whatever the file holds.
    """

    def __init__(self, message: str) -> None:
        # names of tensors, keys of a card, errors of other parsers: a file of unknown origin may
        # put a megabyte, line ends or a terminal's control sequences into each
        line = re.sub(r"\s*[\r\n]+\s*", "; ", message)
        if len(line) > MAX_MESSAGE:
            line = f"{line[: MAX_MESSAGE - 204]} ... {line[-199:]}"
        super().__init__(
            "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)
        )


class TrainingError(MfclipError, RuntimeError):
    """A training run cannot continue."""


class MissingExtraError(MfclipError, ImportError):
    """An optional package is needed and not installed."""


PACKAGES = {"open_clip": "open-clip-torch", "sklearn": "scikit-learn"}
"""Optional packages whose module is called otherwise."""


def require(module: str, *, extra: str) -> ModuleType:
    """Import an optional package, or say which extra brings it.

    Args:
        module: dotted name to import.
        extra: the extra of ``mfclip`` that installs it.

    Raises:
        MissingExtraError: the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.split(".", 1)[0]
        message = (
            f"this needs the package '{PACKAGES.get(package, package)}', which is not installed; "
            f"install it with: pip install 'mfclip[{extra}]'"
        )
        raise MissingExtraError(message) from error
