import os

import pytest

from mfclip.errors import MfclipError
from mfclip.runtime.parallel import CHUNK, map_parallel


def test_order_is_kept_and_progress_ends_at_the_total() -> None:
    items = [-number for number in range(3 * CHUNK + 1)]
    told: list[tuple[str, int, int]] = []
    results = list(map_parallel(abs, items, progress=lambda *args: told.append(args)))
    assert results == list(range(3 * CHUNK + 1))
    assert told[-1] == ("reading", 3 * CHUNK + 1, 3 * CHUNK + 1)


def test_nothing_is_read_ahead_in_one_process() -> None:
    seen: list[int] = []
    stream = map_parallel(seen.append, range(10 * CHUNK))
    next(stream)
    assert len(seen) == CHUNK


@pytest.mark.slow
def test_a_killed_process_ends_the_run_with_advice() -> None:
    with pytest.raises(MfclipError, match="fewer --workers"):
        list(map_parallel(os._exit, [1] * (CHUNK + 1), workers=1))


@pytest.mark.slow
def test_processes_give_what_one_gives() -> None:
    items = [f"/nonexistent/{number}" for number in range(5 * CHUNK)]
    assert list(map_parallel(os.path.basename, items, workers=2)) == [
        os.path.basename(item) for item in items
    ]
