"""The authors' network against a plain restatement of it: einsum, loops, scikit-image's GLCM.

The restatement reads tensors under the authors' names. Facts of names, order and scale are those of
their files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from skimage.feature import graycomatrix, graycoprops
from torch import Tensor
from torch.nn import functional

from helpers import KINDS, assert_close, fill, pictures, tiny_batch
from mfclip.card import Card
from mfclip.config import build_config
from mfclip.detectors import build_detector, load_detector, save_detector
from mfclip.engines.graph import VisionGraph
from mfclip.errors import ConfigError, WeightsError
from mfclip.model.build import create_model
from mfclip.model.ftg import prompts
from mfclip.model.released import ReleasedMFCLIP, select_by_truncated_grey
from mfclip.model.tokenizer import tokenize
from mfclip.weights import load_tensors
from oracles import parameter_count
from published_files import (
    CONVS,
    DEPTHS,
    FULL_RELEASED,
    HEADS,
    NOISE_CONVS,
    PATCH,
    SIZE,
    SMALL_RELEASED,
    D,
    mfclip_shapes,
    mfclip_tensors,
)


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    """A file of the authors' kind, with numbers by chance."""
    return mfclip_tensors()


def attend(x: Tensor, weight: Tensor, bias: Tensor | None, scale: float, causal: bool) -> Tensor:
    """Attention of one sequence (n, d), head by head."""
    n, d = x.shape
    projected = x @ weight.T + (0 if bias is None else bias)
    q, k, v = projected.view(n, 3, HEADS, d // HEADS).unbind(1)
    scores = torch.einsum("ihc,jhc->hij", q, k) * scale
    if causal:
        later = torch.arange(n)[:, None] < torch.arange(n)[None]
        scores = scores.masked_fill(later, -torch.inf)
    return torch.einsum("hij,jhc->ihc", scores.softmax(-1), v).reshape(n, d)


def norm(x: Tensor, tensors: dict[str, Tensor], name: str) -> Tensor:
    mean, spread = x.mean(-1, keepdim=True), x.var(-1, correction=0, keepdim=True)
    return (x - mean) / (spread + 1e-5).sqrt() * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]


def linear(x: Tensor, tensors: dict[str, Tensor], name: str) -> Tensor:
    return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]


def convolve(x: Tensor, t: dict[str, Tensor], name: str, convs: tuple[int, ...]) -> Tensor:
    """One picture (c, h, w) through the stages."""
    x, place = x[None], 0
    for count in convs:
        for _ in range(count):
            x = functional.conv2d(
                x, t[f"{name}.{place}.weight"], t[f"{name}.{place}.bias"], padding=1
            )
            stats = (t[f"{name}.{place + 1}.running_mean"], t[f"{name}.{place + 1}.running_var"])
            x = functional.batch_norm(
                x, *stats, t[f"{name}.{place + 1}.weight"], t[f"{name}.{place + 1}.bias"]
            ).relu()
            place += 3
        x = functional.max_pool2d(x, 2)
        place += 1
    return x[0]


def token(x: Tensor, t: dict[str, Tensor], names: tuple[str, str, str, str], slot: int) -> Tensor:
    """A map (c, h, w) to the class token behind the transformer."""
    project, start, positions, transformer = (f"visual.{name}" for name in names)
    flat = torch.stack([x[c, i, j] for i in range(x.shape[1]) for j in range(x.shape[2])
                        for c in range(x.shape[0])])  # fmt: skip
    tokens = torch.stack([t[start][0, 0], linear(flat, t, project)]) + t[positions][slot]
    for layer in range(DEPTHS[names[3]]):
        here = f"{transformer}.layers.{layer}"
        normed = norm(tokens, t, f"{here}.0.fn.norm")
        mixed = attend(normed, t[f"{here}.0.fn.fn.to_qkv.weight"], None, D**-0.5, causal=False)
        tokens = tokens + linear(mixed, t, f"{here}.0.fn.fn.to_out")
        wide = linear(norm(tokens, t, f"{here}.1.fn.norm"), t, f"{here}.1.fn.fn.net.0")
        wide = 0.5 * wide * (1 + torch.erf(wide / 2**0.5))
        tokens = tokens + linear(wide, t, f"{here}.1.fn.fn.net.2")
    return tokens[0]


def richest(image: Tensor) -> int:
    grey = 0.2989 * image[0] + 0.587 * image[1] + 0.114 * image[2]
    levels = (grey * 255).numpy().astype(np.uint8)
    values = []
    for top in range(0, SIZE, PATCH):
        for left in range(0, SIZE, PATCH):
            tile = levels[top : top + PATCH, left : left + PATCH]
            matrix = graycomatrix(tile, [1], [0], levels=256, symmetric=True, normed=True)
            values.append(float(graycoprops(matrix, "homogeneity")[0, 0]))
    return int(np.argmin(values))


