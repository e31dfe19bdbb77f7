"""CURVE through a proxy that belongs to the attacker, and Jupyter's Session.

Rules of this file: those of the package. CURVE protects a hop, and its documentation says
so; here the attacker is where two hops meet, holds the proxy's keys, and sees what it
forwards. A real ``zmq.proxy`` is on either side of it.
"""

from __future__ import annotations

import base64
import json
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import zmq
import zmq.auth
from nacl.utils import random
from peers.ways import need
from zmq.auth.thread import ThreadAuthenticator

from attacks.generic import BOMB, RECIPIENT, TWO
from attacks.subject import (
    MEMBERS,
    STRANGER,
    Heard,
    Note,
    Page,
    Reader,
    Subject,
    Wire,
    Writer,
    nested_json,
)
from attacks.tokens import BYTES, ONE_KEY, PLAIN

PATIENCE_MS = 10_000
SILENCE_MS = 1_500
"""After so long nothing comes on a connection that works."""
LOCALHOST = "tcp://127.0.0.1:*"
HELLO = b"hello"
Socket = zmq.Socket[bytes]


class Curve(Subject):
    """PUB and SUB, each with CURVE to a proxy between them."""

    name = "CURVE through a proxy"
    used_as = "a key pair at each end, ZAP at the proxy, the proxy in the attacker's hand"
    pages = (
        Page("CurveZMQ", "https://rfc.zeromq.org/spec/26/"),
        Page("zmq_curve", "https://libzmq.readthedocs.io/en/latest/zmq_curve.html"),
        Page("pyzmq: Ironhouse", "https://github.com/zeromq/pyzmq/tree/main/examples/security"),
    )
    absent: ClassVar[Mapping[str, str]] = {
        RECIPIENT: "the proxy says who may subscribe, and it is the attacker's",
        TWO: "it seals a hop, and has one reader there",
        BOMB: BYTES,
    }

    def __init__(self, stack: ExitStack) -> None:
        """Make keys, and begin both halves of the proxy."""
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        names = ("proxy", *MEMBERS)
        pairs = {}
        for name in names:
            zmq.auth.create_certificates(folder, name)
            pairs[name] = zmq.auth.load_certificate(folder / f"{name}.key_secret")
            (folder / f"{name}.key_secret").unlink()
        self.pairs = {**pairs, STRANGER: zmq.curve_keypair()}
        self.context: zmq.Context[Socket] = zmq.Context()
        # Called from last to first: sockets, the context, which ends the proxies, threads.
        threads: list[threading.Thread] = []
        stack.callback(join, threads)
        stack.callback(self.context.term)
        authenticator = ThreadAuthenticator(self.context)
        authenticator.start()
        stack.callback(authenticator.stop)
        authenticator.configure_curve(domain="*", location=folder)
        front, back = self.end(zmq.XSUB, serve=True), self.end(zmq.XPUB, serve=True)
        # Tell each subscription, not the first alone.
        back.set(zmq.XPUB_VERBOSE, 1)
        self.front, address = self.bound(front), self.bound(back)
        self.near, self.far = self.half(front, "near", threads), self.half(back, "far", threads)
        # The attacker wants to hear everything.
        self.near.send(b"\x01")
        stack.callback(self.far.close, 0)
        stack.callback(self.near.close, 0)
        self.stack = stack
        self.keys = {"proxy": pairs["proxy"][0], "address": address, "pairs": pairs}

    @staticmethod
    def bound(socket: Socket) -> str:
        """Bind, and return the address."""
        socket.bind(LOCALHOST)
        return socket.get_string(zmq.LAST_ENDPOINT).rstrip("\0")

    def end(self, kind: int, *, serve: bool) -> Socket:
        """Return a socket; with the proxy's keys if it serves."""
        socket: Socket = self.context.socket(kind)
        socket.set(zmq.LINGER, 0)
        if serve:
            socket.set(zmq.CURVE_SERVER, 1)
            socket.set(zmq.CURVE_PUBLICKEY, self.pairs["proxy"][0])
            socket.set(zmq.CURVE_SECRETKEY, self.pairs["proxy"][1] or b"")
        return socket

    def half(self, outer: Socket, name: str, threads: list[threading.Thread]) -> Socket:
        """Begin a proxy between a hop and the attacker, and return the attacker's end."""
        inner, mine = self.end(zmq.PAIR, serve=False), self.end(zmq.PAIR, serve=False)
        inner.bind(f"inproc://{name}")
        mine.connect(f"inproc://{name}")

        def forward() -> None:
            with closing(outer), closing(inner):
                try:
                    zmq.proxy(outer, inner)
                except zmq.ContextTerminated:
                    return

        thread = threading.Thread(target=forward, daemon=True)
        thread.start()
        threads.append(thread)
        return mine

    def publisher(self, who: str | None) -> Socket:
        """Return a publisher that is connected to the proxy; without CURVE if it is nobody."""
        socket: Socket = self.context.socket(zmq.PUB)
        socket.set(zmq.LINGER, 0)
        if who is not None:
            with_keys(socket, self.pairs[who], self.pairs["proxy"][0])
        socket.connect(self.front)
        self.stack.callback(socket.close, 0)
        return socket

    def is_heard(self, socket: Socket, patience_ms: int) -> bool:
        """Send until the attacker hears it, and tell whether it did."""
        end = time.monotonic() + patience_ms / 1000
        while time.monotonic() < end:
            socket.send(HELLO)
            if self.near.poll(20):
                return True
        return False

    def writer(self, who: str) -> Writer:
        """Return how a member publishes; what is returned is what the attacker heard."""
        socket = self.publisher(who)
        if not self.is_heard(socket, PATIENCE_MS):
            raise SystemExit(f"CURVE: {who} does not reach the proxy")

        def write(note: Note) -> Wire:
            socket.send_multipart([note.topic.encode(), note.sender.encode(), note.payload])
            while True:
                if not self.near.poll(PATIENCE_MS):
                    raise SystemExit("CURVE: a message does not reach the proxy")
                topic, *frames = self.near.recv_multipart()
                if topic != HELLO:
                    return Wire(topic, frames)

        return write

    @staticmethod
    @contextmanager
    def reader(keys: Any, who: str) -> Iterator[Reader]:
        """Subscribe to everything at the proxy."""
        with zmq.Context() as context, context.socket(zmq.SUB) as socket:
            with_keys(socket, keys["pairs"][who], keys["proxy"])
            socket.set(zmq.SUBSCRIBE, b"")
            socket.connect(keys["address"])

            def read(wire: Wire) -> Heard:
                del wire  # It comes by the socket.
                if not socket.poll(SILENCE_MS):
                    raise TimeoutError
                frames = socket.recv_multipart()
                return Heard(frames[2], frames[1].decode())

            yield read

    def arrived(self) -> None:
        """Wait for a subscription."""
        while self.far.poll(PATIENCE_MS):
            if self.far.recv().startswith(b"\x01"):
                return
        raise SystemExit("CURVE: a receiver does not reach the proxy")

    def deliver(self, wire: Wire) -> Wire:
        """Forward what the attacker likes."""
        self.far.send_multipart([wire.topic, *wire.frames])
        return wire

    def weaker(self) -> Mapping[str, Wire | None]:
        """Return what comes of who speaks to the proxy without CURVE, or with unknown keys."""
        while self.near.poll(SILENCE_MS):
            self.near.recv_multipart()  # What an honest one sent before.
        tries = {"no CURVE": None, "keys that ZAP does not know": STRANGER}
        heard = Wire(HELLO, [b"alice", b""])
        return {
            name: heard if self.is_heard(self.publisher(who), SILENCE_MS) else None
            for name, who in tries.items()
        }


