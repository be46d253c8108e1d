"""Order, bound, errors and end of what runs ahead."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator

import pytest

from mfclip.runtime.ahead import read_ahead


def test_items_come_in_order_and_none_is_lost() -> None:
    items = [None, *range(100), None]
    assert list(read_ahead((item for item in items), 3)) == items


def test_no_more_than_the_depth_waits() -> None:
    made: list[int] = []

    def source() -> Generator[int, None, None]:
        for number in range(50):
            made.append(number)
            yield number

    items = read_ahead(source(), 4)
    assert next(items) == 0
    time.sleep(0.3)
    assert len(made) <= 1 + 4 + 1  # taken, waiting, and the one that finds no room
    assert list(items) == list(range(1, 50))


def test_an_error_arrives_in_its_place() -> None:
    def source() -> Generator[int, None, None]:
        yield 1
        raise ValueError("broken")

    items = read_ahead(source(), 4)
    assert next(items) == 1
    with pytest.raises(ValueError, match="broken"):
        next(items)


def test_leaving_early_ends_the_thread_and_closes_the_source() -> None:
    closed: list[bool] = []

    def source() -> Generator[int, None, None]:
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    before = threading.active_count()
    items = read_ahead(source(), 2)
    next(items)
    items.close()
    assert closed == [True]
    assert threading.active_count() == before
