"""Texts beside a manifest: every form of the file, whose they are, one drawn each time."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mfclip.data.dataset import FaceDataset, collate
from mfclip.data.manifest import Manifest, Sample
from mfclip.data.sampling import FORGED_HALF, REAL_HALF
from mfclip.data.texts import find_texts, read_texts
from mfclip.errors import ManifestError
from mfclip.labels import Labels

AUTHORS = {
    "0": {"question": "Does the image look real/fake?", "answer": ["It looks fake.", "Odd skin."]},
    "1": {"question": "Does the nose look real/fake?", "answer": ["The nose looks fake."]},
}
SIZES = {"resize": 32, "image_size": 32}


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    (tmp_path / "set").mkdir()
    samples = []
    for number, name in enumerate(("0_001_870", "5_001", "5_002")):
        path = tmp_path / "set" / f"{name}.png"
        Image.fromarray(np.full((32, 32, 3), 80 * number, np.uint8)).save(path)
        samples.append(Sample(path, Labels(number == 0), "train", name))
    return Manifest(tuple(samples), tmp_path)


def write(tmp_path: Path, tree: object) -> Path:
    path = tmp_path / "texts.json"
    path.write_text(json.dumps(tree), encoding="utf-8")
    return path


def test_all_forms_are_read(tmp_path: Path) -> None:
    tree = {"0_001_870": AUTHORS, "set/5_001.png": "A real face.", "5_002": ["One.", "Two."]}
    assert read_texts(write(tmp_path, tree)) == {
        "0_001_870": (
            "Does the image look real/fake? It looks fake.",
            "Does the image look real/fake? Odd skin.",
            "Does the nose look real/fake? The nose looks fake.",
        ),
        "set/5_001.png": ("A real face.",),
        "5_002": ("One.", "Two."),
    }


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (["a"], "expected .*texts.json to map faces to texts, but got list"),
        ({"a": 3}, "questions with answers for 'a', but got 3"),
        ({"a": []}, "questions with answers for 'a', but got "),
        ({"a": " "}, "questions with answers for 'a'"),
        ({"a": {"0": {"question": "?", "answer": []}}}, "questions with answers for 'a'"),
    ],
)
def test_other_forms_are_refused(tree: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=message):
        read_texts(write(tmp_path, tree))


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"cannot read the texts in .*absent\.json"):
        read_texts(tmp_path / "absent.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ManifestError, match=r"cannot read the texts in .*bad\.json"):
        read_texts(tmp_path / "bad.json")


def test_faces_are_found_by_path_or_by_name(manifest: Manifest) -> None:
    texts = {"0_001_870": ("fake",), "set/5_001.png": ("by path",), "5_001": ("by name",)}
    assert find_texts(manifest, texts) == (("fake",), ("by path",), ())
    with pytest.raises(ManifestError, match=r"none of the 3 faces; .*'set/0_001_870.png'.*'other'"):
        find_texts(manifest, {"other": ("x",)})


def test_one_text_of_a_face_is_drawn_each_time(manifest: Manifest) -> None:
    texts = {"5_002": ("One.", "Two."), "0_001_870": ("Odd.",)}
    dataset = FaceDataset(manifest, **SIZES, texts=texts)
    drawn = Counter(dataset[2, epoch].text for epoch in range(200))
    assert set(drawn) == {"One.", "Two."}
    assert min(drawn.values()) > 70
    batch = collate([dataset[row, 0] for row in range(3)])
    assert batch.texts is not None
    assert batch.texts[:2] == ("Odd.", None)
    assert batch.split(3)[0].texts == ("Odd.",)
    assert collate([dataset[1, 0]]).texts is None


def test_texts_change_no_picture_and_a_made_forgery_has_none(manifest: Manifest) -> None:
    known = {"5_002": ("One.", "Two.")}
    with_texts = FaceDataset(manifest, **SIZES, augment="strong", texts=known)
    without = FaceDataset(manifest, **SIZES, augment="strong")
    for epoch in range(3):
        np.testing.assert_array_equal(with_texts[2, epoch].image, without[2, epoch].image)
        assert replace(with_texts[2, epoch], text=None).labels == without[2, epoch].labels
    assert with_texts[2, 0, FORGED_HALF].text is None
    assert with_texts[2, 0, REAL_HALF].text in known["5_002"]
