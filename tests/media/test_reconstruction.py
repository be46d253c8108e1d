"""Reconstructions: a small network by hand in TensorFlow.js form, alignment, and damaged files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mfclip.errors import WeightsError
from mfclip.media.reconstruction import SuperResolution, reconstruct


def layer(kind: str, name: str, *sources: str, **config: object) -> dict[str, Any]:
    nodes = [[[source, 0, 0, {}] for source in sources]] if sources else []
    return {"class_name": kind, "config": {"name": name, **config}, "inbound_nodes": nodes}


def write(folder: Path, layers: list[dict[str, Any]], weights: dict[str, np.ndarray]) -> Path:
    names = [
        {"name": name, "shape": list(array.shape), "dtype": "float32"}
        for name, array in weights.items()
    ]
    document = {
        "modelTopology": {"model_config": {"config": {"layers": layers}}},
        "weightsManifest": [{"paths": ["group1-shard1of1.bin"], "weights": names}],
    }
    (folder / "model.json").write_text(json.dumps(document))
    content = b"".join(array.astype("<f4").tobytes() for array in weights.values())
    (folder / "group1-shard1of1.bin").write_bytes(content)
    return folder


def doubling(folder: Path, size: int = 2) -> Path:
    """Enlarge by repeating pixels, then average 3 x 3 with a learned kernel; colours change."""
    kernel = np.zeros((1, 1, 3, 3), np.float32)
    kernel[0, 0] = [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.5]]  # in, out
    layers = [
        layer("InputLayer", "LR"),
        layer("UpSampling2D", "up", "LR", size=[size, size], interpolation="nearest"),
        layer("Conv2D", "SR", "up", activation="linear"),
    ]
    bias = np.array([0.0, 0.0, 0.1], np.float32)
    return write(folder, layers, {"SR/kernel": kernel, "SR/bias": bias})


def test_a_network_by_hand(tmp_path: Path) -> None:
    network = SuperResolution(doubling(tmp_path))
    assert network.scale == 2
    image = torch.tensor([0.2, 0.6, 0.8]).view(1, 3, 1, 1)
    out = network(image)
    assert out.shape == (1, 3, 2, 2)
    torch.testing.assert_close(out[0, :, 1, 1], torch.tensor([0.6, 0.2, 0.5]))


def test_layers_join_and_add(tmp_path: Path) -> None:
    kernel = np.ones((1, 1, 6, 3), np.float32)
    layers = [
        layer("InputLayer", "LR"),
        layer("Activation", "relu", "LR", activation="relu"),
        layer("Concatenate", "both", "LR", "relu", axis=3),
        layer("Conv2D", "mix", "both", activation="linear"),
        layer("Add", "sum", "mix", "LR"),
        layer("UpSampling2D", "up", "sum", size=[2, 2], interpolation="nearest"),
    ]
    network = SuperResolution(write(tmp_path, layers, {"mix/kernel": kernel}))
    image = torch.tensor([0.5, -1.0, 0.25]).view(1, 3, 1, 1)
    # all six inputs summed: (.5 - 1 + .25) + (.5 + .25) = .5, added to each channel
    expected = torch.tensor([1.0, -0.5, 0.75])
    torch.testing.assert_close(network(image)[0, :, 0, 0], expected)


def test_a_reconstruction_keeps_size_and_place(tmp_path: Path) -> None:
    y, x = np.mgrid[:61, :50]
    image = np.stack([4 * y, 5 * x, 2 * (x + y)], 2).clip(0, 255).astype(np.uint8)
    out = reconstruct(SuperResolution(doubling(tmp_path)), image)
    assert out.shape == image.shape
    swapped = image[..., [1, 0]].astype(float)  # the network exchanges red and green
    assert np.abs(out[4:-4, 4:-4, :2] - swapped[4:-4, 4:-4]).mean() < 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("weightsManifest"), "holds no usable"),
        (lambda d: d["weightsManifest"][0]["weights"][0].update(dtype="uint8"), "type uint8"),
        (lambda d: d["weightsManifest"][0]["weights"][0].update(shape=[9, 9, 3, 3]), "no usable"),
        (lambda d: d["weightsManifest"][0]["weights"][0].update(name="other"), "SR.*missing"),
        (
            lambda d: d["modelTopology"]["model_config"]["config"]["layers"][1].update(
                class_name="Lambda"
            ),
            "'Lambda'",
        ),
    ],
)
def test_files_that_are_no_such_network(tmp_path: Path, change: Any, message: str) -> None:
    path = doubling(tmp_path) / "model.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(WeightsError, match=message):
        SuperResolution(tmp_path)


def test_an_absent_folder_and_a_network_that_enlarges_nothing(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="holds no usable"):
        SuperResolution(tmp_path / "gone")
    with pytest.raises(WeightsError, match="enlarges"):
        SuperResolution(doubling(tmp_path, size=1))
