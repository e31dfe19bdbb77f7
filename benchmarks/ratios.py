"""The price of an envelope, in multiples of the raw PyNaCl binding.

Rules of this file: every figure is a ratio of two loops that run in turn, in one
process, over the same payloads; absolute times of a small noisy machine mean
little. A ratio is taken round by round; the table shows the median of the rounds
and, to judge the noise, the smallest and the largest. Verification runs over
thousands of distinct messages, since a repeated one runs faster.

Run: ``make bench``, or ``python benchmarks/ratios.py --help``.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import logging
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import nacl.bindings as raw
from document import machine, write

from envelope import Identity, Opener, Peer, RejectedError, Sealer, TrustStore
from envelope.replay import MemoryReplayStore

CONTEXT = "bench"
COUNT = 4000
BUNDLE = 128
LARGE = 2**20

Loop = Callable[[], float]
"""Runs once over its items and returns the seconds for each."""


class Row(NamedTuple):
    """One line of the table."""

    work: str
    floor: str
    bar: float
    ours: Loop
    raw: Loop


def over(work: Callable[[Any], object], items: Sequence[Any]) -> Loop:
    """Return a loop of one call for each item."""

    def run() -> float:
        start = perf_counter()
        for item in items:
            work(item)
        return (perf_counter() - start) / len(items)

    return run


def afresh(make: Callable[[], Callable[[Any], object]], items: Callable[[], list[Any]]) -> Loop:
    """Return a loop that makes receiver and envelopes anew each time, outside the clock."""

    def run() -> float:
        return over(make(), items())()

    return run


class Bench:
    """Identities, payloads and the raw calls that everything is compared with."""

    def __init__(self) -> None:
        self.alice, self.bob = Identity.generate(), Identity.generate()
        self.trust = TrustStore([Peer("alice", self.alice.public, contexts=[CONTEXT])])
        self.payloads = [raw.randombytes(256) for _ in range(COUNT)]
        self.public, self.secret = raw.crypto_sign_keypair()
        self.signed = [raw.crypto_sign(payload, self.secret) for payload in self.payloads]
        self.key, self.nonce, self.aad = raw.randombytes(32), raw.randombytes(24), b"a" * 64
        self.encrypted = [self.encrypt(payload) for payload in self.payloads]

    def encrypt(self, payload: bytes) -> bytes:
        """Return the raw encryption."""
        return raw.crypto_aead_xchacha20poly1305_ietf_encrypt(
            payload, self.aad, self.nonce, self.key
        )

    def decrypt(self, data: bytes) -> bytes:
        """Return the raw decryption."""
        return raw.crypto_aead_xchacha20poly1305_ietf_decrypt(data, self.aad, self.nonce, self.key)

    def sign(self, payload: bytes) -> bytes:
        """Return the raw signing."""
        return raw.crypto_sign(payload, self.secret)

    def verify(self, signed: bytes) -> bytes:
        """Return the raw verification."""
        return raw.crypto_sign_open(signed, self.public)

    def sealer(self, recipients: int = 0, who: Identity | None = None) -> Sealer:
        """Return a sealer for so many recipients; for everyone if none."""
        to = [self.bob.public, *(Identity.generate().public for _ in range(recipients - 1))]
        return Sealer(who or self.alice, context=CONTEXT, to=to[:recipients])

    def opener(self) -> Opener:
        """Return a receiver with an empty replay memory."""
        return Opener(
            self.trust,
            context=CONTEXT,
            identity=self.bob,
            replay=MemoryReplayStore(first_life=True),
        )

    def refuse(self, opener: Opener) -> Callable[[bytes], None]:
        """Return a function that opens and expects a refusal."""

        def run(data: bytes) -> None:
            try:
                opener.open(data)
            except RejectedError:
                return
            raise AssertionError("accepted")

        return run

    def rows(self) -> Iterator[Row]:
        """Yield the work to measure and its bars."""
        signing, one, twenty = self.sealer(), self.sealer(1), self.sealer(20)
        sign, verify = over(self.sign, self.payloads), over(self.verify, self.signed)
        pair = list(zip(self.signed, self.encrypted, strict=True))
        sign_encrypt = over(lambda p: (self.sign(p), self.encrypt(p)), self.payloads)
        verify_decrypt = over(lambda p: (self.verify(p[0]), self.decrypt(p[1])), pair)

        yield Row("seal, signed", "sign", 1.16, over(signing.seal, self.payloads), sign)
        yield Row("open, signed", "verify", 1.13, self.opening(signing), verify)
        yield Row(
            "seal, sealed to one",
            "sign + AEAD",
            1.22,
            over(one.seal, self.payloads),
            sign_encrypt,
        )
        yield Row("open, sealed to one", "verify + AEAD", 1.15, self.opening(one), verify_decrypt)
        yield Row(
            "seal to 20 recipients",
            "seal to 1",
            1.08,
            over(twenty.seal, self.payloads),
            over(one.seal, self.payloads),
        )
        large = [raw.randombytes(LARGE)] * 20
        yield Row(
            "seal, sealed, 1 MiB",
            "BLAKE2b + AEAD + sign 64 B",
            1.08,
            over(one.seal, large),
            over(
                lambda p: (hashlib.blake2b(p).digest(), self.encrypt(p), self.sign(p[:64])), large
            ),
        )
        yield from self.refusals(verify)
        yield from self.bundles(verify)

    def opening(self, sealer: Sealer) -> Loop:
        """Return a loop that opens what a sealer seals anew each time."""
        return afresh(lambda: self.opener().open, lambda: list(map(sealer.seal, self.payloads)))

    def refusals(self, verify: Loop) -> Iterator[Row]:
        """Yield what refusing costs."""
        stranger = self.sealer(who=Identity.generate())
        unknown = list(map(stranger.seal, self.payloads))
        yield Row(
            "refuse an unknown sender",
            "verify",
            0.06,
            over(self.refuse(self.opener()), unknown),
            verify,
        )

        def replaying() -> float:
            opener = self.opener()
            sent = list(map(self.sealer().seal, self.payloads))
            for data in sent:
                opener.open(data)
            return over(self.refuse(opener), sent)()

        yield Row("refuse a replay", "verify", 0.07, replaying, verify)
        garbage = [raw.randombytes(400) for _ in range(COUNT)]
        yield Row(
            "refuse garbage", "verify", 0.04, over(self.refuse(self.opener()), garbage), verify
        )

    def bundles(self, verify: Loop) -> Iterator[Row]:
        """Yield what a message in a bundle costs."""
        sealer = self.sealer(1)
        bundles = [self.payloads[i : i + BUNDLE] for i in range(0, COUNT - BUNDLE, BUNDLE)]
        seal = over(sealer.seal_bundle, bundles)
        yield Row(
            f"bundle of {BUNDLE}, sealed: seal, each",
            "verify",
            0.018,
            lambda: seal() / BUNDLE,
            verify,
        )

        def reader() -> Callable[[bytes], object]:
            opener = self.opener()
            return lambda data: opener.open_bundle(data).payloads

        opening = afresh(reader, lambda: list(map(sealer.seal_bundle, bundles)))
        yield Row(
            f"bundle of {BUNDLE}, sealed: open, each",
            "verify",
            0.029,
            lambda: opening() / BUNDLE,
            verify,
        )


def measure(row: Row, rounds: int) -> tuple[list[float], list[float]]:
    """Run both loops in turn; return the times of ours and of the floor."""
    ours, floor = [], []
    row.ours(), row.raw()
    for number in range(rounds):
        gc.collect()
        # Each goes first in half of the rounds.
        first, second = (row.ours, row.raw) if number % 2 else (row.raw, row.ours)
        a, b = first(), second()
        ours.append(a if number % 2 else b)
        floor.append(b if number % 2 else a)
    return ours, floor


def table(rounds: int) -> tuple[list[str], bool]:
    """Measure all; return the lines of the table, and whether every bar holds."""
    lines = [
        "| work | floor | us | floor us | ratio, median (min to max) | bar | |",
        "|---|---|---:|---:|---|---:|---|",
    ]
    good = True
    for row in Bench().rows():
        ours, floor = measure(row, rounds)
        ratios = [a / b for a, b in zip(ours, floor, strict=True)]
        median = statistics.median(ratios)
        holds = median <= row.bar
        good = good and holds
        lines.append(
            f"| {row.work} | {row.floor} | {min(ours) * 1e6:.2f} | {min(floor) * 1e6:.2f} "
            f"| {median:.3f} ({min(ratios):.3f} to {max(ratios):.3f}) | {row.bar} "
            f"| {'holds' if holds else 'MISSED'} |"
        )
        print(lines[-1], flush=True)
    return lines, good


def main() -> int:
    """Measure, print, and write the table into a document if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--write", type=Path, metavar="DOCUMENT")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    versions = (
        f"{machine()}; {options.rounds} rounds of {COUNT} messages of 256 bytes; times are minima"
    )
    print(versions)
    lines, good = table(options.rounds)
    if options.write:
        write(options.write, "ratios", [f"{versions}.", "", *lines])
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
