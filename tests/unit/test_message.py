"""What an opener hands out, and the ids of messages (SPEC 5.5, 9.3)."""

from __future__ import annotations

import hashlib

import pytest
from support import START, World, flip, identity

from envelope import UsageError, message_id, recipients_of
from envelope.codec import encode_frames, encode_object
from envelope.errors import MalformedError, VersionError
from envelope.message import Arrival, Bundle, Message
from envelope.wire import Header

ALICE, BOB, CAROL = identity("alice"), identity("bob"), identity("carol")


@pytest.fixture
def world():
    return World()


def h(label, *data):
    """SPEC 2.2 for 32 bytes, by hand."""
    return hashlib.blake2b(label.ljust(128, b"\0") + b"".join(data)).digest()


def expected_id(data, body_at, index):
    head, body = data[:body_at], data[body_at:-64]
    return h(b"env1-id", head, h(b"env1-body", body), index.to_bytes(4, "big"))[:32]


class TestMessage:
    def test_it_tells_where_it_is_from(self, world):
        sealer = world.sealer(to=[BOB.public])
        sealer.seal(b"lost")
        data = sealer.seal(b"payload", bound=[b"topic", b"frame"])
        message = world.opener().open(data, bound=[b"topic", b"frame"])
        assert message.payload == b"payload"
        assert message.index == 0
        assert message.sender is world.trust["alice"]
        assert message.stream == sealer.stream
        assert message.sequence == 1
        assert message.skipped == 1
        assert message.sent_at == START
        assert message.sealed is True
        assert message.context == "orders"
        assert message.bound == (b"topic", b"frame")
        assert message.topic == b"topic"
        assert message.in_reply_to is None
        assert message.by_session is False
        assert message.route == ()
        assert message.id == message_id(data)

    def test_without_bound_frames_it_has_no_topic(self, world):
        message = world.opener().open(world.sealer().seal(b"x"))
        assert (message.bound, message.topic, message.sealed) == ((), None, False)
        assert message.by_session is False

    @pytest.mark.parametrize("kind", [3, 4, 5])
    def test_what_is_neither_signed_nor_sealed_came_by_a_session(self, world, kind):
        header = Header(kind, 0, 0, ALICE.key_id, bytes(16), 7, START, None, 80, 80)
        arrival = Arrival(world.trust["alice"], header, "orders", (), 0, b"", b"")
        message = Message(b"x", 0, arrival)
        assert (message.by_session, message.sealed) == (True, True)

    def test_the_adapter_that_knows_its_route_notes_it_for_all_of_an_arrival(self, world):
        messages = world.opener().open_bundle(world.sealer().seal_bundle([b"a", b"b"]))
        messages[0].came_by((b"hop", b""))
        assert [message.route for message in messages] == [(b"hop", b"")] * 2
        assert messages[0].arrival is messages[1].arrival

    def test_a_reply_names_its_request(self, world):
        reply = world.sealer().seal(b"x", in_reply_to=b"r" * 32)
        assert world.opener().open(reply, in_reply_to=b"r" * 32).in_reply_to == b"r" * 32

    def test_messages_of_a_bundle_share_all_but_payload_index_and_id(self, world):
        sealer = world.sealer()
        sealer.seal(b"lost")
        data = sealer.seal_bundle([b"a", b"", b"c"], bound=[b"t"])
        messages = world.opener().open_bundle(data, bound=[b"t"])
        assert [message.payload for message in messages] == [b"a", b"", b"c"]
        assert [message.index for message in messages] == [0, 1, 2]
        assert [message.skipped for message in messages] == [1, 0, 0]
        assert [message.id for message in messages] == [message_id(data, n) for n in range(3)]
        assert len({message.id for message in messages}) == 3
        assert {message.sequence for message in messages} == {1}
        assert {message.topic for message in messages} == {b"t"}

    def test_of_a_bundle_the_payloads_are_at_hand_and_the_messages_stay_the_same(self, world):
        payloads = (b"a", b"", b"c")
        bundle = world.opener().open_bundle(world.sealer().seal_bundle(list(payloads)))
        assert bundle.payloads == payloads
        assert len(bundle) == 3
        assert bundle.sender.name == "alice"
        assert bundle[1] is bundle[1]
        assert list(bundle) == [bundle[0], bundle[1], bundle[2]] == bundle[:]
        assert bundle[-1].payload == b"c"
        assert bundle.payloads == payloads
        with pytest.raises(IndexError):
            bundle[3]

    @pytest.mark.parametrize("count", [1, 3])
    def test_messages_that_are_made_already_are_a_bundle_too_and_stay_the_same(self, world, count):
        data = world.sealer().seal_bundle([b"%d" % number for number in range(count)])
        messages = list(world.opener().open_bundle(data))
        bundle = Bundle.of(messages)
        assert bundle.payloads == tuple(message.payload for message in messages)
        assert bundle.sender is messages[0].sender
        assert len(bundle) == count
        assert all(one is other for one, other in zip(bundle, messages, strict=True))

    def test_one_envelope_is_a_bundle_of_one(self, world):
        bundle = world.opener().open_bundle(world.sealer().seal(b"x"))
        assert bundle.payloads == (b"x",)
        assert [message.payload for message in bundle] == [b"x"]

    @pytest.mark.audit("K5", "E3")
    def test_printing_a_bundle_shows_no_payload(self, world):
        bundle = world.opener().open_bundle(world.sealer().seal_bundle([b"secret"] * 2))
        assert repr(bundle) == str(bundle) == "<Bundle of 2 from 'alice'>"

    def test_whoever_comes_while_the_messages_are_made_gets_the_same_ones(self, world):
        arrival = world.opener().open(world.sealer().seal(b"x")).arrival
        others = []

        class Payloads(list):
            """Which another thread, or a signal handler, asks for when they are looked at."""

            def __iter__(self):
                if not others:
                    others.append(None)
                    others[0] = bundle[1]
                return super().__iter__()

        bundle = Bundle(Payloads([b"a", b"b"]), arrival)
        assert bundle[1] is others[0]
        assert others[0] in bundle

    def test_a_bundle_takes_nothing_in(self, world):
        bundle = world.opener().open_bundle(world.sealer().seal_bundle([b"a", b"b"]))
        with pytest.raises(AttributeError):
            bundle.payloads = ()
        with pytest.raises(AttributeError):
            bundle.append(b"c")
        with pytest.raises(TypeError):
            bundle[0] = bundle[1]

    @pytest.mark.audit("K5", "E3")
    def test_printing_it_shows_no_payload(self, world):
        sealer = world.sealer(to=[BOB.public])
        message = world.opener().open(sealer.seal(b"secret", bound=[b"secret"]), bound=[b"secret"])
        text = f"<Message 6 bytes from 'alice', stream {sealer.stream.hex()}, sequence 0>"
        assert repr(message) == str(message) == f"{message}" == text

    @pytest.mark.parametrize("field", ["payload", "index"])
    def test_it_is_immutable(self, world, field):
        message = world.opener().open(world.sealer().seal(b"x"))
        with pytest.raises(AttributeError):
            setattr(message, field, getattr(message, field))

    def test_it_takes_no_other_attributes(self, world):
        message = world.opener().open(world.sealer().seal(b"x"))
        with pytest.raises(AttributeError):
            message.other = 1

    def test_its_object_is_decoded_when_asked_for(self, world):
        value = {"a": [1, None, "é", b"x"]}
        message = world.opener().open(world.sealer().seal(encode_object(value)))
        assert message.object() == value

    @pytest.mark.audit("A20")
    @pytest.mark.parametrize("decode", [Message.object, Message.frames])
    def test_a_payload_that_is_none_is_its_senders_doing(self, world, decode):
        message = world.opener().open(world.sealer().seal(b"secret"))
        with pytest.raises(MalformedError) as refused:
            decode(message)
        assert refused.value.claimed_sender == ALICE.key_id
        assert refused.value.verified is True
        assert "secret" not in str(refused.value)

    def test_its_frames_are_decoded_when_asked_for(self, world):
        frames = [b"topic", b"", b"\xc1"]
        message = world.opener().open(world.sealer().seal(encode_frames(frames)))
        assert message.frames() == frames


