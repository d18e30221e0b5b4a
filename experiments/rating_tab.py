"""Whether an hour of rating in one tab of a browser takes ever more memory.

    python -m experiments.rating_tab --out runs/tab [--minutes 60]

Serves a study with `mammadai rate`. In one tab of chromium, which playwright drives, a rater hears both clips
of a pair, answers, and so on. Every minute garbage is collected, and what the page holds is noted: the heap
of its script, nodes, event listeners, and the memory of all of chromium's processes. Prints and writes
`tab.csv`.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.rating_load import Server, filled
from experiments.tables import write_csv
from mammadai_jax.cli import answered

FLAGS = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--disable-background-networking"]
PLAYER = "document.getElementById('main').player"
HEARD, WAIT = 0.35, 120.0  # seconds of each clip that are heard, and until the page is given up
FIRST = 10  # minutes in which caches fill
MEASURES = {"JSHeapUsedSize": "heap", "Nodes": "nodes", "JSEventListeners": "listeners"}


def until(page: Any, condition: str) -> None:
    """Wait until an expression holds; RuntimeError if it does not."""
    deadline = time.monotonic() + WAIT
    while not page.evaluate(condition):
        if time.monotonic() > deadline:
            raise RuntimeError(f"the page never came to {condition}")
        page.wait_for_timeout(20)


def answer(page: Any, number: int) -> None:
    """Hear both clips of the pair of that number, and answer."""
    count = f"document.getElementById('count').textContent.startsWith('Pair {number} of')"
    until(page, f"{count} && {PLAYER}.ready")
    for key, side in (("a", "a"), ("x", "b")):
        page.keyboard.press(key)
        until(page, f"{PLAYER}.seconds('{side}') > {HEARD}")
    page.keyboard.press(str(1 + number % 7))


def resident(pid: int) -> int:
    """Bytes of memory of a process and all its descendants; of what they share, each its part."""
    total, waiting = 0, [pid]
    while waiting:
        process = Path(f"/proc/{waiting.pop()}")
        with contextlib.suppress(OSError):  # one may have ended
            lines = (process / "smaps_rollup").read_text().splitlines()
            total += sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
            tasks = [(task / "children").read_text() for task in (process / "task").iterdir()]
            waiting += [int(child) for children in tasks for child in children.split()]
    return total


def held(page: Any, session: Any, pid: int) -> dict[str, float]:
    """What a page and its browser hold after garbage was collected."""
    session.send("HeapProfiler.collectGarbage")
    metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
    values = {name: metrics[metric] for metric, name in MEASURES.items()}
    return {**values, "processes": resident(pid)}


def rated(link: str, minutes: float) -> Iterator[dict[str, float]]:
    """A row for each minute of rating under a rater's link."""
    from playwright.sync_api import sync_playwright  # pyright: ignore[reportMissingImports]

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page()
        page.goto(link)
        until(page, f"{PLAYER}.ready")
        page.click("#begin")
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable")
        number, begun = 0, time.monotonic()
        for minute in range(1, math.ceil(minutes) + 1):
            while time.monotonic() < begun + 60 * min(minute, minutes):
                number += 1
                answer(page, number)
            yield {"minute": minute, "answers": number, **held(page, session, os.getpid())}
        browser.close()


def grown(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """By which share each measure has grown since caches were full: its last ten rows beside the first."""
    names, later = (*MEASURES.values(), "processes"), rows[min(FIRST, len(rows) - 1) :]
    mean = lambda part, name: sum(row[name] for row in part) / len(part)
    return {name: mean(later[-10:], name) / mean(later[:10], name) - 1 for name in names}


def main() -> None:
    """Rate for so long."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60.0)
    options = parser.parse_args()
    pairs = math.ceil(90 * options.minutes)  # more than can be heard
    folder, rows = options.out / f"study-{os.getpid()}", []
    with contextlib.closing(filled(folder, 1, pairs, bars=8)) as study:
        server = Server(folder, "")
        try:
            for row in rated(f"http://127.0.0.1:{server.port}/r/{study.raters()[0].token}", options.minutes):
                rows.append(row)
                print(", ".join(f"{name} {value:,.0f}" for name, value in row.items()), flush=True)
                write_csv(options.out / "tab.csv", rows)
        finally:
            server.stop()
    print("grown: " + ", ".join(f"{name} {100 * share:+.1f} %" for name, share in grown(rows).items()))


if __name__ == "__main__":
    sys.exit(answered(main, "rating_tab"))
