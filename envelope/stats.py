"""What an opener counts, and what it logs of refusals.

Rules of this file:

- Counting is a few additions under one lock, and none calls anything: a signal handler
  that counts comes before or after it. Reading builds a value that never
  changes, at any time, while others open.
- Until a signature was checked the sender is a claim, and has no counter.
- A flood of refusals makes one log line for each code in a while, with a count
  of those it stands for. So that a stranger's flood does not hide the one peer that is
  set up wrongly, a sender that is claimed and known has lines of its own, a few for all:
  the stranger may claim each of them. Among the unknown nobody can tell the one from
  the others: each line shows the one that came when it was due.
- Text is made for a line that is written, and for no other. It is printable, and cut
  where it is long, whatever a server or a system call says in it.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from envelope import clock as clocks
from envelope import reasons
from envelope.clock import Clock
from envelope.errors import CODES, RejectedError, UnknownSenderError
from envelope.forks import process
from envelope.replay import Gaps
from envelope.trust import TrustStore

_log = logging.getLogger("envelope.opener")

LOG_EVERY: Final = 5 * clocks.SECOND
"""At most one line for each code in this time, or for each code of a known sender. Short
enough to see a mistake while one still looks at it."""
_OWN_LINES: Final = 16
"""Lines of known senders in the same time. With those of sixteen codes, some six a second."""
_MAX_LINES: Final = 1024
"""Known senders of one code that have lines of their own; beyond, all begin anew."""


@dataclass(frozen=True, slots=True)
class SenderStats:
    """What came of one sender, by name. Figures of gaps are SPEC 8.9's.

    ``accepted``, ``messages`` and ``refused`` count what this opener saw; the
    others describe the replay memory, which openers may share.

    Attributes:
        accepted: envelopes accepted.
        messages: payloads in them (a bundle has many).
        refused: by code, of envelopes that the sender did sign. Who recorded one of
            them can offer it again, so this says nothing about the sender's intent.
        skipped: sequences that a newer one passed over.
        late: of those, accepted later.
        missing: not here yet, still welcome.
        lost: not here, and too late now.
        unseen: before the first one accepted of a stream; a late joiner cannot
            tell these from loss.
        streams: streams in memory.
    """

    accepted: int = 0
    messages: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
    skipped: int = 0
    late: int = 0
    missing: int = 0
    lost: int = 0
    unseen: int = 0
    streams: int = 0


@dataclass(frozen=True, slots=True)
class Stats:
    """One reading of an opener's counters.

    Attributes:
        accepted: envelopes accepted.
        messages: payloads in them.
        refused: by code, every refusal; a code that did not occur is absent.
        senders: by the peer's name, those that had an envelope verified.
        clock_stepped_back: how often the wall clock was seen to step back by more
            than ``max_future``; since then the highest reading is in force.
    """

    accepted: int
    messages: int
    refused: Mapping[str, int]
    senders: Mapping[str, SenderStats]
    clock_stepped_back: int


class Counting(Protocol):
    """What knows the gaps of a sender: its replay memory, or its sessions."""

    def gaps(self) -> Gaps:
        """Return the figures of SPEC 8.9."""


class SenderTally:
    """The running counters of one key id; the opener adds to them."""

    __slots__ = ("accepted", "guard", "messages", "name", "refused")

    def __init__(self, name: str, guard: Counting) -> None:
        self.name = name
        self.guard = guard
        self.accepted = 0
        self.messages = 0
        self.refused: defaultdict[str, int] = defaultdict(int)


class _Line:
    """Some refusals, and what the log has said of them."""

    __slots__ = ("count", "next_at", "said")

    def __init__(self) -> None:
        self.count = 0
        self.said = 0
        """How many of them the log knows of."""
        self.next_at = 0


class _Code:
    """The refusals with one code: those of known senders, as claimed, and all others."""

    __slots__ = ("common", "is_of_strangers", "own")

    def __init__(self, code: str) -> None:
        self.common = _Line()
        self.own: dict[bytes, _Line] = {}
        self.is_of_strangers = code == UnknownSenderError.code
        """Whether nobody is known by definition, so that nobody has to be looked up."""

    @property
    def count(self) -> int:
        return self.common.count + sum(line.count for line in self.own.values())

    def forget(self) -> None:
        """Drop the lines of known senders; what they counted stays counted."""
        self.common.said += self.count - self.common.count
        self.common.count = self.count
        self.own.clear()


class Tally:
    """The running counters of an opener. Thread-safe."""

    __slots__ = (
        "__weakref__",
        "_clock",
        "_codes",
        "_context",
        "_lock",
        "_own",
        "_own_left",
        "_own_until",
        "_senders",
        "_trust",
    )

    def __init__(
        self,
        clock: Clock = clocks.monotonic,
        *,
        context: str = "",
        own: Collection[bytes] | None = None,
        trust: TrustStore | None = None,
    ) -> None:
        """Begin at zero.

        Args:
            clock: monotonic microseconds; spaces the log lines.
            context: of the opener, for its log lines, as what follows.
            own: the key ids that can be addressed.
            trust: where claimed senders are looked up.
        """
        self._clock = clock
        self._context = context
        self._own = own
        self._trust = trust
        self._own_left = self._own_until = 0
        self._lock = threading.RLock()
        process.adopt(self)
        self._codes = {code: _Code(code) for code in CODES}
        self._senders: dict[bytes, SenderTally] = {}

    def sender(self, key_id: bytes, name: str, guard: Counting) -> SenderTally:
        """Return the counters of a sender whose signature was verified."""
        with self._lock:
            found = self._senders.get(key_id)
            if found is None:
                # A signal handler may have made one meanwhile, and counted in it.
                found = self._senders.setdefault(key_id, SenderTally(name, guard))
            found.name = name  # The trust store may have renamed it.
            return found

    def accept(self, sender: SenderTally, messages: int) -> None:
        """Count one accepted envelope."""
        with self._lock:
            sender.accepted += 1
            sender.messages += messages

    def refuse(
        self, error: RejectedError, name_of: Callable[[bytes], str | None], data: bytes = b""
    ) -> None:
        """Say whose envelope it claims to be, count it and, now and then, log it.

        Args:
            error: ``claimed_sender`` is filled in from the envelope.
            name_of: returns the name that a key id stands for, if any.
            data: the envelope, if there is one.
        """
        if data and (error.has_header or error.verified):
            error.claimed_sender = data[8:24]
        # A store of somebody else's may have a code of its own.
        code = self._codes.get(error.code) or self._codes.setdefault(error.code, _Code(error.code))
        claimed = error.claimed_sender
        name = None
        now = self._clock()
        with self._lock:
            if error.verified and claimed in self._senders:
                # In one step: a call in it would let a signal handler count in between.
                self._senders[claimed].refused[error.code] += 1
            common = code.common
            line = code.own.get(claimed, common) if claimed is not None else common
            if claimed is not None and (line is common or now >= line.next_at):
                if not code.is_of_strangers:
                    name = name_of(claimed)
                line = common if name is None else self._own_line(code, claimed, now)
            line.count += 1
            if now < line.next_at:
                return
            line.next_at = now + LOG_EVERY
            unsaid, line.said = line.count - line.said - 1, line.count
        more = ""
        if unsaid:
            whose = "" if line is common else " and sender"
            more = f"{unsaid} more of this code{whose} since the last line"
        _log.warning("%s", self._say(error, name, more))

    def _own_line(self, code: _Code, claimed: bytes, now: int) -> _Line:
        """Return the line of a known sender, or that of all if too many have spoken."""
        if now >= self._own_until:
            self._own_until, self._own_left = now + LOG_EVERY, _OWN_LINES
        if self._own_left == 0:
            return code.common
        self._own_left -= 1
        if len(code.own) >= _MAX_LINES:
            code.forget()
        return code.own.setdefault(claimed, _Line())

    def _say(self, error: RejectedError, name: str | None, more: str) -> str:
        """Return what, who claims to be the sender, where, and what to do."""
        claimed = error.claimed_sender
        who = "no sender decoded"
        if claimed is not None:
            label = "signed by" if error.verified else "claimed sender"
            who = f"{label} {claimed.hex()}" + (f" ({name})" if name else "")
        parts = (
            f"envelope refused, {error}",
            who,
            f"context {self._context!r}" if self._context else "",
            reasons.here(error, self._own, self._trust),
            reasons.remedy(error),
            more,
        )
        return "; ".join(reasons.one_line(part) for part in parts if part)

    def read(self, steps: int) -> Stats:
        """Return the counters as they are now, and the clock's steps with them."""
        with self._lock:
            refused = {name: code.count for name, code in self._codes.items() if code.count}
            senders = [
                (s.name, s.accepted, s.messages, dict(s.refused), s.guard)
                for s in self._senders.values()
            ]
        by_name: dict[str, SenderStats] = {}
        for name, accepted, messages, codes, guard in senders:
            one = _of(accepted, messages, codes, guard.gaps())
            by_name[name] = _sum((by_name[name], one)) if name in by_name else one
        return Stats(
            accepted=sum(s.accepted for s in by_name.values()),
            messages=sum(s.messages for s in by_name.values()),
            refused=refused,
            senders=by_name,
            clock_stepped_back=steps,
        )


def _of(accepted: int, messages: int, codes: dict[str, int], gaps: Gaps) -> SenderStats:
    return SenderStats(
        accepted=accepted,
        messages=messages,
        refused=codes,
        skipped=gaps.skipped,
        late=gaps.late,
        missing=gaps.missing,
        lost=gaps.lost,
        unseen=gaps.unseen,
        streams=gaps.streams,
    )


def _sum(parts: Iterable[SenderStats]) -> SenderStats:
    """Add up the keys of one name (a rotation)."""
    parts = list(parts)
    refused: dict[str, int] = {}
    for part in parts:
        for code, count in part.refused.items():
            refused[code] = refused.get(code, 0) + count
    return SenderStats(
        accepted=sum(part.accepted for part in parts),
        messages=sum(part.messages for part in parts),
        refused=refused,
        skipped=sum(part.skipped for part in parts),
        late=sum(part.late for part in parts),
        missing=sum(part.missing for part in parts),
        lost=sum(part.lost for part in parts),
        unseen=sum(part.unseen for part in parts),
        streams=sum(part.streams for part in parts),
    )
