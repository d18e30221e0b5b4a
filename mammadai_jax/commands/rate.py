"""`mammadai rate`."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path

import tyro

from mammadai_jax.listening.study import Rater, Study, StudySettings, rounds
from mammadai_jax.listening.study.store import is_study
from mammadai_jax.music.files import expanded, visible
from mammadai_jax.music.soundbank import open_bank


@dataclasses.dataclass(frozen=True)
class Rate:
    """Serve a page on which people hear two pieces of music and say which is better.

    Attributes:
        sources: a run (its newest agent against its base), two runs, two folders of MIDI, or a study that was
            begun before.
        out: folder of the study; by default `study` in the run, or here.
        pairs: how many are made.
        raters: how many links for raters there are at least; each is one person's.
        quota: answers that a rater is asked for.
        question: that each pair is asked with; by default which one is liked better.
        minimum_seconds: of each piece that must be heard before an answer counts.
        seed: of all randomness.
        host: address to serve at; by default only this machine reaches the page.
        port: to serve at; 0 for any that is free.
        open: open the page in the browser.
        learn: let the run's agent learn from the answers while the page is served.
        every: answers after which it learns.
        soundbank: an SF2 file whose instruments play, or auto for one of this system's; a study keeps the one
            that it began with. Without it a small synthesiser plays, which needs no bank.
        results: print the results of the study instead of serving it.

    """

    sources: tyro.conf.Positional[tuple[Path, ...]] = (Path("runs/mammadai"),)
    out: Path | None = None
    pairs: int = 20
    raters: int = 1
    quota: int = 20
    question: str = StudySettings.question
    minimum_seconds: float = StudySettings.minimum_seconds
    seed: int = 0
    host: str = "127.0.0.1"
    port: int = 8765
    open: bool = False
    learn: bool = False
    every: int = 20
    soundbank: str | None = None
    results: bool = False

    def run(self) -> int:
        """Serve the study until it is interrupted, then say how to go on."""
        from mammadai_jax.listening.server.run import check_installed, listening_socket, serve

        sources = [expanded(path) for path in self.sources]
        folder = self.out or default_folder(sources)
        if self.results:
            return _print_results(Study(folder))
        self._check()
        check_installed()
        with listening_socket(self.host, self.port) as listener, self._study(sources, folder) as study:
            raters = self._raters(study)
            with self._learning(study, sources):
                serve(study, listener, self.host, lambda: self._welcome(study, raters, listener))
            count = study.count("answers")
        print(f"\n{count} answers are kept in {visible(folder)}. {_way_on(folder)}")
        return 0

    def _check(self) -> None:
        """ValueError for flags that are out of range."""
        if not 1 <= self.raters <= 10_000:
            raise ValueError(f"--raters is between 1 and 10000, not {self.raters}")
        if not 1 <= self.every <= 10_000:
            raise ValueError(f"--every is between 1 and 10000, not {self.every}")

    def _study(self, sources: list[Path], folder: Path) -> Study:
        """The study in the folder, or a new one."""
        bank = open_bank(self.soundbank) if self.soundbank is not None else None
        played = str(bank.path.resolve()) if bank else ""
        if is_study(folder):
            return self._begun(Study(folder), played)
        from mammadai_jax.stages.rating import Making, make_study
        from mammadai_jax.stages.rating_rounds import check_learnable

        if self.learn:  # before anything is composed
            check_learnable(sources[0])
        own = {name: getattr(self, name) for name in ("question", "minimum_seconds", "seed")}
        settings = StudySettings(**own, soundbank=played)
        return make_study(sources, folder, Making(self.pairs, self.seed, settings, _progress))

    def _begun(self, study: Study, played: str) -> Study:
        """A study that was begun before; ValueError if something else is to play in it now."""
        before = study.settings.soundbank
        if played and played != before:
            by = f"the sound bank {before}" if before else "the synthesiser"
            raise ValueError(
                f"the clips of {study.folder} are played by {by}, and more would sound otherwise: go on "
                "without --soundbank, or begin another study with --out"
            )
        if self.learn and study.bank:  # before answers wait for clips that cannot be made
            print(f"played by {study.bank.path}", file=sys.stderr)
        return study

    def _raters(self, study: Study) -> list[Rater]:
        """The study's raters, with as many more as --raters asks for."""
        for _ in range(self.raters - len(study.raters())):
            study.invite(quota=self.quota)
        return study.raters()

    def _learning(self, study: Study, sources: list[Path]) -> contextlib.AbstractContextManager[None]:
        """Within, the agent learns, if that is asked for."""
        if not self.learn:
            rounds.disable(study)
            return contextlib.nullcontext()
        from mammadai_jax.stages.rating_rounds import learning_process

        return learning_process(study, sources, self.every)

    def _welcome(self, study: Study, raters: list[Rater], listener) -> None:
        """Print the links, and open the first."""
        from mammadai_jax.listening.server.run import address_of, is_loopback

        address = address_of(listener, self.host)
        for rater in raters:
            name = "listen" if len(raters) == 1 else rater.name or f"rater {rater.id}"
            print(f"{name}: {address}/r/{rater.token}")
        print(f"results: {address}/results/{study.admin_token}")
        if not is_loopback(self.host):
            print("others reach this page, and nothing is encrypted: put it behind HTTPS", file=sys.stderr)
        print("Ctrl-C ends the page; every answer is kept when it is given.", flush=True)
        if self.open:
            webbrowser.open(f"{address}/r/{raters[0].token}")


def default_folder(sources: Sequence[Path]) -> Path:
    """Where the study of these sources is kept: in the run, or in the folder `study` here."""
    from mammadai_jax.training.run import is_box

    if len(sources) == 1 and not is_box(sources[0]):
        return sources[0] if is_study(sources[0]) else sources[0] / "study"
    return Path("study")


def _way_on(folder: Path) -> str:
    named = shlex.quote(str(folder))
    return f"Go on with `mammadai rate {named}`; the answers train a run with --reward-model.ratings {named}"


def _progress(done: int, total: int) -> None:
    """A line on standard error while clips are made."""
    print(
        f"\rrendering pairs: {done}/{total}", end="\n" if done == total else "", file=sys.stderr, flush=True
    )


def _print_results(study: Study) -> int:
    from mammadai_jax.listening.study.report import in_lines

    for line in in_lines(study):
        print(visible(line))
    return 0
