"""``mfclip data doctor | audit | show``: look at a data set before training on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from mfclip.cli.options import ManifestArgument, Root, Seed, Split, Workers, count_workers
from mfclip.cli.output import claim_file, files_of, refuse_unwritable
from mfclip.cli.progress import Bars
from mfclip.data.manifest import Manifest, read_manifest
from mfclip.datasets.audit import LIMIT, Audit, verdict
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


def doctor(
    manifest: ManifestArgument,
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
    with Bars() as bars:
        findings = run_doctor(
            rows,
            expected=known.expected if known else None,
            official_groups=known.official_groups if known else False,
            workers=count_workers(workers),
            progress=bars.tell,
        )
    code = exit_code(findings, strict=strict)
    if as_json:
        plain = [finding.as_dict() for finding in findings]
        typer.echo(json.dumps({"usable": code < 2, "findings": plain}, indent=2))  # noqa: PLR2004
    else:
        _print_findings(findings, code)
    raise typer.Exit(code)


def audit(
    manifest: ManifestArgument,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="FILE.html", help="Report to write; the same as JSON beside it."
        ),
    ] = Path("audit.html"),
    train: Annotated[
        str | None, typer.Option(help="Split to fit on; cross-validation by group if omitted.")
    ] = None,
    test: Annotated[str | None, typer.Option(help="Split to measure on.")] = None,
    limit: Annotated[
        int, typer.Option(min=100, help="Images read at most, drawn alike from every class.")
    ] = LIMIT,
    root: Root = None,
    seed: Seed = 0,
    workers: Workers = None,
) -> None:
    """Measure what a detector could cheat with: AUC of trivial features, for each generator.

    Takes less than a minute a thousand images on two cores.
    """
    rows = read_manifest(manifest, root=root)
    figures = out.with_suffix(".json")
    claim_file("--out", out, [".html"], inputs=files_of(manifest, rows), beside=[figures])
    with refuse_unwritable(out, figures):
        with Bars() as bars:
            result = run_audit(
                rows,
                train=train,
                test=test,
                limit=limit,
                workers=count_workers(workers),
                seed=seed,
                progress=bars.tell,
            )
        with write_whole(out) as file:
            file.write(render_report(result, _title(manifest)))
        with write_whole(figures) as file:
            file.write(json.dumps(result.as_dict(), indent=2) + "\n")
    _print_verdict(result)
    typer.echo(f"report -> {out}")


def show(
    manifest: ManifestArgument,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE.png", help="Image to write.")
    ] = Path("sheet.png"),
    split: Split = None,
    columns: Annotated[int, typer.Option(min=1, max=64, help="Images a row.")] = 8,
    size: Annotated[int, typer.Option(min=16, max=1024, help="Pixels an image.")] = 128,
    root: Root = None,
    seed: Seed = 0,
) -> None:
    """Draw a contact sheet: some images of every class and generator."""
    rows = read_manifest(manifest, root=root)
    part: Manifest = rows.split(split) if split else rows
    claim_file("--out", out, [".png"], inputs=files_of(manifest, rows))
    with refuse_unwritable(out):
        sheet = contact_sheet(part, columns=columns, size=size, seed=seed)
        with partial_file(out) as partial:
            sheet.save(partial, "PNG")
    typer.echo(f"contact sheet, {sheet.width}x{sheet.height} pixels -> {out}")


def _title(manifest: Path) -> str:
    """The folder's name says more than "manifest.csv" alone."""
    return "/".join(manifest.absolute().parts[-2:])


def _find_source(name: str) -> Source:
    if name not in SOURCES:
        raise ConfigError(f"expected --source to be one of {', '.join(SOURCES)}, but got '{name}'")
    return SOURCES[name]


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
    some = result.num_images + len(result.unreadable) < result.num_listed
    read = f"{result.num_images} of {result.num_listed}" if some else f"{result.num_images}"
    more = "; --limit reads more" if some else ""
    console.print(f"{read} images, {escape(result.protocol)}{more}", highlight=False)
    if result.unreadable:
        count, first = len(result.unreadable), escape(result.unreadable[0])
        console.print(f"{count} files could not be read and were skipped, first: {first}")
    for line in verdict(result):
        console.print(f"- {escape(line)}", highlight=False)
