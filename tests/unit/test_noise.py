"""The handshake by itself: turns, forgeries, agreement, and nothing that shows a key."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envelope.primitives import CryptoError, chacha_encrypt, x25519, x25519_public
from envelope.session.noise import MAX_MESSAGE, Handshake, _SymmetricState, nonce_of

ALICE, BOB, EVE = (bytes([number]) * 32 for number in (1, 2, 3))
FIRST_SIZE, SECOND_SIZE = 32 + 48 + 16, 32 + 16


def ends(prologue=b"p", other=None, expected=BOB, shared=None):
    """Return initiator and responder."""
    first = Handshake(
        secret=ALICE,
        public=x25519_public(ALICE),
        ephemeral=b"a" * 32,
        prologue=prologue,
        remote_static=x25519_public(expected),
        shared=shared,
    )
    second = Handshake(
        secret=BOB,
        public=x25519_public(BOB),
        ephemeral=b"b" * 32,
        prologue=prologue if other is None else other,
        remote_static=None,
        shared=shared,
    )
    return first, second


def state_of(handshake):
    """Return all that a handshake holds."""
    inner = handshake._state
    return (
        *(getattr(handshake, name) for name in Handshake.__slots__ if name != "_state"),
        *(getattr(inner, name) for name in type(inner).__slots__),
    )


@given(st.binary(max_size=300), st.binary(max_size=300), st.binary(max_size=80))
def test_both_ends_agree(said, answered, prologue):
    one, two = ends(prologue)
    message = one.write(said)
    assert len(message) == FIRST_SIZE + len(said)
    assert two.read(message) == said
    assert two.remote_static == x25519_public(ALICE)
    reply = two.write(answered)
    assert len(reply) == SECOND_SIZE + len(answered)
    assert one.read(reply) == answered
    assert one.keys.send == two.keys.receive != one.keys.receive == two.keys.send
    assert one.keys.hash == two.keys.hash


def test_there_are_no_keys_before_the_end():
    one, two = ends()
    assert one.keys is None
    two.read(one.write(b""))
    assert one.keys is None
    assert two.keys is None
    two.write(b"")
    assert two.keys is not None
    assert one.keys is None


def test_it_is_over_when_both_messages_were_written_and_read():
    one, two = ends()
    assert (one.is_over, two.is_over) == (False, False)
    two.read(one.write(b""))
    assert (one.is_over, two.is_over) == (False, False)
    message = two.write(b"")
    assert (one.is_over, two.is_over) == (False, True)
    one.read(message)
    assert one.is_over


def test_what_two_static_keys_come_to_is_asked_for_once_and_used():
    asked = []

    def shared(public):
        asked.append(public)
        return x25519(ALICE, x25519_public(BOB))

    told, plain = ends(shared=shared), ends()
    first, second = (one.write(b"x") for one, _ in (told, plain))
    assert first == second
    assert asked == [x25519_public(BOB)]
    assert told[1].read(first) == b"x"
    assert asked == [x25519_public(BOB), x25519_public(ALICE)]
    told[0].read(told[1].write(b"y"))
    assert len(asked) == 2
    # What it says is what is used: another secret, and nothing opens.
    (one, _), (_, two) = ends(shared=lambda _: b"s" * 32), ends()
    with pytest.raises(CryptoError):
        two.read(one.write(b"x"))


@pytest.mark.audit("C6")
def test_a_key_encrypts_under_each_nonce_once_and_another_begins_anew():
    here, there = _SymmetricState(), _SymmetricState()
    for shared in (b"1" * 32, b"2" * 32):
        for state in (here, there):
            state.mix_key(shared)
        for count in range(3):
            before = here.hash
            data = here.encrypt_and_hash(b"same")
            assert data == chacha_encrypt(b"same", before, nonce_of(count), here._key)
            assert there.copy().decrypt_and_hash(data) == b"same"
            assert there.decrypt_and_hash(data) == b"same"
            assert here.hash == there.hash != before


@pytest.mark.audit("A1")
@pytest.mark.parametrize("at", range(FIRST_SIZE + 3))
def test_a_first_message_with_any_bit_changed_changes_nothing(at):
    one, two = ends()
    message = one.write(b"abc")
    forged = message[:at] + bytes([message[at] ^ 1]) + message[at + 1 :]
    before = state_of(two)
    with pytest.raises(CryptoError):
        two.read(forged)
    assert state_of(two) == before
    assert two.read(message) == b"abc"


@pytest.mark.audit("A1")
@pytest.mark.parametrize("at", range(SECOND_SIZE + 3))
def test_a_second_message_with_any_bit_changed_changes_nothing(at):
    one, two = ends()
    two.read(one.write(b""))
    message = two.write(b"abc")
    forged = message[:at] + bytes([message[at] ^ 1]) + message[at + 1 :]
    before = state_of(one)
    with pytest.raises(CryptoError):
        one.read(forged)
    assert state_of(one) == before
    assert one.read(message) == b"abc"


@pytest.mark.parametrize("size", [0, 31, 32, 79, 80, FIRST_SIZE - 1, MAX_MESSAGE + 1])
def test_a_message_of_a_wrong_size_is_none(size):
    one, two = ends()
    message = (one.write(b"") + bytes(MAX_MESSAGE))[:size]
    with pytest.raises(CryptoError):
        two.read(message)


def test_the_largest_message_is_one():
    assert MAX_MESSAGE == 65_535
    one, two = ends()
    payload = bytes(MAX_MESSAGE - FIRST_SIZE)
    assert two.read(one.write(payload)) == payload
    one, two = ends()
    with pytest.raises(RuntimeError, match="larger"):
        one.write(payload + b"x")


@pytest.mark.audit("A7")
def test_who_is_not_meant_reads_nothing():
    one, two = ends(expected=EVE)
    with pytest.raises(CryptoError):
        two.read(one.write(b"for Eve"))


def test_who_agrees_on_something_else_reads_nothing():
    one, two = ends(b"valves", b"pumps")
    with pytest.raises(CryptoError):
        two.read(one.write(b"open"))


def test_only_who_was_addressed_can_answer():
    one, _ = ends()
    eve = Handshake(
        secret=EVE,
        public=x25519_public(EVE),
        ephemeral=b"e" * 32,
        prologue=b"p",
        remote_static=None,
    )
    with pytest.raises(CryptoError):
        eve.read(one.write(b""))
    # She answers a handshake of her own making instead.
    other = Handshake(
        secret=ALICE,
        public=x25519_public(ALICE),
        ephemeral=b"a" * 32,
        prologue=b"p",
        remote_static=x25519_public(EVE),
    )
    eve.read(other.write(b""))
    with pytest.raises(CryptoError):
        one.read(eve.write(b"I am Bob"))


@pytest.mark.audit("A6")
def test_an_initiators_own_message_is_no_answer():
    one, _ = ends()
    message = one.write(b"")
    with pytest.raises(CryptoError):
        one.read(message)


@pytest.mark.audit("C10")
@pytest.mark.parametrize("point", [bytes(32), b"\x01" + bytes(31)])
def test_a_key_of_low_order_is_refused(point):
    one, two = ends()
    message = one.write(b"")
    with pytest.raises(CryptoError):
        two.read(point + message[32:])
    low = Handshake(
        secret=ALICE,
        public=x25519_public(ALICE),
        ephemeral=b"a" * 32,
        prologue=b"p",
        remote_static=point,
    )
    with pytest.raises(CryptoError):
        low.write(b"")


def test_each_end_has_its_turns():
    one, two = ends()
    for wrong in (lambda: one.read(b""), lambda: two.write(b"")):
        with pytest.raises(RuntimeError, match="turn"):
            wrong()
    message = one.write(b"")
    with pytest.raises(RuntimeError, match="turn"):
        one.write(b"")
    two.read(message)
    with pytest.raises(RuntimeError, match="turn"):
        two.read(message)
    one.read(two.write(b""))
    for end in (one, two):
        with pytest.raises(RuntimeError, match="turn"):
            end.write(b"")
        with pytest.raises(RuntimeError, match="turn"):
            end.read(b"")


@pytest.mark.audit("C6")
def test_two_handshakes_of_the_same_ends_share_no_key():
    one, two = ends()
    one.read(two.write(two.read(one.write(b""))))
    again = Handshake(
        secret=ALICE,
        public=x25519_public(ALICE),
        ephemeral=b"c" * 32,
        prologue=b"p",
        remote_static=x25519_public(BOB),
    )
    responder = Handshake(
        secret=BOB,
        public=x25519_public(BOB),
        ephemeral=b"d" * 32,
        prologue=b"p",
        remote_static=None,
    )
    again.read(responder.write(responder.read(again.write(b""))))
    assert not {*one.keys} & {*again.keys}


@pytest.mark.audit("K5")
def test_nothing_printed_shows_a_key():
    one, two = ends()
    for end in (one, two, copy.copy(one)):
        role = "responder" if end is two else "initiator"
        assert repr(end) == f"<Handshake, {role}, 0 of 2 messages>"
        for secret in (ALICE, BOB, b"a" * 32):
            assert secret.hex() not in repr(end)
            assert repr(secret) not in repr(end)


def test_a_nonce_is_its_counter():
    assert nonce_of(0) == bytes(12)
    assert nonce_of(0x0102) == bytes(4) + b"\x02\x01" + bytes(6)
    assert nonce_of(2**64 - 1) == bytes(4) + b"\xff" * 8
