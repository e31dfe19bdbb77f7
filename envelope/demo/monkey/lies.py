"""The hostile proxy between two ends of a session, without its sockets.

Rules of this file: it sees what any proxy sees, bytes that come by; it has a key that
nobody trusts, and the public identities, which are no secret. Handshakes are lied about
like everything else.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from enum import StrEnum
from typing import Final

from envelope import Identity, Peer, PublicIdentity, TrustStore
from envelope.demo.monkey import speech
from envelope.session import SessionManager

Frames = list[bytes]


class Act(StrEnum):
    """What the proxy did to a message."""

    PASS = "let through"  # noqa: S105 (no password)
    DROP = "dropped"
    REPEAT = "sent twice"
    HOLD = "held back, sent later"
    FLIP = "one bit flipped"
    OLD = "an old one sent again"
    RANDOM = "random bytes in a session"
    STRANGER = "a stranger's handshake"


_FATES: Final = {Act.PASS: 88, Act.DROP: 4, Act.REPEAT: 4, Act.HOLD: 3, Act.FLIP: 1}
"""What becomes of a message: the odds."""
_INJECTIONS: Final = {Act.OLD: 0.03, Act.RANDOM: 0.01, Act.STRANGER: 0.01}
"""How likely each one is to follow upon a message."""
_KEPT: Final = 2048
"""Messages kept to be sent again: of sessions and lives that are long over, too."""
_OVERTAKEN: Final = 12
"""A message that is held back is overtaken by so many others at most."""
_HEAD: Final = 20
"""Bytes that say for which session a message is, and its counter (SPEC 18.3)."""


class Liar:
    """What happens to what one end says on its way to the other.

    Attributes:
        counts: what was done how often.
    """

    def __init__(self, receiver: PublicIdentity, *, seed: str) -> None:
        """Take who is lied to."""
        self.counts: Counter[str] = Counter()
        self._dice = random.Random(seed)  # noqa: S311 (no secret, and it must repeat)
        self._receiver = receiver
        self._stranger = Identity.generate()
        self._seen: deque[Frames] = deque(maxlen=_KEPT)
        self._held: list[tuple[int, Frames]] = []

    def take(self, frames: Frames) -> list[Frames]:
        """Return what goes on in place of a message, in order."""
        dice = self._dice
        act = dice.choices(list(_FATES), list(_FATES.values()))[0]
        self.counts[act] += 1
        out = self._let_go()
        if act is Act.HOLD:
            self._held.append((dice.randint(1, _OVERTAKEN), frames))
        elif act is Act.FLIP:
            out.append([*frames[:-1], self._flip(frames[-1])])
        elif act is not Act.DROP:
            out += [frames] * (2 if act is Act.REPEAT else 1)
        self._seen.append(frames)
        for injection, chance in _INJECTIONS.items():
            if dice.random() < chance:
                self.counts[injection] += 1
                out.append(self._make(injection, frames))
        return out

    def release(self) -> list[Frames]:
        """Return all that is held back."""
        held, self._held = self._held, []
        return [frames for _, frames in held]

    def _let_go(self) -> list[Frames]:
        """Return what was overtaken by enough."""
        held = [(left - 1, frames) for left, frames in self._held]
        self._held = [one for one in held if one[0]]
        return [frames for left, frames in held if not left]

    def _make(self, injection: Act, frames: Frames) -> Frames:
        """Return a message of the proxy's own, on the way of another."""
        if injection is Act.OLD:
            return self._dice.choice(self._seen)
        *route, data = frames
        if injection is Act.RANDOM:
            return [*route, data[:_HEAD] + self._dice.randbytes(max(16, len(data) - _HEAD))]
        trust = TrustStore([Peer("it", self._receiver, contexts=[speech.CONTEXT])])
        manager = SessionManager(self._stranger, trust, context=speech.CONTEXT, to=self._receiver)
        manager.send(b"stranger/1/0 let me in")
        return [*route, manager.outbox.popleft().data]

    def _flip(self, data: bytes) -> bytes:
        changed = bytearray(data)
        at = self._dice.randrange(8 * len(data))
        changed[at >> 3] ^= 1 << (at & 7)
        return bytes(changed)
