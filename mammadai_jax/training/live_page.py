"""The page of a training that goes on: written anew after every stage, so that each is heard as it ends."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from mammadai_jax.music import sample, statistics
from mammadai_jax.music.notes import Melody
from mammadai_jax.music.sample import Sample
from mammadai_jax.training import interruption, launch
from mammadai_jax.training.context import has_ended, way_on
from mammadai_jax.training.report import Progress, Renderer, Report, StageReport, update_progress, write
from mammadai_jax.training.run_report import (
    Curves,
    curves,
    facts,
    rows_of,
    run_report,
    stage_report,
    title,
    write_samples,
)
from mammadai_jax.training.settings import Parts, is_left_out
from mammadai_jax.training.stage import Context, Part


class LivePage:
    """The page of a run and what it shows so far; only the leading process writes it.

    A page that an earlier start of the run has left stays until another stage has ended, but for what it says
    of the progress.

    Args:
        parts: the run's stages with their settings.
        context: of the run.
        num_samples: melodies that each stage composes, from which its statistics are computed.
        saved_samples: melodies of each stage to hear.

    """

    def __init__(self, parts: Parts, context: Context, *, num_samples: int, saved_samples: int):
        self.path = context.path / "report.html"
        self._parts, self._context = parts, context
        self._counts: dict[str, Any] = {"num_samples": num_samples, "saved_samples": saved_samples}
        self._stages = [part for part in parts.values() if not is_left_out(part)]
        self._ended: list[Part] = []
        self._before = self._shown = 0  # stages that ended at an earlier start; that are shown since this one
        self._samples: dict[str, list[Sample]] = {}
        self._reports: list[StageReport] = []
        self._between: Curves = {}
        self._renderer = Renderer()

    @contextlib.contextmanager
    def open(self) -> Iterator[LivePage]:
        """Within, the training goes on; if it stops before its end, the page says so."""
        self._before = self._reached() if self.path.exists() else 0
        self._write()
        try:
            yield self
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                interruption.ignore()
            with contextlib.suppress(OSError):  # the disk may be full
                if launch.leads():
                    update_progress(self.path, self._progress(self._why(error)))
            raise

    def add(self, part: Part, context: Context) -> None:
        """Take up a stage that has ended, and show what is to be shown.

        Args:
            part: the stage.
            context: with what it and those before it learned.

        """
        self._ended.append(part)
        if not self._is_behind():
            self._catch_up(context)
        self._write()

    def finish(self, context: Context, seconds: float) -> None:
        """Write the page of a training that has ended, after so many seconds."""
        self._catch_up(context)
        if launch.leads():
            made = self._samples, self._reports
            report = run_report(self._parts, context, *made, seconds=seconds, **self._counts)
            write(self.path, report, self._renderer)

    def _catch_up(self, context: Context) -> None:
        """Show all stages that have ended."""
        for part in self._ended[self._shown :] if launch.leads() else []:
            self._show(part, context)
        self._shown = len(self._ended)

    def _show(self, part: Part, context: Context) -> None:
        """Let a stage compose for the page, or keep its curves for the next that composes."""
        name = part.spec.name
        if part.spec.compose is None:
            own = curves(rows_of(context.path, name))
            self._between |= {f"{name}/{metric}": points for metric, points in own.items()}
            return
        self._samples[name] = samples = write_samples(part, context, **self._counts)
        kept = {"saved_samples": self._counts["saved_samples"], "between": self._between}
        self._reports.append(stage_report(part, context, samples, self._tunes, **kept))
        self._between = {}

    @functools.cached_property
    def _tunes(self) -> list[Melody]:
        return [tune.melody for tune in sample.tunes(progressions=True)]

    def _reached(self) -> int:
        """How many stages have ended, now or at an earlier start of the run."""
        before = [n for n, part in enumerate(self._stages, 1) if has_ended(self._context.path, part)]
        return max([len(self._ended), *before])

    def _is_behind(self) -> bool:
        """Whether the page of an earlier start shows as much as can be shown."""
        return 0 < self._before >= len(self._ended)

    def _write(self) -> None:
        """Write what is shown so far, or only the progress where the page that lies there shows more."""
        if launch.leads() and self._is_behind():
            update_progress(self.path, self._progress())
        elif launch.leads():
            write(self.path, self._so_far(), self._renderer)

    def _so_far(self) -> Report:
        """The report of a training that goes on."""
        return Report(
            title=title([part.spec for part in self._stages if part.spec.compose]),
            stages=self._reports,
            reference=statistics.table(self._tunes) if self._reports else {},
            facts=facts(self._context),
            progress=self._progress(),
        )

    def _progress(self, stopped: str = "") -> Progress:
        titles, reached = [part.spec.title for part in self._stages], self._reached()
        chapters = sum(part.spec.compose is not None for part in self._stages)
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        return Progress(titles[:reached], titles[reached:], chapters, now, stopped)

    def _why(self, error: BaseException) -> str:
        """Why the training has stopped."""
        if isinstance(error, KeyboardInterrupt):
            return f"The training was interrupted; {way_on(self.path.parent)}"
        return f"The training stopped: {error}"
