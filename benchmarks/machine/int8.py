"""A detector in int8 for timing only: quantised on made pictures, its scores are not checked."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from machine.subject import made_images
from mfclip.card import Card
from mfclip.engines import Engine
from mfclip.engines.convert import to_onnx
from mfclip.engines.exported import Exported
from mfclip.engines.graph import VisionGraph
from mfclip.engines.load import run_exported
from mfclip.engines.quantise import quantise_on
from mfclip.runtime.openvino import openvino_core

CALIBRATION_IMAGES = 16


def quantised_engine(detector: nn.Module) -> Engine:
    """Quantise as `mfclip.evaluate.export` does, but on a few made pictures.

    The arithmetic, and so the speed, is that of an exported file; the ranges, and so the scores,
    are not. For use, ``mfclip export`` measures both.

    Raises:
        MissingExtraError: openvino or nncf is not installed.
    """
    graph = VisionGraph(detector, split_first=True)
    content = openvino_core().read_model(to_onnx(graph))
    exported = Exported("openvino", "int8", graph.facts, Card(), content)
    images = made_images(CALIBRATION_IMAGES, graph.facts.image_size)
    batches = [image[None].numpy() for image in images]
    return run_exported(replace(exported, graph=quantise_on(exported, batches)))
