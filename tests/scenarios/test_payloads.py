"""What stands in the payload: A20, objects and bundles from a peer turned hostile.

The attacker is Alice, or has her seed: everything is signed. Bundles are decoded
before the mark, so a bad one leaves no trace, which ``Receiver`` sees to. Objects
are decoded when the application asks, after delivery.
"""

from __future__ import annotations

import dataclasses
import struct
import tracemalloc

import pytest
from cast import BOB
from forge import CONTENT_KEY, Forgery, key_block
from simulator import DELIVERED

from envelope.errors import MalformedError


def array(count):
    """Return the head of a long array."""
    return b"\xdd" + struct.pack(">I", count)


def forge(alice, payload, *, flags=0, is_sealed=False):
    """Return a payload of any bytes, signed or sealed by Alice."""
    forged = Forgery(alice, flags=flags, body=payload)
    if not is_sealed:
        return forged.encode()
    block = key_block(alice.public, {BOB: CONTENT_KEY})
    forged = dataclasses.replace(forged, kind=2, recipients=1, key_block=block)
    return forged.encrypted(payload).encode()


def peak_of(work):
    """Return the bytes that Python and its extensions held at most during ``work``."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# --- Objects ----------------------------------------------------------------------------


def refuse_object(bob, payload):
    """Deliver the payload, and see it refused as an object, in Alice's name."""
    state = bob.state()
    with pytest.raises(MalformedError) as refused:
        bob.delivered[-1].object()
    assert refused.value.code == "malformed"
    assert refused.value.verified
    assert refused.value.claimed_sender == bob.delivered[-1].sender.key_id
    assert bob.state() == state
    assert bob.delivered[-1].payload == payload


@pytest.mark.audit("A20", "P5")
@pytest.mark.parametrize("opening", [b"\x91", b"\x81\xa1a"], ids=["arrays", "maps"])
def test_objects_nest_32_levels_and_no_deeper(world, bob, opening):
    """I nest so deeply that a decoder's stack overflows: SPEC 10.2 ends at 32."""
    alice = world.sealer()
    assert bob.offer(alice.seal(opening * 32 + b"\xc0")) == DELIVERED
    value = bob.delivered[-1].object()
    for _ in range(32):
        value = value[0] if opening == b"\x91" else value["a"]
    assert value is None
    for depth in (33, 1000, 100_000):
        payload = opening * depth + b"\xc0"
        assert bob.offer(alice.seal(payload)) == DELIVERED
        refuse_object(bob, payload)


@pytest.mark.audit("A20", "P5")
@pytest.mark.parametrize(
    "payload",
    [
        array(2**32 - 1),
        b"\xdf" + struct.pack(">I", 2**31),
        b"\xc6" + struct.pack(">I", 2**32 - 1),
        b"\xdb" + struct.pack(">I", 2**32 - 1) + b"x" * 100,
        b"\xdc\xff\xff" * 3000,
        b"\x91" * 10_000,
        b"\xdc\x20\x00" * 20 + b"\xc0" * 10_000,
        b"\x92" + array(10_000) + b"\xc0" * 10_000,
    ],
    ids=[
        "array of 2^32",
        "map of 2^31",
        "bytes of 2^32",
        "text of 2^32",
        "many announced",
        "10 kB nested",
        "nested and announced",
        "one short",
    ],
)
def test_what_announces_more_than_it_holds_costs_no_memory(world, bob, payload):
    """I announce gigabytes in a few bytes: nothing is allocated by a count (SPEC 10.2)."""
    assert bob.offer(world.sealer().seal(payload)) == DELIVERED
    refuse_object(bob, payload)
    assert peak_of(lambda: refuse_object(bob, payload)) < 200_000


@pytest.mark.audit("A20", "P5")
@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc0\xc0",
        b"\x82\xa1a\x01\xa1a\x02",
        b"\x81\x01\x02",
        b"\x81\xc4\x01a\x02",
        b"\x81\xc0\x02",
        b"\x81\x90\x02",
        b"\xcc\x7f",
        b"\xcd\x00\xff",
        b"\xce\x00\x00\xff\xff",
        b"\xcf\x00\x00\x00\x00\xff\xff\xff\xff",
        b"\xd0\xff",
        b"\xd0\x01",
        b"\xd1\xff\x80",
        b"\xd3\x00\x00\x00\x00\x00\x00\x00\x01",
        b"\xd9\x01a",
        b"\xda\x00\x01a",
        b"\xc5\x00\x01a",
        b"\xdc\x00\x01\xc0",
        b"\xde\x00\x01\xa1a\xc0",
        b"\xca\x3f\x80\x00\x00",
        b"\xa1\xff",
        b"\xa2\xc0\x80",
        b"\xa3\xed\xa0\x80",
        b"\xd4\x01\x00",
        b"\xd6\xff\x00\x00\x00\x00",
        b"\xc7\x00\x01",
        b"\xc1",
        b"\x92\xc0",
        b"\xa5abc",
    ],
    ids=bytes.hex,
)
def test_an_object_has_one_encoding(world, bob, payload):
    """I write one value in two ways, so that two readers of one payload disagree.

    Keys twice, long forms, other floats, text that is no UTF-8, extensions, bytes after
    the end: SPEC 10.1, 10.2.
    """
    assert bob.offer(world.sealer().seal(payload)) == DELIVERED
    refuse_object(bob, payload)


