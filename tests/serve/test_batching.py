"""Faces that arrive together share a forward pass, and each caller gets its own answer."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float
from torch import Tensor

from helpers import KINDS, pictures, tiny_model
from mfclip.card import EngineName, Precision
from mfclip.engines import Judged
from mfclip.engines.engine import ModelFacts
from mfclip.engines.torch_engine import TorchEngine
from mfclip.errors import ConfigError
from mfclip.serve.batching import BatchedEngine

WAIT = 30.0
"""Seconds after which an answer counts as never coming."""


class Counting:
    """Answers with the mean of each face; fails at faces that are all 0."""

    name: EngineName = "torch"
    precision: Precision = "fp32"
    image_size = 4
    facts = ModelFacts(4)

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def judge(self, images: Float[Tensor, "b 3 h w"]) -> Judged:
        self.entered.set()
        if not self.gate.wait(WAIT):
            raise TimeoutError("the gate was never opened")
        self.sizes.append(len(images))
        means = images.mean((1, 2, 3))
        if (means == 0).any():
            raise RuntimeError("a face that breaks it")
        return Judged(torch.stack((-means, means), 1))


def faces(*values: float) -> Tensor:
    return torch.tensor(values)[:, None, None, None].expand(-1, 3, 4, 4)


def test_a_real_model_says_the_same_alone_and_together() -> None:
    model = tiny_model().eval()
    model.remember_prompts(KINDS)
    engine = TorchEngine(model, "fp32")
    images = pictures(12)
    alone = engine.judge(images)
    batched = BatchedEngine(engine, batch_size=5)
    with ThreadPoolExecutor(12) as threads:
        together = list(threads.map(batched.judge, images.split([1, 2, 1, 3, 4, 1])))
    batched.close()
    for name in ("logits", "features", "patch_index"):
        joined = torch.cat([getattr(one, name) for one in together])
        torch.testing.assert_close(joined, getattr(alone, name), atol=1e-5, rtol=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=12), st.integers(1, 8))
def test_everybody_gets_his_own(sizes: list[int], batch_size: int) -> None:
    counted: list[int] = []
    engine = Counting()
    batched = BatchedEngine(engine, batch_size=batch_size, count=counted.append)
    asked = [faces(*(i + j / 10 + 1 for j in range(size))) for i, size in enumerate(sizes)]
    with ThreadPoolExecutor(len(asked)) as threads:
        answers = list(threads.map(batched.judge, asked))
    batched.close()
    for images, answer in zip(asked, answers, strict=True):
        assert torch.allclose(answer.logits[:, 1], images.mean((1, 2, 3)))
    assert max(engine.sizes) <= batch_size
    assert counted == engine.sizes
    assert sum(engine.sizes) == sum(sizes)


def test_what_waits_is_judged_together() -> None:
    engine = Counting()
    engine.gate.clear()
    batched = BatchedEngine(engine, batch_size=8, patience=0.0)
    with ThreadPoolExecutor(9) as threads:
        try:
            first = threads.submit(batched.judge, faces(1.0))
            assert engine.entered.wait(WAIT)  # alone: what comes now has to wait
            others = [threads.submit(batched.judge, faces(float(i))) for i in range(2, 10)]
            end = time.monotonic() + WAIT
            while batched._waiting.qsize() < 8 and time.monotonic() < end:
                time.sleep(0.001)
        finally:
            engine.gate.set()
        answers = [first, *others]
        assert [a.result(WAIT).logits[0, 1].item() for a in answers] == list(range(1, 10))
    assert engine.sizes == [1, 8]
    batched.close()


def test_one_bad_face_fails_its_own_caller_only() -> None:
    engine = Counting()
    batched = BatchedEngine(engine, patience=0.2)
    with ThreadPoolExecutor(3) as threads:
        answers = [threads.submit(batched.judge, faces(value)) for value in (1.0, 0.0, 2.0)]
    assert isinstance(answers[1].exception(WAIT), RuntimeError)
    assert [answers[i].result(WAIT).logits[0, 1].item() for i in (0, 2)] == [1, 2]
    batched.close()


def test_closing() -> None:
    batched = BatchedEngine(Counting())
    assert batched.is_alive
    batched.close()
    batched.close()
    assert not batched.is_alive
    with pytest.raises(RuntimeError, match="closed"):
        batched.judge(faces(1.0))
    with pytest.raises(ConfigError, match="batch_size"):
        BatchedEngine(Counting(), batch_size=0)
