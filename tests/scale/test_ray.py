"""The same runs on a Ray cluster: whoever dies, the scores are those of a run in this process."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from mfclip.errors import ConfigError
from mfclip.scale.loop import Limits
from mfclip.scale.part import FailedPart, PartResult
from mfclip.scale.place import Place
from mfclip.scale.ray_pool import Ask, RayPool
from mfclip.scale.run import join, read_status
from scale_workers import DiesAlways, DiesOnce, OfAnotherVersion, Raises

pytestmark = [pytest.mark.slow, pytest.mark.dist]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A cluster of one machine for all tests, in processes of its own.

    The cluster asks who connects for a token, which is made here for it alone; Ray takes it from
    the environment when it is imported.
    """
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        for name, value in token.items():
            patch.setenv(name, value)
        import ray  # noqa: PLC0415

        # Ray gives its own start 30 seconds, which a busy machine exceeds
        for number in range(STARTS):
            port = stack.enter_context(_head())
            try:
                # one connection for all tests; a pool that finds it leaves it open
                ray.init(f"127.0.0.1:{port}", log_to_driver=False)
                break
            except ConnectionError:
                if number == STARTS - 1:
                    raise
        try:
            yield
        finally:
            ray.shutdown()


STARTS = 3


@contextmanager
def _head() -> Iterator[int]:
    """Run a cluster; give its port once it is open."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        head = subprocess.Popen(
            [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start",
             "--head", "--block", f"--port={port}", "--node-ip-address=127.0.0.1", "--num-cpus=2",
             "--include-dashboard=false", "--disable-usage-stats", f"--temp-dir={folder}",
             f"--object-store-memory={100 << 20}"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},  # finds scale_workers
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            _wait_for(port)
            yield port
        finally:
            head.terminate()
            head.wait(60)


def _wait_for(port: int) -> None:
    until = time.monotonic() + 120
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), 1):
                return
        except OSError:
            assert time.monotonic() < until, "the cluster did not start"
            time.sleep(0.2)


@pytest.fixture
def on_ray(cluster: None, start: Callable[..., Any], tmp_path: Path) -> Callable[..., list[Any]]:
    """Score with two workers of a kind, and return what was reported."""

    def run(source: Path, out: str, make: Any, on_report: Any = None) -> list[Any]:
        job, scoring = start(source, out, threads=1)
        pool = RayPool(job, Ask(1), make=make)
        reports: list[Any] = []

        def take(report: Any) -> None:
            reports.append(report)
            if on_report is not None:
                on_report(report)

        try:
            scoring.score(pool, Limits(2, 3, 300.0), take)
        finally:
            pool.close()
        return reports

    return run


def rows(folder: Path) -> list[dict[str, Any]]:
    join(Place(str(folder)), folder.with_suffix(".parquet"))
    found: list[dict[str, Any]] = pq.read_table(folder.with_suffix(".parquet")).to_pylist()
    return found


def test_a_killed_worker_is_replaced_and_its_part_done_again(
    on_ray: Callable[..., Any], score: Callable[..., Any], manifest: Path, tmp_path: Path
) -> None:
    reports = on_ray(manifest, "ray", DiesOnce)
    assert (tmp_path / "died").exists()
    assert next(each for each in reports if isinstance(each, str)).startswith("a worker died of")
    assert sorted(each.number for each in reports if isinstance(each, PartResult)) == [*range(6)]
    score(manifest, "local")
    assert rows(tmp_path / "ray") == rows(tmp_path / "local")  # scores to the bit
    names = [{path.name for path in (tmp_path / n).iterdir()} for n in ("ray", "local")]
    assert names[0] == names[1]


def test_a_part_that_kills_three_workers_is_given_up_and_named(
    on_ray: Callable[..., Any], score: Callable[..., Any], manifest: Path, tmp_path: Path
) -> None:
    reports = on_ray(manifest, "ray", DiesAlways)
    (failed,) = [each for each in reports if isinstance(each, FailedPart)]
    assert (failed.number, failed.start, failed.stop, failed.tries) == (2, 16, 24, 3)
    assert sorted(each.number for each in reports if isinstance(each, PartResult)) == [
        0,
        1,
        3,
        4,
        5,
    ]
    assert [f.number for f in read_status(Place(str(tmp_path / "ray"))).failed] == [2]
    score(manifest, "ray")  # in this process it can be done
    score(manifest, "local")
    assert rows(tmp_path / "ray") == rows(tmp_path / "local")
    assert not (tmp_path / "ray" / "failed.jsonl").exists()


def test_an_error_of_ours_fails_its_part_at_once(
    on_ray: Callable[..., Any], manifest: Path
) -> None:
    reports = on_ray(manifest, "ray", Raises)
    (failed,) = [each for each in reports if isinstance(each, FailedPart)]
    assert (failed.number, failed.tries) == (2, 1)
    assert "ZeroDivisionError: of our own making" in failed.reason
    assert not [each for each in reports if isinstance(each, str)]


def test_another_version_on_a_node_is_refused(
    on_ray: Callable[..., Any], manifest: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"other weights, settings or version .*\(frames\)"):
        on_ray(manifest, "ray", OfAnotherVersion)
    assert not list((tmp_path / "ray").glob("part-*"))


def test_a_gpu_that_is_not_there_is_told(
    cluster: None, start: Callable[..., Any], manifest: Path
) -> None:
    job, scoring = start(manifest)
    pool = RayPool(job, Ask(1, 99.0))
    try:
        with pytest.raises(
            ConfigError,
            match=r"within 2 seconds: each asks for 1 core\(s\) and 99 "
            r"GPU\(s\) on one machine, and the cluster has 2 core\(s\)",
        ):
            scoring.score(pool, Limits(1, 3, 2.0), lambda _: None)
    finally:
        pool.close()
