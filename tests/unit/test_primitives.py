"""Hash, signature, key agreement, AEAD: SPEC 2 and 3.4, against hashlib and plain arithmetic.

The points of small and of mixed order are computed here, so that no list of
constants has to be believed.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from pathlib import Path
from types import ModuleType

import pytest
from nacl import bindings
from nacl.bindings import crypto_sign
from nacl.pwhash import argon2id as reference_argon2id

from envelope import primitives
from envelope.primitives import (
    HINT_LABEL,
    LABELS,
    PAIR_LABEL,
    SIGN_LABEL,
    CryptoError,
    H,
    hasher,
    hkdf_blake2b,
    is_ed25519_public,
    is_x25519_public,
    sign,
    signing_keypair,
    verify,
    x25519,
    x25519_public,
)

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)
SPEC = (Path(__file__).parents[2] / "docs" / "SPEC.md").read_text(encoding="utf-8")

Point = tuple[int, int]
NEUTRAL: Point = (0, 1)


def root(square: int) -> int | None:
    """Return a square root modulo P, or None if there is none."""
    found = pow(square, (P + 3) // 8, P)
    for candidate in (found, found * ROOT_OF_MINUS_ONE % P):
        if (candidate * candidate - square) % P == 0:
            return candidate
    return None


def add(one: Point, two: Point) -> Point:
    """Add two points of the Edwards curve by its complete formula."""
    (x1, y1), (x2, y2) = one, two
    product = D * x1 * x2 * y1 * y2
    x3 = (x1 * y2 + x2 * y1) * pow(1 + product, -1, P) % P
    y3 = (y1 * y2 + x1 * x2) * pow(1 - product, -1, P) % P
    return x3, y3


def multiply(scalar: int, point: Point) -> Point:
    """Return scalar times point."""
    total = NEUTRAL
    for bit in f"{scalar:b}":
        total = add(total, total)
        if bit == "1":
            total = add(total, point)
    return total


def point_at(y: int) -> Point | None:
    """Return the point with this y and an even x, or None if the curve has none."""
    x = root((y * y - 1) * pow(D * y * y + 1, -1, P) % P)
    if x is None:
        return None
    return (P - x if x & 1 else x), y


def encode(point: Point) -> bytes:
    """Return the canonical encoding of RFC 8032."""
    x, y = point
    return (y | (x & 1) << 255).to_bytes(32, "little")


BASE: Point = point_at(4 * pow(5, -1, P) % P) or NEUTRAL
SOUND: Point = multiply(12345, BASE)


def small_order_points() -> list[Point]:
    """Return the eight points whose order divides the cofactor."""
    y = 2
    while True:
        found = point_at(y)
        torsion = multiply(ORDER, found) if found else NEUTRAL
        if multiply(4, torsion) != NEUTRAL:
            return [multiply(n, torsion) for n in range(8)]
        y += 1


SMALL = small_order_points()


def roots(b: int, c: int) -> set[int]:
    """Return the x modulo P with x^2 + b x + c = 0."""
    found = root((b * b - 4 * c) % P)
    if found is None:
        return set()
    return {(sign_ * found - b) * pow(2, -1, P) % P for sign_ in (1, -1)}


def low_order_u() -> set[int]:
    """Return the u of every point of Curve25519 and its twist whose order divides 8.

    Doubling gives u = 0 for the points of order 4, (u^2 - 1)^2 = 0, and u = +-1
    for those of order 8: with s = u + 1/u, that is s^2 - 4 = +-4 (s + 486662).
    """
    found = {0, 1, P - 1}
    for sign_ in (1, -1):
        for s in roots(-4 * sign_, -4 * sign_ * 486662 - 4):
            found |= roots(-s, 1)
    return found


def test_eight_points_of_small_order_were_computed():
    assert len(set(SMALL)) == 8
    assert all(multiply(8, point) == NEUTRAL for point in SMALL)
    assert len(low_order_u()) == 5
    # Two of them are the images of the torsion points that were found another way.
    images = {(1 + y) * pow(1 - y, -1, P) % P for _, y in SMALL if y != 1}
    assert images <= low_order_u()


# --- H ---------------------------------------------------------------------------------


@pytest.mark.audit("C7")
def test_the_labels_are_those_of_spec_2_3():
    table = SPEC.split("\n2.3.")[1].split("\n2.4.")[0]
    labels = [label.encode() for label in re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)]
    assert len(labels) == len(set(labels))
    assert set(labels) == LABELS | {SIGN_LABEL, HINT_LABEL, PAIR_LABEL}
    assert len(SIGN_LABEL) == len(HINT_LABEL) == len(PAIR_LABEL) == 16
    assert not LABELS & {SIGN_LABEL, HINT_LABEL, PAIR_LABEL}


@pytest.mark.audit("C7")
@pytest.mark.parametrize("label", sorted(LABELS))
@pytest.mark.parametrize("key", [b"", b"k" * 32, b"k" * 64])
def test_h_is_truncated_blake2b_512_of_one_block_of_label_and_the_data(label, key):
    expected = hashlib.blake2b(
        label + b"\0" * (128 - len(label)) + b"onetwo", digest_size=64, key=key
    ).digest()
    for n in (8, 16, 24, 32, 64):
        assert H(n, label, b"one", b"", b"two", key=key) == expected[:n]
    state = hasher(label, key=key)
    state.update(b"onetwo")
    assert state.digest() == expected


@pytest.mark.audit("C7")
@pytest.mark.parametrize(
    "label", [b"", b"env1", b"env1-bind\0", b"ENV1-BIND", b"env1-bin", SIGN_LABEL, b"x" * 200]
)
def test_a_hash_under_an_unknown_label_cannot_be_begun(label):
    with pytest.raises(KeyError) as raised:
        hasher(label)
    assert raised.value.args == (label,)
    with pytest.raises(KeyError):
        H(32, label, b"data")


def test_a_copied_state_leaves_the_first_one_alone():
    state = hasher(b"env1-bind")
    assert type(state) is primitives.Hasher
    twin = state.copy()
    twin.update(b"more")
    assert state.digest() != twin.digest()
    assert state.digest() == H(64, b"env1-bind")


# --- Randomness, comparison ------------------------------------------------------------


@pytest.mark.audit("K1", "E2")
def test_randomness_and_comparison_are_the_systems():
    assert primitives.random_bytes is os.urandom
    assert primitives.equal is hmac.compare_digest


@pytest.mark.audit("K5")
def test_the_only_class_of_the_binding_that_is_exported_is_its_error():
    exported = {getattr(primitives, name) for name in primitives.__all__}
    theirs = {found for found in exported if getattr(found, "__module__", "").startswith("nacl")}
    assert {found for found in theirs if isinstance(found, type)} == {CryptoError}


def test_whatever_is_public_is_exported_once():
    public = {
        name
        for name, value in vars(primitives).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert sorted(public - {"annotations"}) == sorted(primitives.__all__)


# --- Signatures ------------------------------------------------------------------------


SEED = bytes(range(32))
PUBLIC, SECRET = signing_keypair(SEED)
SCALAR = int.from_bytes(hashlib.sha512(SEED).digest()[:32], "little") & (2**254 - 8) | 2**254
MESSAGE = b"m" * 144


def challenge(r: bytes, public: bytes) -> int:
    """Return h of RFC 8032 for the message above."""
    return int.from_bytes(hashlib.sha512(r + public + MESSAGE).digest(), "little") % ORDER


def is_accepted(r: Point, s: int, public: Point, *, cofactor: int) -> bool:
    """Tell whether a verifier that checks only the equation would accept."""
    right = add(r, multiply(challenge(encode(r), encode(public)), public))
    return multiply(cofactor * s, BASE) == multiply(cofactor, right)


def signature(r: Point, s: int) -> bytes:
    return encode(r) + s.to_bytes(32, "little")


@pytest.mark.audit("K2")
def test_a_signing_key_is_that_of_its_seed():
    assert encode(multiply(SCALAR, BASE)) == PUBLIC
    assert SECRET == SEED + PUBLIC
    assert type(PUBLIC) is type(SECRET) is bytes


def test_a_signature_stands_before_its_message_and_verifies():
    signed = sign(MESSAGE, SECRET)
    assert len(signed) == 64 + len(MESSAGE)
    assert signed[64:] == MESSAGE
    assert verify(signed, PUBLIC) == MESSAGE


@pytest.mark.parametrize("position", [0, 31, 32, 63, 64, 64 + 143])
def test_a_changed_signature_or_message_does_not_verify(position):
    signed = bytearray(sign(MESSAGE, SECRET))
    signed[position] ^= 1
    with pytest.raises(CryptoError):
        verify(bytes(signed), PUBLIC)


@pytest.mark.audit("A15")
def test_a_signature_plus_the_order_does_not_verify():
    signed = sign(MESSAGE, SECRET)
    s = int.from_bytes(signed[32:64], "little")
    malleable = signed[:32] + (s + ORDER).to_bytes(32, "little") + MESSAGE
    with pytest.raises(CryptoError):
        verify(malleable, PUBLIC)


@pytest.mark.audit("A15")
def test_an_honest_signature_is_made_by_the_same_arithmetic():
    r = multiply(77, BASE)
    s = (77 + challenge(encode(r), PUBLIC) * SCALAR) % ORDER
    assert verify(signature(r, s) + MESSAGE, PUBLIC) == MESSAGE


@pytest.mark.audit("A15")
def test_a_signature_with_a_neutral_r_does_not_verify():
    s = challenge(encode(NEUTRAL), PUBLIC) * SCALAR % ORDER
    assert is_accepted(NEUTRAL, s, multiply(SCALAR, BASE), cofactor=1)
    with pytest.raises(CryptoError):
        verify(signature(NEUTRAL, s) + MESSAGE, PUBLIC)


@pytest.mark.audit("A15", "C10")
def test_a_neutral_key_verifies_nothing():
    r = multiply(77, BASE)
    assert is_accepted(r, 77, NEUTRAL, cofactor=1)
    with pytest.raises(CryptoError):
        verify(signature(r, 77) + MESSAGE, encode(NEUTRAL))


@pytest.mark.audit("A15")
def test_verification_is_cofactorless():
    r = add(multiply(77, BASE), SMALL[1])
    s = (77 + challenge(encode(r), PUBLIC) * SCALAR) % ORDER
    assert is_accepted(r, s, multiply(SCALAR, BASE), cofactor=8)
    with pytest.raises(CryptoError):
        verify(signature(r, s) + MESSAGE, PUBLIC)


@pytest.mark.audit("K1")
@pytest.mark.parametrize("size", [0, 1, 31, 33, 64])
def test_an_x25519_key_of_another_size_is_refused(size):
    key, sound = b"\1" * size, x25519_public(SEED)
    for call in (lambda: x25519(key, sound), lambda: x25519(SEED, key), lambda: x25519_public(key)):
        with pytest.raises(CryptoError):
            call()
    assert is_x25519_public(key) is False


@pytest.mark.parametrize(
    "call",
    [
        lambda: verify(b"", PUBLIC),
        lambda: verify(bytes(63), PUBLIC),
        lambda: verify(sign(MESSAGE, SECRET), PUBLIC[:-1]),
        lambda: signing_keypair(b"short"),
        lambda: x25519(SEED, bytes(32)),
        lambda: is_ed25519_public(PUBLIC[:-1]),
        lambda: primitives.aead_decrypt(bytes(16), b"", bytes(24), bytes(32)),
        lambda: primitives.aead_encrypt(b"", b"", bytes(23), bytes(32)),
        lambda: primitives.argon2id(b"p", bytes(15), passes=1, memory_kib=8),
        lambda: primitives.argon2id(b"p", bytes(16), passes=0, memory_kib=8),
        lambda: primitives.argon2id(b"p", bytes(16), passes=1, memory_kib=7),
    ],
)
def test_every_failure_is_a_crypto_error(call):
    with pytest.raises(CryptoError):
        call()


# --- Public keys -----------------------------------------------------------------------


@pytest.mark.audit("K1", "C10")
def test_a_point_of_prime_order_is_a_sound_ed25519_key():
    for n in (1, 2, ORDER - 1, 12345):
        assert is_ed25519_public(encode(multiply(n, BASE))) is True
    assert is_ed25519_public(PUBLIC) is True


@pytest.mark.audit("A15", "C10")
@pytest.mark.parametrize("point", SMALL)
def test_a_point_of_small_order_is_no_ed25519_key(point):
    assert is_ed25519_public(encode(point)) is False


@pytest.mark.audit("A15", "C10")
@pytest.mark.parametrize("torsion", SMALL[1:])
def test_a_point_of_mixed_order_is_no_ed25519_key(torsion):
    mixed = add(SOUND, torsion)
    assert multiply(8, mixed) == multiply(8, SOUND)
    assert is_ed25519_public(encode(mixed)) is False


@pytest.mark.audit("C10")
def test_an_encoding_that_is_not_canonical_is_no_ed25519_key():
    for y in range(19):
        for high in (0, 1 << 255):
            assert is_ed25519_public((P + y | high).to_bytes(32, "little")) is False
    # The neutral point with a sign that zero does not have.
    assert is_ed25519_public((1 | 1 << 255).to_bytes(32, "little")) is False


@pytest.mark.audit("C10")
def test_a_y_that_no_point_has_is_no_ed25519_key():
    missing = [y for y in range(2, 40) if point_at(y) is None]
    assert missing
    for y in missing:
        assert is_ed25519_public(y.to_bytes(32, "little")) is False


@pytest.mark.audit("C10")
@pytest.mark.parametrize("u", sorted(low_order_u()))
def test_a_point_of_low_order_is_no_x25519_key(u):
    key = u.to_bytes(32, "little")
    assert is_x25519_public(key) is False
    with pytest.raises(CryptoError):
        x25519(SEED, key)


@pytest.mark.audit("C10")
@pytest.mark.parametrize("u", [P, P + 1, P + 9, 2**255 - 1, 2**255, 2**255 + 9, 2**256 - 1])
def test_an_encoding_that_is_not_canonical_is_no_x25519_key(u):
    assert is_x25519_public(u.to_bytes(32, "little")) is False


@pytest.mark.audit("K1", "C10")
@pytest.mark.parametrize("u", [2, 3, 9, P - 2, P - 3])
def test_any_other_u_is_an_x25519_key(u):
    # Also those of the twist: X25519 is safe on both (RFC 7748).
    key = u.to_bytes(32, "little")
    assert is_x25519_public(key) is True
    assert x25519(SEED, key) != bytes(32)


def test_the_probe_of_a_key_has_the_32_bytes_that_the_binding_reads(monkeypatch):
    """It looks at no length of a scalar itself."""
    read = []
    monkeypatch.setattr(bindings, "crypto_scalarmult", lambda *keys: read.append(keys) or b"")
    assert is_x25519_public((9).to_bytes(32, "little")) is True
    assert [list(map(len, keys)) for keys in read] == [[32, 32]]


def test_x25519_agrees_between_two_ends_and_with_its_base_point():
    one, two = bytes([1]) * 32, bytes([2]) * 32
    assert x25519(one, x25519_public(two)) == x25519(two, x25519_public(one))
    assert x25519_public(one) == x25519(one, (9).to_bytes(32, "little"))


# --- AEAD, Argon2id --------------------------------------------------------------------


@pytest.mark.parametrize("changed", ["ciphertext", "tag", "aad", "nonce", "key"])
@pytest.mark.parametrize(("name", "nonce"), [("aead", bytes(24)), ("chacha", bytes(12))])
def test_an_aead_opens_only_what_it_closed(name, nonce, changed):
    encrypt, decrypt = (getattr(primitives, f"{name}_{way}") for way in ("encrypt", "decrypt"))
    parts = {"aad": b"aad", "nonce": nonce, "key": bytes(32)}
    closed = encrypt(b"plain", *parts.values())
    assert len(closed) == 5 + 16
    assert decrypt(closed, *parts.values()) == b"plain"
    if changed in parts:
        parts[changed] = b"\1" + parts[changed][1:]
    else:
        at = 0 if changed == "ciphertext" else -1
        closed = bytearray(closed)
        closed[at] ^= 1
        closed = bytes(closed)
    with pytest.raises(CryptoError):
        decrypt(closed, *parts.values())


@pytest.mark.parametrize(("passes", "memory_kib"), [(1, 8), (2, 8), (1, 16), (1, 1024)])
def test_argon2id_is_libsodiums_with_memory_in_kib(passes, memory_kib):
    salt = bytes(range(16))
    made = primitives.argon2id(b"passphrase", salt, passes=passes, memory_kib=memory_kib)
    assert made == reference_argon2id.kdf(
        32, b"passphrase", salt, opslimit=passes, memlimit=memory_kib * 1024
    )
    assert len(made) == 32


def test_the_bindings_are_called_without_a_wrapper():
    assert sign is crypto_sign


def test_without_label_and_key_it_is_blake2b_512_of_rfc_7693():
    """Its appendix A."""
    assert primitives.unkeyed_blake2b(b"abc").hex() == (
        "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d1"
        "7d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab92386edd4009923"
    )


@pytest.mark.parametrize("size", [0, 1, 32, 64, 127, 128])
def test_hkdf_is_made_of_the_standard_librarys_hmac(size):
    def by_hmac(key, data):
        return hmac.digest(key, data, "blake2b")

    chain = bytes(range(128))[:size]
    for shared in (b"", b"\x01", bytes(1000)):
        key = by_hmac(chain, shared)
        first = by_hmac(key, b"\x01")
        assert hkdf_blake2b(chain, shared) == (first, by_hmac(key, first + b"\x02"))


def test_a_chain_of_hkdf_that_would_have_to_be_hashed_is_a_bug():
    with pytest.raises(AssertionError):
        hkdf_blake2b(bytes(129), b"")
