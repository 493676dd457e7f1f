"""The addresses of a service."""

import contextlib
import logging
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Response
from fastapi.exceptions import RequestValidationError
from fastapi.requests import Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from siamjax import __version__
from siamjax.serve import _invalid
from siamjax.serve import _types as types
from siamjax.serve._guard import Guard
from siamjax.serve._metrics import Metrics
from siamjax.serve._page import page_files, served
from siamjax.serve._types import Limits, Refusal

if TYPE_CHECKING:
    from siamjax.gallery import Gallery
    from siamjax.network import Network
    from siamjax.serve._service import Service

_ERROR: dict[int | str, dict[str, Any]] = {"4XX": {"description": '{"error": what was expected}'}}


def application(
    network: "Network",
    gallery: "Gallery | None" = None,
    *,
    token: str | None = None,
    page: bool = False,
    limits: Limits | None = None,
) -> FastAPI:
    """A service as an ASGI application; its threads start with it, and end at its shutdown.

    `application(...).state.is_ready()` says whether its programs are compiled.

    Args:
      network: of images; warmed up at the start.
      gallery: of this network; None serves no gallery.
      token: that every request must have, as `Authorization: Bearer TOKEN`; None serves this machine's names only.
      page: whether the page of `siamjax demo` is served, too.
      limits: what a request may cost; None for the default.

    Raises:
      ValueError: the network takes no images.
    """
    from siamjax.serve._service import Service  # It imports JAX, for which the page does not wait.

    limits, metrics = limits or Limits(), Metrics()
    service = Service(network, gallery, limits, metrics)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(
        title="siamjax",
        version=__version__,
        description='Are these the same? Who is this? Images are files in base64; errors are {"error": text}.',
        docs_url=None,  # FastAPI's pages load their scripts from another host.
        redoc_url=None,
        lifespan=lifespan,
        responses=_ERROR,
    )
    app.state.is_ready = lambda: service.state != "warming up"
    _add_operations(app, service)
    _add_state(app, service, metrics)
    if page:
        _add_page(app, service)
    _add_errors(app)
    app.add_middleware(Guard, token=token, limits=limits, metrics=metrics)
    return app


def _add_operations(app: FastAPI, service: "Service") -> None:
    app.post("/v1/embed")(service.embed)
    app.post("/v1/verify")(service.verify)
    app.post("/v1/identify")(service.identify)
    app.post("/v1/search")(service.search)
    app.post("/v1/enroll")(service.enroll)
    app.post("/v1/rename")(service.rename)
    app.post("/v1/inputs")(service.inputs)
    app.get("/v1/identities")(service.identities)
    app.delete("/v1/identities/{identity:path}")(service.remove)
    app.get("/v1/network")(service.about)

    @app.get("/v1/thumbnails/{name}", response_class=Response, description="The JPEG file of a thumbnail.")
    async def thumbnail(name: str) -> Response:
        return Response(await service.thumbnail(name), media_type="image/jpeg")


def _add_state(app, service, metrics):
    @app.get("/health", description="Status 200 once the programs are compiled, 503 until then, or if one fails.")
    async def health(response: Response) -> types.Health:
        response.status_code = 200 if service.state == "ok" else 503
        return types.Health(status=service.state)

    @app.get("/metrics", response_class=Response, description="Figures in Prometheus's text format.")
    async def figures() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_page(app, service):
    def add(path, file):
        @app.get(path, include_in_schema=False)
        async def part() -> Response:
            return served(file)

    for path, file in page_files().items():
        add(path, file)

    @app.get("/status", include_in_schema=False)  # Browsers log other statuses than 200, such as those of /health.
    async def status() -> types.Health:
        return types.Health(status=service.state)


def _add_errors(app):
    @app.exception_handler(Refusal)
    async def refused(_: Request, error: Refusal) -> JSONResponse:
        return _error(error.status, error.message)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return _error(422, _invalid.told(error.errors()))

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> JSONResponse:
        known = {400: f"the body: {_invalid.BODY}"}  # FastAPI's way of saying that it is no text at all.
        known |= dict.fromkeys((404, 405), "expected an address and a method that /openapi.json lists")
        return _error(error.status_code, known.get(error.status_code, str(error.detail)))

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> JSONResponse:
        logging.getLogger("siamjax.serve").error("a request failed", exc_info=error)
        return _error(500, "the service failed at this request; its own log says why")


def _error(status, message):
    return JSONResponse({"error": message}, status_code=status)
