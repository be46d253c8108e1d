"""The routes of ``docs/serve.md``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi import Path as Place
from fastapi.responses import JSONResponse, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.staticfiles import StaticFiles

from mfclip import __version__
from mfclip.predict.schema import Document
from mfclip.report.report import describe_model
from mfclip.report.wording import Words, best_language
from mfclip.runtime.page import render_page
from mfclip.serve.guard import Access, Guard
from mfclip.serve.jobs import Job, Status
from mfclip.serve.media import recognise
from mfclip.serve.problem import PROBLEM_TYPE, Problem, answer_problems
from mfclip.serve.schema import FORM, Health, JobDocument, Models
from mfclip.serve.service import Service
from mfclip.serve.upload import Upload

PAGE = Path(str(files("mfclip.serve").joinpath("page")))

PAGE_WORDS = (
    "card", "error", "face", "file", "film", "key", "minute", "number", "page", "score",
    "second", "short", "verdict",
)  # fmt: skip
"""Parts of the words that the scripts of the page use."""

REPORT_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; sandbox"
"""Content-Security-Policy of a report, which holds its own style and pictures and no script."""

routes = APIRouter()

JobId = Annotated[str, Place(max_length=64, description="of a job, as it was answered")]


def create_app(service: Service, access: Access | None = None) -> Guard:
    """Build the application.

    Args:
        service: what stands behind the routes; it ends with the application.
        access: who may ask; None for everybody.
    """
    access = access or Access()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = FastAPI(
        title="mfclip",
        summary="Tell a real face from a forged one. A score is evidence, not proof.",
        version=__version__,
        docs_url=None,  # both load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.service, app.state.access = service, access
    answer_problems(app, routes.routes)
    app.include_router(routes)
    if PAGE.is_dir():
        styles: list[str | tuple[str, str]] = [
            ("mfclip.runtime", "style"),
            ("mfclip.report", "style"),
        ]
        app.mount("/page", StaticFiles(directory=PAGE, packages=styles))
    return Guard(app, access, service.metrics)


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the errors of a route for OpenAPI."""
    return {
        status: {
            "description": "see `code` and `detail`",
            "content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}},
        }
        for status in (401, 421, *statuses)
    }


@routes.get("/", include_in_schema=False)
def show_page(request: Request) -> Response:
    """The page for people, in the language their browser prefers."""
    words = _words(request)
    page = render_page(
        "index.html", "mfclip.serve", "mfclip.report",
        say=words, language=words.language, texts=words.all(*PAGE_WORDS), version=__version__,
    )  # fmt: skip
    headers = {"Cache-Control": "no-cache", "Vary": "Accept-Language"}
    return Response(page, media_type="text/html; charset=utf-8", headers=headers)


def _words(request: Request) -> Words:
    return Words(best_language(request.headers.get("accept-language", "")))


@routes.post(
    "/v1/predictions",
    response_model=Document,
    responses={
        202: {"model": JobDocument, "description": "taken as a job"},
        **_problems(400, 403, 408, 413, 415, 422, 429, 503),
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"multipart/form-data": {"schema": FORM}},
        }
    },
)
async def predict(request: Request) -> Response:
    """Judge a picture, or take a picture or video as a job."""
    service: Service = request.app.state.service
    service.check_room()  # before the picture is sent in vain
    upload = await service.uploads.receive(request)
    upload = replace(upload, language=_words(request).language)
    try:
        kind = recognise(upload.path)
        if kind == "video" or _wants_job(request, upload):
            return _accept(service.jobs.add(upload, kind))
        with service.admit():
            return JSONResponse(await service.judge_now(upload))
    except BaseException:
        upload.delete()
        raise


def _wants_job(request: Request, upload: Upload) -> bool:
    preferred = request.headers.get("prefer", "").lower().replace(",", ";").split(";")
    return upload.options.respond_async or "respond-async" in map(str.strip, preferred)


def _accept(job: Job) -> Response:
    return JSONResponse(job.to_json(), 202, headers={"Location": f"/v1/jobs/{job.id}"})


@routes.get("/v1/jobs/{job}", response_model=JobDocument, responses=_problems(404, 422))
async def show_job(request: Request, job: JobId) -> Response:
    """Return a job's status, progress and result."""
    service: Service = request.app.state.service
    return _fresh(JSONResponse(service.jobs.find(job).to_json()))


