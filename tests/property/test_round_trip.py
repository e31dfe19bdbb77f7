"""Whatever is sealed opens as it was, once, for those it is for (SPEC 4 to 9)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import START, World, identity

from envelope import Peer, message_id
from envelope.errors import NotAddressedError, ReplayedError

PEOPLE = [identity(f"recipient {number}") for number in range(256)]
BOB = identity("bob")

payloads = st.one_of(st.binary(max_size=300), st.sampled_from([b"", bytes(1024), bytes(70_000)]))
frames = st.lists(st.binary(max_size=40), max_size=5)
message_ids = st.none() | st.binary(min_size=32, max_size=32)
audiences = st.one_of(st.just([]), st.lists(st.sampled_from(PEOPLE[:20]), max_size=6, unique=True))
later = st.lists(st.integers(0, 30_000_000), min_size=1, max_size=4)


@given(payloads, frames, message_ids, audiences, st.booleans(), st.text("abé.*/ ", min_size=1))
def test_one_payload(payload, bound, request, others, sealed, context):
    world = World()
    everyone = [BOB, *others]
    to = [one.public for one in everyone] if others or sealed else []
    world.trust.replace([Peer("alice", world.alice.public, contexts=["*"])])
    sealer = world.sealer(to=to, sealed=sealed, context=context)
    data = sealer.seal(payload, bound=bound, in_reply_to=request)
    for one in everyone if to else [BOB]:
        opener = world.opener(one, context=context)
        message = opener.open(data, bound=bound, in_reply_to=request)
        assert message.payload == payload
        assert (message.bound, message.in_reply_to) == (tuple(bound), request)
        assert (message.context, message.sealed) == (context, sealed)
        assert (message.sequence, message.skipped, message.sent_at) == (0, 0, START)
        assert message.sender.public == world.alice.public
        assert message.id == message_id(data)
        with pytest.raises(ReplayedError):
            opener.open(data, bound=bound, in_reply_to=request)
    if to:
        with pytest.raises(NotAddressedError):
            world.opener(PEOPLE[200], context=context).open(data, bound=bound, in_reply_to=request)
    if sealed and len(payload) > 8:
        assert payload not in data[-80 - len(payload) :]


@given(st.lists(payloads, min_size=1, max_size=20), frames, message_ids, st.booleans())
def test_a_bundle(many, bound, request, sealed):
    world = World()
    sealer = world.sealer(to=[BOB.public] if sealed else [])
    data = sealer.seal_bundle(many, bound=bound, in_reply_to=request)
    opener = world.opener()
    messages = opener.open_bundle(data, bound=bound, in_reply_to=request)
    assert [message.payload for message in messages] == many
    assert [message.index for message in messages] == list(range(len(many)))
    assert [message.id for message in messages] == [
        message_id(data, index) for index in range(len(many))
    ]
    assert len({message.id for message in messages}) == len(many)
    assert opener.stats.messages == len(many)
    with pytest.raises(ReplayedError):
        opener.open_bundle(data, bound=bound, in_reply_to=request)


@pytest.mark.parametrize("count", [1, 2, 3, 16, 255, 256])
@pytest.mark.parametrize("sealed", [True, False])
def test_so_many_recipients(count, sealed):
    world = World()
    chosen = PEOPLE[:count]
    data = world.sealer(to=[one.public for one in chosen], sealed=sealed).seal(b"payload")
    overhead = 144 + (80 + 64 * count if sealed else 16 * count)
    assert len(data) == overhead + len(b"payload")
    for one in {chosen[0], chosen[count // 2], chosen[-1]}:
        assert world.opener(one).open(data).payload == b"payload"


@pytest.mark.audit("A21")
@given(st.permutations(range(12)), st.booleans(), later)
def test_a_stream_in_any_order_is_delivered_whole_and_counted_right(order, sealed, steps):
    world = World()
    sealer, opener = world.sealer(to=[BOB.public] if sealed else []), world.opener()
    sent = [sealer.seal(b"%d" % number) for number in range(12)]
    seen, total = set(), 0
    for number in order:
        message = opener.open(sent[number])
        assert message.payload == b"%d" % number
        top = max(seen, default=-1)
        assert message.skipped == max(0, number - top - 1)
        total += message.skipped
        seen.add(number)
        world.clock.now = START + steps[number % len(steps)]
    figures = opener.stats.senders["alice"]
    assert (figures.accepted, figures.missing, figures.lost, figures.unseen) == (12, 0, 0, 0)
    assert figures.skipped == total
