"""What goes into a study and comes out of it: settings, raters, trials, answers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mammadai_jax.listening.comparison import CHOICES, Comparison
from mammadai_jax.listening.study.database import StudyError

MAX_STRENGTH = 4
MAX_HEARD = 400  # intervals in one message


class Refused(StudyError):
    """An answer or a report of listening that is not accepted; nothing was stored."""


@dataclasses.dataclass(frozen=True)
class StudySettings:
    """How a study asks.

    Attributes:
        title: at the top of the page.
        question: that every pair is asked with.
        instructions: what raters are told before they begin; line breaks part paragraphs.
        overlap: raters that a pair is given to before others are preferred.
        catch_every: one pair in so many has a known answer; 0 for none.
        random_share: probability with which a pair is drawn uniformly instead of by its gain.
        minimum_seconds: of each side to be heard before an answer counts, or half of a shorter clip.
        seed: of the order of catch pairs and of the sides.
        soundbank: path of the SF2 file that plays every clip; by default a small synthesiser does.

    """

    title: str = "Listening room"
    question: str = "Which one do you like better?"
    instructions: str = ""
    overlap: int = 2
    catch_every: int = 8
    random_share: float = 0.25
    minimum_seconds: float = 5.0
    seed: int = 0
    soundbank: str = ""

    def __post_init__(self):
        if self.overlap < 1:
            raise StudyError(f"overlap is 1 or more raters, not {self.overlap}")
        if self.catch_every < 0 or self.catch_every == 1:
            raise StudyError(f"catch_every is 0 for none, or 2 or more, not {self.catch_every}")
        if not 0 < self.random_share <= 1:
            raise StudyError(f"random_share is above 0 and at most 1, not {self.random_share}")
        if not 0 <= self.minimum_seconds <= 60:
            raise StudyError(f"minimum_seconds is between 0 and 60, not {self.minimum_seconds}")


class Rater(NamedTuple):
    """Who answers.

    Attributes:
        id: number in the study.
        token: secret of the invitation, by which its link is known.
        name: for the researcher.
        quota: answers that are asked for.
        simulated: whether it is a program.

    """

    id: int
    token: str
    name: str
    quota: int
    simulated: bool


class Side(NamedTuple):
    """One of the two clips as the page shows it: digests, notes, seconds, and seconds played."""

    clip: str
    audio: str
    roll: dict[str, Any]
    has_sheet: bool
    seconds: float
    played: float


class Trial(NamedTuple):
    """A pair that a rater is asked about.

    Attributes:
        nonce: to be sent with the answer, which it is good for once.
        prompt: the text that the music was made for; empty without one.
        a: what is called A on the page; which system's it is, the study keeps.
        b: what is called B.
        answered: answers that the rater has given.
        quota: answers asked for.

    """

    nonce: str
    prompt: str
    a: Side
    b: Side
    answered: int
    quota: int


class Heard(NamedTuple):
    """An interval of a clip that was played: side "a" or "b" as on the page, first and last second."""

    side: str
    first: float
    last: float


class Answer(NamedTuple):
    """A rater's answer to a trial.

    Attributes:
        nonce: of the trial.
        choice: "a", "b", "tie" or "both_bad", with the sides as on the page.
        strength: 1 (barely) to 4 (far) better; None if not said.

    """

    nonce: str
    choice: str
    strength: int | None = None


def checked_answer(nonce: Any, choice: Any, strength: Any = None) -> Answer:
    """An answer from outside; Refused if a part of it is out of range."""
    if not isinstance(nonce, str) or len(nonce) > 100:
        raise Refused("nonce should be the text that came with the pair")
    if choice not in CHOICES:
        raise Refused(f"choice should be one of {', '.join(CHOICES)}")
    is_number = isinstance(strength, int) and not isinstance(strength, bool)
    if strength is not None and not (is_number and 1 <= strength <= MAX_STRENGTH):
        raise Refused(f"strength should be 1 to {MAX_STRENGTH}, or null")
    if strength is not None and choice not in ("a", "b"):
        raise Refused("strength is that of a preference: leave it out of a tie")
    return Answer(nonce, choice, strength)


def checked_heard(intervals: Any) -> list[Heard]:
    """Intervals [side, first, last] from outside; Refused if they are not such."""
    if not isinstance(intervals, Sequence) or isinstance(intervals, str) or len(intervals) > MAX_HEARD:
        raise Refused(f"heard should be a list of at most {MAX_HEARD} intervals")
    return [_interval(one) for one in intervals]


def _interval(one: Any) -> Heard:
    if not isinstance(one, Sequence) or len(one) != 3 or one[0] not in ("a", "b"):
        raise Refused("an interval should be [side, first second, last second]")
    numbers = [x for x in one[1:] if isinstance(x, (int, float)) and not isinstance(x, bool)]
    if len(numbers) != 2 or not all(map(math.isfinite, numbers)) or not 0 <= numbers[0] <= numbers[1] <= 3600:
        raise Refused("an interval should go from one second to a later one")
    return Heard(one[0], float(numbers[0]), float(numbers[1]))


def comparison_of(row: Any, tokens: Mapping[str, str], played: Sequence[Any]) -> Comparison:
    """The comparison of a row of answer, trial, pair and rater, with the events of its trial in order."""
    a, b = (tuple(map(int, tokens[row[name]].split())) for name in "ab")
    seconds = {name: sum(event["seconds"] for event in played if event["side"] == name) for name in "ab"}
    selected = row["selected"]
    propensity = row["propensity"] if selected is None else (row["propensity"] or 1.0) * selected
    return Comparison(
        prompt=row["prompt"],
        a=a,
        b=b,
        choice=row["choice"],
        simulated=bool(row["simulated"]),
        system_a=row["system_a"],
        system_b=row["system_b"],
        listener=row["name"] or f"rater-{row['rater']}",
        shown_left="b" if row["swapped"] else "a",
        played_first=played[0]["side"] if played else "",
        seconds_a=round(seconds["a"], 3),
        seconds_b=round(seconds["b"], 3),
        propensity=propensity,
        timestamp=row["given"],
        extra=_extra(row),
    )


def _extra(row: Any) -> dict[str, Any]:
    extra = {
        "answer": row["answer"],
        "pair": row["pair"],
        "round": row["round"],
        "candidates": row["candidates"],
    }
    if row["kind"]:
        extra |= {"kind": row["kind"], "expected": row["expected"]}
    return extra if row["strength"] is None else extra | {"strength": row["strength"]}
