"""Labels: what may be said of a face, how deep, and how columns are read."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfclip.errors import ManifestError
from mfclip.labels import (
    ABSENT,
    FAMILIES,
    LEVELS,
    MANIPULATIONS,
    Labels,
    parse_label,
    parse_level,
)

FINER = st.tuples(
    st.sampled_from([None, *MANIPULATIONS]),
    st.sampled_from([None, *FAMILIES]),
    st.sampled_from([None, "DDPM", "FSLSD"]),
)


@pytest.mark.parametrize(
    ("labels", "depth"),
    [
        (Labels(False), 1),
        (Labels(False, generator="ffhq"), 1),
        (Labels(True), 1),
        (Labels(True, "reenactment"), 2),
        (Labels(True, "face_swap", "gan"), 3),
        (Labels(True, "face_swap", "gan", "FSLSD"), 4),
        (Labels(True, None, "gan", "FSLSD"), 1),  # a gap ends the count
        (Labels(True, "face_swap", None, "FSLSD"), 2),
    ],
)
def test_depth_counts_levels_without_a_gap(labels: Labels, depth: int) -> None:
    assert labels.depth == depth


@given(FINER, st.integers(1, 4))
def test_cut_forgets_the_finer_levels_only(finer: tuple[str | None, ...], depth: int) -> None:
    labels = Labels(True, *finer)
    kept = dataclasses.astuple(labels.cut(depth))
    assert kept[:depth] == dataclasses.astuple(labels)[:depth]
    assert kept[depth:] == (None,) * (4 - depth)
    assert labels.cut(depth).depth == min(labels.depth, depth)


def test_levels_name_the_fields_in_order() -> None:
    names = [field.name for field in dataclasses.fields(Labels)]
    assert ("label", *names[1:]) == LEVELS


def test_labels_are_values() -> None:
    one, other = Labels(True, "face_swap"), Labels(True, "face_swap")
    assert one == other
    assert len({one, other, Labels(True)}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.is_fake = False


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((True, "swap"), r"manipulation to be one of \[entire_face_synthesis, .*\] .* got 'swap'"),
        (
            (True, None, "vae"),
            r"family to be one of \[diffusion, gan, .*got 'vae'",
        ),
        ((False, "face_swap"), "a real face has no manipulation.*'face_swap'.*leave both empty"),
        ((False, None, "gan"), "a real face has no manipulation and no family"),
    ],
)
def test_impossible_labels_are_refused(values: tuple[object, ...], message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        Labels(*values)


@pytest.mark.parametrize(
    ("text", "is_fake"),
    [
        *((word, True) for word in ("fake", " FAKE ", "1", "True")),
        *((word, False) for word in ("real", "Real", "0", "false")),
    ],
)
def test_parse_label(text: str, is_fake: bool) -> None:
    assert parse_label(text) is is_fake


@pytest.mark.parametrize("text", ["", "2", "forged", "0.5"])
def test_another_label_is_refused(text: str) -> None:
    with pytest.raises(ManifestError, match=rf"one of \[real, fake, 0, 1\], but got '{text}'"):
        parse_label(text)


@pytest.mark.parametrize("text", [None, *ABSENT, "NaN", "  None ", " "])
def test_absent_levels_are_none(text: str | None) -> None:
    assert parse_level(text) is None


def test_a_level_keeps_its_case_and_loses_its_blanks() -> None:
    assert parse_level(" StyleGAN3 ") == "StyleGAN3"
