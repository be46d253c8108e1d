"""Made pictures can be read, and every way of reading them reads all."""

from __future__ import annotations

from machine.feed import made_manifest, measure_feed
from mfclip.media.images import read_image


def test_made_pictures_are_faces_sized_and_gone_afterwards() -> None:
    with made_manifest(4) as manifest:
        assert [read_image(sample.path).shape for sample in manifest] == [(256, 256, 3)] * 4
        assert [sample.labels.is_fake for sample in manifest] == [True, False] * 2
    assert not manifest[0].path.exists()


def test_every_way_is_timed_over_all_pictures() -> None:
    rows = measure_feed(batch_size=4, images=8, rounds=2)
    assert [row.name for row in rows] == [
        "decode, one thread",
        "feed for scoring",
        "feed for training, no change",
        "feed for training, strong changes",
    ]
    for row in rows:
        assert row.images == 8
        assert len(row.timing.seconds) == 2
