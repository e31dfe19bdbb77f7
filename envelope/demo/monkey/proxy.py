"""The proxy's sockets: ROUTER towards the client, DEALER towards the server.

Rules of this file: sockets only; what is done to messages is ``lies``'s. Both sockets stay
where they are while the ends come and go. What has nobody to go to is lost, as in any
network.
"""

from __future__ import annotations

import contextlib
from typing import Any, Final, TypedDict

import zmq

from envelope import PublicIdentity, clock
from envelope.demo.channel import EVERY, FINISH, GO, Channel
from envelope.demo.monkey import speech
from envelope.demo.monkey.lies import Frames, Liar

_LOCALHOST: Final = "tcp://127.0.0.1:*"


class Setting(TypedDict):
    """What the parent tells the proxy: what anybody could find out."""

    public: dict[str, str]
    """Public texts by name."""
    seed: int


def _carry(source: zmq.Socket[bytes], sink: zmq.Socket[bytes], liar: Liar | None) -> None:
    """Carry what there is; without a liar, honestly."""
    while source.poll(0):
        frames = source.recv_multipart()
        _send(sink, [frames] if liar is None else liar.take(frames))


def _send(sink: zmq.Socket[bytes], messages: list[Frames]) -> None:
    for frames in messages:
        with contextlib.suppress(zmq.Again):
            sink.send_multipart(frames, zmq.NOBLOCK)


def _report(liars: dict[str, Liar]) -> dict[str, Any]:
    return {"lies": {name: liar.counts for name, liar in liars.items()}}


def main(channel: Channel, setting: Setting) -> None:
    """Carry and lie, until the parent says to be honest, and to end."""
    public = {name: PublicIdentity.parse(text) for name, text in setting["public"].items()}
    liars = {name: Liar(public[name], seed=f"{setting['seed']} {name}") for name in speech.ENDS}
    with (
        zmq.Context() as context,
        context.socket(zmq.ROUTER) as front,
        context.socket(zmq.DEALER) as back,
    ):
        for socket in (front, back):
            socket.set(zmq.LINGER, 0)
            socket.bind(_LOCALHOST)
        channel.tell(
            {
                speech.CLIENT: front.get_string(zmq.LAST_ENDPOINT),
                speech.SERVER: back.get_string(zmq.LAST_ENDPOINT),
            }
        )
        ways = {speech.SERVER: (front, back), speech.CLIENT: (back, front)}
        poller = zmq.Poller()
        for source in (front, back, channel):
            poller.register(source, zmq.POLLIN)
        lies, next_report = True, 0
        while (command := channel.command()) != FINISH:
            if command == GO:
                lies = False
                for name, (_, sink) in ways.items():
                    _send(sink, liars[name].release())
            poller.poll(EVERY // 1000)
            for name, (source, sink) in ways.items():
                _carry(source, sink, liars[name] if lies else None)
            if clock.monotonic() >= next_report:
                next_report = clock.monotonic() + EVERY
                channel.tell(_report(liars))
    channel.tell(_report(liars) | {"over": True})
