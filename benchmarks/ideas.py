"""Savings of arithmetic or memory traffic, each as the work done without it and with it.

`arithmetic.py` measures them. Ideas that gained nothing stand here too, and in no other file.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

import straightforward
from machine.subject import made_batch
from mfclip.baselines.freqnet import FrequencyConvolution, keep_high_frequencies
from mfclip.baselines.recce import GraphReasoning
from mfclip.baselines.uia_vit import consistency_loss
from mfclip.layers.transformer import TokenTransformer
from mfclip.model.build import create_model
from mfclip.model.patch_selector import (
    cut_patches,
    homogeneity,
    select_richest_patch,
    to_grey,
)
from mfclip.model.srm import noise_residual, srm_kernels
from mfclip.runtime.memory import keep_freed_memory

Way = Callable[[], Any]


@dataclass(frozen=True)
class Idea:
    """One saving: what it is, whether the package does it, and the work both ways."""

    what: str
    taken: bool
    before: Way
    after: Way
    settles: bool = False  # run each way once before it is timed


def step_of(model: nn.Module, values: Iterable[Any], *, bf16: bool = False) -> Way:
    """Forward and backward; gives the output."""

    def step() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            out = model(*values)
        out.float().square().sum().backward()
        model.zero_grad()
        return out.detach()

    return step


def memory_ideas() -> list[Idea]:
    model, batch = create_model("mfclip-small"), made_batch(12).channels_last()
    model = model.to(memory_format=torch.channels_last)
    ideas = []
    for bf16 in (False, True):

        def step(bf16: bool = bf16) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = torch.stack(list(model.loss(batch).values())).sum()
            loss.backward()
            model.zero_grad()
            return loss.detach()

        def settled(keep: bool, step: Way = step) -> Way:
            def run() -> Tensor:
                keep_freed_memory(keep=keep)
                return step()

            return run

        name = f"freed memory kept: training step, small, batch 12, {'bf16' if bf16 else 'fp32'}"
        ideas.append(Idea(name, True, settled(False), settled(True), settles=True))
    return ideas


def selection_ideas() -> list[Idea]:
    images = made_batch(24).images
    greys, table = to_grey(images), (1 + torch.arange(256.0).square()).reciprocal()

    def four_passes() -> Tensor:
        levels = (images * 255).round()
        weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
        grey = ((levels * weights).sum(1) + 0.5).to(torch.uint8).view(24, 2, 112, 2, 112)
        values = grey.transpose(2, 3).float()
        step = values[..., 1:] - values[..., :-1]
        index = (1 + step.square()).reciprocal().mean((-2, -1)).flatten(1).argmin(1)
        grid = images.view(24, 3, 2, 112, 2, 112)
        return grid[torch.arange(24), :, index // 2, :, index % 2]

    index = select_richest_patch(images, 112)[1]

    def unfolded() -> Tensor:
        patches = functional.unfold(images, 112, stride=112).view(24, 3, 112, 112, -1)
        return patches[torch.arange(24), ..., index]

    def indexed() -> Tensor:
        grid = images.view(24, 3, 2, 112, 2, 112)
        return grid[torch.arange(24), :, index // 2, :, index % 2]

    def rows() -> Tensor:
        return cut_patches(images, index, 112)

    def looked_up() -> Tensor:
        left, right = greys[..., :-1], greys[..., 1:]
        step = torch.maximum(left, right) - torch.minimum(left, right)
        return table[step.int()].mean((-2, -1))

    def whole() -> Tensor:
        return select_richest_patch(images, 112)[0]

    def chunked() -> Tensor:
        return torch.cat([select_richest_patch(part, 112)[0] for part in images.split(4)])

    return [
        Idea("richest patches of 24 images: grey in fewer passes", True, four_passes, whole),
        Idea("one patch of each image fetched, not all unfolded", True, unfolded, rows),
        Idea("patches fetched as rows of a matrix, not by indices", True, indexed, rows),
        Idea("richest patches in chunks of 4 images, to fit the cache", False, whole, chunked),
        Idea("1 / (1 + d^2) from a table", False, lambda: homogeneity(greys), looked_up),
    ]


def noise_ideas() -> list[Idea]:
    patches = made_batch(24).images[:, :, :112, :112].contiguous()
    kernels = srm_kernels()

    def summed() -> Tensor:
        padded = functional.pad(patches.sum(1, keepdim=True) * 255, (2, 2, 2, 2), mode="replicate")
        return (functional.conv2d(padded, 12 * kernels[:, None]) / 12).clamp(-3, 3)

    before = lambda: noise_residual(patches, 255.0, kernels)  # noqa: E731
    # a sum of three levels is too long for the bf16 of an engine, which traces these very lines
    return [Idea("SRM on the sum of the three planes", False, before, summed)]


def stage_ideas() -> list[Idea]:
    ideas = []
    for name, count, bf16 in (("mfclip", 2, False), ("mfclip-small", 24, True)):
        encoder = create_model(name).vision_encoder.image_encoder
        assert encoder is not None
        stages = encoder.stages.to(memory_format=torch.channels_last)
        images = made_batch(count).channels_last().images
        kind = f"{name}, batch {count}, {'bf16' if bf16 else 'fp32'}"
        usual = copy.deepcopy(stages).to(memory_format=torch.contiguous_format)
        before = step_of(usual, [images.contiguous()], bf16=bf16)
        after = step_of(stages, [images], bf16=bf16)
        ideas.append(Idea(f"channels last: stages trained, {kind}", True, before, after))
        swapped = step_of(pooling_first(stages), [images], bf16=bf16)
        ideas.append(Idea(f"pooling before ReLU: stages trained, {kind}", False, after, swapped))
        ideas.append(folding_idea(stages, images, kind, bf16=bf16))
    return ideas


def pooling_first(stages: nn.Sequential) -> nn.Sequential:
    """Exchange the last ReLU of each stage and its pooling; the result is the same to the bit."""
    layers = list(stages)
    for place in range(len(layers) - 1):
        if isinstance(layers[place], nn.ReLU) and isinstance(layers[place + 1], nn.MaxPool2d):
            layers[place : place + 2] = layers[place + 1], layers[place]
    return nn.Sequential(*layers)


def folding_idea(stages: nn.Sequential, images: Tensor, kind: str, *, bf16: bool) -> Idea:
    """Fold once, as the engines do for all that they run."""
    plain = copy.deepcopy(stages).eval()
    layers = list(plain)
    for place in reversed(range(len(layers) - 1)):
        conv, norm = layers[place : place + 2]
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            layers[place : place + 2] = [fuse_conv_bn_eval(conv, norm)]
    folded = nn.Sequential(*layers).to(memory_format=torch.channels_last)

    def judge(module: nn.Module) -> Way:
        def run() -> Tensor:
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                return module(images)

        return run

    what = f"batch norm folded (by the engines): stages in eval, {kind}"
    return Idea(what, True, judge(plain), judge(folded))


def bias_idea() -> Idea:
    inner = nn.Conv2d(32, 32, 3, padding=1).to(memory_format=torch.channels_last)
    biased = nn.Sequential(inner, nn.BatchNorm2d(32))
    bare = copy.deepcopy(biased)
    bare[0].bias = None
    images = torch.rand(4, 32, 224, 224).contiguous(memory_format=torch.channels_last)
    before, after = (step_of(module, [images], bf16=True) for module in (biased, bare))
    return Idea("no bias in a convolution before batch norm, bf16", False, before, after)


def token_ideas() -> list[Idea]:
    encoder = TokenTransformer(512, 7, 6, 512, num_heads=8, mlp_ratio=4.0)
    maps = torch.randn(24, 512, 7, 7)

    class Last(nn.Module):
        """The last block answers for the class token only."""

        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, maps: Tensor) -> Tensor:
            token = encoder.projection(maps.flatten(1))[:, None]
            first = encoder.class_token.expand(len(maps), -1, -1)
            tokens = torch.cat([first, token], 1) + encoder.positions
            *others, last = encoder.transformer.blocks
            for block in others:
                tokens = block(tokens, causal=False)
            normed, attention = last.norm1(tokens), last.attention
            width = tokens.shape[2]
            weight, bias = attention.in_proj.weight, attention.in_proj.bias
            q = functional.linear(normed[:, :1], weight[:width], bias[:width])
            k, v = functional.linear(normed, weight[width:], bias[width:]).chunk(2, -1)
            q, k, v = (part.unflatten(-1, (8, -1)).transpose(1, 2) for part in (q, k, v))
            mixed = functional.scaled_dot_product_attention(q, k, v)
            out = tokens[:, :1] + attention.out_proj(mixed.transpose(1, 2).flatten(2))
            out = out + last.mlp(last.norm2(out))
            return encoder.norm(out[:, 0])

    before, after = step_of(encoder, [maps]), step_of(Last(), [maps])
    return [Idea("class token alone in the last block: token transformer", False, before, after)]


def freqnet_ideas() -> list[Idea]:
    """FreqNet's two steps on spectra, with the transforms that its paper describes and without."""
    values = torch.randn(4, 64, 64, 64)
    convolution = FrequencyConvolution(64)
    low = torch.zeros(64, 64, dtype=torch.bool)
    low[16:48, 16:48] = True

    def transformed(module: FrequencyConvolution) -> nn.Module:
        class Transformed(nn.Module):
            def forward(self, values: Tensor) -> Tensor:
                spectrum = torch.fft.fft2(values)
                real = module.real(spectrum.real.contiguous())
                mixed = torch.complex(real, module.imaginary(spectrum.imag.contiguous()))
                return functional.relu(torch.fft.ifft2(mixed).real)

        return Transformed()

    class Filtered(nn.Module):
        def forward(self, values: Tensor) -> Tensor:
            spectrum = torch.fft.fftshift(torch.fft.fft2(values), (2, 3)).masked_fill(low, 0)
            return functional.relu(torch.fft.ifft2(torch.fft.ifftshift(spectrum, (2, 3))).real)

    class Multiplied(nn.Module):
        def forward(self, values: Tensor) -> Tensor:
            return keep_high_frequencies(values)

    leaf = [values.requires_grad_()]
    before, after = step_of(transformed(convolution), leaf), step_of(convolution, leaf)
    filtered, multiplied = step_of(Filtered(), leaf), step_of(Multiplied(), leaf)
    return [
        Idea("FreqNet: spectrum mixed without a transform, trained", True, before, after),
        Idea("FreqNet: high frequencies by two matrices, trained", True, filtered, multiplied),
    ]


