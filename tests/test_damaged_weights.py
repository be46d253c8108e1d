"""Weights of unknown origin: whatever stands in them loads or ends in one clear line, soon."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import mfclip
from helpers import KINDS, TINY, tiny_model
from mfclip.card import Card, read_card
from mfclip.config import build_config
from mfclip.detectors import load_detector, save_detector
from mfclip.errors import MAX_MESSAGE, WeightsError
from mfclip.predict.prediction import Prediction
from mfclip.predict.predictor import Predictor
from mfclip.weights import MAX_TEXT, read_tensors, write_tensors

DEMO = Path(mfclip.__file__).parent / "assets" / "demo"

PATIENCE = 30  # seconds for one file, on a machine that does much else

ODD: tuple[Any, ...] = (
    None, True, -1, 0, 0.5, 3, 10**9, 10**30, 1e308, -1e308, math.nan, math.inf,
    "", "no", "0.5", [], [[[]]], [1, -1], {}, {"a": {"b": 1}},
)  # fmt: skip


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = tiny_model()
    model.remember_prompts(KINDS)
    path = tmp_path_factory.mktemp("sound") / "sound.safetensors"
    card = Card(
        resize=40, face_margin=1.2, face_align=True, jpeg_quality=90, temperature=1.5,
        threshold=0.4, verdict={"whole": {"real_below": 0.2, "fake_from": 0.8}},
        kinds={"val": {"family": {"value": 0.5, "chance": 0.25, "faces": 8}}},
        metrics={"test": {"auc": {"value": 0.9}}}, fitted_on="val", epoch=3,
        validation={"auc": 0.9}, config={"model": {}}, limits="errs",
    )  # fmt: skip
    save_detector(model, build_config({"model": TINY}).model, path, card=card)
    load_detector(path)
    return path


def damaged(
    sound: Path, place: Path, change: Callable[[dict[str, Any], dict[str, Any]], object]
) -> Path:
    """Write a copy whose tensors or texts are changed in place; texts are parsed."""
    tensors, texts = read_tensors(sound)
    parsed = {name: json.loads(texts[name]) for name in ("settings", "card")}
    change(tensors, parsed)
    written = {name: json.dumps(tree) for name, tree in parsed.items()}
    write_tensors(tensors, place / "odd.safetensors", {**texts, **written})
    return place / "odd.safetensors"


def refuse(path: Path) -> str | None:
    """Load a file; return the one line that refuses it, or None if it loads."""
    since = time.monotonic()
    try:
        load_detector(path)
    except WeightsError as error:
        message = str(error)
        assert "odd.safetensors" in message
        assert "\n" not in message
        assert len(message) <= MAX_MESSAGE
        assert message.isprintable()
        return message
    finally:
        assert time.monotonic() - since < PATIENCE
    return None


def leaves(tree: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in tree.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))


def _put_in(text: str, key: tuple[str, ...], value: object, _: object, texts: Any) -> None:
    put(texts[text], key, value)


def put(tree: dict[str, Any], path: tuple[str, ...], value: object) -> None:
    for key in path[:-1]:
        tree = tree[key]
    tree[path[-1]] = value


def test_any_value_anywhere_in_a_card_is_taken_or_refused_in_one_line(sound: Path) -> None:
    text = read_tensors(sound)[1]["card"]
    keys = list(leaves(json.loads(text)))
    assert len(keys) > 20
    messages = []
    for key in keys:
        for value in ODD:
            card = json.loads(text)
            put(card, key, value)
            try:
                read_card(card).bands("whole")
            except WeightsError as error:
                messages.append(str(error))
    assert len(messages) > len(keys) * len(ODD) / 2
    assert all("\n" not in message and len(message) < 1000 for message in messages)


def test_any_value_anywhere_in_settings_loads_or_is_refused_in_one_line(
    sound: Path, tmp_path: Path
) -> None:
    keys = list(leaves(json.loads(read_tensors(sound)[1]["settings"])))
    assert len(keys) > 20
    refused = 0
    for key in keys:
        for value in (None, -1, 10**9, 1e308, math.nan, "no", [[[]]], {"a": {"b": 1}}):
            path = damaged(sound, tmp_path, partial(_put_in, "settings", key, value))
            refused += refuse(path) is not None
    assert refused > len(keys) * 4


CARDS: dict[str, tuple[Any, ...]] = {
    "resize": (31, 10**9, 64.0, "64", True),
    "face_margin": (-1.0, 0.0, 1e-300, 1e300, math.nan, "wide"),
    "face_align": (1, "yes", None),
    "jpeg_quality": (0, 101, -5, 75.5, math.nan),
    "temperature": (-1.0, 0.0, math.nan, math.inf, 1e-30),
    "threshold": (math.nan, -0.1, 1.1, "0.5"),
    "prompts": ([], [{"is_fake": "no"}], [{"is_fake": True, "manipulation": "unheard of"}], 7),
    "kinds": ({"val": {"family": {"value": 0.5}}},),
}


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in CARDS.items() for value in values]
)
def test_values_of_a_card_are_checked(sound: Path, tmp_path: Path, key: str, value: object) -> None:
    message = refuse(damaged(sound, tmp_path, lambda _, texts: put(texts["card"], (key,), value)))
    assert message is not None
    assert key.removesuffix("s") in message  # prompts and their features belong together


@pytest.mark.parametrize(
    ("margin", "resize", "quality", "align"),
    [(0.1, 4096, 100, True), (10, 4096, 1, False), (0.1, 64, 1, False), (10, 64, 100, True)],
)
def test_ends_of_the_ranges_are_judged_soon(
    sound: Path, tmp_path: Path, margin: float, resize: int, quality: int, align: bool
) -> None:
    """A card that names them cuts the face otherwise, and keeps nobody waiting."""
    card = {
        "face_margin": margin, "face_align": align, "jpeg_quality": quality, "resize": resize,
        "verdict": {},
    }  # fmt: skip
    path = damaged(sound, tmp_path, lambda _, texts: texts["card"].update(card))
    predictor = Predictor.load(str(path), engine="torch", device="cpu")
    since = time.process_time()  # what waits for ever is ended by the limit of every test
    (result,) = predictor.predict([DEMO / "photo" / "hopper.jpg"])
    assert time.process_time() - since < PATIENCE
    assert isinstance(result, Prediction)
    assert 0 <= result.score <= 1


SETTINGS: dict[str, tuple[tuple[str, ...], Any]] = {
    "a matrix of petabytes": (("embed_dim",), 2**40),
    "more bytes than there are": (("embed_dim",), 2**62),
    "a million blocks": (("image", "depth"), 10**6),
    "a million convolutions": (("image", "convs"), [10**6, 1]),
    "a stage of a million maps": (("image", "widths"), [4, 10**6]),
    "a thousand stages": (("image", "widths"), [4] * 1000),
    "a huge context": (("text", "context_length"), 10**9),
    "a huge batch": (("spa",), {"mode": "batch", "batch_size": 10**9}),
    "a huge picture": (("image_size",), 2**20),
    "white beyond any number": (("noise", "pixel_scale"), 1e300),
    "another detector": (("name",), "xception"),
    "an unknown detector": (("name",), "no such"),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_sizes_are_compared_before_anything_is_built(
    sound: Path, tmp_path: Path, case: str
) -> None:
    key, value = SETTINGS[case]
    path = damaged(sound, tmp_path, lambda _, texts: put(texts["settings"], key, value))
    message = refuse(path)
    assert message is not None
    assert "allocate" not in message


@pytest.mark.parametrize("depth", [10**9, -1, 1.5, "three", None])
def test_options_of_a_baseline_are_checked(tmp_path: Path, depth: object) -> None:
    options = {"patch_size": 8, "width": 24, "depth": 1, "num_heads": 3}
    settings = build_config({"model": {"name": "vit", "image_size": 32, "options": options}}).model
    from mfclip.detectors import build_detector  # noqa: PLC0415

    save_detector(build_detector(settings), settings, tmp_path / "vit.safetensors", card=Card())
    path = damaged(
        tmp_path / "vit.safetensors",
        tmp_path,
        lambda _, texts: put(texts["settings"], ("options", "depth"), depth),
    )
    assert refuse(path) is not None


def whole_numbers(tensors: dict[str, torch.Tensor], _: object) -> None:
    name = "head.2.weight"
    tensors[name] = tensors[name].long()


def not_a_number(tensors: dict[str, torch.Tensor], _: object) -> None:
    tensors["head.2.weight"][0, 0] = math.nan


def infinite(tensors: dict[str, torch.Tensor], _: object) -> None:
    tensors["head.2.bias"][1] = math.inf


def other_prompt_width(tensors: dict[str, torch.Tensor], _: object) -> None:
    tensors["prompt_features"] = torch.zeros(len(tensors["prompt_features"]), 7)


def one_prompt_less(tensors: dict[str, torch.Tensor], _: object) -> None:
    tensors["prompt_features"] = tensors["prompt_features"][1:]


def no_prompt_features(tensors: dict[str, torch.Tensor], _: object) -> None:
    del tensors["prompt_features"]


def undefined_prompts(tensors: dict[str, torch.Tensor], _: object) -> None:
    tensors["prompt_features"] *= math.nan


def long_prompts(tensors: dict[str, torch.Tensor], _: object) -> None:
    tensors["prompt_features"] = tensors["prompt_features"] * 3e38


def prompts_beyond_float32(tensors: dict[str, torch.Tensor], _: object) -> None:
    tensors["prompt_features"] = tensors["prompt_features"].double() * 1e300


def beyond_float32(tensors: dict[str, torch.Tensor], _: object) -> None:
    tensors["head.2.weight"] = tensors["head.2.weight"].double() * 1e300


def negative_variance(tensors: dict[str, torch.Tensor], _: object) -> None:
    name = next(name for name in tensors if name.endswith("running_var"))
    tensors[name] = -1 - tensors[name]


def not_a_number_in_8_bits(tensors: dict[str, torch.Tensor], _: object) -> None:
    weight = tensors["head.2.weight"].to(torch.float8_e4m3fn)  # has no `isfinite`
    weight.view(torch.uint8)[0, 0] = 0x7F
    tensors["head.2.weight"] = weight


def a_great_many(tensors: dict[str, torch.Tensor], _: object) -> None:
    tensors |= {f"t{number}": torch.zeros(0) for number in range(20_000)}


def a_name_of_a_megabyte(tensors: dict[str, torch.Tensor], _: object) -> None:
    tensors["x" * 10**6] = torch.zeros(1)


def a_name_that_writes_on_the_terminal(tensors: dict[str, torch.Tensor], _: object) -> None:
    tensors["a\r\nb\x1b[2J"] = torch.zeros(1)


def a_key_of_many_lines(_: object, texts: dict[str, Any]) -> None:
    texts["card"]["metrics"] = {"a\nb" * 2000: 7}


def whole_prompts(tensors: dict[str, torch.Tensor], _: object) -> None:
    tensors["prompt_features"] = tensors["prompt_features"].long()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (whole_numbers, "expected torch.float32, got torch.int64"),
        (not_a_number, "not every number is finite"),
        (infinite, "not every number is finite"),
        (other_prompt_width, "expected prompt features of shape"),
        (one_prompt_less, "expected prompt features of shape"),
        (no_prompt_features, "expected prompt features of shape"),
        (undefined_prompts, "prompt features that are not finite"),
        (whole_prompts, "expected prompt features of shape"),
        (long_prompts, "not of length 1"),
        (prompts_beyond_float32, "not of length 1"),
        (beyond_float32, "not every number is finite"),
        (negative_variance, "a variance is negative, in vision_encoder"),
        (not_a_number_in_8_bits, "not every number is finite, or"),
        (a_great_many, "expected at most 10000 tensors"),
        (a_name_of_a_megabyte, "belongs to another model"),
        (a_name_that_writes_on_the_terminal, "a; b\ufffd[2J: not part of this model"),
        (a_key_of_many_lines, "'metrics.a; ba; b"),
    ],
)
def test_numbers_are_checked(
    sound: Path, tmp_path: Path, change: Callable[..., None], word: str
) -> None:
    message = refuse(damaged(sound, tmp_path, change))
    assert message is not None
    assert word in message


@pytest.mark.parametrize("name", ["settings", "card"])
@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"limits":' * 100_000,
        '{"a": ' * 500 + "1" + "}" * 500,
        "[]",
        "7",
        "null",
        "",
        '{"limits": "\\ud800"}',
        '{"resize": ' + "9" * 5000 + "}",
        '{"resize": 1e99999}',
        '{"limits": "' + "x" * MAX_TEXT + '"}',
    ],
    ids=lambda text: f"{text[:12]} {len(text)}",
)
def test_texts_are_bounded(sound: Path, tmp_path: Path, name: str, text: str) -> None:
    tensors, texts = read_tensors(sound)
    write_tensors(tensors, tmp_path / "odd.safetensors", {**texts, name: text})
    assert refuse(tmp_path / "odd.safetensors") is not None
