"""Is this data set usable? What was expected, what was found, and what to do about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from mfclip.data.manifest import SPLITS, Manifest, Sample, check_groups
from mfclip.datasets.duplicates import find_near, hash_image
from mfclip.errors import InputError, MissingExtraError
from mfclip.labels import LEVELS
from mfclip.media.images import open_image, read_image
from mfclip.media.video import check_ends, is_picture
from mfclip.runtime.parallel import Progress, map_parallel, silent

Severity = Literal["error", "warning", "info"]

IMBALANCE = 5.0
"""More pictures of one class than this many times the other is worth a warning."""

LEAK = 0.1
"""Share of pictures by which formats or sizes may differ between real and fake."""

NEAR = 24
"""Bits out of 256 in which near duplicates may differ; see docs/data/checks.md for its choice."""


LOOKED = 16
"""Pictures in which a face is searched, to tell crops from whole photographs."""

FILLED = 0.45
"""Part of the shorter side that the face of a crop fills at least; 0.77 at margin 1.3."""


@dataclass(frozen=True, slots=True)
class Facts:
    """One file's outside, or why it could not be read.

    Attributes:
        problem: why it could not be read; empty when it could, and then the rest is set.
        absent: there is no such file.
        content: equal for equal files.
        look: perceptual hash, four 64-bit words.
        format: Pillow's name, e.g. ``JPEG``; ``video`` for a video that was opened.
        width: pixels, upright.
        height: pixels, upright.
    """

    problem: str = ""
    absent: bool = False
    content: bytes = b""
    look: tuple[int, ...] = ()
    format: str = ""
    width: int = 0
    height: int = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked and what to do about it.

    Attributes:
        severity: ``error``: training or its figures would be wrong; ``warning``: look before you
            train; ``info``: nothing to do.
        check: short name of the check.
        what: the finding in a sentence.
        count: how many files, groups, pairs or classes it concerns.
        examples: some of them, at most 100.
        advice: what to do; empty for ``info``.
    """

    severity: Severity
    check: str
    what: str
    count: int = 0
    examples: tuple[str, ...] = ()
    advice: str = ""

    def as_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return asdict(self)


def doctor(
    manifest: Manifest,
    *,
    expected: Mapping[str, int] | None = None,
    official_groups: bool = False,
    workers: int = 0,
    progress: Progress = silent,
) -> list[Finding]:
    """Check a manifest and every file it names; the worst findings come first.

    Of videos only the first frame and one near the end are decoded: `mfclip data prepare` turns
    them into pictures, which can then be checked for the rest.

    Args:
        manifest: what to check.
        expected: published number of videos (or pictures that belong to none) for each class. A
            class is a value of any level or a split, or several joined with a slash, which must
            all hold: ``Deepfakes``, ``real``, ``test/face_swap``.
        official_groups: the authors' own split is known to tear groups apart
            (`Source.official_groups`), so that finding is a warning.
        workers: processes that read files; 0 reads in this one.
        progress: told how far the reading is.
    """
    findings = [count_classes(manifest), *check_expected(manifest, expected or {})]
    findings += [*check_splits(manifest), *check_straddling(manifest, official=official_groups)]
    paths = [sample.path for sample in manifest]
    read = map_parallel(_look, paths, workers=workers, stage="reading", progress=progress)
    pairs = list(zip(manifest, read, strict=True))
    findings += check_readable([f for _, f in pairs], manifest.samples)
    findings += check_videos([f for s, f in pairs if not is_picture(s.path)])
    good = [(s, f) for s, f in pairs if is_picture(s.path) and not f.problem]
    samples, facts = [s for s, _ in good], [f for _, f in good]
    if samples:
        findings += check_crops(manifest, samples)
        findings += [*check_mix(samples, facts), *check_exact(samples, facts)]
        findings += check_near(samples, facts)
    order = ("error", "warning", "info")
    return sorted(findings, key=lambda finding: order.index(finding.severity))


def exit_code(findings: Iterable[Finding], *, strict: bool = False) -> int:
    """Return 0 for usable, 1 for usable with warnings (only if `strict`), 2 for not usable."""
    severities = {finding.severity for finding in findings}
    if "error" in severities:
        return 2
    return int(strict and "warning" in severities)


