"""``mfclip data perturb``: damaged copies of a data set, for the robustness figure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mfclip.cli.interrupt import tell_how_to_go_on
from mfclip.cli.options import ManifestArgument, OutFolder, Root, Split, Workers, count_workers
from mfclip.cli.output import claim_folder, files_of, refuse_unwritable
from mfclip.cli.progress import Bars
from mfclip.data.manifest import read_manifest
from mfclip.datasets.perturbed_copies import FAILURES, PerturbReport, perturb_manifest
from mfclip.errors import ConfigError
from mfclip.media.perturbations import LEVELS, PERTURBATIONS

_GRID = ",".join(PERTURBATIONS)
_LEVELS = ",".join(map(str, LEVELS))


def perturb(
    manifest: ManifestArgument,
    out: OutFolder,
    kinds: Annotated[
        str,
        typer.Option(
            help="Kinds, separated by commas. Outside the grid: "
            "jpeg_quality, webp, resize, screenshot."
        ),
    ] = _GRID,
    levels: Annotated[
        str, typer.Option(help="Levels 1 (mild) to 5 (strong), separated by commas; 0 is clean.")
    ] = _LEVELS,
    split: Split = None,
    scale_blocks: Annotated[
        bool,
        typer.Option(
            "--scale-blocks",
            help="BW: squares in proportion to the area. Without it an image whose short side "
            "is below 256 pixels gets none, as in the original.",
        ),
    ] = False,
    root: Root = None,
    workers: Workers = None,
) -> None:
    """Write copies of the images with the seven distortions of DeeperForensics at five levels.

    Each kind and level becomes a folder with its own manifest.csv. Started again after an
    interruption it goes on where it stopped. The same file is damaged alike on every machine.
    """
    source = read_manifest(manifest, root=root)
    part = source.split(split) if split else source
    numbers = [_number(word) for word in _words(levels)]
    cells = (f"{kind}-{level}" for kind in _words(kinds) for level in numbers)
    names = [FAILURES, *(f"{c}{end}/manifest.csv" for c in cells for end in ("", "-scaled"))]
    claim_folder("--out", out, inputs=files_of(manifest, source), names=names)
    advice = "what is done is kept; the same command goes on"
    with refuse_unwritable(out), tell_how_to_go_on(lambda: advice), Bars() as bars:
        report = perturb_manifest(
            part,
            out,
            _words(kinds),
            numbers,
            scale_blocks=scale_blocks,
            workers=count_workers(workers),
            progress=bars.tell,
        )
    _tell(report, out)


def _words(text: str) -> list[str]:
    return list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def _number(word: str) -> int:
    try:
        return int(word)
    except ValueError:
        message = f"expected --levels to be numbers like {_LEVELS}, but got '{word}'"
        raise ConfigError(message) from None


def _tell(report: PerturbReport, out: Path) -> None:
    typer.echo(
        f"{report.written} images written, {report.kept} kept from an earlier run, "
        f"{len(report.manifests)} manifests in {out}"
    )
    if report.without_blocks:
        typer.echo(
            f"note: BW left {report.without_blocks} files unchanged, since their short side is "
            "below 256 pixels; --scale-blocks draws squares in proportion to the area"
        )
    if report.failures:
        typer.echo(f"left out {len(report.failures)} file(s), see {out / FAILURES}", err=True)
