"""What a second processor brings: ``open_each(workers=2)``, beside raw verification.

Rules of this file: raw signatures are verified by the same threads in the same portions;
what is compared takes turns in one process. A scaling is the time with one thread by the
time with two, in one round; the table shows medians, the smallest and the largest.

Run: ``make bench``, or ``python benchmarks/threads.py --help``.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import nacl.bindings as raw
from document import machine, write
from ratios import Bench

from envelope.workers import work_off

COUNT = 4096
BAR = 0.85
PER_BUNDLE = 128
IDLE = 1.5
"""What raw verification gains at least where a second processor is idle: rounds without are
not judged."""
CHUNKS = (64, 128, 256)
WORKERS = 2

Loop = Callable[[int], float]
"""Takes the number of threads, and returns seconds."""


def chunked(work: Callable[[Sequence[Any]], object], items: Sequence[Any], chunk: int) -> float:
    """Return the seconds of working off all items, a chunk at a time."""
    chunks = [items[at : at + chunk] for at in range(0, len(items), chunk)]
    gc.collect()
    start = perf_counter()
    for one in chunks:
        work(one)
    return perf_counter() - start


class Loops:
    """The loops to compare."""

    def __init__(self) -> None:
        self.bench = Bench()
        public, secret = raw.crypto_sign_keypair()
        payloads = [raw.randombytes(256) for _ in range(COUNT)]
        self.public = public
        self.signed = [raw.crypto_sign(payload, secret) for payload in payloads]
        self.payloads = payloads

    def verify(self, signed: bytes) -> bytes:
        """Return the raw verification."""
        return raw.crypto_sign_open(signed, self.public)

    def raw(self, chunk: int) -> Loop:
        """Return raw verification."""
        return lambda threads: chunked(
            lambda some: work_off(self.verify, some, threads), self.signed, chunk
        )

    def single(self, chunk: int, recipients: int) -> Loop:
        """Return the opening of single envelopes."""

        def run(threads: int) -> float:
            sealer, opener = self.bench.sealer(recipients), self.bench.opener()
            arrivals = [[sealer.seal(payload)] for payload in self.payloads]
            return chunked(lambda some: opener.open_each(some, workers=threads), arrivals, chunk)

        return run

    def bundles(self, chunk: int) -> Loop:
        """Return the opening of bundles, each an arrival."""

        def run(threads: int) -> float:
            sealer, opener = self.bench.sealer(1), self.bench.opener()
            bundle = self.payloads[:PER_BUNDLE]
            arrivals = [[sealer.seal_bundle(bundle)] for _ in range(COUNT // 8)]
            return chunked(lambda some: opener.open_each(some, workers=threads), arrivals, chunk)

        return run


def scalings(loops: Sequence[Loop], rounds: int) -> list[list[float]]:
    """Return, for each loop, what a second thread brought in each round."""
    found: list[list[float]] = [[] for _ in loops]
    for number in range(rounds):
        order = list(enumerate(loops))
        for at, loop in order if number % 2 else reversed(order):
            # Each goes first in half of the rounds.
            threads = (1, WORKERS) if number % 2 else (WORKERS, 1)
            seconds = {count: loop(count) for count in threads}
            found[at].append(seconds[1] / seconds[WORKERS])
    return found


def span(values: Sequence[float]) -> str:
    """Return the median, the smallest and the largest."""
    if not values:
        return "none"
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def table(rounds: int) -> tuple[list[str], bool]:
    """Measure all; return the lines of the table, and whether every bar holds."""
    lines = [
        (
            f"| at once | raw verification | signed | of raw | sealed | bundles of {PER_BUNDLE} "
            "| bar: signed, of raw | |"
        ),
        "|---:|---|---|---|---|---|---:|---|",
    ]
    loops, good = Loops(), True
    for chunk in CHUNKS:
        floor, signed, sealed, bundles = scalings(
            [
                loops.raw(chunk),
                loops.single(chunk, 0),
                loops.single(chunk, 1),
                loops.bundles(chunk),
            ],
            rounds,
        )
        pairs = zip(signed, floor, strict=True)
        shares = [ours / theirs for ours, theirs in pairs if theirs >= IDLE]
        is_idle = len(shares) > rounds // 2
        holds = is_idle and statistics.median(shares) >= BAR
        good = good and holds
        verdict = "holds" if holds else "MISSED" if is_idle else "no second processor was idle"
        lines.append(
            f"| {chunk} | {span(floor)} | {span(signed)} | {span(shares)} | {span(sealed)} "
            f"| {span(bundles)} | {BAR} | {verdict} |"
        )
        print(lines[-1], flush=True)
    return lines, good


def main() -> int:
    """Measure, print, and write the table into a document if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--write", type=Path, metavar="DOCUMENT")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    versions = (
        f"{machine()}, {os.cpu_count()} processors; {options.rounds} rounds of {COUNT} messages "
        f"of 256 bytes; speed with {WORKERS} workers by that with one"
    )
    print(versions)
    lines, good = table(options.rounds)
    if options.write:
        write(options.write, "threads", [f"{versions}.", "", *lines])
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
