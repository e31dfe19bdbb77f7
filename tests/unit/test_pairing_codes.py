"""Codes and words of a pairing (SPEC 19.2), and fingerprints (SPEC 19.9)."""

from __future__ import annotations

import hashlib

import pytest
from support import identity, seeded

from envelope.errors import UsageError
from envelope.pairing import codes
from envelope.pairing.fingerprint import fingerprint
from envelope.pairing.words import EVEN, ODD


def source(*parts: bytes):
    """Return a source of randomness that gives these."""
    left = list(parts)

    def random(n: int) -> bytes:
        part = left.pop(0)
        assert len(part) == n
        return part

    return random


def test_there_are_two_lists_of_256_words_and_no_word_is_in_both():
    words = {*EVEN, *ODD}
    assert len(EVEN) == len(ODD) == 256
    assert len(words) == 512
    assert all(word.isascii() and word.isalpha() and word.islower() for word in words)
    assert list(EVEN) == sorted(EVEN)


@pytest.mark.parametrize(
    ("number", "words", "expected"),
    [
        (0, b"\x00\x00", "100-aardvark-adroitness"),
        (899, b"\xff\xff", "999-zulu-yucatan"),
        (317, b"\x05\x37", "417-adult-consensus"),
    ],
)
def test_a_code_is_made_of_ten_bits_and_two_bytes(number, words, expected):
    raw = (number << 6 | 63).to_bytes(2, "big")
    assert codes.generate(random=source(raw, words)) == expected


def test_numbers_beyond_the_range_are_drawn_again():
    raw = (900 << 6).to_bytes(2, "big")
    assert codes.generate(random=source(raw, b"\xff\xff", b"\0\0", b"\0\0")).startswith("100-")


def test_every_number_comes_as_often_as_any_other():
    drawn: dict[str, int] = {}
    for high in range(256):
        for low in range(256):
            raw = bytes((high, low))
            fallback = (b"\0\0", b"\0\0") if (high << 8 | low) >> 6 >= 900 else (b"\0\1",)
            code = codes.generate(random=source(raw, *fallback))
            if not code.endswith("adroitness"):
                drawn[code[:3]] = drawn.get(code[:3], 0) + 1
    assert len(drawn) == codes.NUMBERS == 900
    assert set(drawn.values()) == {64}


def test_what_is_generated_is_read_as_itself():
    random = seeded()
    for _ in range(200):
        code = codes.generate(random=random)
        assert codes.parse(code) == code


@pytest.mark.parametrize(
    "typed",
    [
        "417 adult consensus",
        " 417-Adult-CONSENSUS\n",
        "417 - adult - consensus",
        "417  adult-consensus",
        "417-adult-consensus".rjust(100),
    ],
)
def test_a_person_may_type_spaces_and_capitals(typed):
    assert codes.parse(typed) == "417-adult-consensus"


@pytest.mark.parametrize("code", ["100-aardvark-adroitness", "999-zulu-yucatan"])
def test_the_first_and_the_last_code_are_codes(code):
    assert codes.parse(code) == code


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        ("", "a number and two words"),
        ("417", "a number and two words"),
        ("417-adult", "a number and two words"),
        ("417-adult-consensus-zulu", "a number and two words"),
        ("417-adult-consensus".rjust(101), "a number and two words"),
        ("\u0664\u0661\u0667-adult-consensus", "a number and two words"),
        ("41-adult-consensus", "100 to 999"),
        ("4170-adult-consensus", "100 to 999"),
        ("099-adult-consensus", "100 to 999"),
        ("x17-adult-consensus", "100 to 999"),
        ("417-consensus-adult", "wrong order"),
        ("417-adult-adult", "wrong order"),
        ("417-adlt-consensus", "word 1"),
        ("417-adult-consensuss", "word 2"),
    ],
)
def test_what_is_no_code_is_refused_and_not_repeated(typed, reason):
    with pytest.raises(UsageError, match=reason) as caught:
        codes.parse(typed)
    assert "adlt" not in str(caught.value)


# --- Fingerprints -------------------------------------------------------------------------


def test_a_fingerprint_is_the_same_at_both_ends_and_as_specified():
    one, other = identity("alice").public, identity("bob").public
    low, high = sorted((one.public, other.public))
    raw = hashlib.blake2b(b"env1-pair-print".ljust(128, b"\0") + low + high).digest()[:50]
    groups = [int.from_bytes(raw[at : at + 5], "big") % 100_000 for at in range(0, 50, 5)]
    shown = fingerprint(one, other)
    assert shown == fingerprint(other, one) == " ".join(f"{group:05}" for group in groups)
    assert len(shown) == 59


def test_a_fingerprint_of_others_is_another_one():
    alice, bob, carol = (identity(name).public for name in ("alice", "bob", "carol"))
    assert len({fingerprint(alice, bob), fingerprint(alice, carol), fingerprint(bob, carol)}) == 3
    with pytest.raises(UsageError, match="these are one"):
        fingerprint(alice, alice)
