"""Figures of merit of a real/fake detector, as pure functions (protocols c.8).

Everywhere ``scores`` is the probability of fake in [0, 1] and ``target`` is 1 = fake, 0 = real; a
score equal to a threshold counts as fake. Curves, AUC, AP, accuracies and Brier come from
scikit-learn. A figure that needs both classes is NaN where only one is there, and
`Metrics.undefined` says why.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Integer
from numpy import ndarray

from mfclip.errors import InputError, require

FIGURES = (
    "auc",
    "ap",
    "eer",
    "eer_point",
    "tpr_at_fpr_1",
    "tpr_at_fpr_5",
    "accuracy",
    "balanced_accuracy",
    "accuracy_fitted",
    "balanced_accuracy_fitted",
    "ece",
    "brier",
    "polarisation",
)
"""Names of all figures in `Metrics`, in the order of the tables."""

ScoreArray = Float[ndarray, " n"]
TargetArray = Integer[ndarray, " n"]
Curve = tuple[Float[ndarray, " points"], Float[ndarray, " points"]]


@dataclass(frozen=True, slots=True)
class Metrics:
    """The figures of one set of scored samples; all are ratios in [0, 1] or NaN.

    Attributes:
        num_real: samples with target 0.
        num_fake: samples with target 1.
        threshold: the fixed threshold of `accuracy`.
        fitted_threshold: the threshold fitted on validation; NaN if there is none.
        auc: area under the ROC curve, trapezoids; chance is 0.5.
        ap: average precision, fake positive, step-wise; chance is the share of fakes.
        eer: equal error rate, where FPR = FNR on the linearly interpolated ROC curve.
        eer_point: FPR at the ROC point of smallest |FNR - FPR|, as DeepfakeBench reports it.
        tpr_at_fpr_1: largest TPR of a threshold whose FPR is at most 1%, not interpolated; with
            fewer than 100 reals that allows no false alarm at all.
        tpr_at_fpr_5: the same at 5%.
        accuracy: share judged right at `threshold`.
        balanced_accuracy: mean of TPR and TNR at `threshold`.
        accuracy_fitted: share judged right at `fitted_threshold`.
        balanced_accuracy_fitted: mean of TPR and TNR at `fitted_threshold`.
        ece: expected calibration error of the probability of fake, equally wide bins.
        brier: mean squared difference of score and target.
        polarisation: distance between the score distributions of reals and fakes, see the function.
        undefined: for each figure that is NaN, why.
    """

    num_real: int
    num_fake: int
    threshold: float = 0.5
    fitted_threshold: float = math.nan
    auc: float = math.nan
    ap: float = math.nan
    eer: float = math.nan
    eer_point: float = math.nan
    tpr_at_fpr_1: float = math.nan
    tpr_at_fpr_5: float = math.nan
    accuracy: float = math.nan
    balanced_accuracy: float = math.nan
    accuracy_fitted: float = math.nan
    balanced_accuracy_fitted: float = math.nan
    ece: float = math.nan
    brier: float = math.nan
    polarisation: float = math.nan
    undefined: dict[str, str] = field(default_factory=dict)


def compute_metrics(
    scores: ScoreArray,
    target: TargetArray,
    *,
    threshold: float = 0.5,
    fitted_threshold: float | None = None,
    ece_bins: int = 15,
) -> Metrics:
    """Compute every figure of one set.

    Args:
        scores: probability of fake.
        target: 1 = fake.
        threshold: of `accuracy`; a score equal to it counts as fake.
        fitted_threshold: from `fit_threshold` on validation; None or NaN leaves its figures NaN.
        ece_bins: number of equally wide bins of the calibration error.

    Raises:
        InputError: a score is NaN or outside [0, 1], or a target is not 0 or 1.
        MissingExtraError: scikit-learn is not installed.

    Example:
        >>> compute_metrics(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1])).auc
        0.75
        >>> compute_metrics(np.array([0.9]), np.array([1])).undefined["auc"]
        'not defined: only fakes'
    """
    check_scores(scores, target)
    fitted = math.nan if fitted_threshold is None else fitted_threshold
    figures: dict[str, Callable[[], float]] = {
        "auc": lambda: auc(scores, target),
        "ap": lambda: average_precision(scores, target),
        "eer": lambda: equal_error_rate(scores, target),
        "eer_point": lambda: equal_error_point(scores, target),
        "tpr_at_fpr_1": lambda: tpr_at_fpr(scores, target, 0.01),
        "tpr_at_fpr_5": lambda: tpr_at_fpr(scores, target, 0.05),
        "accuracy": lambda: accuracy(scores, target, threshold),
        "balanced_accuracy": lambda: balanced_accuracy(scores, target, threshold),
        "accuracy_fitted": lambda: accuracy(scores, target, fitted),
        "balanced_accuracy_fitted": lambda: balanced_accuracy(scores, target, fitted),
        "ece": lambda: calibration_error(scores, target, ece_bins),
        "brier": lambda: brier(scores, target),
        "polarisation": lambda: polarisation(scores, target),
    }
    undefined = why_undefined(target, fitted)
    values = {name: figures[name]() for name in FIGURES if name not in undefined}
    num_fake = int(target.sum())
    return Metrics(
        num_real=len(target) - num_fake,
        num_fake=num_fake,
        threshold=threshold,
        fitted_threshold=fitted,
        undefined=undefined,
        **values,
    )


def why_undefined(target: TargetArray, fitted_threshold: float = math.nan) -> dict[str, str]:
    """Name the figures that these samples cannot give, each with the reason.

    Example:
        >>> why_undefined(np.array([0, 1]), 0.4)
        {}
    """
    if not len(target):
        return dict.fromkeys(FIGURES, "not defined: no samples")
    reasons: dict[str, str] = {}
    if math.isnan(fitted_threshold):
        names = ("accuracy_fitted", "balanced_accuracy_fitted")
        reasons = dict.fromkeys(names, "not defined: no fitted threshold")
    if is_one_class(target):
        one_class = ("accuracy", "accuracy_fitted", "ece", "brier")
        only = "not defined: only fakes" if target[0] else "not defined: only reals"
        reasons |= {name: only for name in FIGURES if name not in one_class}
    return {name: reasons[name] for name in FIGURES if name in reasons}


def is_one_class(target: TargetArray) -> bool:
    """Whether reals or fakes, or both, are absent."""
    return not len(target) or bool(target.min() == target.max())


def check_scores(scores: ScoreArray, target: TargetArray) -> None:
    """Refuse scores that are no probabilities, and targets that are not 0 or 1.

    Raises:
        InputError: which value is wrong, at which place.
    """
    if scores.shape != target.shape:
        message = f"expected one target for each score, but got {len(scores)} and {len(target)}"
        raise InputError(message)
    wrong = np.flatnonzero(~((scores >= 0) & (scores <= 1)))
    if wrong.size:
        message = (
            f"expected scores in [0, 1] (probability of fake), but {wrong.size} of {len(scores)} "
            f"are not: the first is {scores[wrong[0]]} at index {wrong[0]}; leave out samples "
            "that could not be scored, and turn logits into probabilities first"
        )
        raise InputError(message)
    wrong = np.flatnonzero((target != 0) & (target != 1))
    if wrong.size:
        message = f"expected targets 0 (real) or 1 (fake), but got {target[wrong[0]]}"
        raise InputError(f"{message} at index {wrong[0]}")


def fit_threshold(scores: ScoreArray, target: TargetArray) -> float:
    """Find the threshold of best balanced accuracy; fit it on validation, never on test.

    All thresholds between two neighbouring scores judge alike, so each gap between distinct scores
    (and between them and 0 or 1) is one candidate. Among the gaps of best balanced accuracy the
    widest is taken (the lowest, if several are as wide) and its middle returned.

    Returns:
        The threshold in [0, 1]; NaN where only one class, or nothing, is there.

    Raises:
        InputError: as in `compute_metrics`.

    Example:
        >>> fit_threshold(np.array([0.1, 0.2, 0.8, 0.9]), np.array([0, 0, 1, 1]))
        0.5
    """
    check_scores(scores, target)
    if is_one_class(target):
        return math.nan
    values = np.unique(scores).astype(np.float64)
    lower = np.concatenate([[0.0], values])
    upper = np.concatenate([values, [1.0]])
    tnr = np.searchsorted(np.sort(scores[target == 0]), upper, side="left") / (target == 0).sum()
    fnr = np.searchsorted(np.sort(scores[target == 1]), upper, side="left") / (target == 1).sum()
    tnr[-1] = fnr[-1] = 1.0  # above the highest score everything counts as real
    balanced = (tnr + 1 - fnr) / 2
    if values[-1] == 1:  # no threshold in [0, 1] lies above a score of 1
        balanced[-1] = 0
    best = np.flatnonzero(balanced >= balanced.max() - 1e-12)
    widest = best[np.argmax((upper - lower)[best].round(12))]
    middle = (lower[widest] + upper[widest]) / 2
    return float(middle if middle > lower[widest] else upper[widest])


def auc(scores: ScoreArray, target: TargetArray) -> float:
    """Area under the ROC curve, by trapezoids."""
    if is_one_class(target):
        return math.nan
    return float(_sklearn().roc_auc_score(target, scores))


def average_precision(scores: ScoreArray, target: TargetArray) -> float:
    """Step-wise area under the precision-recall curve, fake positive."""
    if is_one_class(target):
        return math.nan
    return float(_sklearn().average_precision_score(target, scores))


def equal_error_rate(scores: ScoreArray, target: TargetArray) -> float:
    """Error rate where FPR = FNR on the linearly interpolated ROC curve.

    Example:
        >>> equal_error_rate(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1]))
        0.5
    """
    if is_one_class(target):
        return math.nan
    fpr, tpr = _roc(scores, target)
    gap = 1 - tpr - fpr  # falls from 1 at (0, 0) to -1 at (1, 1)
    after = int(np.argmax(gap <= 0))
    share = gap[after - 1] / (gap[after - 1] - gap[after])
    return float(fpr[after - 1] + share * (fpr[after] - fpr[after - 1]))


def equal_error_point(scores: ScoreArray, target: TargetArray) -> float:
    """FPR at the ROC point of smallest difference of FNR and FPR, as DeepfakeBench computes it.

    Source: ``training/metrics`` of SCLBD/DeepfakeBench; it depends on how many points the curve
    has, so compare `equal_error_rate` where you can.
    """
    if is_one_class(target):
        return math.nan
    fpr, tpr, _ = _sklearn().roc_curve(target, scores)
    return float(fpr[np.argmin(np.abs(1 - tpr - fpr))])


def tpr_at_fpr(scores: ScoreArray, target: TargetArray, max_fpr: float) -> float:
    """Largest TPR of any threshold whose FPR is at most `max_fpr` (a ratio); not interpolated."""
    if is_one_class(target):
        return math.nan
    fpr, tpr = _roc(scores, target)
    return float(tpr[fpr <= max_fpr].max())


def accuracy(scores: ScoreArray, target: TargetArray, threshold: float) -> float:
    """Share judged right when scores of at least `threshold` count as fake."""
    return float(_sklearn().accuracy_score(target, scores >= threshold))


def balanced_accuracy(scores: ScoreArray, target: TargetArray, threshold: float) -> float:
    """Mean of TPR and TNR when scores of at least `threshold` count as fake."""
    if is_one_class(target):
        return math.nan
    return float(_sklearn().balanced_accuracy_score(target, scores >= threshold))


def calibration_error(scores: ScoreArray, target: TargetArray, bins: int = 15) -> float:
    r"""Expected calibration error of the probability of fake.

    .. math:: \sum_b \frac{n_b}{n} \left| \bar s_b - \bar y_b \right|

    with the mean score and the share of fakes of each of `bins` equally wide bins (Guo et al. 2017,
    in the binary form of torchmetrics' ``binary_calibration_error``).

    Example:
        >>> calibration_error(np.array([0.25, 0.25, 0.75, 0.75]), np.array([0, 0, 1, 1]), 2)
        0.25
    """
    excess = np.bincount(calibration_bins(scores, bins), weights=scores - target)
    return float(np.abs(excess).sum() / len(scores))


def calibration_bins(scores: ScoreArray, bins: int) -> Integer[ndarray, " n"]:
    """Number of the bin of each score; bins hold their lower edge, the last one also 1."""
    edges = np.linspace(0, 1, bins + 1)
    return np.clip(np.searchsorted(edges, scores, side="right") - 1, 0, bins - 1)


def brier(scores: ScoreArray, target: TargetArray) -> float:
    """Mean squared difference of score and target."""
    return float(_sklearn().mean_squared_error(target, scores))


def polarisation(scores: ScoreArray, target: TargetArray) -> float:
    r"""Wasserstein-1 distance between the scores of the reals and those of the fakes.

    .. math:: \int_0^1 \left| F_\text{real}(s) - F_\text{fake}(s) \right| ds

    0 where the two are spread alike, 1 where all reals score 0 and all fakes 1. AUC sees order
    alone; this sees how far apart the classes lie, and with it whether one threshold can serve
    several data sets (Nguyen et al., arXiv 2606.19184, who call it polarization).

    Example:
        >>> polarisation(np.array([0.0, 0.5, 0.5, 1.0]), np.array([0, 0, 1, 1]))
        0.5
    """
    if is_one_class(target):
        return math.nan
    fpr, tpr, thresholds = _sklearn().roc_curve(target, scores, drop_intermediate=False)
    # between two neighbouring scores both shares are constant; outside of all they agree
    return float(np.abs(tpr - fpr)[1:-1] @ -np.diff(thresholds[1:]))


def _roc(scores: ScoreArray, target: TargetArray) -> Curve:
    fpr, tpr, _ = _sklearn().roc_curve(target, scores, drop_intermediate=False)
    return fpr, tpr


def _sklearn() -> Any:
    return require("sklearn.metrics", extra="train")
