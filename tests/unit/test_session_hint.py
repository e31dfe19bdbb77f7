"""Hints: what is signed, by whom and where (SPEC 18.7)."""

from __future__ import annotations

import pytest
from support import flip, identity

from envelope.binding import context_digest
from envelope.primitives import H, verify
from envelope.session import hint, wire

ALICE, BOB = identity("alice"), identity("bob")
CTX = context_digest(b"orders", ())
DATA = b"ENV\x01\x05\x00" + bytes(5) + b"\7" + b"s" * 8 + bytes(16)


def test_a_hint_has_the_bytes_of_the_specification():
    made = hint.make(BOB, CTX, DATA)
    assert len(made) == 106
    assert made[:42] == b"ENV\x01\x06\x00" + BOB.key_id + DATA[:20]
    digest = H(64, b"env1-hint", BOB.public.public, CTX, made[:42])
    signed = b"envelope/v1/hint" + digest
    assert verify(made[42:] + signed, BOB.public.public[:32]) == signed
    assert wire.hint_of(made) == (BOB.key_id, 7, b"s" * 8)
    assert hint.is_genuine(made, BOB.public, CTX)


@pytest.mark.audit("A1", "A12")
def test_a_hint_is_of_its_signer_in_its_context_and_unchanged():
    made = hint.make(BOB, CTX, DATA)
    assert not hint.is_genuine(made, ALICE.public, CTX)
    assert not hint.is_genuine(made, BOB.public, context_digest(b"other", ()))
    for at in range(len(made)):
        assert not hint.is_genuine(flip(made, at), BOB.public, CTX)


def test_of_hashes_and_keys_no_more_bytes_are_asked_than_they_have(monkeypatch):
    asked = []

    def hashed(size, *parts):
        asked.append(size)
        return H(size, *parts)

    def verified(signed, key):
        asked.append(len(key))
        return verify(signed, key)

    monkeypatch.setattr(hint, "H", hashed)
    monkeypatch.setattr(hint, "verify", verified)
    assert hint.is_genuine(hint.make(BOB, CTX, DATA), BOB.public, CTX)
    assert asked == [64, 64, 32]
