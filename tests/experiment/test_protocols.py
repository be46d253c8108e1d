"""Protocols: the files that come with mfclip, those of users, and how wrong ones are refused."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from mfclip.config import build_config
from mfclip.data.manifest import Sample
from mfclip.datasets.sources.generators import builtin_table, read_table
from mfclip.errors import ConfigError
from mfclip.experiment import protocols
from mfclip.experiment.paper import paper_cell, paper_cells
from mfclip.experiment.protocols import (
    Protocol,
    Row,
    Subset,
    list_protocols,
    load_protocol,
    merge,
    plain_name,
)
from mfclip.labels import Labels
from mfclip.media.perturbations import PERTURBATIONS
from mfclip.model.build import build_mfclip

PAPER = {
    "table1_cross_forgery": "I",
    "table2_cross_generator_fs": "II",
    "table3_cross_diffusion": "III",
    "table4_cross_generator_am": "IV",
    "table5_cross_dataset": "V",
    "table6_components": "VI",
    "table7_patch_size": "VII",
    "table8_spa": "VIII",
    "table9_losses": "IX",
}


def test_list_holds_the_paper_the_faces_and_the_benchmarks() -> None:
    assert set(list_protocols()) == {
        *PAPER, "fig7_robustness", "fig8_prompt_levels", "faces_cross_family",
        "faces_cross_generator", "faces_cross_forgery", "faces_unseen", "faces_robustness",
        "faces_components", "faces_losses", "faces_spa", "faces_prompt_levels",
        "df40_cross_forgery", "df40_cross_domain", "df40_unseen", "df40_one_vs_all",
        "celebdf_pp_forgery", "celebdf_pp_quality", "celebdf_pp_dataset",
    }  # fmt: skip


@pytest.mark.parametrize(("name", "table"), PAPER.items())
def test_a_table_has_the_rows_and_sets_that_the_paper_prints(name: str, table: str) -> None:
    protocol = load_protocol(name)
    printed = [cell for cell in paper_cells(table) if cell.printed != "-" and cell.test]
    ours = {
        (row.name, train.name, test.name)
        for row in protocol.rows
        for train in protocol.train
        for test in protocol.test
        if protocol.diagonal or train.name != test.name
    }
    theirs = {(cell.row, cell.train, cell.test) for cell in printed}
    extra = {"IAFaces"} if table == "IV" else set()  # 3 x 3, of which the paper prints two rows
    assert protocol.table == table
    assert theirs <= ours
    assert {train for _, train, _ in ours} - {cell.train for cell in printed} == extra
    own = {row for row, _, _ in ours if not row.endswith("SPA as in the paper")}  # beside ours
    assert own == {cell.row for cell in printed}


def test_generators_are_spelled_as_the_genface_source_spells_them() -> None:
    known = set(read_table(builtin_table("genface")).names)
    loaded = [load_protocol(name) for name in list_protocols()]
    subsets = [s for p in loaded if p.data == "GenFace" for s in (*p.train, *p.test)]
    assert {generator for subset in subsets for generator in subset.generator} == {
        "DDPM", "LatDiff", "CollDiff", "DiffFace", "Diffae", "LatTrans", "IAFaces", "FSLSD",
        "FaceSwapper",
    } <= known  # fmt: skip


def _names(subsets: Sequence[Subset]) -> set[str]:
    return {generator for subset in subsets for generator in subset.generator}


def test_df40_divides_its_40_methods_into_31_known_and_9_unseen() -> None:
    table = read_table(builtin_table("df40"))
    known, unseen = load_protocol("df40_cross_forgery"), load_protocol("df40_unseen")
    assert (len(_names(known.train)), len(_names(unseen.test))) == (31, 9)
    assert _names(known.train) | _names(unseen.test) == set(table.names) - {"real"}
    kinds = {"FS": "face_swap", "FR": "reenactment", "EFS": "entire_face_synthesis"}
    for subset in known.train:
        found = {labels.manipulation for g in subset.generator if (labels := table.find(g))}
        assert found == {kinds[subset.name]}
    assert known.train == load_protocol("df40_cross_domain").train == unseen.train
    one = load_protocol("df40_one_vs_all")
    assert {s.generator for s in one.train} == {(name,) for name in _names(known.train)}
    assert len(one.test) == 2 * 31


def test_celebdf_pp_asks_for_what_its_source_calls_the_methods() -> None:
    names = set(read_table(builtin_table("celebdf_pp")).names) - {"Celeb-real", "YouTube-real"}
    for protocol in ("celebdf_pp_forgery", "celebdf_pp_dataset"):
        loaded = load_protocol(protocol)
        assert _names(loaded.test) == names
        assert len(loaded.test) == 3 + 22
    assert _names(load_protocol("celebdf_pp_quality").test) == names


@pytest.mark.parametrize(
    ("video", "holds"),
    [
        ("test/simswap/ff/frames/000_003", True),
        ("simswap_ff/simswap_Fake/000_003", True),  # the JSON lists' names
        ("test/simswap/cdf/frames/id0_id1_0000", False),
        (None, False),
    ],
)
def test_fakes_are_chosen_by_their_video(video: str | None, holds: bool) -> None:
    (subset, *_) = load_protocol("df40_cross_forgery").test
    labels = Labels(True, "face_swap", "gan", "simswap")
    assert subset.holds(Sample(Path("a.png"), labels, "test", "g", video)) == holds
    real = Sample(Path("b.png"), Labels(False, generator="youtube"), "test", "g", None)
    assert subset.holds(real)


def _differences(protocol: Protocol, row: str) -> set[str]:
    """Settings in which a row's MFCLIP differs from the paper's whole model."""
    overrides = next(r.overrides for r in protocol.rows if r.name == row)
    ours, default = (build_config(t).model_dump() for t in (overrides, {}))
    return {
        *(f"{k}={v}" for k, v in ours["model"].items() if v != default["model"][k] and k != "spa"),
        *(
            f"loss.{k}"
            for k, v in ours["train"]["loss"].items()
            if v != default["train"]["loss"][k]
        ),
        *(
            f"spa.{k}={v}"
            for k, v in ours["model"]["spa"].items()
            if v != default["model"]["spa"][k]
        ),
    }


def test_components_switch_what_the_ticks_of_table_6_say() -> None:
    protocol = load_protocol("table6_components")
    no_text = {"use_text=False", "use_predictor=False"}
    assert {row.name: _differences(protocol, row.name) for row in protocol.rows} == {
        "NE": {"use_image=False", *no_text},
        "IE": {"use_noise=False", *no_text},
        "NE + IE": no_text,
        "IE + FTE": {"use_noise=False", "use_predictor=False", "spa.mode=none"},
        "IE + FTE + predictor": {"use_noise=False", "spa.mode=none"},
        "NE + IE + FTE + predictor": {"spa.mode=none"},
        "NE + IE + FTE + predictor + SPA": set(),
        "NE + IE + FTE + predictor + SPA as in the paper": {
            "spa.mode=batch",
            "spa.targets=one-hot",
        },
    }


def test_losses_of_table_9() -> None:
    protocol = load_protocol("table9_losses")
    assert {row.name: _differences(protocol, row.name) for row in protocol.rows} == {
        "CE": {"use_text=False", "use_predictor=False"},
        "CE + KL": {"loss.contrastive"},
        "CE + CMC": {"use_predictor=False"},
        "CE + CMC + KL": set(),
    }


def test_ce_alone_is_the_row_without_text_of_table_6() -> None:
    losses, parts = load_protocol("table9_losses"), load_protocol("table6_components")
    assert _differences(losses, "CE") == _differences(parts, "NE + IE")
    printed = [
        paper_cell(table, row, "CollDiff", "LatDiff").printed
        for table, row in (("IX", "CE"), ("VI", "NE + IE"))
    ]
    assert printed[0] == printed[1]


@pytest.mark.parametrize("name", ["table6_components", "table9_losses", "faces_components"])
def test_every_variant_of_mfclip_can_be_built_and_has_its_parts(name: str) -> None:
    for row in load_protocol(name).rows:
        small = {"model": {"name": "mfclip-small", "image_size": 64, "noise": {"patch_size": 32}}}
        model = build_mfclip(build_config(merge(small, row.overrides)).model)
        settings = row.overrides.get("model", {})
        encoder = model.vision_encoder
        assert (encoder.image_encoder is not None) == settings.get("use_image", True)
        assert (encoder.noise_encoder is not None) == settings.get("use_noise", True)
        assert (model.language_encoder is not None) == settings.get("use_text", True)


def test_detectors_other_than_mfclip_get_only_settings_that_they_know() -> None:
    known = {"clip": {"name", "spa", "text"}}  # the others take image size and options alone
    for name in list_protocols():
        protocol = load_protocol(name)
        assert "model" not in protocol.overrides, "rows of several detectors share these"
        for row in protocol.rows:
            model = row.overrides.get("model", {})
            if "name" in model:
                assert set(model) <= known.get(model["name"], {"name"}), (name, row.name)


def test_patch_sizes_and_levels_of_prompts() -> None:
    sizes = [row.overrides["model"]["noise"]["patch_size"] for row in _rows("table7_patch_size")]
    assert sizes == [16, 28, 32, 56, 112, 224]
    levels = [row.overrides["model"]["text"]["max_levels"] for row in _rows("fig8_prompt_levels")]
    assert levels == [1, 2, 3, 4] * 2


def _rows(name: str) -> tuple[Row, ...]:
    return load_protocol(name).rows


@pytest.mark.parametrize("name", ["fig7_robustness", "faces_robustness"])
def test_robustness_covers_the_grid(name: str) -> None:
    damage = load_protocol(name).perturbations
    assert damage is not None
    assert damage.kinds == tuple(PERTURBATIONS)
    assert damage.levels == (1, 2, 3, 4, 5)


def test_only_the_faces_test_what_has_no_training_image() -> None:
    unseen = {"StableDiffusion-3", "inswapper_128"}
    for name in list_protocols():
        protocol = load_protocol(name)
        assert not unseen & {g for subset in protocol.train for g in subset.generator}
        tested = unseen & {g for subset in protocol.test for g in subset.generator}
        assert bool(tested) == ("test_unseen" in protocol.test_splits)


MINE = """
title = "Mine"
data = "anything"
models = ["MFCLIP"]

