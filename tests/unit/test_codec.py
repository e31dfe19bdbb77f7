"""Strict MessagePack: bundles and objects, bombs and second encodings (SPEC 9, 10)."""

from __future__ import annotations

import collections
import datetime as dt
import enum
import math
import tracemalloc
from typing import NamedTuple

import msgpack
import pytest

from envelope import UsageError
from envelope.codec import (
    MAX_DEPTH,
    decode_bundle,
    decode_object,
    encode_bundle,
    encode_object,
)
from envelope.errors import MalformedError


def be(number, size):
    return number.to_bytes(size, "big")


def no_object(packed):
    """Return why this is no object."""
    with pytest.raises(MalformedError) as raised:
        decode_object(packed)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None
    return raised.value.detail


def no_bundle(packed):
    with pytest.raises(MalformedError) as raised:
        decode_bundle(packed)
    assert raised.value.detail == "the payload is not a bundle in its one encoding"
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


def memory_of(call, *arguments):
    """Return the most memory in use during a call that ends in MalformedError."""
    tracemalloc.start()
    try:
        with pytest.raises(MalformedError):
            call(*arguments)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


NOT_ONE = "the payload is not an object in its one encoding"
TOO_MUCH = "announces more than it holds"
NOT_ALLOWED = "a map key that is not a str, or a type that is not allowed"
AFTER = "bytes after the end of the object"

