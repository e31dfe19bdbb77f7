"""A server that writes down what it executes, and then may be slow to say so.

    executor.py NODE LOG ENDPOINT SECONDS

Each payload is written to LOG, with the process id, before it is executed; executing takes
SECONDS, and a kill finds it there.
"""

from __future__ import annotations

import os
import sys
import threading

import zmq

from envelope import Node
from envelope.zeromq import SecureSocket

CONTEXT = "orders"


def main(folder: str, log: str, endpoint: str, seconds: str) -> None:
    node = Node.load(folder)
    out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    socket = zmq.Context.instance().socket(zmq.ROUTER)
    socket.linger = 0
    socket.bind(endpoint)
    server = SecureSocket(
        socket, sealer=node.sealer(CONTEXT, to=["client"]), opener=node.opener(CONTEXT)
    )
    os.write(1, b"ready\n")
    while True:
        message = server.recv()
        os.write(out, b"%d %s\n" % (os.getpid(), message.payload))
        if message.topic == b"slow":
            threading.Event().wait(float(seconds))
        server.reply(message, b"re: " + message.payload)


if __name__ == "__main__":
    main(*sys.argv[1:])
