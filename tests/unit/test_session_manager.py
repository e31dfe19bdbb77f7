"""What an application sends and receives by sessions (SPEC 18)."""

from __future__ import annotations

import copy
import itertools
import pickle

import pytest
from parallel import in_child, raw_fork
from sides import CONTEXT, WRONG_ENDS, Pair, Side
from support import START, FakeClock, flip, identity

from envelope import Message, Policy, TrustStore, UsageError
from envelope.errors import MalformedError
from envelope.primitives import H
from envelope.session import Datagram, Pace, SessionManager, Timing, wire
from envelope.session.timing import MAX_STAGED, REJECT_AFTER, REKEY_AFTER

ALICE, BOB = identity("alice"), identity("bob")


# What a message says.


def test_a_message_says_who_sent_it_where_and_when_the_session_began():
    pair = Pair()
    pair.alice.wall.advance(1.5)
    pair.open()
    sealed = []
    data = pair.alice.manager.send(b"payload", bound=[b"t", b""], on_sealed=sealed.append)
    message = pair.bob.manager.receive(data, bound=[b"t", b""])
    assert isinstance(message, Message)
    assert (message.payload, message.index, message.skipped) == (b"payload", 0, 0)
    assert message.sender == pair.bob.trust.snapshot.peers[ALICE.key_id]
    assert (message.context, message.bound, message.topic) == (CONTEXT, (b"t", b""), b"t")
    assert (message.sealed, message.by_session) == (True, True)
    assert (message.route, message.in_reply_to) == ((), None)
    assert message.sent_at == START + 1_500_000
    assert message.sequence == pair.alice.current.sent - 1
    assert message.stream == pair.alice.current.our_stream == sealed[0].stream
    expected = H(32, b"env1-message", message.stream, message.sequence.to_bytes(8, "big"))
    assert message.id == sealed[0].id == expected
    assert sealed[0].data == data
    assert message.arrival.link is pair.bob.link()
    assert message.arrival.header.sender == ALICE.key_id
    assert pair.bob.manager.id_of(data) == message.id


def test_the_responders_messages_tell_the_time_of_its_response():
    pair = Pair()
    pair.bob.wall.advance(1.5)
    pair.open()
    message = pair.alice.manager.receive(pair.bob.manager.send(b""))
    assert message.sent_at == START + 1_500_000


@pytest.mark.audit("A22")
@pytest.mark.parametrize("waits", [False, True])
def test_a_reply_names_the_message_that_it_answers(waits):
    pair = Pair() if waits else Pair().open()
    request = bytes(range(32))
    data = pair.alice.manager.send(b"reply", in_reply_to=request)
    if waits:
        pair.bob.hear(pair.alice.out()[0])
        pair.alice.hear(pair.bob.out()[0])
        (data,) = pair.alice.out()
    assert data[5] == wire.REPLY
    message = pair.bob.manager.receive(data)
    assert (message.payload, message.in_reply_to) == (b"reply", request)
    assert message.arrival.header.flags == wire.REPLY
    # It cannot be taken for anything else.
    other = pair.alice.manager.send(b"reply", in_reply_to=request)
    assert pair.bob.hear(other[:5] + b"\0" + other[6:]) == "unseal"
    plain = pair.alice.manager.send(bytes(64))
    assert pair.bob.hear(plain[:5] + b"\2" + plain[6:]) == "unseal"


def test_what_waits_is_sealed_when_it_is_sent_and_told_then():
    pair = Pair()
    sealed = []
    for n in range(3):
        pair.alice.manager.send(bytes([n]), bound=[b"t"], on_sealed=sealed.append)
    pair.bob.hear(pair.alice.out()[0])
    assert sealed == []
    pair.alice.hear(pair.bob.out()[0])
    outbox = list(pair.alice.manager.outbox)
    assert outbox == [Datagram((), (b"t",), one.data) for one in sealed]
    messages = [pair.bob.manager.receive(one.data, bound=(b"t",)) for one in outbox]
    assert [message.payload for message in messages] == [b"\0", b"\1", b"\2"]
    assert [message.id for message in messages] == [one.id for one in sealed]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_received_bytes_may_be_of_any_kind(kind):
    pair = Pair().open()
    assert pair.bob.hear(kind(pair.alice.manager.send(b"x"))) == b"x"


