"""A score -> real, uncertain or fake: the bands that were fitted for the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from mfclip.errors import ConfigError, WeightsError

Verdict: TypeAlias = Literal["real", "uncertain", "fake"]

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

Basis: TypeAlias = Literal["validation", "threshold", "given"]


@dataclass(frozen=True, slots=True)
class Bands:
    """Which scores get which verdict, and how often that errs.

    Attributes:
        real_below: scores below are called real.
        fake_from: scores from here upwards are called fake; between the two lies uncertain. With
            both equal there are two verdicts only.
        basis: ``validation``, fitted so that errors are rare; ``threshold``, the weights carry
            one threshold only, or none (then 0.5); ``given``, chosen by the user.
        max_error: largest share of validation's real faces called fake, and of its fakes called
            real, that the bands were fitted for; None unless `basis` is ``validation``.
        rates: split to its measured shares, from `mfclip.evaluate.verdicts.verdict_rates`; empty
            where nothing was measured.

    Example:
        >>> Bands(0.2, 0.7).verdict(0.5)
        'uncertain'
        >>> Bands(0.5, 0.5).verdict(0.5)
        'fake'
    """

    real_below: float
    fake_from: float
    basis: Basis = "given"
    max_error: float | None = None
    rates: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.real_below <= self.fake_from:
            raise ConfigError(
                "expected bands of the verdict with 0 <= real_below <= fake_from, but got "
                f"real_below {self.real_below} and fake_from {self.fake_from}"
            )

    def verdict(self, score: float) -> Verdict:
        """Judge a score (probability of fake)."""
        if score >= self.fake_from:
            return "fake"
        return "real" if score < self.real_below else "uncertain"

    @property
    def allow_uncertain(self) -> bool:
        """Whether there are scores that decide nothing."""
        return self.real_below < self.fake_from

    def explain(self) -> str:
        """Say in words what the verdicts mean and where the bands come from."""
        if self.basis == "validation" and self.max_error is not None:
            share = f"{100 * self.max_error:.3g}%"
            return (
                f"{self._sentence()}. On the pictures this was fitted on, at most {share} of real "
                f"faces are called fake and at most {share} of forgeries real."
            )
        origin = {
            "given": "the threshold you gave",
            "threshold": "these weights carry one threshold and no bands, so nothing is uncertain",
        }
        return f"{self._sentence()}: {origin.get(self.basis, 'as the weights say')}."

    def _sentence(self) -> str:
        if not self.allow_uncertain:
            return f"From {self.fake_from:.3f} a face is called fake, below it real"
        return (
            f"From {self.fake_from:.3f} a face is called fake, below {self.real_below:.3f} real, "
            "between them uncertain"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the bands as they stand in ``model.verdict`` of the JSON form."""
        return {
            "real_below": self.real_below,
            "fake_from": self.fake_from,
            "basis": self.basis,
            "max_error": self.max_error,
            "rates": {split: dict(rates) for split, rates in self.rates.items()},
        }


def read_bands(card: Mapping[str, Any], threshold: float | None = None) -> Bands:
    """Take the bands from the card of some weights.

    Args:
        card: its ``verdict`` was written by ``mfclip release``, or by `Bands.to_json`. Older files,
            and those of a run, have only a ``threshold``, or none: then there are two verdicts
            and no error rates.
        threshold: the user's own, which leaves two verdicts; None takes the card's.

    Raises:
        ConfigError: a threshold outside [0, 1].
        WeightsError: the card's entry is damaged.

    Example:
        >>> read_bands({"threshold": 0.4}).verdict(0.4)
        'fake'
        >>> read_bands({"verdict": {"real_below": 0.2, "fake_from": 0.6}}).verdict(0.4)
        'uncertain'
    """
    if threshold is not None:
        return _two_values(threshold, "given")
    entry = card.get("verdict")
    if entry is None:
        return _two_values(card.get("threshold", 0.5), "threshold")
    try:
        return Bands(
            float(entry["real_below"]),
            float(entry["fake_from"]),
            entry.get("basis", "validation"),
            entry.get("max_error"),
            entry.get("rates") or {},
        )
    except (ConfigError, KeyError, TypeError, ValueError, AttributeError) as error:
        message = f"the weights' entry 'verdict' is damaged: {error!s}; release them again"
        raise WeightsError(message) from None


def _two_values(threshold: Any, basis: Basis) -> Bands:
    if not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
        raise ConfigError(f"expected a threshold in [0, 1], but got {threshold}")
    return Bands(float(threshold), float(threshold), basis)


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
        if any(split.get(name) is not None for split in splits)
    ]


def percent(rate: object, missing: str = "not known") -> str:
    """Write a share with its 95% interval, as far as both are known."""
    if not isinstance(rate, Mapping) or not isinstance(value := rate.get("value"), int | float):
        return missing
    low, high = rate.get("low"), rate.get("high")
    if isinstance(low, int | float) and isinstance(high, int | float):
        return f"{100 * value:.0f}% [{100 * low:.0f}, {100 * high:.0f}]"
    return f"{100 * value:.0f}%"
