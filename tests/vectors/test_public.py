"""Public vectors: Wycheproof's for the primitives, a MessagePack suite for the codec.

Rules of this file: the vectors lie beside the project, not in it. Where they are
absent the tests are skipped and say so, except under CI=true, where absence fails. What
may be skipped is no evidence: no test here carries an id of SECURITY.md.
What is stricter here than in a vector ("acceptable" ones) is decided by SPEC.md.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from envelope.codec import decode_bundle, decode_object, encode_bundle, encode_object
from envelope.errors import MalformedError
from envelope.primitives import (
    CryptoError,
    aead_decrypt,
    aead_encrypt,
    is_ed25519_public,
    is_x25519_public,
    verify,
    x25519,
    x25519_public,
)

FOLDER = Path(__file__).parents[2] / ".." / "shared" / "vectors"


def load(name):
    """Return what a file of vectors holds."""
    path = FOLDER / name
    if not path.exists():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{name} must be in ../shared/vectors under CI")
        pytest.skip(f"../shared/vectors/{name} is not here")
    return json.loads(path.read_text(encoding="utf-8"))


def wycheproof(name):
    """Return pairs of group and test; as many as the file says it has."""
    content = load(f"wycheproof-{name}.json")
    pairs = [(group, test) for group in content["testGroups"] for test in group["tests"]]
    assert len(pairs) == content["numberOfTests"] > 0
    return pairs


def unhex(test, *names):
    return [bytes.fromhex(test[name]) for name in names]


@pytest.mark.parametrize("ci", ["true", "", None])
def test_absent_vectors_fail_under_ci_and_are_skipped_elsewhere(ci, monkeypatch):
    monkeypatch.setitem(load.__globals__, "FOLDER", Path(__file__).parent / "nowhere")
    if ci is None:
        monkeypatch.delenv("CI", raising=False)
    else:
        monkeypatch.setenv("CI", ci)
    expected = pytest.fail.Exception if ci == "true" else pytest.skip.Exception
    with pytest.raises(expected, match="shared/vectors"):
        load("wycheproof-ed25519.json")


# --- Ed25519 -------------------------------------------------------------------------------


def is_verified(signature: bytes, message: bytes, public: bytes) -> bool:
    """Verify as the opener does, whose signatures have 64 bytes by their place."""
    if len(signature) != 64:
        return False
    try:
        return verify(signature + message, public) == message
    except CryptoError:
        return False


def test_wycheproof_ed25519():
    for group, test in wycheproof("ed25519"):
        (public,) = unhex(group["publicKey"], "pk")
        message, signature = unhex(test, "msg", "sig")
        assert is_ed25519_public(public)
        expected = test["result"] == "valid"
        assert is_verified(signature, message, public) is expected, test


def test_wycheproof_ed25519_has_the_cases_that_matter():
    flags = [flag for _, test in wycheproof("ed25519") for flag in test["flags"]]
    assert flags.count("SignatureMalleability") == 8
    assert flags.count("TruncatedSignature") == 3
    assert flags.count("InvalidEncoding") == 22


# --- X25519 --------------------------------------------------------------------------------


def test_wycheproof_x25519():
    refused = 0
    for _, test in wycheproof("x25519"):
        public, private, shared = unhex(test, "public", "private", "shared")
        if "ZeroSharedSecret" in test["flags"]:
            refused += 1
            assert shared == bytes(32)
            assert not is_x25519_public(public), test
            with pytest.raises(CryptoError):
                x25519(private, public)
        else:
            assert x25519(private, public) == shared, test
            # A second encoding of a good key computes, and is refused when read (SPEC 3.4).
            is_canonical = "NonCanonicalPublic" not in test["flags"]
            assert is_x25519_public(public) is is_canonical, test
    assert refused == 31


def test_wycheproof_x25519_from_the_base_point():
    base = (9).to_bytes(32, "little")
    for _, test in wycheproof("x25519"):
        (private,) = unhex(test, "private")
        assert x25519_public(private) == x25519(private, base)


# --- XChaCha20-Poly1305 --------------------------------------------------------------------


def test_wycheproof_xchacha20_poly1305():
    verdicts = set()
    for _, test in wycheproof("xchacha20-poly1305"):
        key, nonce, aad, plain, text, tag = unhex(test, "key", "iv", "aad", "msg", "ct", "tag")
        verdicts.add(test["result"])
        if test["result"] == "valid":
            assert aead_encrypt(plain, aad, nonce, key) == text + tag, test
            assert aead_decrypt(text + tag, aad, nonce, key) == plain, test
        else:
            with pytest.raises(CryptoError):
                aead_decrypt(text + tag, aad, nonce, key)
    assert verdicts == {"valid", "invalid"}


# --- MessagePack ---------------------------------------------------------------------------


REFUSED = ("ext", "timestamp")
"""What the suite has and SPEC 10.1 has not."""


def suite():
    """Yield for each row its kind, its value, and its encodings; extensions have no value."""
    for rows in load("msgpack-test-suite.json").values():
        for row in rows:
            encodings = [bytes.fromhex(text.replace("-", "")) for text in row["msgpack"]]
            (kind, value), *_ = row.items()
            if kind == "binary":
                value = bytes.fromhex(value.replace("-", ""))
            if "bignum" in row:
                value = int(row["bignum"])
            yield kind, value, encodings


def accepted_forms(value):
    """Return the encodings that SPEC 10.1 permits for a value of the suite."""
    forms = {encode_object(value)}
    if type(value) is int and int(float(value)) == value:
        forms.add(encode_object(float(value)))
    return forms


def test_of_each_value_the_shortest_encoding_decodes_and_no_other():
    seen = 0
    for kind, value, encodings in suite():
        if kind in REFUSED:
            continue
        forms = accepted_forms(value)
        floats = (0xCA, 0xCB)
        shortest = min((len(one) for one in encodings if one[0] not in floats), default=9)
        assert len(encode_object(value)) == shortest
        assert encode_object(value) in encodings
        for encoding in encodings:
            seen += 1
            if encoding in forms:
                decoded = decode_object(encoding)
                assert decoded == value
                assert isinstance(decoded, float) is (encoding[0] == 0xCB)
            else:
                with pytest.raises(MalformedError):
                    decode_object(encoding)
    assert seen > 150


def test_no_extension_type_decodes():
    extensions = [row for row in suite() if row[0] in REFUSED]
    assert len(extensions) > 20
    for _, _, encodings in extensions:
        for encoding in encodings:
            with pytest.raises(MalformedError):
                decode_object(encoding)
            with pytest.raises(MalformedError):
                decode_object(b"\x91" + encoding)


def test_in_a_bundle_only_the_shortest_bin_decodes():
    for kind, value, encodings in suite():
        for encoding in encodings:
            packed = b"\x91" + encoding
            if kind == "binary" and packed == encode_bundle([value]):
                assert decode_bundle(packed) == [value]
            else:
                with pytest.raises(MalformedError):
                    decode_bundle(packed)


def test_no_encoding_of_the_suite_decodes_cut_short_or_with_a_byte_behind():
    for _, _, encodings in suite():
        for encoding in encodings:
            for changed in (encoding[:-1], encoding + b"\xc0"):
                with pytest.raises(MalformedError):
                    decode_object(changed)
