"""Pairing beside a second implementation: SPEC 19.3 to 19.5, from the document alone.

Rules of this file: the second implementation shares no code with the library, nor the
package that the library's SPAKE2 is from; its curve arithmetic is libsodium's.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import pytest
from nacl import bindings as sodium
from pairs import CODE, Two
from support import identity
from vectors import reference

M = bytes.fromhex("15cfd18e385952982b6a8f8c7854963b58e34388c8e6dae891db756481a02312")
N = bytes.fromhex("f04f2e7eb734b2a8f8b472eaf9c3c632576ac64aea650b496a8a20ff00e583c3")
ORDER = 2**252 + 27742317777372353535851937790883648493
SIDES = (b"envelope/v1/pair/connect", b"envelope/v1/pair/listen")


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def scalar(number: int) -> bytes:
    return (number % ORDER).to_bytes(32, "little")


def times(number: int, point: bytes) -> bytes:
    return sodium.crypto_scalarmult_ed25519_noclamp(scalar(number), point)


def password(code: bytes) -> int:
    extracted = hmac.digest(bytes(32), code, "sha256")
    first = hmac.digest(extracted, b"SPAKE2 pw\x01", "sha256")
    second = hmac.digest(extracted, first + b"SPAKE2 pw\x02", "sha256")
    return int.from_bytes((first + second)[:48], "big") % ORDER


def ends_of(seed_name: str) -> tuple[bytes, bytes, bytes]:
    """Return Ed25519 seed, X25519 secret and PUB of a test identity (SPEC 3.1, 3.2)."""
    seed = hashlib.blake2b(b"envelope test key: " + seed_name.encode(), digest_size=32).digest()
    ed_seed = reference.H(32, "env1-ed25519", key=seed)
    x_secret = reference.H(32, "env1-x25519", key=seed)
    public = sodium.crypto_sign_seed_keypair(ed_seed)[0]
    return ed_seed, x_secret, public + sodium.crypto_scalarmult_base(x_secret)


class Other:
    """A connector or listener that only this document has made."""

    def __init__(
        self, *, connects: bool, name: str, code: bytes, secret: int, fresh: bytes
    ) -> None:
        self.ed_seed, self.x_secret, self.public = ends_of(name)
        self.connects, self.code, self.secret, self.fresh = connects, code, secret, fresh
        self.blind, self.unblind = (M, N) if connects else (N, M)
        point = sodium.crypto_core_ed25519_add(
            sodium.crypto_scalarmult_ed25519_base_noclamp(scalar(secret)),
            times(password(code), self.blind),
        )
        kind = 1 if connects else 2
        self.hello = self.head(kind) + point + sodium.crypto_scalarmult_base(fresh)
        self.log: list[bytes] = []

    @staticmethod
    def head(kind: int) -> bytes:
        return b"ENVP\x01" + bytes((kind,))

    def meet(self, first: bytes, second: bytes) -> None:
        self.log = [first, second]
        theirs = second if self.connects else first
        self.their_fresh = theirs[38:]
        unblinded = sodium.crypto_core_ed25519_sub(
            theirs[6:38], times(password(self.code), self.unblind)
        )
        shared = times(self.secret, unblinded)
        sides = sha(SIDES[0]) + sha(SIDES[1])
        self.key = sha(sha(self.code) + sides + first[6:38] + second[6:38] + shared)

    def hash(self, n: int, label: str, kind: int, *data: bytes) -> bytes:
        run = reference.H(64, "env1-pair-run", *self.log)
        return reference.H(n, label, bytes((kind,)), run, *data, key=self.key)

    def seal(self, kind: int, plaintext: bytes, *, tagged: bool = False) -> bytes:
        before = self.head(kind) + (self.hash(32, "env1-pair-code", kind) if tagged else b"")
        key = self.hash(32, "env1-pair-key", kind)
        return before + sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(
            plaintext, before, bytes(24), key
        )

    def open(self, kind: int, message: bytes, *, tagged: bool = False) -> bytes:
        size = 38 if tagged else 6
        if tagged:
            assert message[6:38] == self.hash(32, "env1-pair-code", kind)
        key = self.hash(32, "env1-pair-key", kind)
        return sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(
            message[size:], message[:size], bytes(24), key
        )

    def proof(self, kind: int, other: bytes) -> bytes:
        statement = self.hash(64, "env1-pair-proof", kind, self.public, other)
        secret = sodium.crypto_sign_seed_keypair(self.ed_seed)[1]
        signature = sodium.crypto_sign(b"envelope/v1/pair" + statement, secret)[:64]
        shared = sodium.crypto_scalarmult(self.x_secret, self.their_fresh)
        return signature + reference.H(32, "env1-pair-dh", statement, key=shared)


@pytest.fixture(params=[7, ORDER - 1, 2**200 + 12345])
def secret(request) -> Any:
    return request.param


@pytest.mark.audit("M2")
def test_a_second_implementation_pairs_as_the_connector(secret):
    listener = Two().listener
    other = Other(connects=True, name="alice", code=CODE.encode(), secret=secret, fresh=b"f" * 32)
    other.meet(other.hello, listener.receive(other.hello, 0))
    other.log.append(other.seal(3, other.public, tagged=True))
    fourth = listener.receive(other.log[2], 0)
    bob = identity("bob").public.public
    assert other.open(4, fourth, tagged=True)[:64] == bob
    other.log.append(fourth)
    other.log.append(other.seal(5, other.proof(5, bob)))
    listener.receive(other.log[4], 0)
    assert listener.peer.public == other.public
    listener.decide(accepts=True, now=0)
    listener.receive(other.seal(6, b"\1"), 0)
    assert other.open(7, listener.written(0)) == b"\1"
    listener.receive(other.seal(8, b""), 0)
    assert listener.state.name == "DONE"


@pytest.mark.audit("M2")
def test_a_second_implementation_pairs_as_the_listener(secret):
    two = Two()
    connector, hello = two.connector, two.transit[0][1]
    other = Other(connects=False, name="bob", code=CODE.encode(), secret=secret, fresh=b"f" * 32)
    other.meet(hello, other.hello)
    third = connector.receive(other.hello, 0)
    alice = identity("alice").public.public
    assert other.open(3, third, tagged=True) == alice
    other.log.append(third)
    other.log.append(other.seal(4, other.public + other.proof(4, alice), tagged=True))
    fifth = connector.receive(other.log[3], 0)
    assert connector.peer.public == other.public
    assert other.open(5, fifth)
    other.log.append(fifth)
    assert other.open(6, connector.decide(accepts=True, now=0)) == b"\1"
    connector.receive(other.seal(7, b"\1"), 0)
    assert other.open(8, connector.written(0)) == b""
    assert connector.state.name == "DONE"


def test_a_package_element_is_what_the_document_says():
    # The other way round: with the package's own secret the elements are equal.
    connector = Two().connector
    spake = connector._pake._spake
    other = Other(
        connects=True, name="alice", code=CODE.encode(), secret=spake.xy_scalar, fresh=b"f" * 32
    )
    assert other.hello[6:38] == connector._pake.element
