"""Whatever arrives, in whatever order, the package and the reference come to one verdict.

SPEC 7, 8. The first byte is the place; then pieces, each a byte that says how it is opened,
one that moves the clock, and the envelope.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from vectors.reference import Peer as ReferencePeer
from vectors.reference_opener import Policy as ReferencePolicy
from vectors.reference_opener import Receiver, Refused
from vectors.world import ALICE, BOB, CAROL, NOW, SECOND

from envelope import Identity, Message, Opener, Peer, Policy, PublicIdentity, TrustStore
from envelope.errors import RejectedError
from envelope.replay import MemoryReplayStore
from fuzz.envelopes import BOUNDS, CONTEXT, REQUEST, VALID, change_envelope
from fuzz.harness import Change
from fuzz.mutations import join, pieces_mutator, split

COVERS = ("envelope.opener", "envelope.replay.guard", "envelope.trust")
SHARE = 4

_TOPICS = [b"top"]
_TRUST = TrustStore(
    [
        Peer("alice", PublicIdentity(ALICE.pub), contexts=[CONTEXT]),
        Peer("bob", PublicIdentity(BOB.pub), contexts=["*"]),
        Peer("carol", PublicIdentity(CAROL.pub), contexts=[CONTEXT, "else"], topics=_TOPICS),
    ]
)
_REFERENCE_TRUST = [
    ReferencePeer("alice", ALICE.pub, [CONTEXT]),
    ReferencePeer("bob", BOB.pub, ["*"]),
    ReferencePeer("carol", CAROL.pub, [CONTEXT, "else"], _TOPICS),
]
_LIMIT = 6


class _Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now


class _Both:
    """The package's receiver and the reference's, of the same place and policy."""

    def __init__(self, place: int) -> None:
        self.clock = _Clock()
        own = ((BOB,), (BOB, CAROL), (CAROL, BOB), ())[place & 3]
        sealed = bool(place & 4)
        accept_own, few = bool(place & 8), bool(place & 16)
        cold = NOW - 10 * SECOND if place & 32 else None
        streams, window = (2, 64) if few else (64, 4096)
        self.reference = Receiver(
            _REFERENCE_TRUST,
            CONTEXT,
            list(own),
            ReferencePolicy(
                require="sealed" if sealed else "signed",
                addressed=sealed,
                accept_own=accept_own,
                window=window,
                max_streams=streams,
            ),
            cold=cold,
        )
        self.reference.now = NOW  # The package's receiver reads its clock when it is made.
        policy = Policy(
            require="sealed" if sealed else "signed",
            addressed=sealed,
            accept_own=accept_own,
            window=window,
            max_streams=streams,
        )
        store = MemoryReplayStore(
            first_life=cold is None, clock=lambda: NOW - 12 * SECOND, max_future=2
        )
        self.opener = Opener(
            _TRUST,
            context=CONTEXT,
            identity=[Identity(one.seed) for one in own],
            replay=store,
            policy=policy,
            domain="fuzz",
            clock=self.clock,
            monotonic=self.clock,
        )

    def open(self, how: int, data: bytes) -> None:
        """Open with both."""
        bound, reply, bundle = BOUNDS[how >> 2 & 3], REQUEST if how & 2 else None, bool(how & 1)
        try:
            messages = self.reference.open(
                data, clock=self.clock.now, bound=bound, in_reply_to=reply, bundle=bundle
            )
            expected = [(one.payload, one.id, one.skipped, one.sender) for one in messages]
            verdict = "ok"
        except Refused as refused:
            expected, verdict = [], refused.code
        opened: Sequence[Message]
        try:
            if bundle:
                opened = self.opener.open_bundle(data, bound=bound, in_reply_to=reply)
            else:
                opened = [self.opener.open(data, bound=bound, in_reply_to=reply)]
            got = [(one.payload, one.id, one.skipped, one.sender.name) for one in opened]
            ours = "ok"
        except RejectedError as error:
            got, ours = [], error.code
        assert (ours, got) == (verdict, expected)


def _piece(data: bytes, *, how: int = 0, step: int = 128) -> bytes:
    how |= 4 * (b"topic" in data) | data[5] & 3
    return bytes([how, step]) + data


SEEDS = (
    *(b"\0" + join([_piece(data)]) for data in VALID),
    b"\0" + join([_piece(VALID[0]), _piece(VALID[0], step=129), _piece(VALID[6])]),
    b"\x11" + join([_piece(VALID[6]), _piece(VALID[10]), _piece(VALID[11]), _piece(VALID[6])]),
    b"\x24" + join([_piece(VALID[6], step=100), _piece(VALID[7], step=140)]),
    b"\x28" + join([_piece(VALID[5]), _piece(VALID[12])]),
)


def check(data: bytes) -> None:
    """Open piece by piece."""
    both = _Both(data[0] if data else 0)
    for piece in split(data[1:], _LIMIT):
        how, step = piece[:2].ljust(2, b"\x80")
        both.clock.now += (step - 128) * SECOND // 4
        both.open(how, piece[2:])


def _change_piece(piece: bytes, max_size: int, random: Random, change: Change) -> bytes:
    how, step = piece[:2].ljust(2, b"\x80")
    match random.randrange(8):
        case 0:
            how = random.randrange(16)
        case 1:
            step = random.choice((128, 127, 136, 244, 255, 0, random.randrange(256)))
    data = change_envelope(piece[2:], max_size, random, change, bound=how >> 2 & 3)
    if random.randrange(2) and len(data) > 5:
        how = (how & ~3) | (data[5] & 3)
    return bytes([how, step]) + data


_change = pieces_mutator(_LIMIT, lambda random: _piece(random.choice(VALID)), _change_piece)


def mutate(data: bytes, max_size: int, random: Random, change: Change) -> bytes:
    """Change one envelope and sign it again, or the order in which they come."""
    place = random.randrange(256) if random.randrange(8) == 0 else (data or b"\0")[0]
    return bytes([place]) + _change(data[1:], max_size - 1, random, change)
