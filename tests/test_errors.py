"""The error tree as drawn, and the message of a missing package."""

from __future__ import annotations

import inspect
import math
import sys

import pytest

from mfclip import errors
from mfclip.errors import MfclipError, MissingExtraError, require


def test_the_tree_is_the_one_drawn_in_the_docstring() -> None:
    drawn = [
        line.split("── ")[1].split()[0]
        for line in (errors.__doc__ or "").splitlines()
        if "── " in line
    ]
    children = [kind.__name__ for kind in MfclipError.__subclasses__()]
    own = [
        name
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, MfclipError) and kind is not MfclipError
    ]
    assert drawn == children == own


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("InputError", ValueError),
        ("ManifestError", ValueError),
        ("ConfigError", ValueError),
        ("WeightsError", ValueError),
        ("TrainingError", RuntimeError),
        ("MissingExtraError", ImportError),
    ],
)
def test_each_error_is_also_the_built_in_one_that_callers_expect(
    name: str, builtin: type[Exception]
) -> None:
    kind = getattr(errors, name)
    with pytest.raises(builtin, match="what to do") as caught:
        raise kind("what to do")
    assert isinstance(caught.value, MfclipError)


def test_require_returns_the_module() -> None:
    assert require("math", extra="all") is math


def test_a_missing_package_names_itself_and_its_extra() -> None:
    with pytest.raises(MissingExtraError) as caught:
        require("package_that_is_nowhere.part", extra="train")
    assert str(caught.value) == (
        "this needs the package 'package_that_is_nowhere', which is not installed; "
        "install it with: pip install 'mfclip[train]'"
    )
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_a_package_is_called_by_the_name_it_installs_by(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)  # as if it were not there
    with pytest.raises(MissingExtraError, match="'scikit-learn', which is not installed"):
        require("sklearn", extra="train")
