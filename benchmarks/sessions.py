"""What sessions cost: beside the raw binding, Fernet and Jupyter, after a restart, at rest.

Rules of this file: whatever is compared runs in turn, in one process, over the same
payloads, and its bar is on the ratio of the smallest times; the ratio of the medians stands
beside it and tells how quiet the machine was. Sessions are made outside the clock, but where
making them is what is timed. Each message is opened once.

Run: ``make bench``, or ``python benchmarks/sessions.py --help``.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import logging
import statistics
import sys
import tracemalloc
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import nacl.bindings as raw
from cryptography.fernet import Fernet
from document import machine, versions, write
from jupyter_client.session import Session
from ratios import Loop, Row, measure, over
from sessions_ends import manager, resumptions
from zeromq_ends import ALICE, BOB, CONTEXT

from envelope import Identity, Peer, TrustStore, clock, codec
from envelope.message import Message
from envelope.session import SessionManager, Timing, channel
from envelope.session.cipher import Cipher, libsodium, openssl

COUNT = 250
"""Messages of a round: few, so that some rounds are not interrupted."""
HANDSHAKES = 10
"""Of one pair of ends; a peer is granted 32 at once (SPEC 18.12)."""
MANY = 10_000
PEERS = 20
"""Peers that the many sessions are with, for no peer may have more than 1024 links."""
PAYLOAD_SIZE = 256
KILLS = 7
MOST_MEMORY = 4096
"""Bytes that an idle session may take, all that an end keeps for its peer included."""
MOST_SECONDS = 1.0
STATED = float("inf")
"""The bar of what is told and not judged."""
GROWTH = 1.25
"""What very many sessions may cost: what one works on is not in the processor's caches."""


class Line(NamedTuple):
    """One line of the second table."""

    what: str
    figure: str
    bar: str
    holds: bool


def by(library: Cipher, loop: Loop) -> Loop:
    """Return a loop whose sessions are encrypted by this library."""

    def run() -> float:
        with mock.patch.multiple(channel, encrypt=library.encrypt, decrypt=library.decrypt):
            return loop()

    return run


class Pair:
    """Two ends with a session, both in this process."""

    def __init__(self) -> None:
        self.here, self.there = manager(ALICE, BOB), manager(BOB, ALICE)
        connect(self.here, self.there)

    def sealed(self, payloads: Sequence[bytes]) -> list[bytes]:
        """Return what this end makes of payloads."""
        return [data for payload in payloads if (data := self.here.send(payload))]


def connect(
    here: SessionManager,
    there: SessionManager,
    address: Hashable = (),
    to: Peer | None = None,
    back: Hashable = (),
) -> Message:
    """Make a session on a link that has none; return the first message.

    Args:
        here: who asks.
        there: who grants.
        address: what the one who asks calls the link.
        to: whom it asks, if not the one that its manager knows.
        back: what the other one calls the link.
    """
    here.send(b"hello", address=address, to=to)
    there.receive(here.outbox.popleft().data, address=back)
    here.receive(there.outbox.popleft().data, address=address)
    first = there.receive(here.outbox.popleft().data, address=back)
    assert first is not None
    return first


def afresh(make: Callable[[], tuple[Callable[[Any], object], list[Any]]]) -> Loop:
    """Return a loop over work and items that are made anew each time, outside the clock."""

    def run() -> float:
        return over(*make())()

    return run


# --- what is compared ------------------------------------------------------------------------


def handshakes() -> Loop:
    """Return a loop of handshakes of two ends, each on a link of its own."""

    def make() -> tuple[Callable[[Any], object], list[Any]]:
        pair = Pair()
        return lambda n: connect(pair.here, pair.there, n, back=n), list(range(HANDSHAKES))

    return afresh(make)


def agreements(words: int) -> Loop:
    """Return a loop of a handshake's X25519: of each end its e, and so many of es, ss, ee, se.

    ss is the same in each handshake of two peers, and they keep it; the first one, which
    calculates it, is made outside the clock.
    """
    secret, public = raw.randombytes(32), raw.crypto_scalarmult_base(raw.randombytes(32))

    def agree(_: int) -> None:
        for _end in range(2):
            raw.crypto_scalarmult_base(secret)
            for _word in range(words):
                raw.crypto_scalarmult(secret, public)

    return over(agree, range(HANDSHAKES))


def objects(session: Session) -> list[dict[str, Any]]:
    """Return messages as a kernel gets them."""
    return [
        session.msg("execute_request", content={"code": f"x = {number}", "silent": False})
        for number in range(COUNT)
    ]


def as_plain(message: dict[str, Any]) -> dict[str, Any]:
    """Return the four parts that Jupyter sends of a message, dates as text."""
    parts = {name: message[name] for name in ("header", "parent_header", "metadata", "content")}
    return parts | {"header": {**message["header"], "date": message["header"]["date"].isoformat()}}


