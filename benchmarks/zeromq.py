"""What sockets cost, beside plain pyzmq and CURVE: the same loops, in turn, in one run.

Rules of this file: two processes on loopback TCP, messages of 256 bytes. A pair of runs -
envelope and CURVE - follows one another, and the ratio is taken within the pair, since a
machine that slows down slows both. Processor time is that of both processes, ZeroMQ's
threads included. Every child ends by itself.

Run: ``make bench``, or ``python benchmarks/zeromq.py --help``.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import sys
from collections.abc import Callable, Iterator
from multiprocessing.queues import Queue
from pathlib import Path
from time import perf_counter, sleep
from typing import Any, NamedTuple

import zmq
from document import machine, write

from envelope import Identity, Opener, Peer, Sealer, TrustStore
from envelope.replay import MemoryReplayStore
from envelope.zeromq import Bundling, SecureSocket
from envelope.zeromq.pipes import Inward, Outward

CONTEXT = "bench"
ALICE, BOB = Identity(bytes(32)), Identity(b"\1" * 32)
"""Test keys: nothing that is secret is sent here."""
PAYLOAD = b"x" * 256
COUNT = 256
WARM_UP = 20 * COUNT
DEADLINE_MS = 120_000
SLICE = 200
SLICES = 40
SUBSCRIBERS = (1, 4, 16)

_spawn = multiprocessing.get_context("spawn")


class Line(NamedTuple):
    """One line of the table."""

    what: str
    figure: str
    bar: str
    holds: bool


class Run(NamedTuple):
    """What one run took."""

    rate: float
    """Messages a second."""
    cpu: float
    """Microseconds of both processes for each message."""


def processor_time() -> float:
    """Return the seconds that this process has computed, in all its threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def make_opener() -> Opener:
    """Return Bob's opener."""
    trust = TrustStore([Peer("alice", ALICE.public, contexts=[CONTEXT])])
    store = MemoryReplayStore(first_life=True)
    return Opener(trust, context=CONTEXT, identity=BOB, replay=store)


def make_sealer(*, sealed: bool) -> Sealer:
    """Return Alice's sealer."""
    return Sealer(ALICE, context=CONTEXT, to=[BOB.public] if sealed else ())


def make_socket(context: zmq.Context[Any], kind: int) -> zmq.Socket[Any]:
    """Return a socket that does not wait for ever."""
    socket: zmq.Socket[Any] = context.socket(kind)
    socket.rcvtimeo = socket.sndtimeo = DEADLINE_MS
    socket.linger = DEADLINE_MS
    return socket


# A pipeline: plain, CURVE, and envelopes message by message or bundle by bundle.


def pull(way: str, count: int, told: Queue[Any]) -> None:
    """Receive in a child; tell where, then how long it took and what it computed."""
    with zmq.Context() as context, make_socket(context, zmq.PULL) as socket:
        public = b""
        if way == "CURVE":
            public, secret = zmq.curve_keypair()
            socket.curve_secretkey, socket.curve_publickey = secret, public
            socket.curve_server = True
        told.put((socket.bind_to_random_port("tcp://127.0.0.1"), public))
        receive: Callable[[], Any] = socket.recv
        step = 1
        if way not in ("plain", "CURVE"):
            secure = SecureSocket(socket, opener=make_opener())
            receive = secure.recv
            if way.endswith("bundles"):
                receive, step = secure.recv_bundle, COUNT
        for _ in range(0, WARM_UP, step):
            receive()
        start, before = perf_counter(), processor_time()
        for _ in range(0, count, step):
            receive()
        told.put((perf_counter() - start, processor_time() - before))


