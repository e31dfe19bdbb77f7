"""Two ends of ``sessions.py``: one that lives on, and one that is killed and begun again.

Rules of this file: real processes on loopback, default times, nothing between the two. The
end that is killed keeps its key and nothing else. Only what a new life said or heard is
counted.
"""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

import zmq
from zeromq_ends import ALICE, BOB, CONTEXT, told

from envelope import Identity, Peer, TrustStore, clock
from envelope.session import SessionManager
from envelope.zeromq import SecureSocket

EVERY_MS = 10
"""From one message to the next: a peer with something to say."""
PATIENCE = 30 * clock.SECOND

_spawn = multiprocessing.get_context("spawn")


def manager(own: Identity, other: Identity) -> SessionManager:
    """Return the sessions of one of two ends."""
    peer = Peer("other", other.public, contexts=[CONTEXT])
    return SessionManager(own, TrustStore([peer]), context=CONTEXT, to=peer)


@contextmanager
def _secure(own: Identity, other: Identity) -> Iterator[SecureSocket]:
    with zmq.Context() as context, context.socket(zmq.DEALER) as plain:
        plain.set(zmq.LINGER, 0)
        yield SecureSocket(plain, session=manager(own, other))
        context.destroy(linger=0)


def _turn(socket: SecureSocket, word: bytes) -> bytes:
    """Send a word, if there is one, and wait a moment; return what came."""
    if word:
        with contextlib.suppress(zmq.Again):  # Nobody is there.
            socket.send(word, flags=zmq.NOBLOCK)
    with contextlib.suppress(zmq.Again):
        if socket.poll(EVERY_MS):
            return socket.recv(zmq.NOBLOCK).payload
    return b""


def mortal(port: int, word: bytes, parent: Connection) -> None:
    """Tell when it is there, and when it first heard something; live on until killed."""
    with _secure(BOB, ALICE) as socket:
        parent.send(clock.monotonic())
        socket.socket.connect(f"tcp://127.0.0.1:{port}")
        has_told = False
        while True:
            if _turn(socket, word) and not has_told:
                has_told = True
                parent.send(clock.monotonic())


@contextmanager
def _life(port: int, word: bytes) -> Iterator[Connection]:
    """Begin the mortal end, and kill it at the end."""
    here, there = _spawn.Pipe()
    process = _spawn.Process(target=mortal, args=(port, word, there), daemon=True)
    process.start()
    there.close()
    try:
        yield here
    finally:
        process.kill()
        process.join()
        here.close()


def resumptions(kills: int, *, survivor_speaks: bool) -> Iterator[float]:
    """Kill an end so often; yield the seconds from its beginning anew to the first message.

    Args:
        kills: how many.
        survivor_speaks: who sends, all the time: the end that lives on, or the other one.

    Raises:
        SystemExit: the first message does not come.
    """
    with _secure(ALICE, BOB) as socket:
        port = socket.socket.bind_to_random_port("tcp://127.0.0.1")
        for life in range(kills + 1):
            # What an earlier life said may still be under way.
            word = b"life %d" % life
            says, hears = (b"on and on", b"") if survivor_speaks else (b"", word)
            with _life(port, hears) as process:
                _until(process.poll, socket, says)
                began: int = told(process)
                if survivor_speaks:
                    _until(process.poll, socket, says)
                    heard: int = told(process)
                else:
                    _until(lambda: False, socket, says, word)
                    heard = clock.monotonic()
            if life:
                yield (heard - began) / clock.SECOND


def _until(
    is_over: Callable[[], bool], socket: SecureSocket, says: bytes, word: bytes = b""
) -> None:
    """Speak and listen, until something is the case or a word was heard.

    Raises:
        SystemExit: neither, for long.
    """
    until = clock.monotonic() + PATIENCE
    while not is_over():
        heard = _turn(socket, says)
        if word and heard == word:
            return
        if clock.monotonic() > until:
            raise SystemExit("no message came after a restart")