# --- Objects: values -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "packed"),
    [
        (None, b"\xc0"),
        (False, b"\xc2"),
        (True, b"\xc3"),
        (0, b"\x00"),
        (127, b"\x7f"),
        (128, b"\xcc\x80"),
        (255, b"\xcc\xff"),
        (256, b"\xcd\x01\x00"),
        (65_535, b"\xcd\xff\xff"),
        (65_536, b"\xce\x00\x01\x00\x00"),
        (2**32 - 1, b"\xce" + b"\xff" * 4),
        (2**32, b"\xcf" + be(2**32, 8)),
        (2**63, b"\xcf" + be(2**63, 8)),
        (2**64 - 1, b"\xcf" + b"\xff" * 8),
        (-1, b"\xff"),
        (-32, b"\xe0"),
        (-33, b"\xd0\xdf"),
        (-128, b"\xd0\x80"),
        (-129, b"\xd1\xff\x7f"),
        (-(2**15), b"\xd1\x80\x00"),
        (-(2**15) - 1, b"\xd2\xff\xff\x7f\xff"),
        (-(2**31), b"\xd2\x80\x00\x00\x00"),
        (-(2**31) - 1, b"\xd3\xff\xff\xff\xff\x7f\xff\xff\xff"),
        (-(2**63), b"\xd3\x80" + bytes(7)),
        (1.5, b"\xcb\x3f\xf8" + bytes(6)),
        (-0.0, b"\xcb\x80" + bytes(7)),
        (math.inf, b"\xcb\x7f\xf0" + bytes(6)),
        ("", b"\xa0"),
        ("é", b"\xa2\xc3\xa9"),
        ("x" * 31, b"\xbf" + b"x" * 31),
        ("x" * 32, b"\xd9\x20" + b"x" * 32),
        ("x" * 255, b"\xd9\xff" + b"x" * 255),
        ("x" * 256, b"\xda\x01\x00" + b"x" * 256),
        ("x" * 65_536, b"\xdb\x00\x01\x00\x00" + b"x" * 65_536),
        (b"", b"\xc4\x00"),
        (b"x" * 255, b"\xc4\xff" + b"x" * 255),
        (b"x" * 256, b"\xc5\x01\x00" + b"x" * 256),
        (b"x" * 65_536, b"\xc6\x00\x01\x00\x00" + b"x" * 65_536),
        ([], b"\x90"),
        ([None] * 15, b"\x9f" + b"\xc0" * 15),
        ([None] * 16, b"\xdc\x00\x10" + b"\xc0" * 16),
        ([None] * 65_536, b"\xdd\x00\x01\x00\x00" + b"\xc0" * 65_536),
        ({}, b"\x80"),
        ({"a": 1, "b": {}}, b"\x82\xa1a\x01\xa1b\x80"),
        ({"": []}, b"\x81\xa0\x90"),
        ({str(n): None for n in range(15)}, None),
        ({str(n): None for n in range(16)}, None),
        ({str(n): [] for n in range(65_536)}, None),
        ([[1], {"a": [b"b", "c"]}, -1.0], None),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_value_has_this_encoding_and_comes_back(value, packed):
    made = encode_object(value)
    if packed is not None:
        assert made == packed
    back = decode_object(made)
    assert back == value
    assert type(back) is type(value)
    assert repr(back) == repr(value)  # -0.0, True and 1, str and bytes


def test_a_map_of_16_begins_with_its_count():
    made = encode_object({str(n): None for n in range(16)})
    assert made[:3] == b"\xde\x00\x10"
    made = encode_object({str(n): None for n in range(65_536)})
    assert made[:5] == b"\xdf\x00\x01\x00\x00"


def test_not_a_number_comes_back():
    packed = encode_object(math.nan)
    assert math.isnan(decode_object(packed))
    assert decode_object(encode_object([math.nan]))[0] != 0


def test_a_tuple_becomes_a_list_at_every_depth():
    assert decode_object(encode_object((1, ((), [2]), {"a": (3,)}))) == [1, [[], [2]], {"a": [3]}]


class Colour(enum.IntEnum):
    RED = 1


class Text(str):
    __slots__ = ()


class Pair(NamedTuple):
    one: int
    two: int


@pytest.mark.audit("A20", "P5")
@pytest.mark.parametrize(
    "value",
    [
        object(),
        {1},
        frozenset(),
        3j,
        Colour.RED,
        Text("x"),
        Pair(1, 2),
        collections.OrderedDict(a=1),
        range(3),
        dt.datetime(2027, 1, 1, tzinfo=dt.UTC),
        msgpack.ExtType(1, b""),
        msgpack.Timestamp(1, 0),
        {1: 2},
        {b"a": 2},
        {None: 2},
        {Text("x"): 2},
        {("a",): 1},
        2**64,
        -(2**63) - 1,
        10**30,
        "\ud800",
        {"\udfff": 1},
        encode_object,
        Exception,
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_value_without_an_encoding_is_refused(value):
    for wrapped in (value, [value], {"a": value}, ((value,),)):
        with pytest.raises(UsageError, match="cannot encode this object: ") as raised:
            encode_object(wrapped)
        assert raised.value.__cause__ is None


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({1}, "no encoding for set; there is one for None, bool, int, float, str, bytes, list, "),
        (2**64, "an int is of at most 64 bits"),
        (-(2**63) - 1, "an int is of at most 64 bits"),
    ],
)
def test_a_value_without_an_encoding_is_told_what_has_one(value, says):
    with pytest.raises(UsageError) as raised:
        encode_object([value])
    assert str(raised.value).startswith(f"cannot encode this object: {says}")


def test_an_object_within_itself_is_refused():
    inside = []
    inside.append(inside)
    looped = {}
    looped["a"] = (looped,)
    for value in (inside, looped):
        with pytest.raises(UsageError, match="cannot encode this object: "):
            encode_object(value)


# --- Objects: depth --------------------------------------------------------------------


def nested(depth, make):
    value = make(None)
    for _ in range(depth - 1):
        value = make(value)
    return value


NESTINGS = {
    # How one level is made around the next, and how many levels its fellows add.
    "empty array in the end": (lambda inner: [] if inner is None else [inner], 0),
    "empty map in the end": (lambda inner: {} if inner is None else {"a": inner}, 0),
    "arrays": (lambda inner: [inner], 0),
    "maps": (lambda inner: {"a": inner}, 0),
    "last of many": (lambda inner: [1, {}, [], inner], 1),
    "first of many": (lambda inner: {"a": inner, "b": [], "c": "d"}, 1),
}


@pytest.mark.audit("A20", "P5")
@pytest.mark.parametrize(("make", "more"), NESTINGS.values(), ids=NESTINGS)
def test_there_are_at_most_32_levels(make, more):
    assert MAX_DEPTH == 32
    deepest = nested(32 - more, make)
    packed = msgpack.packb(deepest)
    assert encode_object(deepest) == packed
    assert decode_object(packed) == deepest
    deeper = nested(33 - more, make)
    with pytest.raises(UsageError) as raised:
        encode_object(deeper)
    assert str(raised.value) == "cannot encode this object: nested deeper than 32 levels"
    assert no_object(msgpack.packb(deeper)) == "nested deeper than 32 levels"


def test_levels_that_were_closed_do_not_count():
    wide = [nested(31, lambda inner: [inner]) for _ in range(50)]
    assert decode_object(encode_object(wide)) == wide


# --- Objects: second encodings ---------------------------------------------------------


@pytest.mark.audit("A20", "P2", "P5")
@pytest.mark.parametrize(
    "packed",
    [
        b"\xcc\x00",
        b"\xcc\x7f",
        b"\xcd\x00\xff",
        b"\xce\x00\x00\xff\xff",
        b"\xcf" + be(2**32 - 1, 8),
        b"\xd0\x00",
        b"\xd0\x7f",
        b"\xd0\xff",
        b"\xd0\xe0",
        b"\xd1\xff\x80",
        b"\xd1\x00\x80",
        b"\xd2\xff\xff\x80\x00",
        b"\xd3\xff\xff\xff\xff\x80\x00\x00\x00",
        b"\xd3" + be(1, 8),
        b"\xd9\x00",
        b"\xd9\x1f" + b"x" * 31,
        b"\xda\x00\xff" + b"x" * 255,
        b"\xdb\x00\x00\xff\xff" + b"x" * 65_535,
        b"\xc5\x00\xff" + b"x" * 255,
        b"\xc6\x00\x00\xff\xff" + b"x" * 65_535,
        b"\xdc\x00\x00",
        b"\xdc\x00\x0f" + b"\xc0" * 15,
        b"\xdd\x00\x00\x00\x01\xc0",
        b"\xdd\x00\x00\xff\xff" + b"\xc0" * 65_535,
        b"\xde\x00\x00",
        b"\xde\x00\x01\xa1a\xc0",
        b"\xdf\x00\x00\x00\x01\xa1a\xc0",
        b"\x81\xd9\x01a\xc0",
        b"\x91\xcc\x01",
    ],
    ids=lambda packed: packed[:6].hex(),
)
def test_a_longer_form_than_the_shortest_is_refused(packed):
    # It is an encoding of something, only not the one.
    msgpack.unpackb(packed)
    assert no_object(packed) == NOT_ONE


@pytest.mark.audit("A20", "P5")
@pytest.mark.parametrize(
    "packed",
    [
        b"\x82\xa1a\x01\xa1a\x02",
        b"\x82\xa1a\x01\xa1a\x01",
        b"\x83\xa1a\x01\xa1b\x01\xa1a\x02",
        b"\x91\x82\xa0\xc0\xa0\xc0",
    ],
)
def test_a_map_with_one_key_twice_is_refused(packed):
    assert no_object(packed) == NOT_ONE


@pytest.mark.audit("A20", "P5")
@pytest.mark.parametrize(
    "key",
    [b"\xc0", b"\xc2", b"\x01", b"\xff", b"\xc4\x01a", b"\x90", b"\x80", b"\xcb" + bytes(8)],
    ids=bytes.hex,
)
def test_a_map_key_that_is_no_str_is_refused(key):
    for packed in (b"\x81" + key + b"\xc0", b"\x82\xa1a\xc0" + key + b"\xc0"):
        assert no_object(packed) == NOT_ALLOWED


def test_a_value_of_a_map_may_be_what_a_key_may_not():
    assert decode_object(b"\x82\xa1a\x01\xa1b\xc4\x01x") == {"a": 1, "b": b"x"}


@pytest.mark.audit("A20", "P5")
@pytest.mark.parametrize(
    "packed",
    [
        b"\xc1",
        b"\xca" + bytes(4),
        b"\xc7\x00\x01",
        b"\xc8\x00\x00\x01",
        b"\xc9\x00\x00\x00\x00\x01",
        b"\xd4\x01\x00",
        b"\xd5\x01" + bytes(2),
        b"\xd6\xff" + bytes(4),
        b"\xd7\xff" + bytes(8),
        b"\xd8\x01" + bytes(16),
    ],
    ids=bytes.hex,
)
def test_extensions_float32_and_the_unused_byte_are_refused(packed):
    for wrapped in (packed, b"\x91" + packed, b"\x81\xa1a" + packed):
        assert no_object(wrapped) == NOT_ALLOWED


@pytest.mark.audit("A20", "P5")
@pytest.mark.parametrize(
    "text", [b"\xff", b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xc3"]
)
def test_a_str_that_is_no_utf_8_is_refused(text):
    head = bytes([0xA0 | len(text)])
    assert no_object(head + text) == NOT_ONE
    assert no_object(b"\x81" + head + text + b"\xc0") == NOT_ONE


@pytest.mark.audit("A2", "P2")
@pytest.mark.parametrize("value", [None, 1, 300, "text", b"bytes", [1, [2]], {"a": {"b": 1.5}}])
def test_an_object_ends_where_it_ends(value):
    packed = encode_object(value)
    for after in (b"\0", b"\xc0", packed):
        assert no_object(packed + after) == AFTER
    for size in range(len(packed)):
        assert no_object(packed[:size]) in (NOT_ONE, TOO_MUCH)


@pytest.mark.parametrize(
    "packed",
    [
        b"\xcc",
        b"\xcd\x01",
        b"\xcb" + bytes(7),
        b"\xa2a",
        b"\xd9",
        b"\xd9\x20" + b"x" * 31,
        b"\xc4",
        b"\xc4\x01",
        b"\xc6\xff\xff\xff",
        b"\xdc\x00",
        b"\xdf\x00\x00\x00",
        b"\x92\xc0",
        b"\x81\xa1a",
    ],
    ids=bytes.hex,
)
def test_what_is_cut_short_announces_too_much(packed):
    assert no_object(packed) == TOO_MUCH
    assert no_object(b"") == NOT_ONE


# --- Objects: bombs --------------------------------------------------------------------

BOMBS = {
    "nested arrays": b"\x91" * 10_000,
    "nested arrays of many": (b"\xdc\x27\x00" + b"\x91" * 17) * 500,
    "nested maps": b"\x81\xa1a" * 3_333,
    "nested array32": b"\xdd\xff\xff\xff\xff" * 2_000,
    "nested map32": (b"\xdf\xff\xff\xff\xff\xa1a") * 1_400,
    "an array of 2^32": b"\xdd\xff\xff\xff\xff" + b"\xc0" * 10_000,
    "a map of 2^31": b"\xdf\x7f\xff\xff\xff" + b"\xa0\xc0" * 5_000,
    "a str of 2^32": b"\xdb\xff\xff\xff\xff" + b"x" * 10_000,
    "a bin of 2^32": b"\xc6\xff\xff\xff\xff" + b"x" * 10_000,
    "announced at every level": b"".join(b"\xdd" + be(10_000 - 5 * n, 4) for n in range(30)).ljust(
        10_000, b"\xc0"
    ),
    "an ext of 2^32": b"\xc9\xff\xff\xff\xff\x01" + bytes(10_000),
    "scalars in a row": b"\x00" * 10_000,
}


@pytest.mark.audit("A20", "P5", "A16")
@pytest.mark.parametrize("packed", BOMBS.values(), ids=BOMBS)
@pytest.mark.parametrize("decode", [decode_object, decode_bundle])
def test_ten_kilobytes_of_hostility_cost_little_memory(decode, packed):
    assert memory_of(decode, packed) < 200_000


FULL = {
    "an array": b"\xdd" + be(100_000, 4) + b"\xc0" * 100_000,
    "a map": b"\xde"
    + be(20_000, 2)
    + b"".join(b"\xc4\2" + be(n, 2) + b"\xc0" for n in range(20_000)),
    "a str": b"\xdb" + be(100_000, 4) + b"x" * 100_000,
    "an ext": b"\xc9" + be(100_000, 4) + b"\1" + bytes(100_000),
}


@pytest.mark.audit("A20", "P5")
@pytest.mark.parametrize("element", FULL.values(), ids=FULL)
def test_what_no_bundle_holds_is_not_even_built(element):
    refused_at_once = memory_of(decode_bundle, b"\x91\xc1" + bytes(len(element)))
    assert memory_of(decode_bundle, b"\x91" + element) < refused_at_once + 20_000


@pytest.mark.audit("A20", "P5")
def test_a_count_may_announce_just_what_the_bytes_hold():
    # Two in the array, and the inner one holds the rest.
    assert decode_object(b"\x92\x92\xc0\xc0\xc0") == [[None, None], None]
    assert no_object(b"\x92\x92\xc0\xc0") == TOO_MUCH
    assert no_object(b"\x92\x93\xc0\xc0\xc0") == TOO_MUCH
    assert no_object(b"\x82\xa0\xc0\xa0") == TOO_MUCH
    assert no_object(b"\x82\xa0\x82\xa0\xa0") == TOO_MUCH


# --- Bundles ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payloads", "packed"),
    [
        ([b""], b"\x91\xc4\x00"),
        ([b"a", b"bc"], b"\x92\xc4\x01a\xc4\x02bc"),
        ([b""] * 15, b"\x9f" + b"\xc4\x00" * 15),
        ([b""] * 16, b"\xdc\x00\x10" + b"\xc4\x00" * 16),
        ([b""] * 4095, b"\xdc\x0f\xff" + b"\xc4\x00" * 4095),
        ([b""] * 4096, b"\xdc\x10\x00" + b"\xc4\x00" * 4096),
        ([b"x" * 255], b"\x91\xc4\xff" + b"x" * 255),
        ([b"x" * 256], b"\x91\xc5\x01\x00" + b"x" * 256),
        ([b"x" * 65_535], b"\x91\xc5\xff\xff" + b"x" * 65_535),
        ([b"x" * 65_536], b"\x91\xc6\x00\x01\x00\x00" + b"x" * 65_536),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_bundle_has_this_encoding_and_comes_back(payloads, packed):
    assert encode_bundle(payloads) == packed
    assert encode_bundle(tuple(payloads)) == packed
    back = decode_bundle(packed)
    assert back == payloads
    assert type(back) is list
    assert {type(payload) for payload in back} == {bytes}


@pytest.mark.audit("P3")
@pytest.mark.parametrize("count", [0, 4097])
def test_a_bundle_has_1_to_4096_payloads(count):
    payloads = [b""] * count
    with pytest.raises(UsageError) as raised:
        encode_bundle(payloads)
    assert str(raised.value) == "a bundle has 1 to 4096 payloads"
    no_bundle(msgpack.packb(payloads))


class Raw(bytes):
    pass


@pytest.mark.parametrize(
    "payloads",
    [
        b"payload",
        "payload",
        {b"a": 1},
        {b"a"},
        iter([b"a"]),
        None,
        [b"a", "b"],
        [None],
        [bytearray(b"a")],
        [memoryview(b"a")],
        [Raw(b"a")],
        [[b"a"]],
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_bundle_is_a_list_of_bytes(payloads):
    with pytest.raises(UsageError) as raised:
        encode_bundle(payloads)
    assert str(raised.value) == "a bundle is a list of bytes"


@pytest.mark.audit("P2", "P5", "A20")
@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"\x90",
        b"\xdc\x00\x00",
        b"\xdd\x00\x00\x00\x01\xc4\x01a",
        b"\xdd\x00\x00\x00\x10" + b"\xc4\x00" * 16,
        b"\xdc\x00\x0f" + b"\xc4\x00" * 15,
        b"\xdc\x00\x01\xc4\x01a",
        b"\x91",
        b"\x92\xc4\x01a",
        b"\x90\xc4\x01a",
        b"\x91\xc4\x01a\xc4\x01b",
        b"\x91\xc4\x01a\0",
        b"\x91\xc4\x01",
        b"\x91\xc5\x00\x01a",
        b"\x91\xc5\x00\xff" + b"x" * 255,
        b"\x91\xc6\x00\x00\x00\x01a",
        b"\x91\xc6\x00\x00\xff\xff" + b"x" * 65_535,
        b"\x91\xa1a",
        b"\x91\xa0",
        b"\x91\xd9\x01a",
        b"\x91\xc0",
        b"\x91\x01",
        b"\x91\xc1",
        b"\x91\x90",
        b"\x91\x80",
        b"\x91\x91\xc4\x01a",
        b"\x91\x81\xa1a\xc0",
        b"\x91\xc7\x00\x01",
        b"\x91\xd4\x01a",
        b"\x92\xc4\x01a\xa1b",
        b"\xc4\x01a",
        b"\x81\xc4\x01a\xc0",
        b"\xa1a",
        b"\xc0",
        b"\xdc",
        b"\xdc\x00",
        b"\x8f",
        b"\xa0",
    ],
    ids=lambda packed: packed[:8].hex() or "nothing",
)
def test_anything_else_is_no_bundle(packed):
    no_bundle(packed)


@pytest.mark.audit("A2", "P2")
def test_a_bundle_ends_where_it_ends():
    packed = encode_bundle([b"a", b"", b"ccc"])
    for size in range(len(packed)):
        no_bundle(packed[:size])
    for after in (b"\0", b"\xc4\x00", packed):
        no_bundle(packed + after)


@pytest.mark.audit("A20", "P5")
@pytest.mark.parametrize("element", [b"\x80", b"\x90", b"\xc0", b"\x00", b"\xc4\x00", b"\xa0"])
def test_a_row_of_elements_that_no_bundle_has_costs_little_memory(element):
    # A sender who was taken over may send as much as max_size allows, and all of
    # it elements: what is built of them has to end at the limit of a bundle.
    small = memory_of(decode_bundle, b"\xdc\xff\xff" + element * 10_000)
    large = memory_of(decode_bundle, b"\xdc\xff\xff" + element * 100_000)
    assert large < small + 300_000
