"""Published checkpoints: made-up files under the authors' names give the authors' scores."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional
from typer.testing import CliRunner

from helpers import SIZES, assert_close, fill, pictures
from mfclip.baselines.cevit import CrossEfficientViT
from mfclip.baselines.clip import build_towers
from mfclip.baselines.recce import Recce
from mfclip.cli.app import app
from mfclip.config import EvaluateSettings, build_config
from mfclip.data.manifest import read_manifest
from mfclip.detectors import build_random, load_detector
from mfclip.errors import ConfigError, WeightsError
from mfclip.evaluate.calibration import CalibratedDetector, fit_temperature
from mfclip.evaluate.release import calibrate
from mfclip.evaluate.score import score_manifest
from mfclip.layers.vision_packages import import_vision
from mfclip.published import ORIGINS, import_weights
from mfclip.report.wording import Words
from oracles import fill_by_shape, wave
from published_files import (
    SMALL_RELEASED,
    cevit_names,
    efficientnet_names,
    fatformer_tensors,
    mfclip_tensors,
)

Judge = Callable[[Tensor], Tensor]
IMAGENET = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 3, 1, 1)
SMALL_CVIT = [
    "model.image_size=32",
    "model.embed_dim=16",
    "model.num_heads=2",
    "model.image.widths=[4, 8]",
    "model.image.convs=[1, 2]",
    "model.image.depth=2",
]


class TheirCViT(nn.Module):
    """CViT as its authors nest it, small: one class token, one token, no norm at the end."""

    def __init__(self, places: tuple[int, int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, width, pool in ((3, 4, True), (4, 8, False), (8, 8, True)):
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] * pool
        self.features = nn.Sequential(*layers)
        self.pos_embedding = nn.Parameter(torch.zeros(*places, 16))
        self.patch_to_embedding = nn.Linear(8 * 8 * 8, 16)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 16))
        self.transformer = nn.Module()
        self.transformer.layers = nn.ModuleList()
        for _ in range(2):
            attention = {"to_qkv": nn.Linear(16, 48, bias=False), "to_out": nn.Linear(16, 16)}
            net = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
            halves = (nn.ModuleDict(attention), nn.ModuleDict({"net": net}))
            block = nn.ModuleList()
            for half in halves:
                block.append(
                    nn.ModuleDict({"fn": nn.ModuleDict({"norm": nn.LayerNorm(16), "fn": half})})
                )
            self.transformer.layers.append(block)
        self.mlp_head = nn.Sequential(nn.Linear(16, 2048), nn.ReLU(), nn.Linear(2048, 2))

    def forward(self, image: Tensor) -> Tensor:
        """One picture (3, 32, 32) in [0, 1]; fake first."""
        x = self.features(((image - IMAGENET[0]) / IMAGENET[1])[None])[0]
        token = self.patch_to_embedding(x.permute(1, 2, 0).flatten())
        x = torch.stack([self.cls_token[0, 0], token]) + self.pos_embedding[0, :2]
        for attend, think in self.transformer.layers:
            q, k, v = attend["fn"]["fn"]["to_qkv"](attend["fn"]["norm"](x)).split(16, dim=-1)
            heads = []
            for head in (slice(0, 8), slice(8, 16)):
                weights = (q[:, head] @ k[:, head].T * 16**-0.5).softmax(-1)
                heads.append(weights @ v[:, head])
            x = x + attend["fn"]["fn"]["to_out"](torch.cat(heads, -1))
            x = x + think["fn"]["fn"]["net"](think["fn"]["norm"](x))
        out: Tensor = self.mlp_head(x[0])
        return out


def cvit(places: tuple[int, int]) -> tuple[Any, list[str], Judge]:
    theirs = fill(TheirCViT(places)).eval()
    tree = {"state_dict": theirs.state_dict()}
    return tree, SMALL_CVIT, lambda x: torch.stack([theirs(one) for one in x]).flip(1)


def bench_xception() -> tuple[Any, list[str], Judge]:
    theirs = fill(import_vision("timm.models.xception").Xception(num_classes=2)).eval()
    tree = {}
    for name, value in theirs.state_dict().items():
        tree[f"backbone.{name.replace('fc.', 'last_linear.')}"] = value
    tree["backbone.adjust_channel.0.bias"] = torch.zeros(512)
    return tree, ["model.image_size=64"], lambda x: theirs(2 * x - 1)


def xception() -> tuple[Any, list[str], Judge]:
    """A whole module was pickled; its last layer stands behind a dropout."""
    theirs = fill(import_vision("timm.models.xception").Xception(num_classes=2)).eval()
    tree = {
        f"model.{k.replace('fc.', 'last_linear.1.')}": v for k, v in theirs.state_dict().items()
    }
    return tree, ["model.image_size=64"], lambda x: theirs(2 * x - 1)


RECCE = {"finer.0.gate": "va_gated_b.0", "finer.1.gate": "va_gated_c.0",
         "centre": "va_embedding", "finer.0.embed": "vb_embedding",
         "finer.1.embed": "vc_embedding",
         "finer.0.weigh": "reweight_ab.0", "finer.1.weigh": "reweight_ac.0",
         "project": "reproject"}  # fmt: skip
SMALL_RECCE = ["model.image_size=64", "model.options.width=0.02"]


def recce() -> tuple[dict[str, Tensor], list[str], Judge]:
    theirs = fill(Recce(width=0.02)).eval()
    tree = {k: v for k, v in theirs.state_dict().items() if "reasoning" not in k}
    tree = {k.replace("n.gate", "n.gated").replace("n.values", "n.h"): v for k, v in tree.items()}
    for name, value in theirs.reasoning.state_dict().items():
        here = next(part for part in RECCE if name.startswith(part))
        tree[f"reasoning.{RECCE[here]}{name.removeprefix(here)}"] = value
    tree["encoder.fc.weight"] = torch.ones(1000, 3)  # a layer that nothing uses
    return tree, SMALL_RECCE, theirs


def bench_recce() -> tuple[Any, list[str], Judge]:
    tree, overrides, theirs = recce()
    tree = {f"model.{k}": v for k, v in tree.items() if not k.startswith("encoder.fc.")}
    for part in ("weight", "bias"):  # two columns
        one = tree[f"model.fc.{part}"]
        tree[f"model.fc.{part}"] = torch.cat([torch.ones_like(one), 1 + one])
    tree["backbone.conv1.weight"] = torch.zeros(1)  # a network that nothing uses
    return tree, overrides, theirs


def cevit() -> tuple[Any, list[str], Judge]:
    sizes: dict[str, Any] = {"width": 8, "depth": 2, "hidden": 16}
    theirs = fill(CrossEfficientViT(image_size=32, **sizes)).eval()
    own, tree = theirs.state_dict(), {}
    for name, here in cevit_names(layers=2):
        tree[f"module.{name}"] = own.get(here, torch.ones(7))
    overrides = [f"model.options.{name}={value}" for name, value in sizes.items()]

    def judge(x: Tensor) -> Tensor:  # they saw blue first
        return theirs(x.flip(1))

    return tree, ["model.image_size=32", *overrides], judge


def fatformer() -> tuple[Any, list[str], Judge]:
    settings = build_config({"model": {"name": "fatformer", **SIZES["fatformer"]}}).model
    torch.manual_seed(0)
    theirs = build_random(settings).eval()
    # the number of adapters is read off the file
    options = {k: v for k, v in settings.options.items() if k != "adapters"}
    overrides = [f"model.options.{name}={value}" for name, value in options.items()]
    return {"model": fatformer_tensors(theirs)}, ["model.image_size=32", *overrides], theirs


def clip_tower(tensors: dict[str, Tensor], x: Tensor, heads: int) -> Tensor:
    """CLIP's image tower as transformers writes it: one picture, head by head."""
    start = "feature_extractor.vision_model."
    t = {name.removeprefix(start): value for name, value in tensors.items()}
    patches = functional.conv2d(x[None], t["embeddings.patch_embedding.weight"], stride=8)[0]
    x = torch.cat([t["embeddings.class_embedding"][None], patches.flatten(1).T])
    x = x + t["embeddings.position_embedding.weight"]
    x = norm(x, t, "pre_layrnorm")
    for layer in range(2):
        here = f"encoder.layers.{layer}"
        h, mixed = norm(x, t, f"{here}.layer_norm1"), []
        q, k, v = (linear(h, t, f"{here}.self_attn.{part}_proj") for part in "qkv")
        for head in range(heads):
            part = slice(head * 64 // heads, (head + 1) * 64 // heads)
            scores = q[:, part] @ k[:, part].T / (64 / heads) ** 0.5
            mixed.append(scores.softmax(-1) @ v[:, part])
        x = x + linear(torch.cat(mixed, -1), t, f"{here}.self_attn.out_proj")
        h = linear(norm(x, t, f"{here}.layer_norm2"), t, f"{here}.mlp.fc1")
        x = x + linear(h * (1.702 * h).sigmoid(), t, f"{here}.mlp.fc2")
    return norm(x[:1], t, "post_layernorm")[0]


def norm(x: Tensor, t: dict[str, Tensor], name: str) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], t[f"{name}.weight"], t[f"{name}.bias"], 1e-5)


