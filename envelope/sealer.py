"""Payload to envelope: Sealer (SPEC 6).

Rules of this file:

- The order is that of SPEC 6.5. The caller's mistakes are found before a
  sequence is taken.
- The usual path takes no lock: the sequence is an atomic counter, and all that a
  key epoch fixes hangs on one reference that is swapped whole.
- A stream or an epoch that has ended is replaced, never repaired.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NoReturn, Self

from envelope import clock as clocks
from envelope import codec, keyblock, wire
from envelope.arguments import (
    as_bytes,
    check_bound,
    check_bound_count,
    check_context,
    check_message_id,
)
from envelope.audience import Audience, Recipients
from envelope.binding import bind_state, body_digest, context_digest
from envelope.clock import Clock
from envelope.errors import UsageError
from envelope.forks import process
from envelope.identity import Identity, PublicIdentity
from envelope.policy import EPOCH_ENVELOPES, EPOCH_SECONDS, Policy
from envelope.primitives import SIGN_LABEL, Hasher, aead_encrypt, random_bytes, sign
from envelope.stream import Stream
from envelope.trust import Peer
from envelope.wire import BUNDLE, REPLY, pack_times

_HEDGED_PAYLOAD: Final = 1024
"""Bytes of the payload in the nonce (SPEC 6.4)."""
_MAX_TOPICS: Final = 256
"""Bound frames whose hash state is kept; more topics than that cost 2 us each time."""
_MAX_KEPT: Final = 1024
"""Bytes of bound frames that are kept; topics are short, and memory is bounded."""
_DEFAULT_MAX_SIZE: Final = Policy().max_size


class _Epoch:
    """All that stays the same from one envelope to the next."""

    __slots__ = (
        "aead_key",
        "follows",
        "key_block",
        "prefixes",
        "recipients",
        "stream",
        "ticket",
        "until",
    )

    def __init__(  # noqa: PLR0913, PLR0917 (a record)
        self,
        stream: Stream,
        prefixes: tuple[bytes, ...],
        key_block: bytes,
        aead_key: bytes,
        recipients: Recipients,
        until: int,
    ) -> None:
        self.stream = stream
        self.prefixes = prefixes
        self.key_block = key_block
        self.aead_key = aead_key
        self.recipients = recipients
        self.follows = bool(recipients.seen)
        self.until = until
        self.ticket: Callable[[], int] = itertools.count().__next__
        """Counts the envelopes of this epoch; atomic, like the sequence."""


class Sealer:
    """Seals payloads of one identity in one context for one set of recipients.

    Thread-safe: any number of threads may seal at once, and no two envelopes get
    the same sequence. Envelopes leave in the order of their sequences only if one
    thread at a time seals and sends. After a fork the child begins a stream of
    its own by itself. Not copied, not pickled: a copy would repeat sequences.

    Without ``to``, an envelope is signed for everyone in the context.
    """

    def __init__(  # noqa: PLR0913 (what, where, for whom; the rest is handed in)
        self,
        identity: Identity,
        *,
        context: str,
        to: Iterable[PublicIdentity | Peer] = (),
        sealed: bool | None = None,
        max_size: int = _DEFAULT_MAX_SIZE,
        clock: Clock = clocks.wall,
        random: Callable[[int], bytes] = random_bytes,
    ) -> None:
        """Begin a stream.

        Args:
            identity: who signs.
            context: the application's name for this flow, 1 to 255 bytes of
                UTF-8; put the deployment's name in it.
            to: up to 256 recipients. A Peer of a trust store stands for all valid
                keys of its name there, and is dropped when it is revoked.
            sealed: encrypt to the recipients; by default if there are any. False
                with recipients is signed and addressed.
            max_size: bytes of an envelope with its bound frames, at most; a
                receiver's policy has the same default.
            clock: wall clock in Unix microseconds.
            random: returns n random bytes.

        Raises:
            UsageError: an argument that cannot be used.
        """
        if not isinstance(identity, Identity):
            raise UsageError("identity is an Identity, the secret half of a key")
        self._audience = Audience(to)
        self._sealed = bool(self._audience) if sealed is None else sealed
        if type(self._sealed) is not bool:
            raise UsageError("sealed is True, False or None")
        if self._sealed and not self._audience:
            raise UsageError("sealing needs recipients: to=[bob.public]")
        self._context = check_context(context)
        self._identity = identity
        self._max_size = Policy(max_size=max_size).max_size
        self._clock = clock
        self._random = random
        self._unbound = self._bind(())
        self._bound: dict[tuple[bytes, ...], tuple[bytes, Hasher, int]] = {}
        self._lock = threading.RLock()
        process.adopt(self)
        self._epoch = self._begin(clock(), None)

    @property
    def identity(self) -> PublicIdentity:
        """The public half of who signs."""
        return self._identity.public

    @property
    def context(self) -> str:
        """The context that every envelope is bound to."""
        return self._context.decode()

    @property
    def sealed(self) -> bool:
        """Whether payloads are encrypted."""
        return self._sealed

    @property
    def addressed(self) -> bool:
        """Whether envelopes name recipients."""
        return bool(self._audience)

    @property
    def stream(self) -> bytes:
        """The 16-byte id of the stream that the last envelope was in."""
        return self._epoch.stream.id

    @property
    def audience(self) -> tuple[PublicIdentity | Peer, ...]:
        """The recipients as they were given."""
        return self._audience._members  # noqa: SLF001 (its own argument, given back)

    def sibling(self, *, to: Iterable[PublicIdentity | Peer] | None = None) -> Self:
        """Return a sealer with the same settings and a stream of its own.

        One stream for each topic makes a filtered subscriber's gap figures true.

        Args:
            to: other recipients, for an answer to one; by default the same.

        Raises:
            UsageError: as the constructor.
        """
        return type(self)(
            self._identity,
            context=self.context,
            to=self.audience if to is None else to,
            sealed=self._sealed,
            max_size=self._max_size,
            clock=self._clock,
            random=self._random,
        )

    def seal(
        self,
        payload: bytes | bytearray | memoryview,
        *,
        bound: Sequence[bytes] = (),
        in_reply_to: bytes | None = None,
    ) -> bytes:
        """Seal one payload.

        Args:
            payload: any bytes, also none.
            bound: frames that travel beside the envelope and that it is bound
                to, such as a topic: authenticated, not carried.
            in_reply_to: the message id of the request that this answers, 32 bytes.

        Returns:
            The envelope.

        Raises:
            UsageError: an argument of a wrong type or size, or no recipient is
                valid any more. Nothing was consumed.
        """
        if type(payload) is not bytes:
            payload = as_bytes(payload, "payload")
        return self._seal(payload, 0, bound, in_reply_to)

    def seal_bundle(
        self,
        payloads: Sequence[bytes],
        *,
        bound: Sequence[bytes] = (),
        in_reply_to: bytes | None = None,
    ) -> bytes:
        """Seal many payloads under one signature (SPEC 9).

        Args:
            payloads: a list or tuple of 1 to 4096 bytes objects.
            bound: as in ``seal``.
            in_reply_to: as in ``seal``.

        Returns:
            The envelope; ``Opener.open_bundle`` opens it.

        Raises:
            UsageError: as in ``seal``.
        """
        return self._seal(codec.encode_bundle(payloads), BUNDLE, bound, in_reply_to)

    def _seal(
        self, payload: bytes, flags: int, bound: Sequence[bytes], in_reply_to: bytes | None
    ) -> bytes:
        """Steps 1 to 6 of SPEC 6.5; each comment names its step."""
        # 1: the caller's input.
        if bound == ():
            ctx, state, room = self._unbound
        else:
            ctx, state, room = self._bind_to(check_bound(bound))
        reply = b""
        if in_reply_to is not None:
            reply = check_message_id(in_reply_to)
            flags |= REPLY
        # 2 and 3: the time, the epoch, the sequence.
        epoch, sequence, now = self._take(len(payload) + len(reply) - room)
        key_block = epoch.key_block
        # 4 and 5: nonce, HEAD, BIND, body.
        if self._sealed:
            hedged = self._identity._nonce_hedge.copy()  # noqa: SLF001 (one package, one secret)
            hedged.update(
                self._random(32)
                + epoch.stream.id
                + pack_times(sequence, now)
                + ctx
                + payload[:_HEDGED_PAYLOAD]
            )
            nonce = hedged.digest()[:24]
            head = epoch.prefixes[flags] + pack_times(sequence, now) + nonce + reply + key_block
            state = state.copy()
            state.update(head)
            bind = state.digest()
            body = aead_encrypt(payload, bind, nonce, epoch.aead_key)
        else:
            head = (
                epoch.prefixes[flags]
                + pack_times(sequence, now)
                + self._random(24)
                + reply
                + key_block
            )
            state = state.copy()
            state.update(head)
            bind = state.digest()
            body = payload
        # 6: the signature stands before the message in libsodium's combined form.
        secret = self._identity._sign_secret  # noqa: SLF001 (one package, one secret)
        signed = sign(SIGN_LABEL + bind + body_digest(body), secret)
        return b"".join((head, body, signed[: wire.SIGNATURE_SIZE]))

    def _take(self, size: int) -> tuple[_Epoch, int, int]:
        """Return an epoch that is not over, the next sequence of its stream, and the time.

        ``latest`` is read before the clock, so a reading below it means that the
        clock stepped back, whatever other threads do in between.
        """
        while True:
            epoch = self._epoch
            stream = epoch.stream
            latest = stream.latest
            now = self._clock()
            if now < latest or process.life() != stream.life:
                self._renew(epoch, now, None)
            elif now >= epoch.until or (epoch.follows and not epoch.recipients.is_current(now)):
                self._renew(epoch, now, stream)
            elif size + len(epoch.key_block) > 0:
                self._refuse_size()
            elif self._sealed and epoch.ticket() >= EPOCH_ENVELOPES:
                self._renew(epoch, now, stream)
            else:
                sequence = stream.take()
                if sequence < wire.MAX_SEQUENCE:
                    stream.latest = now
                    return epoch, sequence, now
                self._renew(epoch, now, None)

    def _renew(self, old: _Epoch, now: int, stream: Stream | None) -> None:
        """Replace the epoch, unless another thread has done so."""
        with self._lock:
            if self._epoch is old:
                self._epoch = self._begin(now, stream)

    def _begin(self, now: int, stream: Stream | None) -> _Epoch:
        """Make an epoch in a stream, or in a new one (SPEC 6.2, 6.3)."""
        clocks.check(now)
        recipients = self._audience.resolve(now)
        if stream is None:
            stream = Stream(
                self._identity._stream_hedge,  # noqa: SLF001 (one package, one secret)
                now=now,
                ns=clocks.wall_ns(),
                random=self._random,
            )
        if self._sealed:
            key_block, aead_key = keyblock.make(
                self._identity, recipients.keys, stream=stream.id, now=now, random=self._random
            )
            until = min(recipients.until, now + EPOCH_SECONDS * clocks.SECOND)
        else:
            key_block, aead_key = b"".join(key.key_id for key in recipients.keys), b""
            until = recipients.until
        prefixes = tuple(
            wire.encode_prefix(
                kind=wire.SEALED if self._sealed else wire.SIGNED,
                flags=flags,
                recipients=len(recipients.keys),
                sender=self._identity.key_id,
                stream=stream.id,
            )
            for flags in range(4)
        )
        return _Epoch(stream, prefixes, key_block, aead_key, recipients, until)

    def _bind_to(self, bound: tuple[bytes, ...]) -> tuple[bytes, Hasher, int]:
        """Return CTX, the state of BIND and the room for payload; kept for the next time."""
        found = self._bound.get(bound)
        if found is None:
            check_bound_count(bound)
            found = self._bind(bound)
            if len(self._bound) >= _MAX_TOPICS:
                self._bound = {}
            if sum(map(len, bound)) <= _MAX_KEPT:
                self._bound[bound] = found
        return found

    def _bind(self, bound: tuple[bytes, ...]) -> tuple[bytes, Hasher, int]:
        ctx = context_digest(self._context, bound)
        fixed = wire.MIN_SIZE + (wire.TAG_SIZE if self._sealed else 0)
        room = self._max_size - fixed - sum(map(len, bound))
        return ctx, bind_state(self._identity.public.public, ctx), room

    def _refuse_size(self) -> NoReturn:
        raise UsageError(
            f"larger than {self._max_size} bytes; raise max_size here and in the receivers' "
            "policy, or send smaller pieces"
        )

    def __repr__(self) -> str:
        """Return who seals where; no secret."""
        identity = getattr(self, "_identity", None)  # A traceback may show one half made.
        context = getattr(self, "_context", b"").decode()
        return f"<Sealer {identity.key_id.hex() if identity else 'of nobody'} in {context!r}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse to be pickled or copied.

        Raises:
            TypeError: always.
        """
        raise TypeError("a Sealer is not copied or pickled; make another one, or a sibling()")