def count_classes(manifest: Manifest) -> Finding:
    """Say how many pictures each split holds of each class."""
    table = Counter((s.split, "fake" if s.target else "real", _class(s)) for s in manifest)
    lines = [f"{split} {label} {name}: {n}" for (split, label, name), n in sorted(table.items())]
    fakes = sum(sample.target for sample in manifest)
    what = f"{len(manifest)} samples: {len(manifest) - fakes} real, {fakes} fake"
    return Finding("info", "counts", what, len(manifest), tuple(lines))


def check_expected(manifest: Manifest, expected: Mapping[str, int]) -> list[Finding]:
    """Compare the number of videos or pictures of each class with the published one."""
    findings = []
    absent: set[str] = set()
    for name, published in expected.items():
        found = len({s.video_id or s.path for s in manifest if _belongs(s, name)})
        if not found and name.rpartition("/")[2] in absent:
            continue  # that the whole class is absent was said
        absent |= set() if found else {name}
        if found < published:
            what = f"{name}: {found} of the {published} published are there"
            advice = "complete the download, or say in your results that a part was used"
            missing = published - found
            findings.append(Finding("warning", "published counts", what, missing, (), advice))
        elif found > published:
            what = f"{name}: {found} found, {published} published"
            advice = "look for copies or foreign files in its folder"
            surplus = found - published
            findings.append(Finding("warning", "published counts", what, surplus, (), advice))
    if expected and not findings:
        findings.append(Finding("info", "published counts", "all published counts are met"))
    return findings


def check_splits(manifest: Manifest) -> list[Finding]:
    """Find splits that are absent, hold one class only, or are far from balanced."""
    findings = []
    sizes = {split: Counter(s.target for s in part) for split, part in _by_split(manifest)}
    for split in SPLITS:
        if split not in sizes:
            advice = "scan again with the official lists in place, or add a split column"
            what = f"there is no split '{split}'"
            findings.append(Finding("warning", "splits", what, 1, (), advice))
    for split, size in sorted(sizes.items()):
        findings += _balance(split, real=size[0], fake=size[1])
    return findings


def check_straddling(manifest: Manifest, *, official: bool = False) -> list[Finding]:
    """Find groups (identities, source videos) that lie in more than one split.

    Args:
        manifest: what to check.
        official: the authors of the data set divided it so; then it is a warning.
    """
    straddling = check_groups(manifest)
    if not straddling:
        return []
    examples = tuple(f"{name}: {', '.join(s)}" for name, s in list(straddling.items())[:100])
    what = f"{len(straddling)} groups lie in more than one split: test figures would be too good"
    if official:
        what += "; the official split divides them so"
        advice = "use the data set for testing only, or say in your results that groups are shared"
        return [Finding("warning", "groups", what, len(straddling), examples, advice)]
    advice = "split again by group, or drop one side; if the split is official, give --source"
    return [Finding("error", "groups", what, len(straddling), examples, advice)]


def check_readable(facts: Sequence[Facts], samples: Sequence[Sample]) -> list[Finding]:
    """Find files that are absent or cannot be decoded."""
    absent = [str(s.path) for f, s in zip(facts, samples, strict=True) if f.absent]
    damaged = [
        f"{s.path}: {f.problem}"
        for f, s in zip(facts, samples, strict=True)
        if f.problem and not f.absent
    ]
    findings = []
    if absent:
        what = f"{len(absent)} file(s) of the manifest are not on the disk"
        advice = "check the root folder (--root), download them, or remove their rows"
        count = len(absent)
        findings.append(Finding("error", "files", what, count, tuple(absent[:100]), advice))
    if damaged:
        what = f"{len(damaged)} file(s) cannot be decoded"
        advice = "download or extract them again, or remove their rows"
        count = len(damaged)
        findings.append(Finding("error", "decode", what, count, tuple(damaged[:100]), advice))
    return findings


