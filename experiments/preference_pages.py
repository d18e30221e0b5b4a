"""Tables and plots of experiments/preference.py, from what its seeds wrote."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments import preference_matrix
from experiments.plots import plot
from experiments.preference_settings import PAPER, VARIANTS
from experiments.tables import interval, markdown, read_csv, write_csv
from mammadai_jax.music.files import write_atomically
from mammadai_jax.training.run import read_rows

TERMS = ("preference", "adherence", "quality", "variety", "ears", "claims", "gold")
SMOOTH = 5  # log lines
# The alarm: the proxy rises, and what it is not made of falls by so many deviations below its best.
WATCHED = ("claims", "ears", "quality")
FALLEN = 0.05
# Of a seed, by the table in which all seeds are gathered; the first is written last.
WINS, SYSTEMS, JURIES, HUMAN = "win_matrix.csv", "systems.csv", "juries.csv", "human.csv"
FACTS, JUDGES, METHODS = "facts.json", "judges.csv", "methods.csv"


def seed_path(out: Path, variant: str, seed: int) -> Path:
    """The run directory of a seed of a variant."""
    return out / f"{variant}-{seed}"


def finished(out: Path) -> Iterator[tuple[str, int, Path]]:
    """Variant, seed and run directory of all seeds that have been judged."""
    for variant in VARIANTS:
        for path in sorted(out.glob(f"{variant}-*")):
            seed = path.name.removeprefix(f"{variant}-")
            if seed.isdecimal() and (path / WINS).exists():
                yield variant, int(seed), path


def gathered(out: Path, name: str) -> list[dict[str, Any]]:
    """The rows of a table of all finished seeds, with variant and seed."""
    return [
        {"variant": variant, "seed": seed, **row}
        for variant, seed, path in finished(out)
        if (path / name).exists()
        for row in read_csv(path / name)
    ]


def write(out: Path) -> None:
    """Write the tables over all finished seeds, the plots of the seed that was studied, and report.md."""
    tables = {name: gathered(out, name) for name in (WINS, SYSTEMS, JURIES, HUMAN)}
    wins = preference_matrix.matrix(tables[WINS])
    for name, rows in {**tables, WINS: wins}.items():
        if rows:
            write_csv(out / name, rows)
    parts = ["## Wins by both juries", _wins(wins), "## Wins by level of noise", _noise(wins)]
    for variant in VARIANTS:
        for title, name, key in (("Systems", SYSTEMS, "system"), ("Agreement", JURIES, "melodies")):
            own = [row for row in tables[name] if row["variant"] == variant]
            if own:
                parts += [f"## {title}, {variant}", _over_seeds(own, key)]
    if tables[HUMAN]:
        parts += ["## Choices by people", _people(tables[HUMAN])]
    for path in (path for _, _, path in finished(out) if (path / FACTS).exists()):
        parts += study(out, path)
    parts.append(Path(__file__).with_name("preference_selected.md").read_text().rstrip())
    write_atomically(out / "report.md", ("\n\n".join(parts) + "\n").encode())


def study(out: Path, path: Path) -> list[str]:
    """The parts of the report of the seed that was studied; writes rewards.svg and overoptimisation.svg."""
    facts = json.loads((path / FACTS).read_text())
    logged = read_rows(path / "log.jsonl")
    rows = {name: [row for row in logged if row["stage"] == name] for name in ("U", "RU", "U-unleashed")}
    alarm = overoptimisation(rows["U-unleashed"], facts["deviations"])
    facts["overoptimisation"] = alarm
    facts["alarms"] = {  # with the KL penalty: the update in which the alarm fires, -1 for never
        name: overoptimisation(rows[name], facts["deviations"])["alarm_update"] for name in ("U", "RU")
    }
    facts["gao"] = {name: gao(rows[name]) for name in ("U", "U-unleashed")}
    axes = (
        "square root of KL to the base, nats a melody",
        "reward gained, in deviations over the base's melodies",
    )
    lines = against_distance(rows["U"], facts["deviations"])
    write_atomically(out / "rewards.svg", plot(lines, *axes, whole=True).encode())
    lines = against_distance(rows["U-unleashed"], facts["deviations"])
    lines = {name: lines[name] for name in ("preference", "gold", *WATCHED)}
    marks = {"gold's peak": alarm["peak_kl"] ** 0.5}
    marks |= {"alarm": alarm["alarm_kl"] ** 0.5} if alarm["alarm_update"] >= 0 else {}
    write_atomically(out / "overoptimisation.svg", plot(lines, *axes, whole=True, marks=marks).encode())
    realised = [{"attribute": name, **rates} for name, rates in facts.pop("realised").items()]
    return [
        f"## Reward models, {path.name}",
        _plain(read_csv(path / JUDGES)),
        f"## Methods, {path.name}",
        _plain(read_csv(path / METHODS)),
        "## Claims that hold, by guidance",
        _plain(realised),
        "```json\n" + json.dumps(facts, indent=1) + "\n```",
    ]


def curve(rows: Sequence[Mapping[str, float]], name: str) -> np.ndarray:
    """A metric of a run's log, smoothed over some lines."""
    values = np.array([row[name] for row in rows])
    window = min(SMOOTH, len(values))
    padded = np.concatenate([np.full(window - 1, values[0]), values])
    return np.convolve(padded, np.ones(window) / window, "valid")


