"""A graph in fp32 to int8: ranges from training faces, sensitive parts left as they are."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from mfclip.data.dataset import FaceDataset
from mfclip.data.loader import scoring_loader
from mfclip.data.manifest import Manifest
from mfclip.engines.exported import Exported
from mfclip.errors import ManifestError, require

NUM_CALIBRATION = 256
"""Faces, spread evenly over the split, from which ranges are taken."""

FULL_PRECISION = (r"^(?!.*/stages[./]).*$", r".*/stages\.0/.*")
"""What stays as it is in MFCLIP: all but the convolution stages (patch selection, noise filters,
transformers, head), and the first convolution of each encoder, which sees the traces."""


def quantise(exported: Exported, part: Manifest) -> Any:
    """Return an OpenVINO model whose convolutions compute in int8.

    Args:
        exported: an OpenVINO graph.
        part: training faces.

    Raises:
        ManifestError: none of the faces can be read.
        MissingExtraError: nncf is not installed.
    """
    return quantise_on(exported, _faces(exported, part))


def quantise_on(exported: Exported, images: Sequence[np.ndarray]) -> Any:
    """Return an OpenVINO model whose convolutions compute in int8.

    Args:
        exported: an OpenVINO graph.
        images: batches of model inputs, from which ranges are taken.

    Raises:
        MissingExtraError: nncf is not installed.
    """
    nncf = _import_nncf()
    scope = None
    if exported.facts.patch_size is not None:
        scope = nncf.IgnoredScope(patterns=list(FULL_PRECISION))
    return nncf.quantize(
        exported.graph,
        nncf.Dataset(images),
        subset_size=len(images),
        preset=nncf.QuantizationPreset.MIXED,
        ignored_scope=scope,
    )


def _faces(exported: Exported, part: Manifest) -> list[np.ndarray]:
    """Read the model inputs, one batch of one face each."""
    chosen = np.linspace(0, len(part) - 1, min(NUM_CALIBRATION, len(part))).round().astype(int)
    samples = Manifest(tuple(part[int(i)] for i in chosen), part.root)
    size = exported.facts.image_size
    dataset = FaceDataset(samples, resize=exported.card.resize, image_size=size)
    batches = [batch.images for batch in scoring_loader(dataset, 1)]
    if not batches:
        raise ManifestError("none of the faces to calibrate on can be read; check the manifest")
    return list(torch.cat(batches)[:, None].numpy())


def _import_nncf() -> Any:
    """Import nncf so that it sends no usage data, and logs nothing but errors."""
    before = os.environ.get("NNCF_CI")
    os.environ["NNCF_CI"] = "1"
    try:
        nncf = require("nncf", extra="export")
    finally:
        if before is None:
            del os.environ["NNCF_CI"]
        else:
            os.environ["NNCF_CI"] = before
    nncf.set_log_level(logging.ERROR)
    return nncf
