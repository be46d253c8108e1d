"""Options and settings that mean nothing are refused by name."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from mfclip.baselines.options import read_options, refuse_unused
from mfclip.config import ImageEncoderSettings, ModelSettings
from mfclip.errors import ConfigError


def first(*, given: int, width: int = 3, sizes: tuple[int, ...] = ()) -> None:
    """Stand for a class with two options."""


def second(*, head: Literal["a", "b"] = "a") -> None:
    """Stand for another, with one."""


def settings(**options: Any) -> ModelSettings:
    return ModelSettings(name="net", options=options)


def test_each_target_gets_its_options_in_its_types() -> None:
    read = read_options(settings(sizes=[1, 2], head="b", width=5), first, second, given=("given",))
    assert read == ({"sizes": (1, 2), "width": 5}, {"head": "b"})
    assert read_options(settings(), first, given=()) == ({},)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"wdth": 1}, r"options of 'net' to be among \[width, sizes, head\], but got 'wdth'"),
        ({"given": 1}, r"among \[width, sizes, head\], but got 'given'"),
        ({"width": "wide"}, r"model\.options\.width: .*integer.*, but got 'wide'"),
        ({"head": "c"}, r"model\.options\.head: .*'a' or 'b'.*, but got 'c'"),
    ],
)
def test_unknown_names_and_wrong_types_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_options(settings(**options), first, second, given=("given",))


def test_a_changed_setting_must_be_one_that_is_used() -> None:
    changed = ModelSettings(name="net", embed_dim=64, image=ImageEncoderSettings(depth=2))
    refuse_unused(changed, ("embed_dim", "image"))
    with pytest.raises(ConfigError, match=r"model\.image means nothing to 'net'.*embed_dim"):
        refuse_unused(changed, ("embed_dim",))
    refuse_unused(ModelSettings(name="net", image_size=64, pretrained="x"), ())
