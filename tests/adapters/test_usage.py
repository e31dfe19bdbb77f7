"""Mistakes of the caller are UsageErrors, and nothing was sent."""

from __future__ import annotations

import re

import pytest
import zmq
import zmq.asyncio

from envelope import UsageError
from envelope.zeromq import SecureSocket, aio

TYPES = [
    zmq.PUB,
    zmq.SUB,
    zmq.XPUB,
    zmq.XSUB,
    zmq.PUSH,
    zmq.PULL,
    zmq.PAIR,
    zmq.REQ,
    zmq.REP,
    zmq.DEALER,
    zmq.ROUTER,
]
EACH = {
    SecureSocket: zmq.Socket,
    aio.SecureSocket: zmq.asyncio.Socket,
}

each = pytest.mark.parametrize(("wrapper", "inside"), EACH.items(), ids=["sync", "asyncio"])


def name_of(kind: int) -> str:
    return zmq.SocketType(kind).name


@each
class TestWrapping:
    def test_a_type_that_carries_no_messages_is_refused(self, wrapper, inside, plain, world):
        socket = plain(zmq.STREAM, inside)
        with pytest.raises(UsageError, match="STREAM sockets are not supported"):
            wrapper(socket, sealer=world.sealer(), opener=world.opener())
        assert not socket.closed

    @pytest.mark.parametrize("kind", TYPES, ids=name_of)
    def test_neither_sealer_nor_opener_is_refused(self, wrapper, inside, plain, kind):
        with pytest.raises(UsageError, match="a sealer to send or an opener to receive"):
            wrapper(plain(kind, inside), on_rejected=print)

    @pytest.mark.parametrize("kind", [zmq.SUB, zmq.PULL], ids=name_of)
    def test_a_sealer_where_nothing_is_sent_is_refused(self, wrapper, inside, plain, world, kind):
        with pytest.raises(
            UsageError, match=f"a {name_of(kind)} socket does not send: leave sealer out"
        ):
            wrapper(plain(kind, inside), sealer=world.sealer(), opener=world.opener())

    @pytest.mark.parametrize("kind", [zmq.PUB, zmq.PUSH], ids=name_of)
    def test_an_opener_where_nothing_is_received_is_refused(
        self, wrapper, inside, plain, world, kind
    ):
        with pytest.raises(
            UsageError, match=f"a {name_of(kind)} socket does not receive: leave opener out"
        ):
            wrapper(plain(kind, inside), sealer=world.sealer(), opener=world.opener())

    def test_one_in_place_of_the_other_is_refused(self, wrapper, inside, plain, world):
        with pytest.raises(UsageError, match="sealer is not a Sealer, but of type Opener"):
            wrapper(plain(zmq.PAIR, inside), sealer=world.opener())
        with pytest.raises(UsageError, match="opener is not an Opener"):
            wrapper(plain(zmq.PAIR, inside), opener=world.sealer())
        with pytest.raises(UsageError, match="opener is not an Opener, but of type TrustStore"):
            wrapper(plain(zmq.PULL, inside), opener=world.trust)

    def test_on_rejected_that_cannot_be_called_is_refused(self, wrapper, inside, plain, world):
        with pytest.raises(UsageError, match="on_rejected is a function"):
            wrapper(plain(zmq.PULL, inside), opener=world.opener(), on_rejected=[])

    def test_on_rejected_that_nobody_would_await_is_refused(self, wrapper, inside, plain, world):
        async def on_rejected(error):
            raise AssertionError(error)

        with pytest.raises(UsageError, match="a plain function"):
            wrapper(plain(zmq.PULL, inside), opener=world.opener(), on_rejected=on_rejected)

    def test_an_option_is_set_at_the_socket_inside_alone(self, wrapper, inside, plain, world):
        secure = wrapper(plain(zmq.PUSH, inside), sealer=world.sealer())
        with pytest.raises(AttributeError, match="linger"):
            secure.linger = 0
        secure.socket.linger = 0

    def test_the_other_kind_of_socket_is_refused(self, wrapper, inside, plain, world):
        other = {zmq.Socket: zmq.asyncio.Socket, zmq.asyncio.Socket: zmq.Socket}[inside]
        with pytest.raises(UsageError, match="asyncio"):
            wrapper(plain(zmq.PUSH, other), sealer=world.sealer())

    @pytest.mark.parametrize("socket", [None, "tcp://127.0.0.1:1", zmq.PUSH, zmq.Socket])
    def test_what_is_no_socket_is_refused(self, wrapper, inside, world, socket):
        with pytest.raises(UsageError, match="socket is a zmq"):
            wrapper(socket, sealer=world.sealer())


