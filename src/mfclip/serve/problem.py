"""Errors as problem documents (RFC 9457): words for people, a code for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Match, Route

from mfclip.serve.schema import ProblemDocument

PROBLEM_TYPE = "application/problem+json"

TITLES = {413: "Content Too Large", 422: "Unprocessable Content"}
"""Phrases of RFC 9110 for which this Python has older ones."""


class Problem(Exception):  # noqa: N818 - the word of RFC 9457
    """An answer other than success.

    Args:
        status: HTTP status, 400 to 599.
        code: what programs look at, see ``docs/serve.md``.
        detail: what was wrong, what was expected, what to do.
        headers: sent along.
    """

    def __init__(
        self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})

    def to_json(self) -> ProblemDocument:
        """Return the document."""
        return {
            "type": "about:blank",
            "title": TITLES.get(self.status) or HTTPStatus(self.status).phrase,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
        }

    def response(self) -> JSONResponse:
        """Return the answer."""
        return JSONResponse(
            self.to_json(), self.status, headers=self.headers, media_type=PROBLEM_TYPE
        )


def busy(what: str, seconds: int) -> Problem:
    """Say that a queue is full, and when to come back."""
    detail = f"{what}; come back after {seconds} seconds"
    return Problem(429, "busy", detail, {"Retry-After": str(seconds)})


def answer_problems(app: FastAPI, routes: Sequence[BaseRoute]) -> None:
    """Let every error of an app, its framework's included, be a problem document.

    Args:
        app: whose errors are answered.
        routes: its routes, to say which methods a path knows.
    """

    @app.exception_handler(Problem)
    async def _ours(_: Request, problem: Problem) -> JSONResponse:
        return problem.response()

    @app.exception_handler(HTTPException)
    async def _framework(request: Request, error: HTTPException) -> JSONResponse:
        return _translate(request, error, routes).response()

    @app.exception_handler(RequestValidationError)
    async def _field(_: Request, error: RequestValidationError) -> JSONResponse:
        return Problem(422, "bad_field", _wrong_fields(error)).response()

    @app.exception_handler(Exception)
    async def _unforeseen(_: Request, __: Exception) -> JSONResponse:
        detail = "an error of the server; its log says which, please report it"
        return Problem(500, "internal", detail).response()


def _translate(request: Request, error: HTTPException, routes: Sequence[BaseRoute]) -> Problem:
    headers = error.headers or {}
    if error.status_code == HTTPStatus.NOT_FOUND:
        return Problem(404, "not_found", "no such route; /openapi.json lists all", headers)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        known = ", ".join(_methods(request, routes)) or headers.get("Allow", "GET")
        detail = f"this route knows {known}, not {request.method}"
        return Problem(405, "bad_method", detail, {"Allow": known})
    return Problem(error.status_code, "bad_request", str(error.detail), headers)


def _methods(request: Request, routes: Sequence[BaseRoute]) -> list[str]:
    """All methods of a path; the framework itself names those of one route only."""
    places = (route for route in routes if isinstance(route, Route))
    matching = (r for r in places if r.matches(request.scope)[0] is not Match.NONE)
    return sorted({method for route in matching for method in route.methods or ()})


def _wrong_fields(error: RequestValidationError) -> str:
    wrong = [f"{'.'.join(map(str, e['loc'][1:]))}: {e['msg']}" for e in error.errors()]
    return "; ".join(wrong)
