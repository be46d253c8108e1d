"""Templates -> HTML that needs nothing from elsewhere; what is filled in is always escaped."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment


def render_page(template: str, *packages: str, **values: object) -> str:
    """Fill in a template.

    Args:
        template: file name.
        *packages: whose folders hold it and what it extends and includes, e.g. ``mfclip.report``;
            ``base.html`` and ``style/base.css`` of this package can be named in any template.
        **values: what it is filled with. Text is escaped; what is HTML already must be
            `markupsafe.Markup`.

    Raises:
        jinja2.UndefinedError: the template asks for a value that is not there.
    """
    return _environment(packages).get_template(template).render(values)


@cache
def _environment(packages: tuple[str, ...]) -> Environment:
    # imported here: most commands write no page
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415

    return Environment(
        loader=FileSystemLoader([str(files(name)) for name in (*packages, "mfclip.runtime")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