def linear(x: Tensor, t: dict[str, Tensor], name: str) -> Tensor:
    return x @ t[f"{name}.weight"].T + t[f"{name}.bias"]


SMALL_GEND = ["model.image_size=32", "model.options.patch_size=8", "model.options.width=64",
              "model.options.depth=2", "model.options.num_heads=2"]  # fmt: skip
OPENAI = torch.tensor(ORIGINS["gend"].scaling).view(2, 3, 1, 1)


def gend() -> tuple[Any, list[str], Judge]:
    start, d = "feature_extractor.vision_model.", 64
    shapes = {f"{start}embeddings.class_embedding": (d,),
              f"{start}embeddings.patch_embedding.weight": (d, 3, 8, 8),
              f"{start}embeddings.position_embedding.weight": (17, d),
              "feature_extractor.visual_projection.weight": (48, d),
              "model.linear.weight": (2, d), "model.linear.bias": (2,)}  # fmt: skip
    blocks = [f"encoder.layers.{layer}" for layer in range(2)]
    for block in blocks:
        for part in "qkv":
            shapes[f"{start}{block}.self_attn.{part}_proj.weight"] = (d, d)
        shapes[f"{start}{block}.self_attn.out_proj.weight"] = (d, d)
        shapes[f"{start}{block}.mlp.fc1.weight"] = (4 * d, d)
        shapes[f"{start}{block}.mlp.fc2.weight"] = (d, 4 * d)
    matrices = [k for k in shapes if ".encoder." in k]
    shapes |= {k.replace("weight", "bias"): (shapes[k][0],) for k in matrices}
    norms = [f"{block}.layer_norm{n}" for block in blocks for n in (1, 2)]
    for name in (*norms, "pre_layrnorm", "post_layernorm"):
        shapes |= {f"{start}{name}.{part}": (d,) for part in ("weight", "bias")}
    tensors = {k: wave(*shape).float() for k, shape in shapes.items()}
    tensors = {k: v / v[0].numel() ** 0.5 if v.ndim > 1 else v for k, v in tensors.items()}
    tensors[f"{start}embeddings.position_ids"] = torch.arange(17)[None]

    def judge(x: Tensor) -> Tensor:
        pixels = (x - OPENAI[0]) / OPENAI[1]
        features = torch.stack([clip_tower(tensors, one, heads=2) for one in pixels])
        return linear(functional.normalize(features, dim=1), tensors, "model.linear")

    return tensors, SMALL_GEND, judge


