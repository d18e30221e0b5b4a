"""What a study found: the systems' table, whether to go on asking, and how reliable the raters are."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from mammadai_jax.listening.comparison import Comparison
from mammadai_jax.listening.leaderboard import leaderboard
from mammadai_jax.listening.stopping import stopping
from mammadai_jax.listening.study.rounds import learning_of
from mammadai_jax.listening.study.store import Study
from mammadai_jax.listening.win_rates import agreement, position_bias, win_rates

RESAMPLES = 500


def results_of(study: Study) -> dict[str, Any]:
    """All numbers of the results page; those that the answers do not allow yet are None."""
    everything = study.comparisons(catches=True)
    comparisons = [one for one in everything if "kind" not in one.extra]
    return {
        "title": study.settings.title,
        "pairs": study.count("pairs"),
        "answers": len(comparisons),
        "raters": raters_of(study, everything),
        "simulated": sum(one.simulated for one in comparisons),
        "leaderboard": _leaderboard(comparisons),
        "win_rates": [_finite(row._asdict()) for row in win_rates(comparisons, resamples=RESAMPLES)],
        "stopping": _stopping(comparisons),
        "position": _finite(position_bias(comparisons, RESAMPLES)._asdict()),
        "agreement": _finite(agreement(comparisons)._asdict()),
        "learning": learning_of(study),
    } | {"choices": {c: sum(one.choice == c for one in comparisons) for c in ("a", "b", "tie", "both_bad")}}


def raters_of(study: Study, everything: Sequence[Comparison]) -> list[dict[str, Any]]:
    """Each rater's answers, seconds a pair, catch pairs passed and repeated pairs answered alike."""
    rows = []
    for rater in study.raters():
        name = rater.name or f"rater-{rater.id}"
        own = [one for one in everything if one.listener == name]
        passed, asked = catches_passed(own)
        same, repeated = repeats(own)
        heard = [(one.seconds_a or 0) + (one.seconds_b or 0) for one in own]
        rows.append(
            {
                "name": name,
                "answers": len(own),
                "quota": rater.quota,
                "catches": [passed, asked],
                "repeats": [same, repeated],
                "ties": sum(one.sign == 0 for one in own),
                "seconds": round(sum(heard) / len(heard), 1) if heard else None,
            }
        )
    return rows


def catches_passed(comparisons: Sequence[Comparison]) -> tuple[int, int]:
    """Of one rater's answers: how many catch pairs were answered as expected, and how many there were.

    "both_bad" passes where a tie is expected.
    """
    catches = [one for one in comparisons if one.extra.get("expected")]
    alike = {"both_bad": "tie"}
    return sum(alike.get(one.choice, one.choice) == one.extra["expected"] for one in catches), len(catches)


def repeats(comparisons: Sequence[Comparison]) -> tuple[int, int]:
    """Of one rater's answers: pairs that got the same answer with sides swapped, and all that came twice."""
    first = {one.extra["pair"]: one.sign for one in comparisons if "kind" not in one.extra}
    again = [one for one in comparisons if one.extra.get("kind") == "repeat" and one.extra["pair"] in first]
    return sum(one.sign == first[one.extra["pair"]] for one in again), len(again)


def _leaderboard(comparisons: Sequence[Comparison]) -> dict[str, Any] | None:
    try:
        table = leaderboard(comparisons)
    except ValueError:  # not yet linked
        return None
    first = dict(zip(("value", "low", "high"), table.first, strict=True))
    return {"places": [place._asdict() for place in table.places], "first": first, "tie": table.tie}


def _stopping(comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
    names = sorted({name for one in comparisons for name in (one.system_a, one.system_b) if name})
    pairs = [(a, b, stopping(comparisons, a, b)) for a, b in itertools.combinations(names, 2)]
    return [{"a": a, "b": b} | each._asdict() for a, b, each in pairs if each is not None]


def _finite(numbers: dict[str, Any]) -> dict[str, Any]:
    return {name: None if isinstance(x, float) and not math.isfinite(x) else x for name, x in numbers.items()}
