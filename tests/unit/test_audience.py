"""Who an envelope is for, as trust and time stand now."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from support import SECOND, START, identity

from envelope import Peer, TrustStore, UsageError
from envelope.audience import Audience

ALICE = identity("alice").public
BOB = identity("bob").public
CAROL = identity("carol").public
END = 2**53


def at(offset):
    """Return the datetime that lies so many microseconds from START."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=START + offset)


def peer(name, public, **more):
    return Peer(name, public, contexts=["orders"], **more)


def keys(audience, now=START):
    return set(audience.resolve(now).keys)


NO_RECIPIENTS = "every recipient is revoked, expired, not yet valid or gone"


def test_recipients_stand_once_each_in_the_order_of_their_key_ids():
    some = [identity(str(n)).public for n in range(20)]
    resolved = Audience([*some, *reversed(some)]).resolve(START)
    assert [key.key_id for key in resolved.keys] == sorted(key.key_id for key in some)
    assert type(resolved.keys) is tuple


def test_nobody_is_an_audience_too():
    assert not Audience(())
    assert Audience(()).resolve(START) == ((), END, ())
    assert Audience([BOB])


@pytest.mark.parametrize("to", [BOB, peer("bob", BOB), "bob", b"bob", None, 7, identity("bob")])
def test_recipients_are_a_list(to):
    with pytest.raises(UsageError) as raised:
        Audience(to)
    assert str(raised.value) == "to is a list of recipients: to=[bob.public]"


@pytest.mark.audit("K3", "K5")
@pytest.mark.parametrize("one", [identity("bob"), "bob", str(BOB), BOB.public, BOB.key_id, None])
def test_a_recipient_is_a_public_identity_or_a_peer(one):
    with pytest.raises(UsageError, match="a recipient is a PublicIdentity or a Peer; never a"):
        Audience([ALICE, one])


def test_recipients_may_come_from_any_iterable_which_is_read_once():
    audience = Audience(key for key in (ALICE, BOB))
    assert keys(audience) == {ALICE, BOB}
    assert keys(audience) == {ALICE, BOB}
    assert keys(Audience({ALICE: 1})) == {ALICE}


def test_a_pinned_key_follows_no_store():
    resolved = Audience([BOB]).resolve(START)
    assert resolved.keys == (BOB,)
    assert (resolved.until, resolved.seen) == (END, ())
    assert resolved.is_current(START)
    assert resolved.is_current(END - 1)
    assert not resolved.is_current(END)


# --- Dates -----------------------------------------------------------------------------


@pytest.mark.audit("A13")
@pytest.mark.parametrize("stored", [False, True])
def test_dates_decide_and_bound_the_answer(stored):
    bob = peer("bob", BOB, not_before=at(10), not_after=at(20))
    carol = peer("carol", CAROL, not_after=at(30))
    if stored:
        store = TrustStore([bob, carol])
        bob, carol = store["bob"], store["carol"]
    audience = Audience([ALICE, bob, carol])
    answers = [
        (0, {ALICE, CAROL}, 10),
        (9, {ALICE, CAROL}, 10),
        (10, {ALICE, BOB, CAROL}, 20),
        (19, {ALICE, BOB, CAROL}, 20),
        (20, {ALICE, CAROL}, 30),
        (29, {ALICE, CAROL}, 30),
        (30, {ALICE}, END - START),
    ]
    for now, expected, until in answers:
        resolved = audience.resolve(START + now)
        assert set(resolved.keys) == expected
        assert resolved.until == START + until
        assert resolved.is_current(START + until - 1)
        assert not resolved.is_current(START + until)


@pytest.mark.audit("A13")
@pytest.mark.parametrize(
    "more",
    [
        {"revoked": True},
        {"not_after": at(0)},
        {"not_before": at(1)},
    ],
)
@pytest.mark.parametrize("stored", [False, True])
def test_an_audience_without_anybody_valid_is_an_error(more, stored):
    bob = peer("bob", BOB, **more)
    if stored:
        bob = TrustStore([bob])["bob"]
    with pytest.raises(UsageError) as raised:
        Audience([bob]).resolve(START)
    assert str(raised.value) == f"{NO_RECIPIENTS}: 'bob'"
    assert keys(Audience([bob, ALICE])) == {ALICE}


@pytest.mark.parametrize(
    ("names", "told"), [("cacb", "'a', 'b', 'c'"), ("dacab", "'a', 'b', 'c', ...")]
)
def test_of_many_that_are_not_valid_the_first_are_named(names, told):
    gone = [peer(name, BOB, revoked=True) for name in names]
    with pytest.raises(UsageError) as raised:
        Audience(gone).resolve(START)
    assert str(raised.value) == f"{NO_RECIPIENTS}: {told}"


# --- Stores ----------------------------------------------------------------------------


