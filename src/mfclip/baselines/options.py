"""A baseline's own arguments: ``model.options`` against the signature of its class."""

from __future__ import annotations

from collections.abc import Callable, Collection
from inspect import signature
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mfclip.config import ModelSettings
from mfclip.errors import ConfigError

_ALWAYS = ("name", "image_size", "pretrained", "options")

MAX_NUMBER = 100_000
"""Largest number that an option may have."""


def read_options(
    settings: ModelSettings, *targets: Callable[..., object], given: Collection[str]
) -> tuple[dict[str, Any], ...]:
    """Check ``model.options`` by the keyword arguments of what will be called with them.

    Args:
        settings: holds the options.
        targets: classes or functions whose arguments the options are.
        given: arguments that come from elsewhere and so are no options.

    Returns:
        For each target its options, converted to the arguments' types.

    Raises:
        ConfigError: an unknown option or a value of the wrong type.
    """
    known = [_types(target, given) for target in targets]
    names = [name for types in known for name in types]
    for name in settings.options:
        if name not in names:
            raise ConfigError(
                f"expected model.options of {settings.name!r} to be among "
                f"[{', '.join(names) or 'none'}], but got {name!r}"
            )
    options = settings.options.items()
    return tuple(
        {name: _convert(name, value, types[name]) for name, value in options if name in types}
        for types in known
    )


def _types(target: Callable[..., object], given: Collection[str]) -> dict[str, Any]:
    parameters = signature(target, eval_str=True).parameters
    return {name: p.annotation for name, p in parameters.items() if name not in given}


def _convert(name: str, value: object, wanted: Any) -> Any:
    # weights of unknown origin name options, too, and some builders make a list as long as asked
    if isinstance(value, int | float) and not abs(value) <= MAX_NUMBER:
        raise ConfigError(f"model.options.{name}: expected at most {MAX_NUMBER}, but got {value!r}")
    try:
        return TypeAdapter(wanted).validate_python(value)
    except ValidationError as error:
        message = error.errors()[0]["msg"].lower()
        raise ConfigError(f"model.options.{name}: {message}, but got {value!r}") from None


def refuse_unused(settings: ModelSettings, used: Collection[str]) -> None:
    """Refuse a setting that differs from its default and means nothing to this detector.

    Raises:
        ConfigError: there is one.
    """
    for name, field in ModelSettings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if name not in (*_ALWAYS, *used) and getattr(settings, name) != default:
            listed = ", ".join(sorted({*_ALWAYS, *used} - {"name"}))
            raise ConfigError(
                f"model.{name} means nothing to {settings.name!r}, which uses [{listed}]; "
                f"leave it out"
            )
