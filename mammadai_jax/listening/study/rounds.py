"""Learning from a study while it goes on: when a round is due, and what came of those before.

The rounds themselves are made elsewhere, by a process that reads the answers from the study and adds pairs.
"""

from __future__ import annotations

import json
from typing import Any

from mammadai_jax.listening.study.store import Study
from mammadai_jax.listening.study.trials import now

BASE = "base"


def agent_of(number: int) -> str:
    """The name of the system that a round made; 0 is the agent as it came."""
    return f"agent {number}"


def enable(study: Study, every: int, run: str) -> None:
    """Say that the agent of a run, by its path, learns after so many answers each."""
    with study.database.transaction() as database:
        database.execute("INSERT OR REPLACE INTO about VALUES ('run', ?)", run)
        database.execute("INSERT OR REPLACE INTO about VALUES ('learn_every', ?)", str(every))
        database.execute("UPDATE rounds SET state = 'interrupted', ended = ? WHERE state = 'learning'", now())


def disable(study: Study) -> None:
    """Say that nothing learns from the study any more."""
    with study.database.transaction() as database:
        database.execute("DELETE FROM about WHERE name IN ('learn_every', 'learn_now')")


def run_of(study: Study) -> str | None:
    """The path of the run that learned last; None if none did."""
    return study.database.value("SELECT value FROM about WHERE name = 'run'")


def every_of(study: Study) -> int | None:
    """After how many answers a round is made; None if nothing learns."""
    value = study.database.value("SELECT value FROM about WHERE name = 'learn_every'")
    return None if value is None else int(value)


def pending(study: Study) -> int:
    """Answers since the last round that was finished or failed."""
    done = study.database.value("SELECT MAX(answers) FROM rounds WHERE state IN ('done', 'failed')")
    return max(0, study.count("answers") - (done or 0))


def request_round(study: Study) -> None:
    """Ask for a round now, whatever number of answers is pending."""
    if every_of(study) is not None:
        with study.database.transaction() as database:
            database.execute("INSERT OR REPLACE INTO about VALUES ('learn_now', '1')")


def is_due(study: Study) -> bool:
    """Whether a round is to be made: enough answers are pending, or it was asked for and some are."""
    every, count = every_of(study), pending(study)
    asked = study.database.value("SELECT 1 FROM about WHERE name = 'learn_now'")
    return every is not None and count > 0 and (count >= every or bool(asked))


def begin_round(study: Study) -> int:
    """A round begins -> its number, 1 for the first."""
    with study.database.transaction() as database:
        number = 1 + (database.value("SELECT MAX(number) FROM rounds WHERE state = 'done'") or 0)
        database.execute("DELETE FROM rounds WHERE number >= ?", number)
        database.execute("DELETE FROM about WHERE name = 'learn_now'")
        columns = {"number": number, "answers": study.count("answers"), "begun": now()}
        database.insert("rounds", **columns, state="learning", report="{}")
    return number


def end_round(study: Study, number: int, report: dict[str, Any], state: str = "done") -> None:
    """A round ends, with numbers about it; pairs of earlier rounds are not asked about any more."""
    with study.database.transaction() as database:
        sql = "UPDATE rounds SET state = ?, report = ?, ended = ? WHERE number = ?"
        database.execute(sql, state, json.dumps(report), now(), number)
        if state == "done":
            database.execute("UPDATE pairs SET withdrawn = 1 WHERE catch = '' AND round < ?", number)


def learning_of(study: Study) -> dict[str, Any] | None:
    """What the page shows of the learning; None if nothing learns and nothing did."""
    every = every_of(study)
    rounds = study.database.rows("SELECT * FROM rounds ORDER BY number")
    if every is None and not rounds:
        return None
    state = rounds[-1]["state"] if rounds else "waiting"
    return {
        "every": every,
        "pending": pending(study),
        "state": state if state in ("learning", "failed") else "waiting",
        "reason": json.loads(rounds[-1]["report"]).get("error", "") if state == "failed" else "",
        "agents": [_against_base(study, 0), *(_against_base(study, row["number"]) for row in _done(rounds))],
    }


def _done(rounds: list[Any]) -> list[Any]:
    return [row for row in rounds if row["state"] == "done"]


def _against_base(study: Study, number: int) -> dict[str, Any]:
    """How often an agent was chosen over the base, by the answers so far."""
    rows = study.database.rows(
        "SELECT choice, system_a, COUNT(*) AS count FROM answers JOIN trials ON trials.id = trial "
        "JOIN pairs ON pairs.id = pair WHERE NOT answers.withdrawn AND kind = '' "
        "AND ?1 IN (system_a, system_b) AND ?2 IN (system_a, system_b) GROUP BY choice, system_a",
        agent_of(number),
        BASE,
    )
    counts = {"number": number, "wins": 0, "losses": 0, "ties": 0}
    for row in rows:
        is_a = row["system_a"] == agent_of(number)
        outcome = {"a": "wins" if is_a else "losses", "b": "losses" if is_a else "wins"}
        counts[outcome.get(row["choice"], "ties")] += row["count"]
    return counts
