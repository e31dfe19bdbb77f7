"""Between messages and frames: what both kinds of socket share, without I/O.

Rules of this file:

- On the wire a message is its bound frames, in clear and signed, then one
  envelope. A PUB/SUB topic is the first bound frame, so brokers route by it.
- What a refusal does to a receive loop is decided here, once.
- A publisher has a stream for each of its first 32 topics, so that the gap figures of
  a subscriber that asked for some of them are true. All further topics share one.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import zmq

from envelope import clock, codec
from envelope.errors import MalformedError, RejectedError, StoreUnavailableError, UsageError
from envelope.message import Message
from envelope.opener import Opener
from envelope.sealer import Sealer
from envelope.stats import Stats

OnRejected = Callable[[RejectedError], None]
Topic = bytes | str | None

MAX_REFUSED: Final = 1000
"""Refused messages that one non-blocking receive passes over: a flood must not
turn a call that promised to return at once into one that does not."""

_MAX_TOPIC_STREAMS: Final = 32
"""Streams of a publisher, one for each of the first topics. Half of what a receiver
remembers of one sender by default, so that a restart evicts only the dead."""

_MAX_BATCH: Final = 64
"""Arrivals that are opened in one go where the replay store waits for a network. What
was taken from the socket's queue is lost with the process, as the queue itself is."""

_MAX_COUNT: Final = 256
_MAX_BYTES: Final = 65_536
"""What ``send_many`` puts into one bundle at most: beyond, nothing gets cheaper."""

_SENDS: Final = frozenset({zmq.PUB, zmq.PUSH, zmq.PAIR})
_RECEIVES: Final = frozenset({zmq.SUB, zmq.PULL, zmq.PAIR})


