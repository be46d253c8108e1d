from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from mfclip.data.manifest import Manifest, Sample
from mfclip.evaluate.score import evaluating, fake_scores, score_manifest
from mfclip.labels import Labels

GREYS = (0, 51, 102, 204, 255)


class Brightness(nn.Module):
    """Logit of fake = brightness of the picture, of real = 0."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.drop = nn.Dropout(0.5)

    def forward(self, images: Tensor) -> Tensor:
        bright = self.scale * images.mean(dim=(1, 2, 3))
        return self.drop(torch.stack([torch.zeros_like(bright), bright], dim=1))


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Five grey pictures, and a damaged one in the middle."""
    samples = []
    for number, grey in enumerate(GREYS):
        path = tmp_path / f"{number}.png"
        Image.fromarray(np.full((64, 64, 3), grey, np.uint8)).save(path)
        labels = Labels(number % 2 == 1)
        samples.append(Sample(path, labels, "test", f"g{number}", "v" if number else None))
    (tmp_path / "bad.png").write_bytes(b"no picture")
    samples.insert(2, Sample(tmp_path / "bad.png", Labels(True), "test", "bad"))
    return Manifest(tuple(samples), tmp_path)


SIZES = {"resize": 32, "image_size": 32}


def test_scores_are_the_softmax_of_column_one(manifest: Manifest) -> None:
    seen: list[tuple[int, int]] = []
    scores = score_manifest(
        Brightness(), manifest, batch_size=2, progress=lambda *n: seen.append(n), **SIZES
    )
    expected = 1 / (1 + np.exp(-np.array(GREYS) / 255))
    np.testing.assert_allclose(scores.scored.score, expected, atol=1e-6)
    assert [s.path for s in scores] == ["0.png", "1.png", "bad.png", "2.png", "3.png", "4.png"]
    assert [(s.labels, s.split, s.group, s.video_id) for s in scores] == [
        (s.labels, s.split, s.group, s.video_id) for s in manifest
    ]
    assert seen[-1] == (6, 6)


def test_what_cannot_be_read_is_listed(manifest: Manifest) -> None:
    (bad,) = score_manifest(Brightness(), manifest, **SIZES).failed
    assert (bad.path, bad.score) == ("bad.png", None)
    assert bad.error is not None
    assert bad.error.startswith("not an image in a format")
    assert str(manifest.root) not in bad.error


def test_only_bad_files_give_only_errors(manifest: Manifest) -> None:
    scores = score_manifest(Brightness(), manifest.where(lambda s: s.group == "bad"), **SIZES)
    assert (len(scores), len(scores.failed)) == (1, 1)


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_batch_size_changes_nothing(manifest: Manifest, batch_size: int) -> None:
    torch.manual_seed(1)
    detector = nn.Sequential(nn.Conv2d(3, 4, 5), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(2))
    detector(torch.zeros(2, 3, 32, 32))
    whole = score_manifest(detector, manifest, batch_size=5, **SIZES)
    parts = score_manifest(detector, manifest, batch_size=batch_size, **SIZES)
    np.testing.assert_allclose(parts.score, whole.score, atol=1e-6)


def test_modes_are_restored_and_no_gradient_is_kept() -> None:
    detector = nn.Sequential(Brightness(), nn.Identity())
    detector[1].eval()  # a frozen part of a detector in training
    with evaluating(detector):
        assert not any(part.training for part in detector.modules())
    assert [part.training for part in detector] == [True, False]
    with pytest.raises(ZeroDivisionError), evaluating(detector):
        raise ZeroDivisionError
    assert detector.training


def test_scores_that_are_not_finite_are_errors(manifest: Manifest) -> None:
    detector = Brightness()
    detector.scale.data.fill_(float("nan"))
    scores = score_manifest(detector, manifest, **SIZES)
    errors = [sample.error for sample in scores if sample.group != "bad"]
    assert errors == ["the detector's score is not finite; its weights may be damaged"] * 5


def test_half_precision_is_close_and_its_softmax_full() -> None:
    torch.manual_seed(0)
    detector = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2)).eval()
    images = torch.rand(16, 3, 8, 8)
    full = fake_scores(detector, images)
    half = fake_scores(detector, images, "bf16-mixed")
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, full, atol=0.01, rtol=0)
    assert not torch.equal(half, full)
