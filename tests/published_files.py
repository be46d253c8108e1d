"""Names and shapes of files that authors of detectors published, filled with made-up numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

PARTS = ("weight", "bias")

D, HEADS, SIZE, PATCH = 32, 4, 64, 32
WIDTHS, CONVS, NOISE_WIDTHS, NOISE_CONVS = (4, 8), (2, 1), (4, 6), (1, 2)
DEPTHS = {"transformer": 2, "transformer_srm": 1}
SMALL_RELEASED: dict[str, Any] = {
    "released": True,
    "image_size": SIZE,
    "embed_dim": D,
    "num_heads": HEADS,
    "mlp_ratio": 2.0,
    "image": {"widths": WIDTHS, "convs": CONVS, "depth": DEPTHS["transformer"]},
    "noise": {
        "patch_size": PATCH,
        "widths": NOISE_WIDTHS,
        "convs": NOISE_CONVS,
        "depth": DEPTHS["transformer_srm"],
    },
    "text": {"depth": 2},
}


@dataclass(frozen=True)
class Sizes:
    d: int = D
    hidden: int = 2 * D
    image: tuple[tuple[int, ...], tuple[int, ...]] = (WIDTHS, CONVS)
    noise: tuple[tuple[int, ...], tuple[int, ...]] = (NOISE_WIDTHS, NOISE_CONVS)
    flat: tuple[int, int] = (8 * 16 * 16, 6 * 8 * 8)
    depths: tuple[int, int, int] = (2, 1, 2)


FULL_RELEASED = Sizes(
    d=512,
    hidden=2048,
    image=((32, 64, 128, 256, 512), (3, 3, 3, 4, 4)),
    noise=((32, 64), (3, 3)),
    flat=(25088, 50176),
    depths=(6, 3, 12),
)

Shapes = dict[str, tuple[int, ...]]


def convolution_shapes(part: str, widths: tuple[int, ...], convs: tuple[int, ...]) -> Shapes:
    shapes: Shapes = {}
    before, place = 3, 0
    for width, count in zip(widths, convs, strict=True):
        for _ in range(count):
            shapes[f"{part}.{place}.weight"] = (width, before, 3, 3)
            shapes[f"{part}.{place}.bias"] = (width,)
            for name in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"{part}.{place + 1}.{name}"] = (width,)
            shapes[f"{part}.{place + 1}.num_batches_tracked"] = ()
            before, place = width, place + 3
        place += 1
    return shapes


def block_shapes(start: str, d: int, hidden: int) -> Shapes:
    """A block of a vision transformer."""
    norms = {f"{start}.{half}.fn.norm.{kind}": (d,) for half in (0, 1) for kind in PARTS}
    return norms | {
        f"{start}.0.fn.fn.to_qkv.weight": (3 * d, d),
        f"{start}.0.fn.fn.to_out.weight": (d, d),
        f"{start}.0.fn.fn.to_out.bias": (d,),
        f"{start}.1.fn.fn.net.0.weight": (hidden, d),
        f"{start}.1.fn.fn.net.0.bias": (hidden,),
        f"{start}.1.fn.fn.net.2.weight": (d, hidden),
        f"{start}.1.fn.fn.net.2.bias": (d,),
    }


def text_block_shapes(start: str, d: int, hidden: int) -> Shapes:
    norms = {f"{start}.{name}.{kind}": (d,) for name in ("ln_1", "ln_2") for kind in PARTS}
    return norms | {
        f"{start}.attn.in_proj_weight": (3 * d, d),
        f"{start}.attn.in_proj_bias": (3 * d,),
        f"{start}.attn.out_proj.weight": (d, d),
        f"{start}.attn.out_proj.bias": (d,),
        f"{start}.mlp.c_fc.weight": (hidden, d),
        f"{start}.mlp.c_fc.bias": (hidden,),
        f"{start}.mlp.c_proj.weight": (d, hidden),
        f"{start}.mlp.c_proj.bias": (d,),
    }


def mfclip_shapes(sizes: Sizes = Sizes()) -> Shapes:
    """Names and shapes of the authors' file."""
    d, hidden = sizes.d, sizes.hidden
    shapes = convolution_shapes("visual.features", *sizes.image)
    shapes |= convolution_shapes("visual.features_SRM", *sizes.noise)
    for project, size in zip(("patch", "patchsrm"), sizes.flat, strict=True):
        shapes[f"visual.{project}_to_embedding.weight"] = (d, size)
        shapes[f"visual.{project}_to_embedding.bias"] = (d,)
    shapes |= {f"visual.{name}": (1, 1, d) for name in ("cls_token", "cls_token_rm")}
    shapes |= {f"visual.{name}": (24, 1, d) for name in ("pos_embedding", "pos_embedding_srm")}
    shapes["visual.SRM.kernel"] = (3, 3, 5, 5)
    for name, depth in zip(("transformer", "transformer_srm"), sizes.depths[:2], strict=True):
        for layer in range(depth):
            shapes |= block_shapes(f"visual.{name}.layers.{layer}", d, hidden)
    for layer in range(sizes.depths[2]):
        shapes |= text_block_shapes(f"transformer.resblocks.{layer}", d, hidden)
    return shapes | {
        "token_embedding.weight": (49408, d),
        "positional_embedding": (308, d),
        "text_projection": (d, d),
        "ln_final.weight": (d,),
        "ln_final.bias": (d,),
        "predictor.weight": (d, d),
        "predictor.bias": (d,),
        "mlp_head.0.weight": (d,),
        "mlp_head.0.bias": (d,),
        "mlp_head.1.weight": (2, d),
        "mlp_head.1.bias": (2,),
        "SPA": (24, 24),
        "logit_scale": (),
    }


