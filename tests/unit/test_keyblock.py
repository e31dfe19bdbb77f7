"""Content keys, computed a second time from SPEC 5.6, 5.7 and 6.3."""

from __future__ import annotations

import hashlib

import pytest
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    crypto_scalarmult,
    crypto_scalarmult_base,
)
from support import START, flip, identity, seeded

from envelope import keyblock
from envelope.errors import UnsealError

ALICE, BOB, CAROL = identity("alice"), identity("bob"), identity("carol")
STREAM = bytes(range(16))
P = 2**255 - 19


def blake(label, *data, key=b""):
    """Return the full hash of SPEC 2.2."""
    return hashlib.blake2b(label.ljust(128, b"\0") + b"".join(data), key=key).digest()


class Reference:
    """A key block by the formulas of the specification, with each part open to change."""

    def __init__(self, *, secret=bytes(range(32)), content_key=b"c" * 32, stream=STREAM):
        self.secret = secret
        self.content_key = content_key
        self.stream = stream
        self.ephemeral = crypto_scalarmult_base(secret)
        self.sender = ALICE.public.public
        self.commitment = self.commit(content_key)

    def commit(self, content_key):
        data = (self.ephemeral, self.sender, self.stream)
        return blake(b"env1-commit", *data, key=content_key)[:32]

    def kek(self, recipient):
        shared = crypto_scalarmult(self.secret, recipient[32:])
        data = (self.ephemeral, recipient, self.sender, self.stream, self.commitment)
        return blake(b"env1-kek", *data, key=shared)[:32]

    def entry(self, recipient, content_key=None):
        wrapped = crypto_aead_xchacha20poly1305_ietf_encrypt(
            content_key or self.content_key, b"", bytes(24), self.kek(recipient.public)
        )
        return recipient.key_id + wrapped

    @property
    def keys(self):
        return self.ephemeral + self.commitment

    @property
    def aead_key(self):
        return blake(b"env1-aead", key=self.content_key)[:32]


def unwrap(keys, entry, *, who=BOB, sender=ALICE, stream=STREAM):
    return keyblock.unwrap(who, sender.public, stream=stream, keys=keys, entry=entry)


def refused(*args, **more):
    with pytest.raises(UnsealError) as raised:
        unwrap(*args, **more)
    assert raised.value.verified
    assert raised.value.__suppress_context__ or raised.value.__context__ is None
    return raised.value.detail


@pytest.mark.audit("C5", "C6")
def test_a_key_block_is_that_of_the_specification():
    asked = []
    source = seeded()

    def random(n):
        asked.append(n)
        return source(n)

    recipients = sorted([BOB.public, CAROL.public], key=lambda one: one.key_id)
    made, aead_key = keyblock.make(ALICE, recipients, stream=STREAM, now=START, random=random)
    hedge = blake(b"env1-hedge", key=ALICE._seed)[:32]
    digest = blake(b"env1-epoch", seeded()(64), STREAM, START.to_bytes(8, "big"), key=hedge)
    reference = Reference(secret=digest[:32], content_key=digest[32:])
    assert asked == [64]
    assert made == reference.keys + b"".join(map(reference.entry, recipients))
    assert aead_key == reference.aead_key
    assert len(made) == 64 + 64 * 2


@pytest.mark.audit("C6", "A18")
def test_every_ingredient_changes_the_content_key():
    usual = {"stream": STREAM, "now": START}
    keys = [
        keyblock.make(who, [BOB.public], random=seeded(seed), **{**usual, **changed})[1]
        for who, seed, changed in (
            (ALICE, 0, {}),
            (CAROL, 0, {}),
            (ALICE, 1, {}),
            (ALICE, 0, {"stream": bytes(16)}),
            (ALICE, 0, {"now": START + 1}),
        )
    ]
    assert len(set(keys)) == len(keys)


def test_every_recipient_gets_the_same_key():
    people = [identity(str(n)) for n in range(5)]
    recipients = [one.public for one in people]
    made, aead_key = keyblock.make(ALICE, recipients, stream=STREAM, now=0, random=seeded())
    for n, one in enumerate(people):
        entry = made[64 + 64 * n : 128 + 64 * n]
        assert unwrap(made[:64], entry, who=one) == aead_key


def test_unwrap_opens_what_the_formulas_made():
    reference = Reference()
    assert unwrap(reference.keys, reference.entry(BOB.public)) == reference.aead_key


@pytest.mark.audit("A7", "C4")
@pytest.mark.parametrize(
    "other",
    [{"who": CAROL}, {"sender": CAROL}, {"stream": bytes(16)}],
    ids=["recipient", "sender", "stream"],
)
def test_a_wrap_is_bound_to_recipient_sender_and_stream(other):
    reference = Reference()
    entry = reference.entry(BOB.public)
    assert refused(reference.keys, entry, **other) == "the wrapped key does not open"


@pytest.mark.audit("A1")
@pytest.mark.parametrize("position", [0, 31, 32, 63])
def test_a_changed_ephemeral_key_or_commitment_opens_nothing(position):
    reference = Reference()
    keys = flip(reference.keys, position)
    assert refused(keys, reference.entry(BOB.public)) == "the wrapped key does not open"


@pytest.mark.audit("A1")
@pytest.mark.parametrize("position", [16, 47, 48, 63])
def test_a_changed_wrap_does_not_open(position):
    reference = Reference()
    entry = flip(reference.entry(BOB.public), position)
    assert refused(reference.keys, entry) == "the wrapped key does not open"


@pytest.mark.audit("A9", "C5")
def test_a_content_key_that_was_not_committed_to_is_refused():
    # The sender itself wraps a second key for Bob under the commitment to the first.
    reference = Reference()
    entry = reference.entry(BOB.public, content_key=b"d" * 32)
    assert refused(reference.keys, entry) == "the content key is not the one committed to"
    assert unwrap(reference.keys, reference.entry(CAROL.public), who=CAROL) == reference.aead_key


@pytest.mark.audit("A9", "C5")
@pytest.mark.parametrize("change", ["ephemeral", "sender", "stream"])
def test_a_commitment_holds_ephemeral_key_sender_and_stream(change):
    # The wrap is made to fit a commitment that was computed from something else.
    reference = Reference()
    true = getattr(reference, change)
    setattr(reference, change, flip(true, 0))
    reference.commitment = reference.commit(reference.content_key)
    setattr(reference, change, true)
    entry = reference.entry(BOB.public)
    assert refused(reference.keys, entry) == "the content key is not the one committed to"


@pytest.mark.audit("E2")
def test_the_commitment_is_compared_in_constant_time(monkeypatch):
    compared = []

    def equal(one, two):
        compared.append((one, two))
        return one == two

    monkeypatch.setattr(keyblock, "equal", equal)
    reference = Reference()
    unwrap(reference.keys, reference.entry(BOB.public))
    assert compared == [(reference.commitment, reference.commitment)]


@pytest.mark.audit("C10", "A15")
@pytest.mark.parametrize("u", [0, 1, P - 1, P, P + 1, P + 9, 2**255 - 1, 2**255 + 9, 2**256 - 1])
def test_an_unsound_ephemeral_key_is_refused_before_it_is_used(u, monkeypatch):
    monkeypatch.setattr(keyblock, "x25519", lambda *_: pytest.fail("it was used"))
    reference = Reference()
    keys = u.to_bytes(32, "little") + reference.commitment
    detail = refused(keys, reference.entry(BOB.public))
    assert detail == "the ephemeral key is not canonical, or of low order"
