"""A server in a thread, and the line to it, which is the attacker's.

Rules of this file: the line has plain sockets and no key. What it does is what a test
hands it; by itself it carries each message once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

import zmq

from envelope.zeromq import SecureSocket

Frames = list[bytes]


class Server(threading.Thread):
    """Bob, who answers in a thread of his own until the test is over.

    Attributes:
        executed: the payloads that he executed.
        handle: makes the reply; None sends none.
    """

    def __init__(self, socket: SecureSocket) -> None:
        super().__init__()
        self.socket = socket
        socket.socket.rcvtimeo = 10
        self.executed: list[bytes] = []
        self.handle: Callable[[bytes], bytes | None] = lambda payload: b"re: " + payload
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.is_set():
            try:
                message = self.socket.recv()
            except zmq.Again:
                continue
            self.executed.append(message.payload)
            answer = self.handle(message.payload)
            if answer is not None:
                self.socket.reply(message, answer)

    def end(self) -> None:
        self._over.set()
        self.join()


class Line(threading.Thread):
    """Carries requests there and what is said to them back.

    Attributes:
        asked: all that came from clients, with the route.
        said: all that came from the server, with the route.
        there: returns what goes on in place of a message of a client.
        back: returns what goes on in place of a message of the server.
    """

    def __init__(self, clients: zmq.Socket, server: zmq.Socket) -> None:
        super().__init__()
        self.clients = clients
        self.server = server
        self.asked: list[Frames] = []
        self.said: list[Frames] = []
        self.there: Callable[[Frames], Iterable[Frames]] = lambda frames: [frames]
        self.back: Callable[[Frames], Iterable[Frames]] = lambda frames: [frames]
        self._over = threading.Event()

    def run(self) -> None:
        poller = zmq.Poller()
        poller.register(self.clients, zmq.POLLIN)
        poller.register(self.server, zmq.POLLIN)
        while not self._over.is_set():
            for socket, _ in poller.poll(20):
                frames = socket.recv_multipart()
                if socket is self.clients:
                    self.asked.append(frames)
                    for one in self.there(frames):
                        self.server.send_multipart(one)
                else:
                    self.said.append(frames)
                    for one in self.back(frames):
                        self.clients.send_multipart(one)

    def end(self) -> None:
        self._over.set()
        self.join()


def losing(number: int) -> Callable[[Frames], Iterable[Frames]]:
    """Return what loses one message, counted from 0."""
    numbers = iter(range(1_000_000))
    return lambda frames: [] if next(numbers) == number else [frames]
