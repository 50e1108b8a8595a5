"""What a request is refused with: OpenAI's JSON shape, which its clients turn into exceptions."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

TYPES = {401: "authentication_error", 429: "rate_limit_error", 500: "server_error", 503: "server_error"}
"""By status; everything else is the request's fault."""


class ApiError(Exception):
    """A refusal: its HTTP status, what is wrong, and which field of the request (`param`) is."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(status, message, param, code)
        self.status = status
        self.message = message
        self.param = param
        self.code = code

    def document(self) -> dict[str, Any]:
        kind = TYPES.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        return JSONResponse(self.document(), self.status, headers=dict(self.headers()))

    def headers(self) -> Mapping[str, str]:
        if self.status == 401:
            return {"WWW-Authenticate": "Bearer"}
        return {"Retry-After": "1"} if self.status == 429 else {}


def refused(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    return ApiError(400, message, param, code)


def install_handlers(app: FastAPI) -> None:
    """Every error of the app, also those of the framework, in the same shape."""

    async def ours(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ApiError), f"{error!r} is handled elsewhere"
        return error.response()

    async def frameworks(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException), f"{error!r} is handled elsewhere"
        message = {
            404: f"no such route: {request.method} {request.url.path}",
            405: f"{request.method} is not allowed here",
        }
        return ApiError(error.status_code, message.get(error.status_code, str(error.detail))).response()

    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        return ApiError(500, f"the server failed: {type(error).__name__}").response()

    app.add_exception_handler(ApiError, ours)
    app.add_exception_handler(HTTPException, frameworks)
    app.add_exception_handler(Exception, unexpected)
