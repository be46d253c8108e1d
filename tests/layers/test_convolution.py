"""Convolution stages: their layers, and what they answer to a kernel moved by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from helpers import assert_close, fill, pictures
from mfclip.layers.convolution import ConvStages, conv_stages
from mfclip.layers.normalisation import JointBatchNorm2d


def convolve_by_hand(images: Tensor, layer: nn.Conv2d) -> Tensor:
    """Move a 3x3 kernel over the picture: rows with rows, columns with columns."""
    height, width = images.shape[2:]
    padded = functional.pad(images, (1, 1, 1, 1))
    out = layer.bias[None, :, None, None].expand(len(images), -1, height, width)
    for y in range(3):
        for x in range(3):
            window = padded[:, :, y : y + height, x : x + width]
            out = out + torch.einsum("bihw,oi->bohw", window, layer.weight[:, :, y, x])
    return out


def test_a_stage_equals_kernels_moved_by_hand() -> None:
    stages = fill(conv_stages(3, (4, 5), (1, 2))).eval()
    images = pictures(2, 16)[:, :, :, :12]  # 16 rows, 12 columns
    expected = images
    for layer in stages:
        if isinstance(layer, nn.Conv2d):
            expected = convolve_by_hand(expected, layer)
        elif isinstance(layer, JointBatchNorm2d):
            scale = layer.weight / (layer.running_var + layer.eps).sqrt()
            centred = expected - layer.running_mean[:, None, None]
            expected = centred * scale[:, None, None] + layer.bias[:, None, None]
        elif isinstance(layer, nn.ReLU):
            expected = expected.clamp_min(0)
        else:
            b, c, h, w = expected.shape
            expected = expected.view(b, c, h // 2, 2, w // 2, 2).amax((3, 5))
    assert expected.shape == (2, 5, 4, 3)
    assert_close(stages(images), expected)


@pytest.mark.parametrize(
    ("widths", "convs"), [((4,), (3,)), ((4, 8), (1, 2)), ((2, 3, 4), (2, 1, 1))]
)
def test_layers_are_counted_by_widths_and_convs(
    widths: tuple[int, ...], convs: tuple[int, ...]
) -> None:
    stages = conv_stages(3, widths, convs)
    channels = [layer.out_channels for layer in stages if isinstance(layer, nn.Conv2d)]
    assert channels == [w for w, count in zip(widths, convs, strict=True) for _ in range(count)]
    assert sum(isinstance(layer, nn.MaxPool2d) for layer in stages) == len(widths)


def test_widths_and_convs_of_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        conv_stages(3, (4, 8), (1,))


def make_stages() -> ConvStages:
    return fill(conv_stages(3, (4, 5), (2, 3), full_precision_start=True)).train()


def train_on(stages: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Return output, gradients and running statistics of one step."""
    images = images.clone().requires_grad_()
    out = stages(images)
    (out.sin() * torch.arange(out.numel()).view_as(out)).sum().backward()
    gradients = {f"{name}.grad": p.grad for name, p in stages.named_parameters()}
    return {"out": out.detach(), "images": images.grad, **gradients, **dict(stages.named_buffers())}


def test_recomputed_activations_change_no_loss_gradient_or_statistic() -> None:
    kept, recomputed = make_stages(), make_stages()
    recomputed.checkpoint_activations = True
    for step in range(2):
        images = pictures(3, 16) + step
        expected, actual = (train_on(stages, images) for stages in (kept, recomputed))
        torch.testing.assert_close(actual, expected, rtol=0, atol=0)


def test_checkpoints_hold_only_the_inputs_of_the_stages() -> None:
    images, held = pictures(3, 16), []
    for stages in (make_stages(), make_stages()):
        stages.checkpoint_activations = bool(held)
        sizes: dict[int, int] = {}

        def hold(tensor: Tensor, sizes: dict[int, int] = sizes) -> Tensor:
            if not isinstance(tensor, nn.Parameter):
                sizes[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(hold, lambda tensor: tensor):
            stages(images).sum()
        held.append(sum(sizes.values()))
    first, second = images.numel(), 3 * 4 * 8 * 8
    assert held[1] <= first + second
    assert held[0] > 6 * held[1]


def test_the_first_convolution_stays_in_float32_under_autocast() -> None:
    stages, images = make_stages().eval(), pictures(2, 16)
    with torch.autocast("cpu", torch.bfloat16):
        first, second = stages[0](images), stages[3](stages[0](images))
    exact = functional.conv2d(images, stages[0].weight, stages[0].bias, padding=1)
    torch.testing.assert_close(first, exact.bfloat16(), rtol=0, atol=0)
    assert second.dtype == torch.bfloat16
    assert stages[0](images).dtype == torch.float32
