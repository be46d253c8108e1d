"""``mfclip export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mfclip.cli.options import Root, Weights
from mfclip.cli.output import claim_file, files_of, refuse_unwritable
from mfclip.errors import ConfigError

if TYPE_CHECKING:
    from mfclip.evaluate.export import ExportReport


def export(
    to: Annotated[str, typer.Option(help="onnx, openvino or torch.")],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="The file to write: .onnx, .xml (with .bin) or .safetensors.",
        ),
    ],
    source: Annotated[str | None, typer.Argument(metavar="[WEIGHTS]", hidden=True)] = None,
    weights: Weights = None,
    precision: Annotated[
        str, typer.Option(help="fp32, bf16 (openvino, torch) or int8 (openvino).")
    ] = "fp32",
    manifest: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Manifest of faces to calibrate and measure on; needed for bf16 and int8.",
        ),
    ] = None,
    root: Root = None,
    split: Annotated[str, typer.Option(help="Split on which the change is measured.")] = "test",
    calibration_split: Annotated[
        str, typer.Option(help="Split from which int8 takes its ranges.")
    ] = "train",
) -> None:
    """Write weights for one engine, to be used as --weights in predict, evaluate and serve.

    The file takes faces with pixels in [0, 1] and gives probability of fake, features and richest
    patch. It is compared with PyTorch, and with less than fp32 measured on a test split, before it
    is left behind; what was found stands in the file.
    """
    from rich.console import Console  # noqa: PLC0415

    from mfclip.data.manifest import read_manifest  # noqa: PLC0415
    from mfclip.evaluate.export import SUFFIXES, export_weights  # noqa: PLC0415

    if source is not None and weights is not None:
        raise ConfigError(f"two weights are named, {source} and --weights {weights}; name one")
    weights = weights or source
    rows = read_manifest(manifest, root=root) if manifest else None
    folder = Path(weights) if weights and Path(weights).is_dir() else None
    held = folder.glob("*.safetensors") if folder else ()
    inputs = files_of(manifest, rows, weights, *held)
    beside = [out.with_suffix(".bin")] if out.suffix == ".xml" else []
    claim_file("--out", out, [*SUFFIXES.values()], inputs=inputs, beside=beside)
    console = Console(stderr=True)
    with refuse_unwritable(out), console.status("loading") as status:
        report = export_weights(
            weights,
            to,
            out,
            precision=precision,
            manifest=rows,
            split=split,
            calibration_split=calibration_split,
            progress=status.update,
        )
    for line in describe(report):
        typer.echo(line)


def describe(report: ExportReport) -> list[str]:
    """Say what was written and how it compares with PyTorch in fp32."""
    size = f"{report.bytes / 1e6:.1f} MB"
    parity, change = report.parity, report.change
    lines = [
        f"{report.path}: {report.engine}, {report.precision}, {size}",
        f"against PyTorch in fp32, {parity.num_images} images: scores differ by at most "
        f"{parity.max_score_difference:.2g}",
    ]
    if parity.same_patches is False:
        lines.append("note: the richest patch is another one in some image")
    if change is not None:
        lines += [
            f"on '{change.split}', {change.num_faces} faces: AUC {change.auc:.4f} changes by "
            f"{change.auc_change:+.5f}",
            f"scores change by {change.mean_score_change:.2g} in the mean, "
            f"{change.max_score_change:.2g} at most; {change.verdicts_changed:.2%} of the faces "
            "cross the threshold",
        ]
    return lines