def rows() -> Iterator[Row]:
    """Yield what is compared, and its bars."""
    payloads = [raw.randombytes(PAYLOAD_SIZE) for _ in range(COUNT)]
    work = "handshake and first message, both ends"
    yield Row(work, "ten X25519 of Noise IK", 1.5, handshakes(), agreements(4))
    yield Row(work, "eight X25519, all but ss", STATED, handshakes(), agreements(3))

    send = afresh(lambda: (Pair().here.send, payloads))

    def receiving() -> tuple[Callable[[Any], object], list[Any]]:
        pair = Pair()
        return pair.there.receive, pair.sealed(payloads)

    receive = afresh(receiving)
    key, head, nonce = raw.randombytes(32), raw.randombytes(20), raw.randombytes(12)
    encrypt = raw.crypto_aead_chacha20poly1305_ietf_encrypt
    decrypt = raw.crypto_aead_chacha20poly1305_ietf_decrypt
    encrypted = [encrypt(one, head, nonce, key) for one in payloads]
    raw_send = over(lambda p: encrypt(p, head, nonce, key), payloads)
    raw_receive = over(lambda d: decrypt(d, head, nonce, key), encrypted)
    fernet = Fernet(Fernet.generate_key())
    tokens = [fernet.encrypt(one) for one in payloads]
    fernet_send, fernet_receive = over(fernet.encrypt, payloads), over(fernet.decrypt, tokens)
    fast = openssl()
    assert fast, "this measures both ciphers: install the extra openssl"
    for library, bar in ((libsodium(), STATED), (fast, 0.6)):
        here, there = by(library, send), by(library, receive)
        yield Row(f"send, by {library.by}", "PyNaCl's AEAD", 1.4, here, raw_send)
        yield Row(f"receive, by {library.by}", "PyNaCl's AEAD", 1.7, there, raw_receive)
        yield Row(f"send, by {library.by}", "Fernet.encrypt", bar, here, fernet_send)
        yield Row(f"receive, by {library.by}", "Fernet.decrypt", bar, there, fernet_receive)
    yield Row("PyNaCl's AEAD, encrypt", "Fernet.encrypt", STATED, raw_send, fernet_send)
    yield Row("PyNaCl's AEAD, decrypt", "Fernet.decrypt", STATED, raw_receive, fernet_receive)
    yield from beside_jupyter()


def beside_jupyter() -> Iterator[Row]:
    """Yield the same objects, sent and received by sessions and by Jupyter's messages."""
    jupyter = Session(key=raw.randombytes(32))
    messages = objects(jupyter)
    plain = [as_plain(one) for one in messages]

    def sending() -> tuple[Callable[[Any], object], list[Any]]:
        sender = Pair().here
        return lambda one: sender.send(codec.encode_object(one)), plain

    def receiving() -> tuple[Callable[[Any], object], list[Any]]:
        pair = Pair()

        def take(data: bytes) -> Any:
            message = pair.there.receive(data)
            assert message is not None
            return message.object()

        return take, pair.sealed([codec.encode_object(one) for one in plain])

    def jupyter_receiving() -> tuple[Callable[[Any], object], list[Any]]:
        receiver = Session(key=jupyter.key)

        def take(frames: list[bytes]) -> Any:
            return receiver.deserialize(receiver.feed_identities(frames)[1])

        # A message that it has seen is refused, so each is signed anew.
        return take, [jupyter.serialize(one) for one in objects(jupyter)]

    yield Row(
        "send an object",
        "Jupyter's serialize",
        1.0,
        afresh(sending),
        over(jupyter.serialize, messages),
    )
    yield Row(
        "receive an object",
        "Jupyter's deserialize",
        1.0,
        afresh(receiving),
        afresh(jupyter_receiving),
    )


# --- many sessions ----------------------------------------------------------------------------


_LONG = Timing(rekey_after=7200, reject_after=7200)
"""So that no session ends while there are many."""


