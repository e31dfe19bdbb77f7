"""An adversary on the line of a pairing: whatever it does, nobody pins a stranger."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pairs import CODE, OTHER_CODE, Two
from support import flip, identity

from envelope.errors import PairingError
from envelope.pairing.exchange import State
from envelope.pairing.messages import BODY_SIZES, Type, head

KNOWN = {
    "connector": identity("bob").public.public,
    "listener": identity("alice").public.public,
}
ACTS = st.lists(
    st.tuples(
        st.sampled_from(["pass", "drop", "twice", "old", "mirror", "flip", "other", "cut", "end"]),
        st.integers(min_value=0, max_value=2**16),
    ),
    max_size=10,
)
recorded: list[bytes] = []
Two(seed=99).run(lambda _, message: [recorded.append(message) or message])


def act(kind: str, number: int, message: bytes, seen: list[bytes]) -> list[bytes]:
    """Return what arrives in place of a message."""
    match kind:
        case "drop":
            return []
        case "twice":
            return [message, message]
        case "old":
            return [seen[number % len(seen)]]
        case "flip":
            return [flip(message, number % len(message), 1 << number % 8)]
        case "other":
            return [recorded[number % len(recorded)]]
        case "cut":
            return [message[: number % len(message)]]
        case "end":
            return [head(Type.END)]
        case "mirror":
            turned = Type(1 + number % 8)
            return [
                head(turned) + message[6:].ljust(BODY_SIZES[turned], b"\0")[: BODY_SIZES[turned]]
            ]
    return [message]


@pytest.mark.audit("A2", "A3")
@settings(deadline=None)
@given(ACTS, st.sampled_from([(CODE, CODE), (CODE, CODE), (CODE, OTHER_CODE)]), st.integers(0, 50))
def test_whatever_is_done_to_messages_only_the_other_end_is_pinned(acts, given_codes, seed):
    two = Two(*given_codes, seed=seed)
    plan = list(acts)
    seen: list[bytes] = []

    def on_way(_: str, message: bytes) -> list[bytes]:
        seen.append(message)
        return act(*plan.pop(0), message, seen) if plan else [message]

    two.run(on_way)
    assert all(two.pinned[name] == KNOWN[name] for name in two.pinned)
    if given_codes[0] != given_codes[1]:
        assert two.pinned == {}
    if "connector" in two.pinned:
        assert "listener" in two.pinned
    # What an end is sure of is so.
    for name, other in (("connector", "listener"), ("listener", "connector")):
        known = two.end(name).is_pinned_there
        assert known is None or known is (other in two.pinned)
    # A run in which both ends are content is an honest one.
    if not two.errors:
        assert set(two.pinned) == {"connector", "listener"}
    for end in (two.connector, two.listener):
        assert end.state in {State.DONE, State.ENDED}


@pytest.mark.audit("P4")
@settings(deadline=None)
@given(st.integers(1, 8), st.binary(max_size=300), st.booleans())
def test_any_bytes_end_in_a_pairing_error_or_an_answer(kind, data, whole):
    two = Two().until(kind)
    sender, _ = two.transit[0]
    end = two.end("listener" if sender == "connector" else "connector")
    if whole:
        data = (head(Type(kind)) + data).ljust(6 + BODY_SIZES[Type(kind)], b"\0")
        data = data[: 6 + BODY_SIZES[Type(kind)]]
    try:
        end.receive(data, 0)
    except PairingError:
        assert end.state is State.ENDED
    else:
        # Only the first two messages are not authenticated by themselves.
        assert kind <= 2
    assert end.state is not State.AGREED
