"""Trials: which pair a rater is asked about, and what becomes of the answer.

All functions run within one transaction of the study's database.
"""

from __future__ import annotations

import datetime
import json
import secrets
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from mammadai_jax.listening.study.database import Database
from mammadai_jax.listening.study.records import Answer, Heard, Rater, Refused, Side, StudySettings, Trial
from mammadai_jax.listening.study.selection import select

SLACK_SECONDS = 3.0  # by which what was heard may exceed the time since the trial was issued
OTHER = {"a": "b", "b": "a"}
CATCHES = ("identical", "wrong_notes", "shuffled_bars", "repeat")


def now() -> str:
    """The time in ISO 8601, UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def answered(database: Database, rater: Rater) -> int:
    """How many answers of a rater stand."""
    return database.value(
        "SELECT COUNT(*) FROM answers JOIN trials ON trials.id = trial "
        "WHERE rater = ? AND NOT answers.withdrawn",
        rater.id,
    )


def next_trial(database: Database, settings: StudySettings, rater: Rater) -> Trial | None:
    """The rater's open trial, else a new one; None if the quota is reached or no pair is left."""
    row = database.row("SELECT * FROM trials WHERE rater = ? AND is_open ORDER BY id LIMIT 1", rater.id)
    count = answered(database, rater)
    if row is None:
        if count >= rater.quota:
            return None
        number = _begin(database, settings, rater, count)
        row = number and database.row("SELECT * FROM trials WHERE id = ?", number)
    return _shown(database, row, rater, count) if row else None


def _begin(database: Database, settings: StudySettings, rater: Rater, count: int) -> int | None:
    """A new trial -> its number; None if no pair is left for this rater."""
    random = np.random.default_rng(
        [settings.seed, rater.id, count, database.value("SELECT COUNT(*) FROM trials")]
    )
    kind = _catch_due(settings, rater, count)
    chosen = _catch_pair(database, rater, kind, random) if kind else None
    chosen = chosen or _pair(database, settings, rater, random)
    if chosen is None:
        return None
    pair, kind, swapped, propensity, candidates = chosen
    if swapped is None:
        swapped = _side(database, rater, pair, random)
    if kind != "repeat":  # in its pair's row, so that a choice among many pairs need not count their trials
        sql = "UPDATE pairs SET given = given + 1, balance = balance + ? WHERE id = ?"
        database.execute(sql, 1 if swapped else -1, pair)
    return database.insert(
        "trials",
        rater=rater.id,
        pair=pair,
        kind=kind,
        swapped=int(swapped),
        propensity=propensity,
        candidates=candidates,
        nonce=secrets.token_urlsafe(16),
        issued=time.time(),
    )


def _catch_due(settings: StudySettings, rater: Rater, count: int) -> str:
    """The kind of catch that is due now, one at a random place of every block; empty for none."""
    if not settings.catch_every:
        return ""
    block, place = divmod(count, settings.catch_every)
    random = np.random.default_rng([settings.seed, rater.id, block])
    is_due = place == random.integers(settings.catch_every)
    return CATCHES[(rater.id + block) % len(CATCHES)] if is_due else ""


def _catch_pair(database: Database, rater: Rater, kind: str, random: np.random.Generator) -> tuple | None:
    """A catch pair that the rater has not had, or an earlier pair with its sides swapped."""
    if kind == "repeat":
        rows = database.rows(
            "SELECT pair, swapped FROM trials WHERE rater = ?1 AND kind = '' AND NOT is_open AND NOT EXISTS "
            "(SELECT 1 FROM trials AS again WHERE again.rater = ?1 AND again.pair = trials.pair AND "
            "again.kind = 'repeat') ORDER BY id LIMIT -1 OFFSET 2",
            rater.id,
        )
    else:
        rows = database.rows(
            "SELECT id AS pair FROM pairs WHERE catch = ?2 AND NOT withdrawn AND NOT EXISTS "
            "(SELECT 1 FROM trials WHERE trials.pair = pairs.id AND rater = ?1)",
            rater.id,
            kind,
        )
    if not rows:
        return None
    row = rows[random.integers(len(rows))]
    return row["pair"], kind, (not row["swapped"]) if kind == "repeat" else None, None, None


def _pair(
    database: Database, settings: StudySettings, rater: Rater, random: np.random.Generator
) -> tuple | None:
    """A pair by its gain: of those that fewer raters have than `overlap`, else of those that fewest have."""
    rows = database.rows(
        "SELECT id, gain, given, round FROM pairs WHERE catch = '' AND NOT withdrawn AND NOT EXISTS "
        "(SELECT 1 FROM trials WHERE rater = ? AND pair = pairs.id AND kind = '')",
        rater.id,
    )
    if not rows:
        return None
    newest = database.value("SELECT MAX(round) FROM pairs WHERE catch = '' AND NOT withdrawn")
    rows = [row for row in rows if row["round"] == newest] or rows
    most = max(settings.overlap - 1, min(row["given"] for row in rows))
    rows = [row for row in rows if row["given"] <= most]
    selected = select(random, np.array([row["gain"] for row in rows]), settings.random_share)
    return rows[selected.index]["id"], "", None, selected.propensity, len(rows)


