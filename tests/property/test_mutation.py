"""No change of any byte is accepted, and none leaves a trace (A1, A2).

Invariant of this file: whatever is not byte for byte what the sender sealed is
refused by a RejectedError, the replay memory and the counters (but for those of
refusals) stay as they were, and what the sender did seal still opens afterwards.
"""

from __future__ import annotations

import dataclasses
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import World, flip, identity

from envelope.errors import RejectedError

BOB, CAROL = identity("bob"), identity("carol")
BOTH = (BOB.public, CAROL.public)
REQUEST = b"r" * 32

KINDS = {
    "signed": {"to": ()},
    "signed, empty": {"to": (), "payload": b""},
    "signed to one": {"to": BOTH[:1], "sealed": False},
    "signed to two": {"to": BOTH, "sealed": False},
    "signed reply": {"to": (), "request": REQUEST},
    "signed bundle": {"to": (), "bundle": True},
    "sealed to one": {"to": BOTH[:1]},
    "sealed, empty": {"to": BOTH[:1], "payload": b""},
    "sealed to two": {"to": BOTH},
    "sealed reply": {"to": BOTH[:1], "request": REQUEST},
    "sealed bundle": {"to": BOTH[:1], "bundle": True},
    "sealed bundle in reply to two": {"to": BOTH, "bundle": True, "request": REQUEST},
}


class Scene:
    """An opener in the middle of a conversation, and the envelope it waits for."""

    def __init__(self, kind):
        options = KINDS[kind]
        world = World()
        self.sealer = world.sealer(to=options["to"], sealed=options.get("sealed"))
        self.bundle = options.get("bundle", False)
        self.options = {"bound": (b"topic",), "in_reply_to": options.get("request")}
        self.payload = options.get("payload", b"payload")
        self.opener = world.opener()
        for _ in range(3):
            self.open(self.seal())
        self.data = self.seal()
        self.before = self.traces()

    def seal(self, payload=None):
        payload = self.payload if payload is None else payload
        if self.bundle:
            return self.sealer.seal_bundle([payload, payload], **self.options)
        return self.sealer.seal(payload, **self.options)

    def open(self, data):
        return self.opener.open_bundle(data, **self.options)

    def traces(self):
        """Return all that a refusal must not change."""
        sender = self.opener._senders._met[1][self.sealer.identity.key_id]
        return (
            self.opener.replay.state(),
            dataclasses.replace(self.opener.stats, refused={}),
            sorted(sender.bound),
            dict(sender.keys),
            list(self.opener._senders._met[1]),
        )

    def refuses(self, data):
        """Check one refusal and what it leaves behind; return its code."""
        count = sum(self.opener.stats.refused.values())
        with pytest.raises(RejectedError) as refused:
            self.open(data)
        stats = self.opener.stats
        assert sum(stats.refused.values()) == count + 1
        assert stats.refused[refused.value.code] > 0
        return refused.value.code

    def ends_well(self):
        """Check that nothing has changed, and that the envelope opens."""
        assert self.traces() == self.before
        assert self.open(self.data)[0].payload == self.payload


@pytest.mark.audit("A1", "C2", "A14", "A15")
@pytest.mark.parametrize("kind", KINDS)
def test_no_changed_byte_is_accepted(kind):
    scene = Scene(kind)
    for position in range(len(scene.data)):
        for mask in (0x01, 0x40, 0x80, 0xFF):
            scene.refuses(flip(scene.data, position, mask))
    scene.ends_well()


@pytest.mark.audit("A1")
@pytest.mark.parametrize("kind", KINDS)
def test_no_byte_of_the_header_may_have_another_value(kind):
    scene = Scene(kind)
    for position in range(8):
        for mask in range(1, 256):
            scene.refuses(flip(scene.data, position, mask))
    scene.ends_well()


@pytest.mark.audit("A2")
@pytest.mark.parametrize("kind", KINDS)
def test_no_shorter_or_longer_envelope_is_accepted(kind):
    scene = Scene(kind)
    data = scene.data
    for size in range(len(data)):
        scene.refuses(data[:size])
        scene.refuses(data[len(data) - size :])
    for more in (b"\0", b"\xff", bytes(16), bytes(64), data[-64:], data):
        scene.refuses(data + more)
        scene.refuses(more + data)
        for at in (8, 40, 80, len(data) // 2, len(data) - 64):
            scene.refuses(data[:at] + more + data[at:])
    for at in range(len(data)):
        scene.refuses(data[:at] + data[at + 1 :])
    scene.ends_well()


@pytest.mark.audit("A2", "C4", "A9")
@pytest.mark.parametrize("kind", KINDS)
def test_no_splice_of_two_envelopes_is_accepted(kind):
    scene = Scene(kind)
    other = Scene(kind)
    first, second = scene.data, scene.seal(b"another")
    seen = {first, second}
    for theirs in (second, other.data):
        for at in range(max(len(first), len(theirs))):
            for data in (first[:at] + theirs[at:], theirs[:at] + first[at:]):
                if data not in seen | {theirs}:
                    scene.refuses(data)
    scene.ends_well()


@pytest.mark.audit("A5", "C2")
@pytest.mark.parametrize("kind", KINDS)
def test_no_other_bound_frames_are_accepted(kind):
    scene = Scene(kind)
    right = scene.options["bound"]
    wrong = [(), (b"",), (b"topi",), (b"topic", b""), (b"", b"topic"), (b"top", b"ic"), (b"Topic",)]
    for bound in wrong:
        scene.options["bound"] = bound
        assert scene.refuses(scene.data) == "bad_signature"
    scene.options["bound"] = right
    scene.ends_well()


@cache
def scene_of(kind):
    """Return a scene that lives through all examples: refusals leave no trace."""
    return Scene(kind)


kinds = st.sampled_from(sorted(KINDS))


@pytest.mark.audit("P4", "A16")
@given(kinds, st.binary(max_size=600), st.integers(0, 120))
def test_random_bytes_are_refused(kind, noise, start):
    """Also behind the true beginning of an envelope."""
    scene = scene_of(kind)
    data = scene.data[:start] + noise
    if data != scene.data:
        scene.refuses(data)
        assert scene.traces() == scene.before


@pytest.mark.audit("A1", "P4")
@given(kinds, st.data())
def test_several_changes_at_once_are_refused(kind, data):
    scene = scene_of(kind)
    changed = bytearray(scene.data)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(changed) - 1))
        changed[at] = data.draw(st.integers(0, 255))
    if changed != scene.data:
        scene.refuses(bytes(changed))
        assert scene.traces() == scene.before