def check_crops(manifest: Manifest, samples: Sequence[Sample]) -> list[Finding]:
    """Tell face crops from whole photographs, by how much of some pictures a face fills.

    Args:
        manifest: tells how the faces were cut, if that is known.
        samples: pictures that can be read.
    """
    if manifest.framing is not None:
        what = f"faces were cut by 'mfclip data prepare': {manifest.framing}"
        return [Finding("info", "crops", what)]
    from mfclip.media.faces import FaceDetector  # noqa: PLC0415 - torch is slow to import

    detector = FaceDetector(retry=False)
    rows = np.random.default_rng(0).choice(len(samples), min(LOOKED, len(samples)), replace=False)
    fills: dict[str, float] = {}
    for sample in (samples[row] for row in sorted(rows.tolist())):
        image = read_image(sample.path)
        faces = detector.detect(image)
        fills[_place(sample)] = faces[0].side / min(image.shape[:2]) if faces else 0.0
    loose = {place: fill for place, fill in fills.items() if fill < FILLED}
    if 2 * len(loose) <= len(fills):
        what = "pictures are filled by faces, as crops are; how they were cut is not known"
        advice = "set data.face_margin and data.face_align, so that later faces are cut alike"
        return [Finding("info", "crops", what, len(fills), (), advice)]
    none = sum(fill == 0 for fill in loose.values())
    what = (
        f"these are whole pictures and no face crops: of {len(fills)} that were looked at, "
        f"{len(loose)} have a face that fills less than {FILLED:.0%} of the shorter side"
        + (f" ({none} of them no face at all)" if none else "")
    )
    examples = tuple(f"{place}: {fill:.0%}" for place, fill in loose.items())
    advice = (
        "cut the faces out first: mfclip data prepare MANIFEST -o prepared; then train on "
        "prepared/manifest.csv"
    )
    return [Finding("warning", "crops", what, len(loose), examples, advice)]


def check_mix(samples: Sequence[Sample], facts: Sequence[Facts]) -> list[Finding]:
    """Say which formats and sizes there are, and whether they differ between real and fake."""
    findings = []
    target = [sample.target for sample in samples]
    shapes = [f"{f.width}x{f.height}" for f in facts]
    for check, values in (("formats", [f.format for f in facts]), ("sizes", shapes)):
        distance = _difference(values, target)
        common = Counter(values).most_common(100)
        examples = tuple(f"{value}: {count}" for value, count in common)
        if distance > LEAK:
            what = f"{check} differ between real and fake for {distance:.0%} of the pictures"
            advice = "a detector can use it: run 'mfclip data audit'; 'prepare' makes them equal"
            findings.append(Finding("warning", check, what, len(common), examples, advice))
        else:
            what = f"{check}: " + ", ".join(examples[:3])
            findings.append(Finding("info", check, what, len(common), examples))
    return findings


def check_exact(samples: Sequence[Sample], facts: Sequence[Facts]) -> list[Finding]:
    """Find files with equal content across splits, across labels, or listed twice."""
    same: dict[bytes, list[Sample]] = {}
    for sample, fact in zip(samples, facts, strict=True):
        same.setdefault(fact.content, []).append(sample)
    sets = [members for members in same.values() if len(members) > 1]
    across = [m for m in sets if len({s.split for s in m}) > 1]
    clash = [m for m in sets if len({s.target for s in m}) > 1]
    inside = [m for m in sets if m not in across and m not in clash]
    return [
        *_copies("error", across, "lie in several splits", "keep each in one split only"),
        *_copies("error", clash, "are called both real and fake", "find out which label is true"),
        *_copies("warning", inside, "occur more than once in a split", "keep one of each"),
    ]


def check_near(samples: Sequence[Sample], facts: Sequence[Facts]) -> list[Finding]:
    """Find pictures that look the same across splits, or across labels in unrelated groups.

    A forgery made from a real picture of its own group and split resembles it; that is no finding.
    """
    names = {name: i for i, name in enumerate(sorted({s.split for s in samples}))}
    split = np.array([names[s.split] for s in samples])
    target = np.array([s.target for s in samples])
    groups = {name: i for i, name in enumerate({s.group for s in samples})}
    group = np.array([groups[s.group] for s in samples])
    content = [f.content for f in facts]
    hashes = np.array([f.look for f in facts], dtype=np.uint64)
    near = find_near(hashes, split, target, group, max_distance=NEAR).tolist()
    pairs = [(i, j, d) for i, j, d in near if content[i] != content[j]]
    across = [pair for pair in pairs if split[pair[0]] != split[pair[1]]]
    clash = [pair for pair in pairs if split[pair[0]] == split[pair[1]]]
    regroup = "look at them with 'mfclip data show'; put both into one group and split again"
    relabel = "look at them; if one is made from the other, give both the same group"
    return [
        *_resemblances(samples, across, "lie in different splits", regroup),
        *_resemblances(samples, clash, "have different labels and groups", relabel),
    ]