# --- Bundles ----------------------------------------------------------------------------

HOSTILE_BUNDLES = {
    "nothing": b"",
    "no array": b"\xc4\x01a",
    "a map": b"\x81\xc4\x01a\xc4\x01b",
    "none": b"\x90",
    "none, long form": b"\xdc\x00\x00",
    "4097": b"\xdc\x10\x01" + b"\xc4\x00" * 4097,
    "one fewer": b"\x92\xc4\x01a",
    "one more": b"\x91\xc4\x01a\xc4\x01b",
    "bytes after the end": b"\x91\xc4\x01a\x00",
    "text": b"\x91\xa1a",
    "a number": b"\x91\x01",
    "nil": b"\x91\xc0",
    "an extension": b"\x91\xd4\x01\x00",
    "an array inside": b"\x91\x91\xc4\x01a",
    "nested": b"\x91" * 10_000,
    "long array head": b"\xdc\x00\x01\xc4\x01a",
    "longest array head": array(1) + b"\xc4\x01a",
    "long bin head": b"\x91\xc5\x00\x01a",
    "longest bin head": b"\x91\xc6\x00\x00\x00\x01a",
    "2^32 announced": array(2**32 - 1),
    "65535 announced": b"\xdc\xff\xff",
    "4 GiB of bytes announced": b"\x91\xc6\xff\xff\xff\xff",
}


@pytest.mark.audit("A20", "P3", "P5")
@pytest.mark.parametrize("is_sealed", [False, True], ids=["signed", "sealed"])
@pytest.mark.parametrize("name", HOSTILE_BUNDLES)
def test_a_bundle_in_another_form_is_refused_before_the_mark(world, bob, name, is_sealed):
    """I sign a bundle that unpacks in two ways, or into too much: step 10, and no trace."""
    data = forge(world.alice, HOSTILE_BUNDLES[name], flags=1, is_sealed=is_sealed)
    assert bob.offer_bundle(data) == "malformed"
    assert bob.refused[-1].verified
    # The sequence was not spent on it.
    sound = forge(world.alice, b"\x91\xc4\x01a", flags=1, is_sealed=is_sealed)
    assert bob.offer_bundle(sound) == DELIVERED
    assert bob.payloads == [b"a"]


@pytest.mark.audit("A20", "P3", "P5")
@pytest.mark.parametrize("name", ["nested", "2^32 announced", "4 GiB of bytes announced", "4097"])
def test_a_hostile_bundle_costs_no_memory(world, bob, name):
    """I announce gigabytes in a bundle's head: nothing is allocated by a count."""
    data = forge(world.alice, HOSTILE_BUNDLES[name], flags=1)
    assert bob.offer_bundle(data) == "malformed"
    assert peak_of(lambda: bob.offer_bundle(data)) < 500_000


@pytest.mark.audit("A20", "P3")
def test_4096_payloads_are_a_bundle(world, bob):
    """The control: the limit itself is let through, as one envelope with one sequence."""
    payloads = [b"%d" % number for number in range(4096)]
    assert bob.offer_bundle(world.sealer().seal_bundle(payloads)) == DELIVERED
    assert bob.payloads == payloads
    assert {message.sequence for message in bob.delivered} == {0}
    assert len({message.id for message in bob.delivered[:100]}) == 100


@pytest.mark.audit("A20", "P3")
def test_what_is_larger_than_the_policy_allows_is_refused_unread(bob):
    """I send 16 MiB and a byte, in the envelope or in the frames beside it: step 1."""
    limit = bob.opener.policy.max_size
    assert bob.offer(bytes(limit + 1)) == "too_large"
    assert bob.offer(bytes(200), bound=[bytes(limit)]) == "too_large"
    assert bob.offer(bytes(200), bound=[b""] * 65) == "too_large"
    assert bob.offer(bytes(limit)) == "malformed"
