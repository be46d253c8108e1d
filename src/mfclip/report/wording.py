"""How things are said: every word of the report and the page, in five languages, in one file.

``words.json`` holds all strings by key, with the languages beside each other. Python, the templates
and the page's scripts take them from there, so that no two of them can say it differently.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from mfclip.card import Bands, KindShare, Share, Verdict
from mfclip.labels import LEVELS
from mfclip.predict.prediction import Kind, Prediction

Language: TypeAlias = Literal["en", "de", "es", "fr", "zh"]

LANGUAGES: tuple[Language, ...] = get_args(Language)

Rows: TypeAlias = list[tuple[str, str]]
"""Terms and what is said of them."""

KNOWN_SPLITS = frozenset({"test", "test_unseen"})
"""Splits that the words describe; others go by their names."""

LEAST_SHARE = 0.005
"""Kinds with a smaller share are not named: they would read as 0%."""

MOST_KINDS = 3
"""Kinds that are named on one level."""


@cache
def _table() -> dict[str, dict[str, str]]:
    table: dict[str, dict[str, str]] = json.loads(
        files("mfclip.report").joinpath("words.json").read_text("utf-8")
    )
    return table


class Words:
    """The words of one language.

    Example:
        >>> Words()("score.told", score="0.93")
        'score 0.93'
        >>> Words("de").count("face", 2)
        '2 Gesichter'
    """

    def __init__(self, language: Language = "en") -> None:
        self.language = language

    def __call__(self, key: str, /, **values: object) -> str:
        """Return a string with its gaps filled."""
        return _table()[key][self.language].format(**values)

    def all(self, *parts: str) -> dict[str, str]:
        """Return the strings whose keys begin with one of some words, their gaps left open."""
        return {
            key: texts[self.language]
            for key, texts in _table().items()
            if key.partition(".")[0] in parts
        }

    def count(self, noun: str, number: int) -> str:
        """Write a number of things, e.g. of `face`, `video` or `frame`."""
        return self(f"{noun}.{'one' if number == 1 else 'many'}", number=number)

    def number(self, value: float, decimals: int = 3) -> str:
        """Write a number; scores have three decimals in every form of the answer."""
        return f"{value:.{decimals}f}".replace(".", self("number.decimal"))

    def percent(self, share: float) -> str:
        """Write a share; below 10% with one decimal.

        Example:
            >>> [Words().percent(share) for share in (0.0, 0.0855, 0.3, 0.09)]
            ['0%', '8.6%', '30%', '9%']
        """
        value = 100 * share
        text = f"{value:.1f}".removesuffix(".0") if 0 < value < 10 else f"{value:.0f}"  # noqa: PLR2004
        return self("number.percent", number=text.replace(".", self("number.decimal")))

    def range(self, share: Share | None) -> str:
        """Write a measured share with its 95% interval, as far as both are known."""
        if share is None or share.value is None:
            return self("number.unknown")
        if share.low is None or share.high is None:
            return self.percent(share.value)
        ends = {"low": self.percent(share.low), "high": self.percent(share.high)}
        return self("number.range", value=self.percent(share.value), **ends)

    def clock(self, seconds: float, decimals: int = 1) -> str:
        """Write a time as a player shows it.

        Example:
            >>> Words().clock(3.21), Words().clock(59.96), Words().clock(3725.5, 0)
            ('0:03.2', '1:00.0', '1:02:06')
        """
        ticks = 10**decimals
        total, part = divmod(int(seconds * ticks + 0.5), ticks)
        minutes, rest = divmod(total, 60)
        hours, minutes = divmod(minutes, 60)
        text = f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
        return f"{text}.{part:0{decimals}d}" if decimals else text

    def kind(self, name: str) -> str:
        """Write the name of a kind of forgery; generators keep theirs."""
        return self(f"kind.{name}") if f"kind.{name}" in _table() else name

    def split(self, name: str) -> str:
        """Say which faces a test split holds."""
        known = name in KNOWN_SPLITS
        return self(f"split.{name}") if known else self("split.other", name=_plain(name))

    def split_row(self, name: str, *, fitted: bool) -> str:
        """Head a row of the table of error rates."""
        if fitted:
            return self("row.fitted", name=_plain(name))
        known = name in KNOWN_SPLITS
        return self(f"row.{name}") if known else self("row.other", name=_plain(name))

    def bands(self, bands: Bands, *, origin: bool = False) -> str:
        """Say which scores get which verdict.

        Args:
            bands: of the weights or the user.
            origin: say, too, where they come from.

        Example:
            >>> Words().bands(Bands(0.2, 0.7))
            'Below 0.200 a face is called real, from 0.700 forged; in between it is uncertain.'
        """
        form = "three" if bands.allow_uncertain else "two"
        if bands.fake_from > 1:
            form = "never_fake"
        ends = {"low": self.number(bands.real_below), "high": self.number(bands.fake_from)}
        text = self(f"bands.{form}", **ends)
        if not origin:
            return text
        gap = "" if self.language == "zh" else " "
        if bands.basis == "validation" and bands.max_error is None:
            return text
        share = self.percent(bands.max_error or 0.0)
        return f"{text}{gap}{self(f'bands.{bands.basis}', share=share)}"

    def meaning(self, verdict: Verdict, bands: Bands) -> tuple[str, ...]:
        """Say in sentences what a verdict is worth, by how often it erred where that was measured.

        The split on which the bands were fitted is left out: it flatters.
        """
        told = []
        for split, rates in bands.rates.items():
            if split == bands.fitted_on:
                continue
            names = {
                "fake": {"rate": "false_alarm"},
                "real": {"rate": "miss"},
                "uncertain": {"real": "uncertain_real", "fake": "uncertain_fake"},
            }[verdict]
            if all(
                (share := rates.get(name)) and share.value is not None for name in names.values()
            ):
                shares = {gap: self.range(rates[name]) for gap, name in names.items()}
                told.append(self(f"meaning.{verdict}", where=self.split(split), **shares))
        if not told:
            told.append(self("meaning.given" if bands.basis == "given" else "meaning.unknown"))
        if verdict == "uncertain":
            told.append(self("meaning.nothing"))
        return tuple(told)

    def warning(self, text: str) -> str:
        """Translate a reason to trust a score less; predictions carry them in English.

        Example:
            >>> Words("de").warning("small face (40 pixels): it was enlarged, and its fine traces "
            ...                     "are missing")
            'kleines Gesicht (40 Pixel): Es wurde vergrößert, seine feinen Spuren fehlen'
        """
        for key, form in _warning_forms().items():
            if found := form.fullmatch(text):
                gaps = found.groupdict()
                if "warning" in gaps:
                    gaps["warning"] = self.warning(gaps["warning"])
                return self(key, **gaps)
        return text

    def kind_hits(self, model: Mapping[str, Any]) -> tuple[str, ...]:
        """Say how often the kinds that are named were right; empty where none is."""
        tests, named = _kind_tests(model), named_levels(model)
        told = [
            self(
                "kinds.hit",
                level=self(f"level.{level}"),
                share=self.range(share),
                where=self.split(split),
                chance=self.percent(share.chance),
            )
            for level in named
            for split, levels in tests.items()
            if (share := levels.get(level))
        ]
        told = [text[:1].upper() + text[1:] for text in told]
        measured = {level for levels in tests.values() for level in levels}
        left = [level for level in LEVELS if level in measured and level not in named]
        if left:
            names = (self(f"level.{level}") for level in left)
            told.append(self("kinds.left_out", levels=self("number.and").join(names)))
        return tuple(told)


@cache
def _warning_forms() -> dict[str, re.Pattern[str]]:
    """How each warning reads in English, with its gaps named."""
    forms = {}
    for key, texts in _table().items():
        if key.startswith("warning."):
            parts = re.split(r"\{(\w+)\}", texts["en"])
            parts[::2] = map(re.escape, parts[::2])
            parts[1::2] = (f"(?P<{name}>.+?)" for name in parts[1::2])
            forms[key] = re.compile("".join(parts), re.DOTALL)
    return forms


def best_language(accepted: str) -> Language:
    """Choose the language that a browser's ``Accept-Language`` header likes best; else English.

    Example:
        >>> best_language("pt, de-AT;q=0.8, en;q=0.9, fr;q=0")
        'en'
        >>> best_language("zh-TW,zh;q=0.9")
        'zh'
    """
    wanted: list[tuple[float, int, Language]] = []
    for place, entry in enumerate(accepted.split(",")):
        name, _, more = entry.partition(";")
        found = re.fullmatch(r"\s*q\s*=\s*(\d(?:\.\d{0,3})?)\s*", more)
        quality = float(found[1]) if found else 1.0
        code = name.strip().lower().partition("-")[0]
        wanted += [(-quality, place, one) for one in LANGUAGES if one == code and quality > 0]
    return min(wanted)[2] if wanted else "en"


def named_levels(model: Mapping[str, Any]) -> tuple[str, ...]:
    """Levels whose kinds are worth naming: right more often than a guess wherever measured.

    "More often" means that the lower end of the 95% interval lies above the share that guessing
    gets; the split on which the weights were chosen does not count.

    Args:
        model: facts about the weights; its ``kinds`` was written by ``mfclip release``.

    Example:
        >>> good = {"value": 0.5, "low": 0.4, "high": 0.6, "chance": 0.3, "faces": 90}
        >>> poor = {**good, "low": 0.2}
        >>> named_levels({"kinds": {"test": {"family": poor, "generator": good}}})
        ('generator',)
    """
    tests = _kind_tests(model).values()
    return tuple(
        level
        for level in LEVELS
        if any(level in levels for levels in tests)
        and all(_beats_a_guess(levels[level]) for levels in tests if level in levels)
    )


def _beats_a_guess(share: KindShare) -> bool:
    return share.low is not None and share.low > share.chance


def _kind_tests(model: Mapping[str, Any]) -> dict[str, dict[str, KindShare]]:
    """How often kinds were named rightly, without the split on which the weights were chosen."""
    return {
        split: {level: KindShare(**share) for level, share in levels.items()}
        for split, levels in model.get("kinds", {}).items()
        if split != model.get("fitted_on")
    }


def likely_kinds(prediction: Prediction, model: Mapping[str, Any]) -> dict[str, tuple[Kind, ...]]:
    """Return the nearest kinds of a face called fake, on the levels of `named_levels`."""
    if prediction.verdict != "fake":
        return {}
    found = {
        level: tuple(
            kind
            for kind in prediction.kinds.get(level, ())[:MOST_KINDS]
            if kind.probability >= LEAST_SHARE
        )
        for level in named_levels(model)
    }
    return {level: kinds for level, kinds in found.items() if kinds}


def printable(text: str) -> str:
    """Make a file name safe to show: bytes that are no text and control characters become marks."""
    readable = os.fsencode(text).decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in readable)


def short_path(path: str) -> str:
    """Leave out the working folder: the report may be sent on, and need not name its maker."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def _plain(name: str) -> str:
    return name.replace("_", " ")