class TestMessageId:
    @pytest.mark.parametrize("index", [0, 1, 255, 256, 2**32 - 1])
    def test_it_is_the_hash_of_the_specification(self, world, index):
        data = world.sealer().seal(b"payload")
        assert message_id(data, index) == expected_id(data, 80, index)
        data = world.sealer(to=[BOB.public]).seal(b"payload")
        assert message_id(data, index) == expected_id(data, 208, index)
        data = world.sealer(to=[BOB.public], sealed=False).seal(b"", in_reply_to=bytes(32))
        assert message_id(data, index) == expected_id(data, 80 + 32 + 16, index)

    def test_it_covers_all_but_the_signature(self, world):
        data = world.sealer(to=[BOB.public]).seal(b"payload")
        ids = {message_id(data)}
        for position in range(40, len(data) - 64):
            if not 40 <= position < 56:  # Higher bits there are beyond their width.
                ids.add(message_id(flip(data, position)))
        assert len(ids) == 1 + len(data) - 64 - 56
        assert {message_id(flip(data, -1 - n)) for n in range(64)} == {message_id(data)}

    def test_the_first_of_a_bundle_is_the_default(self, world):
        data = world.sealer().seal_bundle([b"a"])
        assert message_id(data) == message_id(data, 0) != message_id(data, 1)

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            (("text",), "an envelope is bytes"),
            ((bytearray(200),), "an envelope is bytes"),
            ((None,), "an envelope is bytes"),
            ((b"", -1), "index is that of a message in its bundle, from 0"),
            ((b"", 2**32), "index is that"),
            ((b"", 1.0), "index is that"),
            ((b"", True), "index is that"),
            ((b"", "0"), "index is that"),
        ],
    )
    def test_a_wrong_argument_is_a_usage_error(self, arguments, text):
        with pytest.raises(UsageError, match=text):
            message_id(*arguments)

    def test_what_is_no_envelope_has_no_id(self, world):
        data = world.sealer().seal(b"x")
        with pytest.raises(MalformedError):
            message_id(data[:143])
        with pytest.raises(VersionError):
            message_id(flip(data, 3, 2))


