"""The presets for large towers, every line of them, around a tower small enough for that."""

from __future__ import annotations

from pathlib import Path

import pytest

from mfclip.config import RunConfig, load_config
from mfclip.detectors import load_detector
from mfclip.errors import ManifestError
from mfclip.train.feed import open_manifest
from mfclip.train.loop import Run, train
from mfclip.train.processes import join_processes
from mfclip.train.profile import estimate_training
from mfclip.weights import BEST

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SMALL = [
    "model.image.trunk='timm:test_vit'",
    "model.image.trunk_weights=''",
    "model.image_size=64",
    "model.embed_dim=64",
    "model.num_heads=4",
    "model.noise.patch_size=32",
    "model.text.depth=1",
    "data.resize=72",
    "train.epochs=1",
    "train.batch_size=8",
    "train.precision=32-true",
]


def _small(name: str, manifest: Path, *more: str) -> RunConfig:
    return load_config(CONFIGS / f"{name}.toml", [*SMALL, f"data.manifest='{manifest}'", *more])


@pytest.mark.parametrize("name", ["large-ln", "large-blend"])
def test_a_preset_runs_to_its_end(name: str, made_faces: Path, tmp_path: Path) -> None:
    config = _small(name, made_faces)
    train(config, tmp_path, device="cpu")
    _, card = load_detector(tmp_path / BEST)
    assert card.validation["auc"] is not None
    with join_processes("cpu") as processes:
        run = Run(config, open_manifest(config), tmp_path / "again", processes)
        learning = {name for name, p in run.detector.named_parameters() if p.requires_grad}
    tower = {name for name in learning if ".tower." in name}
    assert tower
    assert all("norm" in name for name in tower)
    assert {"head.2.weight", "vision_encoder.noise_encoder.gate"} <= learning


def test_plain_gend_is_the_preset_without_its_parts(made_faces: Path, tmp_path: Path) -> None:
    plain = ["model.use_noise=false", "model.use_text=false", "train.groups=[]"]
    head = (CONFIGS / "large-ln.toml").read_text()
    learn = 'train.learn=["*norm*", "head.*"]'
    assert f"--set '{learn}'" in head
    config = _small("large-ln", made_faces, *plain, learn)
    train(config, tmp_path, device="cpu", max_steps=1)
    assert config.train.loss.alignment == 0.1
    assert config.train.loss.uniformity == 0.5


def test_blending_needs_real_faces_alone(made_faces: Path, tmp_path: Path) -> None:
    lines = made_faces.read_text().splitlines()
    reals = [line for line in lines if ",train," not in line or ",real," in line]
    manifest = made_faces.with_name("reals.csv")
    manifest.write_text("\n".join(reals) + "\n")
    train(_small("large-blend", manifest), tmp_path / "blend", device="cpu", max_steps=1)
    with pytest.raises(ManifestError, match="holds only real faces"):
        train(_small("large-ln", manifest), tmp_path / "ln", device="cpu", max_steps=1)


def test_the_cost_is_told_beforehand(made_faces: Path) -> None:
    config = _small("large-ln", made_faces, "train.epochs=3")
    said = estimate_training(config, device="cpu")
    steps = 3 * (24 // 8)
    assert f"{steps} steps of 8 faces" in said
    assert "nothing was written" in said