def gend_pe() -> tuple[Any, list[str], Judge]:
    """Theirs keeps the places of 48 px and draws those of other sizes while it runs."""
    theirs = import_vision("timm").create_model(
        "vit_pe_core_tiny_patch16_384", num_classes=0, dynamic_img_size=True,
        img_size=48, patch_size=8, embed_dim=64, depth=2, num_heads=2, ref_feat_shape=(24, 24),
    )  # fmt: skip
    theirs = fill_by_shape(theirs).eval()
    tree = {f"feature_extractor.backbone.{k}": v for k, v in theirs.state_dict().items()}
    tree |= {"model.linear.weight": wave(2, 64).float(), "model.linear.bias": torch.ones(2)}

    def judge(x: Tensor) -> Tensor:
        return linear(functional.normalize(theirs(2 * x - 1), dim=1), tree, "model.linear")

    return tree, SMALL_GEND, judge


def sbi() -> tuple[Any, list[str], Judge]:
    theirs = import_vision("timm").create_model("tf_efficientnet_b4", num_classes=2)
    own = fill(theirs).eval().state_dict()
    names = efficientnet_names([len(stage) for stage in theirs.blocks])
    tree = {f"net.{name}": own[here] for name, here in names}
    tree |= {f"net._fc.{part}": own[f"classifier.{part}"] for part in ("weight", "bias")}
    assert len(tree) == len(own)
    return {"model": tree, "optimizer": {}, "epoch": 1}, ["model.image_size=64"], theirs


