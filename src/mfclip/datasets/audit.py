"""What could a detector cheat with? Score trivial features at telling real from fake.

Each feature is fitted for all generators at once and for each on its own, against the same reals.
None of them sees where an eye or a mouth is, apart from the 12x12 thumbnail, which sees the layout
of colours and no detail. Pixel values are in [0, 255], RGB.

A feature is judged by the mean of two classifiers: logistic regression, which adds up weak traces
over hundreds of values, and extremely randomised trees, which find thresholds and windows. Either
alone misses leaks that the other finds (docs/data/checks.md).
"""

from __future__ import annotations

import io
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from numpy import ndarray
from PIL import Image

from mfclip.data.manifest import Manifest, Sample
from mfclip.errors import InputError, ManifestError, MissingExtraError, require
from mfclip.media.images import open_image, read_content
from mfclip.media.video import is_picture
from mfclip.runtime.parallel import Progress, map_parallel, silent

FEATURES = (
    "file size",
    "format",
    "quantisation",
    "dimensions",
    "colour",
    "power spectrum",
    "thumbnail",
)
"""The features, in the order of the report."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "MPO")
MODES = ("RGB", "L", "RGBA", "P", "CMYK")
SPECTRUM_BINS = 64
"""Rings of the radial power spectrum, from 0 to 0.5 cycles a pixel."""

THUMBNAIL = 12
"""Side of the thumbnail in pixels."""

CROP = 512
"""Largest side in pixels of the central square whose spectrum is taken."""

TABLE = 64
"""Entries of one JPEG quantisation table."""

RESAMPLES = 500
"""Bootstrap draws of groups for each 95% interval."""

Folds = Sequence[tuple[Int[ndarray, " _"], Int[ndarray, " _"]]]
"""Rows to fit on and rows to measure on, for each division."""

ALL = "all fakes"
"""Name of the row in which one classifier faces every generator at once."""

LIMIT = 5_000
"""Pictures that are read if nothing else is said; the intervals are narrow by then."""

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
        num_listed: pictures that could have been, had `limit` allowed it.
        unreadable: files that were skipped, each with its reason.
        left_out: generators with too few pictures to judge, each with its count.
        fingerprint: of the manifest.
    """

    cells: tuple[Cell, ...]
    protocol: str
    spectra: Mapping[str, Float[ndarray, " bins"]]
    num_images: int
    num_listed: int
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
    limit: int = LIMIT,
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
    tasks = list(_tasks(samples, values, folds, names, seed))
    fitted = map_parallel(_fit, tasks, workers=workers, chunk=1, stage="fitting", progress=progress)
    return Audit(
        cells=tuple(_cells(tasks, fitted)),
        protocol=protocol,
        spectra=_mean_spectra(samples, values["power spectrum"]),
        num_images=len(samples),
        num_listed=len(chosen),
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


@dataclass(frozen=True, slots=True)
class _Task:
    """One feature of the reals and of one generator's fakes, or of all: what a process fits."""

    feature: str
    generator: str
    values: Float[ndarray, "n d"]
    target: Int[ndarray, " n"]
    group: Int[ndarray, " n"]
    part: Bool[ndarray, " n"]
    folds: Folds
    seed: int


def _tasks(
    samples: Sequence[Sample],
    values: Mapping[str, Float[ndarray, "n d"]],
    folds: Folds,
    names: Sequence[str],
    seed: int,
) -> Iterator[_Task]:
    """Divide the work: for each feature all fakes together first, then each generator."""
    target = np.array([sample.target for sample in samples])
    group = _number([sample.group for sample in samples])
    generator = np.array([_name(s) if s.target else "" for s in samples])
    for feature in FEATURES:
        for name in (ALL, *names):
            part = (target == 0) | (generator == name) | (name == ALL)
            yield _Task(feature, name, values[feature], target, group, part, folds, seed)


def _fit(task: _Task) -> tuple[Float[ndarray, " n"], tuple[float, float, float]]:
    """Scores of the rows that were measured, others NaN; and their AUC with its interval."""
    scores = score_unseen(task.values, task.target, task.folds, task.part, task.seed)
    seen = ~np.isnan(scores)
    interval = auc_interval(scores[seen], task.target[seen], task.group[seen], seed=task.seed)
    return scores, interval


def _cells(
    tasks: Sequence[_Task],
    fitted: Iterable[tuple[Float[ndarray, " n"], tuple[float, float, float]]],
) -> Iterator[Cell]:
    """Join the results; a generator's fakes are judged by the classifier of all fakes, too."""
    joint: Float[ndarray, " n"] = np.empty(0)
    for task, (scores, interval) in zip(tasks, fitted, strict=True):
        joint = scores if task.generator == ALL else joint
        seen = task.part & ~np.isnan(joint)
        together = weighted_auc(joint[seen], task.target[seen], np.ones((1, int(seen.sum()))))[0]
        fakes = int(task.target[seen].sum())
        counts = (int(seen.sum()) - fakes, fakes)
        yield Cell(task.feature, task.generator, *interval, float(together), *counts)


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


@dataclass(frozen=True, slots=True)
class Features:
    """The trivial features of one file, or why they could not be read.

    Attributes:
        values: a vector for each name of `FEATURES`; empty when the file could not be read.
        problem: why the file could not be read; empty when it could.
    """

    values: Mapping[str, Float[ndarray, "..."]]
    problem: str = ""


def read_features(path: Path) -> Features:
    """Read all trivial features of one file; a damaged file is reported, not raised."""
    try:
        data = read_content(path)
        opened = open_image(data)
    except (InputError, MissingExtraError) as error:
        return Features({}, str(error).removeprefix(f"{path}: "))
    if opened.damage:
        return Features({}, f"the image is damaged ({opened.damage})")
    pixels = opened.pixels
    with Image.open(io.BytesIO(data), formats=(opened.format,)) as image:
        container = describe_container(image)
        tables = quantisation_tables(image)
    height, width = pixels.shape[:2]
    values = {
        "file size": np.array([np.log(len(data))]),
        "format": container,
        "quantisation": tables,
        "dimensions": np.array([np.log(width), np.log(height), np.log(width / height)]),
        "colour": colour_statistics(pixels),
        "power spectrum": radial_power_spectrum(pixels),
        "thumbnail": shrink(pixels),
    }
    return Features({name: value.astype(np.float32) for name, value in values.items()})


def describe_container(image: Image.Image) -> Float[ndarray, "14"]:
    """Tell format, colour mode and header of an opened file as numbers, mostly 0 and 1."""
    info = image.info
    return np.array(
        [
            *(float(image.format == name) for name in FORMATS),
            *(float(image.mode == name) for name in MODES),
            float(bool(info.get("progressive"))),
            float("exif" in info) + 2 * float("icc_profile" in info),
        ]
    )


def quantisation_tables(image: Image.Image) -> Float[ndarray, "128"]:
    """Return the first two JPEG quantisation tables, row by row; 0 where there is none.

    The tables are the encoder's quality setting: two sources saved by different software differ
    here even when no pixel tells them apart.
    """
    tables: dict[int, list[int]] = getattr(image, "quantization", None) or {}
    found = np.zeros((2, TABLE))
    for row, key in enumerate(sorted(tables)[:2]):
        found[row] = tables[key]
    return found.reshape(-1)


def colour_statistics(pixels: UInt8[ndarray, "h w 3"]) -> Float[ndarray, "12"]:
    """Return mean and standard deviation of R, G, B, H, S, V, each in [0, 255].

    Means come first, then deviations.
    """
    image = Image.fromarray(pixels)
    # a histogram holds all that mean and deviation need, and Pillow counts it ten times faster
    counts = np.array([*image.histogram(), *image.convert("HSV").histogram()]).reshape(6, 256)
    shares, levels = counts / pixels[..., 0].size, np.arange(256)
    mean = shares @ levels
    return np.concatenate([mean, np.sqrt(np.maximum(shares @ levels**2 - mean**2, 0))])


def radial_power_spectrum(
    pixels: UInt8[ndarray, "h w 3"], bins: int = SPECTRUM_BINS
) -> Float[ndarray, " {bins}"]:
    """Return log10 of the mean spectral power in rings of equal frequency.

    The luminance of the central square (at most `CROP` pixels a side, never resized, since
    resizing would write its own spectrum) is tapered with a Hann window. Ring `i` covers
    ``[i, i + 1) * 0.5 / bins`` cycles a pixel; rings that a small picture leaves empty are
    interpolated.

    Args:
        pixels: RGB.
        bins: number of rings.
    """
    luminance = np.asarray(Image.fromarray(pixels).convert("L"), dtype=np.float64)
    side = min(*luminance.shape, CROP)
    top, left = ((length - side) // 2 for length in luminance.shape)
    square = luminance[top : top + side, left : left + side]
    window, ring, counts = _rings(side, bins)
    power = np.abs(np.fft.rfft2((square - square.mean()) * window)) ** 2 / window.size
    inside = ring < bins
    sums = np.bincount(ring[inside], power[inside], minlength=bins)
    full = counts > 0
    spectrum = np.log10(sums[full] / counts[full] + 1e-6)
    return np.asarray(np.interp(np.arange(bins), np.flatnonzero(full), spectrum))


def shrink(pixels: UInt8[ndarray, "h w 3"]) -> Float[ndarray, "432"]:
    """Return the 12x12 thumbnail, area-averaged, row by row with RGB together."""
    small = Image.fromarray(pixels).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float64).reshape(-1)


@lru_cache(maxsize=16)
def _rings(side: int, bins: int) -> tuple[ndarray, ndarray, ndarray]:
    """Window, ring of every half-spectrum coefficient, and coefficients a ring."""
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(side) + 0.5) / side)
    radius = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :])
    ring = np.floor(radius * 2 * bins + 1e-9).astype(np.int64)
    counts = np.bincount(ring[ring < bins], minlength=bins)
    return np.outer(taper, taper), ring, counts


