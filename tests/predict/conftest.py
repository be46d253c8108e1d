"""A small MFCLIP with random weights that knows four prompts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mfclip.card import Card
from mfclip.labels import Labels
from mfclip.model.build import create_model
from mfclip.model.mfclip import MFCLIP
from mfclip.predict.predictor import Predictor

KNOWN = (
    Labels(False, None, None, "FFHQ"),
    Labels(True, "face_swap", "gan", "inswapper_128"),
    Labels(True, "entire_face_synthesis", "gan", "StyleGAN1"),
    Labels(True, "attribute_manipulation", "graphics", "Liquify-warp"),
)


TINY = {
    "embed_dim": 32,
    "num_heads": 2,
    "image": {"widths": (4, 8, 8, 8, 16), "convs": (1, 1, 1, 1, 1), "depth": 1},
    "noise": {"widths": (4, 8), "convs": (1, 1), "depth": 1},
    "text": {"depth": 1},
}


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """The pictures are few: threads that wait for each other take longer than the work."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def model() -> MFCLIP:
    torch.manual_seed(3)
    model = create_model("mfclip-small", **TINY).eval()
    model.remember_prompts(KNOWN)
    torch.nn.init.normal_(model.head[-1].weight, std=1.0)  # scores that differ between pictures
    return model


@pytest.fixture(scope="session")
def predictor(model: MFCLIP) -> Predictor:
    return Predictor(model, Card(threshold=0.4, temperature=2.0, resize=240), device="cpu")


@pytest.fixture
def pictures() -> list[np.ndarray]:
    """Five pictures of different sizes and textures."""
    rng = np.random.default_rng(0)
    shapes = [(256, 256), (300, 240), (240, 330), (400, 400), (250, 300)]
    ramps = [np.linspace(0, 200, h)[:, None, None] for h, _ in shapes]
    noise = [rng.integers(0, 4 + 12 * i, (*shape, 3)) for i, shape in enumerate(shapes)]
    return [(r + n).clip(0, 255).astype(np.uint8) for r, n in zip(ramps, noise, strict=True)]
