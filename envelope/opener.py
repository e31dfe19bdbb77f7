"""Envelope to Message or RejectedError: Opener (SPEC 7).

The order of checks. The first one that fails decides the code; what stands
above a line has not been touched by what stands below it.

 1. size                                  too_large
 2. strict decode of the header           malformed, version
 3. policy: kind, addressed, bundle,      policy
    reply
 4. trust, one snapshot from here on:     unknown_sender, reflected, not_trusted
    sender, own, dates, context, topic
 5. addressed to me                       not_addressed
 6. freshness                             stale, future
 7. peek at the replay memory             before_start, too_old, replayed
    ------ no state of a sender is written above this line ------
 8. signature                             bad_signature
 9. unseal: cached key, or unwrap and     unseal
    commitment; then the AEAD
10. bundle                                malformed
11. mark: check again and remember, in    before_start, too_old, replayed,
    one step                              store_unavailable; future by the clock
                                          of a shared store
    ------ nothing fails below this line ------
12. caches, counters, delivery

Rules of this file: nothing before 8 writes state for a sender, except caches that
are a function of the trust store alone; 11 is the only writer of replay state;
nothing after 11 can fail. Any bytes at all end in a Message or a RejectedError.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Collection, Sequence
from typing import Any, Final, Literal, NamedTuple, Self

from envelope import clock as clocks
from envelope import codec, keyblock, reasons, wire
from envelope.arguments import as_bytes, check_bound, check_context, check_message_id
from envelope.binding import body_digest
from envelope.clock import Clock
from envelope.errors import (
    BadSignatureError,
    FutureError,
    NotAddressedError,
    NotTrustedError,
    PolicyError,
    ReflectedError,
    RejectedError,
    StaleError,
    TooLargeError,
    UnsealError,
    UsageError,
)
from envelope.identity import Identity
from envelope.message import Arrival, Bundle, Message, identify
from envelope.policy import MAX_BOUND_FRAMES, Policy
from envelope.primitives import SIGN_LABEL, CryptoError, aead_decrypt, verify
from envelope.replay import Batch, Mark, MemoryReplayStore, ReplayGuard, ReplayStore
from envelope.resync import UNJUDGED, Asking, Challenge, YoungStreams
from envelope.senders import Place, Sender, Senders, bind, domain_name, own_identities
from envelope.stats import Stats, Tally
from envelope.stream import began_here
from envelope.trust import TrustStore
from envelope.wire import BUNDLE, SEALED, decode_fields, header_of
from envelope.workers import work_off

_HORIZON: Final = 10
"""Streams idle for ten times max_age (and a day at least) may be forgotten."""
_DAY: Final = 86_400 * clocks.SECOND

_Verified = tuple[
    Sender,
    wire.Header,
    tuple[bytes, ...],
    tuple[Identity, bytes] | None,
    bytes,
    bytes,
    bytes,
    bytes,
    int,
]
"""What steps 1 to 8 leave: the sender, the header, the bound frames, the identity
addressed and its entry, HEAD, BIND's digest, the body, the body's digest, and now. A
plain tuple: it is made for every envelope."""
_Read = tuple[list[bytes], bytes | None, bytes | None]
"""Payloads, the place of the AEAD key in the cache, the AEAD key; None if the body is it."""
_Delivered = tuple[list[bytes], Arrival]
"""Payloads, and what they share."""
_PENDING: Any = None
"""Holds a place among results."""


class _Held(NamedTuple):
    """What of one sender waits to be marked, and what is needed after that.

    Few objects for each envelope: what waits is what the garbage collector looks at.
    """

    marks: list[Mark]
    places: list[int]
    """In the batch."""
    verified: list[_Verified]
    read: list[_Read | None]


class Opener:
    """Opens envelopes in one context: the receiver's side of every rule.

    Thread-safe: any number of threads may open at once, and one envelope is
    delivered to one of them. Messages of one stream come in the order in which
    they are opened.

    Attributes:
        context: the context that every envelope must be bound to.
        policy: what is required.
        trust: whom to believe.
        replay: the replay memory.
        domain: the replay domain's name in it.
    """

    def __init__(  # noqa: PLR0913 (whom to believe, where, as whom; the rest has defaults)
        self,
        trust: TrustStore,
        *,
        context: str,
        identity: Identity | Sequence[Identity] | None = None,
        replay: ReplayStore | None = None,
        policy: Policy | None = None,
        domain: str | None = None,
        clock: Clock = clocks.wall,
        monotonic: Clock = clocks.monotonic,
    ) -> None:
        """Begin to receive.

        Args:
            trust: whom to believe, and for what.
            context: as the senders name this flow.
            identity: the receiver's own, or several during a rotation, the one to
                prefer first. None opens what is for everyone in the context.
            replay: the replay memory; by default a new ``MemoryReplayStore``, which
                begins cold: for ``max_future`` after its start it refuses what other
                processes send.
            policy: what to require; by default at least signed, 30 s old at most.
            domain: name of the replay domain, by default the key id of the
                identity in hexadecimal. To be named if a store is shared without an
                identity, or by several identities (keep the name across a rotation).
            clock: wall clock in Unix microseconds.
            monotonic: microseconds that never step back; spaces log lines, times challenges.

        Raises:
            UsageError: an argument that cannot be used.
        """
        if not isinstance(trust, TrustStore):
            raise UsageError("trust is a TrustStore, such as TrustStore.load(path)")
        if policy is not None and not isinstance(policy, Policy):
            raise UsageError("policy is a Policy, such as Policy(max_age=5)")
        if replay is not None and not isinstance(replay, ReplayStore):
            raise UsageError(
                "replay is a ReplayStore, such as MemoryReplayStore() or SQLiteReplayStore(path)"
            )
        self.own: dict[bytes, Identity] = own_identities(identity)
        self.domain = domain_name(domain, self.own, shared=replay is not None)
        encoded = check_context(context)
        self.context = context
        self.trust = trust
        self.policy = Policy() if policy is None else policy
        if replay is None:
            replay = MemoryReplayStore(max_future=self.policy.max_future, clock=clock)
        elif self.policy.max_future > replay.max_future:
            raise UsageError(
                f"this store covers a max_future of {replay.max_future} s at its cold start, the "
                f"policy allows {self.policy.max_future} s; give the store max_future too"
            )
        self.replay = replay
        self._max_age = clocks.microseconds(self.policy.max_age)
        self._max_future = clocks.microseconds(self.policy.max_future)
        self._keep = max(_DAY, _HORIZON * self._max_age)
        self._watch = clocks.HighWater(clock, tolerance=self._max_future)
        self._tally = Tally(monotonic, context=context, own=self.own, trust=trust)
        self._monotonic = monotonic
        self._began = monotonic()
        self._young = YoungStreams()
        self._place = Place(context, encoded, frozenset(self.own), self.domain, self.replay)
        self._senders = Senders(self._place, trust.snapshot, self._tally)
        self._name_of = self._senders.name_of

    def open(
        self,
        data: bytes,
        *,
        bound: Sequence[bytes] = (),
        in_reply_to: bytes | None = None,
        asked: Collection[bytes] | None = None,
    ) -> Message:
        """Open one envelope that holds one payload.

        Args:
            data: the envelope as it arrived.
            bound: the frames that travelled beside it, such as a topic.
            in_reply_to: the message id of the request, if this is to be its reply;
                a request that was made after the replay store began, never one of an
                earlier life (SPEC 8.7).
            asked: the key ids that may reply, such as ``recipients_of(request)``; by
                default those of all who may send in this context.

        Returns:
            The message: authentic, fresh, and delivered for the first time.

        Raises:
            RejectedError: refused; the subclass and its ``code`` say why, and
                nothing was changed.
            UsageError: the caller's mistake: arguments of wrong types.
        """
        if type(data) is not bytes:
            data = as_bytes(data, "an envelope")
        try:
            asking = None if in_reply_to is None else _asking(in_reply_to, asked)
            payloads, arrival = self._deliver(self._check(data, bound, asking, 0))
            return Message(payloads[0], 0, arrival)
        except RejectedError as error:
            self._tally.refuse(error, self._name_of, data)
            raise

    def open_bundle(
        self,
        data: bytes,
        *,
        bound: Sequence[bytes] = (),
        in_reply_to: bytes | None = None,
        asked: Collection[bytes] | None = None,
    ) -> Bundle:
        """Open one envelope that may be a bundle (SPEC 9).

        Args:
            data: as in ``open``.
            bound: as in ``open``.
            in_reply_to: as in ``open``.
            asked: as in ``open``.

        Returns:
            Its messages, in order; one if it is no bundle. Whoever needs their payloads
            alone takes ``payloads`` of it, which makes no messages.

        Raises:
            RejectedError: as in ``open``; a bundle is delivered whole or not at all.
            UsageError: as in ``open``.
        """
        if type(data) is not bytes:
            data = as_bytes(data, "an envelope")
        try:
            asking = None if in_reply_to is None else _asking(in_reply_to, asked)
            return Bundle(*self._deliver(self._check(data, bound, asking, BUNDLE)))
        except RejectedError as error:
            self._tally.refuse(error, self._name_of, data)
            raise

    def open_each(
        self, arrivals: Sequence[Sequence[bytes]], *, workers: int = 1
    ) -> list[Bundle | RejectedError]:
        """Open several envelopes, each on its own; one round trip to a shared store.

        For whoever has a batch at hand, and a replay store that waits for a network or
        processors that are idle: the rules are those of ``open_bundle``, and a refusal
        refuses its own alone. The peek (step 7) knows nothing of what is in the same
        batch, the mark does.

        Args:
            arrivals: for each the bound frames that travelled beside it, and last the
                envelope: what ``recv_multipart`` returns.
            workers: threads that check and decrypt, this one among them. Signatures
                are verified without the GIL: 64 single envelopes or more at once gain
                with each processor, bundles little. Marks and results keep their order.

        Returns:
            In the same order, for each its messages, or what ``open_bundle`` would have
            raised.

        Raises:
            UsageError: something else than that; nothing was opened.
        """
        if type(arrivals) not in (list, tuple):
            raise UsageError("arrivals is a list of lists of frames")
        if not all(map(check_bound, arrivals)):
            raise UsageError("an arrival has at least one frame, the envelope")
        if type(workers) is not int or workers < 1:
            raise UsageError("workers is a number of threads, 1 or more")
        results: list[Bundle | RejectedError] = []
        held: dict[ReplayGuard, _Held] = {}
        for index, judged in enumerate(work_off(self._judge, arrivals, workers)):
            if isinstance(judged, RejectedError):
                results.append(self._refused(judged, arrivals[index][-1]))
                continue
            verified, read = judged
            sender, header = verified[0], verified[1]
            results.append(_PENDING)
            one = held.get(sender.guard)
            if one is None:
                one = held[sender.guard] = _Held([], [], [], [])
            is_expected = bool(self._young and header.sender + header.stream in self._young)
            one.marks.append(Mark(header.stream, header.sequence, header.sent_at, is_expected))
            one.places.append(index)
            one.verified.append(verified)
            one.read.append(read)
        limits = self.policy.max_streams, self.policy.window, self._watch.last - self._keep
        batches = [Batch(guard, one.marks, *limits) for guard, one in held.items()]
        for one, marked in zip(held.values(), self.replay.mark_each(batches), strict=True):
            for result, index, verified, read in zip(marked, *one[1:], strict=True):
                if isinstance(result, RejectedError):
                    result.verified = True
                    results[index] = self._refused(result, arrivals[index][-1])
                else:
                    results[index] = Bundle(*self._hand_over(verified, read, result))
        return results

    def _judge(self, frames: Sequence[bytes]) -> tuple[_Verified, _Read | None] | RejectedError:
        """Steps 1 to 10 of SPEC 7.2, for one of several."""
        try:
            verified = self._check(frames[-1], tuple(frames[:-1]), None, BUNDLE)
            sender, header = verified[0], verified[1]
            if sender.tally is None:
                self._senders.meet(sender)
            return verified, self._read(verified) if header.kind == SEALED or header.flags else None
        except RejectedError as error:
            return error

    def challenge(self, data: bytes, *, bound: Sequence[bytes] = ()) -> Challenge:
        """Verify what was not fresh, so that its sender can be challenged (SPEC 16.5).

        It is marked and never delivered here. Refusals are not counted again.

        Args:
            data: an envelope that ``open`` refused as stale, future or before_start.
            bound: as in ``open``.

        Returns:
            Who sent it, its message id, and the age of this memory.

        Raises:
            RejectedError: it was marked before, or is wrong in another way too.
            UsageError: as in ``open``; or the replay memory is shared, so that its age
                is not known here.
        """
        if self.replay.is_remote:
            raise UsageError("a shared replay memory does not challenge (SPEC 16.5)")
        verified = self._check(as_bytes(data, "an envelope"), bound, UNJUDGED, 0)
        sender, header, _, _, head, _, _, digest, now = verified
        sender.guard.mark(
            header.stream,
            header.sequence,
            header.sent_at,
            full_at=self.policy.max_streams,
            window=self.policy.window,
            expected=True,
            forget_before=now - self._keep,
        )
        age = self._monotonic() - self._began
        return Challenge(sender.peer, identify(head, digest, 0), age)

    def answer(
        self,
        data: bytes,
        *,
        bound: Sequence[bytes] = (),
        in_reply_to: bytes,
        asked: Collection[bytes] | None,
        since: int,
    ) -> Message:
        """Open the answer to a challenge: fresh by what it names (SPEC 7.7).

        If it is the first of its stream, the stream is known to be young: the cold start
        does not refuse it, and its own clock tells whether it is fresh. Not so with a
        shared replay memory, which others have marked in.

        Args:
            data: as in ``open``.
            bound: as in ``open``.
            in_reply_to: the message id of the challenge.
            asked: the key ids that may answer, as in ``open``.
            since: when, by the opener's monotonic clock, microseconds.

        Raises:
            RejectedError: as in ``open``.
            UsageError: as in ``open``.
        """
        try:
            asking = Asking(check_message_id(in_reply_to), asked, since)
            checked = self._check(as_bytes(data, "an envelope"), bound, asking, 0)
            payloads, arrival = self._deliver(checked)
            message = Message(payloads[0], 0, arrival)
        except RejectedError as error:
            self._tally.refuse(error, self._name_of, data)
            raise
        if message.sequence == 0 and not self.replay.is_remote:
            origin = message.sender.key_id + message.stream
            now = self._monotonic()
            self._young.add(origin, sent_at=message.sent_at, since=since, now=now)
        return message

    def monotonic(self) -> int:
        """Return the reading of the clock that challenges are timed by, microseconds."""
        return self._monotonic()

    def wall(self) -> int:
        """Return the last reading of the wall clock: that of the envelope opened last."""
        return self._watch.last

    def stricter(
        self, *, require: Literal["signed", "sealed"] = "signed", addressed: bool = False
    ) -> Self:
        """Return an opener that requires more and shares all else with this one.

        Replay memory, counters and caches are the same. It never requires less.
        """
        policy = self.policy
        if policy.require == "sealed":
            require = "sealed"
        twin = copy.copy(self)
        twin.policy = dataclasses.replace(
            policy, require=require, addressed=addressed or policy.addressed
        )
        return twin

    def refuse(self, error: RejectedError, message: Message | None = None) -> None:
        """Count and log a refusal of another layer: of a message's payload, or of no envelope."""
        if message is not None:
            error.claimed_sender, error.verified = message.sender.key_id, True
        self._tally.refuse(error, self._name_of)

    @property
    def stats(self) -> Stats:
        """One reading of the counters; may be taken at any time, from any thread."""
        return self._tally.read(self._watch.steps)

    def reset_clock(self) -> None:
        """Accept that the wall clock was set back: freshness follows it again.

        The replay memory is not touched; it does not reason with clocks.
        """
        self._watch.reset()

    def _check(  # noqa: C901 (the order of checks is one list, and read as one)
        self,
        data: bytes,
        bound: Sequence[bytes],
        asking: Asking | None,
        bundles: int,
    ) -> _Verified:
        """Steps 1 to 8 of SPEC 7.2; ``_deliver`` has the others."""
        policy = self.policy
        # The caller's mistakes, and 1: size.
        size = len(data)
        if bound != ():
            bound = check_bound(bound)
            size += _size_of(bound)
        if size > policy.max_size:
            raise TooLargeError(f"{size} bytes, larger than {policy.max_size} bytes")
        # 2: decode.
        fields = decode_fields(data)
        kind, flags, n, key_id, stream, sequence, sent_at, reply, key_block, body_at = fields
        # 3: policy.
        if (
            (kind != SEALED and policy.require == "sealed")
            or (policy.addressed and not n)
            or flags & BUNDLE > bundles
            or reply != (None if asking is None else asking.id)
        ):
            raise PolicyError(reasons.policy(policy, header_of(fields), bundles))
        if asking is not None and asking.senders is not None and key_id not in asking.senders:
            raise PolicyError(reasons.NOT_ASKED)
        # 4: trust, by one snapshot.
        now = self._watch.now()
        snapshot = self.trust.current(self._watch.last)
        sender = self._senders.find(snapshot, key_id)
        if sender.is_own and (not policy.accept_own or began_here(stream) is not None):
            raise ReflectedError
        if not (sender.begins <= now < sender.ends and sender.is_allowed):
            raise NotTrustedError(reasons.not_trusted(sender.peer, self.context, now))
        if bound or sender.unbound is None:
            state = sender.bound.get(bound)
            if state is None:
                state = bind(sender.peer, self._place, bound)
        else:
            state = sender.unbound
        # 5: addressed to me.
        own = self._find_own(data, kind, key_block, body_at) if n else None
        # 6: freshness.
        if not now - self._max_age <= sent_at <= now + self._max_future:
            self._check_by_challenge(key_id + stream, sent_at, now, asking)
        # 7: peek.
        if asking is not UNJUDGED:
            full_at, expected = (
                policy.max_streams,
                reply is not None or bool(self._young and key_id + stream in self._young),
            )
            sender.guard.check(stream, sequence, sent_at, full_at=full_at, expected=expected)
        # 8: signature.
        head = data[:body_at]
        state = state.copy()
        state.update(head)
        bind_digest = state.digest()
        body = data[body_at : -wire.SIGNATURE_SIZE]
        digest = body_digest(body)
        try:
            verify(
                data[-wire.SIGNATURE_SIZE :] + SIGN_LABEL + bind_digest + digest, sender.signing_key
            )
        except CryptoError:
            raise BadSignatureError from None
        return sender, header_of(fields), bound, own, head, bind_digest, body, digest, now

    def _deliver(self, verified: _Verified) -> _Delivered:
        """Steps 9 to 12 of SPEC 7.2."""
        sender, header, now = verified[0], verified[1], verified[8]
        # The first that is known of a sender: its signature. From here on it is counted.
        if sender.tally is None:
            self._senders.meet(sender)
        read: _Read | None = None
        try:
            if header.kind == SEALED or header.flags:
                read = self._read(verified)
            # 11: mark.
            skipped = sender.guard.mark(
                header.stream,
                header.sequence,
                header.sent_at,
                full_at=self.policy.max_streams,
                window=self.policy.window,
                expected=header.in_reply_to is not None
                or bool(self._young and header.sender + header.stream in self._young),
                forget_before=now - self._keep,
            )
        except RejectedError as error:
            error.verified = True
            # Whoever reports errors with the values of variables reports no payload, no key.
            read = None
            raise
        return self._hand_over(verified, read, skipped)

    def _read(self, verified: _Verified) -> _Read:
        """Steps 9 and 10 of SPEC 7.2: return payloads, the cache's key, the AEAD key."""
        sender, header, _, own, head, bind_digest, body, _, _ = verified
        cache_key = aead_key = None
        try:
            # 9: unseal.
            if header.kind == SEALED and own is not None:
                identity, entry = own
                keys = head[header.key_block : header.key_block + wire.KEYS_SIZE]
                cache_key = header.stream + keys + entry
                aead_key = sender.keys.get(cache_key) or keyblock.unwrap(
                    identity, sender.peer.public, stream=header.stream, keys=keys, entry=entry
                )
                body = _decrypt(body, bind_digest, head[wire.NONCE_AT : wire.FIXED_SIZE], aead_key)
            # 10: bundle.
            if header.flags & BUNDLE:
                return codec.decode_bundle(body), cache_key, aead_key
        except RejectedError as error:
            error.verified = True
            body, aead_key = b"", None  # As in _deliver.
            raise
        return [body], cache_key, aead_key

    def _hand_over(self, verified: _Verified, read: _Read | None, skipped: int) -> _Delivered:
        """Step 12 of SPEC 7.2: caches, counters, delivery."""
        sender, header, bound, _, head, _, body, digest, _ = verified
        payloads, cache_key, aead_key = ([body], None, None) if read is None else read
        if (bound and bound not in sender.bound) or (
            cache_key is not None and cache_key not in sender.keys
        ):
            self._senders.remember(sender, bound, cache_key, aead_key)
        self._tally.accept(sender.tally or self._senders.meet(sender), len(payloads))
        return payloads, Arrival(sender.peer, header, self.context, bound, skipped, head, digest)

    def _check_by_challenge(
        self, origin: bytes, sent_at: int, now: int, asking: Asking | None
    ) -> None:
        """Judge what step 6 would refuse by what was challenged (SPEC 7.7)."""
        if asking is UNJUDGED:
            return
        monotonic = self._monotonic()
        if (
            asking is not None
            and asking.since is not None
            and monotonic - asking.since <= self._max_age
        ):
            return
        # What is ahead of this clock, and names nothing of this life, would be accepted again
        # by the next life of a memory that is lost: its cold start reaches only max_future.
        is_covered = sent_at <= now + self._max_future or self.replay.is_durable
        if (is_covered or asking is not None) and self._young.is_fresh(
            origin,
            sent_at,
            now=monotonic,
            max_age=self._max_age,
            max_future=self._max_future,
        ):
            return
        if sent_at > now:
            raise FutureError(reasons.future(self.policy, sent_at - now))
        raise StaleError(reasons.stale(self.policy, now - sent_at, is_back=self._watch.is_back))

    def _find_own(self, data: bytes, kind: int, start: int, end: int) -> tuple[Identity, bytes]:
        """Return the identity that is addressed, and its entry in the key block."""
        step = wire.KEY_ID_SIZE
        if kind == SEALED:
            start, step = start + wire.KEYS_SIZE, wire.ENTRY_SIZE
        for key_id, identity in self.own.items():
            at = wire.find_entry(data, start, end, step, key_id)
            if at >= 0:
                return identity, data[at : at + step]
        raise NotAddressedError

    def _refused(self, error: RejectedError, data: bytes) -> RejectedError:
        """Refuse, and return the error without the frames that it came through."""
        self._tally.refuse(error, self._name_of, data)
        error.__context__ = None
        return error.with_traceback(None)

    def __repr__(self) -> str:
        """Return where it opens and for whom."""
        context = getattr(self, "context", None)  # A traceback may show one half made.
        own = ", ".join(key_id.hex() for key_id in getattr(self, "own", ())) or "everyone"
        return f"<Opener in {context!r} for {own}>"


def _asking(in_reply_to: bytes, asked: Collection[bytes] | None) -> Asking:
    return Asking(check_message_id(in_reply_to), asked)


def _decrypt(body: bytes, bind_digest: bytes, nonce: bytes, aead_key: bytes) -> bytes:
    try:
        return aead_decrypt(body, bind_digest, nonce, aead_key)
    except CryptoError:
        raise UnsealError("the ciphertext does not open") from None


def _size_of(bound: tuple[bytes, ...]) -> int:
    if len(bound) > MAX_BOUND_FRAMES:
        raise TooLargeError(f"more than {MAX_BOUND_FRAMES} bound frames")
    return sum(map(len, bound))