def auc_interval(
    scores: Float[ndarray, " n"],
    target: Int[ndarray, " n"],
    group: Int[ndarray, " n"],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Return the AUC and its 95% interval, drawing whole groups with replacement.

    Ties count half. Pictures of one group (frames of a video, pictures of a person) are not
    independent, so drawing single pictures would make the interval too narrow.
    """
    groups, member = np.unique(group, return_inverse=True)
    rng = np.random.default_rng(seed)
    chance = np.full(len(groups), 1 / len(groups))
    draws = rng.multinomial(len(groups), chance, size=resamples).astype(np.float64)
    estimate = weighted_auc(scores, target, np.ones((1, len(scores))))[0]
    aucs = [weighted_auc(scores, target, part[:, member]) for part in np.array_split(draws, 10)]
    low, high = np.nanpercentile(np.concatenate(aucs), [2.5, 97.5])
    return float(estimate), float(low), float(high)


def weighted_auc(
    scores: Float[ndarray, " n"], target: Int[ndarray, " n"], weights: Float[ndarray, "draws n"]
) -> Float[ndarray, " draws"]:
    """Mann-Whitney statistic with a weight for each picture; NaN where a class has no weight."""
    order = np.argsort(scores, kind="stable")
    ordered, fake, weight = scores[order], target[order] == 1, weights[:, order]
    starts = np.flatnonzero(np.diff(ordered, prepend=np.nan) != 0)
    fakes = np.add.reduceat(weight * fake, starts, axis=1, dtype=np.float64)
    reals = np.add.reduceat(weight * ~fake, starts, axis=1, dtype=np.float64)
    below = np.cumsum(reals, axis=1) - reals / 2
    pairs = fakes.sum(axis=1) * reals.sum(axis=1)
    with np.errstate(invalid="ignore"):
        return np.asarray((fakes * below).sum(axis=1) / np.where(pairs > 0, pairs, np.nan))


def score_unseen(
    values: Float[ndarray, "n d"],
    target: Int[ndarray, " n"],
    folds: Folds,
    part: Bool[ndarray, " n"],
    seed: int,
) -> Float[ndarray, " n"]:
    """Score every measured row of `part` by classifiers that did not see its fold; others NaN.

    Scores become ranks within their fold, since the scales of two folds' classifiers differ.
    """
    scores = np.full(len(target), np.nan)
    varied = values[:, np.ptp(values, axis=0) > 0]
    limits = require("threadpoolctl", extra="train").threadpool_limits
    for fit_all, measure_all in folds:
        fit, measure = fit_all[part[fit_all]], measure_all[part[measure_all]]
        if varied.shape[1] == 0:
            scores[measure] = 0.5
            continue
        # fits are small: on a busy machine several threads wait for each other, 20 times slower
        with limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a fit cut short is still a fair lower bound
            fakes = [
                each.fit(varied[fit], target[fit]).predict_proba(varied[measure])[:, 1]
                for each in _classifiers(seed)
            ]
        scores[measure] = _ranks(np.mean(fakes, axis=0))
    return scores


def _ranks(scores: Float[ndarray, " n"]) -> Float[ndarray, " n"]:
    """Mean rank of each score, in (0, 1); equal scores share one."""
    _, place, counts = np.unique(scores.round(12), return_inverse=True, return_counts=True)
    above = np.cumsum(counts)
    return np.asarray(((above - counts / 2) / len(scores))[place])


def _classifiers(seed: int) -> tuple[Any, Any]:
    """Logistic regression and randomised trees; their probabilities are averaged.

    Boosted trees find no more (docs/data/checks.md) and take up to a hundred times as long on a
    thumbnail's 432 values; randomised trees try a few values a split, however many there are.
    """
    ensemble = require("sklearn.ensemble", extra="train")
    linear = require("sklearn.linear_model", extra="train")
    pipeline = require("sklearn.pipeline", extra="train")
    scaling = require("sklearn.preprocessing", extra="train")
    weigh = linear.LogisticRegression(C=0.1, max_iter=100, class_weight="balanced")
    trees = ensemble.ExtraTreesClassifier(
        n_estimators=60, min_samples_leaf=4, class_weight="balanced", random_state=seed
    )
    return pipeline.make_pipeline(scaling.StandardScaler(), weigh), trees
