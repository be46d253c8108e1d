"""Fig. 9a: the similarities that training sees, with and without SPA."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from helpers import KINDS
from mfclip.card import Card
from mfclip.data.manifest import Manifest
from mfclip.errors import WeightsError
from mfclip.experiment.figures.faces import Named, load_named
from mfclip.experiment.figures.similarity import (
    Matrix,
    choose_batch,
    draw_similarity,
    known_faces,
    largest_batch,
    similarity_matrices,
)
from mfclip.labels import Labels
from mfclip.model.mfclip import MFCLIP


def test_matrices_are_those_of_the_loss(named: Named, kinds_manifest: Manifest) -> None:
    model = named.model
    assert isinstance(model, MFCLIP)
    assert model.contrastive is not None
    assert largest_batch(named) == 6  # the side of A in these weights
    faces = named.read(choose_batch(kinds_manifest, 6))
    with torch.no_grad():
        model.contrastive.attention.weight.normal_()
        plain, weighted = similarity_matrices(named, faces)
        (images,) = named.batches(faces)
        vision = model.encode_image(images)
        language, _ = model._encode_labels([face.labels for face in faces])
        language = torch.nn.functional.normalize(language, dim=-1)
        expected = model.contrastive.attention(vision, language, 1.0)
    assert np.allclose(plain.values, (vision @ language.T).numpy(), atol=1e-5)
    assert np.allclose(weighted.values, expected.numpy(), atol=1e-5)
    assert (plain.weighted, weighted.weighted) == (False, True)


def test_without_text_half_the_remembered_prompts_serve(
    named: Named, weights: Path, kinds_manifest: Manifest
) -> None:
    (half,) = load_named([weights.parent.parent / "half.safetensors"], "cpu")
    assert largest_batch(half) == 24
    faces = named.read(choose_batch(kinds_manifest, 6))
    (matrix,) = similarity_matrices(half, faces)  # its SPA is gone, too
    assert np.allclose(matrix.values, similarity_matrices(named, faces)[0].values, atol=1e-5)
    unknown = Labels(True, "face_swap", "gan", "nobody knows")
    first, second = kinds_manifest[0], kinds_manifest[1]
    strange = type(first)(first.path, unknown, "test", "g")
    mixed = Manifest((first, second, strange), kinds_manifest.root)
    assert len(known_faces(half, mixed)) == 2
    assert len(known_faces(named, mixed)) == 3
    with pytest.raises(WeightsError, match="fewer than two kinds"):
        known_faces(half, Manifest((first, strange), kinds_manifest.root))


def test_a_batch_holds_every_kind_alike(kinds_manifest: Manifest) -> None:
    batch = choose_batch(kinds_manifest)
    assert len(batch) == 20  # four of each of five kinds, at most 24 in all
    assert len(choose_batch(kinds_manifest, 3)) == 3
    assert [sample.labels for sample in batch][::4] == [KINDS[k] for k in (0, 1, 3, 2, 4)]


def test_panels_of_one_kind_share_a_scale() -> None:
    labels = [KINDS[0], KINDS[0], KINDS[1]]
    matrices = [
        Matrix("a", np.eye(3, dtype=np.float32)),
        Matrix("b", np.full((3, 3), 3.0, np.float32)),
        Matrix("a with SPA", np.full((3, 3), 0.2, np.float32), weighted=True),
    ]
    figure = draw_similarity(matrices, labels)
    first, second, third = figure.axes[:3]
    assert first.images[0].get_clim() == second.images[0].get_clim() == (0, 3)
    assert third.images[0].get_clim()[1] < 0.3
    assert [tick.get_text() for tick in first.get_xticklabels()] == ["real", "DDPM"]
    assert first.get_xticks().tolist() == [0.5, 2]  # the middle of each block
    assert np.array_equal(first.images[0].get_array(), np.eye(3))


def test_other_detectors_have_no_prompts(named: Named) -> None:
    other = Named("vit", torch.nn.Linear(1, 1), Card())
    with pytest.raises(WeightsError, match="vit has no prompts; give weights of MFCLIP"):
        similarity_matrices(other, [])
