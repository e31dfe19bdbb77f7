"""Replay memory that many receivers share: one Redis or Valkey server (SPEC 8.11).

Rules of this file:

- The server judges: ``mark.lua`` is the guard, one atomic step for a place. Here are
  only the questions, the answers, and what to do when an answer does not come.
- No answer, in time and of the right form, means ``store_unavailable``. What was asked
  then may have been done or not: it is asked again by the same attempt, which the
  server does once, before anything else is asked. So an outage loses no envelope.
- The peek reads what this process itself accepted: strangers cause no round trip.
- Whoever may write to the server can permit replays or stop them all; not forge.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.resources
import itertools
import logging
import os
import re
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from envelope import clock as clocks
from envelope import stream as streams
from envelope.errors import (
    BeforeStartError,
    FutureError,
    RejectedError,
    ReplayedError,
    StoreUnavailableError,
    TooOldError,
    UsageError,
)
from envelope.forks import process
from envelope.policy import Policy
from envelope.replay.guard import NEVER, Gaps, Guard, Remembered
from envelope.replay.server import NoScriptError, ResponseError, Server
from envelope.replay.store import Batch, Mark, ReplayStore, Result
from envelope.wire import MAX_SEQUENCE

_log = logging.getLogger("envelope.replay")

_SCRIPT: Final = importlib.resources.files(__package__).joinpath("mark.lua").read_text("utf-8")
MAX_MARKS: Final = 256
"""Envelopes in one call: the server does nothing else meanwhile, some milliseconds."""
MAX_OWED: Final = 4096
"""Envelopes accepted by an attempt whose answer was late, waiting to be offered again."""
_NAMESPACE: Final = re.compile("[A-Za-z0-9._:-]{1,64}")

_pack_mark = struct.Struct(">16sQqB").pack
_pack_limits = struct.Struct(">qqqq").pack
_attempt = struct.Struct(">Q8s").pack
_META: Final = struct.Struct(">10q")
_HEAD: Final = struct.Struct(">7q")

_REFUSALS: Final[dict[int, tuple[type[RejectedError], str]]] = {
    -1: (BeforeStartError, "stamped before the shared replay memory begins"),
    -2: (TooOldError, "stamped before this sender's floor"),
    -3: (TooOldError, "behind the replay window of its stream"),
    -4: (ReplayedError, "a receiver that shares this replay store accepted it before"),
    -5: (TooOldError, "older than every stream remembered of this sender"),
    -6: (FutureError, "stamped further ahead of the replay store's clock than max_future"),
}
"""Verdicts of mark.lua."""

_FUTURE: Final = min(_REFUSALS)


@dataclass(slots=True)
class _Call:
    """One run of the script: what one attempt asks for one guard."""

    guard: RedisGuard
    attempt: bytes
    marks: Sequence[Mark]
    arguments: tuple[int | bytes | str, ...]

    def parse(self, reply: object) -> tuple[int, list[int]]:
        """Return cold and a verdict for each mark.

        Raises:
            ValueError: not the answer to this call.
        """
        size = len(self.marks)
        if type(reply) is not bytes or reply[:16] != self.attempt or len(reply) != 24 + 8 * size:
            raise ValueError("an answer that does not fit the question")
        cold, *verdicts = struct.unpack_from(f">{1 + size}q", reply, 16)
        lowest, highest = min(verdicts, default=0), max(verdicts, default=0)
        if not (lowest >= _FUTURE and highest < MAX_SEQUENCE and NEVER <= cold < clocks.MAX_TIME):
            raise ValueError("an answer out of all bounds")
        return cold, verdicts


class RedisGuard:
    """The shared memory of one sender in one context and domain. Thread-safe.

    Attributes:
        local: what this process itself accepted.
        owed: accepted by the server for us, though we did not hear of it in time.
    """

    __slots__ = ("_last", "_store", "key", "local", "owed")

    def __init__(self, store: RedisReplayStore, key: str, local: Guard) -> None:
        """Begin with nothing of our own."""
        self._store = store
        self.key = key
        self.local = local
        self.owed: dict[Mark, int] = {}
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
        if sent_at <= self.local.cold and not expected:
            raise BeforeStartError(_REFUSALS[-1][1])
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
        guard = Guard(cold=NEVER, birth=0)
        floor = NEVER if ceiling is None else int.from_bytes(ceiling, "big", signed=True)
        figures = [0] * 9
        try:
            if fields:
                floor, *figures = _META.unpack(fields[b"meta"])
            ids = fields.get(b"ids", b"")
            known = []
            for at in range(0, len(ids), 16):
                stream = ids[at : at + 16]
                head = _HEAD.unpack(fields[b"h" + stream])
                known.append((stream, Remembered._make([*head, fields[b"r" + stream]])))
            guard.restore(floor, figures, known)
        except (KeyError, ValueError, TypeError, struct.error):
            raise StoreUnavailableError(f"what the server has at {self.key} is no memory") from None
        return guard


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
        self._sha = hashlib.sha1(self._text.encode(), usedforsecurity=False).hexdigest()
        self._numbers = itertools.count(1)
        self._client = os.urandom(16).hex()
        self._cold = NEVER
        self._guards: dict[tuple[str, bytes, str], RedisGuard] = {}
        self._unresolved: list[_Call] = []
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
        return _SCRIPT

    def guard(self, domain: str, sender: bytes, context: str) -> RedisGuard:
        """Return the guard of one sender; see ``ReplayStore``."""
        place = (domain, sender, context)
        with self._lock:
            found = self._guards.get(place)
            if found is None:
                found = self._guards[place] = self._guard(place)
            return found

    def _guard(self, place: tuple[str, bytes, str]) -> RedisGuard:
        domain, sender, context = place
        # Injective: the first part's length says where the second begins.
        first, second = domain.encode(), context.encode()
        name = b"%d:%b%b" % (len(first), first, second)
        digest = hashlib.blake2b(name, digest_size=16).hexdigest()
        local = Guard(cold=self._cold, birth=self._birth, life=self._life)
        return RedisGuard(self, f"{self._root}:{sender.hex()}:{digest}", local)

    def mark_each(self, batches: Sequence[Batch]) -> list[list[Result]]:
        """Mark envelopes in order, in one round trip; see ``ReplayStore``."""
        results: list[list[Result]] = [[] for _ in batches]
        try:
            self._enter()
        except StoreUnavailableError as error:
            return [[*_repeat(error, len(batch.marks))] for batch in batches]
        try:
            self._resolve()
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
        self._is_asking = False
        self._lock.release()

    def _resolve(self) -> None:
        """Ask again what was asked without an answer; what was accepted then is owed.

        Raises:
            StoreUnavailableError: no answer now either.
        """
        for call, answer in self._ask(self._unresolved):
            if isinstance(answer, StoreUnavailableError):
                continue  # It was not done, and will be asked for anew.
            owed = call.guard.owed
            owed.update((m, v) for m, v in zip(call.marks, answer, strict=True) if v >= 0)
            while len(owed) > MAX_OWED:
                del owed[next(iter(owed))]

    def _mark(self, batches: Sequence[Batch]) -> list[list[Result]]:
        """Return the results of batches that one round trip can hold.

        Raises:
            StoreUnavailableError: no answer; nothing was marked, or it will be owed.
        """
        calls, owed = [], []
        for batch in batches:
            guard, marks = batch.guard, batch.marks
            assert isinstance(guard, RedisGuard)
            known: list[int | None] = [None] * len(marks)
            if guard.owed:
                known = [guard.owed.get(mark) for mark in marks]
                marks = [mark for mark, one in zip(marks, known, strict=True) if one is None]
            owed.append(known)
            calls.append(self._call(guard, marks, batch))
        answers = iter(self._ask([call for call in calls if call.marks]))
        results = []
        for batch, call, known in zip(batches, calls, owed, strict=True):
            answer = next(answers)[1] if call.marks else []
            outcomes: Sequence[int | StoreUnavailableError]
            if isinstance(answer, StoreUnavailableError):
                errors = iter(_repeat(answer, len(known)))
                outcomes = [next(errors) if one is None else one for one in known]
            elif len(answer) == len(known):  # The usual case: nothing was owed.
                outcomes = answer
            else:
                told = iter(answer)
                outcomes = [next(told) if one is None else one for one in known]
            results.append(_settle(call.guard, batch, outcomes))
        return results

    def _call(self, guard: RedisGuard, marks: Sequence[Mark], batch: Batch | None = None) -> _Call:
        """Return the next attempt."""
        full_at, window, before = batch[2:] if batch else (1, 64, 0)
        attempt = _attempt(next(self._numbers), os.urandom(8))
        limits = _pack_limits(clocks.microseconds(self.max_future), full_at, window, before)
        packed = b"".join([_pack_mark(*mark) for mark in marks])
        keys = (self._record, guard.key, f"{guard.key}:{self._client}")
        return _Call(guard, attempt, marks, (3, *keys, attempt + limits, packed))

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
                if any(isinstance(reply, NoScriptError) for reply in replies):
                    # The attempts see to it that those which were made are not made again.
                    replies = self._run("EVAL", self._text, calls)
                for call, reply in zip(calls, replies, strict=True):
                    if isinstance(reply, ResponseError):
                        # The script writes last: an error means that nothing was marked.
                        error = StoreUnavailableError(f"{self._server.name} answers: {reply}")
                        if str(reply).startswith("OVERTAKEN"):
                            self._client = os.urandom(16).hex()  # We have a clone.
                        self._server.hang_up()  # Perhaps a master no more.
                        answers.append((call, error))
                        continue
                    cold, verdicts = call.parse(reply)
                    self._raise_cold(cold)
                    answers.append((call, verdicts))
        self._unresolved = []
        return answers

    def _run(self, command: str, script: str, calls: list[_Call]) -> list[Any]:
        """Return the replies, in one round trip; error replies among them."""
        return self._server.ask([(command, script, *call.arguments) for call in calls])

    def _raise_cold(self, cold: int) -> None:
        """Take note of a time up to which the server's memory is lost; it never falls."""
        if cold > self._cold:
            self._cold = cold
            for guard in self._guards.values():
                guard.local.cold = cold
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
                kind, detail = _REFUSALS[outcome]
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
