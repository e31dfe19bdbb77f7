"""What a replay store is: the whole interface, for whoever writes another one.

A store hands out one guard for each (domain, sender, context). A guard decides
by the rules of SPEC 8; ``envelope.replay.guard.Guard`` is those rules in memory,
and a store may keep Guards and make them durable, or follow the same rules
elsewhere.

Rules for a store:

- The same (domain, sender, context) gives guards that share one state.
- ``check`` reads local memory only and never blocks on I/O: strangers reach it.
- ``mark`` is atomic over everybody who shares the store. When it returns, the
  envelope is remembered, or its time is covered by what the store would refuse
  after a crash. When it raises, nothing has changed.
- Whatever goes wrong inside is StoreUnavailableError, in bounded time. In doubt
  the envelope is refused and may be offered again.
- Nothing serialised changes before ``mark``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from envelope.errors import RejectedError
from envelope.policy import Policy
from envelope.replay.guard import Gaps


class ReplayGuard(Protocol):
    """The replay memory of one sender in one context and domain. Thread-safe."""

    def check(
        self, stream: bytes, sequence: int, sent_at: int, *, full_at: int, expected: bool
    ) -> None:
        """Refuse what is surely a replay; change nothing (SPEC 8.4)."""

    def mark(  # noqa: PLR0913 (an envelope's place, and the receiver's two limits)
        self,
        stream: bytes,
        sequence: int,
        sent_at: int,
        *,
        full_at: int,
        window: int,
        expected: bool,
        forget_before: int,
    ) -> int:
        """Check again and remember, atomically; return ``skipped`` (SPEC 8.5)."""

    def gaps(self) -> Gaps:
        """Return the figures of SPEC 8.9."""


class Mark(NamedTuple):
    """What is marked of an envelope."""

    stream: bytes
    sequence: int
    sent_at: int
    expected: bool


class Batch(NamedTuple):
    """Envelopes of one sender that are to be marked, with the receiver's limits."""

    guard: ReplayGuard
    marks: Sequence[Mark]
    full_at: int
    window: int
    forget_before: int


Result = int | RejectedError
"""What ``ReplayGuard.mark`` returned, or raised."""


class ReplayStore(ABC):
    """Where replay memory lives. Thread-safe.

    Attributes:
        is_durable: whether the memory survives this process.
        is_remote: whether a mark waits for a network: sockets then open what is there
            already in one go, and those for asyncio in a thread.
        max_future: seconds; the most that a policy of an opener with this store may
            have, for a cold start has to cover it (SPEC 8.7).
    """

    is_durable: bool = False
    is_remote: bool = False
    max_future: float = Policy().max_future

    @abstractmethod
    def guard(self, domain: str, sender: bytes, context: str) -> ReplayGuard:
        """Return the guard of one sender.

        Called before the sender has been authenticated, but only for key ids that
        stand in the trust store.

        Args:
            domain: the replay domain (SPEC 8.1).
            sender: key id, 16 bytes.
            context: the application's name of the flow.

        Raises:
            StoreUnavailableError: the store cannot answer.
        """

    def mark_each(self, batches: Sequence[Batch]) -> list[list[Result]]:
        """Mark envelopes in order, each on its own; for a store that gains by a batch.

        Args:
            batches: of guards of this store, each guard once.

        Returns:
            For each batch the results of its marks.
        """
        return [[_mark(batch, mark) for mark in batch.marks] for batch in batches]

    @abstractmethod
    def close(self) -> None:
        """Write what is to be kept, if anything. Raises nothing."""

    def __enter__(self) -> Self:
        """Return the store."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the store."""
        self.close()


def _mark(batch: Batch, mark: Mark) -> Result:
    guard, _, full_at, window, forget_before = batch
    stream, sequence, sent_at, expected = mark
    try:
        return guard.mark(
            stream,
            sequence,
            sent_at,
            full_at=full_at,
            window=window,
            expected=expected,
            forget_before=forget_before,
        )
    except RejectedError as error:
        return error.with_traceback(None)
