"""Engines as rows; the search for the best batch."""

from __future__ import annotations

import pytest
import torch

from machine.inference import (
    ENGINES,
    flops_of_image,
    measure_inference,
    search_batch,
)
from machine.roofline import Ceiling, count_flops
from machine.subject import Subject, made_images

CPU = torch.device("cpu")


def test_operations_of_a_batch_are_those_of_its_images(tiny_subject: Subject) -> None:
    detector = tiny_subject.load()
    with torch.no_grad():
        three = count_flops(lambda: detector(made_images(3, 32)))
    one = flops_of_image(tiny_subject)
    assert (three.convolution, three.product) == (3 * one.convolution, 3 * one.product)


@pytest.mark.slow
def test_every_engine_is_a_row_or_named_as_absent(tiny_subject: Subject) -> None:
    ceilings = {"fp32": Ceiling(1e9, 1e9)}
    rows, absent = measure_inference(tiny_subject, CPU, batch_size=2, rounds=2, ceilings=ceilings)
    named = [row.name.partition(",")[0] for row in rows] + [
        line.partition(":")[0] for line in absent
    ]
    assert sorted(named) == sorted(f"{name} {precision}" for name, precision in ENGINES)
    torch_row = rows[0]
    assert torch_row.name == "torch fp32, batch 2"
    assert torch_row.flops is not None
    assert torch_row.flops.total == 2 * flops_of_image(tiny_subject).total
    assert [row.fraction is None for row in rows] == [row.precision != "fp32" for row in rows]


@pytest.mark.parametrize(
    ("rates", "best"),
    [
        ({8: 10, 16: 19, 32: 30, 64: 30.5, 128: 99}, 64),  # 64 brings less than 3%: the last tried
        ({8: 10, 16: 19, 32: 15, 64: 40}, 16),
        ({8: 10, 16: 20, 32: 35}, 32),  # 64 does not fit
    ],
)
def test_batch_grows_while_it_is_worth_it(rates: dict[int, float], best: int) -> None:
    def measure(batch: int) -> tuple[float, int]:
        if batch not in rates:
            raise torch.OutOfMemoryError
        return rates[batch], batch

    assert search_batch(measure, 8) == best
