"""The cipher of sessions: OpenSSL's and libsodium's are one, and where neither is missed."""

from __future__ import annotations

import importlib
import mmap
import sys
import tomllib
from pathlib import Path

import cryptography
import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.ciphers import aead
from hypothesis import given
from hypothesis import strategies as st
from support import flip

from envelope.primitives import CryptoError, chacha_decrypt, chacha_encrypt
from envelope.session import cipher
from envelope.session.cipher import MINIMUM, libsodium, openssl

ROOT = Path(__file__).parents[2]
EACH = pytest.mark.parametrize("one", [openssl(), libsodium()], ids=lambda one: one.by)

KEY, NONCE, AAD = bytes(range(32)), bytes(range(12)), b"head"


@EACH
def test_the_example_of_the_rfc(one):
    # RFC 8439, section 2.8.2.
    key = bytes(range(0x80, 0xA0))
    nonce = bytes.fromhex("070000004041424344454647")
    aad = bytes.fromhex("50515253c0c1c2c3c4c5c6c7")
    plaintext = (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for "
        b"the future, sunscreen would be it."
    )
    closed = one.encrypt(plaintext, aad, nonce, key)
    assert closed[:16].hex() == "d31a8d34648e60db7b86afbc53ef7ec2"
    assert closed[-16:].hex() == "1ae10b594f09e26a7e902ecbd0600691"
    assert one.decrypt(closed, aad, nonce, key) == plaintext


keys, nonces = st.binary(min_size=32, max_size=32), st.binary(min_size=12, max_size=12)
data = st.binary(max_size=300) | st.integers(0, 20_000).map(bytes)


@given(data, st.binary(max_size=80), nonces, keys)
def test_both_make_the_same_bytes_and_open_each_others(plaintext, aad, nonce, key):
    by_openssl, by_libsodium = openssl(), libsodium()
    closed = by_openssl.encrypt(plaintext, aad, nonce, key)
    assert closed == by_libsodium.encrypt(plaintext, aad, nonce, key)
    assert by_openssl.decrypt(closed, aad, nonce, key) == plaintext
    assert by_libsodium.decrypt(closed, aad, nonce, key) == plaintext


@pytest.mark.audit("A1")
@EACH
@pytest.mark.parametrize("bit", range(8 * (3 + 16)))
def test_no_bit_can_be_changed(one, bit):
    closed = one.encrypt(b"abc", AAD, NONCE, KEY)
    with pytest.raises(CryptoError):
        one.decrypt(flip(closed, bit // 8, 1 << bit % 8), AAD, NONCE, KEY)


@EACH
@pytest.mark.parametrize("changed", [0, 1, 2])
def test_nor_what_is_about_it(one, changed):
    closed = one.encrypt(b"abc", AAD, NONCE, KEY)
    about = [AAD, NONCE, KEY]
    about[changed] = flip(about[changed], 0)
    with pytest.raises(CryptoError):
        one.decrypt(closed, *about)


@EACH
def test_nor_shortened_to_a_tag(one):
    closed = one.encrypt(b"abc", AAD, NONCE, KEY)
    for size in range(16, len(closed)):
        with pytest.raises(CryptoError):
            one.decrypt(closed[:size], AAD, NONCE, KEY)


@pytest.mark.audit("K5")
@EACH
@pytest.mark.parametrize(
    ("nonce", "key"), [(NONCE, b""), (NONCE, KEY[1:]), (b"", KEY), (bytes(24), KEY)]
)
def test_neither_takes_a_key_or_a_nonce_of_another_size(one, nonce, key):
    closed = one.encrypt(b"abc", AAD, NONCE, KEY)
    for use, data in ((one.encrypt, b"abc"), (one.decrypt, closed)):
        with pytest.raises(CryptoError):
            use(data, AAD, nonce, key)


def test_what_is_larger_than_openssl_takes_does_not_open():
    # With the largest max_size, bound frames and what tells them apart are a little more.
    with pytest.raises(CryptoError):
        openssl().decrypt(bytes(16), mmap.mmap(-1, 2**31), NONCE, KEY)


@EACH
def test_the_empty_message_has_a_tag_alone(one):
    closed = one.encrypt(b"", b"", NONCE, KEY)
    assert len(closed) == 16
    assert one.decrypt(closed, b"", NONCE, KEY) == b""


def test_each_says_whose_it_is():
    assert [openssl().by, libsodium().by] == ["OpenSSL", "libsodium"]


def fail(*_):
    raise UnsupportedAlgorithm("held to FIPS 140")


MISSING = {
    "not installed": lambda patch: patch.setitem(sys.modules, "cryptography", None),
    "without its cipher": lambda patch: patch.setitem(
        sys.modules, "cryptography.hazmat.primitives.ciphers", None
    ),
    "old": lambda patch: patch.setattr(cryptography, "__version__", f"{MINIMUM - 1}.9.9"),
    "not permitted": lambda patch: patch.setattr(aead, "ChaCha20Poly1305", fail),
}


@pytest.mark.parametrize("why", MISSING)
def test_libsodium_does_it_where_openssl_does_not(why, monkeypatch):
    MISSING[why](monkeypatch)
    assert openssl() is None
    assert importlib.reload(cipher).BY == "libsodium"
    assert cipher.encrypt is chacha_encrypt
    assert cipher.decrypt is chacha_decrypt
    monkeypatch.undo()
    assert importlib.reload(cipher).BY == "OpenSSL"


def test_the_oldest_that_is_used(monkeypatch):
    monkeypatch.setattr(cryptography, "__version__", f"{MINIMUM}.0.0")
    assert openssl().by == "OpenSSL"


def test_the_extra_asks_for_what_is_used():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["optional-dependencies"]["openssl"] == [f"cryptography>={MINIMUM}"]
