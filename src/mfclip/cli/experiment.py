"""``mfclip experiment``: the paper's tables and figures, on the data at hand."""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mfclip.cli.interrupt import tell_how_to_go_on
from mfclip.cli.options import WEIGHTS, Changes, Device, Manifests, OutFolder
from mfclip.cli.output import claim_file, claim_folder, refuse_unwritable
from mfclip.errors import ConfigError

if TYPE_CHECKING:
    from mfclip.experiment.plan import Experiment
    from mfclip.experiment.protocols import Protocol
    from mfclip.experiment.run import Outcome

experiment = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")


@experiment.callback()
def root() -> None:
    """Run the paper's tables and figures on your data, and report them."""


@experiment.command("list")
def list_() -> None:
    """Name the protocols that come with mfclip, and what each asks."""
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    from mfclip.experiment.protocols import list_protocols, load_protocol  # noqa: PLC0415

    table = Table(box=SIMPLE_HEAD)
    for heading in ("name", "question", "data", "runs"):
        table.add_column(heading, justify="right" if heading == "runs" else "left")
    for name in list_protocols():
        protocol = load_protocol(name)
        runs = len(protocol.rows) * len(protocol.train) * len(protocol.seeds)
        question = protocol.title + (f" (Table {protocol.table})" if protocol.table else "")
        table.add_row(name, question, protocol.data, str(runs))
    Console().print(table)
    typer.echo("runs: rows x training sets x seeds. A .toml file of your own works as well.")


