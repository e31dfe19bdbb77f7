"""A process that seals each line of its standard input and sends it, until there is no more.

    sender.py PUB|PUSH bind|connect ENDPOINT

The identity is that of ENVELOPE_IDENTITY, the context "orders", the topic "news".
"""

from __future__ import annotations

import sys

import zmq

from envelope import Identity, Sealer
from envelope.zeromq import SecureSocket


def main(kind: str, how: str, endpoint: str) -> None:
    sealer = Sealer(Identity.from_env("ENVELOPE_IDENTITY"), context="orders")
    with (
        zmq.Context() as context,
        SecureSocket(context.socket(zmq.SocketType[kind]), sealer=sealer) as out,
    ):
        out.socket.linger = 5_000
        getattr(out.socket, how)(endpoint)
        for line in sys.stdin.buffer:
            out.send(line.rstrip(b"\n"), "news")


if __name__ == "__main__":
    main(*sys.argv[1:])
