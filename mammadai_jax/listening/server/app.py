"""The pages and their data: a starlette application over a study.

Raters and the researcher are known by a secret link, which leaves a cookie. No path comes from an
address: sound and sheet music are looked up by their digests, and the page's own files are read when the
server starts.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from anyio.to_thread import run_sync
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from mammadai_jax.listening.pairs import line_of
from mammadai_jax.listening.server.guard import Guard, cookie_of
from mammadai_jax.listening.server.writer import Writer
from mammadai_jax.listening.study import Rater, Refused, Side, Study, Trial, checked_answer, checked_heard
from mammadai_jax.listening.study.results import results_of
from mammadai_jax.listening.study.rounds import learning_of, request_round

STATIC = Path(__file__).with_name("static")
KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
MORE = 10  # answers that a rater can add to the quota at once
YEAR = 365 * 86_400
Handler = Callable[[Request], Awaitable[Response]]


class Pages:
    """The handlers of a study's pages.

    Attributes:
        study: whose pages they are.
        writer: through which they are changed.
        files: of the pages: contents and media type by name.

    """

    def __init__(self, study: Study):
        self.study, self.writer = study, Writer(study.database)
        names = [path for path in STATIC.iterdir() if path.suffix in KINDS]
        self.files = {path.name: (path.read_bytes(), KINDS[path.suffix]) for path in names}

    def routes(self) -> list[Route]:
        """All addresses."""
        get = {
            "/": self.front,
            "/r/{token}": self.invited,
            "/results/{token}": self.results_page,
            "/static/{name}": self.static,
            "/audio/{digest}.wav": self.audio,
            "/sheet/{clip}.svg": self.sheet,
            "/api/state": self.state,
            "/api/results": self.results,
            "/api/comparisons.jsonl": self.comparisons,
        }
        post = {
            "/api/answer": self.answer,
            "/api/played": self.played,
            "/api/undo": self.undo,
            "/api/more": self.more,
            "/api/learn": self.learn,
        }
        return [
            *(Route(path, _explained(handler), methods=["GET"]) for path, handler in get.items()),
            *(Route(path, _explained(handler), methods=["POST"]) for path, handler in post.items()),
        ]

    # Pages

    async def front(self, request: Request) -> Response:
        """The raters' page, for whoever has the cookie already."""
        return self._file("rate.html")

    async def invited(self, request: Request) -> Response:
        """The raters' page under the link of an invitation, which leaves the cookie."""
        rater = await run_sync(self.study.rater, request.path_params["token"])
        if rater is None:
            return self._file("unknown.html", status=404)
        return self._with_cookie("rate.html", "rater", rater.token, request)

    async def results_page(self, request: Request) -> Response:
        """The researcher's page under its secret link."""
        if not _equal(request.path_params["token"], self.study.admin_token):
            return self._file("unknown.html", status=404)
        return self._with_cookie("results.html", "admin", self.study.admin_token, request)

    async def static(self, request: Request) -> Response:
        """A file of the pages."""
        name = request.path_params["name"]
        return self._file(name) if name in self.files else PlainTextResponse("not found", 404)

    def _file(self, name: str, status: int = 200) -> Response:
        data, kind = self.files[name]
        return Response(data, status, {"cache-control": "no-cache"}, kind)

    def _with_cookie(self, name: str, cookie: str, value: str, request: Request) -> Response:
        response = self._file(name)
        secure = request.url.scheme == "https"
        response.set_cookie(cookie, value, YEAR, httponly=True, samesite="strict", secure=secure)
        return response

    # Sound and scores

    async def audio(self, request: Request) -> Response:
        """A sound, whole: players fetch it once, so that no ranges are served."""
        await self._known(request)
        data = await run_sync(self.study.audio, request.path_params["digest"])
        return _kept(data, "audio/wav")

    async def sheet(self, request: Request) -> Response:
        """Sheet music."""
        await self._known(request)
        text = await run_sync(self.study.sheet, request.path_params["clip"])
        return _kept(text.encode() if text else None, "image/svg+xml")

    async def _known(self, request: Request) -> None:
        token = cookie_of({"cookie": request.headers.get("cookie", "")}, "rater")
        await run_sync(self._rater, token)

    # The raters' data

    async def state(self, request: Request) -> Response:
        """All that the page shows."""
        return await self._of_rater(request, lambda rater: state_of(self.study, rater))

    async def answer(self, request: Request) -> Response:
        """Take an answer; it is on the disk before this is answered, with what comes next."""
        body = await _json(request)
        answer = checked_answer(body.get("nonce"), body.get("choice"), body.get("strength"))
        intervals = checked_heard(body.get("played", []))

        def kept(rater: Rater) -> dict[str, Any]:
            self.study.answer(rater, answer, intervals)
            return state_of(self.study, rater)

        return await self._of_rater(request, kept)

    async def played(self, request: Request) -> Response:
        """Take a report of what was played."""
        body = await _json(request)
        intervals = checked_heard(body.get("played", []))
        nonce = checked_answer(body.get("nonce"), "tie").nonce
        return await self._of_rater(request, lambda rater: self.study.played(rater, nonce, intervals) or {})

    async def undo(self, request: Request) -> Response:
        """Go back to the pair before."""

        def undone(rater: Rater) -> dict[str, Any]:
            self.study.undo(rater)
            return state_of(self.study, rater)

        return await self._of_rater(request, undone)

    async def more(self, request: Request) -> Response:
        """Add to the quota of a rater who has reached it."""

        def extended(rater: Rater) -> dict[str, Any]:
            if self.study.answered(rater) >= rater.quota:
                rater = self.study.extend(rater, MORE)
            return state_of(self.study, rater)

        return await self._of_rater(request, extended)

    async def learn(self, request: Request) -> Response:
        """Ask for a round of learning now."""

        def requested(rater: Rater) -> dict[str, Any]:
            request_round(self.study)
            return state_of(self.study, rater)

        return await self._of_rater(request, requested)

    async def _of_rater(self, request: Request, job: Callable[[Rater], dict[str, Any]]) -> Response:
        """What a job for the rater of a request gives, within a transaction."""
        token = cookie_of({"cookie": request.headers.get("cookie", "")}, "rater")
        return JSONResponse(await self.writer.do(lambda: job(self._rater(token))))

    def _rater(self, token: str) -> Rater:
        rater = self.study.rater(token) if token else None
        if rater is None:
            raise PermissionError("open the link that you were given")
        return rater

    # The researcher's data

    async def results(self, request: Request) -> Response:
        """The numbers of the results page."""
        self._admin(request)
        return JSONResponse(await run_sync(results_of, self.study))

    async def comparisons(self, request: Request) -> Response:
        """All comparisons in TRL's preference format."""
        self._admin(request)
        lines = await run_sync(lambda: "".join(map(line_of, self.study.comparisons(catches=True))))
        headers = {"content-disposition": 'attachment; filename="comparisons.jsonl"'}
        return Response(lines, 200, headers, "application/jsonl")

    def _admin(self, request: Request) -> None:
        token = cookie_of({"cookie": request.headers.get("cookie", "")}, "admin")
        if not _equal(token, self.study.admin_token):
            raise PermissionError("open the link of the results that was printed")