def test_the_id_of_data_is_known_only_of_sessions_that_are_here():
    pair = Pair().open()
    data = pair.alice.manager.send(b"x")
    for other in (flip(data, 12), data[:35], b"ENV\x01\x04" + data[5:], b""):
        assert pair.bob.manager.id_of(other) is None
    assert pair.alice.manager.id_of(data) is None


@pytest.mark.audit("A13")
@pytest.mark.parametrize(
    ("topics", "bound", "heard"),
    [
        (["a/"], [b"a/b"], b"x"),
        (["a/"], [b"a/", b"z"], b"x"),
        (["a/"], [b"b"], "not_trusted"),
        (["a/"], [b"", b"a/"], "not_trusted"),
        (["a/"], [], "not_trusted"),
        ([""], [], "not_trusted"),
        ([""], [b""], b"x"),
        (None, [], b"x"),
        (None, [b"b"], b"x"),
    ],
)
def test_topics_are_the_first_bound_frame(topics, bound, heard):
    pair = Pair().open()
    pair.bob.permit("alice", topics=topics)
    data = pair.alice.manager.send(b"x", bound=bound)
    assert pair.bob.hear(data, bound=bound) == heard


def test_control_messages_need_no_topic():
    pair = Pair()
    pair.bob.permit("alice", topics=["t"])
    pair.alice.manager.send(b"x", bound=[b"t"])
    pair.bob.hear(pair.alice.out()[0])
    pair.alice.hear(pair.bob.out()[0])
    pair.alice.out()
    pair.alice.manager._exchange.send_control(pair.alice.link())
    assert pair.bob.hear(pair.alice.out()[0]) is None
    assert pair.bob.current is not None


# Where an end stands.


def test_whether_there_is_a_session():
    pair = Pair()
    manager = pair.alice.manager
    assert not manager.is_open()
    (initiation,) = pair.alice.send()
    assert not manager.is_open()
    pair.bob.hear(initiation)
    pair.alice.hear(pair.bob.out()[0])
    assert manager.is_open()
    assert manager.is_open(to=BOB.public)
    assert not manager.is_open(address="other")
    pair.alice.link().is_lost = True
    assert not manager.is_open()
    pair.alice.link().is_lost = False
    pair.mono.advance(179.9)
    assert manager.is_open()
    pair.mono.advance(0.1)
    assert not manager.is_open()
    pair.mono.advance(-100)
    manager._exchange.ask(pair.alice.link(), pair.mono())
    assert not manager.is_open()


def test_a_stream_is_had_until_its_session_ends():
    pair = Pair().open()
    manager, stream = pair.alice.manager, pair.alice.current.our_stream
    assert manager.has_stream(stream)
    assert not manager.has_stream(pair.alice.current.their_stream)
    pair.mono.advance(179.9)
    assert manager.has_stream(stream)
    pair.mono.advance(0.1)
    assert not manager.has_stream(stream)


def test_what_waits_is_known_by_what_is_called_once_it_is_sealed():
    pair = Pair()
    manager, first, second = pair.alice.manager, [].append, [].append
    assert not manager.is_staged(first)
    manager.send(b"", on_sealed=first)
    manager.send(b"")
    assert manager.is_staged(first)
    assert not manager.is_staged(second)


