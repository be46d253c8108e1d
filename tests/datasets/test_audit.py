import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mfclip.data.manifest import Manifest, Sample, read_manifest
from mfclip.datasets.audit import ALL, Audit, Cell, audit, thin, verdict
from mfclip.datasets.audit_features import FEATURES
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
    result = audit(part, train="train", test="test", workers=2)
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