class Patience:
    """How long and through how many refusals one receive goes on. Not thread-safe."""

    __slots__ = ("_end", "_refused")

    def __init__(self, timeout: int) -> None:
        """Begin now; ``timeout`` in milliseconds, negative for no end."""
        self._end = None if timeout < 0 else clock.monotonic() + timeout * 1000
        self._refused = 0

    def left(self) -> int | None:
        """Return the milliseconds left, rounded up, or None for no end.

        Raises:
            zmq.Again: none is left.
        """
        if self._end is None:
            return None
        left = -((clock.monotonic() - self._end) // 1000)
        if left <= 0:
            raise zmq.Again
        return left

    def refuse(self) -> None:
        """Count a refusal.

        Raises:
            zmq.Again: time is up, and so many were passed over that the call must end.
        """
        self._refused += 1
        if (
            self._refused >= MAX_REFUSED
            and self._end is not None
            and clock.monotonic() >= self._end
        ):
            raise zmq.Again


class Seam:
    """Seals what a socket sends and opens what it receives. Not thread-safe.

    Attributes:
        ready: the messages of each envelope that was opened and not handed out yet.
        pending: what arrived and is to be opened, also for the second time, since the
            replay store could not answer.
    """

    def __init__(
        self,
        socket_type: int,
        sealer: Sealer | None,
        opener: Opener | None,
        on_rejected: OnRejected | None,
    ) -> None:
        """See ``SecureSocket``."""
        name = zmq.SocketType(socket_type).name
        if socket_type not in _SENDS | _RECEIVES:
            raise UsageError(
                f"{name} sockets are not supported yet; PUB, SUB, PUSH, PULL, PAIR are"
            )
        if sealer is None and opener is None:
            raise UsageError("a SecureSocket needs a sealer to send or an opener to receive")
        if sealer is not None and (not isinstance(sealer, Sealer) or socket_type not in _SENDS):
            raise UsageError(f"a {name} socket does not send, or sealer is not a Sealer")
        if opener is not None and (not isinstance(opener, Opener) or socket_type not in _RECEIVES):
            raise UsageError(f"a {name} socket does not receive, or opener is not an Opener")
        if on_rejected is not None and not callable(on_rejected):
            raise UsageError("on_rejected is a function that takes a RejectedError")
        if inspect.iscoroutinefunction(on_rejected):
            # Nobody would await it, and refusals would be silent.
            raise UsageError("on_rejected is a plain function, also for asyncio")
        # Whoever answers in sealed envelopes must not be talked to in the open.
        if opener is not None and sealer is not None and sealer.sealed:
            opener = opener.stricter(require="sealed", addressed=socket_type == zmq.PAIR)
        self._sealer = sealer
        self._opener = opener
        self._on_rejected = on_rejected
        self._by_topic: dict[bytes, Sealer] | None = {} if socket_type == zmq.PUB else None
        self._batch = 1 if opener is None or not opener.replay.is_remote else _MAX_BATCH
        self.ready: deque[deque[Message]] = deque()
        self.pending: list[list[bytes]] = []

    def seal(self, payload: bytes, topic: Topic) -> list[bytes]:
        """Return the frames of one payload."""
        name = _as_topic(topic)
        if name is None:
            return [self._sealer_for(None).seal(payload)]
        return [name, self._sealer_for(name).seal(payload, bound=(name,))]

    def seal_many(self, payloads: Sequence[bytes], topic: Topic) -> list[list[bytes]]:
        """Return the frames of bundles that hold the payloads, in order.

        All are sealed before any can be sent, so that an error sends nothing.
        """
        name = _as_topic(topic)
        sealer = self._sealer_for(name)
        before = [] if name is None else [name]
        chunks = list(_chunks(payloads))
        return [[*before, sealer.seal_bundle(chunk, bound=before)] for chunk in chunks]

    def _sealer_for(self, topic: bytes | None) -> Sealer:
        sealer = self._sealer
        if sealer is None:
            raise UsageError("this socket has no sealer, so it does not send")
        topics = self._by_topic
        if topics is None or topic is None:
            return sealer
        found = topics.get(topic)
        if found is None:
            # Beyond the limit topics share a stream: a gap too many is better than
            # new streams all the time, in which no loss would ever show.
            if len(topics) >= _MAX_TOPIC_STREAMS:
                return sealer
            found = topics[topic] = sealer.sibling()
        return found

    def check_receives(self) -> None:
        """Check that there is an opener.

        Raises:
            UsageError: there is none.
        """
        if self._opener is None:
            raise UsageError("this socket has no opener, so it does not receive")

    @property
    def stats(self) -> Stats:
        """The opener's counters."""
        self.check_receives()
        assert self._opener is not None
        return self._opener.stats

    def wants_more(self, *, strict: bool) -> bool:
        """Tell whether more of what has arrived is to be opened in the same go."""
        return len(self.pending) < (1 if strict else self._batch)

    def take(self) -> Message:
        """Hand out the next message that is ready."""
        messages = self.ready[0]
        message = messages.popleft()
        if not messages:
            self.ready.popleft()
        return message

    def take_bundle(self) -> list[Message]:
        """Hand out what is left of the next envelope that is ready."""
        return list(self.ready.popleft())

    def open(self, *, strict: bool) -> bool:
        """Open what is pending, and put its messages into ``ready``.

        Returns:
            Whether there is something in ``ready`` now; False after refusals.

        Raises:
            StoreUnavailableError: the frames stay in ``pending``.
            RejectedError: refused, if ``strict``.
        """
        if len(self.pending) > 1:
            pending = self.pending
            return self.settle(pending, self.open_each(pending), strict=strict)
        assert self._opener is not None
        frames = self.pending[0]
        try:
            messages = self._opener.open_bundle(frames[-1], bound=frames[:-1])
        except StoreUnavailableError:
            raise  # An outage of the store must not drain a queue.
        except RejectedError as error:
            self.pending = []
            self._report(error, strict=strict)
            return False
        self.pending = []
        self.ready.append(deque(messages))
        return True

    def open_each(self, arrivals: list[list[bytes]]) -> list[list[Message] | RejectedError]:
        """Open arrivals in one go; changes nothing of the seam. May run in a thread."""
        assert self._opener is not None
        return self._opener.open_each(arrivals)

    def settle(
        self,
        arrivals: list[list[bytes]],
        results: list[list[Message] | RejectedError],
        *,
        strict: bool,
    ) -> bool:
        """Put what became of all that was ``pending`` where it belongs; see ``open``."""
        self.pending = []
        refusals: list[RejectedError] = []
        outage: StoreUnavailableError | None = None
        for frames, result in zip(arrivals, results, strict=True):
            if isinstance(result, StoreUnavailableError):
                self.pending.append(frames)
                outage = result
            elif isinstance(result, RejectedError):
                refusals.append(result)
            else:
                self.ready.append(deque(result))
        # Last: what a callback raises loses no message.
        for refusal in refusals:
            self._report(refusal, strict=strict)
        if outage is not None and not self.ready:
            raise outage
        return bool(self.ready)

    def decode(self, message: Message, *, strict: bool) -> tuple[Any] | None:
        """Return the object of a message in a tuple, or None after a refusal.

        Raises:
            MalformedError: the payload is no object, if ``strict``.
        """
        assert self._opener is not None
        try:
            return (message.object(),)
        except MalformedError as error:
            self._opener.refuse(error, message)
            self._report(error, strict=strict)
            return None

    def _report(self, error: RejectedError, *, strict: bool) -> None:
        if self._on_rejected is not None:
            self._on_rejected(error)
        if strict:
            raise error


def check_flags(flags: int) -> None:
    """Check the flags of a send or a receive.

    Raises:
        UsageError: others than NOBLOCK. With SNDMORE the next message would become
            a part of this one.
    """
    if flags & ~zmq.NOBLOCK:
        raise UsageError("flags are zmq.NOBLOCK or 0")


def _as_topic(topic: Topic) -> bytes | None:
    if type(topic) is str:
        try:
            return topic.encode()
        except UnicodeEncodeError:
            raise UsageError("topic cannot be encoded as UTF-8") from None
    if topic is not None and type(topic) is not bytes:
        raise UsageError("topic is bytes or str")
    return topic


def _chunks(payloads: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Split payloads by count and bytes; at least one in each."""
    if type(payloads) not in (list, tuple):
        raise UsageError("payloads is a list of bytes")
    chunk: list[bytes] = []
    size = 0
    for payload in payloads:
        if type(payload) is not bytes:
            raise UsageError("payloads is a list of bytes")
        if chunk and (len(chunk) >= _MAX_COUNT or size + len(payload) > _MAX_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(payload)
        size += len(payload)
    if chunk:
        yield chunk


def encode(value: Any) -> bytes:
    """Return the payload of an object; see ``codec.encode_object``."""
    return codec.encode_object(value)