@experiment.command()
def run(
    name: Annotated[str, typer.Argument(help="A protocol of 'list', or a .toml file.")],
    manifest: Manifests,
    out: OutFolder,
    config: Annotated[
        Path | None,
        typer.Option(help="TOML that all cells start from, e.g. configs/small.toml."),
    ] = None,
    set_: Changes = None,
    rows: Annotated[
        list[str] | None, typer.Option(help="Rows to run, with commas; default: all.")
    ] = None,
    trains: Annotated[
        list[str] | None, typer.Option(help="Training sets to run, with commas; default: all.")
    ] = None,
    tests: Annotated[
        list[str] | None, typer.Option(help="Test sets to run, with commas; default: all.")
    ] = None,
    seeds: Annotated[
        str, typer.Option(help="Training seeds, with commas; default: the protocol's.")
    ] = "",
    reuse: Annotated[
        list[Path] | None,
        typer.Option(help="Other experiments' folders: what they trained is not trained again."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count the images and estimate the time only.")
    ] = False,
    device: Device = "auto",
) -> None:
    """Train every cell of a protocol and test it; give the same command again to go on.

    Finished cells are kept and never run again. A cell that fails is named at the end, does not
    stop the others, and makes the exit status 1. Rows whose detector this version lacks are
    skipped. To share the work, start the same command once for each GPU (--device cuda:1), or on
    other machines that see --out. The report: mfclip experiment report DIR.
    """
    from mfclip.config import load_config  # noqa: PLC0415
    from mfclip.experiment.plan import (  # noqa: PLC0415
        join_manifests,
        plan_experiment,
        refuse_ineffective,
    )
    from mfclip.experiment.protocols import load_protocol  # noqa: PLC0415

    protocol, settings = load_protocol(name), load_config(config, set_ or [])
    planned = plan_experiment(
        protocol,
        join_manifests(manifest, root=settings.data.root),
        settings.model_dump(mode="json", exclude_unset=True),
        seeds=_numbers(seeds),
        **_chosen(protocol, rows=rows, trains=trains, tests=tests),
    )
    refuse_ineffective(planned, [text.partition("=")[0].strip() for text in set_ or []])
    for skipped in planned.skipped:
        typer.echo(f"skipped: {skipped.row}: {skipped.reason}")
    if dry_run:
        _estimate(planned, device)
        return
    inputs: list[Path | str | None] = [*manifest, config, name]
    claim_folder("--out", out, inputs=inputs, names=["experiment.json"])
    _run(planned, out, device, reuse or [])


@experiment.command()
def report(
    folders: Annotated[
        list[Path],
        typer.Argument(
            help="Folder of an experiment; more with other cells of the same are joined to it.",
            metavar="FOLDER...",
        ),
    ],
) -> None:
    """Write report.md, report.csv, report.tex and report.html beside the (first folder's) cells.

    They may be incomplete: rows without figures are listed with the reason.
    """
    from mfclip.experiment.report import NAMES, write_report  # noqa: PLC0415

    folder, *others = folders
    with refuse_unwritable(folder):
        results = write_report(folder, others)
    for name, reason in results.absent.items():
        typer.echo(f"without figures: {name}: {reason}")
    typer.echo(f"{len(results.runs)} finished cells: {', '.join(NAMES)} are in {folder}")


@experiment.command()
def compare(
    folder: Annotated[Path, typer.Argument(help="Folder of an experiment.")],
    row: Annotated[str, typer.Argument(help="Name of a row, e.g. MFCLIP.")],
    base: Annotated[str, typer.Argument(help="Name of the row that is subtracted, e.g. CViT.")],
    figure: Annotated[str, typer.Option(help="auc, ap or eer.")] = "auc",
) -> None:
    """Say how far one row lies above another on the same faces, in percentage points.

    The 95% interval is that of the difference: faces are drawn once for both rows, and seeds in
    pairs. An interval that holds 0 shows no difference.
    """
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    from mfclip.experiment.differences import compare_rows  # noqa: PLC0415
    from mfclip.experiment.results import read_results  # noqa: PLC0415
    from mfclip.experiment.store import Store  # noqa: PLC0415

    table = Table(box=SIMPLE_HEAD)
    store = Store(folder)
    labels = [read_results(store).label(name) for name in (row, base)]
    apart = f"{figure}: {' - '.join(labels)}"
    for heading in ("trained on", "test", "seeds", apart, "95% interval"):
        table.add_column(heading, justify="right" if "-" in heading or "%" in heading else "left")
    for each in compare_rows(store, row, base, figure=figure):
        # the same in every resample: a row and itself, or faces that all rows judge right
        is_known = each.low < each.high
        interval = f"[{100 * each.low:+.1f}, {100 * each.high:+.1f}]" if is_known else "n/a"
        seeds = ",".join(map(str, each.seeds))
        value = f"{100 * each.value:+.1f}"
        table.add_row(each.train, each.test, seeds, value, escape(interval))
    Console().print(table)


@experiment.command()
def figure(
    name: Annotated[
        str,
        typer.Argument(
            help="Of an experiment: fig6, fig7, fig8, roc, det, reliability, histograms, training; "
            "all: each that it can give. Of detectors: fig1a, fig9a, fig9b, tsne."
        ),
    ],
    folder: Annotated[
        Path | None, typer.Argument(help="Folder of the experiment.", show_default=False)
    ] = None,
    manifest: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="Of detectors: manifest of faces to choose from. Repeatable."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="Of detectors: to write; .png, .svg or .pdf."
        ),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WEIGHTS", help=f"Of detectors; repeatable for fig9a and fig9b. {WEIGHTS}"
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="Of detectors: split to choose from.")] = "test",
    seed: Annotated[int, typer.Option(help="Of detectors: choice of the faces.")] = 0,
    device: Device = "auto",
) -> None:
    """Draw a figure: of an experiment's results, or of what detectors see in faces.

    Of an experiment, into its folder figures/, as PDF and PNG. fig6: mean AUC a test set.
    fig7: AUC over levels of damage. fig8: AUC over levels of prompts.

    Of detectors, as one file. fig1a: richest and poorest patches with their noise. fig9a:
    similarity of images and prompts, with and without SPA. fig9b: heat maps side by side.
    tsne: vision features by generator.
    """
    from mfclip.experiment.drawing import FIGURES  # noqa: PLC0415
    from mfclip.experiment.figures.gallery import FIGURES as PICTURES  # noqa: PLC0415

    if name in PICTURES:
        if folder is not None or not manifest or out is None:
            raise ConfigError(f"{name} shows faces: give --manifest and --out, and no folder")
        _draw_faces(name, manifest, split, out, weights=weights or [None], device=device, seed=seed)
        return
    if name != "all" and name not in FIGURES:
        known = ", ".join([*FIGURES, *PICTURES])
        raise ConfigError(f"expected a figure among {known} or all, but got '{name}'")
    if folder is None or manifest or out or weights:
        raise ConfigError(
            f"{name} shows the results of an experiment: give its folder, and no --manifest, "
            "--out or --weights"
        )
    _draw_results(list(FIGURES) if name == "all" else [name], folder, pass_over=name == "all")


