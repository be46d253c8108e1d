"""``mfclip data reconstruct``: images -> twins of the reals, or maps of what was lost."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mfclip.cli.interrupt import tell_how_to_go_on
from mfclip.cli.options import Device, ManifestArgument, OutFolder, Root, Seed, Split
from mfclip.cli.output import claim_folder, files_of, refuse_unwritable
from mfclip.cli.progress import Bars
from mfclip.data.manifest import read_manifest
from mfclip.errors import ConfigError

if TYPE_CHECKING:
    from mfclip.media.reconstructors import Reconstructor

KINDS = {
    "jpeg": "jpeg:75, compress at this quality",
    "resize": "resize:2, shrink by this factor and enlarge",
    "autoencoder": "a small one; without --weights it is trained on the reals of split train",
    "superres": "--weights FOLDER of a TensorFlow.js network that enlarges (upscaler.js)",
    "vae": "--weights FOLDER of an AutoencoderKL (diffusers)",
    "diffusion": "--weights FOLDER of a UNet2DModel (diffusers), inverted and sampled as in DIRE",
}

STRENGTHS = {"jpeg": 75.0, "resize": 2.0}
FITTED = "autoencoder.safetensors"


def reconstruct(
    manifest: ManifestArgument,
    out: OutFolder,
    with_: Annotated[
        str, typer.Option("--with", help="; ".join(f"{k}: {v}" for k, v in KINDS.items()))
    ] = "jpeg:75",
    weights: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Of autoencoder, superres, vae or diffusion."),
    ] = None,
    steps: Annotated[int, typer.Option(help="Calls each way of diffusion.")] = 20,
    write: Annotated[
        Literal["twins", "maps"],
        typer.Option(help="Twins of the real faces, or maps of what every picture loses."),
    ] = "twins",
    quality: Annotated[
        int, typer.Option(help="JPEG quality of all images before maps; 0 leaves it out.")
    ] = 90,
    split: Split = None,
    root: Root = None,
    epochs: Annotated[int, typer.Option(min=1, help="Of an autoencoder's training.")] = 10,
    batch_size: Annotated[int, typer.Option(min=1, help="Images reconstructed together.")] = 16,
    device: Device = "auto",
    seed: Seed = 0,
) -> None:
    """Reconstruct faces: twins of the reals to learn from, or maps of what was lost (DIRE).

    Train on twins with data.twins=OUT/twins, or on OUT/twins.csv with data.sampling=paired; on
    maps with data.manifest=OUT/maps.csv. A run that was stopped goes on when the same command is
    given again.
    """
    from mfclip.datasets.reconstruct import fit_on_reals, output_names  # noqa: PLC0415
    from mfclip.datasets.reconstruct import reconstruct as run  # noqa: PLC0415
    from mfclip.runtime.device import find_device  # noqa: PLC0415

    source = read_manifest(manifest, root=root)
    rows = source.split(split) if split else source
    place = str(find_device(device))
    kind, strength = _parse(with_)
    names = [FITTED, *output_names(rows, write)]
    claim_folder("--out", out, inputs=files_of(manifest, source), names=names)
    advice = "what is done is kept; the same command goes on"
    with refuse_unwritable(out), tell_how_to_go_on(lambda: advice), Bars() as bars:
        if kind == "autoencoder" and weights is None:
            weights = fit_on_reals(rows, out / FITTED, epochs=epochs, seed=seed, progress=bars.tell)
        found = _build(kind, strength, weights, steps, place)
        result = run(
            rows,
            out,
            found,
            write,
            quality=quality or None,
            batch_size=batch_size,
            progress=bars.tell,
        )
    before = f" ({result.kept} done by an earlier run)" if result.kept else ""
    typer.echo(f"{result.pictures} images{before} reconstructed with {found.name}")
    typer.echo(f"{write} -> {result.manifest}")
    if result.failures:
        typer.echo(f"{len(result.failures)} could not be read: {out / 'failures.csv'}")


def _parse(text: str) -> tuple[str, float]:
    """Read ``kind`` or ``kind:strength``."""
    kind, colon, number = text.partition(":")
    if kind not in KINDS:
        raise ConfigError(f"expected --with to be one of [{', '.join(KINDS)}], but got '{text}'")
    if not colon:
        return kind, STRENGTHS.get(kind, math.nan)
    try:
        return kind, float(number)
    except ValueError:
        raise ConfigError(f"expected --with {kind}:NUMBER, but got '{text}'") from None


def _build(
    kind: str, strength: float, weights: Path | None, steps: int, device: str
) -> Reconstructor:
    from mfclip.media import reconstructors  # noqa: PLC0415

    if kind == "jpeg":
        return reconstructors.jpeg(int(strength))
    if kind == "resize":
        return reconstructors.resize(strength)
    if weights is None:
        raise ConfigError(f"--with {kind} needs --weights FOLDER: {KINDS[kind]}")
    if kind == "autoencoder":
        return reconstructors.autoencoder(weights, device)
    if kind == "superres":
        return reconstructors.super_resolution(weights)
    if kind == "vae":
        return reconstructors.vae(weights, device)
    return reconstructors.diffusion(weights, steps, device)
