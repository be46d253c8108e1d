"""Joint batch norm against torch's own, alone and in a group of one process."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional

from helpers import assert_close, fill
from mfclip.layers.normalisation import (
    JointBatchNorm2d,
    SyncedBatchNorm2d,
    join_statistics,
    statistics_untouched,
)


def make_pair() -> tuple[JointBatchNorm2d, nn.BatchNorm2d]:
    own = fill(JointBatchNorm2d(3))
    reference = nn.BatchNorm2d(3)
    reference.load_state_dict(own.state_dict())
    return own, reference


def make_images() -> Tensor:
    return (torch.sin(torch.arange(2 * 3 * 4 * 5.0)) * 2 + 1).view(2, 3, 4, 5)


@pytest.fixture
def group_of_one() -> Iterator[None]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", init_method=address, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("training", [True, False])
def test_alone_it_is_torchs_batch_norm(training: bool) -> None:
    own, reference = (module.train(training) for module in make_pair())
    for step in range(3):
        images = make_images() + step
        torch.testing.assert_close(own(images), reference(images), rtol=0, atol=0)
    torch.testing.assert_close(own.state_dict(), reference.state_dict(), rtol=0, atol=0)


def test_joined_statistics_of_one_process_are_torchs_with_gradients(group_of_one: None) -> None:
    own, reference = make_pair()
    for step in range(3):
        images = make_images() + step
        inputs = [images.clone().requires_grad_() for _ in range(2)]
        joint = own._forward_joint(inputs[0])
        plain = reference(inputs[1])
        assert_close(joint, plain)
        joint.pow(3).sum().backward()
        plain.pow(3).sum().backward()
        assert_close(inputs[0].grad, inputs[1].grad, factor=10)
        assert_close(own.weight.grad, reference.weight.grad, factor=10)
        assert_close(own.bias.grad, reference.bias.grad, factor=10)
    for name, tensor in own.state_dict().items():
        assert_close(tensor.float(), reference.state_dict()[name].float())


def test_half_precision_keeps_its_type(group_of_one: None) -> None:
    own, reference = make_pair()
    out = own._forward_joint(make_images().bfloat16())
    assert out.dtype == torch.bfloat16
    assert_close(out, reference(make_images()))


class Fused(nn.BatchNorm2d):
    """A batch norm that does more, as timm's with an activation."""


@pytest.mark.parametrize("on_gpu", [True, False])
def test_joined_norms_keep_tensors_names_and_settings(on_gpu: bool) -> None:
    plain, own = nn.BatchNorm2d(3, eps=0.1, momentum=None), JointBatchNorm2d(3)
    module = nn.Sequential(nn.Sequential(plain), own, Fused(3), nn.BatchNorm1d(3)).eval()
    before, kept = module.state_dict(), list(module.parameters())
    join_statistics(module, on_gpu=on_gpu)
    kind = SyncedBatchNorm2d if on_gpu else JointBatchNorm2d
    assert [type(part) for part in (module[0][0], *module[1:])] == [
        kind, kind, Fused, nn.BatchNorm1d,
    ]  # fmt: skip
    after = module.state_dict()
    assert all(after[name] is not None for name in before)
    assert all(after[name].data_ptr() == tensor.data_ptr() for name, tensor in before.items())
    assert [a is b for a, b in zip(module.parameters(), kept, strict=True)] == [True] * 8
    joined = module[0][0]
    assert (joined.eps, joined.momentum, joined.training) == (0.1, None, False)


def test_synced_norm_leaves_statistics_untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(self: nn.SyncBatchNorm, input: Tensor) -> Tensor:
        self.num_batches_tracked.add_(1)  # what torch does on a GPU, in place
        arguments = (self.running_mean, self.running_var, self.weight, self.bias, True)
        return functional.batch_norm(input, *arguments)

    monkeypatch.setattr(nn.SyncBatchNorm, "forward", forward)
    norm = SyncedBatchNorm2d(3)
    before = {name: tensor.clone() for name, tensor in norm.state_dict().items()}
    with statistics_untouched([norm]):
        out = norm(make_images())
    torch.testing.assert_close(norm.state_dict(), before, rtol=0, atol=0)
    assert torch.equal(norm(make_images()), out)
    assert norm.num_batches_tracked == 1
    assert not torch.equal(norm.running_mean, before["running_mean"])
