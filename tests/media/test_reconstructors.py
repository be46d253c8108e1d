"""Reconstruction: DIRE's numbers, steps by hand, sizes kept, networks from a folder."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mfclip.errors import ConfigError, WeightsError
from mfclip.media import reconstructors
from mfclip.media.reconstructors import (
    Autoencoder,
    ddim_steps,
    dire_map,
    fit_autoencoder,
    invert_ddim,
    linear_alpha_bars,
    sample_ddim,
    save_autoencoder,
)


def waves(count: int, side: int) -> Tensor:
    """The picture of the written oracles, in [0, 1]."""
    ranges = [torch.arange(n, dtype=torch.float64) for n in (count, 3, side, side)]
    b, c, y, x = torch.meshgrid(*ranges, indexing="ij")
    return (0.5 + 0.5 * torch.sin(0.1 * (x + 2 * y + 3 * c + 5 * b) + 0.001 * x * y)).float()


def test_ddim_gives_the_numbers_of_dires_own_code() -> None:
    # computed with the authors' code (guided-diffusion, ddim20) and a "network" eps(x, t) = 0.1 x
    images, calls = waves(2, 16) * 2 - 1, []

    def noise(x: Tensor, step: int) -> Tensor:
        calls.append(step)
        return 0.1 * x

    latent = invert_ddim(images, noise, ddim_steps(20))
    made = sample_ddim(latent, noise, ddim_steps(20))
    lost = (images - made).abs()
    found = [latent.abs().mean(), made.mean(), lost.mean(), lost.max()]
    assert [float(each) for each in found] == pytest.approx(
        [0.0237967, 0.1218570, 0.1919144, 0.5396265], abs=1e-6
    )
    pixels = dire_map((images + 1) / 2, (made + 1) / 2)
    assert pixels.mean() == pytest.approx(23.897888, abs=1e-3)
    assert calls == [*range(0, 1000, 50), *range(950, -50, -50)]


def test_a_network_that_knows_the_noise_brings_the_picture_back() -> None:
    # of a latent with no noise the clipped picture is exact at every step
    images = torch.zeros(1, 3, 4, 4)
    back = sample_ddim(
        invert_ddim(images, lambda x, _: torch.zeros_like(x), ddim_steps(10)),
        lambda x, _: torch.zeros_like(x),
        ddim_steps(10),
    )
    assert torch.equal(back, images)


def test_the_schedule_is_the_linear_one_of_ddpm() -> None:
    bars = linear_alpha_bars()
    assert bars[0] == pytest.approx(1 - 1e-4)
    assert bars[1] == pytest.approx((1 - 1e-4) * (1 - 1e-4 - (0.02 - 1e-4) / 999))
    assert bars[-1] < 1e-4


def test_steps_that_no_spacing_gives_are_refused() -> None:
    assert ddim_steps(4) == [0, 250, 500, 750]
    with pytest.raises(ConfigError, match="divides 1000 evenly, such as 10, 20"):
        ddim_steps(499)


def test_the_map_is_truncated_and_clamped() -> None:
    images = torch.tensor([0.5, 1.0, 0.0]).reshape(1, 3, 1, 1)
    made = torch.tensor([0.5 - 1.9 / 255, -1.0, 0.0]).reshape(1, 3, 1, 1)
    assert dire_map(images, made).reshape(-1).tolist() == [1, 255, 0]


@pytest.mark.parametrize(
    "build",
    [lambda: reconstructors.jpeg(60), lambda: reconstructors.resize(2.0)],
    ids=["jpeg", "resize"],
)
def test_simple_ways_keep_the_size_and_stay_close(build: object) -> None:
    made = build().run(waves(2, 33)[:, :, :20])  # type: ignore[operator]
    assert made.shape == (2, 3, 20, 33)
    lost = (made - waves(2, 33)[:, :, :20]).abs()
    assert 0 < float(lost.mean()) < 0.1


def test_stronger_compression_loses_more() -> None:
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    lost = [
        float((reconstructors.jpeg(quality).run(images) - images).abs().mean())
        for quality in (95, 60, 20)
    ]
    assert lost == sorted(lost)


@pytest.mark.parametrize(
    "wrong", [lambda: reconstructors.jpeg(0), lambda: reconstructors.resize(1.0)]
)
def test_impossible_strengths_are_refused(wrong: object) -> None:
    with pytest.raises(ConfigError):
        wrong()  # type: ignore[operator]


def test_an_autoencoder_learns_saves_and_takes_any_size(tmp_path: Path) -> None:
    images = waves(4, 32)
    first = fit_autoencoder([images], width=8)
    network = fit_autoencoder([images] * 60, width=8)
    with torch.inference_mode():
        before, after = ((each(images) - images).abs().mean() for each in (first, network))
    assert float(after) < 0.7 * float(before)
    save_autoencoder(network, tmp_path / "a.safetensors")
    loaded = reconstructors.autoencoder(tmp_path / "a.safetensors")
    with torch.inference_mode():
        assert torch.equal(loaded.run(images), network(images))
    assert loaded.run(waves(1, 30)).shape == (1, 3, 30, 30)
    assert (loaded.family, loaded.size) == ("autoencoder", None)


def test_weights_of_something_else_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no weights at"):
        reconstructors.autoencoder(tmp_path / "absent.safetensors")
    reconstructors.write_tensors({"a": torch.zeros(1)}, tmp_path / "b.safetensors", {})
    with pytest.raises(WeightsError, match="holds no autoencoder: expected format"):
        reconstructors.autoencoder(tmp_path / "b.safetensors")


def test_equal_weights_have_equal_names(tmp_path: Path) -> None:
    torch.manual_seed(0)
    one, other = Autoencoder(4), Autoencoder(4)
    for number, network in enumerate((one, one, other)):
        save_autoencoder(network, tmp_path / f"{number}.safetensors")
    names = [reconstructors.autoencoder(tmp_path / f"{n}.safetensors").name for n in range(3)]
    assert names[0] == names[1] != names[2]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_networks_of_diffusers_are_loaded_from_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        importlib.import_module("torchvision")
    except RuntimeError:  # built for another torch; diffusers needs none of it here
        monkeypatch.setattr("diffusers.utils.import_utils._torchvision_available", False)
    diffusers = importlib.import_module("diffusers")
    torch.manual_seed(0)
    sizes = {"sample_size": 16, "block_out_channels": (8, 8), "norm_num_groups": 4}
    blocks = {
        "down_block_types": ("DownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "UpBlock2D"),
    }
    network = diffusers.UNet2DModel(out_channels=6, **sizes, **blocks).eval()
    network.save_pretrained(tmp_path / "unet")
    found = reconstructors.diffusion(tmp_path / "unet", steps=4)
    assert (found.size, found.family) == (16, "diffusion")
    images = waves(2, 16)

    def noise(x: Tensor, step: int) -> Tensor:
        return network(x, step).sample[:, :3]

    with torch.inference_mode():
        x = images * 2 - 1
        expected = sample_ddim(invert_ddim(x, noise, ddim_steps(4)), noise, ddim_steps(4))
    assert torch.allclose(found.run(images), (expected + 1) / 2, atol=1e-6)

    coder = diffusers.AutoencoderKL(
        block_out_channels=(8, 8),
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    )
    coder.save_pretrained(tmp_path / "vae")
    made = reconstructors.vae(tmp_path / "vae").run(waves(1, 17))
    assert made.shape == (1, 3, 17, 17)
    with pytest.raises(WeightsError, match="holds no UNet2DModel with safetensors weights"):
        reconstructors.diffusion(tmp_path / "absent", steps=4)
    assert np.isfinite(made.numpy()).all()
