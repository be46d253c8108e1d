"""Reading ahead: order, bounds, errors and threads, against reading one after the other."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import torch

from mfclip.predict.reading import read_ahead


def slow_for_even(number: int) -> int:
    time.sleep(0.004 * (number % 2 == 0))
    return number * number


@pytest.mark.parametrize("count", [0, 1, 2, 3, 40])
@pytest.mark.parametrize("ahead", [1, 2, 7, 100])
def test_same_as_reading_one_after_the_other(count: int, ahead: int) -> None:
    expected = [slow_for_even(number) for number in range(count)]
    assert list(read_ahead(slow_for_even, range(count), ahead=ahead)) == expected


def test_never_more_items_in_hand_than_allowed() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(50):
            taken += 1
            yield number

    for done, _ in enumerate(read_ahead(slow_for_even, items(), ahead=6), start=1):
        assert taken - done <= 6
    assert taken == 50


def test_the_rest_is_read_while_the_caller_computes() -> None:
    read = threading.Semaphore(0)

    def note(number: int) -> int:
        read.release()
        return number

    results = read_ahead(note, range(100), ahead=5)
    assert next(results) == 0
    for _ in range(6):  # the one that was given, and five more, without being asked for
        assert read.acquire(timeout=10)
    results.close()


def test_items_are_taken_in_the_callers_thread() -> None:
    threads = set()

    def items() -> Iterator[int]:
        for number in range(9):
            threads.add(threading.current_thread())
            yield number

    list(read_ahead(abs, items(), ahead=3))
    assert threads == {threading.current_thread()}


def test_an_unforeseen_error_comes_in_its_place() -> None:
    def fail_at_three(number: int) -> int:
        return number // (number != 3)

    results = read_ahead(fail_at_three, range(8), ahead=8)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_closing_early_ends_the_threads() -> None:
    results = read_ahead(slow_for_even, range(1000), ahead=4)
    next(results)
    results.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("mfclip-read")]


def test_readers_use_one_core_each_and_others_keep_theirs() -> None:
    torch.set_num_threads(3)
    counts = list(read_ahead(lambda _: torch.get_num_threads(), range(8), ahead=4))
    assert set(counts) == {1}
    assert torch.get_num_threads() == 3
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join(30)
    assert later == [3]
    assert list(read_ahead(lambda _: torch.get_num_threads(), range(1), ahead=4)) == [3]
