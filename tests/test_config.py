"""Configuration: defaults, TOML in and out, overrides, presets, and what is refused."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from mfclip.config import (
    MODEL_PRESETS,
    DataSettings,
    ModelSettings,
    PairAttentionSettings,
    RunConfig,
    build_config,
    choices,
    dump_toml,
    known_keys,
    load_config,
)
from mfclip.errors import ConfigError


def write(folder: Path, text: str, name: str = "run.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_are_the_papers() -> None:
    config = load_config()
    assert config == RunConfig()
    train, model = config.train, config.model
    assert (train.batch_size, train.optimizer, train.lr, train.weight_decay) == (
        24,
        "adam",
        1e-4,
        1e-3,
    )
    assert (train.schedule, train.step_epochs) == ("step", 15)
    assert (model.image_size, model.embed_dim, model.num_heads, model.mlp_ratio) == (224, 512, 8, 4)
    assert (model.noise.patch_size, model.noise.depth) == (112, 3)
    assert (model.image.depth, model.text.depth, model.text.max_levels) == (6, 6, 4)
    loss = train.loss
    assert (loss.contrastive, loss.kl, loss.cross_entropy, loss.kl_temperature) == (1, 1, 1, 0.5)


def test_a_file_changes_only_its_keys(tmp_path: Path) -> None:
    path = write(tmp_path, "seed = 3\n[train]\nlr = 2e-4\n[model.noise]\npatch_size = 56\n")
    config = load_config(path)
    expected = RunConfig(seed=3, train={"lr": 2e-4}, model={"noise": {"patch_size": 56}})
    assert config == expected
    assert config.model.noise.depth == 3


def test_overrides_come_after_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "[train]\nlr = 2e-4\nepochs = 7\n")
    config = load_config(path, ["train.lr=3e-4", "data.augment = strong", "train.clip_norm=1"])
    assert (config.train.lr, config.train.epochs) == (3e-4, 7)
    assert config.data.augment == "strong"  # a bare word is a string
    assert config.train.clip_norm == 1.0
    assert load_config(None, ["model.image.widths=[8, 16]"]).model.image.widths == (8, 16)
    assert load_config(None, ["model.use_text=false"]).model.use_text is False


def test_presets_fill_in_and_can_be_overridden() -> None:
    small = build_config({"model": {"name": "mfclip-small"}}).model
    assert small.embed_dim == MODEL_PRESETS["mfclip-small"]["embed_dim"] == 128
    assert small.spa.mode == "features"
    changed = load_config(None, ["model.name=mfclip-small", "model.noise.depth=2"]).model
    assert (changed.noise.depth, changed.noise.widths) == (2, small.noise.widths)
    assert build_config({"model": {"name": "mfclip-small"}}).model == small  # table unharmed
    assert build_config({"model": {"name": "mfclip"}}).model == ModelSettings()


def test_extends_reads_another_file_first(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    write(tmp_path / "base", "seed = 1\n[train]\nlr = 5e-4\nepochs = 3\n", "a.toml")
    write(tmp_path, 'extends = "base/a.toml"\n[train]\nepochs = 4\n', "b.toml")
    path = write(tmp_path, 'extends = "b.toml"\nseed = 2\n')
    config = load_config(path, ["train.batch_size=12"])
    assert (config.seed, config.train.lr, config.train.epochs) == (2, 5e-4, 4)
    assert config.train.batch_size == 12


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["model.name=mfclip-small", "train.clip_norm=0.5", "train.ema=0.999"],
        ['data.manifest=faces/über "quoted".csv', "model.pretrained=owner/name", "train.lr=1e-5"],
        ["model.image.widths=[8,16]", "model.image.convs=[1,1]", "model.spa.mode=none"],
        ['model.options={depth = 3, name = "x"}'],
    ],
)
def test_the_resolved_configuration_makes_a_round_trip(
    tmp_path: Path, overrides: list[str]
) -> None:
    config = load_config(None, overrides)
    text = dump_toml(config)
    again = load_config(write(tmp_path, text))
    assert again == config
    assert again.fingerprint == config.fingerprint
    assert dump_toml(again) == text


def test_the_resolved_configuration_hides_nothing() -> None:
    text = dump_toml(RunConfig())
    written = tomllib.loads(text)
    for key in known_keys():
        node: object = written
        for part in key.split("."):
            node = node.get(part) if isinstance(node, dict) else None
        leaf = key.split(".")[-1]
        assert node is not None or f"# {leaf} is not set" in text or leaf == "options", key


def test_known_keys_are_dotted_names_of_settings() -> None:
    keys = set(known_keys())
    assert {"seed", "train.lr", "train.loss.kl", "model.noise.patch_size"} <= keys
    assert not {"train", "train.loss", "model.noise"} & keys


def test_the_fingerprint_tells_runs_apart_and_ignores_the_place_of_the_data() -> None:
    plain = RunConfig().fingerprint
    here = load_config(None, ["data.manifest=a.csv"])
    there = load_config(None, ["data.manifest=b.csv", "data.root=faces", "data.workers=4"])
    assert here.fingerprint == there.fingerprint == plain
    assert load_config(None, ["train.lr=1e-4"]).fingerprint == plain  # the default, said aloud
    others = ["seed=1", "train.lr=2e-4", "model.spa.mode=content", "data.augment=light"]
    prints = {load_config(None, [other]).fingerprint for other in others}
    assert len(prints | {plain}) == 5


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        RunConfig().train.lr = 1.0


def test_choices_are_the_values_of_a_setting() -> None:
    assert choices(PairAttentionSettings, "mode") == (
        "features", "batch", "content", "literal", "none",
    )  # fmt: skip
    assert "paired" in choices(DataSettings, "sampling")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.colour=1", r"unknown key 'train\.colour'; \[train\] holds epochs, .*lr, "),
        ("trian=1", r"unknown key 'trian'; did you mean 'train'\?"),
        ("noise=1", r"did you mean 'model\.noise'\?"),
        ("batch_size=1", r"did you mean 'train\.batch_size'\?"),
        ("colour=1", r"unknown key 'colour'; there are seed, data, evaluate, model, train"),
        ("train.lrr=1", r"unknown key 'train\.lrr'; did you mean 'train\.lr'\?"),
        ("model.noise.patchsize=56", r"did you mean 'model\.noise\.patch_size'\?"),
        ("zzzzqqqq=1", "unknown key 'zzzzqqqq'; there are seed, "),
        ("train.lr=high", r"key 'train\.lr': input should be a valid number.*got 'high'"),
        ("train.epochs=1.5", r"key 'train\.epochs': input should be a valid integer.*got 1\.5"),
        ("train.epochs=0", r"key 'train\.epochs'.*greater than or equal to 1.*got 0"),
        ("train.lr=-1", r"key 'train\.lr'.*greater than 0.*got -1"),
        ("model.use_text=maybe", r"key 'model\.use_text'.*valid boolean.*got 'maybe'"),
        ("model.spa.mode=pairs", r"key 'model\.spa\.mode'.*'features'.*'literal'.*got 'pairs'"),
        ("model.image.widths=[8,'x']", r"key 'model\.image\.widths\.1'.*integer.*got 'x'"),
        ("model.text.max_levels=5", r"key 'model\.text\.max_levels'.*less than or equal to 4"),
        ("train.lr", "expected an override such as train.lr=1e-4, but got 'train.lr'"),
        ("seed.deep=1", "key 'seed': input should be a valid integer"),
        ("model=3", "key 'model'.*got 3"),
        ("model.name.deep=1", "key 'model.name'.*valid string"),
        ("model.name=['mfclip']", "key 'model.name'.*valid string"),
        ("model.text.real_prompts=[]", "key 'model.text.real_prompts'.*at least 1"),
    ],
)
def test_wrong_keys_and_values_are_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(None, [override])


def test_a_key_below_a_single_value_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "seed = 3\n")
    with pytest.raises(ConfigError, match=r"cannot set 'seed\.deep': 'seed' is a single value, 3"):
        load_config(path, ["seed.deep=1"])


def test_files_cannot_extend_themselves_or_numbers(tmp_path: Path) -> None:
    write(tmp_path, 'extends = "b.toml"\n', "a.toml")
    path = write(tmp_path, 'extends = "a.toml"\n', "b.toml")
    with pytest.raises(ConfigError, match=r"b\.toml extends itself by way of .*a\.toml"):
        load_config(path)
    with pytest.raises(ConfigError, match="expected extends to name a file, but got 3"):
        load_config(write(tmp_path, "extends = 3\n"))


def test_all_problems_are_listed_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, ["train.lrr=1", "seed=x"])
    assert len(str(caught.value).splitlines()) == 2


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no configuration at .*absent\.toml"):
        load_config(tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match=r"run\.toml is not valid TOML"):
        load_config(write(tmp_path, "train = ["))
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"bytes\.toml is not valid TOML"):
        load_config(tmp_path / "bytes.toml")
    with pytest.raises(ConfigError, match=r"no configuration at .*gone\.toml"):
        load_config(write(tmp_path, 'extends = "gone.toml"'))


def test_tables_in_lists_are_written_as_toml_too(tmp_path: Path) -> None:
    groups = 'train.groups=[{match="head.*", lr=0.5}, {match="a \\"b\\"", lr=1e-5}]'
    config = load_config(None, [groups, 'model.options={list=[{a=1}, {b="x"}]}'])
    assert [(g.match, g.lr) for g in config.train.groups] == [("head.*", 0.5), ('a "b"', 1e-5)]
    again = load_config(write(tmp_path, dump_toml(config)))
    assert again == config
    with pytest.raises(ConfigError, match=r"key 'train\.groups\.0\.lr'.*greater than 0.*got 0"):
        load_config(None, ['train.groups=[{match="head.*", lr=0}]'])
    with pytest.raises(ConfigError, match=r"unknown key 'train\.groups\.0\.rate'"):
        load_config(None, ['train.groups=[{match="head.*", rate=1}]'])
