"""What must hold: how much less than its peers this library costs.

Rules of this file: a bar names its peers, and the best of them decides; which is the one
whose median ratio is the smallest. A bar without figures says so, and is not missed.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from peers.figures import SIDES, listed, multiple, ratios, size_name, spread
from peers.ours import BUNDLE, SEALED, SIGNED
from peers.run import Results
from peers.ways import SIGN

SIGNING = (
    "PASETO v4.public",
    "JWS Ed25519",
    "COSE Sign1 EdDSA",
    "DSSE Ed25519",
    "Tink signature",
)
SIGNING_AND_ENCRYPTING = (
    "age + signature",
    "AWS keyring + signature",
    "AWS master key + signature",
)
MACS = (
    "Jupyter Session (content)",
    "Jupyter Session (buffer)",
    "Fernet",
    "itsdangerous TimestampSigner",
)


class Bar(NamedTuple):
    """One thing that must hold."""

    ours: str
    peers: tuple[str, ...]
    side: str
    least: float
    """Times the best peer costs more."""
    size: int = 256


class Outcome(NamedTuple):
    """What became of a bar."""

    what: str
    figure: str
    bar: str
    verdict: str
    """"holds", "MISSED" or "not measured"."""


BARS = (
    *(Bar(SIGNED, SIGNING, side, 1.7) for side in SIDES),
    *(Bar(SEALED, SIGNING_AND_ENCRYPTING, side, 1.7) for side in SIDES),
    *(Bar(BUNDLE, MACS, side, 5.0) for side in SIDES),
    Bar(SIGNED, (SIGN,), "write", 3.0, 2**20),
    Bar(SIGNED, (SIGN,), "read", 1.4, 2**20),
)


def judge(bar: Bar, results: Results) -> Outcome:
    """Compare with the best of the peers that were measured."""
    what = f"{bar.side} {size_name(bar.size)}: {bar.ours} beside {listed(bar.peers)}"
    found = {
        peer: each
        for peer in bar.peers
        if (each := ratios(results, peer, bar.ours, bar.size, bar.side))
    }
    least = f"at least {multiple(bar.least)}"
    if not found:
        return Outcome(what, "", least, "not measured")
    best = min(found, key=lambda peer: statistics.median(found[peer]))
    others = sorted((statistics.median(found[peer]), peer) for peer in found if peer != best)
    figure = f"{best}: {spread(found[best])} x"
    figure += "".join(f"; {peer}: {multiple(value)}" for value, peer in others)
    if missing := [peer for peer in bar.peers if peer not in found]:
        figure += f"; without {listed(missing)}"
    holds = statistics.median(found[best]) >= bar.least
    return Outcome(what, figure, least, "holds" if holds else "MISSED")


def judge_all(results: Results, bars: Sequence[Bar] = BARS) -> list[Outcome]:
    """Judge every bar."""
    return [judge(bar, results) for bar in bars]


def lines(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the table of the bars."""
    head = ["| what | the best peer costs | bar | |", "|---|---|---|---|"]
    return [
        *head,
        *(f"| {one.what} | {one.figure} | {one.bar} | {one.verdict} |" for one in outcomes),
    ]


def good(outcomes: Sequence[Outcome]) -> bool:
    """Tell whether no bar is missed."""
    return all(one.verdict != "MISSED" for one in outcomes)
