"""Replay memory that many receivers share: one Redis or Valkey server (SPEC 8.11).

Rules of this file:

- The server judges: ``mark.lua`` is the guard, one atomic step for a place. Here is
  only who asks what when, and what to do when an answer does not come.
- No answer, in time and of the right form, means ``store_unavailable``. What was asked
  then may have been done or not: it is asked again by the same attempt, which the
  server does once, before anything else is asked. So an outage loses no envelope.
- An error for an answer means that nothing was done now. It says nothing of what was
  done when the same was asked before: that stays open, and its sender waits.
- The peek reads what this process itself accepted: strangers cause no round trip.
- Whoever may write to the server can permit replays or stop them all; not forge.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from envelope import clock as clocks
from envelope import stream as streams
from envelope.errors import (
    BeforeStartError,
    RejectedError,
    ReplayedError,
    StoreUnavailableError,
    UsageError,
)
from envelope.forks import process
from envelope.policy import Policy
from envelope.replay import script
from envelope.replay.guard import NEVER, Gaps, Guard
from envelope.replay.server import NoScriptError, ResponseError, Server, said
from envelope.replay.store import Batch, Mark, ReplayStore, Result

_log = logging.getLogger("envelope.replay")

MAX_MARKS: Final = 256
"""Envelopes in one call: the server does nothing else meanwhile, some milliseconds."""
MAX_OWED: Final = 4096
"""Envelopes accepted by an attempt whose answer was late, waiting to be offered again."""
_NAMESPACE: Final = re.compile("[A-Za-z0-9._:-]{1,64}")


@dataclass(slots=True)
class _Call:
    """One run of the script: what one attempt asks for one guard."""

    guard: RedisGuard
    attempt: bytes
    marks: Sequence[Mark]
    arguments: tuple[int | bytes | str, ...]
    is_overtaken: bool = False
    """Whether the server knows a later attempt, so that this one is never answered."""


class RedisGuard:
    """The shared memory of one sender in one context and domain. Thread-safe.

    Attributes:
        local: what this process itself accepted.
        owed: accepted by the server for us, though we did not hear of it in time.
        stuck: what was asked without an answer, and then answered by an error.
    """

    __slots__ = ("_last", "_store", "key", "local", "owed", "stuck")

    def __init__(self, store: RedisReplayStore, key: str, local: Guard) -> None:
        """Begin with nothing of our own."""
        self._store = store
        self.key = key
        self.local = local
        self.owed: dict[Mark, int] = {}
        self.stuck: _Call | None = None
        self._last = Gaps(0, 0, 0, 0, 0, 0, 0)

    def check(
        self,
        stream: bytes,
        sequence: int,
        sent_at: int,
        *,
        full_at: int,  # noqa: ARG002 (the server knows how many there are)
        expected: bool,
    ) -> None:
        """See ``ReplayGuard.check``; what others accepted is not known here."""
        if sent_at <= self._store.cold and not expected:
            raise BeforeStartError(script.REFUSALS[-1][1])
        self.local.check_window(stream, sequence)

    def mark(  # noqa: PLR0913 (the interface's)
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
        """See ``ReplayGuard.mark``; one round trip to the server."""
        mark = Mark(stream, sequence, sent_at, expected)
        ((result,),) = self._store.mark_each([Batch(self, [mark], full_at, window, forget_before)])
        if isinstance(result, RejectedError):
            raise result
        return result

    def gaps(self) -> Gaps:
        """Return the figures of all receivers together; in an outage, the last known."""
        if not self._store.is_down:  # Else each sender would have to wait in turn.
            with contextlib.suppress(StoreUnavailableError):
                self._last = self.read().gaps()
        return self._last

    def state(self) -> object:
        """Return all that decides a verdict, as values; see ``Guard.state``.

        Raises:
            StoreUnavailableError: the server cannot be asked, or has nonsense.
        """
        return self.read().state()

    def read(self) -> Guard:
        """Return what the server has, as a guard.

        Raises:
            StoreUnavailableError: the server cannot be asked, or has nonsense.
        """
        fields, ceiling = self._store.read(self.key)
        try:
            return script.restore(fields, ceiling)
        except ValueError as error:
            text = f"what the server has at {self.key} is {error}"
            raise StoreUnavailableError(text) from None


class RedisReplayStore(ReplayStore):
    """Replay memory on a Redis or Valkey server, for any number of receivers.

    Receivers that use one server, one namespace and one domain (SPEC 8.1) deliver each
    envelope at most once between them. Thread-safe; the calls of one store follow one
    another, so take ``Opener.open_each`` or more processes where one round trip for each
    envelope is too slow. A forked child gets ``store_unavailable``.

    When the server lost its memory - a restart, a failover, FLUSHALL - it refuses
    (``before_start``) what is not stamped later than that moment plus twice
    ``max_future``. In an outage every envelope is refused (``store_unavailable``) within
    a few ``timeout`` and may be offered again; no call is needed to recover.

    The server must be a master with ``maxmemory-policy noeviction``; it needs no
    persistence. What remains a risk stands in SPEC 8.11.

    Attributes:
        namespace: in front of every key on the server.
        cold: up to here, as far as we heard, its memory is lost; it never falls.
    """

    is_durable = True
    is_remote = True

    def __init__(
        self,
        url: str,
        *,
        namespace: str = "envelope",
        max_future: float = ReplayStore.max_future,
        timeout: float = 1.0,
    ) -> None:
        """Connect to a server.

        Args:
            url: ``redis://[[user]:password@]host[:port][/db]``, ``rediss://...`` for TLS
                (with ``?ssl_ca_certs=FILE`` for an authority of one's own), or
                ``unix://path``.
            namespace: in front of every key, so that deployments do not collide: 1 to
                64 letters, digits, ``.``, ``_``, ``-`` or ``:``.
            max_future: seconds, at least that of every policy used with this namespace,
                and the same for all its receivers.
            timeout: seconds to wait for a connection, and for an answer.

        Raises:
            UsageError: an argument that cannot be used.
            StoreUnavailableError: the server cannot be reached, or is not fit.
        """
        if type(namespace) is not str or not _NAMESPACE.fullmatch(namespace):
            raise UsageError("namespace is 1 to 64 letters, digits, '.', '_', '-' or ':'")
        if type(timeout) not in (int, float) or not 0.001 <= timeout <= 60:
            raise UsageError("timeout is a number of seconds from 0.001 to 60")
        self.max_future = Policy(max_future=max_future).max_future
        self.namespace = namespace
        self._root = "{" + namespace + "}"  # In a cluster: all in one slot.
        self._record = f"{self._root}:store"
        self._timeout = timeout
        self._server = Server(url, timeout)
        self._text = self._script()
        self._sha = script.sha(self._text)
        self._numbers = itertools.count(1)
        self._client = os.urandom(16).hex()
        self.cold = NEVER
        self._guards: dict[tuple[str, bytes, str], RedisGuard] = {}
        self._unresolved: list[_Call]
        """Asked, and no answer came."""
        self._is_asking = False
        """The lock is reentrant; a conversation is not."""
        self._is_open = True
        self._life = process.life()
        self._birth = streams.birth()
        self._lock = threading.RLock()
        process.adopt(self)
        try:
            # Whoever comes first to a server without memory makes it begin, now.
            ((_, answer),) = self._ask([self._call(self._guard(("", b"", "")), ())])
            if isinstance(answer, StoreUnavailableError):
                raise answer
        except StoreUnavailableError:
            self.close()
            raise

    @staticmethod
    def _script() -> str:
        """Return the source of the guard; a test gives it another clock."""
        return script.SOURCE

    def guard(self, domain: str, sender: bytes, context: str) -> RedisGuard:
        """Return the guard of one sender; see ``ReplayStore``."""
        place = (domain, sender, context)
        with self._lock:
            if place not in self._guards:
                # A signal handler may have made one meanwhile, and marked in it.
                self._guards.setdefault(place, self._guard(place))
            return self._guards[place]

    def _guard(self, place: tuple[str, bytes, str]) -> RedisGuard:
        domain, sender, context = place
        key = f"{self._root}:{script.key(sender, domain, context)}"
        return RedisGuard(self, key, Guard(cold=self.cold, birth=self._birth))

    def mark_each(self, batches: Sequence[Batch]) -> list[list[Result]]:
        """Mark envelopes in order, in one round trip; see ``ReplayStore``."""
        results: list[list[Result]] = [[] for _ in batches]
        try:
            self._enter()
        except StoreUnavailableError as error:
            return [[*_repeat(error, len(batch.marks))] for batch in batches]
        try:
            self._resolve(batches)
            longest = max((len(batch.marks) for batch in batches), default=0)
            for at in range(0, longest, MAX_MARKS):
                parts = [b._replace(marks=b.marks[at : at + MAX_MARKS]) for b in batches]
                for some, more in zip(results, self._mark(parts), strict=True):
                    some.extend(more)
        except StoreUnavailableError as error:
            for some, batch in zip(results, batches, strict=True):
                some.extend(_repeat(error, len(batch.marks) - len(some)))
        finally:
            self._leave()
        return results

    def _enter(self) -> None:
        """Take the lock and begin a conversation.

        Raises:
            StoreUnavailableError: the parent's, closed, or busy for too long.
        """
        if process.life() != self._life:
            raise StoreUnavailableError("this replay store is the parent's; a child opens its own")
        if not self._lock.acquire(timeout=self._timeout):
            raise StoreUnavailableError(f"the replay store at {self._server.name} is busy")
        if self._is_asking or not self._is_open:
            self._lock.release()
            raise StoreUnavailableError("this replay store was closed, or interrupted by itself")
        self._is_asking = True

    def _leave(self) -> None:
        if not self._is_open:  # Closed meanwhile, by a thread or a signal handler.
            self._server.hang_up()
        self._is_asking = False
        self._lock.release()

    def _resolve(self, batches: Sequence[Batch]) -> None:
        """Ask again what was asked without an answer; what was accepted then is owed.

        Raises:
            StoreUnavailableError: no answer now either.
        """
        open_calls = {call.attempt: call for call in self._unresolved}
        for guard, *_ in batches:
            assert isinstance(guard, RedisGuard)
            if guard.stuck:
                open_calls[guard.stuck.attempt] = guard.stuck
        for call, answer in self._ask([*open_calls.values()]):
            if isinstance(answer, StoreUnavailableError):
                # A cluster that is down for a moment, say: what came of it is not known.
                call.guard.stuck = None if call.is_overtaken else call
                continue
            call.guard.stuck = None
            owed = call.guard.owed
            owed.update((m, v) for m, v in zip(call.marks, answer, strict=True) if v >= 0)
            while len(owed) > MAX_OWED:
                del owed[next(iter(owed))]

    def _mark(self, batches: Sequence[Batch]) -> list[list[Result]]:
        """Return the results of batches that one round trip can hold.

        Raises:
            StoreUnavailableError: no answer; nothing was marked, or it will be owed.
        """
        plan = []
        for batch in batches:
            guard, marks = batch.guard, batch.marks
            assert isinstance(guard, RedisGuard)
            known: list[int | None] = [None] * len(marks)
            if guard.owed:
                left = guard.owed.copy()  # Each is owed once, though the batch has it twice.
                known = [left.pop(mark, None) for mark in marks]
                marks = [mark for mark, one in zip(marks, known, strict=True) if one is None]
            plan.append((batch, self._call(guard, marks, batch), known))
        asked = [call for _, call, _ in plan if call.marks and not call.guard.stuck]
        answers = iter(self._ask(asked))
        results = []
        for batch, call, known in plan:
            answer: list[int] | StoreUnavailableError = []
            if call.guard.stuck:
                answer = StoreUnavailableError("what the server did with the last is not known")
            elif call.marks:
                answer = next(answers)[1]
            outcomes: Sequence[int | StoreUnavailableError]
            if isinstance(answer, StoreUnavailableError):
                errors = iter(_repeat(answer, len(known)))
                outcomes = [next(errors) if one is None else one for one in known]
            elif len(answer) == len(known):  # The usual case: nothing was owed.
                outcomes = answer
            else:
                told = iter(answer)
                outcomes = [next(told) if one is None else one for one in known]
            call.guard.local.cold = self.cold
            results.append(_settle(call.guard, batch, outcomes))
        return results

    def _call(self, guard: RedisGuard, marks: Sequence[Mark], batch: Batch | None = None) -> _Call:
        """Return the next attempt."""
        attempt = script.attempt(next(self._numbers), os.urandom(8))
        keys = (self._record, guard.key, f"{guard.key}:{self._client}")
        max_future = clocks.microseconds(self.max_future)
        limits = (max_future, *(batch[2:] if batch else (1, 64, 0)))
        return _Call(guard, attempt, marks, script.arguments(keys, attempt, marks, limits))

    def _ask(self, calls: list[_Call]) -> list[tuple[_Call, list[int] | StoreUnavailableError]]:
        """Return for each call its verdicts, or why the server did not make it.

        Raises:
            StoreUnavailableError: no answer. The calls are ``_unresolved``.
        """
        self._unresolved = calls
        answers: list[tuple[_Call, list[int] | StoreUnavailableError]] = []
        if calls:
            with self._server.conversation():
                replies = self._run("EVALSHA", self._sha, calls)
                missed = [at for at, one in enumerate(replies) if isinstance(one, NoScriptError)]
                if missed:
                    again = self._run("EVAL", self._text, [calls[at] for at in missed])
                    for at, reply in zip(missed, again, strict=True):
                        replies[at] = reply
                for call, reply in zip(calls, replies, strict=True):
                    if isinstance(reply, ResponseError):
                        # The script writes last: an error means that nothing was marked.
                        text = f"{self._server.name} answers: {said(reply)}"
                        error = StoreUnavailableError(text)
                        if str(reply).startswith(script.OVERTAKEN):
                            call.is_overtaken = True
                            self._client = os.urandom(16).hex()  # We have a clone.
                        self._server.hang_up()  # Perhaps a master no more.
                        answers.append((call, error))
                        continue
                    cold, verdicts = script.parse(reply, call.attempt, len(call.marks))
                    self._raise_cold(cold)
                    answers.append((call, verdicts))
        self._unresolved = []
        return answers

    def _run(self, command: str, body: str, calls: list[_Call]) -> list[Any]:
        """Return the replies, in one round trip; error replies among them."""
        return self._server.ask([(command, body, *call.arguments) for call in calls])

    def _raise_cold(self, cold: int) -> None:
        """Take note of a time up to which the server's memory is lost."""
        if cold > self.cold:
            self.cold = cold
            _log.log(
                logging.WARNING if self._guards else logging.INFO,
                "the replay memory at %s (%s) began anew; refused until then: %s",
                self._server.name,
                self.namespace,
                datetime.fromtimestamp(cold / clocks.SECOND, UTC).isoformat(),
            )

    def read(self, key: str) -> tuple[dict[bytes, bytes], bytes | None]:
        """Return the fields of a place, and its ceiling.

        Raises:
            StoreUnavailableError: the server cannot be asked.
        """
        self._enter()
        try:
            with self._server.conversation():
                flat, ceiling = self._server.ask([("HGETALL", key), ("HGET", self._record, key)])
                for reply in (flat, ceiling):
                    if isinstance(reply, ResponseError):
                        raise reply
                return dict(zip(flat[::2], flat[1::2], strict=True)), ceiling
        finally:
            self._leave()

    @property
    def is_down(self) -> bool:
        """Whether the last question had no answer."""
        return self._server.is_down

    def close(self) -> None:
        """Close the connection. The memory stays on the server. Raises nothing."""
        if process.life() != self._life:
            return  # The parent's connection is not ours to touch.
        self._is_open = False
        if self._lock.acquire(timeout=self._timeout):
            try:
                if not self._is_asking:
                    self._server.hang_up()
            finally:
                self._lock.release()

    def __repr__(self) -> str:
        """Return where it is; no password."""
        return f"<RedisReplayStore {self.namespace!r} at {self._server.name}>"


def _repeat(error: StoreUnavailableError, count: int) -> list[StoreUnavailableError]:
    """Return one error for each: whoever gets it writes into it whose envelope it was."""
    return [StoreUnavailableError(error.detail) for _ in range(count)]


def _settle(
    guard: RedisGuard, batch: Batch, outcomes: Sequence[int | StoreUnavailableError]
) -> list[Result]:
    """Return results, and remember here what the server has accepted for us.

    Where the server lost its memory, this one still has what no cold start covers:
    replies that were accepted before. Of all else the server knows more: floors here
    come from a part of what there is, and say nothing.
    """
    results: list[Result] = []
    _, marks, full_at, window, before = batch
    remember, may_owe = guard.local.mark, bool(guard.owed)
    for mark, outcome in zip(marks, outcomes, strict=True):
        result: Result = outcome
        if isinstance(outcome, int):
            if outcome < 0:
                kind, detail = script.REFUSALS[outcome]
                result = kind(detail)
            else:
                stream, sequence, sent_at, expected = mark
                try:
                    remember(
                        stream,
                        sequence,
                        sent_at,
                        full_at=full_at,
                        window=window,
                        expected=expected,
                        forget_before=before,
                    )
                except RejectedError as error:
                    if sent_at <= guard.local.cold or isinstance(error, ReplayedError):
                        result = error.with_traceback(None)
                if may_owe:
                    guard.owed.pop(mark, None)
        results.append(result)
    return results
