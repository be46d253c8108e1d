"""The numbers in the figures that are drawn from the tables of results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mfclip.errors import ConfigError, InputError
from mfclip.experiment.curves import generator_means, prompt_levels, robustness
from mfclip.experiment.paper import paper_cells
from mfclip.experiment.results import read_results
from mfclip.experiment.store import Store

Storer = Callable[..., Store]

PROMPTS = """
title = "Prompts"
data = "made"
[[rows]]
name = "CLIP, 3 levels"
overrides.model = { name = "clip", spa.mode = "none", text.max_levels = 3 }
[[rows]]
name = "CLIP, 1 level"
overrides.model = { name = "clip", spa.mode = "none", text.max_levels = 1 }
[[train]]
name = "A"
[[test]]
name = "B"
"""


def test_fig6_is_the_mean_over_rows_beside_the_papers(storer: Storer) -> None:
    results = read_results(storer("table3_cross_diffusion", ["MFCLIP", "CViT"], train="DDPM"))
    (drawing,) = generator_means(results)
    ours, paper = drawing.panels[0].curves
    assert drawing.ticks == ("LatDiff", "CollDiff", "DiffFace", "Diffae")
    for place, test in enumerate(drawing.ticks):
        values = [e.figures["auc"].mean for e in results.entries if e.test == test]
        assert ours.y[place] == pytest.approx(100 * sum(values) / 2)
        printed = [
            c.value for c in paper_cells("III")
            if c.test == test and c.metric == "auc" and c.value is not None
        ]  # fmt: skip
        assert len(printed) in (38, 39, 40)  # ten rows, four training sets; few cannot be read
        assert paper.y[place] == pytest.approx(sum(printed) / len(printed))


def test_fig7_follows_each_kind_and_their_mean(storer: Storer, protocol_file: Path) -> None:
    text = protocol_file.read_text().replace('["GB"]', '["GB", "CC"]').replace("[5]", "[5, 1]")
    protocol_file.write_text(text.replace('units = ["frame", "video"]', ""))
    results = read_results(storer(protocol_file, ["MFCLIP"], train="A"))
    drawings = robustness(results)
    assert [drawing.name for drawing in drawings] == ["fig7-A-A", "fig7-A-B"]
    assert [panel.title for panel in drawings[1].panels] == ["GB", "CC", "mean"]
    auc = {e.test: 100 * e.figures["auc"].mean for e in results.entries}
    blurred, mean = drawings[1].panels[0].curves[0], drawings[1].panels[2].curves[0]
    assert blurred.x == mean.x == (0, 1, 5)
    assert blurred.y == pytest.approx((auc["B"], auc["B, GB 1"], auc["B, GB 5"]))
    assert mean.y[2] == pytest.approx((auc["B, GB 5"] + auc["B, CC 5"]) / 2)


def test_fig8_follows_the_number_of_levels(storer: Storer, tmp_path: Path) -> None:
    (tmp_path / "prompts.toml").write_text(PROMPTS)
    rows = ["CLIP, 3 levels", "CLIP, 1 level"]
    results = read_results(storer(tmp_path / "prompts.toml", rows, train="A"))
    (drawing,) = prompt_levels(results)
    (curve,) = drawing.panels[0].curves
    auc = {e.row: 100 * e.figures["auc"].mean for e in results.entries}
    assert (curve.label, curve.x) == ("CLIP", (1, 3))
    assert curve.y == pytest.approx((auc["CLIP, 1 level"], auc["CLIP, 3 levels"]))


def test_protocols_that_have_no_such_figure(storer: Storer) -> None:
    results = read_results(storer("table3_cross_diffusion", ["MFCLIP"], train="DDPM"))
    with pytest.raises(ConfigError, match="has no perturbations to draw; run fig7_robustness"):
        robustness(results)
    with pytest.raises(ConfigError, match="do not differ in their levels of prompts"):
        prompt_levels(results)
    with pytest.raises(InputError, match="nothing to draw"):
        generator_means(read_results(storer("table3_cross_diffusion", [], train="DDPM")))
