"""What the messages of a run are authenticated and encrypted with (SPEC 19.4, 19.5)."""

from __future__ import annotations

import pytest
from support import flip, identity

from envelope.errors import PairingCodeError, PairingError
from envelope.pairing import transcript
from envelope.pairing.messages import Type, head
from envelope.pairing.transcript import Transcript
from envelope.primitives import H, aead_decrypt, aead_encrypt, verify, x25519, x25519_public

ALICE, BOB = identity("alice"), identity("bob")
ONE, TWO = b"1" * 32, b"2" * 32
KEY = b"k" * 32
RUN = (b"first", b"second")


def made(who=ALICE, ephemeral=ONE, other=TWO):
    """Return a transcript with two messages and a key."""
    one = Transcript(who, ephemeral)
    one.take_ephemeral(x25519_public(other))
    one.key = KEY
    for message in RUN:
        assert one.log(message) is message
    return one


def run(*messages):
    return H(64, b"env1-pair-run", *messages)


def test_it_begins_without_key_and_messages():
    one = Transcript(ALICE, ONE)
    assert (one.key, one.ephemeral, one.own_public) == (
        b"",
        x25519_public(ONE),
        ALICE.public.public,
    )
    assert one._messages == []


@pytest.mark.parametrize("kind", list(Type)[3:])
@pytest.mark.parametrize("confirms", [False, True])
def test_a_sealed_message_has_the_bytes_of_the_specification(kind, confirms):
    tag = H(32, b"env1-pair-code", bytes((kind,)), run(*RUN), key=KEY) if confirms else b""
    key = H(32, b"env1-pair-key", bytes((kind,)), run(*RUN), key=KEY)
    sealed = made().seal(kind, b"plaintext", confirms=confirms)
    start = head(kind) + tag
    assert sealed == start + aead_encrypt(b"plaintext", start, bytes(24), key)
    assert aead_decrypt(sealed[len(start) :], start, bytes(24), key) == b"plaintext"
    assert made(BOB).open(kind, sealed, confirms=confirms) == b"plaintext"


def test_unless_it_is_said_nothing_confirms_the_code():
    sealed = made().seal(Type.DONE, b"")
    assert sealed == made().seal(Type.DONE, b"", confirms=False)
    assert len(sealed) == 22
    assert made().open(Type.DONE, sealed) == b""


@pytest.mark.audit("A1", "C3")
def test_another_tag_is_another_code_and_another_rest_was_changed():
    sealed = made().seal(Type.CONFIRMATION, b"x", confirms=True)
    for at in range(6, 38):
        with pytest.raises(PairingCodeError):
            made().open(Type.CONFIRMATION, flip(sealed, at), confirms=True)
    for at in (*range(6), *range(38, len(sealed))):
        with pytest.raises(PairingError, match="changed on its way"):
            made().open(Type.CONFIRMATION, flip(sealed, at), confirms=True)


@pytest.mark.parametrize("kind", [Type.LISTENER_PROOF, Type.CONNECTOR_PROOF])
def test_a_proof_has_the_bytes_of_the_specification(kind):
    prover, checker = made(), made(BOB, TWO, ONE)
    proof = prover.prove(kind, BOB.public)
    publics = ALICE.public.public, BOB.public.public
    statement = H(64, b"env1-pair-proof", bytes((kind,)), run(*RUN), *publics, key=KEY)
    signed = b"envelope/v1/pair" + statement
    assert verify(proof[:64] + signed, ALICE.public.public[:32]) == signed
    shared = x25519(TWO, ALICE.public.public[32:])
    assert proof[64:] == H(32, b"env1-pair-dh", statement, key=shared)
    checker.check_proof(kind, ALICE.public, proof)
    for at in (0, 63):
        with pytest.raises(PairingError, match="signing key"):
            checker.check_proof(kind, ALICE.public, flip(proof, at))
    for at in (64, 95):
        with pytest.raises(PairingError, match="encryption key"):
            checker.check_proof(kind, ALICE.public, flip(proof, at))


def test_of_hashes_and_keys_no_more_bytes_are_asked_than_they_have(monkeypatch):
    asked = []

    def hashed(size, *parts, key=b""):
        asked.append(size)
        return H(size, *parts, key=key)

    def verified(signed, key):
        asked.append(len(key))
        return verify(signed, key)

    monkeypatch.setattr(transcript, "H", hashed)
    monkeypatch.setattr(transcript, "verify", verified)
    proof = made().prove(Type.CONNECTOR_PROOF, BOB.public)
    assert asked == [64, 64, 32]  # The run, what is said of it, the MAC.
    made(BOB, TWO, ONE).check_proof(Type.CONNECTOR_PROOF, ALICE.public, proof)
    assert asked[3:] == [64, 64, 32, 32]


@pytest.mark.parametrize("half", [slice(0, 32), slice(32, 64)])
def test_keys_of_which_half_is_the_own_are_refused(half):
    shown = bytearray(BOB.public.public)
    shown[half] = ALICE.public.public[half]
    with pytest.raises(PairingError, match="own keys"):
        made().take_public(bytes(shown))
    assert made().take_public(BOB.public.public) == BOB.public


@pytest.mark.parametrize("bad", [bytes(32), b"\x01" + bytes(31), b"\xff" * 32])
def test_keys_that_are_not_sound_are_refused(bad):
    with pytest.raises(PairingError, match="keys are not sound: "):
        made().take_public(ALICE.public.public[:32] + bad)
    with pytest.raises(PairingError, match="no message of a pairing"):
        made().take_ephemeral(bad)


@pytest.mark.audit("K5")
def test_what_is_forgotten_is_gone():
    one = made()
    one.forget()
    assert one.key == one._ephemeral == b""
