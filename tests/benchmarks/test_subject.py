"""What is measured: the same every time, and what its weights say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from helpers import TINY
from machine.subject import KINDS, made_batch, open_subject, random_detector
from mfclip.config import build_config
from mfclip.detectors import load_detector
from mfclip.errors import WeightsError
from mfclip.model.ftg import prompt_labels


def test_random_weights_are_the_same_every_time() -> None:
    settings = build_config({"model": TINY}).model
    torch.manual_seed(1)
    one = random_detector(settings).state_dict()
    torch.manual_seed(2)
    two = random_detector(settings).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_batch_has_every_kind_and_as_many_real_as_fake() -> None:
    batch = made_batch(20, 32)
    assert torch.equal(batch.images, made_batch(20, 32).images)
    assert batch.target.float().mean() == 0.5
    assert [int(known.is_fake) for known in batch.labels] == batch.target.tolist()
    assert set(batch.labels) == set(KINDS)
    assert len({prompt_labels(known, 4) for known in KINDS}) == 10
    assert 0 <= batch.images.min() < batch.images.max() <= 1


def test_weights_give_the_detector_they_hold(tiny_weights: Path) -> None:
    with open_subject(str(tiny_weights), 4) as subject:
        loaded = subject.load().state_dict()
        expected = load_detector(tiny_weights)[0].state_dict()
        assert subject.config.model.image_size == TINY["image_size"]
        assert all(torch.equal(loaded[name], expected[name]) for name in expected)


def test_a_name_gives_random_weights_that_are_gone_afterwards() -> None:
    with open_subject("mfclip-small", 6) as subject:
        assert subject.weights.is_file()
        assert subject.config.model.embed_dim == 128
        assert subject.config.model.spa.batch_size == 6
    assert not subject.weights.exists()


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with (
        pytest.raises(WeightsError, match=r"nothing\.safetensors"),
        open_subject("nothing.safetensors", 4),
    ):
        pass
