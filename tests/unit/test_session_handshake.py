"""Initiation and response: what is bound, and what is refused (SPEC 18.1, 18.3, 18.4)."""

from __future__ import annotations

import pytest
from sides import note_statics
from support import flip, identity

from envelope.binding import context_digest
from envelope.errors import MalformedError, UnsealError
from envelope.primitives import CryptoError, H
from envelope.session import handshake, wire
from envelope.session.handshake import Request, Statics, begin
from envelope.session.noise import Handshake
from envelope.session.wire import Grant, Offer

ALICE, BOB, CAROL = map(identity, ("alice", "bob", "carol"))
CTX = context_digest(b"orders", ())
OFFER = Offer(b"i" * 8, b"t" * 16, 3, 1_800_000_000_000_000)
GRANT = Grant(b"r" * 8, 1_800_000_000_000_001, b"u" * 16)
ONE, TWO = b"1" * 32, b"2" * 32


def initiation(offer=OFFER, *, sender=ALICE, to=BOB.public, ctx=CTX, statics=None):
    return begin(sender, to, ctx, offer, ephemeral=ONE, now=5, statics=statics)


def request(data, *, receiver=BOB, sender=ALICE.public, ctx=CTX, statics=None):
    return Request(receiver, sender, ctx, data, TWO, statics)


@pytest.fixture
def multiplied(monkeypatch):
    """Return the keys that statics were calculated with, as they come."""
    return note_statics(monkeypatch)


def test_sizes_and_heads_are_those_of_the_specification():
    asked = initiation()
    assert len(asked.data) == 174
    assert asked.data[:38] == b"ENV\x01\x03\x00" + ALICE.key_id + BOB.key_id
    answer, _ = request(asked.data).grant(GRANT)
    assert len(answer) == 94
    assert answer[:14] == b"ENV\x01\x04\x00" + OFFER.session_id


def test_both_ends_have_the_same_keys_and_what_the_other_said():
    asked = initiation()
    heard = request(asked.data)
    assert heard.offer == OFFER
    assert heard.ephemeral == asked.ephemeral == asked.data[38:70]
    answer, theirs = heard.grant(GRANT)
    grant, ours = asked.finish(answer)
    assert grant == GRANT
    assert (ours.send, ours.receive, ours.hash) == (theirs.receive, theirs.send, theirs.hash)
    assert ours.send != ours.receive


@pytest.mark.audit("C2")
def test_the_prologue_is_that_of_the_specification():
    head = initiation().data[:38]
    expected = H(64, b"env1-session", CTX, ALICE.public.public, BOB.public.public, head)
    assert handshake._prologue(CTX, ALICE.public, BOB.public, head) == expected


@pytest.mark.audit("A1")
def test_a_bit_flip_anywhere_in_an_initiation_is_refused():
    data = initiation().data
    for at in range(len(data)):
        with pytest.raises(UnsealError):
            request(flip(data, at))


@pytest.mark.audit("A1")
def test_a_bit_flip_in_a_response_is_refused_and_the_initiation_waits_on():
    asked = initiation()
    answer, theirs = request(asked.data).grant(GRANT)
    for at in range(14, len(answer)):  # What stands before is looked up, not read.
        with pytest.raises(UnsealError):
            asked.finish(flip(answer, at))
    _, ours = asked.finish(answer)
    assert ours.hash == theirs.hash


@pytest.mark.audit("A12", "A5")
@pytest.mark.audit("A5", "A7")
@pytest.mark.parametrize(
    "other",
    [
        {"sender": CAROL},
        {"to": CAROL.public},
        {"ctx": context_digest(b"invoices", ())},
    ],
    ids=["sender", "responder", "context"],
)
def test_an_initiation_is_of_its_parties_in_its_context(other):
    with pytest.raises(UnsealError):
        request(initiation(**other).data)


@pytest.mark.audit("C3", "A11")
def test_whoever_has_the_responders_secret_gets_no_session_in_the_initiators_name():
    # With Bob's secret Mallory computes es and ss, and so a first message that Bob reads as
    # Alice's: that is known of IK. The second needs her secret, or Bob's ephemeral one.
    public = ALICE.public.public[32:]
    head = initiation().data[:38]
    forged = Handshake(
        secret=BOB._x_secret,
        public=public,
        ephemeral=b"m" * 32,
        prologue=handshake._prologue(CTX, ALICE.public, BOB.public, head),
        remote_static=BOB.public.public[32:],
    )
    agree = type(forged)._agree

    def stolen(self, word):
        # ss is symmetric: Bob's secret and Alice's public key give it.
        if word == "ss":
            self.remote_static, kept = public, self.remote_static
            try:
                return agree(self, word)
            finally:
                self.remote_static = kept
        return agree(self, word)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Handshake, "_agree", stolen)
        data = head + forged.write(OFFER.encode())
    heard = request(data)
    answer, keys = heard.grant(GRANT)
    with pytest.raises(CryptoError):
        forged.read(answer[14:])
    assert forged.keys is None
    assert keys is not None


