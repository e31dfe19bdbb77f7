"""A side-car that seals and opens for programs that cannot be changed (SPEC 17).

Rules of this file: one thread, one poller. It makes sockets, lets pipes take turns, waits
when nothing can be done, and ends in order.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import resource
import socket as sockets
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Final, Self

import zmq

from envelope import clock
from envelope.errors import UsageError
from envelope.node import Node
from envelope.policy import Policy
from envelope.zeromq.clients import MAX_CLIENTS, BackIn, BackOut, Clients, FrontIn, FrontOut
from envelope.zeromq.pipes import Figures, Inward, Outward, Pipe, Plain
from envelope.zeromq.relayfile import End, Flow, RelayFile
from envelope.zeromq.socket import SecureSocket

_log = logging.getLogger("envelope.relay")

_QUIET: Final = 50_000
"""Microseconds without an arrival after which nothing more is on its way."""
_LAST_MS: Final = 100
"""What was taken at the last moment has so long to go."""
_FILES_OF_A_CLIENT: Final = 3
"""A socket's own, its connection, and one more while it comes or goes."""
_FILES_KEPT: Final = 128
"""For all that is no client."""
_SUBSCRIBE_ALL: Final = b"\x01"


class Relay:
    """Flows between plain sockets on the inside and sealed ones on the outside.

    For one thread, but for ``stop`` and ``wake_fd``. A context manager: leaving it closes
    all at once; ``run`` has let everything go before that, as far as there was time.
    """

    def __init__(self, file: RelayFile, node: Node) -> None:
        """Make all sockets, and bind and connect them.

        Args:
            file: as ``relayfile.read`` returned it.
            node: who the relay is; its replay memory is opened and stays the caller's.

        Raises:
            UsageError: a name in ``to`` that no peer has, or an endpoint that cannot be
                used.
            StoreFileError: another process opens for this node already.
        """
        self._node = node
        self._linger = round(file.linger * 1000)
        self._context: zmq.Context[Any] = zmq.Context()
        self._context.max_sockets = self._context.get(zmq.SOCKET_LIMIT)
        self._max_clients = _max_clients(file)
        self._end: int | None = None
        self._secure: dict[str, SecureSocket] = {}
        self._receives: set[str] = set()
        self._plain: list[Plain] = []
        self._clients: dict[str, Clients] = {}
        self._pipes: dict[str, list[Pipe]] = {}
        self._is_stopping = False
        self._waker, self._woken = sockets.socketpair()
        self._waker.settimeout(0)
        self._woken.settimeout(0)
        try:
            for flow in file.flows:
                self._pipes[flow.name] = self._open(flow)
            for flow in file.flows:
                self._link(flow)
        except BaseException:
            self.close()
            raise

    # Making.

    def _open(self, flow: Flow) -> list[Pipe]:
        secure = self._secure[flow.name] = self._make_secure(flow)
        out, into = f"{flow.name} out", f"{flow.name} in"
        kinds = (flow.plain.type, flow.sealed.type)
        if kinds == ("DEALER", "ROUTER"):
            # A place that cannot be used is told now, not when the first client comes.
            self._make_dealer(flow, b"").close(0)
            clients = Clients(lambda client: self._make_dealer(flow, client), self._max_clients)
            self._clients[flow.name] = clients
            return [BackIn(into, secure, clients), BackOut(out, clients, secure)]
        plain = self._make_plain(flow)
        match kinds:
            case ("SUB" | "XSUB", _):
                told = secure.socket if flow.sealed.type == "XPUB" else None
                if flow.plain.type == "XSUB" and (told is None or flow.topic is not None):
                    plain.send(_SUBSCRIBE_ALL)
                return [
                    Outward(
                        out,
                        plain,
                        secure,
                        topic=flow.topic,
                        has_topics=True,
                        subscriptions=told if flow.plain.type == "XSUB" else None,
                    )
                ]
            case ("PUB" | "XPUB", _):
                told = plain if kinds == ("XPUB", "XSUB") else None
                if flow.sealed.type == "XSUB" and told is None:
                    secure.socket.send(_SUBSCRIBE_ALL)
                return [
                    Inward(
                        into,
                        secure,
                        plain,
                        has_topics=True,
                        topic=flow.topic,
                        subscriptions=told,
                    )
                ]
            case ("PULL", _):
                return [Outward(out, plain, secure, topic=0, has_topics=False)]
            case ("PUSH", _):
                return [Inward(into, secure, plain, has_topics=False)]
            case ("ROUTER", _):
                return [
                    FrontOut(out, plain, secure),
                    FrontIn(into, secure, plain, is_patient=flow.same_clients_as is not None),
                ]
        return [
            Outward(out, plain, secure, topic=0, has_topics=False),
            Inward(into, secure, plain, has_topics=False),
        ]

    def _link(self, flow: Flow) -> None:
        """Tell the flow whose clients are the same as those of this one."""
        like = flow.same_clients_as
        if like in self._clients:
            self._clients[like].companions.append(self._clients[flow.name])
        elif like is not None:
            for pipe in self._pipes[like]:
                if isinstance(pipe, FrontOut):
                    pipe.announces.append(self._secure[flow.name])

    def _make_secure(self, flow: Flow) -> SecureSocket:
        socket = self._make(flow, flow.sealed)
        sends = flow.sealed.type not in ("SUB", "XSUB", "PULL")
        receives = flow.sealed.type not in ("PUB", "XPUB", "PUSH")
        policy = Policy(require="signed" if flow.sign_only else "sealed", max_age=flow.max_age)
        node = self._node
        secure = SecureSocket(
            socket,
            sealer=node.sealer(flow.context, to=list(flow.to), sealed=not flow.sign_only)
            if sends
            else None,
            opener=node.opener(flow.context, policy=policy) if receives else None,
        )
        if receives:
            self._receives.add(flow.name)
        if flow.sealed.type == "SUB":
            for prefix in flow.subscribe:
                socket.subscribe(prefix)
        self._attach(flow, flow.sealed, socket)
        return secure

    def _make_plain(self, flow: Flow) -> Plain:
        socket = self._make(flow, flow.plain)
        if flow.plain.type == "SUB":
            for prefix in flow.subscribe:
                socket.subscribe(prefix)
        self._attach(flow, flow.plain, socket)
        return socket

    def _make_dealer(self, flow: Flow, client: bytes) -> Plain:
        socket = self._make(flow, flow.plain, is_kept=False)
        try:
            # Ids that begin with a zero byte are ZeroMQ's own, and cannot be set.
            if 1 <= len(client) <= 255 and client[0]:
                socket.routing_id = client
            if flow.same_clients_as is not None:
                # There is room only where a server is: then it can speak to this client.
                socket.immediate = True
            self._attach(flow, flow.plain, socket)
        except BaseException:
            socket.close(0)  # The end of the context would wait for it forever.
            raise
        return socket

    def _make(self, flow: Flow, end: End, *, is_kept: bool = True) -> Plain:
        socket: Plain = self._context.socket(zmq.SocketType[end.type])
        if is_kept:
            self._plain.append(socket)
        socket.linger = self._linger
        if end is flow.sealed:
            # A stranger cannot make ZeroMQ take in what no envelope is as large as.
            socket.maxmsgsize = Policy().max_size
        # Not always: then "*" would be more than was asked for.
        socket.ipv6 = any("[" in place for place in (*end.bind, *end.connect))
        if flow.hwm is not None:
            socket.sndhwm = socket.rcvhwm = flow.hwm
        if end is flow.plain and end.type == "ROUTER":
            # A client that is not there, or has no room, is told; else it would be silence.
            socket.router_mandatory = True
        if end.type == "XPUB":
            # Who joins later must be heard by the publisher, too.
            socket.xpub_verbose = 1
        return socket

    @staticmethod
    def _attach(flow: Flow, end: End, socket: Plain) -> None:
        for place in end.bind:
            _attach(flow, socket.bind, place)
        for place in end.connect:
            _attach(flow, socket.connect, place)

    # Running.

    @property
    def wake_fd(self) -> int:
        """A descriptor that wakes ``run`` when something is written: for signals."""
        return self._waker.fileno()

    @property
    def is_stopping(self) -> bool:
        """Whether ``stop`` was called."""
        return self._is_stopping

    def stop(self) -> None:
        """Let ``run`` come to its end; may be called from a signal handler or a thread."""
        self._is_stopping = True
        with contextlib.suppress(OSError):  # It is woken already, or closed.
            self._waker.send(b"\0")

    def run(self, *, every: float | None = None, report: Callable[[], None] | None = None) -> None:
        """Relay until ``stop``, then let what has arrived go on, for the linger at most.

        Args:
            every: seconds from one call of ``report`` to the next.
            report: called now and then.
        """
        next_report = None if every is None else clock.monotonic() + clock.microseconds(every)
        while not self._is_stopping:
            if not self._turn():
                self._wait(next_report)
            if next_report is not None and clock.monotonic() >= next_report:
                assert every is not None
                next_report = clock.monotonic() + clock.microseconds(every)
                if report is not None:
                    report()
        end = self._end = clock.monotonic() + self._linger * 1000
        while clock.monotonic() < end:
            if self._turn():
                continue
            if self._is_held():
                self._wait(end)
            # What is in the buffers of the machine comes by and by.
            elif not self._wait(min(end, clock.monotonic() + _QUIET)):
                break
        for pipe in self._all_pipes():
            pipe.give_up()

    def _turn(self) -> bool:
        """Let each pipe have a turn; tell whether there may be more to do at once."""
        more = False
        for pipe in self._all_pipes():
            more |= pipe.turn()
        return more

    def _is_held(self) -> bool:
        return any(pipe.is_held for pipe in self._all_pipes())

    def _all_pipes(self) -> Iterator[Pipe]:
        return itertools.chain.from_iterable(self._pipes.values())

    def _wait(self, until: int | None) -> bool:
        """Wait until a pipe can move something; tell whether one can."""
        events: dict[Any, int] = {self._woken: zmq.POLLIN}
        ends = [] if until is None else [until]
        for pipe in self._all_pipes():
            if pipe.again_at is not None:
                ends.append(pipe.again_at)
            elif pipe.is_held:
                events[pipe.target] = events.get(pipe.target, 0) | zmq.POLLOUT
            else:
                for source in pipe.source:
                    events[source] = events.get(source, 0) | zmq.POLLIN
        poller = zmq.Poller()
        for socket, event in events.items():
            poller.register(socket, event)
        left = None if not ends else max(0, -((clock.monotonic() - min(ends)) // 1000))
        is_ready = bool(poller.poll(left))
        with contextlib.suppress(BlockingIOError):
            self._woken.recv(1024)
        return is_ready

    # Telling.

    def figures(self) -> dict[str, dict[str, Any]]:
        """Return for each flow what went out and in, and what was refused and lost."""
        result: dict[str, dict[str, Any]] = {}
        for name, pipes in self._pipes.items():
            row: dict[str, Any] = {}
            for direction in ("out", "in"):
                moved = [pipe.figures for pipe in pipes if pipe.name == f"{name} {direction}"]
                one = moved[0] if moved else Figures()
                row[direction] = {
                    "messages": one.messages,
                    "bytes": one.bytes,
                    "dropped": one.dropped,
                }
            secure = self._secure[name]
            row["refused"], row["lost"], row["missing"] = {}, 0, 0
            if name in self._receives:
                stats = secure.stats
                row["refused"] = dict(stats.refused)
                row["lost"] = sum(one.lost for one in stats.senders.values())
                row["missing"] = sum(one.missing for one in stats.senders.values())
            result[name] = row
        return result

    def close(self) -> None:
        """Close all sockets; what they have taken goes on for the linger. Raises nothing."""
        for secure in self._secure.values():
            with contextlib.suppress(UsageError):
                secure.close(self._left() if self._is_stopping else 0)
        for clients in self._clients.values():
            clients.close(self._left())
        for socket in self._plain:
            socket.close(self._left())
        self._waker.close()
        self._woken.close()
        self._context.term()

    def _left(self) -> int:
        """Return the milliseconds of the linger that are left: it is one for all sockets."""
        if self._end is None:
            return self._linger
        left = (self._end - clock.monotonic()) // 1000
        return min(self._linger, max(left, _LAST_MS))

    def __enter__(self) -> Self:
        """Return the relay."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close all."""
        self.close()


def _max_clients(file: RelayFile) -> int:
    """Return how many clients each flow may have, for the files that may be open."""
    flows = sum(flow.plain.type == "DEALER" for flow in file.flows)
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY or not flows:
        return MAX_CLIENTS
    return max(1, min(MAX_CLIENTS, (files - _FILES_KEPT) // _FILES_OF_A_CLIENT // flows))


def _attach(flow: Flow, how: Callable[[str], object], place: str) -> None:
    try:
        how(place)
    except zmq.ZMQError as error:
        raise UsageError(f"flow {flow.name!r}: {place}: {error.strerror}") from None
