"""Bands: scores to verdicts."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfclip.card import VERDICTS, Bands, Card, read_card
from mfclip.errors import ConfigError, WeightsError

RATES = {"val": {"false_alarm": {"value": 0.1, "low": 0.05, "high": 0.151}}}
OLD = {"real_below": 0.3, "fake_from": 0.7, "max_error": 0.1, "rates": RATES}
CARD = read_card({"threshold": 0.5, "verdict": OLD})


@pytest.mark.parametrize(
    ("score", "verdict"),
    [(0.0, "real"), (0.299, "real"), (0.3, "uncertain"), (0.699, "uncertain"), (0.7, "fake")],
)
def test_a_bound_belongs_to_the_band_above_it(score: float, verdict: str) -> None:
    assert CARD.bands("whole").verdict(score) == verdict


@given(st.lists(st.floats(0, 1), min_size=2, max_size=2), st.lists(st.floats(0, 1), min_size=2))
def test_a_higher_score_is_never_judged_more_real(bounds: list[float], scores: list[float]) -> None:
    bands = Bands(*sorted(bounds))
    ranks = [VERDICTS.index(bands.verdict(score)) for score in sorted(scores)]
    assert ranks == sorted(ranks)
    assert bands.allow_uncertain or 1 not in ranks


def test_the_users_threshold_leaves_two_verdicts_and_no_borrowed_rates() -> None:
    bands = CARD.bands("whole", 0.5)
    assert [bands.verdict(score) for score in (0.49, 0.5)] == ["real", "fake"]
    assert (bands.basis, dict(bands.rates), bands.max_error) == ("given", {}, None)


@pytest.mark.parametrize(("card", "bound"), [(Card(threshold=0.4), 0.4), (Card(), 0.5)])
def test_weights_without_bands_say_so(card: Card, bound: float) -> None:
    bands = card.bands("whole")
    assert (bands.real_below, bands.fake_from, bands.basis) == (bound, bound, "threshold")


def test_fitted_bands_are_written_as_they_were_read() -> None:
    written = CARD.bands("whole").to_json()
    assert written == {**OLD, "basis": "validation", "fitted_on": "val"}


@pytest.mark.parametrize("threshold", [-0.1, 1.1, math.nan])
def test_an_impossible_threshold_is_refused(threshold: float) -> None:
    with pytest.raises(ConfigError, match=r"expected a threshold in \[0, 1\]"):
        Card().bands("whole", threshold)


def test_bands_are_those_of_the_way_to_come_by_faces() -> None:
    own = Bands(0.2, 0.9, "validation", 0.1, {"test": {"miss": {"value": 0.25}}})
    card = CARD.changed(verdict={**CARD.verdict, "detected": own})
    assert (card.bands("detected"), card.bands("whole")) == (
        replace(own, fitted_on="val"),
        CARD.bands("whole"),
    )
    assert card.bands("detected").rates == own.rates
    # where nothing was measured this way, the bounds are borrowed and the rates are not
    borrowed = CARD.bands("detected")
    assert (borrowed.real_below, borrowed.fake_from) == (0.3, 0.7)
    assert borrowed.rates == {}


@pytest.mark.parametrize(
    "entry",
    [
        {"real_below": 0.7, "fake_from": 0.3},
        {"real_below": 0.7},
        {"real_below": "low", "fake_from": 0.3},
        {"real_below": math.nan, "fake_from": 0.3},
        {"real_below": 0.3, "fake_from": 0.7, "rates": {"test": {"miss": {"value": 1.5}}}},
        {"cropped": {"real_below": 0.3, "fake_from": 0.7}},
        [0.3, 0.7],
        "0.5",
    ],
)
def test_a_damaged_card_is_refused(entry: object) -> None:
    with pytest.raises(WeightsError, match="the card is damaged: 'verdict"):
        read_card({"verdict": entry})
