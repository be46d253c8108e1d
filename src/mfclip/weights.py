"""Weight files: tensors, the settings they belong to, and a card, in one safetensors file.

Loading never executes code. A file is written whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from pydantic_core import from_json
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mfclip.card import Card, read_card
from mfclip.errors import MissingExtraError, WeightsError
from mfclip.runtime.whole_file import write_bytes

FORMAT = "mfclip-1"

MAX_TEXT = 16_000_000
"""Characters that settings or card may have."""

MAX_TENSORS = 10_000
"""Tensors that a file may hold; the largest detector has a few hundred."""

MAX_UNSTORED = 2**26
"""Numbers in tables that a detector makes for itself and does not store, such as masks."""

PICKLED = (".pth", ".pt", ".bin", ".ckpt", ".tar", ".pkl")
"""Endings of what ``torch.save`` writes, which is never loaded as weights."""

BEST = "best.safetensors"
"""Name of a run's best weights in its folder."""


@dataclass(frozen=True, slots=True)
class WeightFile:
    """What a weight file holds.

    Attributes:
        tensors: parameters and buffers by name.
        settings: the ``model`` table of the configuration they belong to.
        card: what is known of them.
        sha256: of the file's bytes, in hexadecimal; empty for one that was not read.
        path: where it was read.
    """

    tensors: dict[str, Tensor]
    settings: dict[str, Any]
    card: Card = field(default_factory=Card)
    sha256: str = field(default="", compare=False)
    path: Path | None = field(default=None, compare=False)


def write_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write a safetensors file whole or not at all.

    Raises:
        OSError: the disk is full or the folder not writable; an older file stays as it was.
    """
    from safetensors.torch import save  # noqa: PLC0415 - keeps the import of mfclip light

    whole = {name: t.detach().contiguous().cpu() for name, t in tensors.items()}
    write_bytes(path, save(whole, dict(metadata)))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file and its metadata.

    Raises:
        WeightsError: no such file, it is cut short or not a safetensors file, or holds more than
            `MAX_TENSORS`.
    """
    with _opened(path) as file:
        names = list(file.keys())
        _check_count(len(names), path)
        return {name: file.get_tensor(name) for name in names}, file.metadata() or {}


def read_metadata(path: Path) -> dict[str, str]:
    """Read the texts beside a safetensors file's tensors, and none of the tensors.

    Raises:
        WeightsError: no such file, or it is cut short or not a safetensors file.
    """
    with _opened(path) as file:
        return file.metadata() or {}


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a safetensors file; what is wrong with it becomes a `WeightsError`."""
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415 - keeps the import light

    if not path.is_file():
        raise WeightsError(f"no weights at {path}; expected a .safetensors file")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        message = f"{path} is damaged or not a safetensors file ({error}); fetch or train it again"
        raise WeightsError(message) from error


def _check_count(count: int, path: Path) -> None:
    if count > MAX_TENSORS:  # each takes its time
        message = f"{path}: expected at most {MAX_TENSORS} tensors, but got {count}"
        raise WeightsError(message)


def write_weights(weights: WeightFile, path: Path) -> None:
    """Write tensors, settings and card."""
    card = weights.card.to_json()
    if weights.card.prompts:
        card["prompts"] = [asdict(labels) for labels in weights.card.prompts]
    metadata = {
        "format": FORMAT,
        "settings": json.dumps(weights.settings),
        "card": json.dumps(card),
    }
    write_tensors(weights.tensors, path, metadata)


def read_weights(path: Path) -> WeightFile:
    """Read tensors, settings, card and hash, opening the file once.

    Raises:
        WeightsError: the file is absent, damaged, or was not written by mfclip.
    """
    from safetensors import SafetensorError  # noqa: PLC0415 - keeps the import of mfclip light
    from safetensors.torch import load  # noqa: PLC0415

    if not path.is_file():
        raise WeightsError(f"no weights at {path}; expected a .safetensors file")
    if path.suffix.lower() in PICKLED:
        raise WeightsError(f"{path} is no .safetensors file; {import_advice(path)}")
    try:
        content = path.read_bytes()
        # `load` checks the header, but does not hand out its texts: a length, then JSON
        header = from_json(content[8 : 8 + int.from_bytes(content[:8], "little")])
        _check_count(len(header) if isinstance(header, dict) else 0, path)
        tensors = load(content)
    except WeightsError:
        raise
    except (SafetensorError, OSError, ValueError) as error:
        message = f"{path} is damaged or not a safetensors file ({error}); fetch or train it again"
        raise WeightsError(message) from error
    metadata = header.get("__metadata__") or {}
    if metadata.get("format") != FORMAT:
        message = f"{path} was not written by mfclip: expected format {FORMAT!r}, but got "
        got = repr(metadata.get("format"))
        raise WeightsError(f"{message}{got}; {import_advice(path)}")
    settings, card = (read_text(metadata, name, path) for name in ("settings", "card"))
    digest = hashlib.sha256(content).hexdigest()
    return WeightFile(tensors, settings, read_card(card, f"the card of {path}"), digest, path)


def import_advice(path: Path, name: str = "NAME") -> str:
    """Say how a file that others published becomes one for ``--weights``."""
    return (
        f"if its authors published it, 'mfclip import {name} {path} -o {name}.safetensors' makes "
        "weights of it, once ('mfclip import' lists the names)"
    )


def read_text(texts: Mapping[str, str], name: str, path: Path) -> dict[str, Any]:
    """Read an object from the JSON texts that stand beside tensors or a graph.

    Args:
        texts: by their names.
        name: which one.
        path: their file, for the message.

    Raises:
        WeightsError: it is missing, longer than `MAX_TEXT`, no JSON, nested more than 200 deep, or
            no object.
    """
    text = texts.get(name, "")
    try:
        # unlike that of the standard library, this parser ends at a depth of 200 with a ValueError
        tree = from_json(text) if len(text) <= MAX_TEXT else None
    except ValueError:
        tree = None
    if not isinstance(tree, dict):
        raise WeightsError(
            f"{path} is damaged: its {name} cannot be read; expected a JSON object of at most "
            f"{MAX_TEXT / 1e6:g} MB; fetch or train it again"
        )
    return tree


def load_tensors(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Copy tensors into a module of the same shape.

    Raises:
        WeightsError: names, shapes or kinds of number differ (the message lists the first
            differences), or a number is not finite, or a variance negative.
    """
    _compare(module, tensors, source)
    # as the module will hold them: a float64 may lie beyond float32
    own = module.state_dict()
    whole = {name: values.to(own[name].dtype) for name, values in tensors.items()}
    broken = [name for name, values in whole.items() if not is_usable(name, values)]
    if broken:
        listed = ", ".join(broken[:5])
        message = f"{source}: not every number is finite, or a variance is negative, in {listed}"
        raise WeightsError(f"{message}; use other weights")
    module.load_state_dict(whole)