def check_videos(facts: Sequence[Facts]) -> list[Finding]:
    """Say what was done with the videos, if there are any."""
    if not facts:
        return []
    opened = sum(f.format == "video" for f in facts)
    what = f"{len(facts)} videos are listed; {opened} of them open at both ends"
    if any(not (f.format or f.problem) for f in facts):
        what = f"{len(facts)} videos are listed; none was opened: pip install 'mfclip[video]'"
    advice = "run 'mfclip data prepare', then 'doctor' again on the crops"
    return [Finding("info", "videos", what, len(facts), (), advice)]


def _look(path: Path) -> Facts:
    return read_facts(path) if is_picture(path) else read_video_facts(path)


def _class(sample: Sample) -> str:
    return sample.labels.generator or sample.labels.manipulation or "unnamed"


def _belongs(sample: Sample, name: str) -> bool:
    levels = {getattr(sample.labels, level) for level in LEVELS[1:]}
    known = levels | {sample.split, "fake" if sample.target else "real"}
    return name in known or set(name.split("/")) <= known


def _by_split(manifest: Manifest) -> list[tuple[str, list[Sample]]]:
    parts: dict[str, list[Sample]] = {}
    for sample in manifest:
        parts.setdefault(sample.split, []).append(sample)
    return list(parts.items())


def _balance(split: str, *, real: int, fake: int) -> list[Finding]:
    if not real or not fake:
        severity: Severity = "error" if split in {"train", "val"} else "warning"
        found, lacking = ("real", "fake") if real else ("fake", "real")
        what = f"split '{split}' holds only {found} samples"
        advice = f"add {lacking} samples: nothing can be learned or measured from one class"
        return [Finding(severity, "one class", what, real + fake, (), advice)]
    if max(real, fake) > IMBALANCE * min(real, fake):
        what = f"split '{split}' holds {real} real and {fake} fake"
        advice = "train with --set data.sampling=balanced; read AUC rather than accuracy"
        return [Finding("warning", "balance", what, real + fake, (), advice)]
    return []


def _difference(values: Sequence[str], target: Sequence[int]) -> float:
    """Total variation distance of `values` between real and fake, 0 (alike) to 1 (disjoint)."""
    real = Counter(v for v, t in zip(values, target, strict=True) if not t)
    fake = Counter(v for v, t in zip(values, target, strict=True) if t)
    if not real or not fake:
        return 0.0
    gaps = (abs(real[v] / real.total() - fake[v] / fake.total()) for v in real | fake)
    return sum(gaps) / 2


def _copies(
    severity: Severity, sets: Sequence[Sequence[Sample]], where: str, advice: str
) -> list[Finding]:
    if not sets:
        return []
    examples = tuple(" = ".join(_place(s) for s in members[:4]) for members in sets[:100])
    what = f"{len(sets)} identical files {where}"
    return [Finding(severity, "exact duplicates", what, len(sets), examples, advice)]


def _resemblances(
    samples: Sequence[Sample], pairs: Sequence[tuple[int, int, int]], where: str, advice: str
) -> list[Finding]:
    if not pairs:
        return []
    closest = sorted(pairs, key=lambda pair: pair[2])[:100]
    examples = tuple(f"{_place(samples[i])} ~ {_place(samples[j])} ({d})" for i, j, d in closest)
    what = f"{len(pairs)} pairs of pictures look the same and {where}"
    return [Finding("warning", "near duplicates", what, len(pairs), examples, advice)]


def _place(sample: Sample) -> str:
    path = Path(*sample.path.parts[-3:])
    return f"{path} [{sample.split} {'fake' if sample.target else 'real'}]"


def read_video_facts(path: Path) -> Facts:
    """Open one video, if PyAV is there to do so; a damaged or absent file is reported."""
    try:
        check_ends(path)
    except MissingExtraError:
        return Facts() if path.is_file() else Facts("no such file", absent=True)
    except InputError as error:
        return Facts(str(error).removeprefix(f"{path}: "), absent=not path.is_file())
    return Facts(format="video")


def read_facts(path: Path) -> Facts:
    """Read and decode one file; a damaged or absent file is reported, not raised."""
    try:
        image = open_image(path)
    except (InputError, MissingExtraError) as error:
        problem = str(error).removeprefix(f"{path}: ")
        return Facts(problem, absent=not path.is_file() and not path.is_symlink())
    if image.damage:
        return Facts(f"the image is damaged ({image.damage})")
    height, width = image.pixels.shape[:2]
    look = tuple(int(word) for word in hash_image(image.pixels))
    return Facts("", False, bytes.fromhex(image.sha256)[:16], look, image.format, width, height)