def mfclip_tensors() -> dict[str, Tensor]:
    """MFCLIP's file with numbers by chance, in the sizes of `SMALL_RELEASED`."""
    random = torch.Generator().manual_seed(1)
    tensors = {}
    for name, shape in mfclip_shapes().items():
        values = torch.randn(shape, generator=random)
        if name.endswith("running_var"):
            values = values.square() + 0.5
        elif name.endswith("num_batches_tracked"):
            values = torch.tensor(3)
        elif name.endswith(("norm.weight", "0.weight")) and len(shape) == 1:
            values = 1 + 0.1 * values
        elif len(shape) >= 2 and "embedding" not in name and "token" not in name:
            values = values / values[0].numel() ** 0.5
        tensors[name] = values
    kernels = torch.zeros(3, 5, 5)
    ring = torch.tensor([[-1.0, 2, -1], [2, -4, 2], [-1, 2, -1]])
    kernels[0, 1:4, 1:4] = ring / 4
    kernels[1] = torch.tensor(
        [[-1, 2, -2, 2, -1], [2, -6, 8, -6, 2], [-2, 8, -12, 8, -2], [2, -6, 8, -6, 2],
         [-1, 2, -2, 2, -1]]
    ) / 12.0  # fmt: skip
    kernels[2, 2, 1:4] = torch.tensor([1.0, -2, 1]) / 2
    tensors["visual.SRM.kernel"] = torch.stack([torch.stack([kernel] * 3) for kernel in kernels])
    tensors["logit_scale"] = torch.tensor(2.0)
    return tensors


_ATTENTION = {
    "to_q.weight": "query.weight",
    "to_kv.weight": "key_value.weight",
    **{f"to_out.0.{part}": f"out.{part}" for part in PARTS},
}


def _block_names(stage: int) -> Iterator[tuple[str, str]]:
    """Names of a block of the EfficientNet; those of the first stage widen nothing."""
    convolutions = {"_expand_conv": "conv_pw", "_depthwise_conv": "conv_dw"}
    convolutions |= {"_project_conv": "conv_pwl"}
    norms = {"_bn0": "bn1", "_bn1": "bn2", "_bn2": "bn3"}
    if stage == 0:
        convolutions = {"_depthwise_conv": "conv_dw", "_project_conv": "conv_pw"}
        norms = {"_bn1": "bn1", "_bn2": "bn2"}
    for theirs, ours in convolutions.items():
        yield f"{theirs}.weight", f"{ours}.weight"
    for theirs, ours in norms.items():
        for part in (*PARTS, "running_mean", "running_var", "num_batches_tracked"):
            yield f"{theirs}.{part}", f"{ours}.{part}"
    for part in PARTS:
        yield f"_se_reduce.{part}", f"se.conv_reduce.{part}"
        yield f"_se_expand.{part}", f"se.conv_expand.{part}"


def efficientnet_names(stages: Sequence[int]) -> Iterator[tuple[str, str]]:
    """Names of the package efficientnet_pytorch without its classes, and timm's."""
    yield "_conv_stem.weight", "conv_stem.weight"
    yield "_conv_head.weight", "conv_head.weight"
    for part in (*PARTS, "running_mean", "running_var", "num_batches_tracked"):
        yield f"_bn0.{part}", f"bn1.{part}"
        yield f"_bn1.{part}", f"bn2.{part}"
    places = [(stage, place) for stage, count in enumerate(stages) for place in range(count)]
    for number, (stage, place) in enumerate(places):
        for theirs, ours in _block_names(stage):
            yield f"_blocks.{number}.{theirs}", f"blocks.{stage}.{place}.{ours}"


def _embedder_names() -> Iterator[tuple[str, str]]:
    yield "cls_token", "class_token"
    yield "pos_embedding", "positions"
    for part in PARTS:
        yield f"to_patch_embedding.1.{part}", f"project.{part}"
    for theirs, here in efficientnet_names((1, 2, 2, 3, 3, 4, 1)):
        yield f"efficient_net.{theirs}", f"network.{here}"


