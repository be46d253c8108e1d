"""Tensors out of checkpoint files that others wrote: safetensors, or PyTorch's pickles.

A pickle is a program that names what it wants called. PyTorch's restricted reader calls nothing but
what builds tensors; whatever else a file names becomes an inert stand-in here, which takes what it
is given and does nothing. So no code of the file runs, and a whole pickled module can still be
read for its tensors.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mfclip.errors import WeightsError
from mfclip.weights import read_tensors

HOLDERS = ("state_dict", "model", "model_state_dict", "net", "network", "weights")
"""Keys under which training scripts keep a network's tensors, the likelier first."""

MAX_NAMES = 200
"""Classes and functions that a pickle may name beside those of tensors."""


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read the tensors of one network by their names in the file.

    Optimiser states and other company are passed over, and so is a ``module.`` before all names.

    Args:
        path: ``.safetensors``, or what ``torch.save`` wrote: a state dict, one inside a dictionary,
            or a whole module.

    Raises:
        WeightsError: no such file, damaged, or without the tensors of a network.
    """
    if not path.is_file():
        raise WeightsError(f"no checkpoint at {path}")
    if path.suffix == ".safetensors":
        tensors = read_tensors(path)[0]
    else:
        tensors = dict(_tensors(_find_network(_read_pickle(path), path)))
    if not tensors:
        raise WeightsError(f"{path} holds no tensors under names; expected a network's state dict")
    if all(name.startswith("module.") for name in tensors):  # of DataParallel
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    # whole numbers, such as counts of batches, stay
    return {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}


class _Inert:
    """Stands for anything that a pickle names and that is no tensor."""

    state: Any = None

    def __new__(cls, *_args: object, **_kwargs: object) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        self.state = state


def _read_pickle(path: Path) -> object:
    """Read with PyTorch's restricted reader; each name that it refuses becomes inert."""
    named: list[Any] = []
    while len(named) < MAX_NAMES:
        try:
            with warnings.catch_warnings(), torch.serialization.safe_globals(named):
                warnings.simplefilter("ignore")  # old files warn about their own form
                return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            found = re.search(r"GLOBAL ([\w.]+) was not an allowed global", str(error))
            if found is None or any(name == found[1] for _, name in named):
                raise WeightsError(_refusal(path, error)) from error
            named.append((_Inert, found[1]))
        except (RuntimeError, OSError, EOFError, KeyError, ValueError, TypeError) as error:
            raise WeightsError(_refusal(path, error)) from error
    raise WeightsError(f"{path} names more than {MAX_NAMES} things that are no tensors")


def _refusal(path: Path, error: Exception) -> str:
    reason = re.split(r"[\n.] ", str(error).strip())[-1][:200]
    advice = "expected a file of torch.save or .safetensors; save the network's state dict anew"
    if "TorchScript" in str(error):
        advice = "it is a TorchScript program; take the safetensors file of the same weights"
    return f"{path} cannot be read for its tensors alone ({reason}); {advice}"


def _find_network(tree: object, path: Path) -> Any:
    """Descend to the dictionary, or the module, that holds a network's tensors."""
    if isinstance(tree, _Inert):
        return tree
    if not isinstance(tree, Mapping):
        raise WeightsError(f"{path} holds no dictionary of tensors, but a {type(tree).__name__}")
    if any(isinstance(value, Tensor) for value in tree.values()):
        return tree
    inner = {str(k): v for k, v in tree.items() if isinstance(v, Mapping | _Inert)}
    for key in HOLDERS:
        if key in inner:
            return _find_network(inner[key], path)
    if len(inner) == 1:
        return _find_network(next(iter(inner.values())), path)
    raise WeightsError(
        f"{path} holds a network under none of [{', '.join(HOLDERS)}], but [{', '.join(inner)}]"
    )


def _tensors(tree: object, start: str = "") -> Iterator[tuple[str, Tensor]]:
    """Iterate over a state dict, or over what a pickled module keeps in itself."""
    if isinstance(tree, _Inert) and isinstance(tree.state, Mapping):
        for part in ("_parameters", "_buffers", "_modules"):
            yield from _tensors(tree.state.get(part), start)
    elif isinstance(tree, Mapping):
        for name, value in tree.items():
            if isinstance(value, Tensor):
                yield f"{start}{name}", value.detach()
            else:
                yield from _tensors(value, f"{start}{name}.")