def against_distance(
    rows: Sequence[Mapping[str, float]], deviations: Mapping[str, float]
) -> dict[str, list[tuple[float, float]]]:
    """Every reward against sqrt(KL), from 0 on, in deviations of it over the base's melodies."""
    distance = np.sqrt(np.maximum(curve(rows, "objective/kl"), 0))
    lines = {}
    for name in TERMS:
        values = curve(rows, f"reward/{name}")
        gained = (values - values[0]) / max(deviations[name], 1e-9)
        lines[name] = list(zip(distance.tolist(), gained.tolist(), strict=True))
    return lines


def gao(rows: Sequence[Mapping[str, float]]) -> dict[str, float | None]:
    """Least squares of gold - gold at the start = d (alpha - beta log d), d = sqrt(KL) (Gao et al. 2022).

    Where that has its peak is None if it has none.
    """
    d = np.sqrt(np.maximum([row["objective/kl"] for row in rows], 1e-6))
    gold = np.array([row["reward/gold"] for row in rows])
    gold = gold - gold[0]
    features = np.stack([d, -d * np.log(d)], axis=1)
    (alpha, beta), *_ = np.linalg.lstsq(features, gold, rcond=None)
    peak = math.exp(min(alpha / beta - 1, 20)) if beta > 0 else None
    error = float(np.sqrt(np.mean((features @ [alpha, beta] - gold) ** 2)))
    return {"alpha": float(alpha), "beta": float(beta), "peak_distance": peak, "error": error}


def overoptimisation(
    rows: Sequence[Mapping[str, float]], deviations: Mapping[str, float]
) -> dict[str, float]:
    """Where gold has its peak, and where the alarm fires, which knows neither gold nor what comes later.

    Args:
        rows: of a run's log.
        deviations: of the watched rewards over the base's melodies, the units in which they fall.

    """
    gold, proxy = curve(rows, "reward/gold"), curve(rows, "reward/preference")
    others = np.mean([curve(rows, f"reward/{name}") / deviations[name] for name in WATCHED], axis=0)
    fallen = np.maximum.accumulate(others) - others > FALLEN
    rising = proxy > np.concatenate([np.full(SMOOTH, np.inf), proxy])[: len(proxy)]
    fires = np.flatnonzero(fallen & rising)
    peak = int(gold.argmax())
    gained = gold[peak] - gold[0]
    at = int(fires[0]) if len(fires) else -1
    kl = curve(rows, "objective/kl").tolist()
    return {
        "peak_update": rows[peak]["update"],
        "peak_kl": kl[peak],
        "gold_start": gold[0],
        "gold_peak": gold[peak],
        "gold_end": gold[-1],
        "alarm_update": rows[at]["update"] if at >= 0 else -1,
        "alarm_kl": kl[at] if at >= 0 else -1,
        "lost_at_alarm": float((gold[peak] - gold[at]) / gained) if at > peak and gained > 0 else 0.0,
    }


