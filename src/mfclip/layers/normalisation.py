"""Batch normalisation whose statistics cover the joined batch of all processes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mfclip.layers.collectives import process_count, sum_over_processes


class JointBatchNorm2d(nn.BatchNorm2d):
    """Batch norm over the batches of all processes, on any device.

    With one process, or in eval mode, it is `torch.nn.BatchNorm2d`. With several it shares sums
    and squared sums, gradients included, so that n processes equal one process on the joined
    batch. `SyncedBatchNorm2d` does the same on GPUs only, and faster.

    Attributes:
        tracks: update the running statistics in training; see `statistics_untouched`.
    """

    tracks = True

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Normalise each channel, then scale and shift it."""
        if not self.training or process_count() == 1:
            out: Tensor = super().forward(input) if self.tracks else self._forward_untracked(input)
            return out
        return self._forward_joint(input)

    def _forward_untracked(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        # as many tensors are saved for the backward pass as in the first pass, but copies
        mean = None if self.running_mean is None else self.running_mean.clone()
        variance = None if self.running_var is None else self.running_var.clone()
        training = self.training
        return functional.batch_norm(
            images, mean, variance, self.weight, self.bias, training=training, eps=self.eps
        )

    def _forward_joint(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        values = images.float()
        count = values.new_tensor([values.numel() / values.shape[1]])
        sums = torch.cat([values.sum((0, 2, 3)), values.square().sum((0, 2, 3)), count])
        sums = sum_over_processes(sums)
        total = sums[-1].detach()
        mean, square = (sums[:-1] / total).chunk(2)
        variance = (square - mean.square()).clamp_min(0)
        self._track(mean.detach(), variance.detach() * total / (total - 1))
        scale = self.weight * (variance + self.eps).rsqrt()
        shift = self.bias - mean * scale
        return (values * scale[:, None, None] + shift[:, None, None]).to(images.dtype)

    @torch.no_grad()
    def _track(self, mean: Float[Tensor, " c"], variance: Float[Tensor, " c"]) -> None:
        if not self.tracks or self.running_mean is None or self.running_var is None:
            return
        momentum = 0.1 if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)


class SyncedBatchNorm2d(nn.SyncBatchNorm):
    """The same on several GPUs, by torch's fused kernels.

    Attributes:
        tracks: as in `JointBatchNorm2d`.
    """

    tracks = True

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Normalise each channel, then scale and shift it."""
        if self.tracks:
            out: Tensor = super().forward(input)
            return out
        buffers = dict(self._buffers)
        # torch's function writes into whatever tensors are there
        self._buffers.update({n: b if b is None else b.clone() for n, b in buffers.items()})
        try:
            out = super().forward(input)
        finally:
            self._buffers.update(buffers)
        return out


def join_statistics(module: nn.Module, *, on_gpu: bool) -> None:
    """Let the 2D batch norms of a module take their statistics over all processes, in place.

    Torch's own are replaced, and so are `JointBatchNorm2d` where the GPU's kernels do the same.
    Parameters and buffers are the same tensors as before, under the same names. Subclasses of
    others (timm's fused activations) stay: what else they do would be lost.
    """
    kind = SyncedBatchNorm2d if on_gpu else JointBatchNorm2d
    for part in list(module.modules()):
        for name, norm in part.named_children():
            if type(norm) in (nn.BatchNorm2d, JointBatchNorm2d) and type(norm) is not kind:
                part.register_module(name, _as(kind, norm))


def _as(kind: type[SyncedBatchNorm2d | JointBatchNorm2d], norm: nn.Module) -> nn.Module:
    assert isinstance(norm, nn.BatchNorm2d)
    tracks = norm.track_running_stats
    twin = kind(norm.num_features, norm.eps, norm.momentum, norm.affine, tracks)
    twin._parameters.update(norm._parameters)
    twin._buffers.update(norm._buffers)
    return twin.train(norm.training)


@contextlib.contextmanager
def statistics_untouched(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Leave running statistics as they are, for a second pass over a batch already seen."""
    norms = [
        part
        for module in modules
        for part in module.modules()
        if isinstance(part, JointBatchNorm2d | SyncedBatchNorm2d)
    ]
    for norm in norms:
        norm.tracks = False
    try:
        yield
    finally:
        for norm in norms:
            norm.tracks = True
