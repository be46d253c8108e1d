r"""Ways to reconstruct a picture, aligned to the pixel: what a generator keeps and what it loses.

A reconstruction of a real photograph carries a generator's traces and nothing else that is new, so
the two halves of the pair can be compared (TwinD, B-Free); and a picture that a diffusion model
made itself comes back nearly unchanged, a photograph does not (DIRE, Wang et al., ICCV 2023,
arXiv 2303.09295; written from its description and checked against its published code's numbers).

Pictures are RGB in [0, 1]. Networks of hundreds of millions of weights are not part of mfclip: they
are loaded from a folder that the user names, by the package ``diffusers``.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from mfclip.errors import ConfigError, WeightsError, require
from mfclip.media.reconstruction import SuperResolution
from mfclip.media.reconstruction import reconstruct as enlarge_again
from mfclip.weights import read_tensors, write_tensors

NoiseModel: TypeAlias = Callable[[Tensor, int], Tensor]
"""Noisy pictures in [-1, 1] and the time step, 0 to 999 -> the noise in them."""

TRAINED_STEPS = 1000
"""Time steps that ADM and most diffusion networks were trained with."""

FORMAT = "mfclip-autoencoder-1"


@dataclass(frozen=True, slots=True)
class Reconstructor:
    """One way to reconstruct pictures.

    Attributes:
        name: with its strength and the hash of its weights; part of every file's key.
        family: level 3 of a picture that it made.
        run: maps a batch of equally large pictures to their reconstructions.
        size: side in pixels of the only pictures it takes; None takes any.
    """

    name: str
    family: str
    run: Callable[[Float[Tensor, "b 3 h w"]], Float[Tensor, "b 3 h w"]]
    size: int | None = None


def jpeg(quality: int) -> Reconstructor:
    """Compress and decompress; the mildest of all, and what any picture may have met anyway.

    Args:
        quality: 1 to 100.
    """
    if not 1 <= quality <= 100:  # noqa: PLR2004
        raise ConfigError(f"expected a JPEG quality of 1 to 100, but got {quality}")

    def run(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        return _each(images, lambda image: recode(image, quality))

    return Reconstructor(f"jpeg-{quality}", "graphics", run)


def resize(factor: float) -> Reconstructor:
    """Shrink and enlarge by `factor` (above 1), bicubic: the resampling trace of every decoder."""
    if not factor > 1:
        raise ConfigError(f"expected a factor above 1 to shrink by, but got {factor:g}")

    def shrink(image: Image.Image) -> Image.Image:
        small = tuple(max(1, round(side / factor)) for side in image.size)
        down = image.resize((small[0], small[1]), Image.Resampling.BICUBIC)
        return down.resize(image.size, Image.Resampling.BICUBIC)

    def run(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        return _each(images, shrink)

    return Reconstructor(f"resize-{factor:g}", "graphics", run)


def recode(image: Image.Image, quality: int) -> Image.Image:
    """Compress as JPEG, colour at full resolution, and read it again."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling=0)
    return Image.open(buffer, formats=("JPEG",)).convert("RGB")


def to_pixels(images: Float[Tensor, "b 3 h w"]) -> np.ndarray:
    """Round to RGB uint8 in [0, 255], channels last."""
    pixels = (images.clamp(0, 1) * 255).round().to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).cpu().numpy()


def dire_map(
    images: Float[Tensor, "b 3 h w"], reconstructions: Float[Tensor, "b 3 h w"]
) -> np.ndarray:
    """Return what was lost, |x - x'|, as RGB uint8 in [0, 255], channels last; DIRE truncates.

    Example:
        >>> dire_map(torch.full((1, 3, 1, 1), 0.5), torch.full((1, 3, 1, 1), 0.25)).max()
        np.uint8(63)
    """
    lost = ((images - reconstructions).abs() * 255).clamp(0, 255).to(torch.uint8)
    return lost.permute(0, 2, 3, 1).cpu().numpy()


def linear_alpha_bars(steps: int = TRAINED_STEPS) -> np.ndarray:
    """Share of the signal's variance left after each step of the linear schedule (DDPM, ADM)."""
    scale = 1000 / steps
    return np.asarray(np.cumprod(1 - np.linspace(scale * 1e-4, scale * 0.02, steps)))


