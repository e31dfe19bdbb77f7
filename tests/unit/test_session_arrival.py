"""What a message says of the session that it came by (SPEC 18.5, 18.6)."""

from __future__ import annotations

import pytest
from sides import CONTEXT, Pair
from support import START, identity

from envelope.primitives import H
from envelope.session import wire
from envelope.wire import Header

ALICE = identity("alice")


@pytest.mark.parametrize("request_id", [None, bytes(range(32))])
def test_what_stands_for_an_envelopes_header_says_all_that_there_is(request_id):
    pair = Pair().open()
    data = pair.alice.manager.send(b"x", bound=[b"t"], in_reply_to=request_id)
    arrival = pair.bob.manager.receive(data, bound=[b"t"]).arrival
    stream, sequence = pair.alice.current.our_stream, pair.alice.current.sent - 1
    assert arrival.header == Header(
        kind=wire.DATA,
        flags=0 if request_id is None else wire.REPLY,
        recipients=1,
        sender=ALICE.key_id,
        stream=stream,
        sequence=sequence,
        sent_at=START,
        in_reply_to=request_id,
        key_block=0,
        body=20,
    )
    assert arrival.identify(0) == H(32, b"env1-message", stream, sequence.to_bytes(8, "big"))
    assert (arrival.link, arrival.sender) == (pair.bob.link(), pair.bob.link().peer)
    assert (arrival.context, arrival.bound) == (CONTEXT, (b"t",))
    assert (arrival.skipped, arrival.route) == (0, ())


def test_it_says_how_many_were_skipped_and_that_there_are_no_bundles():
    pair = Pair().open()
    pair.alice.manager.send(b"lost")
    arrival = pair.bob.manager.receive(pair.alice.manager.send(b"x")).arrival
    assert arrival.skipped == 1
    with pytest.raises(AssertionError):
        arrival.identify(1)
