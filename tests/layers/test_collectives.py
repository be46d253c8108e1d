"""Two processes equal one on the joined batch, gradients too."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn import functional

from helpers import assert_close, fill
from mfclip.layers.collectives import join_over_processes, process_count, sum_over_processes
from mfclip.layers.normalisation import JointBatchNorm2d
from mfclip.model.losses import ContrastiveLoss
from mfclip.model.spa import SamplePairAttention


def test_alone_nothing_is_exchanged() -> None:
    values = torch.arange(6.0).view(3, 2)
    assert process_count() == 1
    assert sum_over_processes(values) is values
    assert join_over_processes(values) is values


class Part(nn.Module):
    """Joint batch norm, and CLIP's loss with SPA and shared prompts."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = JointBatchNorm2d(3)
        self.places = ContrastiveLoss(SamplePairAttention("batch", batch_size=6))
        self.features = ContrastiveLoss(SamplePairAttention("features", embed_dim=12), beta=3.0)

    def forward(self, images: Tensor, texts: Tensor, ids: Tensor) -> Tensor:
        features = functional.normalize(self.norm(images).pow(3).mean(3).flatten(1), dim=1)
        given = (features, functional.normalize(texts, dim=1), 5.0, ids)
        return self.places(*given) + self.features(*given)


def make_inputs() -> tuple[Tensor, Tensor, Tensor]:
    images = torch.sin(torch.arange(6 * 3 * 4 * 5) * 0.7).view(6, 3, 4, 5) + 0.5
    texts = torch.cos(torch.arange(6 * 12) * 1.3).view(6, 12)
    return images, texts, torch.tensor([3, 8, 3, 5, 8, 3])[:, None]


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    rendezvous = f"file://{folder}/rendezvous"
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=2)
    part = fill(Part())
    images, texts, ids = (whole[rank * 3 : rank * 3 + 3].clone() for whole in make_inputs())
    texts.requires_grad_()
    loss = part(images, texts, ids)
    loss.backward()
    for parameter in part.parameters():
        dist.all_reduce(parameter.grad)  # what DistributedDataParallel does: the mean
        parameter.grad /= 2
    gradients = {name: p.grad for name, p in part.named_parameters()}
    result = {"loss": loss.detach(), "texts": texts.grad / 2, **part.state_dict()}
    joined = join_over_processes(ids)
    torch.save((result, gradients, joined), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.dist
@pytest.mark.slow
def test_two_processes_equal_one_on_the_joined_batch(tmp_path: Path) -> None:
    mp.spawn(work, (str(tmp_path),), nprocs=2)
    part, (images, texts, ids) = fill(Part()), make_inputs()
    texts.requires_grad_()
    loss = part(images, texts, ids)
    loss.backward()
    for rank in (0, 1):
        result, gradients, joined = torch.load(tmp_path / f"{rank}.pt")
        assert joined.tolist() == ids.tolist()
        assert_close(result["loss"], loss.detach())
        assert_close(result["texts"], texts.grad[rank * 3 : rank * 3 + 3])
        for name, parameter in part.named_parameters():
            assert_close(gradients[name], parameter.grad)
        for name, tensor in part.state_dict().items():
            assert_close(result[name].float(), tensor.float())