def _draw_faces(name: str, manifest: Sequence[Path], split: str, out: Path, **options: Any) -> None:
    from mfclip.experiment.figures.gallery import write_picture  # noqa: PLC0415
    from mfclip.experiment.figures.style import ENDINGS  # noqa: PLC0415
    from mfclip.experiment.plan import join_manifests  # noqa: PLC0415

    faces = join_manifests(manifest).split(split)
    inputs = [*manifest, *(sample.path for sample in faces)]
    claim_file("--out", out, ENDINGS, inputs=inputs)
    with refuse_unwritable(out):
        typer.echo(write_picture(name, faces, out, **options))


def _draw_results(names: Sequence[str], folder: Path, *, pass_over: bool) -> None:
    from mfclip.experiment.drawing import write_figure  # noqa: PLC0415

    for name in names:
        try:
            with refuse_unwritable(folder):
                written = write_figure(name, folder)
        except ConfigError as error:
            if not pass_over:
                raise
            typer.echo(f"left out: {name}: {error}")
            continue
        for path in written:
            typer.echo(path)


def _run(planned: Experiment, out: Path, device: str, reuse: Sequence[Path]) -> None:
    from mfclip.experiment.run import run_experiment  # noqa: PLC0415

    advice = "give the same command again to go on; finished cells are kept"
    with refuse_unwritable(out), tell_how_to_go_on(lambda: advice):
        outcome = run_experiment(planned, out, device=device, notify=_say, reuse=reuse)
    _tell(outcome, out)
    if outcome.failed:
        raise typer.Exit(1)


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _tell(outcome: Outcome, out: Path) -> None:
    typer.echo(
        f"{len(outcome.finished)} cells finished, {len(outcome.kept)} finished before, "
        f"{len(outcome.failed)} failed; results in {out}"
    )
    if outcome.elsewhere:
        typer.echo(f"{len(outcome.elsewhere)} cells are under way in other processes")
    for key, reason in outcome.failed.items():
        typer.echo(f"failed: {key}: {reason}")


def _estimate(planned: Experiment, device: str) -> None:
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    from mfclip.experiment.estimate import estimate_experiment  # noqa: PLC0415
    from mfclip.train.log import in_words  # noqa: PLC0415

    found = estimate_experiment(planned, device=device)
    table = Table(box=SIMPLE_HEAD)
    for heading in ("row", "trained on", "seed", "train", "val", "tests", "pictures", "time"):
        left = heading in ("row", "trained on")
        table.add_column(heading, justify="left" if left else "right")
    for each in found:
        cell = each.cell
        numbers = (cell.seed, each.train, each.val, len(cell.tests), each.test)
        table.add_row(cell.label, cell.train.name, *map(str, numbers), in_words(each.seconds))
    Console().print(table)
    for row, problem in {e.cell.label: e.problem for e in found if e.problem}.items():
        typer.echo(f"cannot be measured: {row}: {problem}")
    total = in_words(fsum(each.seconds for each in found if not each.problem))
    typer.echo(f"{len(found)} cells, about {total} on this machine; nothing was written")


def _numbers(text: str) -> list[int] | None:
    if not text:
        return None
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise ConfigError(f"expected --seeds to be numbers like 0,1,2, but got '{text}'") from None


def _chosen(protocol: Protocol, **options: list[str] | None) -> dict[str, list[str] | None]:
    known = {
        "rows": [row.name for row in protocol.rows],
        "trains": [subset.name for subset in protocol.train],
        "tests": [subset.name for subset in protocol.test],
    }
    return {
        option: None if words is None else _split_names(words, known[option])
        for option, words in options.items()
    }


def _split_names(words: Sequence[str], known: Sequence[str]) -> list[str]:
    """Cut words at commas, but not inside a name that has one, such as ``CLIP, 1 level``."""
    found = []
    for word in words:
        rest = word.strip()
        while rest:
            names = [name for name in known if f"{rest},".startswith(f"{name},")]
            name = max(names, key=len, default=rest.partition(",")[0])
            found.append(name.strip())
            rest = rest.removeprefix(name).lstrip(", ")
    return found
