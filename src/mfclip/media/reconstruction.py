"""Faces passed through a small neural network: super-resolution of a smaller copy.

A reconstruction shows the traces of a decoder and is aligned to its photograph to the pixel, so
that a detector which learns from both meets nothing else that differs (see `mix_reconstruction`).

The networks are the ESRGAN family of the npm packages ``@upscalerjs/esrgan-slim``, ``-medium`` and
``-thick`` (MIT licence): a folder with ``model.json`` and one weight file, as TensorFlow.js saves
Keras models. Only numbers and names are read; no code of the file is executed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from mfclip.errors import WeightsError

MAX_SCALE = 8
"""Largest factor of the published networks."""


class SuperResolution(nn.Module):
    """A convolutional Keras graph that enlarges images by a whole factor.

    Args:
        folder: holds ``model.json`` and the weight file that it names.

    Attributes:
        scale: how many times larger the result is.

    Raises:
        WeightsError: files are absent, damaged, or use a layer that super-resolution needs not.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        try:
            document = json.loads((folder / "model.json").read_text(encoding="utf-8"))
            self._layers = document["modelTopology"]["model_config"]["config"]["layers"]
            weights = _read_weights(folder, document["weightsManifest"])
        except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise WeightsError(f"{folder} holds no usable TensorFlow.js network: {error}") from None
        self.convolutions = nn.ModuleDict()
        for layer in self._layers:
            name = layer["config"]["name"]
            if layer["class_name"] == "Conv2D":
                if f"{name}/kernel" not in weights:
                    raise WeightsError(f"{folder}: the weights of layer {name!r} are missing")
                kernel = weights[f"{name}/kernel"].permute(3, 2, 0, 1)  # h w in out -> out in h w
                conv = nn.Conv2d(kernel.shape[1], kernel.shape[0], kernel.shape[2], padding="same")
                conv.weight = nn.Parameter(kernel.contiguous(), requires_grad=False)
                bias = weights.get(f"{name}/bias", torch.zeros(len(kernel)))
                conv.bias = nn.Parameter(bias, requires_grad=False)
                self.convolutions[name] = conv
        self.scale = self._find_scale()

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 p q"]:
        """Enlarge RGB images with pixel values in [0, 1]; the result may lie outside by a little.

        Raises:
            WeightsError: the network holds a layer of another kind.
        """
        values: dict[str, Tensor] = {}
        out = images
        for layer in self._layers:
            config, kind = layer["config"], layer["class_name"]
            nodes = layer["inbound_nodes"]
            given = [values[source[0]] for source in nodes[0]] if nodes else [images]
            out = self._compute(kind, config, given)
            values[config["name"]] = out
        return out

    def _compute(self, kind: str, config: dict[str, Any], given: list[Tensor]) -> Tensor:
        out = given[0]
        match kind:
            case "InputLayer":
                pass
            case "Conv2D":
                out = self.convolutions[config["name"]](out)
                out = functional.relu(out) if config.get("activation") == "relu" else out
            case "Activation" if config.get("activation") == "relu":
                out = functional.relu(out)
            case "Concatenate":
                out = torch.cat(given, 1)
            case "Add":
                out = torch.stack(given).sum(0)
            case "UpSampling2D" if config["interpolation"] in {"nearest", "bilinear"}:
                mode, (factor, _) = config["interpolation"], config["size"]
                out = functional.interpolate(out, scale_factor=factor, mode=mode)
            case _:
                raise WeightsError(f"layers of kind {kind!r} in a network are not supported")
        return out

    @torch.no_grad()
    def _find_scale(self) -> int:
        side = 8
        scale = self(torch.zeros(1, 3, side, side)).shape[-1] // side
        if not 1 < scale <= MAX_SCALE:
            raise WeightsError(f"expected a network that enlarges up to {MAX_SCALE}, got {scale}")
        return int(scale)


def _read_weights(folder: Path, manifest: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Read little-endian float32 arrays in the order in which the manifest names them."""
    weights = {}
    for group in manifest:
        content = b"".join((folder / Path(name).name).read_bytes() for name in group["paths"])
        start = 0
        for entry in group["weights"]:
            if entry["dtype"] != "float32" or "quantization" in entry:
                raise ValueError(f"weights of type {entry['dtype']} are not supported")
            count = int(np.prod(entry["shape"], dtype=np.int64))
            values = np.frombuffer(content, "<f4", count, start).reshape(entry["shape"])
            weights[entry["name"]] = torch.from_numpy(values.copy())
            start += 4 * count
    return weights


@torch.inference_mode()
def reconstruct(
    network: SuperResolution, image: UInt8[np.ndarray, "h w 3"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Shrink an image by the network's factor and let the network enlarge it again.

    Args:
        network: see `SuperResolution`.
        image: RGB.

    Returns:
        An image of the same size, aligned to the pixel.
    """
    height, width = image.shape[:2]
    small = Image.fromarray(image).resize(
        (max(1, round(width / network.scale)), max(1, round(height / network.scale))),
        Image.Resampling.BICUBIC,
    )
    pixels = torch.from_numpy(np.array(small)).permute(2, 0, 1)[None].float() / 255
    large = (network(pixels)[0].permute(1, 2, 0) * 255).round().clamp(0, 255)
    out = Image.fromarray(large.to(torch.uint8).numpy())
    if out.size != (width, height):
        out = out.resize((width, height), Image.Resampling.BICUBIC)
    return np.array(out)
