"""How many raters can answer at once, and whether an answer is lost when the server is killed.

    python -m experiments.rating_load --out runs/load [--raters 200 --seconds 60 --kills 10]

Serves a study of short clips with `mammadai rate` and answers as so many raters on one machine, each
waiting about a second before the next answer. An answer that is not acknowledged is sent again, as the page
does. With `--kills` the server is killed (SIGKILL) so often meanwhile and started again. Afterwards the study
is opened, and what was acknowledged is compared with what it holds. Prints and writes `load.csv`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mammadai_jax.listening.study import Rater, Study, StudySettings, clip_of
from mammadai_jax.music.files import write_atomically
from mammadai_jax.music.notes import Melody
from mammadai_jax.music.sample import Sample

THINKING = 1.0  # mean seconds between an answer and the next
CLIPS = 24
CHOICES = ("a", "b", "tie", "both_bad")


class Given(NamedTuple):
    """An answer that was acknowledged: rater, nonce, choice, and how long that took."""

    rater: int
    nonce: str
    choice: str
    seconds: float


def filled(folder: Path, raters: int, pairs: int, bars: int = 1) -> Study:
    """A study of so many pairs of clips of a second a bar, and raters without a quota to speak of."""
    study = Study.create(folder, StudySettings(minimum_seconds=0, catch_every=0))
    clips = [clip_of(_sample(number, bars), sheet=False) for number in range(CLIPS)]
    for number in range(pairs):
        a, b = divmod(number, CLIPS - 1)
        study.add(f"tune {number}", clips[a % CLIPS], clips[(a + b + 1) % CLIPS], systems=("new", "old"))
    for number in range(raters):
        study.invite(f"load-{number}", quota=100_000, simulated=True)
    return study


def _sample(number: int, bars: int) -> Sample:
    events = np.full(16 * bars, -2, np.int16)
    events[::4] = [48 + number, 60, 64, 67] * bars
    return Sample(Melody(events, tempo=240.0), "a tune")


class Server:
    """The command as a process of its own, which can be killed and started again at the same port."""

    def __init__(self, folder: Path, cores: str):
        self.folder, self.cores = folder, cores
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.start()

    def start(self) -> None:
        """Start it, and wait until it serves."""
        program = [sys.executable, "-m", "mammadai_jax", "rate", str(self.folder), "--port", str(self.port)]
        pinned = ["taskset", "-c", self.cores] if self.cores else []
        self.process = subprocess.Popen([*pinned, *program], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        while "Ctrl-C" not in (line := self.process.stdout.readline()):
            if not line:
                raise RuntimeError("the server did not start")

    def kill(self) -> None:
        """End it as a power failure does, and start it again."""
        self.process.kill()
        self._ended()
        self.start()

    def stop(self) -> None:
        """End it in order."""
        self.process.send_signal(signal.SIGINT)
        self._ended()

    def _ended(self) -> None:
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()


class Client:
    """One rater's connection, opened again when it breaks."""

    def __init__(self, port: int, rater: Rater):
        self.port, self.rater = port, rater
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send a message until it is answered -> the answer."""
        while True:
            try:
                return await self._once(method, path, body)
            except (OSError, EOFError, ValueError):
                self.close()
                await asyncio.sleep(0.2)

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self.streams is not None:
            self.streams[1].transport.abort()
        self.streams = None

    async def _once(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        if self.streams is None:
            self.streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self.streams
        host, data = f"127.0.0.1:{self.port}", b"" if body is None else json.dumps(body).encode()
        head = [f"{method} {path} HTTP/1.1", f"host: {host}", f"origin: http://{host}"]
        head += [f"cookie: rater={self.rater.token}", "content-type: application/json"]
        writer.write("\r\n".join([*head, f"content-length: {len(data)}", "", ""]).encode() + data)
        await writer.drain()
        answer = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = re.search(r"(?i)content-length: (\d+)", answer)
        content = await reader.readexactly(int(length[1]) if length else 0)
        if " 200 " not in answer.partition("\r\n")[0]:
            raise RuntimeError(f"{path}: {answer.partition(chr(13))[0]} {content[:200]!r}")
        return json.loads(content)


async def rate(client: Client, until: float, given: list[Given], seed: int) -> None:
    """Answer until the time is up."""
    random = np.random.default_rng(seed)
    await asyncio.sleep(random.uniform(0, THINKING))
    state = await client.ask("GET", "/api/state")
    while time.monotonic() < until and state["trial"]:
        nonce, choice = state["trial"]["nonce"], str(random.choice(CHOICES))
        begun = time.monotonic()
        state = await client.ask("POST", "/api/answer", {"nonce": nonce, "choice": choice})
        given.append(Given(client.rater.id, nonce, choice, time.monotonic() - begun))
        await asyncio.sleep(random.exponential(THINKING))
    client.close()


async def load(server: Server, raters: list[Rater], seconds: float, kills: int) -> list[Given]:
    """All raters at once, while the server is killed so often -> what was acknowledged."""
    given: list[Given] = []
    until = time.monotonic() + seconds
    raters_at_once = [rate(Client(server.port, rater), until, given, rater.id) for rater in raters]

    async def killer() -> None:
        for _ in range(kills):
            await asyncio.sleep(seconds / (kills + 1))
            await asyncio.to_thread(server.kill)

    await asyncio.gather(killer(), *raters_at_once)
    return given


def compared(study: Study, given: list[Given]) -> dict[str, float]:
    """What the study holds beside what was acknowledged."""
    rows = study.database.rows("SELECT nonce, COUNT(*) AS count FROM answers GROUP BY nonce")
    stored = {row["nonce"]: row["count"] for row in rows}
    doubled = study.database.value(
        "SELECT COUNT(*) FROM (SELECT 1 FROM answers WHERE NOT withdrawn GROUP BY trial HAVING COUNT(*) > 1)"
    )
    times = np.array([one.seconds for one in given])
    return {
        "acknowledged": len(given),
        "lost": sum(one.nonce not in stored for one in given),
        "doubled": doubled + sum(count > 1 for count in stored.values()),
        "stored without being acknowledged": len(stored.keys() - {one.nonce for one in given}),
        "median, ms": 1000 * float(np.median(times)),
        "99th percentile, ms": 1000 * float(np.quantile(times, 0.99)),
        "longest, ms": 1000 * float(times.max()),
    }


def main() -> None:
    """Measure once without and once with kills."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--raters", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--cores", default="", help="cores of the server, as taskset takes them")
    options = parser.parse_args()
    lines = ["kills,quantity,value"]
    for kills in dict.fromkeys((0, options.kills)):
        folder = options.out / f"study-{os.getpid()}-{kills}"
        study = filled(folder, options.raters, pairs=200)
        with contextlib.closing(study):
            server = Server(folder, options.cores)
            try:
                given = asyncio.run(load(server, study.raters(), options.seconds, kills))
            finally:
                server.stop()
            for name, value in compared(study, given).items():
                print(f"{kills:3} kills  {name:36} {value:10.1f}", flush=True)
                lines.append(f"{kills},{name},{value:.1f}")
    write_atomically(options.out / "load.csv", ("\n".join(lines) + "\n").encode())


if __name__ == "__main__":
    main()