def baseline_ideas() -> list[Idea]:
    """What two baselines ask of each place or patch, in a loop and at once, forward and back."""
    reasoning = GraphReasoning(728, 256, finer=(256, 128), drop_rate=0.2).eval()
    with torch.no_grad():  # as large as at 299 px, whose places are 19 x 19
        coarse, fine, finest = (
            torch.randn(4, channels, side, side)
            for channels, side in ((728, 19), (256, 38), (128, 76))
        )
        attention = torch.rand(8, 196, 196)
        forged, target = torch.randn(8, 196) > 0, torch.arange(8) % 2
    constants = [nn.Parameter(torch.tensor(value)) for value in (0.6, 0.6, 0.2)]

    class Walked(nn.Module):
        def forward(self, values: Tensor, finer: tuple[Tensor, Tensor]) -> Tensor:
            return straightforward.reason_place_by_place(reasoning, values, finer)

    def learn(loss: Callable[..., Tensor]) -> Way:
        def step() -> Tensor:
            value = loss(attention, target, forged, *constants)
            value.backward()
            return value.detach()

        return step

    given = [coarse, (fine, finest)]
    return [
        Idea(
            "RECCE: all places of the graph at once, batch 4, trained",
            True,
            step_of(Walked(), given),
            step_of(reasoning, given),
        ),
        Idea(
            "UIA-ViT: targets of attention by outer products, batch 8, trained",
            True,
            learn(straightforward.consistency_row_by_row),
            learn(consistency_loss),
        ),
    ]


def text_idea() -> Idea:
    model, labels = create_model("mfclip-small"), made_batch(24).labels
    encoder = model.language_encoder
    assert encoder is not None

    def learn(features: Tensor) -> Tensor:
        features.square().sum().backward()
        model.zero_grad()
        return features.detach()

    def before() -> Tensor:
        return learn(straightforward.encode_text(encoder, labels))

    def after() -> Tensor:
        return learn(model._encode_labels(labels)[0])

    return Idea("each distinct prompt once, without padding: small, 24 texts", True, before, after)


GROUPS: tuple[Callable[[], list[Idea]], ...] = (
    selection_ideas, noise_ideas, stage_ideas, token_ideas, freqnet_ideas, baseline_ideas,
    lambda: [bias_idea(), text_idea()],
)  # fmt: skip
"""What is measured with freed memory kept, as in training; `memory_ideas` come before."""