def mfclip() -> tuple[Any, list[str], Judge]:
    """The network itself is compared with a restatement in model/test_released.py."""
    tensors = mfclip_tensors()
    theirs: Any = build_config({"model": {"name": "mfclip", **SMALL_RELEASED}}).model
    overrides = [
        f"model.{key}={value}"
        for key, value in {
            "image_size": 64, "embed_dim": 32, "num_heads": 4, "mlp_ratio": 2.0,
            "image.widths": [4, 8], "image.convs": [2, 1], "image.depth": 2,
            "noise.patch_size": 32, "noise.widths": [4, 6], "noise.convs": [1, 2],
            "noise.depth": 1,
        }.items()
    ]  # fmt: skip
    detector: Any = build_random(theirs)
    detector.load_state_dict(detector.from_published(tensors))
    return {f"module.{k}": v for k, v in tensors.items()}, overrides, detector.eval()


def resnet() -> tuple[Any, list[str], Judge]:
    theirs = fill(import_vision("timm").create_model("resnet50", num_classes=1)).eval()

    def judge(x: Tensor) -> Tensor:
        z = theirs((x - IMAGENET[0]) / IMAGENET[1])[:, 0]
        return torch.stack([torch.zeros_like(z), z], 1)

    return {"model": theirs.state_dict(), "optimizer": {}}, ["model.image_size=64"], judge


FILES: dict[str, Callable[[], tuple[Any, list[str], Judge]]] = {
    "mfclip": mfclip,
    "xception": xception,
    "recce": recce,
    "cevit": cevit,
    "fatformer": fatformer,
    "gend": gend,
    "gend-pe": gend_pe,
    "sbi": sbi,
    "cvit": lambda: cvit((1, 5)),
    "cvit-first": lambda: cvit((7, 1)),
    "xception-deepfakebench": bench_xception,
    "recce-deepfakebench": bench_recce,
    "dire": resnet,
}


@pytest.mark.parametrize("name", FILES)
@torch.no_grad()
def test_imported_weights_give_the_authors_scores(name: str, tmp_path: Path) -> None:
    tree, overrides, judge = FILES[name]()
    path, out = tmp_path / "theirs.pth", tmp_path / "out" / "ours.safetensors"
    torch.save(tree, path)
    published = name.removesuffix("-first")
    import_weights(published, path, out, overrides=overrides)
    detector, card = load_detector(out)
    images = pictures(2, detector.image_size)
    expected = judge(images)
    assert_close(
        detector(images).softmax(1), expected.softmax(1), factor=10
    )  # a file with two columns may shift both
    assert (expected.softmax(1)[0] - 0.5).abs().max() > 0.005
    origin = ORIGINS[published]
    assert card.licence == origin.licence
    assert str(card.limits).startswith("Nobody measured")
    assert card.resize == max(origin.resize, detector.image_size)
    facts = card.to_json()["imported"]
    assert (facts["source"], facts["file"]) == (origin.source, "theirs.pth")
    assert facts["fake_column"] == origin.fake_column
    assert len(facts["sha256"]) == 64
    assert "was not measured" in Words().bands(card.bands("detected"), origin=True)


