"""Names of devices, memory that others hold, and the kernels of a GPU without one."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mfclip.errors import ConfigError
from mfclip.runtime.device import emulation_warning, fast_kernels, find_device


def test_a_name_that_means_nothing_is_refused() -> None:
    assert find_device("cpu") == torch.device("cpu")
    with pytest.raises(ConfigError, match="no device 'abacus' on this machine; expected auto"):
        find_device("abacus")


def test_a_device_without_memory_is_not_an_absent_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB. GPU 0 ...")

    monkeypatch.setattr(torch, "zeros", refuse)
    with pytest.raises(ConfigError, match=r"'cuda' has no free memory \(CUDA out of memory\); end"):
        find_device("cuda")


def test_a_gpu_gets_fast_kernels_and_a_cpu_stays_as_it_is() -> None:
    def now() -> tuple[bool, str]:
        return torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision()

    before = now()
    with fast_kernels(torch.device("cpu"), "medium"):
        assert now() == before
    with fast_kernels(torch.device("cuda", 0), "high"):
        assert now() == (True, "high")
    assert now() == before
    with pytest.raises(ZeroDivisionError), fast_kernels(torch.device("cuda", 0), "high"):
        raise ZeroDivisionError
    assert now() == before


def test_a_processor_without_bf16_is_named() -> None:
    cpu = torch.device("cpu")
    warning = emulation_warning(cpu, "bf16-mixed")
    has_avx512 = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    assert (warning is None) == has_avx512
    assert has_avx512 or "no instructions for bf16-mixed" in str(warning)
    assert emulation_warning(cpu, "32-true") is None
    assert emulation_warning(torch.device("cuda", 0), "bf16-mixed") is None


def test_a_build_that_cannot_be_asked_is_not_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    monkeypatch.setattr(torch.ops, "mkldnn", None)
    assert emulation_warning(torch.device("cpu"), "bf16-mixed") is None