class Crowd:
    """One end with very many sessions, and the others, all in this process."""

    def __init__(self, count: int) -> None:
        people = [Identity.generate() for _ in range(min(PEERS, count))]
        self.peers = [
            Peer(f"peer {number}", one.public, contexts=[CONTEXT])
            for number, one in enumerate(people)
        ]
        self.end = SessionManager(BOB, TrustStore(self.peers), context=CONTEXT, timing=_LONG)
        self.others = [
            SessionManager(one, _trust([BOB]), context=CONTEXT, to=BOB.public, timing=_LONG)
            for one in people
        ]
        links = [(number % len(people), number // len(people)) for number in range(count)]
        self._turns = itertools.cycle(links)
        for who, address in links:
            # Handshakes are granted at a rate; it is not what is measured here.
            self.end._exchange._granted.clear()  # noqa: SLF001 (see above)
            connect(self.others[who], self.end, address, back=(who, address))

    def turns(self) -> Iterator[tuple[int, int]]:
        """Return some links, those whose turn it is."""
        return itertools.islice(self._turns, 4 * COUNT)

    def sending(self) -> tuple[Callable[[Any], object], list[Any]]:
        """Return how the end sends to each in turn."""
        send, payload = self.end.send, bytes(PAYLOAD_SIZE)
        items = [(self.peers[who], (who, address)) for who, address in self.turns()]
        return lambda one: send(payload, to=one[0], address=one[1]), items

    def receiving(self) -> tuple[Callable[[Any], object], list[Any]]:
        """Return how it receives from each in turn."""
        receive, payload = self.end.receive, bytes(PAYLOAD_SIZE)
        items = [
            (self.others[who].send(payload, address=address), (who, address))
            for who, address in self.turns()
        ]
        return lambda one: receive(one[0], address=one[1]), items


def growth() -> Iterator[Row]:
    """Yield what a message costs where there are very many sessions, all by libsodium."""
    many, one = Crowd(MANY), Crowd(1)
    for work, here, there in (
        ("send", many.sending, one.sending),
        ("receive", many.receiving, one.receiving),
    ):
        yield Row(
            f"{work}, {MANY:,} sessions in turn, by libsodium",
            "1 session",
            GROWTH,
            by(libsodium(), afresh(here)),
            by(libsodium(), afresh(there)),
        )


def memory() -> Line:
    """Return the bytes of a session of which nothing is heard, each with another peer."""
    people = [Identity.generate() for _ in range(MANY)]
    # The time stands still: what is to be measured is not how it passes.
    end = SessionManager(BOB, _trust(people), context=CONTEXT, monotonic=lambda: clock.SECOND)
    gc.collect()
    tracemalloc.start()
    for number, one in enumerate(people):
        connect(manager(one, BOB), end, back=number)
    gc.collect()
    each = tracemalloc.get_traced_memory()[0] / MANY
    tracemalloc.stop()
    assert len(end.links) == MANY
    return Line(
        f"memory of each of {MANY:,} sessions, each with another peer",
        f"{each:.0f} bytes",
        f"{MOST_MEMORY}",
        each <= MOST_MEMORY,
    )


def _trust(people: Sequence[Identity]) -> TrustStore:
    return TrustStore(
        Peer(f"peer {number}", one.public, contexts=[CONTEXT]) for number, one in enumerate(people)
    )


# --- after a restart --------------------------------------------------------------------------


def restarts(kills: int) -> Iterator[Line]:
    """Yield how long it takes until messages are delivered after a peer's restart."""
    for survivor_speaks, who in (
        (True, "the end that lived on"),
        (False, "the end that was killed"),
    ):
        taken = list(resumptions(kills, survivor_speaks=survivor_speaks))
        yield Line(
            f"first message after a peer was killed and begun again, {kills} times; {who} sends",
            f"{statistics.median(taken):.3f} s in the median, {max(taken):.3f} s at worst",
            f"{MOST_SECONDS:g} s at worst",
            max(taken) < MOST_SECONDS,
        )


# --- tables -----------------------------------------------------------------------------------


def judge(row: Row, ours: list[float], floor: list[float]) -> tuple[str, bool]:
    """Return the line of a row, and whether its bar holds."""
    least = min(ours) / min(floor)
    middle = statistics.median(ours) / statistics.median(floor)
    holds = least <= row.bar
    end = "| |" if row.bar == STATED else f"{row.bar} | {'holds' if holds else 'MISSED'} |"
    return (
        f"| {row.work} | {row.floor} | {min(ours) * 1e6:.2f} | {min(floor) * 1e6:.2f} "
        f"| {least:.3f} | {middle:.3f} | {end}"
    ), holds


def compared(rounds: int) -> tuple[list[str], bool]:
    """Measure what has a floor; return the lines of the table, and whether every bar holds."""
    lines = [
        "| work | beside | us | us beside | ratio of minima | of medians | bar | |",
        "|---|---|---:|---:|---:|---:|---:|---|",
    ]
    good = True
    for make in (rows, growth):
        for row in make():
            line, holds = judge(row, *measure(row, rounds if make is rows else rounds // 4))
            print(line, flush=True)
            lines.append(line)
            good = good and holds
    return lines, good


def stated(kills: int) -> tuple[list[str], bool]:
    """Measure the rest; return the lines of its table, and whether every bar holds."""
    lines = ["| what | figure | bar | |", "|---|---|---|---|"]
    for line in itertools.chain(restarts(kills), (measured() for measured in (memory,))):
        verdict = "holds" if line.holds else "MISSED"
        lines.append(f"| {line.what} | {line.figure} | {line.bar} | {verdict} |")
        print(lines[-1], flush=True)
    return lines, not any(line.endswith("MISSED |") for line in lines)


def main() -> int:
    """Measure, print, and write the tables into a document if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--write", type=Path, metavar="DOCUMENT")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    gc.freeze()  # What was imported is not looked through before each round.
    head = (
        f"{machine()}, {versions(('cryptography', 'jupyter-client', 'pyzmq'))}; {options.rounds} "
        f"rounds of {COUNT} messages of {PAYLOAD_SIZE} bytes, or {HANDSHAKES} handshakes"
    )
    print(head)
    table, fast = compared(options.rounds)
    rest, good = stated(options.kills)
    if options.write:
        write(options.write, "sessions", [f"{head}.", "", *table, "", *rest])
    return 0 if fast and good else 1


if __name__ == "__main__":
    sys.exit(main())
