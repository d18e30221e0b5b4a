"""The page of a training that goes on: written anew after every stage, so that each is heard as it ends."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from datetime import datetime

from mammadai_jax.music import sample, statistics
from mammadai_jax.music.notes import Melody
from mammadai_jax.music.sample import Sample
from mammadai_jax.training import interruption, launch
from mammadai_jax.training.context import has_ended, is_left_out, say, way_on
from mammadai_jax.training.report import Progress, Renderer, Report, StageReport, write
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
from mammadai_jax.training.settings import Parts
from mammadai_jax.training.stage import Context, Part


class LivePage:
    """The page of a run and what it shows so far; only the leading process writes it.

    A page that an earlier start of the run has left stays until all stages are shown that had ended before.

    Args:
        parts: the run's stages with their settings.
        context: of the run.
        num_samples: melodies that each stage composes, from which its statistics are computed.
        saved_samples: melodies of each stage to hear.

    """

    def __init__(self, parts: Parts, context: Context, *, num_samples: int, saved_samples: int):
        self.path = context.path / "report.html"
        self._parts, self._context = parts, context
        self._counts = {"num_samples": num_samples, "saved_samples": saved_samples}
        self._following = [part for part in parts.values() if not is_left_out(part)]
        self._ended: list[Part] = []
        self._samples: dict[str, list[Sample]] = {}
        self._reports: list[StageReport] = []
        self._between: Curves = {}
        self._renderer = Renderer()

    @contextlib.contextmanager
    def open(self) -> Iterator[LivePage]:
        """Within, the training goes on; if it stops before its end, the page says so."""
        self._write()
        say(f"page: {self.path.as_uri()} shows each stage as it ends")
        try:
            yield self
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                interruption.ignore()
            with contextlib.suppress(OSError):  # the disk may be full
                self._write(self._why(error))
            raise

    def add(self, part: Part, context: Context) -> None:
        """Show a stage that has ended: what it composes, and the curves of those before it that do not.

        Args:
            part: the stage.
            context: with what it and those before it learned.

        """
        if not launch.leads():
            return
        name, compose = part.spec.name, part.spec.compose
        if compose is None:
            own = curves(rows_of(context.path, name))
            self._between |= {f"{name}/{metric}": points for metric, points in own.items()}
        else:
            self._samples[name] = samples = write_samples(part, context, **self._counts)
            kept = {"saved_samples": self._counts["saved_samples"], "between": self._between}
            self._reports.append(stage_report(part, context, samples, self._tunes, **kept))
            self._between = {}
        self._following.remove(part)
        self._ended.append(part)
        self._write()

    def finish(self, context: Context, seconds: float) -> None:
        """Write the page of a training that has ended, after so many seconds."""
        if launch.leads():
            made = self._samples, self._reports
            report = run_report(self._parts, context, *made, seconds=seconds, **self._counts)
            write(self.path, report, self._renderer)

    @functools.cached_property
    def _tunes(self) -> list[Melody]:
        return [tune.melody for tune in sample.tunes(progressions=True)]

    def _write(self, stopped: str = "") -> None:
        """Write what is shown so far, unless the page that lies there may show more."""
        behind = any(has_ended(self._context.path, part) for part in self._following)
        if launch.leads() and not (behind and self.path.exists()):
            write(self.path, self._so_far(stopped), self._renderer)

    def _so_far(self, stopped: str) -> Report:
        """The report of a training that goes on, or has stopped for a reason."""
        titles = lambda parts: tuple(part.spec.title for part in parts)
        composing = [part.spec for part in (*self._ended, *self._following) if part.spec.compose]
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        return Report(
            title=title(composing),
            stages=self._reports,
            reference=statistics.table(self._tunes) if self._reports else {},
            facts=facts(self._context),
            progress=Progress(titles(self._ended), titles(self._following), len(composing), now, stopped),
        )

    def _why(self, error: BaseException) -> str:
        """Why the training has stopped, and how it goes on."""
        reason = "was interrupted" if isinstance(error, KeyboardInterrupt) else f"stopped: {error}"
        return f"The training {reason}; {way_on(self.path.parent)}"
