"""What sockets cost, beside plain pyzmq and CURVE: the same loops, in turn, in one run.

Rules of this file:

- Real processes on loopback TCP, messages of 256 bytes, sockets as pyzmq makes them. The
  children are in ``zeromq_ends.py``.
- What is compared runs one after the other in each round, the first one last in the
  next, and a ratio is taken within a round, for a machine that slows down slows all.
  The table shows the median of the rounds, and the smallest and the largest.
- Time is from the first send to the last receipt, so it includes what lay in queues.
  Processor time is that of all threads, ZeroMQ's too, of both processes over the same
  span; of a publisher, of its own.

Run: ``make bench``, or ``python benchmarks/zeromq.py --help``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter, sleep
from typing import Any, NamedTuple

import msgpack
import zmq
from document import machine, write
from zeromq_ends import (
    COUNT,
    DEADLINE_MS,
    PAYLOAD,
    WARM_UP,
    Way,
    child,
    join_curve,
    make_opener,
    make_sealer,
    make_socket,
    processor_time,
    pull,
    serve_curve,
    subscribe,
    told,
)

from envelope.zeromq import Bundling, SecureSocket
from envelope.zeromq.pipes import Inward, Outward

SLICE = 200
SLICES = 40
SUBSCRIBERS = (1, 4, 16)
PLAIN, CURVE = Way("plain"), Way("CURVE")


class Line(NamedTuple):
    """One line of the table."""

    what: str
    figure: str
    bar: str = ""
    holds: bool = True


class Run(NamedTuple):
    """What one run took."""

    rate: float
    """Messages a second."""
    cpu: float
    """Microseconds of both processes for each message."""


class Pipeline(NamedTuple):
    """A way to compare with CURVE and with plain pyzmq."""

    what: str
    way: Way
    least: float | None = None
    """Of CURVE's rate."""
    most_cpu: float | None = None
    """Of CURVE's processor time."""


PIPELINES = (
    Pipeline("sealed, `send()` and `recv()`", Way("sealed"), 1.2),
    Pipeline("sealed, `send_many()` and `recv_bundle()`", Way("sealed", is_packed=True), 1.3, 0.75),
    Pipeline("signed, `send()` and `recv()`", Way("signed"), 1.5),
    Pipeline("signed, `send_many()` and `recv_bundle()`", Way("signed", is_packed=True), 1.5),
    Pipeline("CURVE, lists packed by hand", Way("CURVE", is_packed=True)),
)


def spread(ratios: Sequence[float], of: str, digits: int = 2) -> str:
    """Return the median of ratios, with the smallest and the largest."""
    middle, least, most = statistics.median(ratios), min(ratios), max(ratios)
    return f"{middle:.{digits}f} x {of} ({least:.{digits}f} to {most:.{digits}f})"


def verdict(line: Line) -> str:
    """Return a line of the table."""
    word = "" if not line.bar else "holds" if line.holds else "MISSED"
    return f"| {line.what} | {line.figure} | {line.bar} | {word} |"


# A pipeline: plain, CURVE, and envelopes message by message or bundle by bundle.


def push(way: Way, count: int) -> Run:
    """Send to a child, as fast as it goes; return what both needed."""
    with child(pull, way, count) as receiver, zmq.Context() as context:
        port, server = told(receiver)
        with make_socket(context, zmq.PUSH) as socket:
            if way.kind == "CURVE":
                join_curve(socket, server)
            socket.connect(f"tcp://127.0.0.1:{port}")
            send = _sending(socket, way)
            send(WARM_UP)
            told(receiver)
            start, before = perf_counter(), processor_time()
            send(count)
            theirs = told(receiver)
            seconds, ours = perf_counter() - start, processor_time() - before
    return Run(count / seconds, (ours + theirs) / count * 1e6)


def _sending(socket: zmq.Socket[Any], way: Way) -> Callable[[int], None]:
    """Return a function that sends so many messages, in one of the loops to compare."""
    if not way.is_secure:
        return partial(_send_lists if way.is_packed else _send_each, socket.send)
    sealer = make_sealer(sealed=way.kind == "sealed")
    if way.is_packed:
        return partial(_send_lists, SecureSocket(socket, sealer=sealer).send_many, pack=None)
    secure = SecureSocket(socket, sealer=sealer, bundling=Bundling(max_count=COUNT))
    return partial(_send_each, secure.send, flush=secure.flush)


