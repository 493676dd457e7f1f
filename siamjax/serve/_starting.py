"""The page before there is a network: JAX is imported and the network loaded behind it."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.responses import JSONResponse, Response

from siamjax.serve._guard import App, Guard, Receive, Scope, Send
from siamjax.serve._metrics import Metrics
from siamjax.serve._page import page_files, served
from siamjax.serve._types import Limits


class Starting:
    """An ASGI application that serves the page at once, and everything once `make` has made the service.

    Attributes:
      error: that `make` raised, or None.
    """

    def __init__(self, make: Callable[[], Any], failed: Callable[[], object]):
        """`make` is called in a thread of its own, when the application starts; `failed` if it raises an error."""
        self._make, self._failed = make, failed
        self.error: BaseException | None = None
        self._service: Any = None
        self._page: App = Guard(_page, None, Limits(), Metrics())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await _lifespan(self._running, receive, send)
        await (self._service or self._page)(scope, receive, send)

    def is_ready(self) -> bool:
        """Whether the service is made, and has compiled its programs."""
        return self._service is not None and self._service.state.is_ready()

    @contextlib.asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        loader = threading.Thread(target=self._load, name="siamjax-loader", daemon=True)
        loader.start()
        yield
        await asyncio.to_thread(loader.join)  # JAX must not be left in the middle, nor the service without its end.
        if self._service is not None:
            async with self._service.router.lifespan_context(self._service):
                pass  # Its threads started with it, and end here.

    def _load(self):
        try:
            self._service = self._make()
        except BaseException as error:
            self.error = error
            self._failed()


async def _page(scope, receive, send):
    """The files of the page; that there is no network yet, for all else."""
    file = page_files().get(scope["path"])
    if scope["path"] == "/status":
        response: Response = JSONResponse({"status": "loading"})
    elif file is not None:
        response = served(file)
    else:
        response = JSONResponse({"error": "the network is being loaded; try again in some seconds"}, 503)
    await response(scope, receive, send)


async def _lifespan(running, receive, send):
    """Answers the messages of the ASGI protocol: started, and ended."""
    await receive()
    async with running():
        await send({"type": "lifespan.startup.complete"})
        await receive()
    await send({"type": "lifespan.shutdown.complete"})
