"""Two ends of a pairing and the line between them, which a test may take over.

Rules of this file: both ends are the real ones; time stands still unless a test moves it.
Owners say yes unless told otherwise, and pin as soon as they may.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from support import identity, seeded

from envelope.errors import PairingError
from envelope.pairing.exchange import Connector, Listener, State

CODE = "417-adult-consensus"
OTHER_CODE = "418-adult-consensus"
OVER = {State.DONE, State.ENDED}
OF_CONNECTOR = {1, 3, 5, 6, 8}
"""Types of messages that a connector sends; 2, 4 and 7 are a listener's."""

OnWay = Callable[[str, bytes], Iterable[bytes]]
"""From who sends what, to what arrives at the other end."""


def honest(_: str, message: bytes) -> list[bytes]:
    """Deliver everything as it is."""
    return [message]


def twin(end: Any) -> Any:
    """Return another end in the same state."""
    other = copy.copy(end)
    other._transcript = copy.copy(end._transcript)
    other._transcript._messages = list(end._transcript._messages)
    other._pake = pake_twin(end._pake)
    return other


def pake_twin(pake: Any) -> Any:
    """Return another side of a SPAKE2 in the same state."""
    # Not deepcopy: the package's curve would be copied, too, and that takes long.
    other = copy.copy(pake)
    other._spake = copy.copy(pake._spake)
    return other


class Two:
    """A connector (Alice) and a listener (Bob)."""

    def __init__(self, code: str = CODE, listeners_code: str = CODE, *, seed: int = 0) -> None:
        random = seeded(seed)
        self.now = 0
        self.connector = Connector(identity("alice"), code, now=0, random=random)
        self.listener = Listener(identity("bob"), listeners_code, now=0, random=random)
        self.says_yes = {"connector": True, "listener": True}
        self.pinned: dict[str, bytes] = {}
        self.errors: dict[str, PairingError] = {}
        self.transit: deque[tuple[str, bytes]] = deque([("connector", self.connector.begin(0))])

    def fork(self) -> Two:
        """Return another world in the same state."""
        other = copy.copy(self)
        other.transit, other.pinned = deque(self.transit), dict(self.pinned)
        other.errors, other.says_yes = dict(self.errors), dict(self.says_yes)
        other.connector, other.listener = twin(self.connector), twin(self.listener)
        return other

    def end(self, name: str) -> Connector | Listener:
        return self.connector if name == "connector" else self.listener

    def step(self, on_way: OnWay = honest) -> None:
        """Let the next message arrive, and its receiver and their owner do what they do."""
        sender, message = self.transit.popleft()
        receiver = "listener" if sender == "connector" else "connector"
        for arriving in on_way(sender, message):
            self.deliver(receiver, arriving)

    def deliver(self, name: str, message: bytes) -> None:
        end = self.end(name)
        if name in self.errors or end.state in OVER:
            return
        try:
            self._say(name, end.receive(message, self.now))
            if end.state in {State.PROVEN, State.WILLING}:
                yes = self.says_yes[name]
                self._say(name, end.decide(accepts=yes, now=self.now))
            if end.state is State.AGREED:
                self.pinned[name] = end.peer.public
                self._say(name, end.written(self.now))
        except PairingError as error:
            self._fails(name, error)

    def _fails(self, name: str, error: PairingError) -> None:
        self.errors[name] = error
        self._say(name, self.end(name).give_up())

    def _say(self, name: str, message: bytes | None) -> None:
        if message is not None:
            self.transit.append((name, message))

    def until(self, kind: int) -> Two:
        """Run honestly until a message of this type is on its way; return self."""
        while self.transit[0][1][5] != kind:
            self.step()
        return self

    def proven(self) -> Two:
        """Run until both ends have proven their keys and ask their owners; return self."""
        proof = self.connector.receive(self.until(4).transit.popleft()[1], self.now)
        self.listener.receive(proof, self.now)
        return self

    def run(self, on_way: OnWay = honest) -> Two:
        """Run until nothing is on its way, and time has ended who still waits; return self."""
        while self.transit:
            self.step(on_way)
        for name in ("connector", "listener"):
            end = self.end(name)
            if end.state not in OVER:
                try:
                    end.check_time(end.deadline)
                except PairingError as error:
                    self._fails(name, error)
                assert end.state is State.ENDED
        while self.transit:
            self.step(on_way)
        return self
