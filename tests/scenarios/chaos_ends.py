"""The ends of the chaos test, each a process: publish, push, ask, take, serve.

Run as: chaos_ends.py ROLE NAME FOLDER PLACE [SLOW]. NAME is also the node's folder in
FOLDER; PLACE is where it binds or connects. Each writes lines to stdout, whole or not at
all, and ends by SIGTERM: a sender at once, a receiver when nothing has come for a while,
with its figures as a last line of JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path

import zmq

from envelope import Node, RejectedError, RequestError
from envelope.zeromq import Bundling, SecureSocket

CONTEXT = "chaos"
TOPICS = (b"a", b"b")
QUIET_MS = 500
HWM = 50
SMALL = Bundling(max_count=8, max_delay=0.002)

over: list[int] = []
pause = threading.Event()
"""Never set: waiting for it is a pause, which a signal does not end."""


def tell(*words: object) -> None:
    """Write a line; a write to a pipe of so few bytes happens whole or not at all."""
    os.write(1, " ".join(map(str, words)).encode() + b"\n")


def make(kind: int) -> zmq.Socket:
    socket = zmq.Context.instance().socket(kind)
    socket.linger = 0
    socket.sndhwm = socket.rcvhwm = HWM
    socket.reconnect_ivl = 20
    socket.rcvtimeo = socket.sndtimeo = 50
    return socket


def publish(node: Node, name: str, place: str) -> None:
    """Bind a PUB, and send on two topics as fast as the slow one cannot follow."""
    socket = make(zmq.PUB)
    socket.bind(place)
    with SecureSocket(socket, sealer=node.sealer(CONTEXT), bundling=SMALL) as secure:
        number = 0
        while not over:
            for topic in TOPICS:
                secure.send(f"{name} {os.getpid()} {number}".encode(), topic)
            number += 1
            if number % 20 == 0:
                pause.wait(0.002)


def push(node: Node, name: str, place: str) -> None:
    """Connect a PUSH, and send whenever there is room."""
    socket = make(zmq.PUSH)
    socket.connect(place)
    with SecureSocket(socket, sealer=node.sealer(CONTEXT, to=["taker"])) as secure:
        number = 0
        while not over:
            try:
                secure.send(f"{name} {os.getpid()} {number}".encode())
            except zmq.Again:
                continue
            number += 1
            if number % 20 == 0:
                pause.wait(0.002)


def take(node: Node, kind: int, place: str, *, binds: bool, slow: bool) -> None:
    """Receive for ever; tell each message; tell the figures at the end."""
    socket = make(kind)
    if kind == zmq.SUB:
        socket.subscribe(TOPICS[0])
    (socket.bind if binds else socket.connect)(place)
    secure = SecureSocket(socket, opener=node.opener(CONTEXT))
    tops: dict[str, int] = {}
    accepted = 0
    while True:
        try:
            messages = secure.recv_bundle()
        except zmq.Again:
            if over:
                break
            continue
        first = messages[0]
        accepted += 1
        stream = first.stream.hex()
        tops[stream] = max(tops.get(stream, -1), first.sequence)
        for message in messages:
            tell(
                "got",
                message.sender.name,
                stream,
                message.sequence,
                message.index,
                message.payload.decode(),
            )
        if slow and not over:
            pause.wait(0.003)
    stats = secure.stats
    senders = stats.senders.values()
    figures = {
        "accepted": accepted,
        "sent": sum(top + 1 for top in tops.values()),
        "gone": sum(one.missing + one.lost + one.unseen for one in senders),
        "refused": dict(stats.refused),
    }
    tell("figures", json.dumps(figures))
    node.close()


def serve(node: Node, place: str) -> None:
    """Bind a ROUTER, execute what is asked, tell it before the reply."""
    socket = make(zmq.ROUTER)
    socket.bind(place)
    secure = SecureSocket(
        socket, sealer=node.sealer(CONTEXT, to=["asker"]), opener=node.opener(CONTEXT)
    )
    while not over:
        try:
            message = secure.recv()
        except zmq.Again:
            continue
        tell("executed", message.payload.decode())
        secure.reply(message, b"did " + message.payload)
    node.close()


def ask(node: Node, name: str, place: str) -> None:
    """Connect a DEALER, and ask one thing after the other; tell what came of each."""
    socket = make(zmq.DEALER)
    socket.connect(place)
    secure = SecureSocket(
        socket, sealer=node.sealer(CONTEXT, to=["server"]), opener=node.opener(CONTEXT)
    )
    number = 0
    while not over:
        payload = f"{name} {os.getpid()} {number}".encode()
        number += 1
        try:
            reply = secure.request(payload, timeout=600, retry=50)
        except (RequestError, zmq.Again) as error:
            tell("failed", payload.decode(), type(error).__name__)
            continue
        assert reply.payload == b"did " + payload, reply.payload
        tell("replied", payload.decode())
    node.close()


def main() -> None:
    """Play one role until SIGTERM."""
    role, name, folder, place = sys.argv[1:5]
    signal.signal(signal.SIGTERM, lambda number, _: over.append(number))
    node = Node.load(Path(folder) / name)
    tell("ready")
    if role == "publish":
        publish(node, name, place)
    elif role == "push":
        push(node, name, place)
    elif role == "subscribe":
        take(node, zmq.SUB, place, binds=False, slow="slow" in sys.argv)
    elif role == "pull":
        take(node, zmq.PULL, place, binds=True, slow=False)
    elif role == "serve":
        serve(node, place)
    else:
        ask(node, name, place)


if __name__ == "__main__":
    try:
        main()
    except RejectedError as error:
        sys.exit(f"nothing but recv(strict=True) raises this: {error!r}")