@routes.delete("/v1/jobs/{job}", status_code=204, responses=_problems(404, 422))
async def delete_job(request: Request, job: JobId) -> Response:
    """Stop a job and forget it."""
    service: Service = request.app.state.service
    service.jobs.delete(job)
    return Response(status_code=204)


@routes.get(
    "/v1/jobs/{job}/events",
    response_class=StreamingResponse,
    responses={
        200: {"description": "an event at every change", "content": {"text/event-stream": {}}},
        **_problems(404, 422, 429),
    },
)
async def follow_job(request: Request, job: JobId) -> Response:
    """Send a job whenever it changes, until it is over (server-sent events)."""
    service: Service = request.app.state.service
    found = service.jobs.find(job)
    events = _events(found, found.follow())
    return _fresh(StreamingResponse(events, media_type="text/event-stream"))


async def _events(job: Job, statuses: AsyncIterator[Status | None]) -> AsyncIterator[str]:
    async for status in statuses:
        if status is None:
            yield ": still here\n\n"
        else:
            yield f"event: {status}\ndata: {json.dumps(job.to_json(), allow_nan=False)}\n\n"


@routes.get(
    "/v1/jobs/{job}/report",
    response_class=Response,
    responses={
        200: {
            "description": "the page a person can file",
            "content": {"text/html": {}},
        },
        **_problems(404, 409, 422),
    },
)
def show_report(
    request: Request,
    job: JobId,
) -> Response:
    """Return the report of a finished job."""
    service: Service = request.app.state.service
    outcome = service.jobs.find(job).outcome
    if outcome is None or outcome.report is None:
        raise Problem(409, "not_done", "the job has no report yet; ask again once it is done")
    headers = {
        "Content-Disposition": 'attachment; filename="mfclip-report.html"',
        "Content-Security-Policy": REPORT_POLICY,
    }
    return _fresh(Response(outcome.report, media_type="text/html; charset=utf-8", headers=headers))


@routes.get(
    "/v1/jobs/{job}/frames/{index}",
    response_class=Response,
    responses={
        200: {"description": "a judged frame of a video", "content": {"image/jpeg": {}}},
        **_problems(404, 422),
    },
)
async def show_frame(request: Request, job: JobId, index: Annotated[int, Place(ge=0)]) -> Response:
    """Return a judged frame of a video with its faces framed."""
    service: Service = request.app.state.service
    outcome = service.jobs.find(job).outcome
    if outcome is None or index not in outcome.frames:
        raise Problem(404, "not_found", "this frame was not judged, or the job is not done yet")
    return _fresh(Response(outcome.frames[index], media_type="image/jpeg"))


@routes.get(
    "/v1/health",
    response_model=Health,
    responses={503: {"model": Health, "description": "it no longer judges"}, **_problems()},
)
async def show_health(request: Request) -> Response:
    """Say whether it judges."""
    service: Service = request.app.state.service
    document: Health = {
        "status": "ok" if service.is_alive else "stopping",
        "version": __version__,
        "key_needed": request.app.state.access.key is not None,
    }
    return _fresh(JSONResponse(document, 200 if service.is_alive else 503))


@routes.get("/v1/models", response_model=Models, responses=_problems())
async def show_models(request: Request) -> Response:
    """Say what judges, how often it errs, and what this server takes on."""
    service: Service = request.app.state.service
    server = dataclasses.asdict(service.limits)
    document: Models = {"models": [service.predictor.describe()], "server": server}
    return JSONResponse(document)


@routes.get(
    "/v1/models/about",
    response_class=Response,
    responses={
        200: {"description": "the same for people", "content": {"text/html": {}}},
        **_problems(),
    },
)
def show_about(request: Request) -> Response:
    """Say how to read a verdict and what the limits of the model are, as a piece of a page."""
    service: Service = request.app.state.service
    about = describe_model(service.predictor.describe(), _words(request))
    headers = {"Vary": "Accept-Language"}
    return Response(about, media_type="text/html; charset=utf-8", headers=headers)


@routes.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}, **_problems()},
)
async def show_metrics(request: Request) -> Response:
    """Return the figures for Prometheus."""
    service: Service = request.app.state.service
    return Response(
        service.metrics.render(service.jobs.count()), headers={"Content-Type": CONTENT_TYPE_LATEST}
    )


def _fresh(response: Response) -> Response:
    """Let nothing in between keep what is private and changes."""
    response.headers["Cache-Control"] = "no-store"
    return response