def vision(image: Tensor, t: dict[str, Tensor], slot: int) -> Tensor:
    """One picture (3, h, w) in [0, 1]."""
    swapped = torch.stack([torch.stack([plane[:, j] for j in range(SIZE)]) for plane in image])
    features = convolve(swapped * 255, t, "visual.features", CONVS)
    names = ("patch_to_embedding", "cls_token", "pos_embedding", "transformer")
    of_image = token(features, t, names, slot)
    top, left = divmod(richest(image), SIZE // PATCH)
    patch = image[:, top * PATCH : (top + 1) * PATCH, left * PATCH : (left + 1) * PATCH]
    noise = functional.conv2d(patch[None], t["visual.SRM.kernel"], padding=2)[0].clamp(-3, 3)
    features = convolve(noise, t, "visual.features_SRM", NOISE_CONVS)
    names = ("patchsrm_to_embedding", "cls_token_rm", "pos_embedding_srm", "transformer_srm")
    return of_image + token(features, t, names, slot)


def language(ids: Tensor, t: dict[str, Tensor]) -> Tensor:
    """Four levels of 77 ids, all of them through the transformer."""
    flat = torch.zeros(4 * 77, dtype=torch.long)
    flat[: ids.numel()] = ids.flatten()
    tokens = t["token_embedding.weight"][flat] + t["positional_embedding"]
    for layer in range(2):
        here = f"transformer.resblocks.{layer}"
        normed = norm(tokens, t, f"{here}.ln_1")
        weight, bias = t[f"{here}.attn.in_proj_weight"], t[f"{here}.attn.in_proj_bias"]
        mixed = attend(normed, weight, bias, (D // HEADS) ** -0.5, causal=True)
        tokens = tokens + linear(mixed, t, f"{here}.attn.out_proj")
        wide = linear(norm(tokens, t, f"{here}.ln_2"), t, f"{here}.mlp.c_fc")
        tokens = tokens + linear(wide / (1 + (-1.702 * wide).exp()), t, f"{here}.mlp.c_proj")
    end = int(ids[0].argmax())
    return norm(tokens, t, "ln_final")[end] @ t["text_projection"]


@pytest.fixture(scope="module")
def model(published: dict[str, Tensor]) -> ReleasedMFCLIP:
    built = create_model("mfclip", **SMALL_RELEASED)
    assert isinstance(built, ReleasedMFCLIP)
    named = {f"module.{name}": value for name, value in published.items()}
    built.load_state_dict(built.from_published(named))
    return built.eval()


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_vision_and_verdict_are_the_authors(
    model: ReleasedMFCLIP, published: dict[str, Tensor]
) -> None:
    images = pictures(3, SIZE)
    expected = torch.stack([vision(image, published, i) for i, image in enumerate(images)])
    found = model.vision_encoder(images)
    close(found, expected)
    assert expected.std(0).mean() > 0.1  # the pictures differ
    unit = expected / expected.norm(dim=1, keepdim=True)
    head = linear(norm(unit, published, "mlp_head.0"), published, "mlp_head.1")
    close(model(images), head)
    close(model.encode_image(images), unit)


@torch.no_grad()
def test_language_is_the_authors(model: ReleasedMFCLIP, published: dict[str, Tensor]) -> None:
    texts = [prompts(kind, 4) for kind in KINDS]
    for count in (4, 1):  # level 1 is all that it hears
        ids = tokenize([text[:count] for text in texts])
        expected = torch.stack([language(one, published) for one in ids])
        close(model.encode_text(ids), functional.normalize(expected, dim=1))
    assert len({tuple(row.tolist()) for row in model.encode_text(ids)}) == 2  # real and fake


@torch.no_grad()
def test_the_loss_weighs_pairs_by_place_with_one_target_a_row(
    model: ReleasedMFCLIP, published: dict[str, Tensor]
) -> None:
    batch = tiny_batch(5, SIZE)
    images = torch.stack([vision(x, published, i) for i, x in enumerate(batch.images)])
    images = functional.normalize(images, dim=1)
    ids = tokenize([prompts(label, 4) for label in batch.labels])
    texts = torch.stack([language(one, published) for one in ids])
    cosine = images @ functional.normalize(texts, dim=1).T
    logits = published["SPA"][:5, :5].sigmoid() * published["logit_scale"].exp() * cosine
    rows, columns = (-x.log_softmax(1).diagonal().mean() for x in (logits, logits.T))
    terms = model.loss(batch)
    close(terms["contrastive"], (rows + columns) / 2)
    guess = (linear(images, published, "predictor") / 0.5).log_softmax(1)
    true = (texts / 0.5).softmax(1)
    close(terms["kl"], (true * (true.log() - guess)).sum(1).mean())


@torch.no_grad()
def test_positions_belong_to_the_place_and_repeat_after_24(
    model: ReleasedMFCLIP, published: dict[str, Tensor]
) -> None:
    same = pictures(1, SIZE).expand(26, -1, -1, -1)
    found = model.vision_encoder(same)
    close(found[24:], found[:2])
    assert (found[0] - found[1]).abs().max() > 0.1
    close(found[23], vision(same[0], published, 23))


def test_the_full_size_takes_a_file_of_the_authors_shapes() -> None:
    with torch.device("meta"):
        built = create_model("mfclip", released=True)
        tensors = {n: torch.empty(shape) for n, shape in mfclip_shapes(FULL_RELEASED).items()}
    assert isinstance(built, ReleasedMFCLIP)
    found = {name: value.shape for name, value in built.from_published(tensors).items()}
    assert found == {name: value.shape for name, value in built.state_dict().items()}
    assert parameter_count(built) + 3 * 3 * 5 * 5 == 141_656_868  # theirs counts SRM's filters
    plain = create_model("mfclip", spa={"mode": "batch"}, text={"depth": 12})
    # no biases on q, k, v (9 blocks), no norm at the end (2), a position a place and not a token
    changed = -9 * 3 * 512 - 2 * 2 * 512 + 2 * (24 - 2) * 512
    assert parameter_count(built) == parameter_count(plain) + changed


def test_a_file_with_more_text_blocks_is_not_cut_short(published: dict[str, Tensor]) -> None:
    shallow = create_model("mfclip", **{**SMALL_RELEASED, "text": {"depth": 1}})
    assert isinstance(shallow, ReleasedMFCLIP)
    with pytest.raises(WeightsError, match=r"blocks\.1\..*: not part of this model"):
        load_tensors(shallow, shallow.from_published(published), "the authors' file")


def test_settings_say_what_is_built_and_can_be_changed() -> None:
    model = build_config({"model": {"released": True}}).model
    assert (model.text.depth, model.noise.pixel_scale) == (12, 1.0)
    assert (model.spa.mode, model.spa.targets) == ("batch", "one-hot")
    assert build_config({"model": model.model_dump(mode="json")}).model == model
    paper = build_config({"model": {"released": True, "text": {"depth": 6}}}).model
    assert paper.text.depth == 6
    assert paper.noise.pixel_scale == 1.0
    assert build_config({"model": {"released": False}}).model.text.depth == 6


def test_text_starts_as_clips_does() -> None:
    torch.manual_seed(0)
    encoder = create_model("mfclip", **{**SMALL_RELEASED, "embed_dim": 128}).language_encoder
    assert encoder is not None
    block = encoder.transformer.blocks[1]
    expected = {  # 128 wide, 2 blocks
        "attention.in_proj": 0.0884,
        "attention.out_proj": 0.0442,
        "mlp.wide": 0.0625,
        "mlp.narrow": 0.0442,
    }
    for name, deviation in expected.items():
        assert block.get_submodule(name).weight.std().item() == pytest.approx(deviation, rel=0.03)
    assert not block.get_submodule("attention.in_proj").bias.any()


def test_even_surfaces_lose_a_level_of_grey() -> None:
    level = torch.tensor([0.0, 1, 100, 255]).view(4, 1, 1, 1) / 255
    image = level.expand(-1, 3, 4, 4).clone()
    image[:, :, 2, 3] = 0  # one dark pixel: the last of the four patches is the richest
    patches, index = select_by_truncated_grey(image, 2)
    assert index.tolist() == [0, 0, 3, 3]  # of a level of 1 nothing is left
    assert torch.equal(patches[3], image[3, :, 2:, 2:])


def test_weights_load_through_the_settings(
    published: dict[str, Tensor], model: ReleasedMFCLIP, tmp_path: Path
) -> None:
    path = tmp_path / "authors.safetensors"
    safetensors.torch.save_file(published, path)
    tree = {"model": {"name": "mfclip", **SMALL_RELEASED, "pretrained": str(path)}}
    settings = build_config(tree).model
    started = build_detector(settings).eval()
    images = pictures(2, SIZE)
    assert_close(started(images), model(images))
    ours = tmp_path / "ours.safetensors"
    save_detector(started, settings, ours, card=Card(), vision_only=True)
    loaded, _ = load_detector(ours)
    assert_close(loaded(images), model(images))
    alone = build_config({"model": {**tree["model"], "use_text": False}}).model
    assert_close(build_detector(alone).eval()(images), model(images))
    plain = build_config({"model": {**tree["model"], "released": False}}).model
    with pytest.raises(WeightsError):
        build_detector(plain)


@torch.no_grad()
def test_engines_trace_it(model: ReleasedMFCLIP) -> None:
    graph, images = VisionGraph(model), pictures(3, SIZE)
    outputs = dict(zip(graph.outputs, graph(images), strict=True))
    close(outputs["logits"], model(images))
    close(outputs["features"], model.encode_image(images))
    assert outputs["patch_index"].tolist() == [richest(image) for image in images]


def test_it_trains() -> None:
    built = fill(create_model("mfclip", **SMALL_RELEASED)).train()
    terms = built.loss(tiny_batch(6, SIZE))
    sum(terms.values()).backward()
    for name, parameter in built.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize(
    "change",
    [{"shared_projection": True}, {"image": {**SMALL_RELEASED["image"], "high_pass_start": 0.5}}],
)
def test_what_the_authors_did_not_have_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"model\.released builds the authors' network"):
        create_model("mfclip", **{**SMALL_RELEASED, **change})
