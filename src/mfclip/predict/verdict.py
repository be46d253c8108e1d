"""Verdicts in words: the measured error rates as a table."""

from __future__ import annotations

from mfclip.card import Bands, Share, Verdict

VERDICTS: tuple[Verdict, ...] = ("real", "uncertain", "fake")
"""All verdicts, in the order of rising scores."""

RATES = {
    "false_alarm": "Real faces called fake",
    "uncertain_real": "Real faces called uncertain",
    "miss": "Forgeries called real",
    "uncertain_fake": "Forgeries called uncertain",
    "precision_fake": "Of faces called fake, were fake (at equal numbers)",
    "precision_real": "Of faces called real, were real (at equal numbers)",
}
"""The measured shares that tables show, with the words a lay reader gets."""


def error_rows(bands: Bands) -> list[tuple[str, list[str]]]:
    """Write the measured error rates as a table: words, and one cell for each split.

    Example:
        >>> rates = {"test": {"miss": {"value": 0.25, "low": 0.2, "high": 0.31}}}
        >>> error_rows(Bands(0.2, 0.7, rates=rates))
        [('Forgeries called real', ['25% [20, 31]'])]
    """
    splits = list(bands.rates.values())
    return [
        (words, [percent(split.get(name)) for split in splits])
        for name, words in RATES.items()
        if any(name in split for split in splits)
    ]


def percent(share: Share | None, missing: str = "not known") -> str:
    """Write a share with its 95% interval, as far as both are known."""
    if share is None or share.value is None:
        return missing
    if share.low is not None and share.high is not None:
        return f"{100 * share.value:.0f}% [{100 * share.low:.0f}, {100 * share.high:.0f}]"
    return f"{100 * share.value:.0f}%"
