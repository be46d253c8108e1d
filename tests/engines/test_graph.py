"""The parts of the graph against the model's own."""

from __future__ import annotations

import copy

import torch
from torch import nn

from helpers import fill, pictures, tiny_model
from mfclip.engines.graph import SplitConvolution, fold_batch_norms
from mfclip.engines.torch_engine import TorchEngine


def test_split_filters_are_the_same_in_bf16() -> None:
    convolution = fill(nn.Conv2d(3, 8, 3, padding=1))
    with torch.no_grad():  # high-pass: flat surfaces must give nothing but the bias
        convolution.weight -= convolution.weight.mean((1, 2, 3), keepdim=True)
        images = pictures(4) * 2 - 1
        expected = convolution(images)
        split = SplitConvolution(convolution)
        torch.testing.assert_close(split(images), expected, atol=2e-4, rtol=0)
        # bf16 numbers, added up in fp32 as processors do
        rounded = split.inner.weight.bfloat16().float()
        assert torch.equal(rounded, split.inner.weight)
        plain = nn.functional.conv2d(images, convolution.weight.bfloat16().float(), padding=1)
        plain = plain + convolution.bias[:, None, None]  # type: ignore[index]
    assert (plain - expected).abs().max() > 10 * (split(images) - expected).abs().max()


def test_batch_norms_fold_into_the_convolution_before_them() -> None:
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4)]
    sequence = fill(nn.Sequential(*layers)).eval()
    folded = fold_batch_norms(sequence)
    images = pictures(2)
    torch.testing.assert_close(folded(images), sequence(images))
    kinds = [type(part).__name__ for part in folded.children()]
    assert kinds == ["Conv2d", "Identity", "ReLU", "BatchNorm2d"]


def test_a_detector_stays_as_it_is_in_an_engine() -> None:
    model = tiny_model().eval()
    before = copy.deepcopy(model.state_dict())
    engine = TorchEngine(model, "bf16")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(weight.requires_grad and weight.is_contiguous() for weight in model.parameters())
    twin = TorchEngine(model, "bf16").judge(pictures(2))
    assert torch.equal(engine.judge(pictures(2)).logits, twin.logits)


def test_an_engine_does_not_learn_with_the_detector() -> None:
    model = tiny_model().eval()
    engine = TorchEngine(model, "fp32")
    before = engine.judge(pictures(2)).logits
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1)
    assert torch.equal(engine.judge(pictures(2)).logits, before)
