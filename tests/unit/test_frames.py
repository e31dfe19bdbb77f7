"""Frames of a message: what is route, what is bound, what is the envelope (SPEC 16.1, 16.2)."""

from __future__ import annotations

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st
from support import World

from envelope.errors import MalformedError, UsageError
from envelope.wire import FIXED_SIZE, MIN_SIZE
from envelope.zeromq import frames

DEALER, PULL = frames.PATTERNS[zmq.DEALER], frames.PATTERNS[zmq.PULL]

NON_EMPTY = st.lists(st.binary(min_size=1, max_size=9), max_size=4)
ANY = st.lists(st.binary(max_size=9), max_size=3)


class TestSplit:
    @given(route=NON_EMPTY, bound=ANY, data=st.binary(max_size=9))
    def test_the_first_empty_frame_ends_the_route(self, route, bound, data):
        got = frames.split([*route, b"", *bound, data], DEALER)
        assert got == ((*route, b""), bound, data)

    @given(bound=ANY, data=st.binary(max_size=9))
    def test_without_routes_all_but_the_last_is_bound(self, bound, data):
        assert frames.split([*bound, data], PULL) == ((), bound, data)

    @given(route=NON_EMPTY.filter(bool))
    def test_no_empty_frame_is_malformed(self, route):
        with pytest.raises(MalformedError, match="no empty frame"):
            frames.split(route, DEALER)

    @given(route=NON_EMPTY)
    def test_nothing_after_the_empty_frame_is_malformed(self, route):
        with pytest.raises(MalformedError, match="nothing after"):
            frames.split([*route, b""], DEALER)

    @pytest.mark.parametrize("kind", frames.PATTERNS)
    def test_only_dealer_and_router_have_routes(self, kind):
        assert frames.PATTERNS[kind].is_routed is (kind in (zmq.DEALER, zmq.ROUTER))


class TestTopic:
    @pytest.mark.parametrize(
        ("given", "topic"),
        [(None, None), ("", b""), (b"", b""), ("zürich", b"z\xc3\xbcrich"), (b"\xff", b"\xff")],
    )
    def test_it_is_bytes_or_utf_8_or_none(self, given, topic):
        assert frames.as_topic(given) == topic

    @pytest.mark.parametrize("topic", [5, bytearray(b"a"), memoryview(b"a"), ["a"]], ids=repr)
    def test_it_is_nothing_else(self, topic):
        with pytest.raises(UsageError, match="bytes or str"):
            frames.as_topic(topic)

    def test_a_str_without_an_encoding_is_none(self):
        with pytest.raises(UsageError, match="UTF-8"):
            frames.as_topic("\udc80")

    @pytest.mark.parametrize("end", ["", "sync", "v2"])
    @pytest.mark.parametrize("kind", [str, str.encode])
    def test_the_names_of_control_messages_are_reserved(self, kind, end):
        with pytest.raises(UsageError, match="reserved"):
            frames.as_topic(kind("envelope/v1/" + end))

    @pytest.mark.parametrize("topic", [b"envelope/v1", b"envelope/v10/", b" envelope/v1/"])
    def test_what_only_looks_alike_is_not(self, topic):
        assert frames.as_topic(topic) == topic

    def test_the_label_of_a_control_message_is_not_about_anything(self):
        bound = [b"topic", frames.CHALLENGE]
        assert frames.plain_bound(bound) == (b"topic",)
        assert frames.plain_bound([frames.SYNC]) == ()


class TestRoute:
    @pytest.mark.parametrize("route", [[b"id"], [b"id", b""], (b"id",), (b"id", b"")], ids=repr)
    def test_the_empty_frame_at_the_end_may_be_left_out(self, route):
        assert frames.as_route(route, is_needed=True) == (b"id", b"")

    def test_several_hops_stay_in_order(self):
        assert frames.as_route([b"near", b"far"], is_needed=True) == (b"near", b"far", b"")

    @pytest.mark.parametrize("route", [None, [], (), b"id", "id", 5, {b"id"}], ids=repr)
    def test_a_router_needs_one(self, route):
        with pytest.raises(UsageError, match="a ROUTER sends by a route"):
            frames.as_route(route, is_needed=True)

    @pytest.mark.parametrize("route", [["id"], [b"id", None], [bytearray(b"id")]], ids=repr)
    def test_it_is_of_bytes(self, route):
        with pytest.raises(UsageError, match="list of bytes"):
            frames.as_route(route, is_needed=True)

    @pytest.mark.parametrize(
        "route", [[b""], [b"", b""], [b"", b"id"], [b"id", b"", b""]], ids=repr
    )
    def test_its_frames_are_not_empty(self, route):
        """Else what comes after would be taken for bound frames, and refused."""
        with pytest.raises(UsageError, match="not empty"):
            frames.as_route(route, is_needed=True)

    @pytest.mark.parametrize("route", [[b"id"], [], (), b""], ids=repr)
    def test_no_other_socket_takes_one(self, route):
        with pytest.raises(UsageError, match="only a ROUTER"):
            frames.as_route(route, is_needed=False)
        assert frames.as_route(None, is_needed=False) == ()


class TestReply:
    def test_it_names_what_it_replies_to(self):
        request = bytes(range(32))
        assert frames.in_reply_to(World().sealer().seal(b"", in_reply_to=request)) == request

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            World().sealer().seal(b"payload"),
            World().sealer().seal(b"", in_reply_to=bytes(32))[: MIN_SIZE - 1],
            bytes(FIXED_SIZE),
        ],
        ids=["nothing", "no reply", "cut", "too short"],
    )
    def test_other_bytes_name_nothing(self, data):
        assert frames.in_reply_to(data) is None


class TestFlags:
    @pytest.mark.parametrize("flags", [0, zmq.NOBLOCK, zmq.DONTWAIT, 1])
    def test_noblock_is_taken(self, flags):
        frames.check_flags(flags)

    @pytest.mark.parametrize("flags", [zmq.SNDMORE, zmq.SNDMORE | zmq.NOBLOCK, 4, 1 << 20, -1])
    def test_others_are_refused(self, flags):
        with pytest.raises(UsageError, match="NOBLOCK"):
            frames.check_flags(flags)