def test_what_can_be_shown():
    pair = Pair().open()
    manager = pair.alice.manager
    assert repr(manager) == "<SessionManager in 'orders', 1 sessions>"
    assert [link.peer.name for link in manager.links] == ["bob"]
    assert manager.monotonic() == pair.mono()
    assert manager.identity is pair.alice.identity
    assert (manager.context, manager.to) == (CONTEXT, BOB.key_id)
    assert manager.policy == Policy()
    assert manager._end.pace is Pace.FREE


def test_a_refusal_of_another_layer_is_counted_as_the_senders():
    pair = Pair().open()
    manager = pair.bob.manager
    message = manager.receive(pair.alice.manager.send(b"no object"))
    error = MalformedError("no object")
    manager.refuse(error, message)
    assert (error.claimed_sender, error.verified) == (ALICE.key_id, True)
    manager.refuse(MalformedError("no frames at all"))
    assert manager.stats.refused == {"malformed": 2}
    assert manager.stats.senders["alice"].refused == {"malformed": 1}


# Bounds of what waits.


@pytest.mark.audit("A16")
def test_1024_messages_wait_and_one_more_is_refused_and_makes_no_link():
    pair = Pair()
    for _ in range(MAX_STAGED):
        assert pair.alice.manager.send(b"") is None
    assert not pair.alice.manager.has_room()
    before = pair.alice.state()
    for address in ((), *range(20)):
        with pytest.raises(UsageError, match="as many messages wait"):
            pair.alice.manager.send(b"", address=address)
    assert pair.alice.state() == before
    assert len(pair.carry()) == MAX_STAGED
    assert pair.alice.manager.has_room()


@pytest.mark.audit("A16")
def test_16_mib_wait_and_a_byte_more_is_refused():
    pair = Pair()
    for _ in range(16):
        pair.alice.manager.send(bytes(2**20))
    assert pair.alice.manager.has_room()
    assert pair.alice.manager.has_room(0)
    assert not pair.alice.manager.has_room(1)
    with pytest.raises(UsageError, match="as many messages wait"):
        pair.alice.manager.send(b"x")
    pair.alice.manager.send(b"")
    assert len(pair.carry()) == 17


# Counters near their ends.


@pytest.mark.audit("C6", "A17")
def test_after_2_to_the_32_messages_whoever_sends_asks_for_new_keys():
    pair = Pair().open()
    channel = pair.alice.current
    channel._take = itertools.count(REKEY_AFTER - 2).__next__
    assert [len(data) for data in pair.alice.send(b"")] == [36]
    channel.sent = REKEY_AFTER - 1
    assert [len(data) for data in pair.alice.send(b"")] == [36]
    assert [len(data) for data in pair.alice.send(b"")] == [174, 36]


@pytest.mark.audit("C6", "A17")
def test_no_counter_is_used_from_2_to_the_40_on_and_messages_still_arrive():
    pair = Pair().open()
    channel = pair.alice.current
    channel._take = itertools.count(REJECT_AFTER - 2).__next__
    for n in range(2):
        assert pair.bob.hear(pair.alice.manager.send(bytes([n]))) == bytes([n])
    assert pair.alice.manager.send(b"next") is None
    assert channel.sent == REJECT_AFTER
    pair.alice.tick()  # Nothing is due that would use a counter.
    assert channel._send_key == b""
    assert pair.pass_(1) == [b"next"]


@pytest.mark.audit("C6")
def test_what_waits_does_not_use_up_a_session_that_is_found_again():
    pair = Pair().open()
    link = pair.alice.link()
    link.is_lost = True
    for n in range(5):
        pair.alice.manager.send(bytes([n]))
    pair.alice.manager.outbox.clear()
    link.current._take = itertools.count(REJECT_AFTER - 2).__next__
    assert pair.alice.hear(pair.bob.manager.send(b"alive")) == b"alive"
    sent = pair.alice.out()
    assert [pair.bob.hear(data) for data in sent] == [b"\0", b"\1"]
    assert pair.pass_(2) == [b"\2", b"\3", b"\4"]


