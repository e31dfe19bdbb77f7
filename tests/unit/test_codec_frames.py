"""Frames in one payload, their boundaries kept (SPEC 10.3)."""

from __future__ import annotations

import array
import contextlib

import msgpack
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from envelope import codec
from envelope.errors import MalformedError, UsageError

FRAMES = st.lists(st.binary(max_size=300), max_size=40)
EDGES = [0, 1, 255, 256, 65_535, 65_536]


@given(frames=FRAMES)
def test_frames_come_back_as_they_were(frames):
    assert codec.decode_frames(codec.encode_frames(frames)) == frames


@pytest.mark.parametrize("count", [0, 1, 15, 16, 4095, 4096])
def test_there_are_0_to_4096(count):
    frames = [b"%d" % number for number in range(count)]
    assert codec.decode_frames(codec.encode_frames(frames)) == frames


@pytest.mark.parametrize("size", EDGES)
def test_a_frame_has_any_size(size):
    frames = [bytes(size), b"after"]
    assert codec.decode_frames(codec.encode_frames(frames)) == frames


@given(one=FRAMES, other=FRAMES)
def test_other_frames_are_other_bytes(one, other):
    assert (codec.encode_frames(one) == codec.encode_frames(other)) == (one == other)


@given(packed=st.binary(max_size=60))
def test_whatever_decodes_encodes_to_the_same_bytes(packed):
    try:
        frames = codec.decode_frames(packed)
    except MalformedError:
        return
    assert codec.encode_frames(frames) == packed


@given(frames=FRAMES, at=st.integers(min_value=0), byte=st.integers(0, 255))
def test_a_changed_byte_is_malformed_or_other_frames(frames, at, byte):
    packed = bytearray(codec.encode_frames(frames))
    packed[at % len(packed)] = byte
    with contextlib.suppress(MalformedError):
        assert codec.encode_frames(codec.decode_frames(bytes(packed))) == packed


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"\xc0",
        b"\x80",
        b"\x90\x90",
        b"\x90 ",
        b"\x91",
        b"\xdc\x00\x00",
        b"\xdd\x00\x00\x00\x00",
        b"\xdc\x00\x01\xc4\x00",
        b"\x91\xc5\x00\x01a",
        b"\x92\xc4\x01a",
        b"\x91\xc4\x01a\xc4\x01b",
        b"\xdc\xff\xff",
        msgpack.packb(["text"]),
        msgpack.packb([b"a", [b"b"]]),
        msgpack.packb([b"a", 5]),
        msgpack.packb([b""] * 4097),
    ],
    ids=lambda packed: packed[:8].hex(),
)
def test_other_bytes_are_malformed(packed):
    with pytest.raises(MalformedError) as raised:
        codec.decode_frames(packed)
    assert raised.value.__cause__ is None
    assert raised.value.detail == "the payload is not an array of frames in its one encoding"


@pytest.mark.parametrize(
    ("given", "bytes_of"),
    [
        ((b"a", b"b"), [b"a", b"b"]),
        ([b"a", bytearray(b"b"), memoryview(b"cd")], [b"a", b"b", b"cd"]),
        ([bytearray(b"a"), memoryview(b"bc")], [b"a", b"bc"]),
        ([memoryview(array.array("d", [1.5, 2]))], [array.array("d", [1.5, 2]).tobytes()]),
        ([memoryview(bytes(12)).cast("i", (3, 1))], [bytes(12)]),
        ([memoryview(b"")], [b""]),
    ],
    ids=["tuple", "all three", "buffers", "doubles", "a matrix", "empty"],
)
def test_buffers_go_as_their_bytes(given, bytes_of):
    assert codec.decode_frames(codec.encode_frames(given)) == bytes_of


@pytest.mark.parametrize(
    "frames",
    [
        None,
        b"ab",
        "ab",
        {b"a"},
        iter([b"a"]),
        [b"a", "b"],
        [b"a", None],
        [[b"a"]],
        [zmq.Frame(b"a")],
        [b""] * 4097,
        [memoryview(b"abcd")[::2]],
    ],
    ids=lambda frames: type(frames).__name__,
)
def test_what_are_no_frames_is_refused(frames):
    with pytest.raises(UsageError):
        codec.encode_frames(frames)
