"""LoRA against its formula by hand, and against the layer it came from."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from mfclip.errors import ConfigError
from mfclip.layers.lora import LoraLinear, add_lora, merge_lora


def _net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3, bias=False))


def test_it_starts_as_the_layer_it_replaces() -> None:
    net, x = _net(), torch.randn(5, 6)
    before = net(x)
    assert add_lora(net, ["0", "2"], rank=2, alpha=4.0) == 2
    assert torch.equal(net(x), before)


def test_the_formula_by_hand() -> None:
    layer = LoraLinear(nn.Linear(4, 3), rank=2, alpha=6.0)
    nn.init.normal_(layer.lora_b)
    x = torch.randn(7, 4)
    weight = layer.weight + 3 * layer.lora_b @ layer.lora_a
    assert torch.allclose(layer(x), functional.linear(x, weight, layer.bias), atol=1e-6)


def test_only_the_thin_matrices_learn() -> None:
    net = _net()
    add_lora(net, ["0"], rank=2, alpha=4.0)
    net(torch.randn(5, 6)).sum().backward()
    learned = {name for name, p in net.named_parameters() if p.grad is not None}
    assert learned == {"0.lora_a", "0.lora_b", "2.weight"}
    count = sum(p.numel() for name, p in net.named_parameters() if "lora" in name)
    assert count == 2 * (6 + 8)


def test_merged_computes_the_same_and_has_the_plain_names() -> None:
    net, x = _net().double(), torch.randn(5, 6).double()
    names = set(net.state_dict())
    add_lora(net, ["*"], rank=2, alpha=4.0)
    for each in net.modules():
        if isinstance(each, LoraLinear):
            nn.init.normal_(each.lora_b)
    before = net(x)
    merge_lora(net)
    assert torch.allclose(net(x), before, atol=1e-12)
    assert set(net.state_dict()) == names


def test_a_pattern_without_a_layer_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no linear layer has a name like '\*.qkv'; there are 2"):
        add_lora(_net(), ["*.qkv"], rank=2, alpha=4.0)