# Wrong arguments.


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"payload": "text"}, "payload is bytes"),
        ({"payload": bytearray(b"x")}, "payload is bytes"),
        ({"payload": None}, "payload is bytes"),
        ({"bound": b"topic"}, "bound is a list"),
        ({"bound": ["topic"]}, "bound is a list"),
        ({"bound": None}, "bound is a list"),
        ({"bound": [b""] * 65}, "at most 64 bound frames"),
        ({"to": "bob"}, "to is a Peer or a PublicIdentity"),
        ({"to": identity("bob")}, "to is a Peer or a PublicIdentity"),
        ({"to": identity("carol").public}, "no session with this peer: unknown_sender"),
        ({"to": identity("alice").public}, "no session with this peer: unknown_sender"),
        ({"in_reply_to": b"short"}, "in_reply_to is the id of a message"),
        ({"in_reply_to": "x" * 32}, "in_reply_to is the id of a message"),
        ({"address": []}, "key of a dictionary"),
        ({"address": ([],)}, "key of a dictionary"),
        ({"payload": bytes(150 - 67)}, "larger than max_size, 150"),
        ({"payload": bytes(71), "bound": [b""]}, "larger than max_size, 150"),
    ],
)
@pytest.mark.parametrize("is_open", [False, True])
def test_a_wrong_argument_of_send_is_refused_and_changes_nothing(arguments, says, is_open):
    pair = Pair(policy=Policy(max_size=200))
    if is_open:
        pair.open()
    pair.alice.manager._max_size = 150
    pair.alice.manager.tick()
    before, sent = pair.alice.state(), is_open and pair.alice.current.sent
    with pytest.raises(UsageError, match=says):
        pair.alice.manager.send(**{"payload": b"x"} | arguments)
    assert pair.alice.state() == before
    assert (is_open and pair.alice.current.sent) == sent
    assert not pair.alice.manager.outbox


def test_the_largest_payload_that_may_be_sent_may_be_received_as_a_reply_too():
    pair = Pair(policy=Policy(max_size=200)).open()
    bound = [b"topic"]
    payload = bytes(200 - 36 - 32 - 4 - 8 - 5)
    data = pair.alice.manager.send(payload, bound=bound, in_reply_to=bytes(32))
    assert pair.bob.hear(data, bound=bound) == payload
    with pytest.raises(UsageError, match="larger"):
        pair.alice.manager.send(payload + b"x", bound=bound)


def test_whom_to_send_to_must_be_said_somewhere():
    side = Side("alice", "bob", "carol")
    with pytest.raises(UsageError, match="whom to"):
        side.manager.send(b"x")
    assert side.manager.send(b"x", to=side.trust.snapshot.peers[BOB.key_id]) is None


def test_an_end_has_no_session_with_itself():
    side = Side("alice", "alice")
    with pytest.raises(UsageError, match="reflected"):
        side.manager.send(b"x")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"data": "text"}, "a message is bytes"),
        ({"data": None}, "a message is bytes"),
        ({"bound": b"topic"}, "bound is a list"),
        ({"bound": ["t"]}, "bound is a list"),
        ({"address": []}, "key of a dictionary"),
        ({"address": ({},)}, "key of a dictionary"),
    ],
)
@pytest.mark.parametrize("kind", ["initiation", "data"])
def test_a_wrong_argument_of_receive_is_refused_and_costs_no_message(arguments, says, kind):
    pair = Pair()
    if kind == "data":
        data = pair.open().alice.manager.send(b"x")
    else:
        (data,) = pair.alice.send(b"x")
    pair.bob.manager.tick()
    before = pair.bob.state()
    with pytest.raises(UsageError, match=says):
        pair.bob.manager.receive(**{"data": data} | arguments)
    assert pair.bob.state() == before
    assert pair.bob.hear(data) == (b"x" if kind == "data" else None)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        *WRONG_ENDS,
        ({"to": BOB}, "to is a Peer or a PublicIdentity"),
        ({"clock": lambda: 1.5}, "clock returns Unix microseconds"),
        ({"clock": lambda: 2**60}, "clock returns Unix microseconds"),
    ],
)
def test_a_wrong_argument_of_a_manager_is_refused(arguments, says):
    given = {"identity": ALICE, "trust": TrustStore(), "context": CONTEXT, "timing": Timing()}
    SessionManager(**given)
    with pytest.raises(UsageError, match=says):
        SessionManager(**given | arguments)


