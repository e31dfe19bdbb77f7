"""Client and server: they speak by a session, and tell the parent each word.

Rules of this file: it is what any program would write around a ``SecureSocket``. A message
is told to the parent before it is sent, and told as soon as it is delivered: when the
process is killed, the book knows of all that it said, and of all that it heard but perhaps
the very last.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final, TypedDict

import zmq

from envelope import Identity, Peer, PublicIdentity, RejectedError, TrustStore, clock
from envelope.demo.channel import EVERY, FINISH, GO, Channel
from envelope.demo.monkey import speech
from envelope.session import SessionManager
from envelope.zeromq import SecureSocket

_LOOK_MS: Final = 5
"""How long to wait for a message before there is something else to do."""


class Setting(TypedDict):
    """What the parent tells an end."""

    name: str
    life: int
    """How often it has begun, this time included."""
    secret: str
    other: str
    """The other end's public text."""
    endpoint: str


class End:
    """One end in one life."""

    def __init__(self, plain: zmq.Socket[bytes], channel: Channel, setting: Setting) -> None:
        """Take a socket that is connected."""
        self._channel = channel
        self._name, self._life = setting["name"], setting["life"]
        other = PublicIdentity.parse(setting["other"])
        peer = Peer(speech.OTHER[self._name], other, contexts=[speech.CONTEXT])
        self._manager = SessionManager(
            Identity.parse(setting["secret"]),
            TrustStore([peer]),
            context=speech.CONTEXT,
            to=peer if self._name == speech.CLIENT else None,
        )
        self._socket = SecureSocket(plain, session=self._manager, on_rejected=self._refuse)
        self._is_server = self._name == speech.SERVER
        self._to: tuple[tuple[bytes, ...], Peer] | None = None
        self._count = 0
        self._next_word = 0
        self._refused: Counter[str] = Counter()
        self._sessions: dict[bytes, bool] = {}

    def _refuse(self, error: RejectedError) -> None:
        self._refused[error.code] += 1

    def speak(self) -> None:
        """Send a message, if it is time; a server knows no way before it has heard something."""
        now = clock.monotonic()
        if now < self._next_word or (self._is_server and self._to is None):
            return
        self._next_word = now + speech.EVERY
        self._count += 1
        number = speech.number(self._name, self._life, self._count)
        payload = speech.payload_of(number)
        self._channel.tell({"said": [number, speech.digest(payload)]})
        try:
            if self._to is None:
                self._socket.send(payload, flags=zmq.NOBLOCK)
            else:
                route, peer = self._to
                self._socket.send(payload, flags=zmq.NOBLOCK, route=route, to=peer)
        except zmq.Again:
            return  # Nobody is there to take it: it is lost.

    def listen(self) -> bool:
        """Take a message if one comes soon; tell whether one did."""
        if not self._socket.poll(_LOOK_MS):
            return False
        try:
            message = self._socket.recv(zmq.NOBLOCK)
        except zmq.Again:
            return False
        if self._is_server:
            self._to = message.route, message.sender
        number, digest = speech.number_of(message.payload), speech.digest(message.payload)
        self._channel.tell({"heard": [number, digest, clock.monotonic()]})
        return True

    def report(self) -> dict[str, Any]:
        """Return the figures as they are now."""
        there = [one for link in self._manager.links for one in link.channels()]
        self._sessions |= {one.our_id: one.is_initiator for one in there}
        asked = sum(self._sessions.values())
        return {
            "sessions": len(there),
            "asked": asked,
            "granted": len(self._sessions) - asked,
            "refused": dict(self._refused),
        }


def main(channel: Channel, setting: Setting) -> None:
    """Speak and listen, until the parent says to only listen, and to end."""
    is_server = setting["name"] == speech.SERVER
    with (
        zmq.Context() as context,
        context.socket(zmq.ROUTER if is_server else zmq.DEALER) as plain,
    ):
        # What its restart left unsent is not waited for.
        plain.set(zmq.LINGER, 0)
        if not is_server:
            plain.set(zmq.ROUTING_ID, speech.CLIENT.encode())
        plain.connect(setting["endpoint"])
        end = End(plain, channel, setting)
        channel.tell({"ready": clock.monotonic()})
        speaks, next_report = True, 0
        while (command := channel.command()) != FINISH:
            speaks = speaks and command != GO
            if speaks:
                end.speak()
            end.listen()
            if clock.monotonic() >= next_report:
                next_report = clock.monotonic() + EVERY
                channel.tell(end.report())
        channel.tell(end.report() | {"over": True})
