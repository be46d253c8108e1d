"""``mfclip data doctor | audit | show``: look at a data set before training on it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mfclip.cli.output import open_folder, refuse_unwritable
from mfclip.data.manifest import Manifest, read_manifest
from mfclip.datasets.audit import Audit, verdict
from mfclip.datasets.audit import audit as run_audit
from mfclip.datasets.audit_report import render_report
from mfclip.datasets.contact_sheet import contact_sheet
from mfclip.datasets.doctor import Finding, exit_code
from mfclip.datasets.doctor import doctor as run_doctor
from mfclip.datasets.sources import SOURCES, Source
from mfclip.errors import ConfigError
from mfclip.runtime.whole_file import partial_file, write_whole

SHOWN = 3
"""Examples printed below a finding; --json holds up to 100."""

MARKS = {"error": "[bold red]error[/]", "warning": "[yellow]warning[/]", "info": "[dim]info[/]"}

ManifestPath = Annotated[Path, typer.Argument(help="Manifest: .csv, .jsonl or .parquet.")]
Root = Annotated[
    Path | None, typer.Option(help="Folder of relative paths; the manifest's own if omitted.")
]
Workers = Annotated[
    int | None, typer.Option(min=0, help="Processes; all cores if omitted, 0 works in this one.")
]


def doctor(
    manifest: ManifestPath,
    source: Annotated[
        str | None,
        typer.Option(help="Data set whose published counts and split are expected."),
    ] = None,
    root: Root = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 on warnings.")] = False,
    workers: Workers = None,
) -> None:
    """Check whether a data set is usable: files, counts, splits, groups, duplicates, balance.

    Exit status: 0 usable, 1 usable with warnings (only with --strict), 2 not usable.
    """
    known = None if source is None else _find_source(source)
    rows = read_manifest(manifest, root=root)
    with _progress() as progress:
        findings = run_doctor(
            rows,
            expected=known.expected if known else None,
            official_groups=known.official_groups if known else False,
            workers=_count(workers),
            progress=progress,
        )
    code = exit_code(findings, strict=strict)
    if as_json:
        plain = [finding.as_dict() for finding in findings]
        typer.echo(json.dumps({"usable": code < 2, "findings": plain}, indent=2))  # noqa: PLR2004
    else:
        _print_findings(findings, code)
    raise typer.Exit(code)


def audit(
    manifest: ManifestPath,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="HTML report to write; JSON lies beside it.")
    ] = Path("audit.html"),
    train: Annotated[
        str | None, typer.Option(help="Split to fit on; cross-validation by group if omitted.")
    ] = None,
    test: Annotated[str | None, typer.Option(help="Split to measure on.")] = None,
    limit: Annotated[int, typer.Option(min=100, help="Pictures read at most.")] = 20_000,
    root: Root = None,
    seed: Annotated[int, typer.Option(help="Of the folds and of the choice of pictures.")] = 0,
    workers: Workers = None,
) -> None:
    """Measure what a detector could cheat with: AUC of trivial features, for each generator."""
    _check_ending(out, ".html")
    rows = read_manifest(manifest, root=root)
    figures = out.with_suffix(".json")
    open_folder(out.parent)
    with refuse_unwritable(out, figures):
        with _progress() as progress:
            result = run_audit(
                rows,
                train=train,
                test=test,
                limit=limit,
                workers=_count(workers),
                seed=seed,
                progress=progress,
            )
        with write_whole(out) as file:
            file.write(render_report(result, _title(manifest)))
        with write_whole(figures) as file:
            file.write(json.dumps(result.as_dict(), indent=2) + "\n")
    _print_verdict(result)
    typer.echo(f"report -> {out}")


def show(
    manifest: ManifestPath,
    out: Annotated[Path, typer.Option("--out", "-o", help="PNG to write.")] = Path("sheet.png"),
    split: Annotated[str | None, typer.Option(help="Only this split.")] = None,
    columns: Annotated[int, typer.Option(min=1, max=64, help="Pictures a row.")] = 8,
    size: Annotated[int, typer.Option(min=16, max=1024, help="Pixels a picture.")] = 128,
    root: Root = None,
    seed: Annotated[int, typer.Option(help="Of the choice of pictures.")] = 0,
) -> None:
    """Draw a contact sheet: some pictures of every class and generator."""
    _check_ending(out, ".png")
    rows = read_manifest(manifest, root=root)
    part: Manifest = rows.split(split) if split else rows
    open_folder(out.parent)
    with refuse_unwritable(out):
        sheet = contact_sheet(part, columns=columns, size=size, seed=seed)
        with partial_file(out) as partial:
            sheet.save(partial, "PNG")
    typer.echo(f"contact sheet, {sheet.width}x{sheet.height} pixels -> {out}")


def _check_ending(out: Path, ending: str) -> None:
    if out.suffix.lower() != ending:
        raise ConfigError(f"expected --out to end in {ending}, but got '{out}'")
    if out.is_dir():
        raise ConfigError(f"expected --out to be a file, but {out} is a folder")


def _title(manifest: Path) -> str:
    """The folder's name says more than "manifest.csv" alone."""
    return "/".join(manifest.absolute().parts[-2:])


def _find_source(name: str) -> Source:
    if name not in SOURCES:
        raise ConfigError(f"expected --source to be one of {', '.join(SOURCES)}, but got '{name}'")
    return SOURCES[name]


def _count(workers: int | None) -> int:
    return (os.cpu_count() or 1) if workers is None else workers


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar with the time left, on the error stream so that output can be piped."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        tasks = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage)
            bar.update(tasks[stage], completed=done, total=total)

        yield report


def _print_findings(findings: list[Finding], code: int) -> None:
    console = Console()
    for finding in findings:
        line = f"{MARKS[finding.severity]} {escape(finding.what)}"
        console.print(line, highlight=False, soft_wrap=True)
        for example in _shown(finding):
            console.print(f"    [dim]{escape(example)}[/]", highlight=False, soft_wrap=True)
        if finding.advice:
            console.print(f"    -> {escape(finding.advice)}", highlight=False, soft_wrap=True)
    warned = any(finding.severity == "warning" for finding in findings)
    words = {
        0: "usable, but heed the warnings" if warned else "usable",
        1: "usable with warnings",
        2: "not usable: mend the errors first",
    }
    console.print(f"\n[bold]{words[code]}[/]")


def _shown(finding: Finding) -> tuple[str, ...]:
    """All counts, some examples of what is wrong, none of what is right."""
    if finding.check == "counts":
        return finding.examples
    return () if finding.severity == "info" else finding.examples[:SHOWN]


def _print_verdict(result: Audit) -> None:
    console = Console()
    console.print(f"{result.num_images} pictures, {escape(result.protocol)}", highlight=False)
    if result.unreadable:
        count, first = len(result.unreadable), escape(result.unreadable[0])
        console.print(f"{count} files could not be read and were skipped, first: {first}")
    for line in verdict(result):
        console.print(f"- {escape(line)}", highlight=False)
