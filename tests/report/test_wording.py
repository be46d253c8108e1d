"""Words: every language says the same things; counts, rates and verdicts by hand."""

from __future__ import annotations

import ast
import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mfclip
from mfclip.card import Bands, Share, read_card
from mfclip.media.images import ImageFile
from mfclip.predict.faces import WholePicture
from mfclip.predict.prediction import Kind, Prediction
from mfclip.predict.quality import check_face, check_file, check_pose, check_size
from mfclip.report.wording import (
    LANGUAGES,
    Language,
    Words,
    best_language,
    likely_kinds,
    named_levels,
    printable,
)

TABLE: dict[str, dict[str, str]] = json.loads(
    files("mfclip.report").joinpath("words.json").read_text("utf-8")
)
SOURCE = Path(mfclip.__file__).parent

BANDS = Bands(
    0.3,
    0.7,
    "validation",
    0.1,
    {
        "val": {"false_alarm": {"value": 0.1}, "miss": {"value": 0.1}},
        "test": {"false_alarm": {"value": 0.2}, "miss": {"value": 0.4, "low": 0.3, "high": 0.5}},
    },
    "val",
)

GOOD = {"value": 0.5, "low": 0.45, "high": 0.6, "chance": 0.3, "faces": 90}
POOR = {"value": 0.006, "low": 0.0, "high": 0.02, "chance": 0.3, "faces": 90}
MODEL = {
    "fitted_on": "val",
    "kinds": {
        "val": {"family": GOOD, "generator": POOR},
        "test": {"family": GOOD, "generator": GOOD, "manipulation": GOOD},
        "test_unseen": {"family": POOR, "manipulation": {**GOOD, "low": 0.29}},
    },
}


def judged(score: float, **more: object) -> Prediction:
    kinds = {
        "label": (Kind("fake", 1.0),),
        "family": (Kind("gan", 0.9), Kind("real", 0.001)),
        "generator": (Kind("StyleGAN2", 0.7), Kind("real", 0.298), Kind("DDPM", 0.002)),
    }
    return Prediction(None, score, BANDS, kinds, None, 224, None, 30, 20, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("key", TABLE)
def test_each_string_is_there_in_every_language_with_the_same_gaps(key: str) -> None:
    texts = TABLE[key]
    assert tuple(texts) == LANGUAGES
    gaps = {language: sorted(re.findall(r"{(\w+)}", text)) for language, text in texts.items()}
    assert all(sorted(set(found)) == sorted(set(gaps["en"])) for found in gaps.values()), gaps
    assert all(text.strip() for text in texts.values())


def test_no_string_is_missing_and_none_is_left_over() -> None:
    text = "".join(
        place.read_text("utf-8")
        for ending in ("py", "html", "js")
        for place in SOURCE.rglob(f"*.{ending}")
    )
    asked = set(re.findall(r"""\b(?:say|words)\(\s*["']([a-z_]+\.[a-z0-9_.]+)["']""", text))
    assert asked <= TABLE.keys(), asked - TABLE.keys()
    # these beginnings are completed by a verdict, a number, a code and the like
    completed = (
        "bands.", "card.copied", "card.saved", "error.", "face.", "file.", "frame.", "kind.",
        "level.", "limits.", "meaning.", "minute.", "origin.", "reading.", "row.", "second.",
        "short.", "split.", "verdict.", "video.", "view.found.", "warning.",
    )  # fmt: skip
    quoted = set(re.findall(r"""["'`]([a-z_]+\.[a-z0-9_.]+)["'`]""", text))
    assert not {key for key in TABLE if key not in quoted and not key.startswith(completed)}


def test_the_scripts_get_every_part_they_ask_for() -> None:
    tree = ast.parse((SOURCE / "serve" / "app.py").read_text())
    (parts,) = [
        {constant.value for constant in ast.walk(node.value) if isinstance(constant, ast.Constant)}
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "PAGE_WORDS"
    ]
    scripts = "".join(path.read_text() for path in (SOURCE / "serve" / "page").glob("*.js"))
    asked = set(re.findall(r"""(?:say|knows)\((?:\w+ \? )?["'`](\w+)\.""", scripts))
    asked |= set(re.findall(r"""count\(["'](\w+)["']""", scripts))
    assert asked == parts


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("", "en"),
        ("de-AT", "de"),
        ("pt-BR,pt;q=0.9", "en"),
        ("pt, es;q=0.5, fr;q=0.7", "fr"),
        ("zh-Hant-TW, en;q=0.1", "zh"),
        ("fr;q=0, de;q=0.1", "de"),
        ("*;q=0.5", "en"),
        ("en;q=nonsense, de;q=0.9", "en"),
    ],
)
def test_the_browsers_favourite_language_is_taken(accepted: str, language: Language) -> None:
    assert best_language(accepted) == language


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ("en", "8.5% (6.3% to 11%)"),
        ("de", "8,5 % (6,3 % bis 11 %)"),
        ("zh", "8.5%\uff086.3% 至 11%\uff09"),
    ],
)
def test_shares_are_written_as_people_do(language: Language, expected: str) -> None:
    share = Share(value=0.0851, low=0.063, high=0.11)
    assert Words(language).range(share).replace("\u00a0", " ") == expected


