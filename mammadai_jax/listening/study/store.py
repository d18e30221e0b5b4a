"""The study itself: what its folder holds, and everything that can be done with it."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mammadai_jax.listening.comparison import MAX_RATIO, Comparison
from mammadai_jax.listening.study import database as databases
from mammadai_jax.listening.study import trials
from mammadai_jax.listening.study.clips import Clip
from mammadai_jax.listening.study.database import Database, StudyError
from mammadai_jax.listening.study.records import Answer, Heard, Rater, StudySettings, Trial, comparison_of
from mammadai_jax.music.files import expanded, write_atomically
from mammadai_jax.music.soundbank import SoundBank, open_bank

AUDIO = "audio"
DIGEST = re.compile(r"[0-9a-f]{64}")
MAX_QUOTA = 100_000


def is_study(path: Path) -> bool:
    """Whether a folder holds a study."""
    return (Path(path) / databases.NAME).is_file()


class Study:
    """A study, open. Threads may share it, and processes may have it open at once.

    Args:
        folder: that holds it.

    Raises:
        StudyError: if there is none.

    """

    def __init__(self, folder: Path | str):
        self.folder = expanded(folder)
        self.database: Database = databases.open_database(self.folder)
        about = {row["name"]: row["value"] for row in self.database.rows("SELECT * FROM about")}
        self.settings = StudySettings(**json.loads(about["settings"]))
        self.admin_token: str = about["admin"]

    def __repr__(self) -> str:
        return f"Study({str(self.folder)!r}, {self.count('pairs')} pairs, {self.count('answers')} answers)"

    @classmethod
    def create(cls, folder: Path | str, settings: StudySettings | None = None) -> Study:
        """A new study in a folder, which may have other files; StudyError if there is one."""
        folder = expanded(folder)
        database = databases.create(folder)
        with database.transaction():
            written = json.dumps(dataclasses.asdict(settings or StudySettings()))
            database.insert("about", name="settings", value=written)
            database.insert("about", name="admin", value=secrets.token_urlsafe(16))
        database.close()
        return cls(folder)

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    def __enter__(self) -> Study:
        """The study itself."""
        return self

    def __exit__(self, *_) -> None:
        """See close."""
        self.close()

    def count(self, table: str) -> int:
        """Rows of "pairs", "raters", "answers" (that stand) or "rounds"; catch pairs are not counted."""
        condition = {"pairs": "catch = ''", "answers": "NOT withdrawn", "raters": "1", "rounds": "1"}[table]
        return self.database.value(f"SELECT COUNT(*) FROM {table} WHERE {condition}")

    # Music

    @functools.cached_property
    def bank(self) -> SoundBank | None:
        """The sound bank that plays every clip; None for the synthesiser. Errors as of `open_bank`."""
        return open_bank(self.settings.soundbank) if self.settings.soundbank else None

    def add(
        self,
        prompt: str,
        a: Clip,
        b: Clip,
        *,
        systems: tuple[str, str] = ("", ""),
        catch: tuple[str, str] = ("", ""),
        **columns: float | None,
    ) -> int:
        """Add a pair -> its number; that of the same pair if it was added before.

        Args:
            prompt: the text that both were made for; empty without one.
            a: one clip.
            b: the other.
            systems: who made a and b.
            catch: kind and expected choice of a catch pair.
            columns: of the table of pairs: gain (by which pairs are selected), round (of learning), and
                selected (probability with which the pair was chosen among others before it came here).

        Raises:
            StudyError: for clips of which one is more than four times as long.

        """
        lengths = sorted((len(a.tokens), len(b.tokens)))
        if lengths[1] > MAX_RATIO * lengths[0]:
            raise StudyError(
                f"clips of {lengths[0]} and {lengths[1]} steps cannot be compared: cut the longer one"
            )
        for each in (a, b):
            self._keep(each)
        with self.database.transaction() as database:
            known = "SELECT id FROM pairs WHERE prompt = ? AND a = ? AND b = ? AND catch = ?"
            number = database.value(known, prompt, a.id, b.id, catch[0])
            if number is not None:
                return number
            names = {"system_a": systems[0], "system_b": systems[1], "catch": catch[0], "expected": catch[1]}
            return database.insert("pairs", prompt=prompt, a=a.id, b=b.id, **names, **columns)

    def _keep(self, music: Clip) -> None:
        """Write a clip's sound, then its row."""
        if self.database.value("SELECT 1 FROM clips WHERE id = ?", music.id):
            return
        path = self._audio_path(music.audio)
        path.parent.mkdir(exist_ok=True)
        if not path.exists():
            write_atomically(path, music.wav)
        with self.database.transaction() as database:
            if not database.value("SELECT 1 FROM clips WHERE id = ?", music.id):
                database.insert("clips", **music.row())

    def _audio_path(self, digest: str) -> Path:
        assert DIGEST.fullmatch(digest)
        return self.folder / AUDIO / f"{digest}.wav"

    def audio(self, digest: str) -> bytes | None:
        """The sound of this SHA-256; None if no clip has it. StudyError if the file is damaged."""
        if not DIGEST.fullmatch(digest) or not self.database.value(
            "SELECT 1 FROM clips WHERE audio = ?", digest
        ):
            return None
        try:
            data = self._audio_path(digest).read_bytes()
        except OSError as error:
            raise StudyError(f"a sound of {self.folder} cannot be read: {error}") from None
        if hashlib.sha256(data).hexdigest() != digest:
            raise StudyError(f"{self._audio_path(digest)} was damaged: put back a copy of it")
        return data

    def sheet(self, digest: str) -> str | None:
        """The sheet music of the clip of this SHA-256, SVG; None if there is none."""
        return self.database.value("SELECT sheet FROM clips WHERE id = ? AND sheet != ''", digest)

    def set_gains(self, gains: Mapping[int, float]) -> None:
        """Say what an answer to each pair, by its number, is expected to teach; others keep theirs."""
        with self.database.transaction() as database:
            for pair, gain in gains.items():
                database.execute("UPDATE pairs SET gain = ? WHERE id = ?", float(gain), pair)

    # Raters

    def invite(self, name: str = "", quota: int = 20, *, simulated: bool = False) -> Rater:
        """A new rater, who is known by a secret token; StudyError for a quota out of range."""
        _check_quota(quota)
        with self.database.transaction() as database:
            columns = {
                "token": secrets.token_urlsafe(16),
                "name": name,
                "quota": quota,
                "simulated": int(simulated),
            }
            number = database.insert("raters", **columns, created=trials.now())
        return Rater(number, columns["token"], name, quota, simulated)

    def rater(self, token: str) -> Rater | None:
        """The rater of a token; None if there is none."""
        row = self.database.row("SELECT * FROM raters WHERE token = ?", token)
        return None if row is None else _rater(row)

    def raters(self) -> list[Rater]:
        """All raters in the order in which they were invited."""
        return [_rater(row) for row in self.database.rows("SELECT * FROM raters ORDER BY id")]

    def extend(self, rater: Rater, more: int) -> Rater:
        """The rater with a larger quota; StudyError if it would be out of range."""
        _check_quota(rater.quota + more)
        with self.database.transaction() as database:
            database.execute("UPDATE raters SET quota = quota + ? WHERE id = ?", more, rater.id)
        return rater._replace(quota=rater.quota + more)

    # Questions and answers

    def next_trial(self, rater: Rater) -> Trial | None:
        """What the rater is asked now, the same until it is answered; None if that was all for now."""
        with self.database.transaction() as database:
            return trials.next_trial(database, self.settings, rater)

    def answer(self, rater: Rater, answer: Answer, intervals: Sequence[Heard] = ()) -> int:
        """Keep an answer, and the intervals of the clips that were played -> the rater's answers so far.

        It is on the disk when this returns. The same answer again changes nothing; Refused, see
        `trials.give_answer`, for another one.
        """
        with self.database.transaction() as database:
            return trials.give_answer(database, self.settings, rater, answer, intervals)

    def played(self, rater: Rater, nonce: str, intervals: Sequence[Heard]) -> None:
        """Keep what was played of a trial's clips; Refused if it cannot be."""
        with self.database.transaction() as database:
            trials.store_heard(database, rater, nonce, intervals)

    def undo(self, rater: Rater) -> bool:
        """Withdraw the rater's last answer, so that its pair is asked about next; false if there is none."""
        with self.database.transaction() as database:
            return trials.undo(database, rater)

    def answered(self, rater: Rater) -> int:
        """How many answers of a rater stand."""
        return trials.answered(self.database, rater)

    # What came of it

    def comparisons(self, *, catches: bool = False) -> list[Comparison]:
        """All answers that stand, in the order in which they were given.

        With `catches` also those to catch pairs and to repeated ones; `extra["kind"]` says which those are.
        """
        condition = "" if catches else "AND trials.kind = ''"
        rows = self.database.rows(
            "SELECT answers.id AS answer, answers.*, trials.*, pairs.*, "
            "raters.name, raters.simulated, raters.id AS rater FROM answers "
            "JOIN trials ON trials.id = answers.trial JOIN pairs ON pairs.id = trials.pair "
            "JOIN raters ON raters.id = trials.rater "
            f"WHERE NOT answers.withdrawn {condition} ORDER BY answers.id"
        )
        tokens = {row["id"]: row["tokens"] for row in self.database.rows("SELECT id, tokens FROM clips")}
        played: dict[int, list[Any]] = {}
        for event in self.database.rows(
            "SELECT trial, side, last - first AS seconds FROM events ORDER BY id"
        ):
            played.setdefault(event["trial"], []).append(event)
        return [comparison_of(row, tokens, played.get(row["trial"], [])) for row in rows]


def _rater(row: Any) -> Rater:
    return Rater(row["id"], row["token"], row["name"], row["quota"], bool(row["simulated"]))


def _check_quota(quota: int) -> None:
    if not 1 <= quota <= MAX_QUOTA:
        raise StudyError(f"a quota is 1 to {MAX_QUOTA} answers, not {quota}")


def remove_unused(study: Study) -> int:
    """Remove sounds that no clip has, as an interrupted `add` leaves them -> how many."""
    known = {row["audio"] for row in study.database.rows("SELECT audio FROM clips")}
    unused = [path for path in (study.folder / AUDIO).glob("*.wav") if path.stem not in known]
    for path in unused:
        path.unlink()
    return len(unused)
