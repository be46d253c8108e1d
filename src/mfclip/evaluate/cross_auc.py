r"""Cross-AUC: one figure for a detector that meets several data sets, with its two parts.

AUC taken on each data set alone forgives a detector whose scores are .1 and .2 on one and .8 and .9
on the next: each AUC is 1, and no threshold serves both. Nguyen et al., "When AUC Misleads",
arXiv 2606.19184, therefore average each domain's AUC with a measure of polarisation, the
Wasserstein distance between the score distributions of the two classes.

.. math:: \frac{1}{K} \sum_{k=1}^{K} \frac{\text{AUC}_k + W_1(\text{real}_k, \text{fake}_k)}{2}

That is our reading of the paper's abstract, the only part that we could read: equal weights and a
distance taken within each domain are our choice. Compare it with figures of mfclip alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from mfclip.errors import InputError
from mfclip.evaluate.bootstrap import (
    Interval,
    WeightedFigures,
    draw_weights,
    percentile_interval,
)
from mfclip.evaluate.metrics import auc, check_scores, is_one_class, polarisation
from mfclip.evaluate.scores import Scores

PARTS = ("cross_auc", "mean_auc", "mean_polarisation", "pooled_auc")


@dataclass(frozen=True, slots=True)
class CrossAuc:
    """How well a detector serves several data sets at once; ratios in [0, 1], NaN if undefined.

    Attributes:
        domains: names of the data sets.
        cross_auc: mean over the domains of the mean of AUC and polarisation.
        mean_auc: mean of the domains' AUCs.
        mean_polarisation: mean of the domains' `polarisation`.
        pooled_auc: AUC over all samples of all domains; far below `mean_auc` where scores mean
            another thing in each.
        intervals: 95%, from a bootstrap over the groups of all domains together.
        undefined: why the figures are NaN; empty if they are not.
    """

    domains: tuple[str, ...]
    cross_auc: float = math.nan
    mean_auc: float = math.nan
    mean_polarisation: float = math.nan
    pooled_auc: float = math.nan
    intervals: dict[str, Interval] = field(default_factory=dict)
    undefined: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; what is not defined is None."""
        plain = asdict(self)
        return plain | {name: None if math.isnan(plain[name]) else plain[name] for name in PARTS}

    def __str__(self) -> str:
        """One line for the terminal."""
        if self.undefined:
            return f"Cross-AUC: n/a, {self.undefined}"
        words = []
        for name in PARTS:
            heading = name.replace("_", " ").replace("auc", "AUC").replace("cross ", "Cross-")
            interval = self.intervals.get(name)
            span = f" [{interval.low:.3f}, {interval.high:.3f}]" if interval else ""
            words.append(f"{heading} {getattr(self, name):.3f}{span}")
        return f"{', '.join(words)}; over {', '.join(self.domains)}"


def cross_auc(domains: Mapping[str, Scores], *, resamples: int = 1000, seed: int = 0) -> CrossAuc:
    """Compute Cross-AUC and its parts.

    Args:
        domains: scores of each data set; samples without a score are left out.
        resamples: of the bootstrap; groups that domains share are drawn together. 0 gives no
            intervals.
        seed: of the bootstrap.

    Raises:
        InputError: fewer than two domains, or a score that is no probability.
    """
    names = tuple(domains)
    if len(names) < 2:  # noqa: PLR2004 - one is no mixture
        raise InputError(f"Cross-AUC needs at least two data sets, but got {len(names)}")
    parts = [domains[name].scored for name in names]
    for part in parts:
        check_scores(part.score, part.target)
    lacking = [name for name, part in zip(names, parts, strict=True) if is_one_class(part.target)]
    if lacking:
        reason = f"not defined: real and fake faces are not both scored in {', '.join(lacking)}"
        return CrossAuc(names, undefined=reason)
    score = np.concatenate([part.score for part in parts])
    target = np.concatenate([part.target for part in parts])
    aucs = [auc(part.score, part.target) for part in parts]
    distances = [polarisation(part.score, part.target) for part in parts]
    mean_auc, mean_distance = float(np.mean(aucs)), float(np.mean(distances))
    return CrossAuc(
        domains=names,
        cross_auc=(mean_auc + mean_distance) / 2,
        mean_auc=mean_auc,
        mean_polarisation=mean_distance,
        pooled_auc=auc(score, target),
        intervals=_intervals(parts, resamples, seed) if resamples else {},
    )


def _intervals(parts: list[Scores], resamples: int, seed: int) -> dict[str, Interval]:
    """Draw groups once for all domains, so that a source that two of them share counts alike."""
    groups = np.array([group for part in parts for group in part.groups])
    ends = np.cumsum([len(part) for part in parts])
    starts = ends - [len(part) for part in parts]
    whole = Scores(tuple(sample for part in parts for sample in part))
    measures = [WeightedFigures(p.score, p.target, (0.5, 0.5), 2) for p in (*parts, whole)]
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in PARTS}
    for weights in draw_weights(groups, resamples, seed):
        single = [
            measure(weights[:, start:end])
            for measure, start, end in zip(measures[:-1], starts, ends, strict=True)
        ]
        aucs = np.mean([each["auc"] for each in single], axis=0)
        distances = np.mean([each["polarisation"] for each in single], axis=0)
        drawn["mean_auc"].append(aucs)
        drawn["mean_polarisation"].append(distances)
        drawn["cross_auc"].append((aucs + distances) / 2)
        drawn["pooled_auc"].append(measures[-1](weights)["auc"])
    return {name: percentile_interval(np.concatenate(values)) for name, values in drawn.items()}