# One process.


@pytest.mark.audit("K5")
@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy])
def test_sessions_are_not_copied(copied):
    with pytest.raises(TypeError, match="belong to one process"):
        copied(Pair().open().alice.manager)


@pytest.mark.audit("A18", "C6")
@pytest.mark.parametrize("how", ["hook", "raw"])
def test_a_forked_child_begins_with_nothing_and_the_parent_goes_on(how):
    fork = {} if how == "hook" else {"fork": raw_fork}
    pair = Pair().open()
    alice, bob = pair.alice.manager, pair.bob.manager
    channel = pair.alice.current
    waiting = Pair()
    waiting.bob.hear(waiting.alice.send(b"staged")[0])
    (response,) = waiting.bob.out()
    data = alice.send(b"by the parent")

    def child():
        heard = pair.bob.hear(data)
        assert alice.send(b"x") is None
        assert channel._send_key == channel._receive_key == b""
        assert alice._tables.channels == {}
        assert len(alice.outbox) == 1  # An initiation, by a stream of its own.
        bob.tick()
        # What the parent staged is the parent's to send.
        late = waiting.alice.hear(response)
        return heard, late, waiting.alice.manager.staged, bob.stats.accepted, alice.stats.senders

    assert in_child(child, **fork) == ("unknown_session", "unknown_session", 0, 0, {})
    assert pair.bob.hear(data) == b"by the parent"
    assert pair.bob.hear(alice.send(b"y")) == b"y"
    assert waiting.alice.hear(response) is None
    assert waiting.bob.hear(waiting.alice.out()[0]) == b"staged"


@pytest.mark.audit("C6", "A18")
@pytest.mark.parametrize("how", ["hook", "raw"])
def test_a_forked_child_answers_by_no_session_that_its_parent_was_granted(how):
    # What is heard on the session that waits makes the responder send what it staged.
    fork = {} if how == "hook" else {"fork": raw_fork}
    pair = Pair()
    pair.bob.hear(pair.alice.send(b"first")[0])
    assert pair.bob.manager.send(b"staged") is None
    pair.alice.hear(pair.bob.out()[0])
    (data,) = pair.alice.out()

    def child():
        return pair.bob.hear(data), [len(one) for one in pair.bob.out()]

    assert in_child(child, **fork) == ("unknown_session", [106])
    assert pair.bob.hear(data) == b"first"
    assert [len(one) for one in pair.bob.out()] == [36 + 6]


def test_a_child_has_no_session_to_send_by():
    pair = Pair().open()
    assert pair.alice.manager.is_open()
    assert in_child(pair.alice.manager.is_open) is False


def test_a_child_that_only_ticks_begins_anew():
    pair = Pair().open()

    def child():
        pair.alice.manager.tick()
        return pair.alice.manager.links, pair.alice.manager.next_tick()

    assert in_child(child) == ([], None)


def test_a_manager_has_clocks_and_randomness_of_its_own():
    clock = FakeClock()
    trust = TrustStore(Pair().alice.trust.snapshot.peers.values())
    managers = [
        SessionManager(ALICE, trust, context=CONTEXT, to=BOB.public, clock=clock) for _ in range(2)
    ]
    sent = []
    for manager in managers:
        assert manager.send(b"x") is None
        sent.append(manager.outbox[0].data)
    assert sent[0][38:] != sent[1][38:]
