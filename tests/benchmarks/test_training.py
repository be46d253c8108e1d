"""A timed training step is a training step."""

from __future__ import annotations

import pytest
import torch

from machine.roofline import Ceiling
from machine.subject import Subject, made_batch, random_detector
from machine.training import build_step, measure_training

CPU = torch.device("cpu")


def test_step_gives_the_loss_and_lowers_it(tiny_subject: Subject) -> None:
    batch = made_batch(4, 32)
    detector = random_detector(tiny_subject.config.model).train()
    expected = torch.stack(list(detector.loss(batch).values())).sum().item()
    step = build_step(tiny_subject, "fp32", batch)
    losses = [step() for _ in range(15)]
    assert losses[0] == pytest.approx(expected, rel=1e-4)
    assert losses[-1] < losses[0]
    assert build_step(tiny_subject, "bf16", batch)() == pytest.approx(expected, rel=0.05)


def test_rows_tell_precision_work_and_memory(tiny_subject: Subject) -> None:
    ceilings = {"fp32": Ceiling(1e9, 1e9), "bf16": Ceiling(2e9, 2e9)}
    fp32, bf16 = measure_training(tiny_subject, CPU, batch_size=4, rounds=2, ceilings=ceilings)
    assert fp32.name == "training step, fp32, batch 4"
    assert (fp32.precision, bf16.precision) == ("fp32", "bf16")
    assert fp32.images == len(made_batch(4, 32))
    assert fp32.flops == bf16.flops
    assert fp32.flops is not None
    assert fp32.fraction == pytest.approx(fp32.flops.total / 1e9 / fp32.timing.median)
    assert bf16.fraction == pytest.approx(fp32.flops.total / 2e9 / bf16.timing.median)
