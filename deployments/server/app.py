"""The routes."""

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from deployments.server.answers import ClientGone
from deployments.server.chat import chat_completion
from deployments.server.completions import completion
from deployments.server.errors import ApiError, install_handlers
from deployments.server.service import Service


def make_app(service: Service) -> FastAPI:
    """The app without its guard. No pages: they would load scripts from elsewhere."""
    app = FastAPI(title="ratchet", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    install_handlers(app)

    async def gone(request: Request, error: Exception) -> Response:
        return Response(status_code=499)  # read by nobody but the access log

    app.add_exception_handler(ClientGone, gone)

    @app.post("/v1/chat/completions")
    async def chat_completions(request: Request) -> Response:
        return await chat_completion(service, request)

    @app.post("/v1/completions")
    async def completions(request: Request) -> Response:
        return await completion(service, request)

    @app.get("/v1/models")
    async def models() -> JSONResponse:
        return JSONResponse({"object": "list", "data": [service.model_card()]})

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> JSONResponse:
        service.check_model(name)
        return JSONResponse(service.model_card())

    @app.get("/health")
    async def health() -> JSONResponse:
        if not service.live.running:
            raise ApiError(503, "the engine has ended", code="engine_failed")
        return JSONResponse({"status": "ok"})

    return app
