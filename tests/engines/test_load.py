"""Every engine says what PyTorch says."""

from __future__ import annotations

import pytest
import torch

from helpers import pictures, tiny_model
from mfclip.engines.load import build_engine

CPU = torch.device("cpu")
TOLERANCE = 1e-4


def _names(*names: str) -> list[str]:
    return list(names)


@pytest.mark.parametrize("patch_size", [16, 32, 8])
@pytest.mark.parametrize("name", ["torch", "onnx", "openvino"])
def test_engines_equal_the_model(name: str, patch_size: int) -> None:
    model = tiny_model(noise={"patch_size": patch_size}).eval()
    engine = build_engine(model, name, "fp32", CPU)
    for count in (1, 2, 5):
        images = pictures(count)
        with torch.no_grad():
            features = model.encode_image(images)
            logits = model.classify(features)
        judged = engine.judge(images)
        torch.testing.assert_close(judged.logits, logits, atol=TOLERANCE, rtol=0)
        torch.testing.assert_close(judged.features, features, atol=TOLERANCE, rtol=0)
        assert judged.patch_index is not None
        assert judged.patch_index.tolist() == model.vision_encoder.noise(images)[1].tolist()