def _send_each(
    send: Callable[[bytes], Any], count: int, *, flush: Callable[[], Any] | None = None
) -> None:
    for _ in range(count):
        send(PAYLOAD)
    if flush is not None:
        flush()


def _send_lists(
    send: Callable[[Any], Any], count: int, *, pack: Callable[[Any], Any] | None = msgpack.packb
) -> None:
    payloads = [PAYLOAD] * COUNT
    for _ in range(0, count, COUNT):
        send(payloads if pack is None else pack(payloads))


def pipelines(rounds: int, count: int) -> Iterator[Line]:
    """Compare each way with CURVE and with plain pyzmq."""
    count = -(-count // COUNT) * COUNT
    for pipeline in PIPELINES:
        order = [pipeline.way, CURVE, PLAIN]
        results: list[dict[Way, Run]] = []
        for _ in range(rounds):
            results.append({way: push(way, count) for way in order})
            order.reverse()
        yield from compare(pipeline, results)


def compare(pipeline: Pipeline, results: Sequence[Mapping[Way, Run]]) -> Iterator[Line]:
    """Return the lines of one pipeline."""
    what, way, least, most_cpu = pipeline
    own = [one[way] for one in results]
    rates = [one[way].rate / one[CURVE].rate for one in results]
    plain = statistics.median(one[way].rate / one[PLAIN].rate for one in results)
    yield Line(
        f"{what}: messages a second",
        f"{statistics.median(run.rate for run in own):,.0f}, {spread(rates, 'CURVE')}, "
        f"{plain:.2f} x plain",
        f"{least} x CURVE" if least else "",
        least is None or statistics.median(rates) >= least,
    )
    costs = [one[way].cpu / one[CURVE].cpu for one in results]
    plain = statistics.median(one[way].cpu / one[PLAIN].cpu for one in results)
    yield Line(
        f"{what}: processor time for each",
        f"{statistics.median(run.cpu for run in own):.2f} us, {spread(costs, 'CURVE')}, "
        f"{plain:.2f} x plain",
        f"{most_cpu} x CURVE" if most_cpu else "",
        most_cpu is None or statistics.median(costs) <= most_cpu,
    )


# A publisher and its subscribers.


def publish(how: str, subscribers: int, count: int) -> float:
    """Return the publisher's processor time for each message, microseconds."""
    with zmq.Context() as context, make_socket(context, zmq.XPUB) as socket:
        socket.sndhwm = 0
        socket.xpub_verbose = True
        server = serve_curve(socket) if how == "CURVE" else b""
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        send: Callable[[bytes], Any] = socket.send
        expected = count
        if how != "CURVE":
            bundling = Bundling(max_count=COUNT, max_delay=60) if how == "bundled" else None
            secure = SecureSocket(socket, sealer=make_sealer(sealed=False), bundling=bundling)
            send = secure.send
            expected = -(-count // COUNT) if bundling else count
        with child(subscribe, port, server, subscribers) as receiver:
            for _ in range(subscribers):
                socket.recv()  # The subscription.
            before = processor_time()
            for _ in range(count):
                send(PAYLOAD)
            if how == "bundled":
                secure.flush()
            socket.send(b"end")
            got = told(receiver)
            used = processor_time() - before
    if got != expected:
        raise SystemExit(f"a subscriber got {got} of {expected} messages")
    return used / count * 1e6


def fan_out(rounds: int) -> Iterator[Line]:
    """Tell what sixteen subscribers cost more than one."""
    for how, count, most in (
        ("bundled", 200_000, 2.0),
        ("one by one", 10_000, 2.0),
        ("CURVE", 20_000, None),
    ):
        costs = [{many: publish(how, many, count) for many in SUBSCRIBERS} for _ in range(rounds)]
        yield fan(how, costs, most)


def fan(how: str, costs: Sequence[Mapping[int, float]], most: float | None) -> Line:
    """Return the line of one way to publish."""
    ratios = [one[SUBSCRIBERS[-1]] / one[SUBSCRIBERS[0]] for one in costs]
    medians = [statistics.median(one[many] for one in costs) for many in SUBSCRIBERS]
    name = f"{', '.join(map(str, SUBSCRIBERS))}, {how if how == 'CURVE' else f'signed, {how}'}"
    return Line(
        f"PUB to {name}: publisher's processor time for each",
        f"{', '.join(f'{cost:.2f}' for cost in medians)} us, {spread(ratios, 'that to 1')}",
        f"{most} x" if most else "",
        most is None or statistics.median(ratios) <= most,
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
    seconds = perf_counter() - start
    sleep(0.01)  # What was sent arrives, and ZeroMQ's threads are idle for the next.
    return seconds / SLICE * 1e6


def one_at_a_time(context: zmq.Context[Any]) -> Iterator[Line]:
    """Compare a SecureSocket, unbundled, with its parts."""
    sealer, opener = make_sealer(sealed=True), make_opener()
    (push_whole, pull_whole), (push_parts, pull_parts) = linked(context), linked(context)
    sender = SecureSocket(push_whole, sealer=sealer)
    receiver = SecureSocket(pull_whole, opener=opener)

    def send() -> None:
        sender.send(PAYLOAD)

    def send_parts() -> None:
        push_parts.send_multipart([sealer.seal(PAYLOAD)])

    def recv_parts() -> None:
        *bound, data = pull_parts.recv_multipart()
        opener.open(data, bound=bound)

    sends: list[tuple[float, float]] = []
    receives: list[tuple[float, float]] = []
    for number in range(SLICES):
        sends.append(both(send, send_parts, number))
        receives.append(both(receiver.recv, recv_parts, number))
    yield beside("send", "`seal()` and `send_multipart()`", sends)
    yield beside("recv", "`recv_multipart()` and `open()`", receives)


def both(ours: Callable[[], Any], theirs: Callable[[], Any], number: int) -> tuple[float, float]:
    """Time a slice of both; each goes first in half of the rounds."""
    if number % 2:
        first, second = time_slice(theirs), time_slice(ours)
        return second, first
    return time_slice(ours), time_slice(theirs)


def beside(what: str, parts: str, times: Sequence[tuple[float, float]]) -> Line:
    """Return the line of one call beside its parts."""
    ratio = statistics.median(ours / theirs for ours, theirs in times)
    return Line(
        f"`{what}()`, sealed, one at a time",
        f"{min(ours for ours, _ in times):.2f} us, {ratio:.3f} x {parts}",
        "1.05 x",
        ratio <= 1.05,
    )


def relayed(context: zmq.Context[Any]) -> Iterator[Line]:
    """Tell what a relay adds to a message, beside a loop that seals or opens by hand."""
    sealer, opener = make_sealer(sealed=True), make_opener()
    (push_in, pull_in), (push_over, pull_over), (push_out, pull_out) = (
        linked(context) for _ in range(3)
    )
    sender = SecureSocket(push_over, sealer=sealer)
    out = Outward("out", pull_in, sender, topic=0, has_topics=False)
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


def all_lines(rounds: int, count: int) -> Iterator[Line]:
    """Measure all."""
    yield from pipelines(rounds, count)
    yield from fan_out(max(1, rounds // 2))
    with zmq.Context() as context:
        yield from one_at_a_time(context)
        yield from relayed(context)
        context.destroy(linger=0)


def report(head: str, lines: Iterable[Line], document: Path | None) -> int:
    """Print the table, write it into a document if asked, and return the exit code."""
    print(head)
    table = [f"{head}.", "", "| what | figure | bar | |", "|---|---|---|---|"]
    good = True
    for line in lines:
        good = good and line.holds
        table.append(verdict(line))
        print(table[-1], flush=True)
    if document is not None:
        write(document, "zeromq", table)
    return 0 if good else 1


def main() -> int:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=400_000, help="in each run of a pipeline")
    parser.add_argument("--write", type=Path, metavar="DOCUMENT")
    options = parser.parse_args()
    head = (
        f"{machine()}, pyzmq {zmq.__version__}; {options.rounds} rounds of {options.messages:,} "
        "messages; medians, and the smallest and the largest ratio"
    )
    return report(head, all_lines(options.rounds, options.messages), options.write)


if __name__ == "__main__":
    sys.exit(main())
