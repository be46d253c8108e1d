"""The site's drawn pages say what the code says, and every page begins with what it does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from docs import site
from mfclip.cli.app import app
from mfclip.config import known_keys, load_config

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
NAV = re.findall(r"([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text(), flags=re.MULTILINE)


def commands(command: Any, name: str = "mfclip") -> Iterator[tuple[str, Any]]:
    context = command.context_class(command, info_name=name)
    for child in getattr(command, "list_commands", lambda _: [])(context):
        found = command.get_command(context, child)
        yield f"{name} {child}", found
        yield from commands(found, f"{name} {child}")


def test_every_command_and_option_is_on_the_page() -> None:
    page = site.commands()
    sections = dict(re.findall(r"^##+ (mfclip .+?)\n(.*?)(?=^##|\Z)", page, flags=re.M | re.S))
    everything = dict(commands(get_command(app)))
    assert sections.keys() == everything.keys()
    assert {"mfclip predict", "mfclip data scan", "mfclip experiment run"} <= sections.keys()
    for name, command in everything.items():
        for parameter in command.params:
            if parameter.param_type_name == "option" and not parameter.hidden:
                assert f"{parameter.opts[0]}" in sections[name] or "--help" in parameter.opts
                assert (parameter.help or "x").split()[0] in sections[name]


def test_every_setting_is_on_the_page_with_its_default() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \| `(.+?)` \| `(.*?)` \|", site.settings(), flags=re.M)
    assert sorted(name for name, _, _ in rows) == sorted(known_keys())
    shown = {name: value for name, _, value in rows}
    assert float(shown["train.lr"]) == load_config().train.lr
    assert json.loads(shown["train.schedule"]) == "step"
    assert "paper" in next(line for line in site.settings().splitlines() if "`train.lr`" in line)


def test_a_notebook_becomes_a_page_with_what_its_cells_print() -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "words"]},
        {"cell_type": "code", "source": ["a = 3"]},
        {"cell_type": "code", "source": ["print(a * 7)"]},
    ]
    page = site.run_notebook(json.dumps({"cells": cells}))
    assert page.startswith("# Title\nwords\n")
    assert page.rstrip().endswith("print(a * 7)\n```\n\n```text\n21\n```")


def test_a_notebook_that_fails_fails_the_site() -> None:
    cells = [{"cell_type": "code", "source": ["1 / 0"]}]
    with pytest.raises(ZeroDivisionError):
        site.run_notebook(json.dumps({"cells": cells}))


def test_the_tutorial_keeps_no_outputs() -> None:
    cells = json.loads((ROOT / "docs" / "tutorial.ipynb").read_text())["cells"]
    assert not any(cell.get("outputs") for cell in cells)


def test_every_page_has_its_place_in_the_site() -> None:
    drawn = {"reference/commands.md", "reference/settings.md", "reference/json.md"}
    drawn |= set(site.SHOWN.values())
    written = {str(page.relative_to(ROOT / "docs")) for page in PAGES}
    assert sorted(NAV) == sorted(written | drawn), "add the page to nav in mkdocs.yml"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT / "docs")))
def test_page_begins_with_what_it_does(page: Path) -> None:
    title, empty, first = page.read_text().split("\n")[:3]
    assert title.startswith("# ")
    assert not empty
    assert first.startswith("**In short:** "), "say in two lines what the page is for"


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda p: p.name)
def test_words_that_only_insiders_know_are_absent(page: Path) -> None:
    found = re.findall(r"\bthe aim\b|development faces|\bthe brief\b", page.read_text(), re.I)
    assert not found


def typed(page: Path) -> Iterator[str]:
    """Every command line of a page, in a block or in the middle of a sentence."""
    text = page.read_text().replace("\\\n", " ")
    yield from re.findall(r"mfclip ((?:data |experiment )?[a-z]+ [^`\n#|]*)", text)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda p: p.name)
def test_commands_of_the_pages_can_be_typed(page: Path) -> None:
    everything = dict(commands(get_command(app)))
    for line in typed(page):
        words = line.split()
        names = [" ".join(["mfclip", *words[:count]]) for count in (2, 1)]
        command = next((everything[name] for name in names if name in everything), None)
        if command is None or hasattr(command, "list_commands"):
            continue  # a sentence about mfclip
        options = {option for each in command.params for option in each.opts} | {"--help"}
        for word in re.findall(r"(?<![\w-])--[a-z][a-z-]*", line):
            assert word in options, f"mfclip {line}"


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda p: p.name)
def test_settings_of_the_pages_exist(page: Path) -> None:
    named = re.findall(r"--set '?([a-z]+\.[\w.]+)=", page.read_text())
    assert {key for key in named if not key.startswith("model.options.")} <= set(known_keys())
