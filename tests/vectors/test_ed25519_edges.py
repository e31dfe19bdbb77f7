"""What Ed25519 verification says at its edges, pinned: another libsodium is noticed.

RFC 8032 leaves some signatures to the verifier, and verifiers differ. These are the
twelve cases of K. Chalkias, F. Garillot and V. Nikolaenko, "Taming the many EdDSAs" (SSR
2020, https://eprint.iacr.org/2020/1244), as their repository
novifinancial/ed25519-speccheck lists them in cases.json, in its order. SPEC 2.1 has
the verdicts.

"Mixed": a point of the prime order plus one of small order. Every case but those of S
passes the equation that is multiplied by the cofactor; all but 4 and 5 pass the other.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest
from cast import ALICE

from envelope import PublicIdentity, UsageError
from envelope.primitives import CryptoError, is_ed25519_public, sign, signing_keypair, verify


class Case(NamedTuple):
    """A key, a message and a signature, in hexadecimal."""

    what: str
    public: str
    message: str
    r: str
    s: str


CASES = [
    Case(
        "A and R of small order, S zero",
        public="c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        message="8c93255d71dcab10e8f379c26200f3c7bd5f09d9bc3068d3ef4edeb4853022b6",
        r="c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        s="0000000000000000000000000000000000000000000000000000000000000000",
    ),
    Case(
        "A of small order, R mixed",
        public="c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        message="9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
        r="f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        s="a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
    ),
    Case(
        "R of small order, A mixed",
        public="f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        message="aebf3f2601a0c8c5d39cc7d8911642f740b78168218da8471772b35f9d35b9ab",
        r="c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        s="8c4bd45aecaca5b24fb97bc10ac27ac8751a7dfe1baff8b953ec9f5833ca260e",
    ),
    Case(
        "A and R mixed, good in both equations",
        public="cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        message="9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
        r="9046a64750444938de19f227bb80485e92b83fdb4b6506c160484c016cc1852f",
        s="87909e14428a7a1d62e9f22f3d3ad7802db02eb2e688b6c52fcd6648a98bd009",
    ),
    Case(
        "A and R mixed, good only if both sides are multiplied by the cofactor",
        public="cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        message="e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c",
        r="160a1cb0dc9c0258cd0a7d23e94d8fa878bcb1925f2c64246b2dee1796bed512",
        s="5ec6bc982a269b723e0668e540911a9a6a58921d6925e434ab10aa7940551a09",
    ),
    Case(
        "A mixed, R of the prime order, good by the cofactor unless 8h is reduced first",
        public="cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        message="e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c",
        r="21122a84e0b5fca4052f5b1235c80a537878b38f3142356b2c2384ebad4668b7",
        s="e40bc836dac0f71076f9abe3a53f9c03c1ceeeddb658d0030494ace586687405",
    ),
    Case(
        "S beyond the order",
        public="442aad9f089ad9e14647b1ef9099a1ff4798d78589e66f28eca69c11f582a623",
        message="85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40",
        r="e96f66be976d82e60150baecff9906684aebb1ef181f67a7189ac78ea23b6c0e",
        s="547f7690a0e2ddcd04d87dbc3490dc19b3b3052f7ff0538cb68afb369ba3a514",
    ),
    Case(
        "S so far beyond that its high bits are set",
        public="442aad9f089ad9e14647b1ef9099a1ff4798d78589e66f28eca69c11f582a623",
        message="85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40",
        r="8ce5b96c8f26d0ab6c47958c9e68b937104cd36e13c33566acd2fe8d38aa1942",
        s="7e71f98a473474f2f13f06f97c20d58cc3f54b8bd0d272f42b695dd7e89a8c22",
    ),
    Case(
        "R not canonical, hashed in its canonical form",
        public="f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        message="9bedc267423725d473888631ebf45988bad3db83851ee85c85e241a07d148b41",
        r="ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        s="03be9678ac102edcd92b0210bb34d7428d12ffc5df5f37e359941266a4e35f0f",
    ),
    Case(
        "R not canonical, hashed as it came",
        public="f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        message="9bedc267423725d473888631ebf45988bad3db83851ee85c85e241a07d148b41",
        r="ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        s="ca8c5b64cd208982aa38d4936621a4775aa233aa0505711d8fdcfdaa943d4908",
    ),
    Case(
        "A not canonical, hashed in its canonical form",
        public="ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        message="e96b7021eb39c1a163b6da4e3093dcd3f21387da4cc4572be588fafae23c155b",
        r="a9d55260f765261eb9b84e106f665e00b867287a761990d7135963ee0a7d59dc",
        s="a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
    ),
    Case(
        "A not canonical, hashed as it came",
        public="ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        message="39a591f5321bbe07fd5a23dc2f39d025d74526615746727ceefd6e82ae65c06f",
        r="a9d55260f765261eb9b84e106f665e00b867287a761990d7135963ee0a7d59dc",
        s="a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
    ),
]

VERIFIED = {3}
"""That libsodium verifies."""
SOUND_KEYS = {6, 7}
"""Whose key a reader of keys takes (SPEC 3.4)."""

numbered = pytest.mark.parametrize("number", range(len(CASES)), ids=[case.what for case in CASES])


def is_verified(signature: bytes, message: bytes, public: bytes) -> bool:
    try:
        return verify(signature + message, public) == message
    except CryptoError:
        return False


@numbered
@pytest.mark.audit("A15", "M1", "M2")
def test_the_verdict_on_an_edge_case_is_the_one_that_spec_names(number):
    case = CASES[number]
    signature, message = bytes.fromhex(case.r + case.s), bytes.fromhex(case.message)
    assert is_verified(signature, message, bytes.fromhex(case.public)) is (number in VERIFIED)


@numbered
@pytest.mark.audit("A15", "C10", "M1")
def test_no_edge_case_gets_past_both_the_reading_of_its_key_and_the_verification(number):
    public = bytes.fromhex(CASES[number].public)
    assert is_ed25519_public(public) is (number in SOUND_KEYS)
    assert not {number} & VERIFIED & SOUND_KEYS
    if number not in SOUND_KEYS:
        with pytest.raises(UsageError, match="Ed25519"):
            PublicIdentity(public + ALICE.public[32:])


@pytest.mark.audit("A15", "M1")
def test_what_is_pinned_is_a_verifier_that_still_verifies():
    # The control: the same calls, a signature of our own, and one bit of each part of it.
    public, secret = signing_keypair(bytes(32))
    signature, message = sign(b"m", secret)[:64], b"m"
    assert is_verified(signature, message, public)
    for at in (0, 31, 32, 63):
        changed = bytearray(signature)
        changed[at] ^= 1
        assert not is_verified(bytes(changed), message, public)