def ddim_steps(count: int) -> list[int]:
    """Return `count` evenly spaced time steps from 0 on: 0, 50, ..., 950 for 20.

    Raises:
        ConfigError: no spacing gives exactly so many.
    """
    for spacing in range(1, TRAINED_STEPS):
        if len(range(0, TRAINED_STEPS, spacing)) == count:
            return list(range(0, TRAINED_STEPS, spacing))
    raise ConfigError(
        f"expected a number of steps that divides {TRAINED_STEPS} evenly, such as 10, 20, 25 or "
        f"50, but got {count}"
    )


def invert_ddim(
    images: Float[Tensor, "b 3 h w"], noise: NoiseModel, steps: Sequence[int]
) -> Float[Tensor, "b 3 h w"]:
    """Walk from pictures to the latent that a diffusion model would have drawn them from.

    Deterministic DDIM, with the estimated picture clipped. As in DIRE's code, the picture itself
    stands at the first step, which is not free of noise (share of the signal .9999), and the last
    step ends at pure noise.

    Args:
        images: pixel values in [-1, 1].
        noise: the network.
        steps: rising time steps, from `ddim_steps`.
    """
    bars = [float(linear_alpha_bars()[step]) for step in steps]
    x = images
    for step, bar, after in zip(steps, bars, [*bars[1:], 0.0], strict=True):
        x = _move(x, noise(x, step), bar, after)
    return x


def sample_ddim(
    latents: Float[Tensor, "b 3 h w"], noise: NoiseModel, steps: Sequence[int]
) -> Float[Tensor, "b 3 h w"]:
    """Walk back from latents to pictures in [-1, 1], with eta 0; see `invert_ddim`."""
    bars = [float(linear_alpha_bars()[step]) for step in steps]
    x = latents
    for step, bar, before in zip(
        reversed(steps), reversed(bars), reversed([1.0, *bars[:-1]]), strict=True
    ):
        x = _move(x, noise(x, step), bar, before)
    return x


def _move(x: Tensor, predicted: Tensor, bar: float, target: float) -> Tensor:
    """One step of DDIM, from the share of signal `bar` to `target`."""
    signal, spread = math.sqrt(bar), math.sqrt(1 / bar - 1)
    picture = (x / signal - spread * predicted).clamp(-1, 1)
    # the noise that agrees with the clipped picture, not the one predicted
    noise = (x / signal - picture) / spread
    return picture * math.sqrt(target) + noise * math.sqrt(1 - target)


