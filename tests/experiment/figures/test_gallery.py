"""Figures by name, as files."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mfclip.data.manifest import Manifest
from mfclip.errors import ConfigError
from mfclip.experiment.figures.gallery import FIGURES, write_picture


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_drawn(
    name: str, weights: Path, kinds_manifest: Manifest, tmp_path: Path
) -> None:
    count = 8 if name == "tsne" else 2
    chosen = Manifest(kinds_manifest.samples[:count], kinds_manifest.root)
    out = tmp_path / "new" / f"{name}.png"
    assert write_picture(name, chosen, out, weights=[weights], device="cpu") == out
    pixels = np.asarray(Image.open(out).convert("L"))
    assert pixels.min() < 50
    assert pixels.max() == 255


@pytest.mark.parametrize(("ending", "start"), [(".pdf", b"%PDF"), (".svg", b"<?xml")])
def test_vector_files_do_not_change(
    ending: str, start: bytes, weights: Path, kinds_manifest: Manifest, tmp_path: Path
) -> None:
    out, few = tmp_path / f"figure{ending}", Manifest(kinds_manifest.samples[:2], tmp_path)
    write_picture("fig9a", few, out, weights=[weights], device="cpu")
    before = out.read_bytes()
    assert before.startswith(start)
    write_picture("fig9a", few, out, weights=[weights], device="cpu")
    assert out.read_bytes() == before


def test_mistakes_are_named_before_any_work(kinds_manifest: Manifest, tmp_path: Path) -> None:
    absent = tmp_path / "absent.safetensors"
    with pytest.raises(ConfigError, match="among fig1a, fig9a, fig9b, tsne, but got 'fig5'"):
        write_picture("fig5", kinds_manifest, tmp_path / "a.png", weights=[absent])
    with pytest.raises(ConfigError, match=r"ending in \.png, \.svg, \.pdf, but got 'a\.gif'"):
        write_picture("fig1a", kinds_manifest, tmp_path / "a.gif", weights=[absent])
    with pytest.raises(ConfigError, match="tsne shows one detector, but got 2 weights"):
        write_picture("tsne", kinds_manifest, tmp_path / "a.png", weights=[absent, absent])


def test_the_docs_hold_the_measured_figures() -> None:
    root = Path(__file__).resolve().parents[3]
    render = runpy.run_path(str(root / "benchmarks" / "heat_maps.py"))["render"]
    measured = json.loads((root / "benchmarks/results/heat_maps.json").read_text())
    page = (root / "docs" / "figures.md").read_text()
    for table in render(measured).split("\n\n"):
        assert table in page, "docs/figures.md is out of date: run benchmarks/heat_maps.py"
