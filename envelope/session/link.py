"""What one end knows of one link: slots, an initiation, what is staged (SPEC 18.9).

A link's state is what its slots hold. What happens to them, by the names of SPEC 18.9:

========  =============================  ====================================================
step      on                             then
========  =============================  ====================================================
ask       something is staged, or doubt  an initiation is out
grant     an initiation was accepted     next is the new session; no initiation is out
open      a response was accepted        previous is next, or else current; next is empty;
                                         current is the new session; no initiation is out
confirm   data of next was accepted      previous is current, current is next, next is empty;
                                         no initiation is out
hear      other data was accepted        the slots stay
doubt     a hint, or silence             the slots stay; perhaps ask
retire    a session is too old           its slot is empty
give up   nobody answers                 no initiation is out
revoke    the peer is no longer valid    all slots are empty; no initiation is out
========  =============================  ====================================================

Rules of this file:

- Each step that changes something is one method, by its name. They change slots and what
  times them, and nothing else; who may cause them was checked before, and what is sent is
  the manager's.
- Times are handed in, monotonic microseconds; 0 stands for never.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from typing import Final, NamedTuple

from envelope.session.channel import Channel, Sealed
from envelope.session.handshake import Initiation
from envelope.session.timing import Times
from envelope.stats import SenderTally
from envelope.trust import Peer

Address = Hashable
"""What the caller calls a link: a route, or whatever tells its links apart."""
OnSealed = Callable[[Sealed], None]
"""Called once a message is sealed."""


class Staged(NamedTuple):
    """A message that waits for a session."""

    payload: bytes
    """With the id that a reply names in front."""
    bound: tuple[bytes, ...]
    flags: int
    on_sealed: OnSealed | None


_FRESH: Final = 4
"""An initiation older than so many first retries was likely lost: it yields at once."""


class Link:
    """One link with one peer. Not thread-safe.

    Attributes:
        address: what the caller calls it.
        peer: as the trust store has it now; None once it is no longer valid.
        current: the session by which this end sends, or None.
        next: the one that it granted and has not heard on.
        previous: the one by which it only receives.
        is_second: whether this end waits longer than the other before it asks after a grant.
        is_lost: whether the peer said that it does not have the current session, or this end,
            which sends in turn, heard nothing on it for long: another is asked for first.
        initiation: what waits for its response.
        asked_at: when the last initiation was made, answered or not.
        asking_since: when the first of its repetitions was made; while something is staged it
            is kept until there is a session.
        wait: how long it waits for its response, without what chance adds.
        repeat_at: when another takes its place.
        staged: what waits for a session. Of an idle link an empty tuple, which costs nothing.
        heard_at: when something authentic came last.
        owed_since: since when what was heard is unconfirmed.
        unanswered_since: since when what was sent is unanswered.
        wake_at: when the manager looks at it next.
        tally: the counters of its peer, once there was a session.
    """

    tally: SenderTally

    __slots__ = (
        "_granted",
        "address",
        "asked_at",
        "asking_since",
        "current",
        "heard_at",
        "initiation",
        "is_lost",
        "is_second",
        "key_id",
        "next",
        "owed_since",
        "peer",
        "previous",
        "repeat_at",
        "staged",
        "tally",
        "times",
        "unanswered_since",
        "wait",
        "wake_at",
    )

    def __init__(
        self, address: Address, peer: Peer, times: Times, now: int, *, is_second: bool
    ) -> None:
        self.address = address
        self.is_second = is_second
        self.peer = peer
        self.key_id = peer.key_id
        self.times = times
        self.current: Channel | None = None
        self.next: Channel | None = None
        self.previous: Channel | None = None
        self._granted = b"", 0
        self.is_lost = False
        self.initiation: Initiation | None = None
        self.asked_at = self.asking_since = self.wait = self.repeat_at = 0
        self.staged: deque[Staged] | tuple[()] = ()
        self.heard_at = now
        self.owed_since = self.unanswered_since = self.wake_at = 0

    # The steps of SPEC 18.9. Each returns the sessions that have left their slots.

    def ask(self, initiation: Initiation, chance: int) -> None:
        """An initiation goes out, in place of the one before; chance is a random byte."""
        times = self.times
        self.asked_at = initiation.made_at
        self.asking_since = self.asking_since or initiation.made_at
        self.wait = min(2 * self.wait, times.retry_most) or times.retry
        self.repeat_at = initiation.made_at + self.wait + self.wait * chance // 1024
        self.initiation = initiation

    def grant(self, channel: Channel, stream: bytes, sequence: int) -> list[Channel]:
        """A session was granted; it waits until the peer is heard on it."""
        gone = [self.next]
        self._granted = stream, sequence
        self.next = channel
        # How long it waited is kept: two ends that both yielded must not turn in step.
        self.initiation = None
        if not self.staged:
            self.asking_since = 0
        return _some(gone)

    def open(self, channel: Channel) -> list[Channel]:
        """A response came: the session is the one to send by."""
        gone = [self.previous]
        if self.next is None:
            self.previous = self.current
        else:
            gone.append(self.current)
            self.previous, self.next = self.next, None
        self.current = channel
        self.is_lost = False
        self._stop_asking()
        self.unanswered_since = 0
        return _some(gone)

    def confirm(self) -> list[Channel]:
        """The peer was heard on the session that was granted to it."""
        gone = [self.previous]
        self.previous, self.current, self.next = self.current, self.next, None
        self.is_lost = False
        self._stop_asking()
        return _some(gone)

    def retire(self, now: int) -> list[Channel]:
        """Sessions that are too old end."""
        gone = []
        for slot in ("previous", "current", "next"):
            channel = getattr(self, slot)
            if channel is not None and now >= channel.ends_at:
                gone.append(channel)
                setattr(self, slot, None)
        return gone

    def give_up(self) -> None:
        """Nobody answers: stop asking. What is staged is the caller's to drop."""
        self._stop_asking()

    def revoke(self) -> list[Channel]:
        """The peer may not speak any more: nothing is left."""
        self._stop_asking()
        gone = _some(self.slots())
        self.current = self.next = self.previous = None
        return gone

    def _stop_asking(self) -> None:
        self.initiation = None
        self.asking_since = self.wait = 0

    # What is asked of it.

    def slots(self) -> list[Channel | None]:
        """Return the slots, the one to send by first."""
        return [self.current, self.next, self.previous]

    def channels(self) -> Iterator[Channel]:
        """Iterate over the sessions that it has."""
        return (channel for channel in self.slots() if channel is not None)

    def is_granted(self, stream: bytes, sequence: int) -> bool:
        """Tell whether this initiation, or a later one of its stream, was granted."""
        return stream == self._granted[0] and sequence <= self._granted[1]

    @property
    def is_empty(self) -> bool:
        """Whether nothing would be lost if it were forgotten."""
        return not (self.initiation or self.staged or any(self.slots()))

    def may_send(self, now: int) -> bool:
        """Tell whether there is a session to send by."""
        return self.current is not None and now < self.current.ends_at and not self.is_lost

    def wins(self, ephemeral: bytes, now: int) -> bool:
        """Tell whether an initiation of this end takes precedence of one (SPEC 18.10)."""
        ours = self.initiation
        return (
            ours is not None
            and now - ours.made_at <= _FRESH * self.times.retry
            and ours.ephemeral < ephemeral
        )

    def may_ask(self, now: int) -> bool:
        """Tell whether an initiation may go out: none is, and none was granted just now."""
        return self.initiation is None and self._is_unused(now)

    def may_doubt(self, now: int) -> bool:
        """Tell whether doubt leads to an initiation (SPEC 18.9)."""
        is_young = self.asked_at and now - self.asked_at < self.times.retry
        return not is_young and self._is_unused(now)

    def _is_unused(self, now: int) -> bool:
        """Tell whether no granted session is waited for, or too long already."""
        return self.next is None or now >= self._ask_again_at(self.next)

    def _ask_again_at(self, granted: Channel) -> int:
        """Return when this end asks itself, since a session that it granted stays unused."""
        wait = max(self.wait, self.times.retry)
        # Two that yielded to each other at once would do so again, and again.
        return granted.born + (2 * wait if self.is_second else wait)

    def is_newest(self, channel: Channel, counter: int) -> bool:
        """Tell whether a message that was accepted just now is the newest that the peer sent.

        Where that cannot be told, because nothing was heard on the current session, it is.
        """
        current = self.current
        is_latest = channel is current or current is None or not current.accepted
        return is_latest and counter == channel.window.top

    def deadline(self, now: int) -> int | None:
        """Return when to look at it at the latest; None if there is nothing to look at."""
        if self.is_empty:
            return None
        times = self.times
        # What a message causes is due after a keepalive at the earliest.
        due = [now + times.keepalive]
        due += [channel.ends_at for channel in self.channels()]
        if self.initiation is not None:
            due += [self.repeat_at, self.asking_since + times.give_up]
        elif self.staged and self.next is not None:
            due.append(self._ask_again_at(self.next))
        if self.owed_since:
            due.append(self.owed_since + times.keepalive)
        if self.unanswered_since:
            due.append(self.unanswered_since + times.silence)
        return min(due)

    def __repr__(self) -> str:
        """Return what is in its slots."""
        names = ("current", "next", "previous", "initiation")
        held = [name for name in names if getattr(self, name) is not None]
        return f"<Link to {self.peer.name!r}: {', '.join(held) or 'nothing'}>"


def _some(channels: list[Channel | None]) -> list[Channel]:
    return [channel for channel in channels if channel is not None]
