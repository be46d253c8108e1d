"""What the site has beside the pages in docs: drawn from the code while mkdocs builds it.

Commands come from the command line itself, settings from `mfclip.config`, the JSON Schema from the
package, the tutorial from its notebook; CHANGELOG.md and others are shown where they lie. Links to
files outside docs become their names, or links into the repository if mkdocs.yml names one.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from griffe import Extension, Object
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from typer.main import get_command

from mfclip.cli.app import app
from mfclip.config import RunConfig, Settings
from mfclip.predict import schema

ROOT = Path(__file__).resolve().parents[1]
SHOWN = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "benchmarks.md",
    "docs/tutorial.ipynb": "tutorial.md",
}
"""Pages of the repository that the site shows, too, and under which address."""

LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the drawn pages (an event of mkdocs)."""
    drawn = {
        "reference/commands.md": commands(),
        "reference/settings.md": settings(),
        "reference/json.md": json_schema(),
    }
    for source, address in SHOWN.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        drawn[address] = run_notebook(text) if source.endswith(".ipynb") else text
    for address, content in drawn.items():
        files.append(File.generated(config, address, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links to what the site lacks into names (an event of mkdocs)."""
    place = page.file.src_uri
    source = {address: name for name, address in SHOWN.items()}.get(place, f"docs/{place}")
    folder = posixpath.dirname(source)

    def repair(link: re.Match[str]) -> str:
        words, (address, _, anchor) = link[1], link[2].partition("#")
        if not address or re.match(r"[a-z]+:", address):
            return link[0]
        target = posixpath.normpath(posixpath.join(folder, address))
        here = SHOWN.get(target, target.removeprefix("docs/"))
        if (target in SHOWN or target.startswith("docs/")) and files.get_file_from_path(here):
            new = posixpath.relpath(here, posixpath.dirname(place) or ".")
            return f"[{words}]({new}{'#' * bool(anchor)}{anchor})"
        if config.repo_url:
            return f"[{words}]({config.repo_url.rstrip('/')}/blob/main/{target})"
        return words if target in words else f"{words} (`{target}`)"

    return LINK.sub(repair, markdown)


def commands() -> str:
    """Draw every command with its arguments and options, as the command line knows them."""
    parts = [
        "# Commands\n\n**In short:** every command and option of this version, as `--help` says "
        "them. Exit status: 0, done; 1, done but for what is listed; 2, not done, with one line "
        "that says why ([errors](../errors.md)).\n"
    ]
    parts += _command(get_command(app), ("mfclip",))
    return "\n".join(parts)


def _command(command: Any, names: tuple[str, ...]) -> Iterator[str]:
    context = command.context_class(command, info_name=" ".join(names))
    children = command.list_commands(context) if hasattr(command, "list_commands") else []
    if len(names) > 1:
        yield f"{'#' * len(names)} {' '.join(names)}\n"
        yield inspect.cleandoc(command.help or "").replace("\f", "") + "\n"
    if not children:
        yield f"```console\n{' '.join(command.get_usage(context).split()[1:])}\n```\n"
        rows = [row for item in command.get_params(context) if (row := _parameter(item, context))]
        yield "\n".join(["| option | value | default | meaning |", "|---|---|---|---|", *rows, ""])
    for name in children:
        yield from _command(command.get_command(context, name), (*names, name))


def _parameter(item: Any, context: Any) -> str | None:
    if getattr(item, "hidden", False) or "--help" in item.opts:
        return None
    argument = item.param_type_name == "argument"
    names = item.name if argument else ", ".join(item.opts)
    flag = getattr(item, "is_flag", False)
    value = "" if flag else item.metavar or item.display_type(context)
    default = item.get_default(context, call=False)
    if item.required:
        shown = "required"
    elif flag or default in (None, (), []) or callable(default):
        shown = ""
    else:
        shown = f"`{default}`"
    meaning = " ".join((getattr(item, "help", None) or "").split())
    cells = (f"`{names}`", f"`{value}`" if value else "", shown, meaning)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def settings() -> str:
    """Draw every setting with its type, default and the comment beside it."""
    parts = [
        "# Settings\n\n**In short:** every key of a run's TOML file and of `--set key=value`; the "
        "defaults are the paper's. What they do together: [training](../training.md).\n"
    ]
    parts += _settings(RunConfig, "")
    return "\n".join(parts)


def _settings(model: type[Settings], prefix: str) -> Iterator[str]:
    source = inspect.getsource(model)
    rows = []
    groups = {}
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Settings):
            groups[name] = field.annotation
            continue
        written = re.search(rf"^    {name}: (.+?)(?: = .*?)?(?:  # (.*))?$", source, re.MULTILINE)
        kind, comment = (written[1], written[2] or "") if written else ("", "")
        above = re.search(rf"^    # (.*)\n    {name}: ", source, re.MULTILINE)
        words = "; ".join(filter(None, (above and above[1], comment)))
        default = json.dumps(field.get_default(call_default_factory=True), default=str)
        cells = (f"`{prefix}{name}`", f"`{kind}`", f"`{default}`", words)
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    if rows:
        yield f"## {prefix.rstrip('.') or 'the run'}\n"
        yield (inspect.getdoc(model) or "") + "\n"
        yield "\n".join(["| key | type | default | meaning |", "|---|---|---|---|", *rows, ""])
    for name, group in groups.items():
        yield from _settings(group, f"{prefix}{name}.")


def json_schema() -> str:
    """Show the JSON Schema of what `mfclip predict --json` writes."""
    text = json.dumps(schema.json_schema(), indent=1)
    return (
        "# JSON\n\n**In short:** the JSON Schema of what `mfclip predict --json` writes and the "
        "service answers with; `mfclip.predict.schema.json_schema()` returns it. The keys in "
        "words: [pictures](../predict.md#json-schema-2), [videos](../video.md#json), "
        "[service](../serve.md).\n\nA server also describes its routes itself: `/v1/openapi.json`."
        f"\n\n```json\n{text}\n```\n"
    )


def run_notebook(text: str) -> str:
    """Run a notebook's cells and write it as a page: text, code, and what the code printed.

    Nothing that was printed is kept in the file, so no figure in it can be out of date. Needs no
    Jupyter: the cells are plain Python that prints.
    """
    names: dict[str, Any] = {"__name__": "tutorial"}
    parts = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(source, "docs/tutorial.ipynb", "exec"), names)  # our own file
        parts.append(f"```python\n{source}\n```\n\n```text\n{printed.getvalue().rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


class Examples(Extension):
    """Lets mkdocstrings show our sections of examples as code.

    We write ``Example:``; its parser knows ``Examples:`` only, and would take the prompts ``>>>``
    for quotations.
    """

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rename the sections of one docstring (an event of griffe)."""
        if obj.docstring:
            text = obj.docstring.value
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)