def application(study: Study, hosts: tuple[str, ...] | None = None) -> Guard:
    """The application of a study, guarded; `hosts` as `Guard` takes them."""
    return Guard(Starlette(routes=Pages(study).routes()), hosts)


def state_of(study: Study, rater: Rater) -> dict[str, Any]:
    """What a rater's page shows: the study, the pair to be compared, and what the agent has learned."""
    trial = study.next_trial(rater)
    settings = study.settings
    return {
        "title": settings.title,
        "question": settings.question,
        "instructions": settings.instructions,
        "minimum": settings.minimum_seconds,
        "answered": study.answered(rater),
        "quota": rater.quota,
        "trial": trial and _trial(trial),
        "learning": learning_of(study),
    }


def _trial(trial: Trial) -> dict[str, Any]:
    sides = {"a": _side(trial.a), "b": _side(trial.b)}
    return {"nonce": trial.nonce, "prompt": trial.prompt, **sides}


def _side(side: Side) -> dict[str, Any]:
    sheet = f"/sheet/{side.clip}.svg" if side.has_sheet else None
    return {
        "audio": f"/audio/{side.audio}.wav",
        "sheet": sheet,
        "roll": side.roll,
        "seconds": side.seconds,
        "played": side.played,
    }


async def _json(request: Request) -> dict[str, Any]:
    """The object in a body; Refused for anything else."""
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise Refused("the message should be JSON") from None
    if not isinstance(body, dict):
        raise Refused("the message should be a JSON object")
    return body


def _explained(handler: Handler) -> Handler:
    """The handler, whose refusals are answers with a reason."""

    async def handle(request: Request) -> Response:
        try:
            return await handler(request)
        except PermissionError as error:
            return JSONResponse({"error": str(error)}, 401)
        except Refused as error:
            return JSONResponse({"error": str(error)}, 409)

    return handle


def _kept(data: bytes | None, kind: str) -> Response:
    """Data that never change, or that they are not there."""
    if data is None:
        return PlainTextResponse("not found", 404)
    return Response(data, 200, {"cache-control": f"private, max-age={YEAR}, immutable"}, kind)


def _equal(given: str, secret: str) -> bool:
    import hmac

    return hmac.compare_digest(given.encode(), secret.encode())