@pytest.mark.audit("A13")
def test_a_revoked_recipient_is_dropped_when_its_store_says_so():
    store = TrustStore([peer("bob", BOB), peer("carol", CAROL)])
    audience = Audience([store["bob"], store["carol"]])
    before = audience.resolve(START)
    assert set(before.keys) == {BOB, CAROL}
    assert before.is_current(START)
    store.replace([peer("bob", BOB, revoked=True), peer("carol", CAROL)])
    assert not before.is_current(START)
    after = audience.resolve(START)
    assert after.keys == (CAROL,)
    assert after.is_current(START)


@pytest.mark.audit("A13")
def test_a_recipient_that_left_its_store_is_dropped():
    store = TrustStore([peer("bob", BOB), peer("carol", CAROL)])
    audience = Audience([store["bob"], store["carol"]])
    store.replace([peer("carol", CAROL)])
    assert keys(audience) == {CAROL}
    store.replace([])
    with pytest.raises(UsageError) as raised:
        audience.resolve(START)
    assert str(raised.value) == f"{NO_RECIPIENTS}: 'bob', 'carol'"
    # And comes back with the name.
    store.replace([peer("bob", BOB)])
    assert keys(audience) == {BOB}


def test_during_a_rotation_both_keys_get_the_message():
    store = TrustStore([peer("bob", BOB)])
    audience = Audience([store["bob"]])
    store.replace([peer("bob", BOB), peer("bob", CAROL)])
    assert keys(audience) == {BOB, CAROL}
    store.replace([peer("bob", BOB, revoked=True), peer("bob", CAROL)])
    assert keys(audience) == {CAROL}


def test_either_peer_of_a_rotation_stands_for_its_name():
    store = TrustStore([peer("bob", BOB), peer("bob", CAROL)])
    for one in store.snapshot.names["bob"]:
        assert keys(Audience([one])) == {BOB, CAROL}


@pytest.mark.audit("A13")
def test_a_pinned_key_stays_when_its_peer_is_revoked():
    store = TrustStore([peer("bob", BOB)])
    audience = Audience([BOB, store["bob"]])
    store.replace([peer("bob", BOB, revoked=True)])
    assert keys(audience) == {BOB}


def test_a_peer_that_no_store_handed_out_is_judged_as_it_is():
    bob = peer("bob", BOB)
    TrustStore([bob]).replace([])
    resolved = Audience([bob]).resolve(START)
    assert (resolved.keys, resolved.seen) == ((BOB,), ())


def test_the_answer_rests_on_every_store_seen_once():
    one = TrustStore([peer("alice", ALICE), peer("bob", BOB)])
    two = TrustStore([peer("carol", CAROL)])
    resolved = Audience([one["alice"], one["bob"], two["carol"]]).resolve(START)
    assert resolved.seen == ((one, one.snapshot), (two, two.snapshot))
    assert resolved.is_current(START)
    two.replace([peer("carol", CAROL)])
    assert not resolved.is_current(START)
    resolved = Audience([one["alice"], two["carol"]]).resolve(START)
    one.replace([])
    assert not resolved.is_current(START)


def test_one_answer_is_of_one_snapshot_though_the_store_changes_meanwhile(monkeypatch):
    store = TrustStore([peer("alice", ALICE), peer("bob", BOB)])
    audience = Audience([store["alice"], store["bob"]])
    first = store.snapshot
    current = TrustStore.current

    def and_then_replaced(self, now):
        found = current(self, now)
        self.replace([peer("alice", CAROL)])
        return found

    monkeypatch.setattr(TrustStore, "current", and_then_replaced)
    resolved = audience.resolve(START)
    monkeypatch.setattr(TrustStore, "current", current)
    assert set(resolved.keys) == {ALICE, BOB}
    assert resolved.seen == ((store, first),)
    assert not resolved.is_current(START)


@pytest.mark.audit("A13")
def test_a_followed_file_is_asked_at_the_time_given(tmp_path):
    path = tmp_path / "peers.toml"
    text = f'[[peer]]\nname = "bob"\nkey = "{BOB}"\ncontexts = ["orders"]\n'
    path.write_text(text)
    store = TrustStore.load(path)
    resolved = Audience([store["bob"], CAROL]).resolve(START)
    path.with_name("new").write_text(text + "revoked = true\n")
    path.with_name("new").replace(path)
    assert resolved.is_current(START + SECOND - 1)
    assert not resolved.is_current(START + SECOND)
    assert keys(Audience([store["bob"], CAROL]), START + SECOND) == {CAROL}


@pytest.mark.audit("P3")
def test_an_envelope_has_at_most_256_recipients():
    some = [identity(f"recipient {n}").public for n in range(257)]
    assert len(Audience(some[:256]).resolve(START).keys) == 256
    with pytest.raises(UsageError) as raised:
        Audience(some).resolve(START)
    assert str(raised.value) == "an envelope has at most 256 recipients"
    # It is the valid ones that count.
    one_too_many = [*some[:256], peer("late", some[256], revoked=True)]
    assert len(Audience(one_too_many).resolve(START).keys) == 256