def diffusion(folder: Path, steps: int, device: str = "cpu") -> Reconstructor:
    """Invert and sample with an unconditional diffusion network in pixel space (ADM and its like).

    Args:
        folder: a ``UNet2DModel`` as ``diffusers`` saves it, with safetensors weights.
        steps: calls each way; DIRE takes 20.
        device: where it runs.

    Raises:
        MissingExtraError: ``diffusers`` is not installed.
        WeightsError: no such network, or one that predicts something else than noise.
    """
    spaced = ddim_steps(steps)
    network = _load_network("UNet2DModel", folder).to(device)
    channels = int(network.config.out_channels)
    if int(network.config.in_channels) != 3 or channels not in {3, 6}:  # noqa: PLR2004
        raise WeightsError(
            f"{folder} is no network for RGB pictures: expected 3 channels in and 3 or 6 out, but "
            f"got {network.config.in_channels} and {channels}"
        )

    def noise(x: Tensor, step: int) -> Tensor:
        # with six channels the last three are the learned variance, of no use to DDIM
        return cast("Tensor", network(x, step).sample)[:, :3]

    def run(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        x = images.to(device) * 2 - 1
        with torch.inference_mode():
            made: Tensor = sample_ddim(invert_ddim(x, noise, spaced), noise, spaced)
            return (made + 1).cpu() / 2

    name = f"diffusion-{steps}-{_fingerprint(network)}"
    return Reconstructor(name, "diffusion", run, int(network.config.sample_size))


def vae(folder: Path, device: str = "cpu") -> Reconstructor:
    """Encode and decode with an image autoencoder (``AutoencoderKL``) of ``diffusers``.

    Args:
        folder: as ``diffusers`` saves it, with safetensors weights.
        device: where it runs.

    Raises:
        MissingExtraError: ``diffusers`` is not installed.
        WeightsError: no such network.
    """
    network = _load_network("AutoencoderKL", folder).to(device)
    stride = 2 ** (len(network.config.block_out_channels) - 1)

    def run(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        def decode(x: Tensor) -> Tensor:
            latent = network.encode(x.to(device) * 2 - 1).latent_dist.mode()
            return cast("Tensor", network.decode(latent).sample + 1).cpu() / 2

        with torch.inference_mode():
            return _padded(images, stride, decode)

    return Reconstructor(f"vae-{_fingerprint(network)}", "autoencoder", run)


def super_resolution(folder: Path) -> Reconstructor:
    """Shrink, and let a super-resolution network enlarge again; see `SuperResolution`."""
    network = SuperResolution(folder)

    def run(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        made = [enlarge_again(network, pixels) for pixels in to_pixels(images)]
        return torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2).float() / 255

    return Reconstructor(f"superres-{_fingerprint(network)}", "autoencoder", run)


class Autoencoder(nn.Module):
    """A small convolutional autoencoder, for who has no other: trained on the user's real faces.

    Eight times narrower in each direction and `width` channels at the neck, so that detail is lost
    as a large one loses it.

    Args:
        width: channels of the first stage.
    """

    STRIDE = 8

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width)
        down: list[nn.Module] = []
        before = 3
        for after in widths:
            down += [nn.Conv2d(before, after, 4, 2, 1), nn.SiLU()]
            before = after
        up: list[nn.Module] = []
        for after in (*reversed(widths[:-1]), width):
            up += [nn.Upsample(scale_factor=2), nn.Conv2d(before, after, 3, 1, 1), nn.SiLU()]
            before = after
        self.width = width
        self.encode = nn.Sequential(*down, nn.Conv2d(widths[-1], width, 1))
        self.decode = nn.Sequential(
            nn.Conv2d(width, widths[-1], 1), *up, nn.Conv2d(before, 3, 3, 1, 1)
        )

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Reconstruct pictures whose sides are multiples of `STRIDE`."""
        pixels: Tensor = self.decode(self.encode(images * 2 - 1))
        return (pixels + 1) / 2


def fit_autoencoder(
    batches: Iterable[Float[Tensor, "b 3 h w"]], *, width: int = 32, seed: int = 0
) -> Autoencoder:
    """Train an autoencoder to give back what it is shown (mean absolute difference, Adam 1e-3).

    Args:
        batches: real faces, as often as they shall be seen.
        width: see `Autoencoder`.
        seed: of the first weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Autoencoder(width)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for images in batches:
        loss = (network(images) - images).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def save_autoencoder(network: Autoencoder, path: Path) -> None:
    """Write the weights of an autoencoder."""
    metadata = {"format": FORMAT, "width": str(network.width)}
    write_tensors(network.state_dict(), path, metadata)


def autoencoder(path: Path, device: str = "cpu") -> Reconstructor:
    """Reconstruct with the weights that `save_autoencoder` wrote.

    Raises:
        WeightsError: they are absent, damaged, or of something else.
    """
    tensors, metadata = read_tensors(path)
    if metadata.get("format") != FORMAT:
        message = f"{path} holds no autoencoder: expected format {FORMAT!r}, but got "
        raise WeightsError(message + repr(metadata.get("format")))
    network = Autoencoder(int(metadata["width"]))
    network.load_state_dict(tensors)
    network.eval().to(device)

    def run(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        with torch.inference_mode():
            return _padded(images, Autoencoder.STRIDE, lambda x: network(x.to(device)).cpu())

    return Reconstructor(f"autoencoder-{_fingerprint(network)}", "autoencoder", run)


def _each(
    images: Float[Tensor, "b 3 h w"], change: Callable[[Image.Image], Image.Image]
) -> Float[Tensor, "b 3 h w"]:
    changed = [np.asarray(change(Image.fromarray(pixels))) for pixels in to_pixels(images)]
    return torch.from_numpy(np.stack(changed)).permute(0, 3, 1, 2).float() / 255


def _padded(
    images: Float[Tensor, "b 3 h w"], stride: int, run: Callable[[Tensor], Tensor]
) -> Float[Tensor, "b 3 h w"]:
    """Repeat the border up to whole strides, and cut it off again."""
    height, width = images.shape[-2:]
    wider = nn.functional.pad(images, (0, -width % stride, 0, -height % stride), mode="replicate")
    return run(wider)[..., :height, :width]


def _load_network(kind: str, folder: Path) -> Any:
    """Load a network of ``diffusers`` from the disk; code and pickles of a folder never run."""
    package = require("diffusers", extra="diffusion")
    try:
        network = getattr(package, kind).from_pretrained(
            str(folder), local_files_only=True, use_safetensors=True
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(
            f"{folder} holds no {kind} with safetensors weights ({reason}); expected a folder "
            "as diffusers' save_pretrained writes it"
        ) from None
    return network.eval()


def _fingerprint(network: nn.Module) -> str:
    """Short hash of all weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()[:12]