def _wins(table: Sequence[Mapping[str, Any]]) -> str:
    """The comparisons at the listeners' own noise, both juries side by side."""
    lines = []
    own = {tuple(row[name] for name in preference_matrix.NAMES): row for row in table}
    for (variant, jury, noise, a, b), row in own.items():
        if jury == "first" and float(noise) == 1:
            both = [row, own[variant, "second", noise, a, b]]
            cells = [text for each in both for text in (_rate(each), _p(each["p_holm"]))]
            paper = PAPER.get((a, b))
            lines.append([variant, f"{a} vs {b}", *cells, f"*{paper} %*" if paper else ""])
    return markdown(["variant", "A vs B", "first jury", "p", "second jury", "p", "*paper*"], lines)


def _noise(table: Sequence[Mapping[str, Any]]) -> str:
    """Win rates by the level of noise."""
    levels = list(dict.fromkeys(row["noise"] for row in table))
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for row in table:
        key = tuple(row[name] for name in ("variant", "jury", "a", "b"))
        rows.setdefault(key, {})[row["noise"]] = _rate(row)
    lines = [
        [variant, jury, f"{a} vs {b}", *(rates.get(level, "") for level in levels)]
        for (variant, jury, a, b), rates in rows.items()
    ]
    return markdown(["variant", "jury", "A vs B", *(f"noise {level}" for level in levels)], lines)


def _rate(row: Mapping[str, Any]) -> str:
    mean, low, high = (100 * float(row[name]) for name in ("win_rate", "low", "high"))
    return f"{mean:.0f} % ({low:.0f}–{high:.0f})"


def _p(value: float) -> str:
    return "" if math.isnan(value) else "< .001" if value < 0.001 else f"{value:.3f}"


def _people(rows: Sequence[Mapping[str, Any]]) -> str:
    """Accuracy on people's choices: over seeds, with the widest of the seeds' intervals over items."""
    names = ("variant", "study", "pairs", "count", "predictor")
    found: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in names), []).append(row)
    lines = []
    for key, each in found.items():
        mean = np.mean([float(row["accuracy"]) for row in each])
        low, high = min(float(row["low"]) for row in each), max(float(row["high"]) for row in each)
        lines.append([*key, f"{mean:.3f} ({low:.3f}–{high:.3f})", each[0]["reference"]])
    return markdown([*names, "accuracy", "reference"], lines)


def _over_seeds(rows: Sequence[Mapping[str, str]], key: str) -> str:
    """Means and intervals over seeds of every measure, a column for each value of `key`."""
    columns = dict.fromkeys(row[key] for row in rows)
    names = [name for name in rows[0] if name not in (key, "seed", "variant")]
    lines = []
    for name in names:
        cells = [name]
        for column in columns:
            values = [float(row[name]) for row in rows if row[key] == column and row[name]]
            mean, half = interval(values) if values else (math.nan, math.nan)
            cells.append(f"{mean:.3g}" + ("" if math.isnan(half) else f" ± {half:.2g}"))
        lines.append(cells)
    return markdown(["", *columns], lines)


def _plain(rows: Sequence[Mapping[str, Any]]) -> str:
    names = list(rows[0])

    def cell(value: Any) -> str:
        try:
            return f"{float(value):.3g}" if value not in ("", None) else ""
        except ValueError:
            return str(value)

    return markdown(names, [[cell(row[name]) for name in names] for row in rows])