def push(way: str, count: int) -> Run:
    """Send to a child, as fast as it goes; return what both needed."""
    told: Queue[Any] = _spawn.Queue()
    child = _spawn.Process(target=pull, args=(way, count, told))
    child.start()
    port, server = told.get(timeout=60)
    with zmq.Context() as context, make_socket(context, zmq.PUSH) as socket:
        if way == "CURVE":
            socket.curve_serverkey = server
            socket.curve_publickey, socket.curve_secretkey = zmq.curve_keypair()
        socket.connect(f"tcp://127.0.0.1:{port}")
        if way in ("plain", "CURVE"):
            before = _send_each(socket.send, count)
        else:
            sealer = make_sealer(sealed=way.startswith("sealed"))
            if way.endswith("bundles"):
                before = _send_lists(SecureSocket(socket, sealer=sealer).send_many, count)
            else:
                secure = SecureSocket(socket, sealer=sealer, bundling=Bundling())
                before = _send_each(secure.send, count)
                secure.flush()
        used = processor_time() - before
        seconds, theirs = told.get(timeout=DEADLINE_MS // 1000)
    child.join(timeout=60)
    return Run(count / seconds, (used + theirs) / count * 1e6)


def _send_each(send: Callable[[bytes], Any], count: int) -> float:
    for _ in range(WARM_UP):
        send(PAYLOAD)
    before = processor_time()
    for _ in range(count):
        send(PAYLOAD)
    return before


def _send_lists(send: Callable[[list[bytes]], Any], count: int) -> float:
    payloads = [PAYLOAD] * COUNT
    for _ in range(0, WARM_UP, COUNT):
        send(payloads)
    before = processor_time()
    for _ in range(0, count, COUNT):
        send(payloads)
    return before


def pipelines(rounds: int, count: int) -> Iterator[Line]:
    """Compare with CURVE, pair by pair."""
    count -= count % COUNT
    ways = {
        "sealed, `send()` and `recv()`": ("sealed", 1.2, None),
        "sealed, `send_many()` and `recv_bundle()`": ("sealed bundles", 1.3, 0.75),
        "signed, `send()` and `recv()`": ("signed", 1.5, None),
        "signed, `send_many()` and `recv_bundle()`": ("signed bundles", 1.5, None),
        "plain pyzmq": ("plain", None, None),
    }
    for what, (way, least, most_cpu) in ways.items():
        pairs = [(push(way, count), push("CURVE", count)) for _ in range(rounds)]
        rates = [ours.rate / theirs.rate for ours, theirs in pairs]
        ratio = statistics.median(rates)
        own = statistics.median(ours.rate for ours, _ in pairs)
        yield Line(
            f"{what}: messages a second",
            f"{own:,.0f}, {ratio:.2f} x CURVE ({min(rates):.2f} to {max(rates):.2f})",
            f"{least} x" if least else "",
            least is None or ratio >= least,
        )
        costs = statistics.median(ours.cpu / theirs.cpu for ours, theirs in pairs)
        cpu = statistics.median(ours.cpu for ours, _ in pairs)
        yield Line(
            f"{what}: processor time for each",
            f"{cpu:.2f} us, {costs:.2f} x CURVE",
            f"{most_cpu} x" if most_cpu else "",
            most_cpu is None or costs <= most_cpu,
        )


# A publisher and its subscribers.


def subscribe(port: int, server: bytes, subscribers: int, told: Queue[Any]) -> None:
    """Be all subscribers, in one child; tell how many messages the least of them got."""
    with zmq.Context() as context:
        poller = zmq.Poller()
        got: dict[Any, int] = {}
        for _ in range(subscribers):
            socket = make_socket(context, zmq.SUB)
            socket.rcvhwm = 0
            if server:
                socket.curve_serverkey = server
                socket.curve_publickey, socket.curve_secretkey = zmq.curve_keypair()
            socket.subscribe(b"")
            socket.connect(f"tcp://127.0.0.1:{port}")
            poller.register(socket, zmq.POLLIN)
            got[socket] = 0
        over = 0
        while over < subscribers:
            ready = poller.poll(DEADLINE_MS)
            if not ready:
                break
            for socket, _ in ready:
                for _ in range(1000):
                    try:
                        is_end = socket.recv(zmq.NOBLOCK) == b"end"
                    except zmq.Again:
                        break
                    over += is_end
                    got[socket] += not is_end
        told.put(min(got.values()))
        context.destroy(linger=0)


def publish(way: str, subscribers: int, count: int) -> float:
    """Return the publisher's processor time for each message, microseconds."""
    told: Queue[Any] = _spawn.Queue()
    with zmq.Context() as context, make_socket(context, zmq.XPUB) as socket:
        socket.sndhwm = 0
        socket.xpub_verbose = True
        server = b""
        if way == "CURVE":
            server, secret = zmq.curve_keypair()
            socket.curve_secretkey, socket.curve_publickey = secret, server
            socket.curve_server = True
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        child = _spawn.Process(target=subscribe, args=(port, server, subscribers, told))
        child.start()
        for _ in range(subscribers):
            socket.recv()  # The subscription.
        send: Callable[[bytes], Any] = socket.send
        expected = count
        if way != "CURVE":
            bundling = Bundling() if way == "bundled" else None
            secure = SecureSocket(socket, sealer=make_sealer(sealed=False), bundling=bundling)
            send = secure.send
            expected = -(-count // COUNT) if bundling else count
        before = processor_time()
        for _ in range(count):
            send(PAYLOAD)
        if way == "bundled":
            secure.flush()
        socket.send(b"end")
        got = told.get(timeout=DEADLINE_MS // 1000)
        used = processor_time() - before
        child.join(timeout=60)
    if got < expected:
        raise SystemExit(f"a subscriber got {got} of {expected} messages")
    return used / count * 1e6


def fan_out(rounds: int) -> Iterator[Line]:
    """Tell what sixteen subscribers cost more than one."""
    for way, count, most in (
        ("bundled", 200_000, 2.0),
        ("one by one", 10_000, 2.0),
        ("CURVE", 20_000, None),
    ):
        costs = {
            subscribers: min(publish(way, subscribers, count) for _ in range(rounds))
            for subscribers in SUBSCRIBERS
        }
        ratio = costs[SUBSCRIBERS[-1]] / costs[1]
        figures = ", ".join(f"{cost:.2f}" for cost in costs.values())
        name = "CURVE" if way == "CURVE" else f"signed, {way}"
        to = ", ".join(map(str, SUBSCRIBERS))
        yield Line(
            f"PUB to {to}, {name}: publisher's processor time for each",
            f"{figures} us, {ratio:.2f} x",
            f"{most} x" if most else "",
            most is None or ratio <= most,
        )


# One process: what the adapter and the relay add.


def linked(context: zmq.Context[Any]) -> tuple[zmq.Socket[Any], zmq.Socket[Any]]:
    """Return a PUSH and a PULL that are connected."""
    sender, receiver = make_socket(context, zmq.PUSH), make_socket(context, zmq.PULL)
    sender.connect(f"tcp://127.0.0.1:{receiver.bind_to_random_port('tcp://127.0.0.1')}")
    return sender, receiver


def time_slice(work: Callable[[], Any]) -> float:
    """Return the microseconds of one call, over a slice."""
    start = perf_counter()
    for _ in range(SLICE):
        work()
    return (perf_counter() - start) / SLICE * 1e6


def settle() -> None:
    """Let what was sent arrive."""
    sleep(0.01)


def one_at_a_time(context: zmq.Context[Any]) -> Iterator[Line]:
    """Compare a SecureSocket, unbundled, with its parts."""
    sealer, opener = make_sealer(sealed=True), make_opener()
    ours, theirs = linked(context), linked(context)
    sender, receiver = SecureSocket(ours[0], sealer=sealer), SecureSocket(ours[1], opener=opener)
    times: dict[str, list[float]] = {"send": [], "send_parts": [], "recv": [], "recv_parts": []}
    for _ in range(SLICES):
        times["send"].append(time_slice(lambda: sender.send(PAYLOAD)))
        times["send_parts"].append(time_slice(lambda: theirs[0].send(sealer.seal(PAYLOAD))))
        settle()
        times["recv"].append(time_slice(receiver.recv))
        times["recv_parts"].append(time_slice(lambda: opener.open(theirs[1].recv())))
    for what, parts in (("send", "`seal()` and plain send"), ("recv", "plain recv and `open()`")):
        own, floor = min(times[what]), min(times[f"{what}_parts"])
        yield Line(
            f"`{what}()`, sealed, one at a time",
            f"{own:.2f} us, {own / floor:.3f} x {parts}",
            "1.05 x",
            own / floor <= 1.05,
        )


def relayed(context: zmq.Context[Any]) -> Iterator[Line]:
    """Tell what a relay adds to a message, beside a loop that seals or opens by hand."""
    sealer, opener = make_sealer(sealed=True), make_opener()
    (push_in, pull_in), (push_over, pull_over), (push_out, pull_out) = (
        linked(context) for _ in range(3)
    )
    bundling = Bundling(max_count=COUNT, max_delay=60)
    out = Outward(
        "out",
        pull_in,
        SecureSocket(push_over, sealer=sealer, bundling=bundling),
        topic=0,
        has_topics=False,
    )
    into = Inward("in", SecureSocket(pull_over, opener=opener), push_out, has_topics=False)
    moving, hands = [], []
    for _ in range(SLICES):
        moved = by_hand = 0.0
        for _ in range(SLICE):
            push_in.send(PAYLOAD)
            pull_in.poll(DEADLINE_MS)
            start = perf_counter()
            out.turn()
            moved += perf_counter() - start
            pull_over.poll(DEADLINE_MS)
            start = perf_counter()
            into.turn()
            moved += perf_counter() - start
            pull_out.recv()
        # By hand, after the same waits, which leave the caches cold.
        for _ in range(SLICE):
            push_in.send(PAYLOAD)
            pull_in.poll(DEADLINE_MS)
            start = perf_counter()
            push_over.send(sealer.seal(pull_in.recv()))
            by_hand += perf_counter() - start
            pull_over.poll(DEADLINE_MS)
            start = perf_counter()
            push_out.send(opener.open(pull_over.recv()).payload)
            by_hand += perf_counter() - start
            pull_out.recv()
        moving.append(moved / SLICE * 1e6)
        hands.append(by_hand / SLICE * 1e6)
    added = min(moving) - min(hands)
    yield Line(
        "a relay, one message at a time: added to receive, seal or open, send",
        f"{added / 2:.1f} us; both {min(moving):.1f} us",
        "20 us",
        added / 2 <= 20,
    )


def main() -> int:
    """Measure, print, and write the table into a document if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=400_000, help="in each run of a pipeline")
    parser.add_argument("--write", type=Path, metavar="DOCUMENT")
    options = parser.parse_args()
    head = f"{machine()}, pyzmq {zmq.__version__}; {options.rounds} pairs of {options.messages:,}"
    print(head)
    lines = ["| what | figure | bar | |", "|---|---|---|---|"]
    good = True

    def all_lines() -> Iterator[Line]:
        yield from pipelines(options.rounds, options.messages)
        yield from fan_out(2)
        with zmq.Context() as context:
            yield from one_at_a_time(context)
            yield from relayed(context)
            context.destroy(linger=0)

    for line in all_lines():
        good = good and line.holds
        verdict = "" if not line.bar else "holds" if line.holds else "MISSED"
        lines.append(f"| {line.what} | {line.figure} | {line.bar} | {verdict} |")
        print(lines[-1], flush=True)
    if options.write:
        write(options.write, "zeromq", [f"{head}.", "", *lines])
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
