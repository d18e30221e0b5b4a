"""What every request passes before it reaches the study: limits, and checks of where it comes from.

Nothing of it is stored: the counts that limit the rate are in memory, by token and never by address.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit

MAX_BODY = 64 << 10  # bytes
MAX_TOKENS = 10_000  # whose rates are counted
RATE, BURST = 20.0, 80.0  # requests a second of one token, and at once
COOKIES = ("rater", "admin")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "media-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class Buckets:
    """Token buckets by name: `RATE` a second, `BURST` at once."""

    def __init__(self, rate: float = RATE, burst: float = BURST):
        self.rate, self.burst = rate, burst
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, name: str) -> bool:
        """Whether one more request is within the rate of this name."""
        now = time.monotonic()
        left, then = self._left.pop(name, (self.burst, now))
        left = min(self.burst, left + (now - then) * self.rate)
        if len(self._left) >= MAX_TOKENS:
            self._left.pop(next(iter(self._left)))
        self._left[name] = (left - (left >= 1), now)
        return left >= 1


class Guard:
    """An ASGI application around another that answers what is refused, and adds headers to what is not.

    Args:
        app: the application.
        hosts: names under which the server may be asked for; None for any. On loopback they keep another site
            from reaching it by a name of its own that leads here.

    """

    def __init__(self, app: Any, hosts: Iterable[str] | None = LOOPBACK):
        self.app = app
        self.hosts = None if hosts is None else frozenset(hosts)
        self.buckets = Buckets()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer a request, or let the application do so."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        refusal = self._refusal(scope, headers)
        if refusal is None:
            try:
                messages = [await _body(receive)] if scope["method"] == "POST" else []
            except OverflowError:
                refusal = 413, "the message is too long"
            else:
                await self.app(scope, _replayed(messages, receive), _with_headers(send))
                return
        await _answer(_with_headers(send), *refusal)

    def _refusal(self, scope: dict[str, Any], headers: dict[str, str]) -> tuple[int, str] | None:
        """Status and reason if a request is refused by its headers alone."""
        if self.hosts is not None and _host_name(headers.get("host", "")) not in self.hosts:
            return 421, "the page is not served under this name"
        if not self.buckets.take(cookie_of(headers)):
            return 429, "too many requests: wait a moment"
        if scope["method"] in ("GET", "HEAD"):
            return None
        if scope["method"] != "POST":
            return 405, "only GET and POST are answered"
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return 415, "only JSON is taken"
        return None if is_same_origin(headers) else (403, "the message comes from another site")


def is_same_origin(headers: dict[str, str]) -> bool:
    """Whether a message says that it comes from a page of this server; browsers always say where from."""
    origin, host = headers.get("origin", ""), headers.get("host", "")
    fetched = headers.get("sec-fetch-site", "same-origin")
    return bool(host) and urlsplit(origin).netloc.lower() == host.lower() and fetched == "same-origin"


def cookie_of(headers: dict[str, str], name: str = "") -> str:
    """The value of a cookie, by default of the first of COOKIES that is there; empty without."""
    try:
        cookies = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return ""
    names = (name,) if name else COOKIES
    return next((cookies[each].value for each in names if each in cookies), "")


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


async def _body(receive: Any) -> dict[str, Any]:
    """The whole body as one message; OverflowError if it is too long."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return message
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            raise OverflowError
        more = message.get("more_body", False)
    return {"type": "http.request", "body": body, "more_body": False}


def _replayed(messages: list[dict[str, Any]], receive: Any) -> Any:
    async def replay() -> dict[str, Any]:
        return messages.pop(0) if messages else await receive()

    return replay


def _with_headers(send: Any) -> Any:
    added = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

    async def send_with(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *added]}
        await send(message)

    return send_with


async def _answer(send: Any, status: int, reason: str) -> None:
    body = reason.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