@pytest.mark.parametrize("kind", [zmq.SUB, zmq.PULL, zmq.PAIR], ids=name_of)
def test_without_a_sealer_it_does_not_send(secure, world, kind):
    one = secure(kind, opener=world.opener())
    for send, value in (
        (one.send, b"payload"),
        (one.send_many, [b"payload"]),
        (one.send_many, []),
        (one.send_object, "object"),
    ):
        for topic in (None, b"topic"):
            with pytest.raises(UsageError, match="has no sealer, so it does not send"):
                send(value, topic)


@pytest.mark.parametrize("kind", [zmq.PUB, zmq.PUSH, zmq.PAIR], ids=name_of)
def test_without_an_opener_it_does_not_receive(secure, world, kind):
    one = secure(kind, sealer=world.sealer())
    message = "has no opener, so it does not receive"
    for receive in (one.recv, one.recv_bundle, one.recv_object):
        with pytest.raises(UsageError, match=message):
            receive()
        with pytest.raises(UsageError, match=message):
            receive(zmq.NOBLOCK, strict=True)
    with pytest.raises(UsageError, match=message):
        _ = one.stats


class TestNothingWasSent:
    """After the mistake the first message is the first of its stream."""

    @pytest.fixture
    def ends(self, secure, world, link):
        push = secure(zmq.PUSH, sealer=world.sealer())
        pull = secure(zmq.PULL, opener=world.opener())
        link(pull, push)
        return push, pull

    def is_refused(self, ends, send, *arguments, match, **options):
        push, pull = ends
        with pytest.raises(UsageError, match=re.escape(match)):
            getattr(push, send)(*arguments, **options)
        push.send(b"first")
        message = pull.recv(strict=True)
        assert (message.payload, message.sequence) == (b"first", 0)

    @pytest.mark.parametrize("payload", ["text", None, 5, [b"payload"]])
    def test_a_payload_is_bytes(self, ends, payload):
        self.is_refused(ends, "send", payload, match="payload is bytes")

    @pytest.mark.parametrize("topic", [5, bytearray(b"topic"), [b"topic"], ("a",)])
    @pytest.mark.parametrize(
        ("send", "value"), [("send", b"x"), ("send_many", [b"x"]), ("send_object", "x")]
    )
    def test_a_topic_is_bytes_or_str(self, ends, send, value, topic):
        self.is_refused(ends, send, value, topic, match="topic is bytes or str; flags go by name")

    @pytest.mark.parametrize(
        ("send", "value"), [("send", b"x"), ("send_many", [b"x"]), ("send_object", "x")]
    )
    @pytest.mark.parametrize("flags", [zmq.SNDMORE, zmq.SNDMORE | zmq.NOBLOCK])
    def test_a_message_is_not_made_a_part_of_the_next(self, ends, send, value, flags):
        says = "flags are zmq.NOBLOCK or 0; several frames go in one call of send_multipart"
        self.is_refused(ends, send, value, flags=flags, match=says)

    def test_flags_of_receiving_are_checked_too(self, ends):
        for receive in (ends[1].recv, ends[1].recv_bundle, ends[1].recv_object):
            with pytest.raises(UsageError, match=r"flags are zmq\.NOBLOCK or 0"):
                receive(zmq.SNDMORE)

    @pytest.mark.parametrize(("send", "value"), [("send", b"x"), ("send_many", [b"x"])])
    def test_a_topic_of_str_can_be_encoded(self, ends, send, value):
        self.is_refused(ends, send, value, "\ud800", match="topic")

    @pytest.mark.parametrize(
        "payloads",
        [b"bytes", "text", None, {b"a"}, iter([b"a"]), ["text"], [b"a", None], [bytearray(b"a")]],
        ids=repr,
    )
    def test_many_are_a_list_of_bytes(self, ends, payloads):
        self.is_refused(ends, "send_many", payloads, match="payloads is a list of bytes")

    def test_many_are_checked_before_the_first_bundle_is_sent(self, ends):
        payloads = [b"a"] * 257 + ["text"]
        self.is_refused(ends, "send_many", payloads, match="payloads is a list of bytes")

    def test_many_are_measured_before_the_first_bundle_is_sent(self, ends):
        push, pull = ends
        with pytest.raises(UsageError, match="larger than 16777216 bytes"):
            push.send_many([b"a"] * 256 + [bytes(17 * 2**20)])
        push.send(b"first")
        assert pull.recv(strict=True).payload == b"first"

    def test_an_object_has_an_encoding(self, ends):
        self.is_refused(ends, "send_object", object(), match="cannot encode this object")

    def test_a_payload_is_not_larger_than_a_receiver_takes(self, ends):
        self.is_refused(ends, "send", bytes(17 * 2**20), match="larger than 16777216 bytes")
