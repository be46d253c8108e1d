"""Who may ask."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfclip.cli.serve import find_access
from mfclip.serve.guard import LOOPBACK, Access, find_problem, host_name


def scope(path: str = "/v1/models", method: str = "GET", **headers: str) -> dict[str, Any]:
    raw = [(k.replace("_", "-").encode(), v.encode("latin-1")) for k, v in headers.items()]
    return {"type": "http", "path": path, "method": method, "headers": raw}


@given(st.text(st.characters(min_codepoint=33, max_codepoint=255)))
def test_only_the_very_key_opens(given_key: str) -> None:
    problem = find_problem(scope(authorization=f"Bearer {given_key}"), Access("sesam"))
    assert (problem is None) == (given_key == "sesam")


@pytest.mark.parametrize(
    ("path", "is_open"),
    [
        ("/", True),
        ("/page/page.js", True),
        ("/v1/health", True),
        ("/openapi.json", True),
        ("/page", False),
        ("/v1/health/", False),
        ("//page/", False),
        ("/metrics", False),
        ("/v1/predictions", False),
    ],
)
def test_what_is_open(path: str, is_open: bool) -> None:
    assert (find_problem(scope(path), Access("key")) is None) == is_open


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:8000", "[::1]:8000"])
def test_names_of_the_machine_itself(host: str) -> None:
    assert host_name(host) in LOOPBACK
    assert find_problem(scope(host=host), Access(hosts=LOOPBACK)) is None


@pytest.mark.parametrize("host", ["", "evil.example", "localhost.evil.example", "127.0.0.1.nip.io"])
def test_other_names(host: str) -> None:
    problem = find_problem(scope(host=host), Access(hosts=LOOPBACK))
    assert problem is not None
    assert problem.status == 421


@pytest.mark.parametrize("site", ["cross-site", "same-site", "strange"])
def test_other_sites_may_look_but_not_touch(site: str) -> None:
    assert find_problem(scope(sec_fetch_site=site), Access()) is None
    problem = find_problem(scope(method="POST", sec_fetch_site=site), Access())
    assert problem is not None
    assert problem.code == "cross_site"
    assert find_problem(scope(method="POST", sec_fetch_site="same-origin"), Access()) is None


@pytest.mark.parametrize(
    ("origin", "host", "is_own"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1:8000", True),
        ("http://LOCALHOST:8000", "localhost:8000", True),
        ("http://example.org", "example.org:80", True),
        ("https://example.org:443", "example.org", True),
        ("https://example.org", "127.0.0.1:8000", True),  # behind the server of --allow-host
        ("http://[::1]:8000", "[::1]:8000", True),
        ("http://localhost:3000", "localhost:8000", False),
        ("http://127.0.0.1", "127.0.0.1:8000", False),
        ("https://evil.example", "example.org", False),
        ("https://example.org.evil.example", "example.org", False),
        ("null", "127.0.0.1:8000", False),
        ("", "", False),
        ("://", "", False),
    ],
)
def test_the_origin_counts_where_nothing_else_is_told(origin: str, host: str, is_own: bool) -> None:
    access = Access(hosts=LOOPBACK | {"example.org", ""})
    problem = find_problem(scope(method="POST", origin=origin, host=host), access)
    assert (problem is None) == is_own
    assert problem is None or problem.code == "cross_site"
    assert find_problem(scope(method="GET", origin=origin, host=host), access) is None


def test_an_open_door_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert find_access("127.0.0.1", None, ["Me.Example"]) == Access(None, LOOPBACK | {"me.example"})
    assert find_access("0.0.0.0", "key", []) == Access("key", None)
    assert capsys.readouterr().err == ""
    assert find_access("0.0.0.0", "", []) == Access(None, None)
    assert "no key is set" in capsys.readouterr().err
