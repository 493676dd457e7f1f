"""What every request passes before it is looked at: who may ask, from where, how much and how long."""

import asyncio
import hmac
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from siamjax.serve._metrics import Metrics
from siamjax.serve._types import Limits, Refusal

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_LOCAL = ("localhost", "127.0.0.1", "[::1]")
_OPEN = ("/health",)  # answered without a token and however much there is to do, as a supervisor needs it


class Guard:
    """An ASGI application that refuses requests by Host, Origin, token, size and time, and hands on all others.

    - Host: a page of any site can have its own name resolve to 127.0.0.1 (DNS rebinding), and then reads what is
      served there; so without a token, only names of this machine are served.
    - Origin: browsers send it with every request that changes something, and it must be that of this service.
    - Bodies are received here, whole, within `Limits`.
    """

    def __init__(self, app: App, token: str | None, limits: Limits, metrics: Metrics):
        self._app, self._token, self._limits, self._metrics = app, token, limits, metrics
        self._active = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        started, status = time.perf_counter(), [500]

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                status[0] = message["status"]
            await send(message)

        self._active += 1
        try:
            self._check(scope)
            body = await self._body(scope, receive)
            await self._app(scope, _replayed(body, receive), noting)
        except Refusal as refusal:
            await _refuse(refusal, noting)
        finally:
            self._active -= 1
            # The template of the address, such as /v1/identities/{identity}: a label must not hold names.
            path = getattr(scope.get("route"), "path", "other")
            self._metrics.answered(path, status[0], time.perf_counter() - started)

    def _check(self, scope):
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = headers.get("host", ""), headers.get("origin")
        if self._token is None and _name(host) not in _LOCAL:
            raise Refusal(421, "Host: expected localhost or 127.0.0.1; a service with a token answers to other names")
        if origin is not None and origin.partition("://")[2] != host:
            raise Refusal(403, "Origin: expected this service's own, or none; pages of other sites may not use it")
        if scope["path"] in _OPEN:
            return
        if self._token is not None:
            given = headers.get("authorization", "")
            if not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
                raise Refusal(401, "Authorization: expected Bearer TOKEN, with the token that the service was given")
        if self._active > self._limits.requests:
            raise Refusal(503, f"{self._limits.requests} requests are in work already; try again later")
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._limits.bytes:
            raise self._too_large()

    def _too_large(self):
        return Refusal(413, f"the body has too many bytes; expected at most {self._limits.bytes:,}: send fewer images")

    async def _body(self, scope, receive):
        if scope["method"] in ("GET", "HEAD"):
            return b""
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.upload):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refusal(400, "the connection was closed before the body had arrived")
                    body += message.get("body", b"")
                    if len(body) > self._limits.bytes:
                        raise self._too_large()
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError as error:
            raise Refusal(408, f"the body took too long; expected it within {self._limits.upload:g} s") from error


def _name(host):
    """A Host header without its port."""
    return (host if host.endswith("]") else host.rpartition(":")[0] or host).lower()


def _replayed(body, receive):
    """A `receive` that gives the whole body first, then what the client does."""
    sent = []

    async def replay() -> Message:
        if sent:
            return await receive()
        sent.append(True)
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _refuse(refusal, send):
    headers = [(b"content-type", b"application/json")]
    headers += [(b"www-authenticate", b"Bearer")] if refusal.status == 401 else []
    headers += [(b"connection", b"close")] if refusal.status in (408, 413) else []  # The rest is not received.
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps({"error": refusal.message}).encode()})
