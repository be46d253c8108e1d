import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from mfclip.data.manifest import Manifest, Sample, read_manifest
from mfclip.datasets.audit import (
    ALL,
    FEATURES,
    SPECTRUM_BINS,
    Audit,
    Cell,
    auc_interval,
    audit,
    colour_statistics,
    quantisation_tables,
    radial_power_spectrum,
    read_features,
    score_unseen,
    shrink,
    thin,
    verdict,
    weighted_auc,
)
from mfclip.errors import ManifestError
from mfclip.labels import Labels

FAKES = ("GAN-A", "GAN-B")
REPOSITORY = Path(__file__).resolve().parents[2]


def _make(folder: Path, count: int, endings: dict[str, str]) -> Manifest:
    """Random pictures whose content says nothing; the ending depends on the generator."""
    samples = []
    for number in range(count):
        generator = ("Camera", FAKES[number // 2 % 2])[number % 2]
        labels = Labels(bool(number % 2), generator=generator)
        path = folder / f"{number}.{endings.get(generator, 'png')}"
        noise = np.random.default_rng(number).integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
        split = ("train", "test")[number // 4 % 2]
        samples.append(Sample(path, labels, split, group=str(number // 2)))
    return Manifest(tuple(samples), folder)


def _cell(result: Audit, feature: str, generator: str = ALL) -> Cell:
    (cell,) = [c for c in result.cells if (c.feature, c.generator) == (feature, generator)]
    return cell


@pytest.fixture(scope="module")
def leaky(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    """An audit of a set in which GAN-A alone is saved as BMP and everything else as PNG."""
    made = _make(tmp_path_factory.mktemp("leaky"), 160, {"GAN-A": "bmp"})
    return audit(made, train="train", test="test")


def test_a_format_leak_is_total_and_put_down_to_its_generator(leaky: Audit) -> None:
    assert _cell(leaky, "format", "GAN-A").auc == 1.0
    assert _cell(leaky, "format", "GAN-B").auc == 0.5
    assert _cell(leaky, "format", "GAN-A").joint_auc == 1.0
    # half of the fakes are told for certain, the other half by chance
    assert _cell(leaky, "format").auc == pytest.approx(0.75, abs=0.02)


def test_the_verdict_names_the_leak(leaky: Audit) -> None:
    assert (
        "LEAK: a detector trained on this can score 0.75 by format alone; "
        "fitted to one generator, 1.00 on GAN-A"
    ) in verdict(leaky)


def test_the_verdict_names_the_three_worst_generators(leaky: Audit) -> None:
    def cell(name: str, auc: float) -> Cell:
        return Cell("colour", name, auc, 0.0, 1.0, 0.5, 9, 9)

    aucs = {ALL: 0.6, "A": 0.72, "B": 0.69, "C": 0.88, "D": 0.85, "E": 0.75}
    other = [c for c in leaky.cells if c.feature not in {"colour", "format"}]
    low = [replace(c, auc=0.5) for c in leaky.cells if c.feature == "format"]
    cells = (*(replace(c, auc=0.5) for c in other), *low, *(cell(*item) for item in aucs.items()))
    assert verdict(replace(leaky, cells=tuple(cells))) == [
        "fitted to one generator, a detector can score 0.88 on C, 0.85 on D, 0.75 on E and 1 more, "
        "by colour alone (0.60 over all fakes)"
    ]


def test_cells_are_complete(leaky: Audit) -> None:
    assert [(c.feature, c.generator) for c in leaky.cells] == [
        (feature, generator) for feature in FEATURES for generator in (ALL, *FAKES)
    ]
    assert {(c.num_real, c.num_fake) for c in leaky.cells} == {(40, 40), (40, 20)}
    assert all(0 <= c.low <= c.auc <= c.high <= 1 for c in leaky.cells)
    assert leaky.protocol == "fitted on 'train', measured on 'test'"


@pytest.mark.slow
def test_a_set_without_a_leak_scores_near_chance(tmp_path: Path) -> None:
    result = audit(_make(tmp_path, 240, {}))
    assert result.protocol.startswith("5-fold cross-validation")
    for feature in ("format", "quantisation", "dimensions"):
        assert _cell(result, feature).auc == 0.5
    for feature in ("colour", "power spectrum", "thumbnail"):
        assert _cell(result, feature).auc == pytest.approx(0.5, abs=0.12)
    assert not any("LEAK" in line for line in verdict(result))


@pytest.mark.slow
def test_damaged_files_are_skipped_and_named(tmp_path: Path) -> None:
    made = _make(tmp_path, 96, {"GAN-A": "bmp", "GAN-B": "bmp"})
    made.samples[0].path.write_text("damaged")
    result = audit(made, train="train", test="test")
    assert _cell(result, "format").auc == 1.0
    assert (_cell(result, "format").num_real, _cell(result, "format").num_fake) == (24, 24)
    assert result.num_images == 95
    assert result.unreadable[0].startswith(str(made[0].path))
    assert verdict(result)[0].startswith("LEAK: a detector trained on this can score 1.00 by ")


def test_a_generator_with_few_pictures_is_left_out_by_name(tmp_path: Path) -> None:
    made = _make(tmp_path, 88, {})
    rare = replace(made[1], labels=Labels(True, generator="Rare"))
    made = replace(made, samples=(made[0], rare, *made.samples[2:]))
    result = audit(made, train="train", test="test")
    assert result.left_out == {"Rare": 1}
    assert "Rare" in result.spectra


@pytest.mark.parametrize(
    ("train", "test", "words"),
    [("train", None, "or neither"), ("train", "nowhere", "no sample is in split 'nowhere'")],
)
def test_wrong_splits(tmp_path: Path, train: str, test: str | None, words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        audit(_make(tmp_path, 8, {}), train=train, test=test)


def test_one_class_cannot_be_audited(tmp_path: Path) -> None:
    made = _make(tmp_path, 8, {}).where(lambda s: not s.target)
    with pytest.raises(ManifestError, match="two groups"):
        audit(made)


def test_videos_are_sent_to_prepare(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"a video")
    video = Sample(tmp_path / "a.mp4", Labels(True), "train", "a")
    with pytest.raises(ManifestError, match="run 'mfclip data prepare' on videos first"):
        audit(Manifest((video,), tmp_path))


def test_thinning_keeps_shares_and_rare_classes(tmp_path: Path) -> None:
    real, fake = Labels(False), Labels(True, generator="Rare")
    rows = [Sample(tmp_path / str(i), real, "train", str(i)) for i in range(1000)]
    rows += [Sample(tmp_path / f"f{i}", fake, "train", f"f{i}") for i in range(60)]
    kept = thin(Manifest(tuple(rows), tmp_path), 500, seed=0)
    assert kept.counts() == {"real": round(1000 * 500 / 1060), "Rare": 50}
    assert kept == thin(Manifest(tuple(rows), tmp_path), 500, seed=0)


@pytest.mark.slow
def test_the_faces_set_leaks_what_its_description_says(faces_manifest: Path) -> None:
    keep = {"real", "StableDiffusion-2.1"}
    part = read_manifest(faces_manifest).where(
        lambda s: (s.labels.generator if s.target else "real") in keep
    )
    result = audit(part, train="train", test="test", limit=1500)
    # the description: .85 by colour and .73 by file size when trained on all generators
    assert _cell(result, "colour", "StableDiffusion-2.1").auc > 0.8
    assert _cell(result, "file size", "StableDiffusion-2.1").auc > 0.7
    assert _cell(result, "format").auc == 0.5


def test_the_published_audit_finds_what_the_faces_set_is_described_by() -> None:
    """`mfclip data audit` on the development faces, stored: joint AUC against its description."""
    stored = json.loads((REPOSITORY / "benchmarks/results/audit.json").read_text())
    joint = {(c["generator"], c["feature"]): c["joint_auc"] for c in stored["cells"]}
    described = {
        (ALL, "file size"): 0.53,
        (ALL, "colour"): 0.57,
        (ALL, "power spectrum"): 0.59,
        (ALL, "thumbnail"): 0.66,
        ("StableDiffusion-2.1", "colour"): 0.85,
        ("Beauty-retouch", "thumbnail"): 0.78,
    }
    assert {key: joint[key] for key in described} == pytest.approx(described, abs=0.05)
    assert joint["StableDiffusion-2.1", "file size"] > 0.73
    for feature in ("format", "quantisation", "dimensions"):
        assert joint[ALL, feature] == 0.5


def test_the_documented_table_is_the_published_audit() -> None:
    stored = json.loads((REPOSITORY / "benchmarks/results/audit.json").read_text())
    page = (REPOSITORY / "docs/data/checks.md").read_text()
    lines = page.partition("<!-- audit -->\n")[2].partition("<!-- /audit -->")[0].splitlines()
    heads, rows = lines[0].strip("| ").split(" | ")[1:], lines[2:]
    shown = {}
    for row in rows:
        generator, *values = row.strip("| ").split(" | ")
        shown |= {(generator, h): v for h, v in zip(heads, values, strict=True)}
    assert shown == {
        (c["generator"], c["feature"]): f"{c['auc']:.2f} / {c['joint_auc']:.2f}"
        for c in stored["cells"]
    }


# ITU-T T.81, table K.1, first and last rows: luminance quantisation at libjpeg's quality 50
LUMINANCE_FIRST = [16, 11, 10, 16, 24, 40, 51, 61]
LUMINANCE_LAST = [72, 92, 95, 98, 112, 100, 103, 99]
CHROMINANCE_FIRST = [17, 18, 24, 47, 99, 99, 99, 99]


def _wave(cycles: int, side: int, axis: int) -> np.ndarray:
    """A grey sinusoid of so many cycles over the picture's side."""
    line = 127.5 + 100 * np.cos(2 * np.pi * cycles * np.arange(side) / side)
    grey = np.broadcast_to(line, (side, side)) if axis else np.broadcast_to(line, (side, side)).T
    return np.repeat(np.rint(grey).astype(np.uint8)[:, :, None], 3, axis=2)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("cycles", "side"), [(20, 256), (61, 256), (100, 256), (16, 128)])
def test_a_sinusoid_lands_in_the_ring_of_its_frequency(cycles: int, side: int, axis: int) -> None:
    spectrum = radial_power_spectrum(_wave(cycles, side, axis))
    ring = int(cycles / side * 2 * SPECTRUM_BINS)
    assert spectrum.argmax() == ring
    others = np.delete(spectrum, [ring - 1, ring, ring + 1])
    assert spectrum[ring] - others.max() > 2  # the window leaks into neighbours only


def test_the_spectrum_of_white_noise_is_flat_and_as_high_as_its_variance() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (256, 256), dtype=np.uint8)
    spectrum = radial_power_spectrum(np.repeat(noise[:, :, None], 3, axis=2))
    # mean power = variance x mean squared window: (256^2 - 1) / 12 x (3 / 8)^2
    expected = np.log10((256**2 - 1) / 12 * (3 / 8) ** 2)
    assert np.abs(spectrum[4:] - expected).max() < 0.1


def test_a_small_picture_has_a_full_spectrum() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (24, 31, 3), dtype=np.uint8)
    spectrum = radial_power_spectrum(noise)
    assert spectrum.shape == (SPECTRUM_BINS,)
    assert np.isfinite(spectrum).all()


def test_quantisation_tables_are_those_of_the_standard(tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    Image.new("RGB", (16, 16)).save(path, quality=50)
    with Image.open(path) as image:
        luminance, chrominance = quantisation_tables(image).reshape(2, 8, 8).tolist()
    assert luminance[0] == LUMINANCE_FIRST
    assert luminance[7] == LUMINANCE_LAST
    assert chrominance[0] == CHROMINANCE_FIRST


def test_a_png_has_no_quantisation_tables(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    Image.new("RGB", (16, 16)).save(path)
    with Image.open(path) as image:
        assert not quantisation_tables(image).any()


def test_colour_statistics_of_half_red_half_black() -> None:
    pixels = np.zeros((4, 6, 3), dtype=np.uint8)
    pixels[:2, :, 0] = 200
    # red: hue 0, saturation 255, value 200; black: 0, 0, 0
    means, deviations = colour_statistics(pixels).reshape(2, 6)
    assert means.tolist() == [100, 0, 0, 0, 127.5, 100]
    assert deviations.tolist() == [100, 0, 0, 0, 127.5, 100]


def test_the_thumbnail_averages_equal_areas() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (36, 24, 3), dtype=np.uint8)
    expected = pixels.reshape(12, 3, 12, 2, 3).mean(axis=(1, 3)).reshape(-1)
    assert np.abs(shrink(pixels) - expected).max() <= 1  # rounded once an axis


def test_all_features_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    Image.new("RGB", (40, 20), "red").save(path)
    values = read_features(path).values
    assert tuple(values) == FEATURES
    assert values["file size"].item() == pytest.approx(np.log(path.stat().st_size))
    assert values["dimensions"] == pytest.approx(np.log([40, 20, 2]))
    assert values["format"].tolist() == [0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("content", [b"", b"no picture", None])
def test_a_file_that_cannot_be_read_is_reported(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "broken.jpg"
    if content is not None:
        path.write_bytes(content)
    features = read_features(path)
    assert features.problem
    assert not features.values


def test_auc_by_hand() -> None:
    # fakes .4 and .8, reals .1 and .4: pairs won 1, 0.5 (tie), 1, 1 of 4
    scores, target = np.array([0.1, 0.4, 0.4, 0.8]), np.array([0, 0, 1, 1])
    assert weighted_auc(scores, target, np.ones((1, 4))).tolist() == [3.5 / 4]


@pytest.mark.parametrize("seed", range(3))
def test_weighted_auc_equals_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, target = rng.integers(0, 9, 60).astype(float), rng.integers(0, 2, 60)
    weights = rng.integers(0, 4, (5, 60)).astype(float)
    expected = [roc_auc_score(target, scores, sample_weight=row) for row in weights]
    assert weighted_auc(scores, target, weights) == pytest.approx(expected, abs=1e-12)


def test_a_draw_without_one_class_has_no_auc() -> None:
    weights = np.array([[1.0, 0.0], [1.0, 1.0]])
    aucs = weighted_auc(np.array([0.0, 1.0]), np.array([0, 1]), weights)
    assert np.isnan(aucs[0])
    assert aucs[1] == 1


def test_the_interval_is_wider_when_pictures_share_groups() -> None:
    rng = np.random.default_rng(0)
    target = np.repeat(rng.integers(0, 2, 40), 10)
    scores = target + np.repeat(rng.normal(size=40), 10) * 2
    auc, low, high = auc_interval(scores, target, np.repeat(np.arange(40), 10))
    _, single_low, single_high = auc_interval(scores, target, np.arange(400))
    assert low < auc < high
    assert high - low > 2 * (single_high - single_low)


def test_the_interval_covers_the_truth_about_19_times_in_20() -> None:
    covered = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        target = np.arange(120) % 2
        _, low, high = auc_interval(rng.normal(size=120), target, np.arange(120), seed=seed)
        covered += low <= 0.5 <= high
    assert 88 <= covered <= 100


def test_thresholds_and_windows_are_found_out_of_fold() -> None:
    rng = np.random.default_rng(0)
    target = np.arange(400) % 2
    # fakes lie in a window amid the reals: no straight line tells them apart
    window = np.where(target == 1, rng.uniform(-1, 1, 400), rng.choice([-2, 2], 400))
    folds = [(np.arange(200), np.arange(200, 400)), (np.arange(200, 400), np.arange(200))]
    everyone = np.ones(400, dtype=bool)
    values = window[:, None].astype(np.float32)
    scores = score_unseen(values, target, folds, everyone, seed=0)
    assert roc_auc_score(target, scores) > 0.99


def test_labels_that_are_pure_chance_score_near_chance_out_of_fold() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(400, 100)).astype(np.float32)
    target = rng.integers(0, 2, 400)
    folds = [(np.arange(200), np.arange(200, 400)), (np.arange(200, 400), np.arange(200))]
    scores = score_unseen(values, target, folds, np.ones(400, dtype=bool), seed=0)
    assert roc_auc_score(target, scores) == pytest.approx(0.5, abs=0.09)


def test_a_feature_without_variation_scores_exactly_chance() -> None:
    target = np.arange(10) % 2
    folds = [(np.arange(5), np.arange(5, 10))]
    part = np.ones(10, dtype=bool)
    scores = score_unseen(np.ones((10, 3), dtype=np.float32), target, folds, part, seed=0)
    assert np.isnan(scores[:5]).all()
    assert (scores[5:] == 0.5).all()