def test_there_is_a_made_up_file_of_every_published_network() -> None:
    by_themselves = {"freqnet", "uia_vit", "uia_vit-deepfakebench", "clip"}  # the tests below
    assert {name.removesuffix("-first") for name in FILES} | by_themselves == set(ORIGINS)


def test_freqnets_names_are_known(tmp_path: Path) -> None:
    """Under their names, values must arrive where they belong."""
    own = load_names("freqnet")
    theirs = {}
    for name, shape in own.items():
        theirs[freqnet_name(name)] = torch.full(shape, float(len(theirs))) if shape else 0
    assert "layer1.0.downsample.1.running_var" in theirs
    assert "layer2.3.conv3.weight" in theirs
    path, out = tmp_path / "model_epoch.pth", tmp_path / "ours.safetensors"
    torch.save({k: torch.as_tensor(v) for k, v in theirs.items()}, path)
    import_weights("freqnet", path, out)
    found = load_detector(out)[0].state_dict()
    for name in own:
        assert found[name].flatten()[0] == torch.as_tensor(theirs[freqnet_name(name)]).flatten()[0]


def load_names(name: str) -> dict[str, torch.Size]:
    from mfclip.config import build_config  # noqa: PLC0415
    from mfclip.detectors import build_detector  # noqa: PLC0415

    with torch.device("meta"):
        detector = build_detector(build_config({"model": {"name": name}}).model)
    return {key: value.shape for key, value in detector.state_dict().items()}


def freqnet_name(name: str) -> str:
    """What the authors call it: weight1 and realconv1 beside the stages of a ResNet."""
    first, *rest = name.split(".")
    if first.startswith("conv"):
        return f"{rest[0]}{first[-1]}"
    if first.startswith("spectral"):
        kind = {"real": "realconv", "imaginary": "imagconv"}[rest[0]]
        return f"{kind}{first[-1]}.weight"
    if first == "head":
        return f"fc1.{rest[0]}"
    block, part, place, kind = rest
    names = {"0": "conv1", "1": "bn1", "3": "conv2", "4": "bn2", "6": "conv3", "7": "bn3"}
    inside = names[place] if part == "body" else f"downsample.{place}"
    return f"layer{first[-1]}.{block}.{inside}.{kind}"


@pytest.mark.parametrize(
    ("name", "start"), [("uia_vit", "module."), ("uia_vit-deepfakebench", "model.")]
)
def test_uia_vits_file_may_hold_the_constants_of_the_loss(
    name: str, start: str, tmp_path: Path
) -> None:
    options = {**SIZES["uia_vit"]["options"]}
    overrides = ["model.image_size=32", *(f"model.options.{k}={v}" for k, v in options.items())]
    timm = import_vision("timm.models.vision_transformer")
    theirs = fill(timm.VisionTransformer(32, 8, embed_dim=24, depth=4, num_heads=3, num_classes=0))
    tree = {f"{start}{k}": v for k, v in theirs.state_dict().items()}
    tree[f"{start}norm_middle.weight"] = torch.full((24,), 2.0)
    tree[f"{start}norm_middle.bias"] = torch.zeros(24)
    tree[f"{start}head.weight"] = torch.full((2, 48), 0.5)
    tree[f"{start}head.bias"] = torch.tensor([3.0, 4.0])
    if start == "model.":
        tree |= {f"{start}c_{k}": torch.tensor(v) for k, v in (("real", 0.7), ("cross", 0.1))}
        tree[f"{start}c_fake"] = torch.tensor(0.9)
    path, out = tmp_path / "theirs.pth", tmp_path / "ours.safetensors"
    torch.save(tree, path)
    import_weights(name, path, out, overrides=overrides)
    found = load_detector(out)[0].state_dict()
    assert found["head.bias"].tolist() == [3, 4]
    assert torch.equal(
        found["network.blocks.3.mlp.fc1.weight"], tree[f"{start}blocks.3.mlp.fc1.weight"]
    )
    constants = [round(float(found[k]), 4) for k in ("same_out", "same_in", "across")]
    assert constants == ([0.7, 0.9, 0.1] if start == "model." else [0.6, 0.6, 0.2])