[[train]]
name = "A"
generator = ["A"]

[[test]]
name = "B"
generator = ["B"]
"""


def test_a_protocol_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(MINE)
    protocol = load_protocol(path)
    assert protocol == load_protocol(str(path))
    assert (protocol.name, protocol.seeds, protocol.test_splits) == ("mine", (0,), ("test",))
    assert protocol.test[0].generator == ("B",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("title =", "heading ="), "protocol .*: key 'title': field required"),
        (('["MFCLIP"]', '["MFCLYP"]'), "expected models among .*MFCLIP.*but got MFCLYP"),
        (('models = ["MFCLIP"]\n', ""), "expected at least one entry in rows"),
        (('[[test]]\nname = "B"', '[[test]]\nnom = "B"'), "key 'test.0.nom': extra inputs"),
        (("title", "overrides.model.depht = 3\ntitle"), "row 'MFCLIP': unknown key 'model.depht'"),
        (("[[train]]", "[perturbations]\nkinds = ['X']\n[[train]]"), "expected kind to be one of"),
        (
            ("[[train]]", "[perturbations]\nkinds = ['CS']\nlevels = [6]\n[[train]]"),
            "expected level to be 0 .* but got 6",
        ),
        (("[[test]]", '[[train]]\nname = "A."\n[[test]]'), "names in train that differ"),
        (("title = ", "title "), "is not valid TOML"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    path = tmp_path / "mine.toml"
    assert change[0] in MINE
    path.write_text(MINE.replace(*change, 1))
    with pytest.raises(ConfigError, match=message):
        load_protocol(path)


def test_a_wrong_name_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"table3_cross_diffusion.*did you mean 'table3_cross_d"):
        load_protocol("table3_crossdiffusion")
    with pytest.raises(ConfigError, match="no protocol file at"):
        load_protocol(tmp_path / "absent.toml")


def test_merge_joins_tables_and_leaves_its_arguments_alone() -> None:
    base = {"a": {"x": 1, "y": 2}, "b": 1}
    assert merge(base, {"a": {"y": 3}, "c": [4]}) == {"a": {"x": 1, "y": 3}, "b": 1, "c": [4]}
    assert base == {"a": {"x": 1, "y": 2}, "b": 1}


def test_plain_names_of_all_rows_differ() -> None:
    for name in list_protocols():
        names = sorted(plain_name(row.name) for row in load_protocol(name).rows)
        assert all(one != other for one, other in pairwise(names))
        assert all(set(n) & set(' /+,"') == set() for n in names)


def test_files_name_no_key_twice_and_are_short() -> None:
    folder = Path(protocols.__file__).with_name("protocol_files")
    for file in folder.glob("*.toml"):
        text = file.read_text(encoding="utf-8")
        assert tomllib.loads(text)
        assert text.startswith("# "), file.name
        assert max(map(len, text.splitlines())) <= 100, file.name
