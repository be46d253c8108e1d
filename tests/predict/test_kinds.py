"""Ranked kinds against cosines and softmax by hand."""

from __future__ import annotations

import pytest
import torch

from mfclip.engines.known_prompts import known_prompts
from mfclip.labels import LEVELS
from mfclip.model.mfclip import MFCLIP
from mfclip.predict.kinds import rank_kinds


def test_kinds_carry_probability_and_the_cosine_of_the_nearest_prompt(model: MFCLIP) -> None:
    torch.manual_seed(0)
    prompts = known_prompts(model)
    assert prompts is not None
    features = torch.nn.functional.normalize(torch.randn(3, prompts.features.shape[1]), dim=-1)
    cosines = torch.cosine_similarity(features[:, None], prompts.features[None], dim=-1)
    ranked = rank_kinds(prompts, features)
    assert [tuple(record) for record in ranked] == [LEVELS] * 3
    for row, record in enumerate(ranked):
        by_name = {kind.name: kind for kind in record["family"]}
        gan = [i for i, labels in enumerate(prompts.labels) if labels.family == "gan"]
        assert len(gan) == 2
        assert by_name["gan"].similarity == pytest.approx(float(cosines[row, gan].max()), abs=1e-6)
        expected = (prompts.logit_scale * cosines[row]).softmax(0)[gan].sum()
        assert by_name["gan"].probability == pytest.approx(float(expected), abs=1e-6)
        for kinds in record.values():
            shares = [kind.probability for kind in kinds]
            assert shares == sorted(shares, reverse=True)
            assert all(-1 <= (kind.similarity or 0) <= 1 for kind in kinds)


def test_a_face_like_one_prompt_is_named_after_it(model: MFCLIP) -> None:
    prompts = known_prompts(model)
    assert prompts is not None
    for labels, record in zip(prompts.labels, rank_kinds(prompts, prompts.features), strict=True):
        if labels.is_fake:
            best = max(record["generator"], key=lambda kind: kind.similarity or 0)
            assert best.name == labels.generator
            assert best.similarity == pytest.approx(1, abs=1e-5)
