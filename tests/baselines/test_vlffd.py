"""VLFFD: mixed faces and their sentences say the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional

from helpers import SIZES, assert_close, pictures, tiny_batch
from mfclip.baselines import vlffd
from mfclip.baselines.vlffd import (
    REAL,
    REGIONS,
    WHOLE,
    Vlffd,
    describe,
    draw_regions,
    mix_batch,
    mix_faces,
    region_mask,
)
from mfclip.config import build_config
from mfclip.detectors import build_detector
from mfclip.errors import ConfigError
from mfclip.labels import Labels
from oracles import parameter_count


def build(**options: Any) -> Vlffd:
    sizes = SIZES["vlffd"]
    tree = {**sizes, "name": "vlffd", "options": {**sizes["options"], **options}}
    detector = build_detector(build_config({"model": tree}).model)
    assert isinstance(detector, Vlffd)
    return detector


def test_parameters_are_clips_and_a_head() -> None:
    with torch.device("meta"):
        detector = build_detector(build_config({"model": {"name": "vlffd"}}).model)
    assert parameter_count(detector) == 151_277_313 + 2 * 512 + 2  # CLIP's ViT-B/32


@pytest.mark.parametrize("names", [["eyes"], ["nose", "cheeks"], [WHOLE]])
def test_a_mixed_face_is_the_real_one_outside_and_the_fake_one_inside(names: list[str]) -> None:
    real, fake = pictures(2)
    mask = region_mask(names, 32, 32)
    mixed = mix_faces(real, fake, mask, 1.0)
    assert torch.equal(mixed[:, ~mask], real[:, ~mask])
    assert torch.equal(mixed[:, mask], fake[:, mask])
    half = mix_faces(real, fake, mask, 0.5)
    assert torch.equal(half[:, ~mask], real[:, ~mask])
    assert_close(half[:, mask], (real[:, mask] + fake[:, mask]) / 2)
    assert mask.all() == (names == [WHOLE])


def test_regions_lie_where_a_face_has_them() -> None:
    places = {
        name: region_mask([name], 100, 100).nonzero().float().mean(0).tolist() for name in REGIONS
    }
    assert places["eyes"][0] < places["nose"][0] < places["mouth"][0]  # from above
    assert all(abs(column - 49.5) < 0.5 for _, column in places.values())  # symmetric
    left = region_mask(["cheeks"], 100, 100)
    assert torch.equal(left, left.flip(1))
    assert region_mask(["cheeks"], 100, 100)[:, 45:55].sum() == 0  # the nose is between them


def test_every_choice_of_regions_is_drawn_and_none_is_empty() -> None:
    torch.manual_seed(0)
    drawn = [draw_regions() for _ in range(2000)]
    assert all(names == [WHOLE] or set(names) <= set(REGIONS) for names in drawn)
    assert len({tuple(names) for names in drawn}) == 1 + 4 + 6 + 4
    whole = sum(names == [WHOLE] for names in drawn) / len(drawn)
    assert 0.17 < whole < 0.23


def test_the_sentence_names_exactly_the_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = replace(tiny_batch(5), partner=torch.tensor([-1, 0, 0, -1, 0]))
    chosen = iter([["eyes"], ["nose", "mouth"], [WHOLE], ["cheeks"]])
    monkeypatch.setattr(vlffd, "draw_regions", lambda: next(chosen))
    monkeypatch.setattr(vlffd, "_LEAST_RATIO", 1.0)
    mixed, sentences = mix_batch(batch)
    assert sentences == [
        REAL,
        "a photo of a fake face, the eyes are forged by entire face synthesis",
        "a photo of a fake face, the nose and mouth are forged by face swap",
        "a photo of a fake face, the whole face is forged by attribute manipulation",
        "a photo of a fake face, the cheeks are forged by entire face synthesis",
    ]
    assert torch.equal(mixed[0], batch.images[0])
    for place, text in enumerate(sentences[1:], start=1):
        changed = (mixed[place] != batch.images[0]).any(0)
        named = [name for name in (*REGIONS, WHOLE) if name in text]
        assert not (changed & ~region_mask(named, 32, 32)).any()
        assert torch.equal(mixed[place][:, changed], batch.images[place][:, changed])
        assert changed.any()


def test_without_a_real_face_a_forged_one_stays_and_is_named_whole() -> None:
    batch = tiny_batch(5)
    fakes = replace(
        batch,
        images=batch.images[1:],
        target=batch.target[1:],
        labels=batch.labels[1:],
        index=batch.index[1:],
    )
    mixed, sentences = mix_batch(fakes)
    assert torch.equal(mixed, fakes.images)
    assert all("the whole face is forged" in text for text in sentences)


def test_an_unknown_kind_is_said_to_be_unknown() -> None:
    assert describe(["nose"], Labels(True)).endswith("the nose is forged by an unknown method")


def test_the_loss_is_that_of_both_branches() -> None:
    torch.manual_seed(0)
    detector, batch = build(beta=0.5).eval(), tiny_batch(6)
    torch.manual_seed(3)
    terms = detector.loss(batch)
    expected = functional.cross_entropy(detector(batch.images), batch.target)
    assert_close(terms["cross_entropy"], expected)
    torch.manual_seed(3)
    mixed, sentences = mix_batch(batch)
    images = functional.normalize(detector.encode(mixed), dim=1)
    texts = detector.towers.encode_text(detector.tokenize(sentences))  # type: ignore[operator]
    texts = functional.normalize(texts, dim=1)
    logits = detector.towers.get_parameter("logit_scale").exp() * images @ texts.T
    same = torch.tensor([[a == b for b in sentences] for a in sentences]).float()
    rows = -(same / same.sum(1, keepdim=True) * logits.log_softmax(1)).sum(1).mean()
    columns = -(same / same.sum(1, keepdim=True) * logits.T.log_softmax(1)).sum(1).mean()
    assert_close(terms["contrastive"], 0.5 * (rows + columns) / 2)


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(ConfigError, match="beta to be at least 0, but got -1"):
        build(beta=-1)
