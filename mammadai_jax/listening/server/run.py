"""Serving a study's pages until the process is asked to end."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import ipaddress
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

from mammadai_jax.listening.server.guard import LOOPBACK
from mammadai_jax.listening.study import Study, StudyError


class ServerMissing(StudyError):
    """The pages need starlette and uvicorn, which are not installed."""


def check_installed() -> None:
    """ServerMissing without starlette and uvicorn."""
    if any(importlib.util.find_spec(name) is None for name in ("starlette", "uvicorn")):
        raise ServerMissing(
            "the listening page needs starlette and uvicorn: pip install 'mammadai-jax[rate]'"
        )


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket that listens; StudyError if the address is not to be had. Port 0 is any that is free."""
    if not 0 <= port <= 65_535:
        raise StudyError(f"a port is 0 to 65535, not {port}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=256)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StudyError(f"port {port} is taken: choose another one, or 0 for any that is free") from None
        raise StudyError(f"{host} port {port} cannot be served at: {error.strerror or error}") from None


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def address_of(listener: socket.socket, host: str) -> str:
    """The address at which a browser of this machine, or of others, reaches the pages."""
    name = socket.gethostname() if host in ("0.0.0.0", "::") else host
    shown = f"[{name}]" if ":" in name else name
    return f"http://{shown}:{listener.getsockname()[1]}"


def serve(study: Study, listener: socket.socket, host: str, ready: Callable[[], None] = lambda: None) -> None:
    """Serve a study at a socket until SIGINT or SIGTERM; `ready` is called when the first page can be had."""
    import uvicorn

    from mammadai_jax.listening.server.app import application

    app = application(study, LOOPBACK if is_loopback(host) else None)
    # no access log: it would hold addresses and tokens
    options: dict[str, Any] = {"log_level": "error", "access_log": False, "server_header": False}
    server = _server_class()(
        uvicorn.Config(app, lifespan="off", timeout_graceful_shutdown=2, **options), ready
    )
    with server.stopped_by_signals():
        server.run(sockets=[listener])


def _server_class() -> Any:
    import uvicorn

    class Server(uvicorn.Server):
        """One that says when it is ready, and leaves the process's other signals alone."""

        def __init__(self, config: Any, ready: Callable[[], None]):
            super().__init__(config)
            self.ready = ready

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            """Nothing: see stopped_by_signals."""
            yield

        @contextlib.contextmanager
        def stopped_by_signals(self) -> Iterator[None]:
            """Within, SIGINT and SIGTERM end the serving in an orderly way."""
            stop = lambda *_: setattr(self, "should_exit", True)
            before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
            try:
                yield
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)

        async def startup(self, sockets: Any = None) -> None:
            """As uvicorn's, then `ready`."""
            await super().startup(sockets)
            self.ready()

    return Server
