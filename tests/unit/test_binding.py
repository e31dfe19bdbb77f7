"""CTX, BIND and BODY, computed a second time from SPEC 5.1 to 5.3."""

from __future__ import annotations

import hashlib
import itertools

import pytest

from envelope.binding import bind_state, body_digest, context_digest


def blake(label: bytes, *data: bytes) -> bytes:
    """Return H(64, label, data) by SPEC 2.2."""
    return hashlib.blake2b(label.ljust(128, b"\0") + b"".join(data)).digest()


def be(number: int, size: int) -> bytes:
    return number.to_bytes(size, "big")


@pytest.mark.parametrize(
    "bound",
    [(), (b"",), (b"topic",), (b"a", b""), tuple(be(i, 2) for i in range(64)), (b"x" * 70_000,)],
)
@pytest.mark.parametrize("context", [b"o", b"orders", b"x" * 255])
def test_ctx_is_that_of_spec_5_1(context, bound):
    frames = b"".join(be(len(frame), 8) + frame for frame in bound)
    assert context_digest(context, bound) == blake(
        b"env1-context", be(len(context), 8), context, be(len(bound), 4), frames
    )


@pytest.mark.audit("C1", "A5")
def test_contexts_and_frames_that_join_to_the_same_bytes_differ():
    places = [
        (b"ab", ()),
        (b"a", (b"b",)),
        (b"ab", (b"",)),
        (b"ab", (b"", b"")),
        (b"x", (b"ab",)),
        (b"x", (b"a", b"b")),
        (b"x", (b"", b"ab")),
        (b"x", (b"ab", b"")),
        (b"x", (b"b", b"a")),
        (b"xa", (b"b",)),
        # A context that ends in what looks like a count and a frame.
        (b"x" + be(1, 4) + be(1, 8) + b"f", ()),
        (b"x", (b"f",)),
    ]
    digests = [context_digest(*place) for place in places]
    assert all(one != two for one, two in itertools.combinations(digests, 2))


def test_bind_is_that_of_spec_5_2():
    public, ctx, head = bytes(range(64)), bytes(range(64, 128)), b"head" * 20
    state = bind_state(public, ctx)
    state.update(head)
    assert state.digest() == blake(b"env1-bind", public, ctx, head)


def test_the_state_of_bind_is_not_shared():
    one, two = bind_state(bytes(64), bytes(64)), bind_state(bytes(64), bytes(64))
    one.update(b"head")
    assert two.digest() == blake(b"env1-bind", bytes(128))


@pytest.mark.parametrize("body", [b"", b"body", b"x" * 129])
def test_body_is_that_of_spec_5_3(body):
    assert body_digest(body) == blake(b"env1-body", body)
    assert body_digest(memoryview(body)) == body_digest(body)
