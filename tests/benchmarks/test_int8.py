"""The int8 engine that is timed computes in int8, and what it should."""

from __future__ import annotations

import pytest
import torch

from machine.int8 import quantised_engine
from machine.subject import Subject, made_images

pytest.importorskip("openvino")
pytest.importorskip("nncf")


@pytest.mark.slow
def test_quantised_engine_follows_the_detector_roughly(tiny_subject: Subject) -> None:
    detector, images = tiny_subject.load(), made_images(4, 32)
    engine = quantised_engine(detector)
    judged = engine.judge(images)
    with torch.no_grad():
        expected = detector.encode_image(images)
    assert (engine.name, engine.precision) == ("openvino", "int8")
    assert judged.features is not None
    difference = (judged.features - expected).abs().max()
    assert 1e-5 < difference < 0.2  # not the same, as fp32 would be, and not something else
