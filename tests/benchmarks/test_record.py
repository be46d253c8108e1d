"""Rows and the JSON form: figures that belong together agree."""

from __future__ import annotations

import json

import pytest

from machine.record import SCHEMA, Measurements, Row
from machine.roofline import Ceiling, Flops
from machine.timing import Timing

CEILING = Ceiling(product=40.0, convolution=20.0)


def test_figures_of_a_row_by_hand() -> None:
    row = Row("x", 24, Timing((2.0, 1.0, 4.0)), Flops(40, 80), "fp32", CEILING)
    assert row.images_per_second == 12
    assert row.flops_per_second == 60
    assert row.fraction == pytest.approx((40 / 20 + 80 / 40) / 2)


def test_what_is_unknown_is_none() -> None:
    row = Row("decode", 24, Timing((2.0,)))
    assert row.flops_per_second is None
    assert row.fraction is None
    assert Row("int8", 24, Timing((2.0,)), Flops(1, 1), "int8").fraction is None


def test_json_form_survives_and_names_machine_and_settings() -> None:
    row = Row("x", 8, Timing((2.0, 3.0)), Flops(40, 80), "fp32", CEILING, peak_memory=5)
    found = Measurements({"threads": 2}, {"fp32": CEILING}, {"inference": [row]}, ["onnx: none"])
    tree = json.loads(json.dumps(found.to_json()))
    assert tree["schema"] == SCHEMA
    assert tree["settings"] == {"threads": 2}
    assert tree["ceilings_flops_per_second"]["fp32"] == {"product": 40.0, "convolution": 20.0}
    (written,) = tree["inference"]
    assert written["images"] / written["seconds"]["median"] == written["images_per_second"]
    assert written["flops"] == {"convolution": 40, "product": 80}
    assert written["peak_memory_bytes"] == 5
    assert tree["absent"] == ["onnx: none"]
    assert tree["processor"]
    assert tree["torch"]
