"""What could a detector cheat with? Score trivial features at telling real from fake.

Fitted for all generators at once and for each on its own, against the same reals.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from mfclip.data.manifest import Manifest, Sample
from mfclip.datasets.audit_features import FEATURES, read_features
from mfclip.datasets.audit_fit import Folds, auc_interval, score_unseen, weighted_auc
from mfclip.errors import ManifestError, require
from mfclip.media.video import is_picture
from mfclip.runtime.parallel import Progress, map_parallel, silent

ALL = "all fakes"
"""Name of the row in which one classifier faces every generator at once."""

FOLDS = 5
MIN_FOLDS = 2
MIN_CLASS = 10
"""Fewest pictures of a class, on either side, from which an AUC is worth stating."""

NAMED = 3
"""Generators that a sentence of the verdict names, the worst first."""

SEVERE, NOTABLE = 0.9, 0.7
"""AUC from which the verdict calls a feature a leak, or a help."""


@dataclass(frozen=True, slots=True)
class Cell:
    """How well one feature separates the reals from one generator.

    Attributes:
        feature: a name of `FEATURES`.
        generator: whose fakes, or `ALL`.
        auc: area under the ROC curve of pictures that the classifier did not see.
        low: lower end of the 95% interval over groups.
        high: upper end.
        joint_auc: the same fakes scored by the classifier that was fitted on all generators.
        num_real: reals it was measured on.
        num_fake: fakes it was measured on.
    """

    feature: str
    generator: str
    auc: float
    low: float
    high: float
    joint_auc: float
    num_real: int
    num_fake: int


@dataclass(frozen=True, slots=True)
class Audit:
    """The outcome of an audit.

    Attributes:
        cells: one for each feature and generator; `ALL` first.
        protocol: how the pictures were divided, in words.
        spectra: mean log10 radial power spectrum of the reals (``real``) and of each generator.
        num_images: pictures that were read.
        unreadable: files that were skipped, each with its reason.
        left_out: generators with too few pictures to judge, each with its count.
        fingerprint: of the manifest.
    """

    cells: tuple[Cell, ...]
    protocol: str
    spectra: Mapping[str, Float[ndarray, " bins"]]
    num_images: int
    unreadable: tuple[str, ...]
    left_out: Mapping[str, int]
    fingerprint: str

    def as_dict(self) -> dict[str, object]:
        """Return plain values for JSON, with the verdict."""
        plain = asdict(self)
        plain["spectra"] = {name: values.tolist() for name, values in self.spectra.items()}
        plain["verdict"] = verdict(self)
        return plain


def audit(
    manifest: Manifest,
    *,
    train: str | None = None,
    test: str | None = None,
    limit: int = 20_000,
    workers: int = 0,
    seed: int = 0,
    progress: Progress = silent,
) -> Audit:
    """Measure how well trivial features separate real from fake.

    Args:
        manifest: pictures; videos have to be prepared first.
        train: split to fit on; None for cross-validation over all splits by group.
        test: split to measure on; given if and only if `train` is.
        limit: pictures that are read at most, the same share of every class and split.
        workers: processes that read files; 0 reads in this one.
        seed: of the choice of pictures, the folds and the classifiers.
        progress: told how far it is.

    Raises:
        ManifestError: a split is absent, only one of the two is named, or a class has too few
            pictures or groups.
        MissingExtraError: scikit-learn is not installed.
    """
    require("sklearn", extra="train")
    if (train is None) != (test is None):
        raise ManifestError("expected both a train and a test split or neither; name the other one")
    if train is not None and test is not None:
        parts = (*manifest.split(train), *manifest.split(test))
        chosen = replace(manifest, samples=parts)
    else:
        chosen = manifest
    samples, values, unreadable = _read(thin(chosen, limit, seed), workers, progress)
    folds = _folds(samples, train, test, seed)
    protocol = f"fitted on '{train}', measured on '{test}'" if train else _describe_folds(folds)
    names, left_out = _generators(samples, folds)
    cells = []
    for number, feature in enumerate(FEATURES):
        progress("fitting", number, len(FEATURES))
        cells += list(_judge(feature, values[feature], samples, folds, names, seed))
    progress("fitting", len(FEATURES), len(FEATURES))
    return Audit(
        cells=tuple(cells),
        protocol=protocol,
        spectra=_mean_spectra(samples, values["power spectrum"]),
        num_images=len(samples),
        unreadable=unreadable,
        left_out=left_out,
        fingerprint=manifest.fingerprint,
    )


def verdict(result: Audit) -> list[str]:
    """Say in plain sentences what a detector could cheat with; the worst comes first."""
    lines = []
    for feature in FEATURES:
        cells = [cell for cell in result.cells if cell.feature == feature]
        overall = next(cell for cell in cells if cell.generator == ALL)
        single = sorted((c for c in cells if c is not overall), key=lambda cell: -cell.auc)
        worst = max(overall.auc, *(cell.auc for cell in single)) if single else overall.auc
        lines.append((worst, _sentence(feature, overall, single)))
    ranked = [text for _, text in sorted(lines, key=lambda line: -line[0]) if text]
    if not ranked:
        ranked = [f"no trivial feature separates real from fake (all AUC below {NOTABLE:.2f})"]
    return ranked


def thin(manifest: Manifest, limit: int, seed: int) -> Manifest:
    """Keep about `limit` samples, the same share of every generator and split, at least 50 each."""
    if len(manifest) <= limit:
        return manifest
    rng = np.random.default_rng(seed)
    parts: dict[tuple[object, ...], list[int]] = {}
    for row, sample in enumerate(manifest):
        parts.setdefault((sample.target, sample.labels.generator, sample.split), []).append(row)
    kept: list[int] = []
    for rows in parts.values():
        count = max(round(len(rows) * limit / len(manifest)), min(50, len(rows)))
        kept += rng.choice(rows, size=count, replace=False).tolist()
    return replace(manifest, samples=tuple(manifest[row] for row in sorted(kept)))


def _read(
    manifest: Manifest, workers: int, progress: Progress
) -> tuple[list[Sample], dict[str, Float[ndarray, "..."]], tuple[str, ...]]:
    """Read the features of all files; keep those that could be read."""
    samples, unreadable = [], []
    rows: dict[str, list[Float[ndarray, "..."]]] = {name: [] for name in FEATURES}
    paths = [sample.path for sample in manifest]
    read = map_parallel(read_features, paths, workers=workers, progress=progress)
    for sample, features in zip(manifest, read, strict=True):
        if features.problem:
            unreadable.append(f"{sample.path}: {features.problem}")
            continue
        samples.append(sample)
        for name in FEATURES:
            rows[name].append(features.values[name])
    if not samples:
        hint = "" if any(map(is_picture, paths)) else "; run 'mfclip data prepare' on videos first"
        message = f"none of the {len(paths)} files can be read; first: {unreadable[0]}"
        raise ManifestError(message + hint)
    return samples, {name: np.stack(rows[name]) for name in FEATURES}, tuple(unreadable)


def _folds(samples: Sequence[Sample], train: str | None, test: str | None, seed: int) -> Folds:
    """Rows to fit on and rows to measure on, once for a named split, else once a fold."""
    target = np.array([sample.target for sample in samples])
    if train is not None:
        split = np.array([sample.split for sample in samples])
        folds = [(np.flatnonzero(split == train), np.flatnonzero(split == test))]
    else:
        group = _number([sample.group for sample in samples])
        count = min(FOLDS, *(len(set(group[target == c].tolist())) for c in (0, 1)))
        if count < MIN_FOLDS:
            message = "each of real and fake needs pictures of at least two groups to be audited"
            raise ManifestError(f"{message}; add pictures, or name a train and a test split")
        selection = require("sklearn.model_selection", extra="train")
        splitter = selection.StratifiedGroupKFold(count, shuffle=True, random_state=seed)
        folds = list(splitter.split(np.zeros(len(target)), target, group))
    for fit, measure in folds:
        if {*target[fit].tolist()} != {0, 1} or {*target[measure].tolist()} != {0, 1}:
            message = "real and fake must both be on each side of every division"
            raise ManifestError(f"{message}; name splits that hold both, or add pictures")
    return folds


def _describe_folds(folds: Folds) -> str:
    return f"{len(folds)}-fold cross-validation, no group on both sides"


def _number(names: Sequence[str]) -> Int[ndarray, " n"]:
    return np.unique(np.array(names), return_inverse=True)[1].astype(np.int64)


def _name(sample: Sample) -> str:
    return sample.labels.generator or sample.labels.manipulation or "unnamed"


def _generators(samples: Sequence[Sample], folds: Folds) -> tuple[list[str], dict[str, int]]:
    """Generators with enough pictures to fit and to measure on, and the others' counts."""
    counts = Counter(_name(sample) for sample in samples if sample.target)
    fewest = dict.fromkeys(counts, MIN_CLASS)
    for side in zip(*folds, strict=True):
        there = Counter(_name(samples[i]) for rows in side for i in rows if samples[i].target)
        repeats = len(folds) - 1 if side[0] is folds[0][0] and len(folds) > 1 else 1
        for name in counts:
            fewest[name] = min(fewest[name], there[name] // repeats)
    names = [name for name in sorted(counts) if fewest[name] >= MIN_CLASS]
    return names, {name: counts[name] for name in sorted(counts) if name not in names}


def _judge(
    feature: str,
    values: Float[ndarray, "n d"],
    samples: Sequence[Sample],
    folds: Folds,
    names: Sequence[str],
    seed: int,
) -> Iterator[Cell]:
    """Score one feature against all fakes, then against each generator on its own."""
    target = np.array([sample.target for sample in samples])
    group = _number([sample.group for sample in samples])
    generator = np.array([_name(s) if s.target else "" for s in samples])
    everyone = np.ones(len(samples), dtype=bool)
    joint = score_unseen(values, target, folds, everyone, seed)
    for name in (ALL, *names):
        part = everyone if name == ALL else (target == 0) | (generator == name)
        alone = joint if name == ALL else score_unseen(values, target, folds, part, seed)
        seen = part & ~np.isnan(joint)
        auc, low, high = auc_interval(alone[seen], target[seen], group[seen], seed=seed)
        together = weighted_auc(joint[seen], target[seen], np.ones((1, int(seen.sum()))))[0]
        fakes = int(target[seen].sum())
        yield Cell(feature, name, auc, low, high, float(together), int(seen.sum()) - fakes, fakes)


def _mean_spectra(
    samples: Sequence[Sample], spectra: Float[ndarray, "n bins"]
) -> dict[str, Float[ndarray, " bins"]]:
    names = np.array([_name(s) if s.target else "real" for s in samples])
    return {str(name): spectra[names == name].mean(axis=0) for name in np.unique(names)}


def _sentence(feature: str, overall: Cell, single: Sequence[Cell]) -> str:
    """Say what one feature gives away; `single` holds the generators, the worst first."""
    named = [f"{c.auc:.2f} on {c.generator}" for c in single if c.auc >= NOTABLE]
    more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
    places = ", ".join(named[:NAMED]) + more
    mark = "LEAK: " if max(c.auc for c in (overall, *single)) >= SEVERE else ""
    if overall.auc >= NOTABLE:
        text = f"a detector trained on this can score {overall.auc:.2f} by {feature} alone"
        return f"{mark}{text}{f'; fitted to one generator, {places}' if places else ''}"
    if not named:
        return ""
    text = f"fitted to one generator, a detector can score {places}, by {feature} alone"
    return f"{mark}{text} ({overall.auc:.2f} over all fakes)"