def _layer_names(side: int, ours: str, depth: int) -> Iterator[tuple[str, str]]:
    """Names of one branch of a layer: its encoder, then its two questions."""
    for part in PARTS:
        yield f"{side}.norm.{part}", f"{ours}.norm.{part}"
    pairs = [("0.norm", "norm1"), ("1.norm", "norm2"), ("1.fn.net.0", "mlp.0")]
    names = dict(_with_parts([*pairs, ("1.fn.net.3", "mlp.3")]))
    names |= {f"0.fn.{theirs}": f"attention.{here}" for theirs, here in _ATTENTION.items()}
    for block in range(depth):
        for theirs, here in names.items():
            yield f"{side}.layers.{block}.{theirs}", f"{ours}.blocks.{block}.{here}"
    pairs = [("project_in", "enter"), ("project_out", "leave"), ("fn.norm", "norm")]
    names = dict(_with_parts(pairs))
    names |= {f"fn.fn.{theirs}": f"attention.{here}" for theirs, here in _ATTENTION.items()}
    for turn in range(2):
        for theirs, here in names.items():
            yield f"2.layers.{turn}.{side}.{theirs}", f"{ours}_asks.{turn}.{here}"


def _with_parts(pairs: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    for theirs, ours in pairs:
        for part in PARTS:
            yield f"{theirs}.{part}", f"{ours}.{part}"


def cevit_names(layers: int) -> Iterator[tuple[str, str]]:
    """The authors' names, class by class as theirs are nested, and where each belongs here."""
    for side, (short, ours, depth) in enumerate((("sm", "small", 2), ("lg", "large", 3))):
        yield from _with_parts([(f"{short}_mlp_head.{n}", f"{ours}_head.{n}") for n in (0, 1)])
        for theirs, here in _embedder_names():
            yield f"{short}_image_embedder.{theirs}", f"{ours}.{here}"
        for layer in range(layers):
            for theirs, here in _layer_names(side, ours, depth):
                yield f"multi_scale_encoder.layers.{layer}.{theirs}", f"layers.{layer}.{here}"


def fatformer_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The state of a FatFormer under the names of the authors' classes."""
    out: dict[str, Tensor] = {}
    lga, tgi = "language_guided_alignment", "text_guided_interactor"
    adapter = {
        "down": "first_conv_layer", "up": "second_conv_layer", "scale": "freq_scale",
        "band_norm": "dwt_norm", "across.attention": "intra_band", "across.norm": "norm_intra",
        "within.attention": "inter_band", "within.norm": "norm_inter", "mlp.wide": "linear1",
        "mlp.narrow": "linear2", "mlp.norm": "norm3",
    }  # fmt: skip
    block = {
        "norm1": "ln_1", "norm2": "ln_2", "attention": "attn", "mlp.wide": "mlp.c_fc",
        "mlp.narrow": "mlp.c_proj",
    }  # fmt: skip
    decoder = {"attend.norm": "norm1", "mlp.norm": "norm2", "mlp.wide": "linear1"}
    decoder |= {"mlp.narrow": "linear2"}
    for name, value in model.state_dict().items():
        tower, _, rest = name.partition(".")
        if name == "context":
            there = f"{lga}.ctx"
        elif name == "logit_scale":
            there = name
        elif tower in ("enhancer", "interactor"):
            first = "attend.attention."
            if rest.startswith(first):
                whole = f"{lga}.patch_basaed_enhancer" if tower == "enhancer" else tgi
                there = f"{whole}.{rest.removeprefix(first)}"
            else:
                part = next(p for p in decoder if rest.startswith(p))
                start = f"{lga}." if tower == "enhancer" else ""
                there = start + rest.replace(part, decoder[part])
        elif rest.startswith("adapters."):
            _, number, inner = rest.split(".", 2)
            part = next(p for p in adapter if inner.startswith(p))
            inner = inner.replace(part, adapter[part])
            there = (
                f"clip_model.visual.transformer.resblocks.{number}.forgery_aware_adapter.{inner}"
            )
            if "conv_layer.weight" in inner:
                value = value[..., None]  # noqa: PLW2901
        else:
            if rest.startswith("transformer."):
                _, _, number, inner = rest.split(".", 3)
                part = next(p for p in block if inner.startswith(p))
                inner = inner.replace(part, block[part], 1)
                rest = f"transformer.resblocks.{number}.{inner}"
            there = f"clip_model.{'visual.' if tower == 'visual' else ''}{rest}"
        out[there.replace("in_proj.", "in_proj_")] = value
    twice = {
        f"image_encoder.{k.removeprefix('clip_model.visual.')}": v
        for k, v in out.items()
        if k.startswith("clip_model.visual.")
    }
    return out | twice
