"""All harnesses in turn: ``make fuzz MINUTES=n``.

Rules of this file: a harness runs in a process of its own, and no more than two at once. A
finding ends its harness, is told with its input, and makes the whole fail.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Final, NamedTuple

from document import machine, write

from fuzz import harness, replay
from fuzz.harness import CORPUS

WORK: Final = Path(".fuzz")
"""What is found lies here, beside what libFuzzer kept; the next run goes on from it."""
_TOTALS: Final = WORK / "totals.json"
"""Executions, seconds and edges of all runs here, by harness."""
_TIMEOUT: Final = 20
"""Seconds that one input may take; none takes a tenth of one."""


class Result(NamedTuple):
    """What one harness did."""

    name: str
    runs: int
    seconds: float
    edges: int
    finding: str
    """What libFuzzer said at the end, or nothing."""


def read_log(name: str, seconds: float, log: str, *, failed: bool) -> Result:
    """Return what a log says."""
    runs = re.findall(r"^stat::number_of_executed_units:\s*(\d+)", log, re.MULTILINE)
    edges = re.findall(r"\bcov: (\d+)", log)
    finding = "\n".join(log.splitlines()[-40:]) if failed or not runs else ""
    return Result(
        name, int(runs[-1]) if runs else 0, seconds, int(edges[-1]) if edges else 0, finding
    )


def run(name: str, seconds: int) -> Result:
    """Run one harness for so long."""
    folder = WORK / name
    folder.mkdir(parents=True, exist_ok=True)
    found = harness.load(name)
    for data in found.seeds:
        (folder / hashlib.sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)
    log = WORK / f"{name}.log"
    command = [sys.executable, "-m", "fuzz.driver", name, str(folder)]
    if (CORPUS / name).is_dir():
        command.append(str(CORPUS / name))
    command += [
        f"-max_total_time={seconds}",
        f"-max_len={found.size}",
        f"-timeout={_TIMEOUT}",
        "-print_final_stats=1",
        f"-artifact_prefix={WORK}/finding-{name}-",
    ]
    begun = time.monotonic()
    with log.open("wb") as file:
        done = subprocess.run(command, stderr=file, stdout=file, check=False)  # noqa: S603 (our own)
    said = log.read_text(encoding="utf-8", errors="replace")
    return read_log(name, time.monotonic() - begun, said, failed=done.returncode != 0)


def run_all(names: list[str], seconds: float, jobs: int) -> list[Result]:
    """Run harnesses for so long in all, telling of each when it ends."""
    shares = {name: harness.load(name).share for name in names}
    one_share = seconds * jobs / sum(shares.values())
    results = []
    with ThreadPoolExecutor(jobs) as pool:
        waiting = [
            pool.submit(run, name, max(1, round(one_share * share)))
            for name, share in shares.items()
        ]
        for count, done in enumerate(as_completed(waiting), 1):
            one = done.result()
            results.append(one)
            note(one)
            print(
                f"[{count}/{len(names)}] {one.name}: {one.runs:,} executions,"
                f" {one.edges} edges, {'a finding' if one.finding else 'no finding'}",
                flush=True,
            )
            if one.finding:
                print(one.finding, flush=True)
    return results


def _totals() -> dict[str, tuple[int, float, int]]:
    """Return executions, seconds and edges by harness, of all runs here."""
    return json.loads(_TOTALS.read_text("utf-8")) if _TOTALS.is_file() else {}


def note(one: Result) -> None:
    """Add a result to those of all runs before."""
    totals = _totals()
    runs, seconds, edges = totals.get(one.name, (0, 0, 0))
    totals[one.name] = runs + one.runs, seconds + one.seconds, max(edges, one.edges)
    _TOTALS.write_text(json.dumps(totals), "utf-8")


def table() -> list[str]:
    """Return the lines of the block in docs/fuzzing.md, of all that was run here."""
    totals = {name: one for name, one in sorted(_totals().items()) if name in harness.names()}
    executions = sum(runs for runs, _, _ in totals.values())
    found = len(list(WORK.glob("finding-*")))
    hours = sum(seconds for _, seconds, _ in totals.values()) / 3600
    rows = [
        f"{machine()}.",
        "",
        f"{executions:,} executions in {hours:.1f} hours of one process; findings open: {found}.",
        "",
        "| harness | what holds | executions | a second | edges | corpus | lines |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for name, (runs, seconds, edges) in totals.items():
        about = harness.load(name)
        reached, of = _reach(name)
        rows.append(
            f"| {name} | {about.invariant} | {runs:,} | {runs / seconds:,.0f} "
            f"| {edges} | {len(about.corpus)} | {reached} of {of} |"
        )
    return rows


def _reach(name: str) -> tuple[int, int]:
    """Return how many lines of what a harness covers its corpus reaches, and all of them."""
    command = [sys.executable, "-m", "fuzz.reach", name]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 (our own)
    reached, total = map(int, done.stdout.split())
    return reached, total


def keep(name: str) -> None:
    """Minimise the corpus of a harness together with what was found for it."""
    found = harness.load(name)
    folder = WORK / name
    more = [path.read_bytes() for path in folder.iterdir()] if folder.is_dir() else []
    replay.store(name, replay.minimise(found, more))


def main() -> int:
    """Read the command line; return 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("names", nargs="*", help="harnesses; all if none is named")
    parser.add_argument("--minutes", type=float, default=10, help="for all harnesses together")
    parser.add_argument("--jobs", type=int, choices=(1, 2), default=min(2, os.cpu_count() or 1))
    parser.add_argument("--keep", action="store_true", help="write fuzz/corpus anew, minimised")
    parser.add_argument("--write", type=Path, help="the document whose block gets the table")
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    names = given.names or harness.names()
    print(f"{len(names)} harnesses, {given.jobs} at once, {given.minutes:g} minutes", flush=True)
    results = run_all(names, given.minutes * 60, given.jobs)
    if given.keep or given.write:
        for name in names:
            keep(name)
    rows = table()
    print(*rows, sep="\n")
    if given.write:
        write(given.write, "fuzzing", rows)
    return int(any(one.finding for one in results))


if __name__ == "__main__":
    sys.exit(main())
