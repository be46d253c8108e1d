"""The command starts a server, says where, and ends it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from mfclip.cli.app import app
from mfclip.errors import ConfigError
from mfclip.serve.limits import Limits
from mfclip.serve.server import bind

WAIT = 120.0


@pytest.mark.slow
def test_it_serves_and_leaves_nothing(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("mfclip")), "serve", "--port", str(port)]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "MFCLIP_API_KEY": "sesam"}
    with subprocess.Popen(
        [*command, "--engine", "torch"], env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            url, end = f"http://127.0.0.1:{port}", time.monotonic() + WAIT
            health = None
            while health is None and time.monotonic() < end:
                try:
                    health = httpx.get(f"{url}/v1/health", trust_env=False).json()
                except httpx.TransportError:
                    time.sleep(0.1)
            assert health is not None
            assert health["key_needed"] is True
            assert httpx.get(f"{url}/v1/models", trust_env=False).status_code == 401
            (folder,) = tmp_path.glob("mfclip-*")
            assert folder.stat().st_mode & 0o777 == 0o700
        finally:
            process.send_signal(signal.SIGTERM)
        told = process.communicate(timeout=WAIT)[1]
    assert f"mfclip listens on http://127.0.0.1:{port}" in told
    assert "sesam" not in told
    assert not folder.exists()


def test_it_says_where_it_listens_only_once_it_does(tmp_path: Path) -> None:
    """A taken port ends the command at once, in one line, before a model is loaded."""
    command = [str(Path(sys.executable).with_name("mfclip")), "serve", "--port"]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [*command, str(port), "--weights", str(tmp_path / "absent.safetensors")],
            capture_output=True, text=True, check=False, timeout=WAIT,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.strip() == (
        f"error: port {port} of 127.0.0.1 is taken by another program; use another --port"
    )


@pytest.mark.parametrize(
    ("host", "words"),
    [("192.0.2.1", "cannot listen on 192.0.2.1"), ("no.such.host.invalid", "no address is known")],
)
def test_addresses_of_others_are_refused(host: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        bind(host, 8000)


def test_limits_of_the_command_are_those_of_the_service() -> None:
    from typer.main import get_command  # noqa: PLC0415

    command = get_command(app).commands["serve"]  # type: ignore[attr-defined]
    defaults = {parameter.name: parameter.default for parameter in command.params}
    limits = Limits()
    assert defaults["max_megabytes"] * 2**20 == limits.max_bytes
    assert defaults["max_megapixels"] * 1e6 == limits.max_pixels
    for name in (
        "max_video_seconds", "max_frames", "queue", "jobs", "upload_seconds", "silence_seconds",
        "request_seconds", "job_seconds", "keep_seconds",
    ):  # fmt: skip
        assert defaults[name] == getattr(limits, name)
    page = (Path(__file__).resolve().parents[2] / "docs" / "serve.md").read_text()
    missing = [p.opts[0] for p in command.params if p.opts[0] not in page]
    assert missing == ["--port", "--weights", "--threshold", "--device", "--engine", "--precision"]


def test_impossible_limits_are_refused_before_anything_is_loaded() -> None:
    result = CliRunner().invoke(app, ["serve", "--queue", "0"])
    assert result.exit_code != 0
    assert "expected queue above 0, but got 0" in str(result.exception)
