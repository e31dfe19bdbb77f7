"""Noise IK beside others: two public sets of vectors, and a live implementation."""

from __future__ import annotations

import pytest
from noise.connection import Keypair, NoiseConnection
from vectors.test_public import load, unhex

from envelope.primitives import CryptoError, chacha_decrypt, chacha_encrypt, x25519_public
from envelope.session.noise import PROTOCOL, Handshake, nonce_of

ALICE, BOB = b"\x01" * 32, b"\x02" * 32


def ours(vector, role, remote_static=None):
    secret, ephemeral, prologue = unhex(
        vector, f"{role}_static", f"{role}_ephemeral", f"{role}_prologue"
    )
    return Handshake(
        secret=secret,
        public=x25519_public(secret),
        ephemeral=ephemeral,
        prologue=prologue,
        remote_static=remote_static,
    )


@pytest.mark.parametrize("source", ["cacophony", "snow"])
def test_the_public_vectors_of_ik(source):
    (vector,) = [
        one
        for one in load(f"noise-{source}.json")["vectors"]
        if one["protocol_name"] == PROTOCOL.decode()
    ]
    one = ours(vector, "init", *unhex(vector, "init_remote_static"))
    two = ours(vector, "resp")
    messages = [unhex(message, "payload", "ciphertext") for message in vector["messages"]]
    first, second, *rest = messages
    for writer, reader, (payload, data) in ((one, two, first), (two, one, second)):
        assert writer.write(payload) == data
        assert reader.read(data) == payload
    assert one.keys.hash == two.keys.hash
    if "handshake_hash" in vector:
        assert [one.keys.hash] == unhex(vector, "handshake_hash")
    for number, (payload, data) in enumerate(rest):
        writer, reader = (one, two) if number % 2 == 0 else (two, one)
        nonce = nonce_of(number // 2)
        assert chacha_encrypt(payload, b"", nonce, writer.keys.send) == data
        assert chacha_decrypt(data, b"", nonce, reader.keys.receive) == payload


def theirs(*, initiator, prologue=b"both agree"):
    """Return a connection of the package noiseprotocol."""
    made = NoiseConnection.from_name(PROTOCOL)
    made.set_prologue(prologue)
    if initiator:
        made.set_as_initiator()
        made.set_keypair_from_private_bytes(Keypair.STATIC, ALICE)
        made.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, x25519_public(BOB))
    else:
        made.set_as_responder()
        made.set_keypair_from_private_bytes(Keypair.STATIC, BOB)
    made.start_handshake()
    return made


def talk(mine, other):
    """Exchange messages both ways under the keys of the handshake."""
    assert other.handshake_finished
    assert other.get_handshake_hash() == mine.keys.hash
    for number in range(3):
        nonce = nonce_of(number)
        assert other.decrypt(chacha_encrypt(b"to you", b"", nonce, mine.keys.send)) == b"to you"
        assert chacha_decrypt(other.encrypt(b"to me"), b"", nonce, mine.keys.receive) == b"to me"


@pytest.mark.audit("M2")
def test_we_begin_and_another_implementation_answers():
    mine = Handshake(
        secret=ALICE,
        public=x25519_public(ALICE),
        ephemeral=b"e" * 32,
        prologue=b"both agree",
        remote_static=x25519_public(BOB),
    )
    other = theirs(initiator=False)
    assert other.read_message(mine.write(b"hello")) == b"hello"
    assert mine.read(bytes(other.write_message(b"welcome"))) == b"welcome"
    talk(mine, other)


@pytest.mark.audit("M2")
def test_another_implementation_begins_and_we_answer():
    mine = Handshake(
        secret=BOB,
        public=x25519_public(BOB),
        ephemeral=b"e" * 32,
        prologue=b"both agree",
        remote_static=None,
    )
    other = theirs(initiator=True)
    assert mine.read(bytes(other.write_message(b"hello"))) == b"hello"
    assert mine.remote_static == x25519_public(ALICE)
    assert other.read_message(mine.write(b"welcome")) == b"welcome"
    talk(mine, other)


def test_with_another_prologue_they_do_not_meet():
    mine = Handshake(
        secret=BOB,
        public=x25519_public(BOB),
        ephemeral=b"e" * 32,
        prologue=b"both agree",
        remote_static=None,
    )
    with pytest.raises(CryptoError):
        mine.read(bytes(theirs(initiator=True, prologue=b"they do not").write_message(b"")))