def test_clip_judges_zero_shot(tmp_path: Path) -> None:
    sizes = {"patch_size": 16, "width": 64, "depth": 1, "text_width": 64, "text_depth": 1}
    towers = build_towers(image_size=32, embed_dim=16, **sizes)
    path, out = tmp_path / "open_clip_pytorch_model.bin", tmp_path / "ours.safetensors"
    torch.save(towers.state_dict(), path)
    overrides = [f"model.options.{k}={v}" for k, v in sizes.items()]
    overrides += ["model.image_size=32", "model.embed_dim=16"]
    import_weights("clip", path, out, overrides=overrides, licence="MIT")
    detector, card = load_detector(out)
    assert detector(pictures(2)).isfinite().all()
    assert card.licence == "MIT"


def test_mfclips_text_depth_is_read_off_the_file() -> None:
    def names(depth: int) -> dict[str, Tensor]:
        return {f"transformer.resblocks.{n}.ln_1.bias": torch.zeros(1) for n in range(depth)}

    sizes = ORIGINS["mfclip"].sizes
    assert [*sizes(names(12))] == ["model.text.depth=12"]
    assert [*sizes(names(6))] == ["model.text.depth=6"]
    assert [*sizes({})] == ["model.use_text=false"]


def test_fatformers_adapters_are_counted_in_the_file() -> None:
    start = "clip_model.visual.transformer.resblocks"
    names = [f"{start}.{n}.forgery_aware_adapter.freq_scale" for n in (7, 15, 23)]
    names += ["image_encoder." + name.partition("visual.")[2] for name in names]  # named twice
    sizes = ORIGINS["fatformer"].sizes({name: torch.zeros(1) for name in names})
    assert [*sizes] == ["model.options.adapters=3"]


def test_a_start_is_no_detector(tmp_path: Path) -> None:
    theirs = import_vision("timm").create_model("resnet50", num_classes=1000)
    path, out = tmp_path / "imagenet.pth", tmp_path / "out.safetensors"
    torch.save(theirs.state_dict(), path)
    with pytest.raises(
        WeightsError, match=r"is a start for 'dire' and no detector: it lacks .*fc\."
    ):
        import_weights("dire", path, out)
    assert not out.exists()


def test_wrong_names_and_shapes_are_refused(tmp_path: Path) -> None:
    tree, overrides, _ = FILES["cvit"]()
    path, out = tmp_path / "theirs.pth", tmp_path / "out.safetensors"
    torch.save(tree, path)
    for change, message in (
        ("model.image.widths=[4, 16]", "belongs to another model"),
        ("model.mlp_ratio=3", r"belongs to another model .*expected \(48, 16\), got \(32, 16\)"),
        ("model.image.depth=1", "belongs to another model"),
    ):
        with pytest.raises(WeightsError, match=message):
            import_weights("cvit", path, out, overrides=[*overrides, change])
    with pytest.raises(WeightsError, match="belongs to another model"):
        import_weights("freqnet", path, out)
    with pytest.raises(ConfigError, match=r"a name among \[mfclip, xception, .*got 'cvitt'"):
        import_weights("cvitt", path, out)
    assert not out.exists()


def test_a_user_imports_calibrates_and_predicts(made_faces: Path, tmp_path: Path) -> None:
    run = CliRunner()
    listed = run.invoke(app, ["import"])
    assert listed.exit_code == 0, listed.exception
    assert all(name in listed.output for name in ORIGINS)

    tree, overrides, _ = FILES["cvit"]()
    theirs, ours, ready = (tmp_path / n for n in ("a.pth", "a.safetensors", "b.safetensors"))
    torch.save(tree, theirs)
    said = [part for each in overrides for part in ("--set", each)]
    done = run.invoke(app, ["import", "cvit", str(theirs), "-o", str(ours), *said])
    assert done.exit_code == 0, done.exception
    assert "Nobody measured with mfclip how often these weights err" in done.output

    command = ["calibrate", ours, "--manifest", made_faces, "--splits", "test", "-o", ready]
    done = run.invoke(app, [*map(str, command), "--max-error", "0.3"])
    assert done.exit_code == 0, done.exception
    assert "Real faces called forged" in done.output
    for weights, measured in ((ours, False), (ready, True)):
        image = made_faces.parent / "0.png"
        command = ["predict", image, "--whole", "--weights", weights, "--json", "-"]
        done = run.invoke(app, [*map(str, command)])
        assert done.exit_code == 0, done.exception
        model = json.loads(done.stdout)["model"]
        assert bool(model["verdict"]["rates"]) == measured
        assert model["licence"] == ORIGINS["cvit"].licence