def _side(database: Database, rater: Rater, pair: int, random: np.random.Generator) -> bool:
    """Whether b is to be called A: as the pair was shown less often, else as this rater saw less often."""
    of_pair = database.value("SELECT balance FROM pairs WHERE id = ?", pair)
    of_rater = database.value(
        "SELECT COALESCE(SUM(2 * swapped - 1), 0) FROM trials WHERE rater = ? AND kind = ''", rater.id
    )
    return bool(random.integers(2)) if of_pair == of_rater == 0 else (of_pair or of_rater) < 0


def _shown(database: Database, row: Any, rater: Rater, count: int) -> Trial:
    """A trial as the page needs it, without systems and without the kind of the trial."""
    pair = database.row("SELECT * FROM pairs WHERE id = ?", row["pair"])
    assert pair is not None
    a, b = (_clip(database, row, pair, name) for name in ("ba" if row["swapped"] else "ab"))
    return Trial(row["nonce"], pair["prompt"], a, b, count, rater.quota)


def _clip(database: Database, trial: Any, pair: Any, name: str) -> Side:
    row = database.row("SELECT * FROM clips WHERE id = ?", pair[name])
    assert row is not None
    _, heard = seconds_heard(database, trial, name)
    return Side(row["id"], row["audio"], json.loads(row["roll"]), bool(row["sheet"]), row["seconds"], heard)


def give_answer(
    database: Database, settings: StudySettings, rater: Rater, answer: Answer, intervals: Sequence[Heard] = ()
) -> int:
    """Store an answer, with what was heard -> how many the rater has given.

    The same answer sent again is accepted again and stored once. Refused for a nonce that is unknown, another
    rater's, or used for another answer, and for clips that were not heard.
    """
    trial = _trial_of(database, rater, answer.nonce)
    given = database.row("SELECT choice, strength FROM answers WHERE nonce = ?", answer.nonce)
    if given:
        if (given["choice"], given["strength"]) != (_turned(trial, answer.choice), answer.strength):
            raise Refused("this pair was answered already: go back to it to change the answer")
        return answered(database, rater)
    store_heard(database, rater, answer.nonce, intervals)
    _check_heard(database, settings, trial)
    database.insert(
        "answers",
        trial=trial["id"],
        nonce=answer.nonce,
        choice=_turned(trial, answer.choice),
        strength=answer.strength,
        given=now(),
    )
    database.execute("UPDATE trials SET is_open = 0 WHERE id = ?", trial["id"])
    return answered(database, rater)


def store_heard(database: Database, rater: Rater, nonce: str, intervals: Sequence[Heard]) -> None:
    """Store what was played; Refused if it is more than the time since the trial was issued allows."""
    trial = _trial_of(database, rater, nonce)
    if not intervals:
        return
    received = time.time()
    total = database.value(
        "SELECT COALESCE(SUM(last - first), 0) FROM events WHERE trial = ? AND received >= ?",
        trial["id"],
        trial["issued"],
    )
    total += sum(one.last - one.first for one in intervals)
    if total > received - trial["issued"] + SLACK_SECONDS:
        raise Refused("more was heard than time has passed")
    for one in intervals:
        row = one._asdict() | {"side": _turned(trial, one.side)}
        database.insert("events", trial=trial["id"], received=received, **row)


def _check_heard(database: Database, settings: StudySettings, trial: Any) -> None:
    """Refused unless enough of both clips was heard."""
    for name in "ab":
        seconds, heard = seconds_heard(database, trial, name)
        needed = min(settings.minimum_seconds, seconds / 2)
        if heard < needed - 0.05:
            raise Refused(f"listen to at least {needed:.0f} seconds of each piece first")


def seconds_heard(database: Database, trial: Any, name: str) -> tuple[float, float]:
    """How long the clip "a" or "b" of a trial lasts, and how long it was heard."""
    row = database.row(
        "SELECT seconds, "
        "COALESCE((SELECT SUM(last - first) FROM events WHERE trial = ? AND side = ?), 0) AS heard "
        f"FROM clips JOIN pairs ON clips.id = pairs.{name} WHERE pairs.id = ?",
        trial["id"],
        name,
        trial["pair"],
    )
    assert row is not None
    return row["seconds"], row["heard"]


def _trial_of(database: Database, rater: Rater, nonce: str) -> Any:
    """The trial of a nonce, also of one that was used before; Refused if the rater has none such."""
    trial = database.row("SELECT * FROM trials WHERE nonce = ? AND rater = ?", nonce, rater.id)
    trial = trial or database.row(
        "SELECT trials.* FROM trials JOIN answers ON trial = trials.id WHERE answers.nonce = ? AND rater = ?",
        nonce,
        rater.id,
    )
    if trial is None:
        raise Refused("this pair was not given to you: reload the page")
    return trial


def _turned(trial: Any, side: str) -> str:
    """A side, or a choice, of the page as one of the pair, or the other way round."""
    return OTHER.get(side, side) if trial["swapped"] else side


def undo(database: Database, rater: Rater) -> bool:
    """Withdraw the rater's last answer, whose pair is asked about again; false if there is none."""
    row = database.row(
        "SELECT answers.id, trial FROM answers JOIN trials ON trials.id = trial "
        "WHERE rater = ? AND NOT answers.withdrawn ORDER BY answers.id DESC LIMIT 1",
        rater.id,
    )
    if row is None:
        return False
    database.execute("UPDATE answers SET withdrawn = 1 WHERE id = ?", row["id"])
    nonce, issued = secrets.token_urlsafe(16), time.time()
    database.execute(
        "UPDATE trials SET is_open = 1, nonce = ?, issued = ? WHERE id = ?", nonce, issued, row["trial"]
    )
    return True
