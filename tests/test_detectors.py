"""Every detector: scores, gradients, weights on disk; and weights that do not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from helpers import KINDS, SIZES, SLOW, assert_close, fill, pictures, tiny_batch
from mfclip import detectors
from mfclip.card import Card
from mfclip.config import LossSettings, ModelSettings, build_config
from mfclip.detectors import (
    DETECTORS,
    build_detector,
    find_weights,
    load_detector,
    load_tensors,
    save_detector,
)
from mfclip.errors import ConfigError, WeightsError
from mfclip.model.mfclip import MFCLIP
from mfclip.weights import read_weights, write_weights


def settings_of(name: str, **overrides: Any) -> ModelSettings:
    return build_config({"model": {"name": name, **SIZES.get(name, {}), **overrides}}).model


def make(name: str, **overrides: Any) -> tuple[nn.Module, ModelSettings]:
    settings = settings_of(name, **overrides)
    detector = build_detector(settings).eval()
    if name in ("clip", "vlffd"):  # by formula their sentences, or pictures, would be alike
        return detector, settings
    return fill(detector), settings


def remembering() -> tuple[MFCLIP, ModelSettings]:
    model, settings = make("mfclip")
    assert isinstance(model, MFCLIP)
    model.remember_prompts(KINDS)
    return model, settings


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in DETECTORS
    ]
)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_scores_do_not_depend_on_the_batch(name: str) -> None:
    detector, settings = make(name)
    images = pictures(5, settings.image_size)
    together = detector(images)
    assert together.shape == (5, 2)
    assert_close(together, torch.cat([detector(one[None]) for one in images]))
    assert (together[0] - together[1]).abs().max() > 0


def test_loss_terms_reach_every_trainable_parameter(name: str) -> None:
    detector, settings = make(name)
    terms = detector.train().loss(tiny_batch(6, settings.image_size))
    torch.stack(list(terms.values())).sum().backward()
    for key, parameter in detector.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, key
        assert parameter.grad is None or parameter.grad.isfinite().all(), key


def test_a_few_steps_on_one_batch_lower_its_loss(name: str) -> None:
    settings = settings_of(name)
    detector = build_detector(settings).train()
    batch = tiny_batch(4, settings.image_size)
    optimizer = torch.optim.Adam([p for p in detector.parameters() if p.requires_grad], lr=1e-3)
    losses = []
    for _ in range(8):
        loss = torch.stack(list(detector.loss(batch).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_weights_make_a_round_trip(name: str, tmp_path: Path) -> None:
    detector, settings = make(name)
    path = tmp_path / "w.safetensors"
    save_detector(detector, settings, path, card=Card(trained_on="none"))
    loaded, card = load_detector(path)
    images = pictures(2, settings.image_size)
    torch.testing.assert_close(loaded(images), detector(images), rtol=0, atol=0)
    assert card == Card(trained_on="none")
    assert not loaded.training
    assert loaded.image_size == settings.image_size
    from_folder = tmp_path / "model.safetensors"
    path.rename(from_folder)
    again, _ = load_detector(tmp_path)
    torch.testing.assert_close(again(images), detector(images), rtol=0, atol=0)


def test_pretrained_weights_are_a_starting_point(name: str, tmp_path: Path) -> None:
    detector, settings = make(name)
    path = tmp_path / "w.safetensors"
    save_detector(detector, settings, path, card=Card())
    started = build_detector(settings_of(name, pretrained=str(path)))
    torch.testing.assert_close(started.state_dict(), detector.state_dict(), rtol=0, atol=0)


def test_pretrained_weights_may_hold_remembered_prompts(tmp_path: Path) -> None:
    model, settings = remembering()
    path = tmp_path / "w.safetensors"
    save_detector(model, settings, path, card=Card())
    started = build_detector(settings_of("mfclip", pretrained=str(path)))
    torch.testing.assert_close(started.state_dict(), model.state_dict(), rtol=0, atol=0)


def test_the_vision_half_is_saved_and_loads_alone(tmp_path: Path) -> None:
    model, settings = remembering()
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    save_detector(model, settings, whole, card=Card(threshold=0.4))
    save_detector(model, settings, half, card=Card(threshold=0.4), vision_only=True)
    assert model.language_encoder is not None  # saving takes nothing from the model
    names = set(safetensors.torch.load_file(half))
    assert not any(n.startswith(("language_", "contrastive", "predictor")) for n in names)
    assert half.stat().st_size < 0.5 * whole.stat().st_size

    loaded, card = load_detector(half)
    assert isinstance(loaded, MFCLIP)
    images = pictures(3)
    torch.testing.assert_close(loaded(images), model(images), rtol=0, atol=0)
    assert card == Card(threshold=0.4, prompts=model.prompts)
    assert loaded.prompts == model.prompts
    vision = model.encode_image(images)
    torch.testing.assert_close(
        loaded.prompt_probabilities(vision), model.prompt_probabilities(vision), rtol=0, atol=0
    )
    assert loaded.language_encoder is None
    full, _ = load_detector(whole)
    torch.testing.assert_close(full.state_dict(), model.state_dict(), rtol=0, atol=0)


def test_weights_of_another_size_are_refused_with_the_first_differences(tmp_path: Path) -> None:
    model, _ = make("mfclip")
    path = tmp_path / "w.safetensors"
    save_detector(model, settings_of("mfclip", embed_dim=24), path, card=Card())
    expected = r"belongs to another model \(\d+ tensors\): .*expected \(\d+.*\), got \(\d+"
    with pytest.raises(WeightsError, match=expected):
        load_detector(path)


def test_weights_of_another_version_say_so(tmp_path: Path) -> None:
    model, settings = make("mfclip")
    path = tmp_path / "w.safetensors"
    save_detector(model, settings, path, card=Card())
    file = read_weights(path)
    write_weights(replace(file, settings={**file.settings, "novelty": 1}), path)
    with pytest.raises(WeightsError, match=r"another version .*unknown key 'model\.novelty'"):
        load_detector(path)


def test_load_tensors_names_missing_and_foreign_tensors() -> None:
    module = nn.Linear(2, 3)
    before = module.weight.clone()
    tensors = {"weight": torch.zeros(3, 2), "other": torch.zeros(1)}
    with pytest.raises(WeightsError) as caught:
        load_tensors(module, tensors, "file.safetensors")
    assert str(caught.value) == (
        "file.safetensors belongs to another model (2 tensors): "
        "bias: missing; other: not part of this model"
    )
    torch.testing.assert_close(module.weight, before)  # nothing was copied
    load_tensors(module, {"weight": torch.ones(3, 2), "bias": torch.ones(3)}, "x")
    assert module(torch.ones(1, 2)).tolist() == [[3, 3, 3]]


def test_an_unknown_detector_is_refused() -> None:
    settings = ModelSettings(name="mfclop")
    with pytest.raises(ConfigError, match=r"model\.name to be one of \[mfclip, .*got 'mfclop'"):
        build_detector(settings)


def test_loss_settings_reach_the_detector() -> None:
    loss = LossSettings(kl=0.25)
    plain = fill(build_detector(settings_of("mfclip"))).eval()
    weighted = fill(build_detector(settings_of("mfclip"), loss)).eval()
    batch = tiny_batch()
    assert_close(weighted.loss(batch)["kl"], 0.25 * plain.loss(batch)["kl"])


def test_a_folder_gives_its_saved_or_its_best_weights(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no weights in the folder .*best\.safetensors"):
        find_weights(tmp_path)
    for name in ("best.safetensors", "model.safetensors"):
        (tmp_path / name).touch()
        assert find_weights(tmp_path) == tmp_path / name


def test_names_that_are_neither_files_nor_hub_ids_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no weights at .*absent\.safetensors"):
        load_detector(tmp_path / "absent.safetensors")
    with pytest.raises(WeightsError, match=r"no weights at not a hub id!; expected a \.safe"):
        find_weights("not a hub id!")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("runs/frist", "no weights at runs/frist; did you mean 'runs/first'?"),
        ("runs/other", "no weights at runs/other; expected a .safetensors file, a run's folder or"),
        ("frist", "no weights at frist; expected"),
        ("runz", "no weights at runz; did you mean 'runs'?"),
        ("runs/first/deep/down", "no weights at runs/first/deep/down; expected"),
    ],
)
def test_a_mistyped_path_is_not_looked_for_on_the_hub(
    name: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub was asked for `runs/frist` for 28 seconds."""
    (tmp_path / "runs" / "first").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(detectors, "_download", lambda *_: pytest.fail("asked the hub"))
    with pytest.raises(WeightsError) as caught:
        find_weights(name)
    assert str(caught.value).startswith(told)


def test_hub_ids_are_asked_for_on_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(detectors, "_download", lambda *words: asked.append(words) or Path("x"))
    for name in ("owner/name", "owner/name:small.safetensors"):
        assert find_weights(name) == Path("x")
    assert asked == [("owner/name",), ("owner/name", "small.safetensors")]
