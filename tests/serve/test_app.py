"""The routes of docs/serve.md, asked over loopback: the answers are the predictor's own."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mfclip.media.images import read_image
from mfclip.predict.faces import DetectedFaces
from mfclip.predict.predictor import Predictor
from mfclip.serve import jobs, media
from mfclip.serve.guard import LOOPBACK, Access
from mfclip.serve.limits import Limits
from serve.live import Live, Serve, picture_bytes

ROOT = Path(__file__).resolve().parents[2]


def test_a_picture_is_judged_as_the_predictor_judges_it(live: Live, predictor: Predictor) -> None:
    content = picture_bytes(3)
    answer = live.judge(content, "über/../x.png")
    assert answer.status_code == 200
    document = answer.json()
    (expected,) = predictor.predict([read_image(content)])
    (found,) = document["predictions"]
    assert found["score"] == pytest.approx(expected.score, abs=1e-6)
    assert found["path"] == "x.png"
    assert found["kinds"].keys() == expected.kinds.keys()
    assert (found["width"], found["height"]) == (48, 40)
    assert document["schema"] == 2
    assert document["model"] == json.loads(json.dumps(predictor.describe()))
    assert document["videos"] == document["errors"] == []


def test_concurrent_requests_get_each_their_own_answer(live: Live, predictor: Predictor) -> None:
    contents = [picture_bytes(number) for number in range(24)]
    alone = [predictor.predict([read_image(content)])[0].score for content in contents]
    assert len({round(score, 5) for score in alone}) > 20  # they can be told apart
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(live.judge, contents))
    together = [answer.json()["predictions"][0]["score"] for answer in answers]
    assert together == pytest.approx(alone, abs=1e-5)


def test_evidence_shows_what_the_model_saw(live: Live, predictor: Predictor) -> None:
    content = picture_bytes(0)
    document = live.judge(content, evidence=True).json()
    (found,) = document["predictions"]
    shown = {key: _open(uri) for key, uri in found["evidence"].items()}
    seen = predictor.reader.prepare(read_image(content))
    assert shown.keys() == {"face", "heat_map", "patch", "noise"}
    assert shown["face"].shape == shown["heat_map"].shape == seen.shape
    assert np.abs(shown["face"].astype(int) - seen).mean() < 8  # JPEG
    assert shown["patch"].shape[:2] == shown["noise"].shape[:2] == (16, 16)
    assert _open(document["picture"]).shape == (40, 48, 3)
    assert "evidence" not in live.judge(content).json()["predictions"][0]


def _open(uri: str) -> np.ndarray:
    head, _, content = uri.partition(",")
    assert re.fullmatch(r"data:image/(jpeg|png);base64", head)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


@pytest.mark.parametrize("how", [{"async_": True}, {}])
def test_a_picture_can_be_a_job(live: Live, how: dict[str, bool]) -> None:
    content = picture_bytes(1)
    if how:
        answer = live.judge(content, **how)
    else:
        headers = {"Prefer": "wait=1, respond-async"}
        files = {"file": ("a.png", content)}
        answer = live.client.post("/v1/predictions", files=files, headers=headers)
    assert answer.status_code == 202
    assert answer.headers["location"] == answer.json()["links"]["self"]
    job = live.finish(answer)
    assert job["status"] == "done"
    assert job["progress"] == {"done": 1, "total": 1}
    assert job["result"] == live.judge(content).json()
    assert job["expires"] > job["created"]


def test_events_end_with_the_result(live: Live) -> None:
    job = live.judge(picture_bytes(2), async_=True).json()
    with live.client.stream("GET", job["links"]["events"]) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        text = "".join(stream.iter_text())
    events = re.findall(r"event: (\w+)\ndata: (.+)\n\n", text)
    assert events[-1][0] == "done"
    assert json.loads(events[-1][1])["result"]["predictions"]
    assert [name for name, _ in events] == sorted(
        (name for name, _ in events), key=["queued", "running", "done"].index
    )


def test_a_job_is_followed_by_a_few_only(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "FOLLOWERS", 2)
    answer = live.judge(picture_bytes(2), async_=True)
    live.finish(answer)
    job = live.service.jobs.find(answer.json()["id"])
    job.status = "running"  # as if it went on: streams of a finished one end at once
    link = answer.json()["links"]["events"]
    try:
        with live.client.stream("GET", link) as one, live.client.stream("GET", link) as two:
            read = [one.iter_text(), two.iter_text()]  # closed once they are let go
            assert next(read[0]) == next(read[1])
            refused = live.client.get(link)
            assert (refused.status_code, refused.json()["code"]) == (429, "busy")
        end = time.monotonic() + 20  # who left makes room
        while job._followers and time.monotonic() < end:
            time.sleep(0.02)
        assert job._followers == 0
    finally:
        job.status = "done"


def test_the_report_names_the_file_as_it_was_sent(live: Live) -> None:
    content = picture_bytes(4)
    job = live.finish(live.judge(content, "<b>&.png", async_=True))
    answer = live.client.get(job["links"]["report"])
    assert answer.headers["content-disposition"].startswith("attachment")
    assert "script" not in answer.headers["content-security-policy"]
    page = answer.text
    assert "&lt;b&gt;&amp;.png" in page
    assert "<b>&" not in page
    assert hashlib.sha256(content).hexdigest() in page
    assert str(live.service.folder) not in page
    assert page.count("data:image/") >= 5  # picture, face, heat map, patch, noise


def test_a_deleted_job_is_unknown(live: Live) -> None:
    job = live.judge(picture_bytes(2), async_=True).json()
    assert live.client.delete(job["links"]["self"]).status_code == 204
    for link in job["links"].values():
        answer = live.client.get(link)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert live.client.delete(job["links"]["self"]).status_code == 404


def test_a_job_that_fails_says_why(live: Live) -> None:
    job = live.finish(live.judge(picture_bytes()[:200], async_=True))
    assert job["status"] == "failed"
    assert job["error"]["code"] == "unreadable"
    assert job["result"] is None
    assert live.client.get(job["links"]["report"]).json()["code"] == "not_done"


def test_jobs_are_forgotten(serve: Serve) -> None:
    with serve(Limits(keep_seconds=0.2)) as live:
        link = live.judge(picture_bytes(), async_=True).headers["location"]
        statuses = set()
        end = time.monotonic() + 10
        while 404 not in statuses and time.monotonic() < end:
            statuses.add(live.client.get(link).status_code)
            time.sleep(0.02)
        assert statuses == {200, 404}


def test_nothing_is_left_behind(serve: Serve) -> None:
    with serve() as live:
        folder = live.service.folder
        assert folder.stat().st_mode & 0o777 == 0o700
        live.judge(picture_bytes())
        live.judge(picture_bytes()[:100])
        live.judge(b"text")
        live.finish(live.judge(picture_bytes(), async_=True))
        assert list(folder.iterdir()) == []
        assert not folder.is_relative_to(Path.cwd())
    assert not folder.exists()


@pytest.mark.parametrize(
    ("content", "status", "code", "words"),
    [
        (b"", 415, "not_media", "empty"),
        (b"hello", 415, "not_media", "neither a picture nor a video"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", 415, "not_media", "neither"),
        (picture_bytes()[:150], 422, "unreadable", "damaged"),
        (picture_bytes(size=(200, 200)), 422, "unreadable", "200 x 200 pixels"),
        (picture_bytes(size=(1, 400)), 413, "too_large", "bytes"),
    ],
)
def test_bad_files(serve: Serve, content: bytes, status: int, code: str, words: str) -> None:
    with serve(Limits(max_pixels=30_000, max_bytes=100_000)) as live:
        if status == 413:
            content += bytes(100_000)
        answer = live.judge(content)
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert words in problem["detail"]
    assert str(live.service.folder) not in problem["detail"]


def test_heic_where_nothing_reads_it(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "find_spec", lambda _: None)
    answer = live.judge(b"\0\0\0 ftypheic" + bytes(50))
    assert (answer.status_code, answer.json()["code"]) == (415, "not_media")
    assert "HEIC is not read" in answer.json()["detail"]


def test_a_picture_without_a_face_says_what_to_do(serve: Serve, predictor: Predictor) -> None:
    with serve(predictor=predictor.using(finder=DetectedFaces())) as live:
        answer = live.judge(picture_bytes(size=(64, 64)))
        assert (answer.status_code, answer.json()["code"]) == (422, "no_face")
        assert "whole=true" in answer.json()["detail"]
        assert live.judge(picture_bytes(size=(64, 64)), whole=True).status_code == 200


def test_a_full_queue_says_when_to_come_back(serve: Serve) -> None:
    with serve(Limits(queue=1)) as live:
        with live.service.admit():
            answer = live.judge(picture_bytes())
        assert (answer.status_code, answer.json()["code"]) == (429, "busy")
        assert int(answer.headers["retry-after"]) >= 1
        assert live.judge(picture_bytes()).status_code == 200


def test_requests_that_take_too_long_end(serve: Serve) -> None:
    with serve(Limits(request_seconds=0.0001)) as live:
        answer = live.judge(picture_bytes())
        assert (answer.status_code, answer.json()["code"]) == (503, "too_slow")
        assert list(live.service.folder.iterdir()) == []


def test_a_key_is_demanded(serve: Serve) -> None:
    with serve(access=Access(key="sesam")) as live:
        assert live.client.get("/v1/health").json()["key_needed"] is True
        assert live.client.get("/openapi.json").status_code == 200
        for headers in ({}, {"Authorization": "Bearer nö"}, {"Authorization": "Basic sesam"}):
            raw = {key: value.encode() for key, value in headers.items()}
            answer = live.client.get("/v1/models", headers=raw)
            assert (answer.status_code, answer.json()["code"]) == (401, "key_needed")
            assert answer.headers["www-authenticate"] == "Bearer"
        assert live.judge(picture_bytes()).status_code == 401
        known = live.client.get("/metrics", headers={"Authorization": "bearer sesam"})
        assert known.status_code == 200


def test_strange_names_and_sites_are_refused(serve: Serve) -> None:
    with serve(access=Access(hosts=LOOPBACK)) as live:
        answer = live.client.get("/v1/health", headers={"Host": "evil.example"})
        assert (answer.status_code, answer.json()["code"]) == (421, "wrong_host")
        headers = {"Sec-Fetch-Site": "cross-site"}
        answer = live.client.post("/v1/predictions", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "cross_site")
        assert live.client.get("/v1/health").status_code == 200


def test_models_names_limits_and_weights(live: Live, predictor: Predictor) -> None:
    document = live.client.get("/v1/models").json()
    assert document["models"] == [json.loads(json.dumps(predictor.describe()))]
    assert document["server"]["max_bytes"] == Limits().max_bytes
    assert document["server"]["silence_seconds"] == Limits().silence_seconds


def test_metrics_count(serve: Serve) -> None:
    with serve() as live:
        for number in range(3):
            live.judge(picture_bytes(number))
        live.judge(b"text")
        live.client.request("BREW", "/pot")
        text = live.client.get("/metrics").text
    count = 'mfclip_requests_total{method="POST",route="/v1/predictions",status="%s"} %s'
    assert count % (200, 3.0) in text
    assert count % (415, 1.0) in text
    assert 'mfclip_requests_total{method="other",route="other",status="404"} 1.0' in text
    assert "mfclip_batch_faces_sum 3.0" in text
    assert "mfclip_queue 0.0" in text
    assert sum(float(n) for n in re.findall(r"mfclip_verdicts_total\{.+\} (.+)", text)) == 3


def test_every_answer_carries_the_policy(live: Live) -> None:
    for path in ("/", "/v1/health", "/nothing", "/openapi.json"):
        policy = live.client.get(path).headers["content-security-policy"]
        assert policy.startswith("default-src 'self'")
        assert "http" not in policy


def test_docs_name_every_route_status_and_code(live: Live) -> None:
    page = (ROOT / "docs" / "serve.md").read_text()
    paths = live.client.get("/openapi.json").json()["paths"]
    for path, methods in paths.items():
        shown = path.replace("{job}", "{id}")
        for method in methods:
            assert f"`{method.upper()} {shown}`" in page
            for status in set(methods[method]["responses"]) - {"200", "202", "204"}:
                assert f"| {status} |" in page
    source = "".join(p.read_text() for p in (ROOT / "src" / "mfclip" / "serve").glob("*.py"))
    codes = set(re.findall(r'Problem\(\s*\d+, "(\w+)"', source))
    assert {"busy", "no_face", "too_large"} < codes | {"busy", "no_face"}
    assert not [code for code in codes - {"internal"} if f"`{code}`" not in page]
