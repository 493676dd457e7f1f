"""A service as a process: its port, its token, its end."""

import ipaddress
import os
import pathlib
import signal
import socket
import types
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from siamjax import files
from siamjax.serve._guard import App
from siamjax.serve._starting import Starting

_SECRET = 16  # characters, at least
_LAST = 30  # seconds that requests in work have to end


def token(host: str, file: str | os.PathLike[str] | None) -> str | None:
    """The token in a file, which a service on this host needs unless that is this machine alone.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the host can be reached from other machines, and there is no file; or its token is too short.
    """
    if file is None:
        if _is_local(host):
            return None
        raise ValueError(
            f"host={host!r} can be reached from other machines: give a file with a secret as --token-file, or leave "
            "--host out to serve this machine alone"
        )
    found = files.read(pathlib.Path(file).expanduser(), 2**16).decode(errors="replace").strip()
    if len(found) < _SECRET or not found.isascii() or not found.isprintable() or " " in found:
        raise ValueError(
            f"token-file={files.shown(file)}: expected one word of at least {_SECRET} ASCII characters; make one by "
            "`openssl rand -hex 32`"
        )
    return found


def _is_local(host):
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; raises ValueError if it cannot."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=512)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(
            f"host={host!r}, port={port}: cannot listen there ({reason}); --port 0 takes any free port"
        ) from error


def run_while_loading(make: Callable[[], FastAPI], listening: socket.socket, started: Callable[[], object]) -> None:
    """The same as `run`, except that the page is served before the service is made; raises what `make` raises."""
    app = Starting(make, lambda: os.kill(os.getpid(), signal.SIGTERM))
    run(app, listening, started, app.is_ready)
    if app.error is not None:
        raise app.error


def run(
    app: App, listening: socket.socket, started: Callable[[], object], is_ready: Callable[[], bool] = lambda: True
) -> None:
    """Serves until SIGTERM or an interrupt; requests in work are answered, for at most 30 s.

    Args:
      app: the service.
      listening: a socket that listens.
      started: called before the first request is answered.
      is_ready: whether the service has started in full; see `application`.

    Raises:
      KeyboardInterrupt: by an interrupt before it is ready, at once.
    """
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=_LAST
    )
    server = _Server(config, is_ready)
    # Its own handlers, before it sets them; and after, when uvicorn raises the signals again that it was ended by.
    previous = {number: signal.signal(number, server.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        started()
        server.run([listening])
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if server.is_interrupted:
        raise KeyboardInterrupt


class _Server(uvicorn.Server):
    """Ends at once, as any command does, by an interrupt while the service still starts."""

    def __init__(self, config: uvicorn.Config, is_ready: Callable[[], bool]):
        super().__init__(config)
        self._is_ready, self.is_interrupted = is_ready, False

    def handle_exit(self, sig: int, frame: types.FrameType | None) -> None:
        if sig != signal.SIGINT or self._is_ready():
            return super().handle_exit(sig, frame)
        self.is_interrupted = self.should_exit = self.force_exit = True
        if self.started:
            raise KeyboardInterrupt  # Open connections are not waited for.
