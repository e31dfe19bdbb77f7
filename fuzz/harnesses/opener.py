"""Any bytes are messages that their sender signed, once; or a RejectedError that changes nothing.

SPEC 7.2, 7.3, 7.4. The first byte says who opens, how, and beside what; the rest is the
envelope. What opens opens again from warm caches with the same outcome, and is replayed to
whoever remembers it.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from nacl import bindings as sodium
from vectors import reference
from vectors.reference_opener import decode
from vectors.world import BOB, CAROL, NOW

from envelope import Identity, Message, Opener, Peer, Policy, PublicIdentity, TrustStore
from envelope.errors import RejectedError, ReplayedError
from envelope.replay import MemoryReplayStore
from fuzz.envelopes import BOUNDS, CONTEXT, PEERS, REQUEST, VALID, change_envelope
from fuzz.harness import Change

COVERS = ("envelope.opener", "envelope.senders", "envelope.reasons")
SHARE = 4

_CODES = {
    *("too_large", "malformed", "version", "policy", "unknown_sender", "reflected"),
    *("not_trusted", "not_addressed", "stale", "future", "bad_signature", "unseal"),
}
"""All that can be said of a first envelope; the others are about what came before."""
TRUST = TrustStore(
    Peer(name, PublicIdentity(one.pub), contexts=[CONTEXT])
    for name, one in zip(("alice", "bob", "carol"), PEERS, strict=True)
)
BOBS, _CAROL = Identity(BOB.seed), Identity(CAROL.seed)
_SEALED = Policy(require="sealed", addressed=True, max_size=600)
_PLACES: tuple[tuple[list[Identity], Policy], ...] = (
    ([BOBS], Policy()),
    ([BOBS], _SEALED),
    ([_CAROL, BOBS], Policy(accept_own=True)),
    ([], Policy(max_age=0.5, max_future=0)),
)
SEEDS = tuple(
    bytes([how]) + data
    for data in VALID
    for how in (
        4 * (b"topic" in data) | 2 * bool(data[5] & 2) | data[5] & 1,
        64 | 2 * bool(data[5] & 2) | data[5] & 1,
        33 | 4 * (b"topic" in data),
    )
) + tuple(bytes([how]) + VALID[7] for how in (4, 8, 12, 128, 192))


def _clock() -> int:
    return NOW


def check(data: bytes) -> None:
    """Open it, and again."""
    how, envelope = data[0] if data else 0, data[1:]
    opener = _opener(how)
    before = opener.replay.state()  # type: ignore[attr-defined]  # of a MemoryReplayStore
    try:
        messages = _open(opener, how, envelope)
    except RejectedError as error:
        assert error.code in _CODES
        assert opener.replay.state() == before  # type: ignore[attr-defined]  # a memory store
        assert opener.stats.refused == {error.code: 1}
        assert str(error)
        _check_each(how, envelope, error.code)
        return
    _check_signed(messages, how, envelope)
    _check_each(how, envelope, [message.id for message in messages])
    try:
        _open(opener, how, envelope)
    except ReplayedError:
        pass
    else:
        raise AssertionError("delivered twice")
    _check_warm(opener, how, envelope, messages)


def _opener(how: int) -> Opener:
    identities, policy = _PLACES[how >> 6]
    return Opener(
        TRUST,
        context=CONTEXT,
        identity=identities,
        replay=MemoryReplayStore(first_life=True, clock=_clock),
        policy=policy,
        domain="fuzz",
        clock=_clock,
        monotonic=_clock,
    )


def _check_each(how: int, envelope: bytes, expected: str | list[bytes]) -> None:
    """Check that the envelope among others, twice, is what it is alone, once."""
    if how & 35 != 33:
        return
    arrival = [*BOUNDS[how >> 2 & 3], envelope]
    first, second = _opener(how).open_each([arrival, arrival])
    if isinstance(first, RejectedError):
        assert first.code == expected
        assert isinstance(second, RejectedError)
        assert second.code == expected
    else:
        assert [message.id for message in first] == expected
        assert isinstance(second, ReplayedError)


def _open(opener: Opener, how: int, envelope: bytes) -> Sequence[Message]:
    reply = REQUEST if how & 2 else None
    bound = BOUNDS[how >> 2 & 3]
    if how & 1:
        return opener.open_bundle(envelope, bound=bound, in_reply_to=reply)
    return [opener.open(envelope, bound=bound, in_reply_to=reply)]


def _check_signed(messages: Sequence[Message], how: int, envelope: bytes) -> None:
    """Check that what was delivered is what its sender signed."""
    parts = decode(envelope)
    first = messages[0]
    assert first.sender.key_id == parts.sender
    pub = first.sender.public.public
    ctx = reference.context_hash(CONTEXT, BOUNDS[how >> 2 & 3])
    bind = reference.bind_hash(pub, ctx, parts.head)
    signed = parts.signature + reference.signature_input(bind, parts.body)
    sodium.crypto_sign_open(signed, pub[:32])
    payloads = [message.payload for message in messages]
    if parts.kind == reference.SIGNED:
        body = reference.pack_bundle(payloads) if parts.flags & 1 else payloads[0]
        assert body == parts.body
    for index, message in enumerate(messages):
        assert message.id == reference.message_id(parts.head, parts.body, index)
    assert (first.stream, first.sequence) == (parts.stream, parts.sequence)
    assert (first.sent_at, first.in_reply_to or b"") == (parts.sent_at, parts.in_reply_to)


def _check_warm(opener: Opener, how: int, envelope: bytes, messages: Sequence[Message]) -> None:
    """Check that caches change nothing: the memory forgets, the caches do not."""
    for sender in opener._senders._met[1].values():  # noqa: SLF001 (only the memory is lost)
        sender.guard._entries.clear()  # type: ignore[attr-defined]  # noqa: SLF001
    again = _open(opener, how, envelope)
    assert [one.payload for one in again] == [one.payload for one in messages]


def mutate(data: bytes, max_size: int, random: Random, change: Change) -> bytes:
    """Change one thing in the envelope, and sign again."""
    how = data[0] if data else 0
    if random.randrange(8) == 0:
        how = random.randrange(256)
        return bytes([how]) + data[1:]
    envelope = change_envelope(data[1:], max_size - 1, random, change, bound=how >> 2 & 3)
    if random.randrange(2) and len(envelope) > 5:
        # As whoever waits for this would open it.
        how = (how & ~3) | (envelope[5] & 3)
    return bytes([how]) + envelope[: max_size - 1]