def is_usable(name: str, values: Tensor) -> bool:
    """Whether all numbers of a tensor are finite, and those of a variance not negative."""
    least = 0.0 if name.endswith("running_var") else -torch.inf
    return bool((values.isfinite() & (values >= least)).all())


def check_build(build: Callable[[], nn.Module], tensors: Mapping[str, Tensor], source: str) -> None:
    """Build a module without memory for its tensors, and compare it with those that are there.

    The settings of a file of unknown origin may ask for a petabyte or for a million blocks. This
    costs no more than the file is long; what is built afterwards has the sizes of what was read.

    Raises:
        MissingExtraError: the module needs a package that is not installed.
        WeightsError: the module cannot be built, or is another one than that of the tensors.
    """
    try:
        with _Bounded(1000 + 100 * len(tensors)), torch.device("meta"):
            draft = build()
    except MissingExtraError:
        raise
    except Exception as error:  # builders of other packages raise what they like
        reason = shorten(str(error), 300)
        raise WeightsError(f"{source}: nothing can be built from the settings: {reason}") from error
    _compare(draft, tensors, source)
    stored = draft.state_dict().keys()
    unstored = sum(each.numel() for name, each in draft.named_buffers() if name not in stored)
    if unstored > MAX_UNSTORED:
        raise WeightsError(f"{source}: the settings ask for tables of {unstored:,} numbers")


class _Bounded(TorchFunctionMode):
    """End a block of code that calls torch more often than `limit`."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.left = limit

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.left -= 1
        # `no_grad` comes by here on its way out, too: ended there, it would leave gradients off
        if self.left < 0 and func is not torch._C._set_grad_enabled:
            raise WeightsError("they name far more layers than there are tensors")
        return func(*args, **(kwargs or {}))


def _compare(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Refuse tensors of other names, shapes or kinds of number than those of a module."""
    own = module.state_dict()
    wrong = [
        f"{name}: expected {tuple(own[name].shape)}, got {tuple(tensors[name].shape)}"
        for name in own.keys() & tensors.keys()
        if own[name].shape != tensors[name].shape
    ]
    wrong += [
        f"{name}: expected {own[name].dtype}, got {tensors[name].dtype}"
        for name in own.keys() & tensors.keys()
        if own[name].is_floating_point() != tensors[name].is_floating_point()
    ]
    wrong += [f"{name}: missing" for name in own.keys() - tensors.keys()]
    wrong += [f"{name}: not part of this model" for name in tensors.keys() - own.keys()]
    if wrong:
        listed = "; ".join(sorted(wrong)[:5])
        raise WeightsError(f"{source} belongs to another model ({len(wrong)} tensors): {listed}")
