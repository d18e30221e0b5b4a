"""One thread that does all work on a study, several requests in one transaction: a commit takes long."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from mammadai_jax.listening.study.database import Database

MOST = 64  # jobs in one transaction
Result = TypeVar("Result")


class Writer:
    """Does jobs on a database in the order in which they come; each is undone alone if it fails.

    A job is answered when the transaction that it is a part of is on the disk.
    """

    def __init__(self, database: Database):
        self.database = database
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        threading.Thread(target=self._work, daemon=True, name="writer of a study").start()

    async def do(self, job: Callable[[], Result]) -> Result:
        """What a job returns, or the error that it raises."""
        future: Future[Result] = Future()
        self._jobs.put((job, future))
        return await asyncio.wrap_future(future)

    def _work(self) -> None:
        while True:
            batch = [self._jobs.get()]
            while len(batch) < MOST and not self._jobs.empty():
                batch.append(self._jobs.get())
            self._batch([(job, future) for job, future in batch if future.set_running_or_notify_cancel()])

    def _batch(self, batch: list[tuple[Callable[[], Any], Future[Any]]]) -> None:
        outcomes: list[tuple[Any, Exception | None]] = []
        try:
            with self.database.transaction():
                outcomes += [self._attempt(job) for job, _ in batch]
        except Exception as error:  # nothing of the batch is kept
            outcomes = [(None, error)] * len(batch)
        for (_, future), (value, error) in zip(batch, outcomes, strict=True):
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)

    def _attempt(self, job: Callable[[], Any]) -> tuple[Any, Exception | None]:
        try:
            with self.database.part():
                return job(), None
        except Exception as error:
            return None, error
