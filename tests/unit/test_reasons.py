"""Sentences for a person: what they name, and what they never do."""

from __future__ import annotations

import pytest
from cast import write_trust
from support import START, identity

from envelope import Peer, Policy, TrustStore, reasons
from envelope.errors import (
    CODES,
    REJECTIONS,
    MalformedError,
    NotAddressedError,
    ReplayedError,
    TrustFileError,
    UnknownSenderError,
    UnsealError,
)

ALICE, BOB = identity("alice").public, identity("bob").public


def peer(*contexts):
    return Peer("alice", ALICE, contexts=contexts)


@pytest.mark.parametrize(
    ("contexts", "only"),
    [
        (["a"], "only in 'a'"),
        (["a", "b.*", "c"], "only in 'a', 'b.*', 'c'"),
        (["a", "b", "c", "d", "e"], "only in 'a', 'b', 'c' and 2 more"),
    ],
)
def test_a_context_that_is_not_permitted_is_told_beside_those_that_are(contexts, only):
    text = reasons.not_trusted(peer(*contexts), "orders", START)
    assert text == f"'alice' may not send in the context 'orders', {only}"


def test_a_stale_one_says_if_it_is_the_own_clock_that_stepped_back():
    text = reasons.stale(Policy(), 61_500_000, is_back=True)
    assert text.startswith("61.500 s old; max_age is 30.0 s; compare the clocks; ")
    assert "reset_clock()" in text


@pytest.mark.parametrize("refusal", REJECTIONS)
def test_each_code_says_what_to_do_by_its_remedy_or_by_itself(refusal):
    assert reasons.remedy(refusal()) or refusal.code in ("policy", "store_unavailable")


def test_there_is_no_remedy_for_what_is_no_code():
    known = set(reasons.REMEDIES) | set(reasons._SIGNED) | set(reasons._IN_A_SESSION)
    assert known <= set(CODES)


def test_what_was_signed_is_not_a_program_without_envelopes():
    error = MalformedError("the payload is no object")
    assert reasons.remedy(error) == reasons.REMEDIES["malformed"]
    error.verified = True
    assert reasons.remedy(error) == reasons._SIGNED["malformed"]


def test_what_does_not_open_and_was_not_signed_is_of_a_session():
    error = UnsealError("not written by this peer for this end and context")
    assert reasons.remedy(error) == reasons.REMEDIES["unseal"]
    error.verified = False
    assert reasons.remedy(error) == reasons._IN_A_SESSION["unseal"]


class TestHere:
    def test_who_is_not_addressed_is_told_who_this_end_is(self):
        ids = [ALICE.key_id, BOB.key_id]
        text = reasons.here(NotAddressedError(), ids, None)
        assert text == f"this end is {ALICE.key_id.hex()}, {BOB.key_id.hex()}"
        assert reasons.here(NotAddressedError(), (), None) == "this end is without an identity"
        assert reasons.here(NotAddressedError(), None, None) is None

    def test_who_is_unknown_is_told_where_it_was_looked_up(self, tmp_path):
        file = tmp_path / "peers.toml"
        write_trust(file, peer("orders"))
        trust = TrustStore.load(file)
        text = reasons.here(UnknownSenderError(), None, trust)
        assert text == f"looked up in <TrustStore of 1 peers from {file}>"
        assert reasons.here(UnknownSenderError(), None, None) is None

    def test_who_is_unknown_is_told_if_the_file_is_of_yesterday(self, tmp_path):
        file = tmp_path / "peers.toml"
        write_trust(file, peer("orders"))
        trust = TrustStore.load(file)
        file.write_text("a typing error")
        with pytest.raises(TrustFileError):
            trust.reload()
        text = reasons.here(UnknownSenderError(), None, trust)
        since = f"{trust.stale_since:%Y-%m-%d %H:%M:%S}"
        assert text.endswith(f"peers.toml>, which cannot be read since {since}Z")

    def test_others_are_told_nothing_of_it(self):
        assert reasons.here(ReplayedError(), [ALICE.key_id], TrustStore()) is None


class TestOneLine:
    @pytest.mark.parametrize(
        ("text", "line"),
        [
            ("as it is", "as it is"),
            ("zwölf Äpfel", "zwölf Äpfel"),
            ("a\nb\r\x1b[2J\x00", "a\\nb\\r\\x1b[2J\\x00"),
            ("\u202eabc\u2028", "\\u202eabc\\u2028"),
            ("\udc80", "\\udc80"),
        ],
    )
    def test_what_is_not_printable_is_written_out(self, text, line):
        assert reasons.one_line(text) == line

    def test_what_is_long_is_cut(self):
        assert reasons.one_line("x" * 500) == "x" * 500
        assert reasons.one_line("x" * 501) == "x" * 497 + "..."
