"""Tables and plots of experiments/theory.py."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.plots import plot
from experiments.tables import interval, markdown
from mammadai_jax.music.files import write_atomically

# name in the results: what people call it, and what one is shown as
MEASURES = {
    "num_repeated_notes": ("notes excessively repeated, %", 100),
    "autocorrelation1": ("mean autocorrelation, lag 1", 1),
    "autocorrelation2": ("lag 2", 1),
    "autocorrelation3": ("lag 3", 1),
    "notes_not_in_key": ("notes not in key, %", 100),
    "num_starting_tonic": ("starting with tonic, %", 100),
    "leaps_resolved": ("leaps resolved, %", 100),
    "num_high_unique": ("unique highest note, %", 100),
    "num_low_unique": ("unique lowest note, %", 100),
    "notes_in_motif": ("notes in motif, %", 100),
    "notes_in_repeated_motif": ("notes in repeated motif, %", 100),
    "theory": ("rules' reward a note", 1),
    "log_prior": ("log p a note", 1),
    "log_prior_last": ("log p of the last note", 1),
    "distinct": ("distinct compositions, %", 100),
    "self_overlap": ("runs of 6 notes that another composition has too, %", 100),
}
# What every seed of modern mode has to reach, in the units of the table: the best of the tuned models in the
# paper's Table 1, and compositions that differ.
GOALS: dict[str, tuple[float, float]] = {  # name in the results: least, most
    "num_repeated_notes": (0, 0.02),
    "autocorrelation1": (-0.15, 0.15),
    "autocorrelation2": (-0.15, 0.15),
    "autocorrelation3": (-0.15, 0.15),
    "notes_not_in_key": (0, 0.6),
    "num_starting_tonic": (28.8, 100),
    "leaps_resolved": (91.1, 100),
    "num_high_unique": (59.4, 100),
    "num_low_unique": (58.3, 100),
    "notes_in_motif": (75.7, 100),
    "notes_in_repeated_motif": (0.11, 100),
    "distinct": (90, 100),
    "self_overlap": (0, 10),
}
# Table 1 of Jaques et al. 2017 as printed, in the order of MEASURES
PAPER = {
    "Note RNN": (63.3, -0.16, 0.14, -0.13, 0.1, 0.9, 77.2, 64.7, 49.4, 5.9, 0.007),
    "Q": (0.0, -0.11, 0.03, 0.03, 1.00, 28.8, 91.1, 56.4, 51.9, 75.7, 0.11),
    "Psi": (0.02, -0.10, -0.01, 0.01, 0.60, 28.7, 90.0, 59.4, 58.3, 73.8, 0.09),
    "G": (0.03, 0.55, 0.31, 0.17, 28.7, 0.0, 52.2, 37.1, 56.5, 69.3, 0.01),
}


def columns(found: Sequence[Mapping]) -> dict[str, dict[str, tuple[float, float]]]:
    """For each model, in order, the mean and interval of each measure, in the units of the table."""
    models = dict.fromkeys(row["model"] for row in found)
    return {
        model: {
            name: interval([scale * row[name] for row in found if row["model"] == model])
            for name, (_, scale) in MEASURES.items()
        }
        for model in models
    }


def write(out: Path, found: Mapping[str, Sequence[Mapping]]) -> None:
    """Write table.csv, table.md and the curves of every part of which there are results."""
    found = {part: rows for part, rows in found.items() if rows}
    parts = {part: columns(rows) for part, rows in found.items()}
    with (out / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        heads = [f"{part}: {model}" for part, models in parts.items() for model in models]
        writer.writerow(["measure", *(text for head in heads for text in (head, f"{head} +-"))])
        for name, (words, _) in MEASURES.items():
            cells = [models[model][name] for models in parts.values() for model in models]
            writer.writerow([words, *(f"{value:.6g}" for cell in cells for value in cell)])
    pages = [_page(part, models) for part, models in parts.items()]
    (out / "table.md").write_text("\n".join([*pages, *_failures(found.get("modern", ()))]))
    for part, rows in found.items():
        lines = _curves(rows)
        if lines:
            axes = ("log p of a note under the prior", "rules' reward a note")
            write_atomically(out / f"curves-{part}.svg", plot(lines, *axes).encode())


def _page(part: str, models: Mapping[str, Mapping[str, tuple[float, float]]]) -> str:
    printed = PAPER if part == "published" else {}
    heads = [text for model in models for text in (model, *(["*paper*"] if model in printed else []))]
    rows = []
    for index, (name, (words, _)) in enumerate(MEASURES.items()):
        cells = [words]
        for model, measures in models.items():
            cells.append(_cell(*measures[name]))
            if model in printed:
                cells.append(f"*{printed[model][index]}*" if index < len(printed[model]) else "")
        rows.append(cells)
    return f"**{part}**\n\n{markdown(['', *heads], rows)}\n"


def missed(row: Mapping[str, float]) -> list[str]:
    """The goals that one seed's result does not reach, by what people call them."""
    reached = lambda name: GOALS[name][0] <= MEASURES[name][1] * row[name] <= GOALS[name][1]
    return [MEASURES[name][0] for name in GOALS if not reached(name)]


def _failures(found: Sequence[Mapping]) -> list[str]:
    """For each tuned model a line that counts its seeds that reach every goal, and says what others miss."""
    lines = []
    for model in dict.fromkeys(row["model"] for row in found if row["notes"]):
        misses = {row["seed"]: missed(row) for row in found if row["model"] == model}
        good = sum(not those for those in misses.values())
        lines += [f"**{model}**: {good} of {len(misses)} seeds reach every goal.", ""]
        lines += [f"* seed {seed} misses: {'; '.join(those)}" for seed, those in misses.items() if those]
        lines.append("")
    return lines


def _cell(mean: float, half: float) -> str:
    digits = 0 if mean == 0 else max(0, min(3, 1 - math.floor(math.log10(abs(mean)))))
    digits = max(digits, 2 if abs(mean) < 10 else 1)
    return f"{mean:.{digits}f}" + ("" if math.isnan(half) else f" ± {half:.{digits}f}")


def _curves(rows: Sequence[Mapping]) -> dict[str, list[tuple[float, float]]]:
    """For each model the way of (log p, reward) while learning, the mean of its seeds."""
    models = dict.fromkeys(row["model"] for row in rows if row["curve"])
    ways = {m: [row["curve"] for row in rows if row["model"] == m and row["curve"]] for m in models}
    mean = lambda curves, i, name: float(np.mean([curve[i][name] for curve in curves]))
    return {
        model: [(mean(c, i, "log_prior"), mean(c, i, "theory")) for i in range(len(c[0]))]
        for model, c in ways.items()
    }


def write_frontier(out: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write frontier.svg and frontier.md: the rules' reward against KL(pi || p) by c."""
    points = sorted((row["kl"], row["theory"]) for row in rows)
    axes = ("KL to the prior, nats a note", "rules' reward a note")
    write_atomically(out / "frontier.svg", plot({"1/c from 0.05 to 5": points}, *axes).encode())
    names = {"c": "c", "theory": "rules' reward a note", "kl": "KL a note", "log_prior": "log p a note"}
    cells = [[f"{row[name]:.2f}" for name in names] for row in sorted(rows, key=lambda row: -row["c"])]
    (out / "frontier.md").write_text(markdown(list(names.values()), cells) + "\n")


def read(directory: Path) -> list[dict]:
    """The results in a directory, in the order in which they were found."""
    paths = sorted(directory.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    return [json.loads(path.read_text()) for path in paths]