def join(threads: Iterable[threading.Thread]) -> None:
    """Wait for their ends."""
    for thread in threads:
        thread.join()


def with_keys(socket: Socket, pair: tuple[bytes, bytes | None], server: bytes) -> None:
    """Make a socket a client of CURVE."""
    socket.set(zmq.CURVE_PUBLICKEY, pair[0])
    socket.set(zmq.CURVE_SECRETKEY, pair[1] or b"")
    socket.set(zmq.CURVE_SERVERKEY, server)


class Jupyter(Subject):
    """Jupyter's Session: HMAC over four parts; identities before, buffers after them."""

    name = "Jupyter Session"
    used_as = "`hmac-sha256`, its history of digests; the payload in the content, and a buffer"
    pages = (
        Page(
            "the wire protocol",
            "https://jupyter-client.readthedocs.io/en/stable/messaging.html#the-wire-protocol",
        ),
        Page("Session", "https://jupyter-client.readthedocs.io/en/stable/api/jupyter_client.html"),
    )
    absent: ClassVar[Mapping[str, str]] = {RECIPIENT: ONE_KEY, TWO: PLAIN}
    decoder = staticmethod(json.loads)

    def __init__(self, stack: ExitStack) -> None:
        """Make the key, and a stranger's own."""
        del stack
        self.keys = random(32)
        self.strange = random(32)

    def writer(self, who: str) -> Writer:
        """Return how a member serializes; the topic is the identity before the delimiter."""
        module = need("jupyter_client.session")
        key = self.strange if who == STRANGER else self.keys

        def write(note: Note) -> Wire:
            session = module.Session(key=key, username=note.sender)
            content = {"data": base64.b64encode(note.payload).decode()}
            made = session.msg("comm_msg", content=content)
            made["header"]["date"] -= timedelta(seconds=note.age)
            if note.nested:
                made["content"] = f'{{"data": {nested_json(note.nested)}}}'.encode()
            topic, *frames = session.serialize(made, ident=note.topic.encode())
            return Wire(topic, [*frames, note.payload])

        return write

    @staticmethod
    @contextmanager
    def reader(keys: Any, who: str) -> Iterator[Reader]:
        """Deserialize, with one session for all that comes."""
        del who
        session = need("jupyter_client.session").Session(key=keys)

        def read(wire: Wire) -> Heard:
            frames = session.feed_identities([wire.topic, *wire.frames])[1]
            message = session.deserialize(frames)
            data = message["content"]["data"]
            payload = base64.b64decode(data) if isinstance(data, str) else data
            return Heard(payload, message["header"]["username"])

        yield read

    def weaker(self) -> Mapping[str, Wire]:
        """Return it with an empty signature, as from a session whose key is empty."""
        wire = self.writer("alice")(Note())
        delimiter, _, *rest = wire.frames
        return {"an empty signature": wire._replace(frames=[delimiter, b"", *rest])}


SUBJECTS: tuple[type[Subject], ...] = (Curve, Jupyter)
