"""Weight files: round trip, damage, foreign files, and writing whole or not at all."""

from __future__ import annotations

import pickle
import resource
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from mfclip.card import Card
from mfclip.errors import WeightsError
from mfclip.labels import Labels
from mfclip.weights import (
    FORMAT,
    WeightFile,
    read_tensors,
    read_weights,
    write_tensors,
    write_weights,
)


def make_tensors() -> dict[str, Tensor]:
    return {
        "weight": torch.arange(12.0).view(3, 4),
        "turned": torch.arange(6.0).view(2, 3).T,  # not contiguous
        "count": torch.tensor(7),
        "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    }


def write_some(path: Path) -> Path:
    card = Card(trained_on="faces, über alles", prompts=(Labels(True),), auc=0.93)
    write_weights(WeightFile(make_tensors(), {"embed_dim": 8}, card), path)
    return path


def test_tensors_settings_and_card_make_a_round_trip(tmp_path: Path) -> None:
    file = read_weights(write_some(tmp_path / "new" / "folder" / "w.safetensors"))
    torch.testing.assert_close(file.tensors, make_tensors(), rtol=0, atol=0)
    assert file.settings == {"embed_dim": 8}
    assert file.card.trained_on == "faces, über alles"
    assert file.card.prompts == (Labels(True),)
    assert file.card.to_json()["auc"] == 0.93  # a key of one's own


def test_the_file_is_plain_safetensors(tmp_path: Path) -> None:
    path = write_some(tmp_path / "w.safetensors")
    torch.testing.assert_close(safetensors.torch.load_file(path), make_tensors(), rtol=0, atol=0)


def test_metadata_of_tensors_makes_a_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    write_tensors(make_tensors(), path, {"step": "12"})
    tensors, metadata = read_tensors(path)
    assert metadata == {"step": "12"}
    assert tensors.keys() == make_tensors().keys()


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.6, 0.99])
def test_a_file_cut_short_is_refused(tmp_path: Path, share: float) -> None:
    path = write_some(tmp_path / "w.safetensors")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(WeightsError, match=r"w\.safetensors is damaged.*fetch or train it again"):
        read_weights(path)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(WeightsError, match=f"no weights at {path}; expected a .safetensors"):
            read_weights(path)


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    write_tensors(make_tensors(), path, {})
    with pytest.raises(WeightsError, match=f"expected format '{FORMAT}', but got None"):
        read_weights(path)
    write_tensors(make_tensors(), path, {"format": "pt"})
    with pytest.raises(WeightsError, match="but got 'pt'"):
        read_weights(path)


@pytest.mark.parametrize("metadata", [{}, {"settings": "{}"}, {"settings": "{", "card": "{}"}])
def test_unreadable_settings_are_damage(tmp_path: Path, metadata: dict[str, str]) -> None:
    path = tmp_path / "w.safetensors"
    write_tensors(make_tensors(), path, {"format": FORMAT, **metadata})
    with pytest.raises(WeightsError, match=r"is damaged: its (settings|card) cannot be read"):
        read_weights(path)


class Trap:
    """Leaves a mark if it is ever unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_nothing_in_a_file_is_executed(tmp_path: Path, writer: str) -> None:
    path, mark = tmp_path / "w.safetensors", tmp_path / "mark"
    if writer == "pickle":
        path.write_bytes(pickle.dumps(Trap(mark)))
    else:
        torch.save({"weight": Trap(mark)}, path)
    with pytest.raises(WeightsError, match="damaged or not a safetensors file"):
        read_weights(path)
    assert not mark.exists()
    if writer == "pickle":
        pickle.loads(path.read_bytes())  # the trap does work
        assert mark.exists()


def test_a_disk_that_refuses_leaves_the_older_file_whole(tmp_path: Path) -> None:
    path = write_some(tmp_path / "w.safetensors")
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_tensors({"weight": torch.zeros(100_000)}, path, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


def test_a_folder_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match="file"):
        write_some(tmp_path / "file" / "w.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_new_file_replaces_the_older_and_leaves_no_rest(tmp_path: Path) -> None:
    path = write_some(tmp_path / "w.safetensors")
    write_tensors({"other": torch.ones(2)}, path, {})
    assert list(read_tensors(path)[0]) == ["other"]
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]