class TestRecipientsOf:
    """SPEC 4.2."""

    @pytest.mark.parametrize("sealed", [True, False])
    @pytest.mark.parametrize("request_id", [None, b"r" * 32])
    def test_they_are_the_key_ids_in_the_order_of_the_key_block(self, world, sealed, request_id):
        for to in ([BOB], [BOB, CAROL], [identity(str(n)) for n in range(256)]):
            sealer = world.sealer(to=[one.public for one in to], sealed=sealed)
            data = sealer.seal(b"payload", in_reply_to=request_id)
            assert recipients_of(data) == tuple(sorted(one.key_id for one in to))

    def test_what_is_for_everyone_names_none(self, world):
        sealer = world.sealer()
        assert recipients_of(sealer.seal(b"x" * 100)) == ()
        assert recipients_of(sealer.seal(b"x", in_reply_to=bytes(32))) == ()

    @pytest.mark.parametrize("data", ["text", bytearray(200), memoryview(bytes(200)), None])
    def test_what_is_not_bytes_is_a_usage_error(self, data):
        with pytest.raises(UsageError, match="an envelope is bytes"):
            recipients_of(data)

    def test_what_is_no_envelope_has_none(self, world):
        data = world.sealer(to=[BOB.public]).seal(b"x")
        with pytest.raises(MalformedError):
            recipients_of(data[:143])
        with pytest.raises(VersionError):
            recipients_of(flip(data, 3, 2))
