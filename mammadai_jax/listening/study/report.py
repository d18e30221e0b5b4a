"""A study's results as lines of text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mammadai_jax.listening.study.results import results_of
from mammadai_jax.listening.study.store import Study


def in_lines(study: Study) -> Iterator[str]:
    """The results for the terminal."""
    results = results_of(study)
    counts = f"{results['answers']} answers by {len(results['raters'])} raters to {results['pairs']} pairs"
    simulated = f", {results['simulated']} of them simulated" if results["simulated"] else ""
    yield f"{results['title']}: {counts}{simulated}"
    if results["leaderboard"]:
        yield from _systems(results["leaderboard"])
    yield from (_win_rate(row) for row in results["win_rates"] if row["win_rate"] is not None)
    yield from map(_stop, results["stopping"])
    yield from _reliability(results)


def _systems(table: dict[str, Any]) -> Iterator[str]:
    yield "system               strength      95 % interval   rank  votes"
    for row in table["places"]:
        rank = str(row["best"]) if row["best"] == row["worst"] else f"{row['best']}-{row['worst']}"
        interval = f"{row['low']:+.2f} to {row['high']:+.2f}"
        yield f"{row['system']:20} {row['strength']:+8.2f}   {interval:>16} {rank:>6} {row['votes']:>6}"
    first = table["first"]
    yield f"heard first: {first['value']:+.2f} log odds ({first['low']:+.2f} to {first['high']:+.2f})"


def _win_rate(row: dict[str, Any]) -> str:
    share = f"{row['win_rate']:.0%} ({row['low']:.0%} to {row['high']:.0%})"
    counts = f"{row['wins']} won, {row['ties']} tied, {row['losses']} lost"
    return f"{row['a']} over {row['b']}: {share}; {counts}"


def _stop(row: dict[str, Any]) -> str:
    verdict = "you may stop" if row["may_stop"] else "go on asking"
    interval = f"{row['mean']:+.2f} ({row['low']:+.2f} to {row['high']:+.2f})"
    units = {"rater": "raters with enough votes", "vote": "votes of one rater"}[row["unit"]]
    return f"{row['a']} less {row['b']}: {interval} by {row['values']} {units}: {verdict}"


def _reliability(results: dict[str, Any]) -> Iterator[str]:
    if results["agreement"]["alpha"] is not None:
        pairs = results["agreement"]["pairs"]
        yield f"agreement: Krippendorff's alpha {results['agreement']['alpha']:.2f} over {pairs} pairs"
    for rater in results["raters"]:
        catches, repeats = ("{} of {}".format(*rater[name]) for name in ("catches", "repeats"))
        done = f"{rater['answers']} of {rater['quota']} answers"
        yield f"{rater['name']}: {done}, catch pairs passed {catches}, repeats answered alike {repeats}"
