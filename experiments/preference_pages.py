"""Tables and plots of experiments/preference.py."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.theory_pages import interval, plot
from mammadai_jax.music.files import write_atomically
from mammadai_jax.training.run import Run

# win / (win + loss), %, of Cideron et al. 2024
PAPER = {
    ("R", "base"): 83,
    ("U", "base"): 74,
    ("U", "R"): 54,
    ("RU", "base"): 87,
    ("RU", "U"): 62,
    ("RU", "R"): 66,
}
TERMS = ("preference", "adherence", "quality", "variety", "ears", "claims", "gold")
SMOOTH = 5  # log lines
# The alarm: the proxy rises, and what it is not made of falls by so many deviations below its best.
WATCHED = ("claims", "ears", "quality")
FALLEN = 0.05


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """A row for each mapping, a column for each name in any of them."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write(run: Run) -> None:
    """Write report.md, rewards.svg and overoptimisation.svg from what is in a run directory."""
    facts = json.loads((run.path / "facts.json").read_text())
    alarm = overoptimisation(run.rows("U-unleashed-0"), facts["deviations"])
    facts["overoptimisation"] = alarm
    systems = [row for row in read_csv(run.path / "systems.csv") if row["system"] in ("U", "RU")]
    facts["alarms"] = {  # with the KL penalty: the update in which the alarm fires, -1 for never
        name: overoptimisation(run.rows(name), facts["deviations"])["alarm_update"]
        for name in (f"{row['system']}-{row['seed']}" for row in systems)
    }
    facts["gao"] = {system: gao(run.rows(f"{system}-0")) for system in ("U", "U-unleashed")}
    write_atomically(run.path / "facts.json", json.dumps(facts, indent=1).encode())
    axes = (
        "square root of KL to the base, nats a melody",
        "reward gained, in deviations over the base's melodies",
    )
    lines = against_distance(run.rows("U-0"), facts["deviations"])
    write_atomically(run.path / "rewards.svg", plot(lines, *axes, whole=True).encode())
    lines = against_distance(run.rows("U-unleashed-0"), facts["deviations"])
    lines = {name: lines[name] for name in ("preference", "gold", *WATCHED)}
    marks = {"gold's peak": alarm["peak_kl"] ** 0.5}
    marks |= {"alarm": alarm["alarm_kl"] ** 0.5} if alarm["alarm_update"] >= 0 else {}
    write_atomically(run.path / "overoptimisation.svg", plot(lines, *axes, whole=True, marks=marks).encode())
    parts = [
        _wins(read_csv(run.path / "win_matrix.csv")),
        _systems(read_csv(run.path / "systems.csv")),
        _plain(read_csv(run.path / "judges.csv")),
        _plain(read_csv(run.path / "methods.csv")),
        _plain([{"attribute": name, **rates} for name, rates in facts["realised"].items()]),
        "```json\n" + json.dumps({k: v for k, v in facts.items() if k != "realised"}, indent=1) + "\n```",
    ]
    write_atomically(run.path / "report.md", ("\n\n".join(parts) + "\n").encode())


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


def _wins(rows: Sequence[Mapping[str, str]]) -> str:
    lines = [
        "| A vs B | win % | tie % | loss % | win / (win + loss) | *paper* |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        counts = [int(row[name]) for name in ("wins", "ties", "losses")]
        shares = " | ".join(f"{100 * count / sum(counts):.1f}" for count in counts)
        rate = f"{100 * float(row['win_rate']):.0f}"
        ends = f"{100 * float(row['low']):.0f}–{100 * float(row['high']):.0f}"
        paper = PAPER.get((row["a"], row["b"]))
        told = f"*{paper} %*" if paper else ""
        lines.append(f"| {row['a']} vs {row['b']} | {shares} | {rate} % ({ends}) | {told} |")
    return "\n".join(lines)


def _systems(rows: Sequence[Mapping[str, str]]) -> str:
    systems = dict.fromkeys(row["system"] for row in rows)
    names = [name for name in rows[0] if name not in ("system", "seed")]
    lines = [f"| | {' | '.join(systems)} |", "|---" * (len(systems) + 1) + "|"]
    for name in names:
        cells = []
        for system in systems:
            values = [float(row[name]) for row in rows if row["system"] == system and row[name]]
            mean, half = interval(values) if values else (math.nan, math.nan)
            cells.append(f"{mean:.3g}" + ("" if math.isnan(half) else f" ± {half:.2g}"))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _plain(rows: Sequence[Mapping[str, Any]]) -> str:
    names = list(rows[0])

    def cell(value: Any) -> str:
        try:
            return f"{float(value):.3g}" if value not in ("", None) else ""
        except ValueError:
            return str(value)

    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    return "\n".join(lines + [f"| {' | '.join(cell(row[name]) for name in names)} |" for row in rows])
