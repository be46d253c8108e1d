"""Exported files: what is written comes back, what is damaged is refused."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch

from helpers import KINDS, pictures, tiny_model
from mfclip.card import Card
from mfclip.engines import load_engine
from mfclip.engines.convert import to_onnx
from mfclip.engines.exported import Exported, read_exported, write_exported
from mfclip.engines.graph import VisionGraph
from mfclip.errors import ConfigError, WeightsError
from mfclip.runtime.openvino import openvino_core

CARD = Card(threshold=0.4, temperature=1.5, licence='a "quoted" <line>\nand another & more')


@pytest.fixture
def exports(tmp_path: Path) -> dict[str, Path]:
    model = tiny_model()
    model.remember_prompts(KINDS)
    graph = VisionGraph(model, 1.5)
    content = to_onnx(graph)
    paths = {"onnx": tmp_path / "m.onnx", "openvino": tmp_path / "m.xml"}
    write_exported(Exported("onnx", "fp32", graph.facts, CARD, content), paths["onnx"])
    read = openvino_core().read_model(content)
    write_exported(Exported("openvino", "fp32", graph.facts, CARD, read), paths["openvino"])
    return paths


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_card_prompts_and_graph_come_back(exports: dict[str, Path], name: str) -> None:
    engine, card = load_engine(exports[name])
    assert card == CARD
    assert engine.name == name
    model = tiny_model().eval()
    with torch.no_grad():
        expected = model(pictures(3))
    torch.testing.assert_close(engine.judge(pictures(3)).logits, expected, atol=1e-4, rtol=0)
    prompts = engine.facts.prompts
    assert prompts is not None
    assert set(prompts.labels) == set(KINDS)
    model.remember_prompts(KINDS)
    torch.testing.assert_close(prompts.features, model.prompt_features)


def test_the_graph_alone_gives_the_probability_of_fake(exports: dict[str, Path]) -> None:
    import onnxruntime  # noqa: PLC0415

    session = onnxruntime.InferenceSession(exports["onnx"])
    (scores,) = session.run(["fake_probability"], {"images": pictures(2).numpy()})
    with torch.no_grad():
        logits = tiny_model().eval()(pictures(2)) / CARD.temperature
    torch.testing.assert_close(torch.from_numpy(scores), logits.softmax(1)[:, 1])


def test_files_cut_short_are_refused(exports: dict[str, Path]) -> None:
    for name in ("m.onnx", "m.bin", "m.xml"):
        path = exports["onnx"].with_name(name)
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        loaded = path if name != "m.bin" else exports["openvino"]
        with pytest.raises(WeightsError, match=r"damaged|was not exported by mfclip"):
            load_engine(loaded)
        path.write_bytes(whole)
        load_engine(loaded)


def test_weights_of_another_export_and_missing_ones_are_refused(exports: dict[str, Path]) -> None:
    weights = exports["openvino"].with_suffix(".bin")
    content = bytearray(weights.read_bytes())
    content[100] ^= 1
    weights.write_bytes(content)
    with pytest.raises(WeightsError, match="belongs to another export"):
        read_exported(exports["openvino"])
    weights.unlink()
    with pytest.raises(WeightsError, match=r"needs m\.bin beside it"):
        read_exported(exports["openvino"])


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    model = onnx.load_model_from_string(to_onnx(VisionGraph(tiny_model())))
    onnx.save(model, tmp_path / "foreign.onnx")
    (tmp_path / "foreign.xml").write_text("<net></net>")
    (tmp_path / "foreign.bin").write_bytes(b"")
    for name in ("foreign.onnx", "foreign.xml"):
        with pytest.raises(WeightsError, match="was not exported by"):
            load_engine(tmp_path / name)


def test_an_exported_file_belongs_to_one_engine_and_precision(exports: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="was exported for engine onnx"):
        load_engine(exports["onnx"], "torch")
    with pytest.raises(ConfigError, match="was exported in fp32"):
        load_engine(exports["openvino"], precision="bf16")