def test_rates_that_are_not_known_are_not_made_up() -> None:
    words = Words()
    assert words.range(None) == words.range(Share(value=None)) == "not known"
    assert words.range(Share(value=0.25)) == "25%"
    assert words.range(Share(value=0.5, low=0.4, high=0.6)) == "50% (40% to 60%)"


def test_a_verdict_is_worth_what_tests_say_never_what_it_was_fitted_on() -> None:
    words = Words()
    (told,) = words.meaning("fake", BANDS)
    assert "sources it was trained on, 20% of real faces were called forged" in told
    assert words.meaning("real", BANDS)[0].count("40% (30% to 50%) of forged") == 1
    assert "decides nothing" in words.meaning("uncertain", BANDS)[-1]
    assert "was not measured" in words.meaning("fake", Bands(0.5, 0.5, "threshold"))[0]
    assert "chosen by the user" in words.meaning("fake", Bands(0.5, 0.5, "given"))[0]


@pytest.mark.parametrize("first", ["val", "test"])
def test_the_fitted_split_is_the_one_that_the_card_names_wherever_it_stands(first: str) -> None:
    rates: dict[str, Any] = {
        "val": {"false_alarm": {"value": 0.11}},
        "test": {"false_alarm": {"value": 0.22}},
    }
    order = {first: rates[first], **rates}
    card = {
        "fitted_on": "test",
        "verdict": {"whole": {"real_below": 0.3, "fake_from": 0.7, "rates": order}},
    }
    (told,) = Words().meaning("fake", read_card(card).bands("whole"))
    assert "11%" in told
    assert "val" in told


def test_bands_state_what_they_promise() -> None:
    words = Words()
    fitted = words.bands(BANDS, origin=True)
    assert all(word in fitted for word in ("0.700", "0.300", "at most 10%"))
    assert "nothing is uncertain" in words.bands(
        read_card({"threshold": 0.4}).bands("whole"), origin=True
    )
    assert "given by the user" in words.bands(read_card({}).bands("whole", 0.5), origin=True)
    assert "no score is high enough" in words.bands(Bands(0.3, 1.000001))


def test_kinds_are_named_only_on_levels_that_beat_a_guess_in_every_test() -> None:
    assert named_levels(MODEL) == ("generator",)
    assert named_levels({}) == ()
    hits = " ".join(Words().kind_hits(MODEL))
    assert "Generator: right for 50% (45% to 60%)" in hits
    assert "does no better than a guess: manipulation and family" in hits
    assert "0.6%" not in hits


@pytest.mark.parametrize(("score", "shown"), [(0.1, False), (0.5, False), (0.9, True)])
def test_kinds_are_named_for_a_face_called_fake_only(score: float, shown: bool) -> None:
    found = likely_kinds(judged(score), MODEL)
    named = {level: [kind.name for kind in kinds] for level, kinds in found.items()}
    assert named == ({"generator": ["StyleGAN2", "real"]} if shown else {})


def warned() -> set[str]:
    """Every warning that the text of the package can give, as its source writes them."""
    blank = np.full((224, 224, 3), 10, np.uint8)
    found = {*check_face(blank), *check_face(blank + 230), *check_pose(41.3), *check_size(40.0)[0]}
    found |= {*check_file(ImageFile(blank, None, "", "JPEG", damage="00 ff"))}
    (wall,) = WholePicture(check=True).find(np.zeros((10, 90, 3), np.uint8))
    return found | {*wall.warnings, *wall.void, *wall.poor}


def test_warnings_are_said_in_the_language_of_the_report() -> None:
    words, found = Words("zh"), warned()
    assert len(found) == 9
    for text in found:
        assert not re.search(r"[a-z]{4}", words.warning(text)), text
        assert Words("en").warning(text) == text
        several = f"in 3 of 9 frames of this face: {text}"
        assert not re.search(r"[a-z]{4}", words.warning(several)), several
    assert words.warning("something that nobody foresaw") == "something that nobody foresaw"


@pytest.mark.parametrize(
    "file", ["predict/quality.py", "predict/faces.py", "predict/video.py", "media/video.py"]
)
def test_warnings_are_known_as_their_source_writes_them(file: str) -> None:
    tree = ast.parse((SOURCE / file).read_text())
    written = {
        part.value
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr | ast.Constant)
        for part in ([node] if isinstance(node, ast.Constant) else node.values)
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    }
    source = {
        "predict/quality.py": ("blurred", "turned", "blocky", "compressed", "small", "damaged"),
        "predict/faces.py": ("long", "no_face", "lying"),
        "predict/video.py": ("in_frames", "undecoded", "few_faces", "brief", "partly",
                             "short_face", "changed"),
        "media/video.py": ("end_missing",),
    }[file]  # fmt: skip
    for name in source:
        longest = max(re.split(r"\{\w+\}|: ", TABLE[f"warning.{name}"]["en"]), key=len)
        assert any(longest.strip() in text for text in written), name


def test_file_names_cannot_steer_a_terminal() -> None:
    name = "a\x1b[31m\nb" + b"\xff".decode("utf-8", "surrogateescape")
    assert printable(name) == "a\ufffd[31m\ufffdb\ufffd"
    assert printable("Zoë 山.jpg") == "Zoë 山.jpg"
