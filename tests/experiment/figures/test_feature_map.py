"""t-SNE: the features are the detector's, and neighbours stay neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from helpers import KINDS, assert_close
from mfclip.card import Card
from mfclip.config import build_config
from mfclip.data.manifest import Manifest
from mfclip.detectors import build_detector
from mfclip.errors import ConfigError, InputError
from mfclip.experiment.figures.faces import Named
from mfclip.experiment.figures.feature_map import draw_feature_map, place_features, vision_features


def test_features_of_mfclip_are_its_vision_features(named: Named, kinds_manifest: Manifest) -> None:
    faces = named.read(kinds_manifest)[:20]
    features = vision_features(named, faces)
    assert features.shape == (20, 16)
    assert np.allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)


def test_features_of_others_are_what_their_last_layer_reads(
    kinds_manifest: Manifest, tiny_run: dict[str, Any]
) -> None:
    sizes = {k: tiny_run["model"][k] for k in ("image_size", "embed_dim", "num_heads", "image")}
    settings = build_config({"model": {"name": "cvit", **sizes}}).model
    detector = Named("cvit", build_detector(settings).eval(), Card(resize=72))
    faces = detector.read(kinds_manifest)[:5]
    features = torch.from_numpy(vision_features(detector, faces))
    with torch.no_grad():
        (images,) = detector.batches(faces)
        assert_close(detector.model.head[-1](features), detector.model(images))
    assert not any(part._forward_pre_hooks for part in detector.model.modules())


def test_a_detector_without_linear_layer_is_refused(named: Named) -> None:
    bare = Named("conv", torch.nn.Conv2d(3, 2, 1), Card())
    with pytest.raises(ConfigError, match="Conv2d has no linear layer"):
        vision_features(bare, [])


def test_clusters_stay_together_and_the_seed_fixes_all() -> None:
    rng = np.random.default_rng(0)
    features = np.repeat(10 * np.eye(4), 10, axis=0) + rng.normal(0, 0.1, (40, 4))
    places = place_features(features.astype(np.float32))
    distances = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    cluster = np.repeat(np.arange(4), 10)
    assert (cluster[distances.argmin(1)] == cluster).all()
    assert np.array_equal(places, place_features(features.astype(np.float32)))
    with pytest.raises(InputError, match="at least 8 faces for t-SNE, got 3"):
        place_features(np.zeros((3, 2), np.float32))


def test_every_kind_has_its_mark_and_colour() -> None:
    labels = [KINDS[row % 5] for row in range(10)]
    places = np.arange(20, dtype=np.float32).reshape(10, 2)
    (axis,) = draw_feature_map(places, labels, title="T").axes
    names = [each.get_label() for each in axis.collections]
    assert names == ["real (2)", "DDPM (2)", "Diffae (2)", "FSLSD (2)", "StyleGAN3 (2)"]
    assert np.array_equal(axis.collections[1].get_offsets(), places[[1, 6]])
    looks = {
        (each.get_facecolor().tobytes(), each.get_paths()[0].vertices.tobytes())
        for each in axis.collections
    }
    assert len(looks) == 5
