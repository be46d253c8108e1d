"""``mfclip release`` writes a card that every prediction and report then quotes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mfclip.cli.app import app
from mfclip.config import build_config
from mfclip.train.loop import train


@pytest.mark.slow
def test_words_of_the_card_reach_prediction_and_page(
    tiny_run: dict[str, Any], made_faces: Path, tmp_path: Path
) -> None:
    train(build_config(tiny_run), tmp_path / "run", device="cpu")
    words = {"--trained-on": "48 made pictures", "--licence": "do as you like", "--limits": "tiny"}
    said = [part for pair in words.items() for part in pair]
    weights = tmp_path / "new" / "tiny.safetensors"
    command = ["release", tmp_path / "run", "--manifest", made_faces, "--out", weights]
    done = CliRunner().invoke(
        app, [*map(str, command), "--splits", " test ", "--max-error", "0.2", *said]
    )
    assert done.exit_code == 0, done.exception
    assert "test: " in done.stdout
    assert "Real faces called forged" in done.stdout
    assert "at most 20% of real faces" in done.stdout
    assert sorted(path.name for path in weights.parent.iterdir()) == [
        "tiny-test.json",
        "tiny-test.md",
        "tiny.safetensors",
    ]
    auc = json.loads((weights.parent / "tiny-test.json").read_text())["rows"][0]["figures"]["auc"]

    page = tmp_path / "page.html"
    command = ["predict", made_faces.parent / "0.png", "--whole", "--weights", weights]
    done = CliRunner().invoke(app, [*map(str, command), "--json", "-", "--report", str(page)])
    assert done.exit_code == 0, done.exception
    model = json.loads(done.stdout)["model"]
    assert [model[key] for key in ("trained_on", "licence", "limits")] == list(words.values())
    assert model["verdict"]["max_error"] == 0.2
    assert model["metrics"]["test"]["auc"]["value"] == auc
    shown = page.read_text().lower()  # the report makes sentences of what the card says
    assert all(text.lower() in shown for text in (*words.values(), f"{100 * auc:.0f}%"))