def carols_as_alice():
    """Return an initiation of Carol's, honest in all but the key id: the prologue is Alice's."""
    head = initiation().data[:38]
    noise = Handshake(
        secret=CAROL._x_secret,
        public=CAROL.public.public[32:],
        ephemeral=ONE,
        prologue=handshake._prologue(CTX, ALICE.public, BOB.public, head),
        remote_static=BOB.public.public[32:],
    )
    return head + noise.write(OFFER.encode())


@pytest.mark.audit("A12")
def test_another_static_key_than_that_of_the_key_id_is_refused():
    with pytest.raises(UnsealError, match="another key"):
        request(carols_as_alice())


def test_what_is_kept_of_static_keys_changes_no_byte_and_is_calculated_once(multiplied):
    here, there = Statics(ALICE), Statics(BOB)
    for _ in range(3):
        kept, plain = initiation(statics=here), initiation()
        assert kept.data == plain.data
        answer, keys = request(kept.data, statics=there).grant(GRANT)
        assert (answer, keys) == request(plain.data).grant(GRANT)
        assert kept.finish(answer) == plain.finish(answer)
    assert multiplied == [BOB.public.public[32:], ALICE.public.public[32:]]


def test_of_each_peer_something_else_is_kept(multiplied):
    statics = Statics(ALICE)
    for peer in (BOB, CAROL) * 2:
        answer, _ = request(initiation(to=peer.public, statics=statics).data, receiver=peer).grant(
            GRANT
        )
        assert answer
    assert multiplied == [peer.public.public[32:] for peer in (BOB, CAROL)]


@pytest.mark.audit("A12", "A18")
def test_of_a_static_key_that_is_no_peers_nothing_is_kept(multiplied):
    statics = Statics(BOB)
    forged = carols_as_alice()
    for _ in range(2):
        with pytest.raises(UnsealError, match="another key"):
            request(forged, statics=statics)
    assert multiplied == [CAROL.public.public[32:]] * 2
    assert repr(statics) == "<Statics of 0 peers>"
    request(initiation().data, statics=statics)
    assert repr(statics) == "<Statics of 1 peers>"


def test_what_is_kept_is_dropped_when_it_is_said(multiplied):
    statics = Statics(ALICE)
    initiation(statics=statics)
    statics.forget()
    initiation(statics=statics)
    assert multiplied == [BOB.public.public[32:]] * 2


@pytest.mark.audit("C10")
@pytest.mark.parametrize("point", [bytes(32), b"\1" + bytes(31)])
def test_an_ephemeral_key_of_low_order_is_refused_in_either_message(point):
    asked = initiation()
    with pytest.raises(UnsealError):
        request(asked.data[:38] + point + asked.data[70:])
    answer, _ = request(asked.data).grant(GRANT)
    with pytest.raises(UnsealError):
        asked.finish(answer[:14] + point + answer[46:])


@pytest.mark.audit("A17")
@pytest.mark.parametrize("change", [{"sequence": 2**48}, {"sent_at": 2**53}])
def test_an_offer_beyond_its_widths_is_malformed(change):
    with pytest.raises(MalformedError):
        request(initiation(OFFER._replace(**change)).data)


def test_a_grant_beyond_its_width_is_malformed_and_spoils_the_initiation():
    asked = initiation()
    answer, _ = request(asked.data).grant(GRANT._replace(sent_at=2**53))
    with pytest.raises(MalformedError):
        asked.finish(answer)
    for again in (answer, request(asked.data).grant(GRANT)[0]):
        with pytest.raises(UnsealError, match="answered before"):
            asked.finish(again)


@pytest.mark.audit("A22")
def test_a_response_to_another_initiation_is_refused():
    asked, other = initiation(), initiation(OFFER._replace(sequence=4))
    answer, _ = request(other.data).grant(GRANT)
    with pytest.raises(UnsealError, match="no response to this"):
        asked.finish(answer)


@pytest.mark.audit("K5")
def test_printing_an_initiation_shows_neither_message_nor_key():
    asked = initiation()
    assert repr(asked) == (
        f"Initiation(session_id={OFFER.session_id!r}, made_at=5, ephemeral={asked.ephemeral!r})"
    )
    assert wire.kind_of(asked.data) == wire.INITIATION
