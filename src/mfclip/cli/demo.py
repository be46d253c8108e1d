"""``mfclip demo``: judge the pictures that come with the package, and show page and table."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mfclip.cli.output import open_folder, refuse_unwritable
from mfclip.errors import InputError

if TYPE_CHECKING:
    from mfclip.data.manifest import Manifest, Sample
    from mfclip.predict.prediction import Prediction
    from mfclip.predict.predictor import Predictor

PICTURES = "assets/demo"
"""Where the pictures and their manifest lie in the package."""


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the pictures and report.html.")] = Path(
        "demo"
    ),
    weights: Annotated[
        str | None,
        typer.Option(help="A .safetensors file, a run's folder or a hub id; default: embedded."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
) -> None:
    """Judge public-domain portraits and forgeries of them, and write a report.

    The forgeries are small edits made by mfclip itself, not by a generator network: they show how
    the software works, not how well it does on deepfakes.
    """
    from mfclip.predict.faces import WholePicture  # noqa: PLC0415
    from mfclip.predict.predictor import Predictor  # noqa: PLC0415

    predictor = Predictor.load(weights, device=device, finder=WholePicture(), keep_detector=True)
    judged = run_demo(predictor, out)
    _show(judged)
    typer.echo(f"The page with pictures, patches and noise: {out / 'report.html'}")


def run_demo(predictor: Predictor, out: Path) -> list[tuple[Sample, Prediction]]:
    """Copy the demo pictures to a folder, judge them there and write ``report.html``.

    Raises:
        ConfigError: the folder cannot be written.
        InputError: a picture cannot be judged.
    """
    from mfclip.predict.prediction import Failure  # noqa: PLC0415
    from mfclip.report.report import Report  # noqa: PLC0415
    from mfclip.report.views import draw_heat  # noqa: PLC0415

    manifest = _copy_pictures(out)
    captions = {str(sample.path): f"In truth: {describe(sample)}." for sample in manifest}
    page = Report(
        predictor.describe(),
        title="mfclip demo: real faces and forgeries of them",
        captions=captions,
        show_heat=partial(draw_heat, predictor.detector),
    )
    judged = []
    inputs = [sample.path for sample in manifest]
    for sample, result in zip(
        manifest, predictor.iter_predict(inputs, keep_pixels=True), strict=True
    ):
        if isinstance(result, Failure):
            raise InputError(f"{result.path}: {result.error}")
        page.add(result)
        judged.append((sample, result))
    with refuse_unwritable(out / "report.html"):
        page.write(out / "report.html")
    return judged


def describe(sample: Sample) -> str:
    """Say in words what a demo picture is."""
    labels = sample.labels
    if not labels.is_fake:
        return "real photograph"
    return f"fake, {labels.generator or 'unknown'}"


def _copy_pictures(out: Path) -> Manifest:
    from importlib.resources import files  # noqa: PLC0415

    from mfclip.data.manifest import read_manifest  # noqa: PLC0415

    folder = out / "pictures"
    open_folder(folder)
    with refuse_unwritable(folder):
        shutil.copytree(str(files("mfclip").joinpath(PICTURES)), folder, dirs_exist_ok=True)
    return read_manifest(folder / "manifest.csv")


def _show(judged: list[tuple[Sample, Prediction]]) -> None:
    from rich import box  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    from mfclip.report.wording import Words  # noqa: PLC0415

    words = Words()
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("picture", "in truth", "score", "verdict", ""):
        table.add_column(column, justify="right" if column == "score" else "left")
    for sample, prediction in judged:
        truth = "fake" if sample.labels.is_fake else "real"
        hit = {truth: "[green]right[/]", "uncertain": ""}
        table.add_row(
            sample.path.name,
            describe(sample),
            f"{prediction.score:.3f}",
            prediction.verdict,
            hit.get(prediction.verdict, "[red]wrong[/]"),
        )
    console = Console()
    console.print(table)
    console.print(
        f"Score: probability of fake. {words.bands(judged[0][1].bands, origin=True)} "
        f"{words('page.evidence')}",
        highlight=False,
    )
