"""What callers may pass, at the edge, and the sentence when it is wrong."""

from __future__ import annotations

import pytest

from envelope import UsageError
from envelope.arguments import (
    as_bytes,
    check_bound,
    check_bound_count,
    check_context,
    check_message_id,
)


class Text(str):
    __slots__ = ()


class Raw(bytes):
    pass


@pytest.mark.parametrize("context", ["o", "plant7.orders", "x" * 255, "é" * 127, "\0", " ", "*"])
def test_a_context_is_its_utf_8(context):
    assert check_context(context) == context.encode()


@pytest.mark.parametrize("context", ["x" * 256, "é" * 128, "x" + "é" * 127 + "x", "€" * 86])
def test_a_context_is_at_most_255_bytes_not_characters(context):
    with pytest.raises(UsageError) as raised:
        check_context(context)
    assert str(raised.value) == "context is at most 255 bytes of UTF-8"


@pytest.mark.parametrize("context", ["", b"orders", None, 7, ["orders"], Text("orders")])
def test_a_context_is_a_str_with_something_in_it(context):
    with pytest.raises(UsageError, match="context is a non-empty str that names this flow"):
        check_context(context)


def test_a_context_that_is_no_unicode_is_refused():
    with pytest.raises(UsageError) as raised:
        check_context("\ud800")
    assert str(raised.value) == "context cannot be encoded as UTF-8"
    assert raised.value.__cause__ is None


@pytest.mark.parametrize("given", [[], [b""], [b"topic", b"more"], [b"x"] * 65])
@pytest.mark.parametrize("kind", [list, tuple])
def test_bound_frames_become_a_tuple(given, kind):
    assert check_bound(kind(given)) == tuple(given)
    assert type(check_bound(kind(given))) is tuple


@pytest.mark.audit("C4")
@pytest.mark.parametrize(
    "bound",
    [
        b"topic",
        "topic",
        bytearray(b"t"),
        None,
        7,
        {b"a": 1},
        {b"a"},
        iter([b"a"]),
        ["topic"],
        [b"a", "b"],
        ["a", b"b"],
        [bytearray(b"a")],
        [memoryview(b"a")],
        [Raw(b"a")],
        [None],
        ([b"a"],),
    ],
)
def test_anything_but_a_list_of_bytes_is_no_bound(bound):
    with pytest.raises(UsageError) as raised:
        check_bound(bound)
    assert str(raised.value) == 'bound is a list of bytes: bound=[b"topic"]'


def test_a_list_of_frames_that_changes_later_changes_nothing():
    frames = [b"a"]
    taken = check_bound(frames)
    frames.append(b"b")
    assert taken == (b"a",)


@pytest.mark.audit("P3")
def test_there_are_at_most_64_bound_frames():
    check_bound_count(())
    check_bound_count((b"",) * 64)
    with pytest.raises(UsageError) as raised:
        check_bound_count((b"",) * 65)
    assert str(raised.value) == "at most 64 bound frames"


@pytest.mark.parametrize("data", [b"abc", bytearray(b"abc"), memoryview(b"abc"), Raw(b"abc")])
def test_what_holds_bytes_becomes_bytes(data):
    made = as_bytes(data, "payload")
    assert made == b"abc"
    assert type(made) is bytes


def test_a_view_with_steps_is_read_in_its_order():
    assert as_bytes(memoryview(b"abcd")[::2], "payload") == b"ac"


@pytest.mark.parametrize("data", ["abc", 3, None, [1], (b"a",), object()])
def test_what_holds_no_bytes_is_refused_by_name(data):
    with pytest.raises(UsageError) as raised:
        as_bytes(data, "payload")
    assert str(raised.value) == f"payload is bytes, not {type(data).__name__}; encode it first"


def test_a_message_id_has_32_bytes():
    assert check_message_id(bytes(range(32))) == bytes(range(32))
    for wrong in (b"", bytes(31), bytes(33), "x" * 32, bytearray(32), None, Raw(32)):
        with pytest.raises(UsageError) as raised:
            check_message_id(wrong)
        assert str(raised.value) == "in_reply_to is the id of a message: 32 bytes"


def test_a_memoryview_that_was_released_is_a_usage_error():
    view = memoryview(b"payload")
    view.release()
    with pytest.raises(UsageError, match="payload is a memoryview that was released"):
        as_bytes(view, "payload")