def test_calibration_fits_the_temperature_and_leaves_the_weights(
    made_faces: Path, tmp_path: Path
) -> None:
    tree, overrides, _ = FILES["cvit"]()
    theirs, ours, out = (tmp_path / n for n in ("a.pth", "a.safetensors", "b.safetensors"))
    torch.save(tree, theirs)
    import_weights("cvit", theirs, ours, overrides=overrides)
    manifest, settings = read_manifest(made_faces), EvaluateSettings(bootstrap=0)
    calibrate(ours, manifest, out, settings=settings, max_error=0.3)
    before, _ = load_detector(ours)
    after, card = load_detector(out)
    torch.testing.assert_close(after.state_dict(), before.state_dict(), rtol=0, atol=0)
    val = manifest.split("val")
    raw = score_manifest(before, val, resize=224, image_size=32).scored
    assert card.temperature == fit_temperature(raw.score, raw.target)
    soft = score_manifest(
        CalibratedDetector(after, card.temperature), val, resize=224, image_size=32
    ).scored
    bands = card.bands("whole")
    verdicts = np.array([bands.verdict(score) for score in soft.score])
    alarms = (verdicts[soft.target == 0] == "fake").mean()
    assert bands.rates["val"]["false_alarm"].value == alarms <= 0.3
    assert (card.fitted_on, bands.basis) == ("val", "validation")
    assert "12 faces" in str(card.limits)
    again = tmp_path / "c.safetensors"
    calibrate(out, manifest, again, settings=settings)  # from the raw scores, not upon the first
    assert load_detector(again)[1].temperature == card.temperature
    with pytest.raises(ConfigError, match="'val' chose these weights"):
        calibrate(ours, manifest, again, splits=["val"])


def test_weights_of_another_detector_are_refused_before_they_are_loaded(
    made_faces: Path, tmp_path: Path
) -> None:
    run = CliRunner()
    tree, overrides, _ = FILES["cvit"]()
    theirs, ours = tmp_path / "a.pth", tmp_path / "a.safetensors"
    torch.save(tree, theirs)
    import_weights("cvit", theirs, ours, overrides=overrides)
    image = made_faces.parent / "0.png"

    def predict(*options: object) -> Any:
        return run.invoke(app, ["predict", str(image), "--whole", *map(str, options)])

    done = predict("--weights", ours, "--detector", "cvit")
    assert done.exit_code == 0, done.exception
    plain = tmp_path / "timm.safetensors"
    safetensors.torch.save_file({"fc.weight": torch.zeros(2)}, plain)
    for given, error, message in (
        ([ours, "recce-deepfakebench"], ConfigError, "are weights of 'cvit', and not of 'recce'"),
        ([ours, "recce-bench"], ConfigError, r"a detector among \[mfclip, .*yu \(re-impl.*bench'"),
        ([theirs, "cvit"], WeightsError, r"'mfclip import cvit .*a\.pth -o cvit\.safetensors'"),
        ([plain, "xception"], WeightsError, r"not written by mfclip; .*'mfclip import xception"),
        ([theirs, "yu"], WeightsError, "of 'yu' no authors' file is known; train it"),
        (["a.onnx", "cvit"], ConfigError, r"checks a file of weights, and not the graph a\.onnx"),
    ):
        done = predict("--weights", given[0], "--detector", given[1])
        assert isinstance(done.exception, error), done.exception
        assert re.search(message, str(done.exception)), done.exception
    assert isinstance(predict("--detector", "cvit").exception, ConfigError)
    for each in (theirs, plain):  # without --detector, too, the way is shown
        done = predict("--weights", each)
        assert isinstance(done.exception, WeightsError)
        assert f"'mfclip import NAME {each} -o NAME.safetensors'" in str(done.exception)
