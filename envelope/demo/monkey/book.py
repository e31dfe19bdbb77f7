"""The parent's book: what was said, what was heard, who was killed, and what follows.

Rules of this file: no processes, no clock; it takes in what the ends told. It believes
neither end: a message counts as delivered once for each time that it was told, and as sent
only if its author said so before.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from envelope.clock import SECOND
from envelope.demo.monkey import speech

LIMIT: Final = 15 * SECOND
"""Within which messages go both ways again after a restart: as long as silence lasts that
makes an end doubt (SPEC 18.11). Usually it is well below a second, which is shown; how long
it takes where the machine is busy is not what the exit status is about."""


@dataclass(slots=True)
class Restart:
    """What followed upon one strike of the monkey.

    Attributes:
        killed: who.
        lives: the lives that both ends have from then on.
        ready_at: when the last of those killed was there again, monotonic microseconds.
        heard_at: when the first message came after that, by the end that heard it.
        is_cut_short: whether the monkey struck again before it had recovered.
    """

    killed: tuple[str, ...]
    lives: dict[str, int]
    ready_at: int = 0
    heard_at: dict[str, int] = field(default_factory=dict)
    is_cut_short: bool = False

    @property
    def has_recovered(self) -> bool:
        """Whether messages went both ways."""
        return len(self.heard_at) == len(speech.ENDS)

    @property
    def first(self) -> float | None:
        """Seconds to the first message, whichever way."""
        return self._since(min(self.heard_at.values())) if self.heard_at else None

    @property
    def both(self) -> float | None:
        """Seconds until messages had gone both ways."""
        return self._since(max(self.heard_at.values())) if self.has_recovered else None

    def _since(self, at: int) -> float:
        return max(0, at - self.ready_at) / SECOND


class Book:
    """All that is known of a run.

    Attributes:
        said: the digest of each message by its number.
        heard: how often each message was delivered.
        restarts: in order.
        lives: how often each end has begun.
        said_by: how many messages each end said.
        heard_by: how many each was delivered.
    """

    def __init__(self) -> None:
        self.said: dict[str, str] = {}
        self.heard: Counter[str] = Counter()
        self.restarts: list[Restart] = []
        self.lives = dict.fromkeys(speech.ENDS, 0)
        self.said_by: Counter[str] = Counter()
        self.heard_by: Counter[str] = Counter()
        self._arrived_from: Counter[str] = Counter()
        self._arrivals: set[tuple[str, str, str]] = set()
        self._reused: list[str] = []

    # What the ends tell.

    def say(self, name: str, number: str, digest: str) -> None:
        """An end is about to send a message."""
        if number in self.said or speech.author_of(number) != name:
            self._reused.append(number)
        self.said[number] = digest
        self.said_by[name] += 1

    def hear(self, name: str, life: int, number: str, digest: str, at: int) -> None:
        """An end was delivered a message."""
        if not self.heard[number]:
            self._arrived_from[speech.author_of(number)] += 1
        self.heard[number] += 1
        self.heard_by[name] += 1
        self._arrivals.add((name, number, digest))
        last = self.restarts[-1] if self.restarts else None
        if last is None or not last.ready_at or name in last.heard_at:
            return
        # What an earlier life said or heard does not say that this one is well.
        author = speech.OTHER[name]
        if life == last.lives[name] and speech.life_of(number) == last.lives[author]:
            last.heard_at[name] = at

    # What the monkey does.

    def begin(self, name: str) -> int:
        """An end begins; return which of its lives it is."""
        self.lives[name] += 1
        return self.lives[name]

    def strike(self, names: tuple[str, ...]) -> Restart:
        """These were killed; their next lives follow."""
        if self.restarts and not self.restarts[-1].has_recovered:
            self.restarts[-1].is_cut_short = True
        lives = {name: self.lives[name] + (name in names) for name in speech.ENDS}
        self.restarts.append(Restart(names, lives))
        return self.restarts[-1]

    # What follows.

    @property
    def lost(self) -> Counter[str]:
        """How many messages of each end were not delivered (yet)."""
        return self.said_by - self._arrived_from

    @property
    def kills(self) -> int:
        """How many processes were killed."""
        return sum(len(one.killed) for one in self.restarts)

    def problems(self) -> list[str]:
        """Return what is not as it must be."""
        found = [f"{number} was said twice: the demonstration is wrong" for number in self._reused]
        found += [
            f"{number} was delivered {times} times"
            for number, times in self.heard.items()
            if times > 1
        ]
        for name, number, digest in sorted(self._arrivals):
            if number not in self.said:
                found.append(f"{number} was delivered to the {name}, and nobody sent it")
            elif speech.author_of(number) == name:
                found.append(f"{number} was delivered to the {name}, who had sent it")
            elif self.said[number] != digest:
                found.append(f"{number} was delivered, and is not what was sent")
        for count, one in enumerate(self.restarts, 1):
            both = one.both
            if one.is_cut_short:
                continue
            if both is None or both * SECOND > LIMIT:
                found.append(f"after restart {count} messages did not go both ways in time")
        found += [
            f"nothing was delivered to the {name}"
            for name in speech.ENDS
            if not self.heard_by[name]
        ]
        return found
