"""Whom to believe: peers, snapshots, and a file that is followed (SPEC 3.5, 3.6, 13.3)."""

from __future__ import annotations

import dataclasses
import errno
import logging
import os
import threading
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from types import SimpleNamespace

import pytest
from support import SECOND, START, identity

from envelope import Peer, PublicIdentity, TrustFileError, TrustStore, UsageError, trust

ALICE = identity("alice").public
BOB = identity("bob").public
CAROL = identity("carol").public
NO_ZONE = "a date is a datetime with a time zone, such as 2027-06-30T00:00:00Z"


def peer(name="alice", public=ALICE, contexts=("orders",), **more):
    return Peer(name, public, contexts, **more)


def mixed(first, second):
    """Return a sound public identity of one's first and another's second half."""
    return PublicIdentity(first.public[:32] + second.public[32:])


# --- Peers: names, contexts, topics ----------------------------------------------------


@pytest.mark.parametrize("name", ["a", "x" * 255, "é" * 127, "Zoë's plant 7", " "])
def test_a_name_is_1_to_255_printable_bytes(name):
    assert peer(name).name == name


@pytest.mark.parametrize("name", ["", "x" * 256, "é" * 128, None, b"alice", 7])
def test_another_length_or_type_is_no_name(name):
    with pytest.raises(UsageError) as raised:
        peer(name)
    assert str(raised.value) == "a peer's name is a str of 1 to 255 bytes"


@pytest.mark.audit("E3")
@pytest.mark.parametrize("name", ["a\n", "\x1b[2J", "a\0", "\u2028", "\u202e", "\ud800", "\x7f"])
def test_a_name_cannot_forge_a_log_line(name):
    with pytest.raises(UsageError) as raised:
        peer(name)
    assert str(raised.value) == "a peer's name is printable: it appears in logs"


@pytest.mark.audit("K3")
@pytest.mark.parametrize("public", [None, str(ALICE), ALICE.public, identity("alice")])
def test_a_peer_has_a_public_identity(public):
    with pytest.raises(UsageError) as raised:
        peer(public=public)
    assert str(raised.value) == (
        "peer 'alice': public is a PublicIdentity, such as identity.public, or a text that "
        "PublicIdentity.parse() read"
    )


@pytest.mark.audit("A13")
@pytest.mark.parametrize(
    ("pattern", "allowed", "refused"),
    [
        ("orders", ["orders"], ["order", "orders.", "orders.eu", "Orders", " orders", "*"]),
        (
            "orders.*",
            ["orders.eu", "orders.eu.fast", "orders..", "orders.*", "orders.x"],
            ["orders", "orders.", "ordersxeu", "orders-eu", "xorders.eu", "order.eu", "*"],
        ),
        ("a.b.*", ["a.b.c"], ["a.b", "a.b.", "a.c", "a.", "axb.c"]),
        ("a..*", ["a..b"], ["a.b", "a..", "a."]),
        ("*", ["orders", "x" * 255, "*", ".", "a.*"], []),
        (".", ["."], ["..", ".a", "a."]),
    ],
)
def test_a_pattern_allows_these_contexts_and_no_others(pattern, allowed, refused):
    one = peer(contexts=[pattern])
    assert [context for context in allowed if not one.allows_context(context)] == []
    assert [context for context in refused if one.allows_context(context)] == []


def test_any_one_of_several_patterns_is_enough():
    one = peer(contexts=["a", "b.*", "c"])
    for context in ("a", "b.x", "c"):
        assert one.allows_context(context)
    for context in ("b", "a.x", "d"):
        assert not one.allows_context(context)


@pytest.mark.audit("A13")
@pytest.mark.parametrize(
    "pattern",
    ["**", "*.orders", "or*ers", "orders*", "orders.**", "*.*", ".*", "a.*.b", "a.*.*", "* ", "*a"],
)
def test_a_star_elsewhere_is_an_error(pattern):
    with pytest.raises(UsageError) as raised:
        peer(contexts=["orders", pattern])
    assert str(raised.value) == (
        f"peer 'alice': {pattern!r}: a * stands alone, or last after a name and a dot"
    )


@pytest.mark.parametrize(
    "contexts", ["orders", b"orders", None, 7, {"orders": 1}, bytearray(b"o"), iter(["orders"])]
)
def test_contexts_are_a_list(contexts):
    with pytest.raises(UsageError) as raised:
        peer(contexts=contexts)
    assert str(raised.value) == ("peer 'alice': contexts is a list of str: contexts=[\"orders\"]")


@pytest.mark.audit("A13")
@pytest.mark.parametrize("kind", [list, tuple, set, frozenset])
def test_contexts_are_required_and_never_empty(kind):
    assert peer(contexts=kind(["a"])).contexts == ("a",)
    with pytest.raises(UsageError) as raised:
        peer(contexts=kind())
    assert str(raised.value) == "peer 'alice': contexts is empty; [\"*\"] means all"
    with pytest.raises(TypeError):
        Peer("alice", ALICE)


@pytest.mark.parametrize("pattern", ["", None, 7, b"orders"])
def test_a_context_is_a_str_with_something_in_it(pattern):
    with pytest.raises(UsageError, match="peer 'alice': a context is a non-empty str"):
        peer(contexts=["orders", pattern])


@pytest.mark.parametrize("pattern", ["x" * 255, "é" * 127, "x" * 253 + ".*"])
def test_a_context_of_255_bytes_is_taken(pattern):
    assert peer(contexts=[pattern]).contexts == (pattern,)


@pytest.mark.parametrize("pattern", ["x" * 258, "é" * 129, "x" * 256, "x" * 257, "é" * 128])
def test_a_longer_context_than_any_envelope_can_have_is_refused(pattern):
    with pytest.raises(UsageError, match="at most 255 bytes"):
        peer(contexts=[pattern])


@pytest.mark.parametrize(("field", "what"), [("contexts", "a context"), ("topics", "a topic")])
def test_text_that_is_no_unicode_is_a_usage_error(field, what):
    with pytest.raises(UsageError) as raised:
        peer(**{field: ["\ud800"]})
    assert str(raised.value) == f"peer 'alice': {what} cannot be encoded as UTF-8"


@pytest.mark.audit("A5", "A13")
def test_a_topic_is_a_prefix_of_the_first_bound_frame():
    one = peer(topics=["dns/", b"\xffraw"])
    assert one.topics == (b"dns/", b"\xffraw")
    for bound in ((b"dns/",), (b"dns/eu",), (b"dns/eu", b"x"), (b"\xffraw!",)):
        assert one.allows_topic(bound)
    for bound in ((b"dns",), (b"",), (b"x", b"dns/"), (b"Dns/",), (b"xdns/",), (b"\xff",)):
        assert not one.allows_topic(bound)


@pytest.mark.audit("A13")
def test_with_topics_an_envelope_without_bound_frames_is_not_permitted():
    assert not peer(topics=[b""]).allows_topic(())
    assert peer(topics=[b""]).allows_topic((b"",))
    assert peer().allows_topic(())
    assert peer().allows_topic((b"anything",))


def test_a_topic_is_the_same_as_str_and_as_bytes():
    # The empty prefix too: any topic, but there has to be one.
    for topic in ("dns/", "é", ""):
        assert peer(topics=[topic]).topics == peer(topics=[topic.encode()]).topics


@pytest.mark.parametrize("topics", ["dns/", b"dns/", 7, {"dns/": 1}, iter(["dns/"])])
def test_topics_are_a_list(topics):
    with pytest.raises(UsageError) as raised:
        peer(topics=topics)
    assert str(raised.value) == "peer 'alice': topics is a list: topics=[\"dns/\"]"


@pytest.mark.parametrize("topics", [[], (), [7], ["dns/", None], [bytearray(b"a")]])
def test_topics_are_str_or_bytes_and_some(topics):
    with pytest.raises(UsageError) as raised:
        peer(topics=topics)
    assert str(raised.value) == (
        "peer 'alice': topics is a non-empty list of str or bytes, or None"
    )


@pytest.mark.parametrize("revoked", [1, 0, None, "no"])
def test_revoked_is_true_or_false(revoked):
    with pytest.raises(UsageError) as raised:
        peer(revoked=revoked)
    assert str(raised.value) == "peer 'alice': revoked is True or False"


# --- Peers: dates ----------------------------------------------------------------------

NOON = datetime(2027, 1, 15, 12, 0, 0, 123456, tzinfo=UTC)
NOON_US = 1_800_014_400_123_456


@pytest.mark.audit("A13")
def test_dates_are_exact_to_the_microsecond():
    one = peer(not_before=NOON, not_after=NOON + timedelta(microseconds=2))
    assert (one.begins, one.ends) == (NOON_US, NOON_US + 2)
    assert [one.is_valid(NOON_US + n) for n in (-1, 0, 1, 2, 3)] == [
        False,
        True,
        True,
        False,
        False,
    ]


def test_dates_of_other_zones_are_the_same_instant():
    for zone in (timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-8))):
        assert peer(not_before=NOON.astimezone(zone)).begins == NOON_US


def test_without_dates_a_peer_is_always_valid():
    one = peer()
    assert (one.begins, one.ends) == (0, 2**53)
    assert one.is_valid(0)
    assert one.is_valid(2**53 - 1)


@pytest.mark.parametrize("year", [1, 1969, 1970])
def test_a_beginning_before_1970_is_always_past(year):
    assert peer(not_before=datetime(year, 1, 1, tzinfo=UTC)).begins == 0


def test_a_year_far_ahead_is_exact():
    last = datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
    assert peer(not_after=last).ends == 253_402_300_799_999_999


@pytest.mark.audit("A13")
def test_a_revoked_peer_is_never_valid():
    one = peer(revoked=True, not_before=NOON)
    assert not any(one.is_valid(now) for now in (0, NOON_US, NOON_US + 1))


@pytest.mark.parametrize("after", [NOON, NOON - timedelta(microseconds=1)])
def test_dates_that_leave_no_time_are_refused(after):
    with pytest.raises(UsageError) as raised:
        peer(not_before=NOON, not_after=after)
    assert str(raised.value) == "peer 'alice': not_before is not before not_after"


class Zoneless(tzinfo):
    """A zone that does not say how far it is from UTC."""

    def utcoffset(self, _):
        return None


@pytest.mark.parametrize("field", ["not_before", "not_after"])
@pytest.mark.parametrize(
    "value",
    [NOON.replace(tzinfo=None), date(2027, 1, 1), "2027-01-01", 0, NOON.replace(tzinfo=Zoneless())],
)
def test_a_date_has_a_time_zone(field, value):
    with pytest.raises(UsageError) as raised:
        peer(**{field: value})
    assert str(raised.value) == f"peer 'alice': {NO_ZONE}"


def test_a_peer_is_a_value():
    one = peer(topics=["a"])
    assert one == peer(topics=[b"a"])
    assert hash(one) == hash(peer(topics=[b"a"]))
    assert one != peer(topics=["a"], revoked=True)
    assert one.key_id == ALICE.key_id
    assert not hasattr(one, "__dict__")
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.revoked = True
    assert TrustStore([one])["alice"] == one


def test_a_peer_prints_what_it_was_made_of_and_takes_its_store_by_name_only():
    assert repr(peer()) == (
        f"Peer(name='alice', public={ALICE!r}, contexts=('orders',), topics=None, "
        "not_before=None, not_after=None, revoked=False)"
    )
    assert repr(TrustStore([peer()])["alice"]) == repr(peer())
    with pytest.raises(TypeError):
        Peer("alice", ALICE, ["orders"], None, None, None, False, TrustStore())


def test_a_peer_does_not_follow_a_list_that_changes_later():
    contexts, topics = ["orders"], ["a"]
    one = peer(contexts=contexts, topics=topics)
    contexts.append("*")
    topics.append("")
    assert (one.contexts, one.topics) == (("orders",), (b"a",))


# --- Snapshots -------------------------------------------------------------------------


def test_a_store_has_its_peers_by_name_by_key_id_and_in_order():
    store = TrustStore([peer("bob", BOB), peer("alice")])
    assert [one.name for one in store] == ["bob", "alice"]
    assert len(store) == 2
    assert "alice" in store
    assert "carol" not in store
    assert store["alice"].public == ALICE
    assert store.snapshot.peers[BOB.key_id] is store["bob"]
    assert set(store.snapshot.peers) == {ALICE.key_id, BOB.key_id}
    assert repr(store).startswith("<TrustStore of 2 peers")
    assert len(TrustStore()) == 0


@pytest.mark.parametrize("name", ["carol", "", None, ALICE.key_id, 0])
def test_a_name_that_is_not_there_is_a_usage_error(name):
    with pytest.raises(UsageError) as raised:
        TrustStore([peer()])[name]
    says = f"no peer is named {name!r} in <TrustStore of 1 peers from a list>"
    assert str(raised.value) == says


def test_a_peer_knows_the_store_that_handed_it_out_and_the_given_one_does_not():
    given = peer()
    store = TrustStore([given])
    assert given.store is None
    assert store["alice"].store is store
    other = TrustStore(store)
    assert other["alice"].store is other
    assert store["alice"].store is store


@pytest.mark.audit("K1")
def test_one_name_with_two_keys_is_a_rotation():
    store = TrustStore([peer("alice", ALICE), peer("bob", BOB), peer("alice", CAROL)])
    assert [one.public for one in store.snapshot.names["alice"]] == [ALICE, CAROL]
    assert store["alice"].public == ALICE
    assert len(store) == 3


@pytest.mark.audit("A12")
@pytest.mark.parametrize(
    "second", [ALICE, mixed(ALICE, BOB), mixed(BOB, ALICE)], ids=["both", "first", "second"]
)
def test_no_key_stands_under_two_names(second):
    with pytest.raises(UsageError) as raised:
        TrustStore([peer("alice", ALICE), peer("mallory", second)])
    assert str(raised.value) == "'mallory' and 'alice' have the same key"


@pytest.mark.audit("A12")
@pytest.mark.parametrize(
    "second", [ALICE, mixed(ALICE, BOB), mixed(BOB, ALICE)], ids=["both", "first", "second"]
)
def test_no_key_stands_twice_under_one_name(second):
    for peers in (
        [peer("alice", ALICE), peer("alice", second)],
        [peer("carol", CAROL), peer("alice", ALICE), peer("alice", second)],
    ):
        with pytest.raises(UsageError) as raised:
            TrustStore(peers)
        assert str(raised.value) == "'alice' has the same key twice"


def both_halves_alike():
    """Return an identity whose two halves are the same 32 bytes."""
    # Any point whose sign bit is clear is a u as well.
    for name in map(str, range(64)):
        half = identity(name).public.public[:32]
        if half[31] < 0x80:
            return PublicIdentity(half * 2)
    raise AssertionError


def test_an_identity_of_one_key_for_both_uses_is_refused():
    with pytest.raises(UsageError, match="'alice' has the same key twice"):
        TrustStore([peer("alice", both_halves_alike())])


def colliding(public):
    """Return the same keys under the key id of Alice."""
    twin = PublicIdentity(public.public)
    object.__setattr__(twin, "key_id", ALICE.key_id)
    return twin


@pytest.mark.audit("A12")
@pytest.mark.parametrize("name", ["mallory", "alice"])
def test_two_identities_with_one_key_id_are_refused(name):
    with pytest.raises(UsageError) as raised:
        TrustStore([peer("alice", ALICE), peer(name, colliding(BOB))])
    assert str(raised.value) == f"{name!r} and another peer have one key id"


@pytest.mark.parametrize("given", [None, "alice", ALICE, identity("alice")])
def test_a_store_takes_peers_alone(given):
    for peers in ([peer(), given], given, peer()):
        with pytest.raises(UsageError) as raised:
            TrustStore(peers)
        assert str(raised.value) == (
            "a TrustStore takes a list of Peer objects; for a file use TrustStore.load()"
        )


@pytest.mark.audit("A13")
def test_replacing_swaps_a_whole_snapshot_and_the_old_one_stays_as_it_was():
    store = TrustStore([peer("alice"), peer("bob", BOB)])
    old = store.snapshot
    was = (dict(old.peers), dict(old.names))
    store.replace([peer("bob", BOB, revoked=True), peer("carol", CAROL)])
    assert store.snapshot is not old
    assert (old.peers, old.names) == was
    assert [one.name for one in store] == ["bob", "carol"]
    assert store["bob"].revoked
    assert store.current(START) is store.snapshot


def test_a_list_that_contradicts_itself_leaves_the_previous_one_in_force():
    store = TrustStore([peer("alice")])
    old = store.snapshot
    with pytest.raises(UsageError):
        store.replace([peer("bob", BOB), peer("mallory", BOB)])
    assert store.snapshot is old


# --- Files -----------------------------------------------------------------------------


def table(name="alice", public=ALICE, contexts='["orders"]', more=""):
    """Return a peer in TOML; names of one length give files of one length."""
    return f'[[peer]]\nname = "{name}"\nkey = "{public}"\ncontexts = {contexts}\n{more}\n'


@pytest.fixture
def path(tmp_path):
    return tmp_path / "peers.toml"


def put(path, *tables):
    """Replace the file atomically, as an operator's tool does."""
    new = path.with_name("new.toml")
    new.write_text("\n".join(tables), encoding="utf-8")
    new.replace(path)


def names(store, now):
    return [one.name for one in store.current(now).peers.values()]


@pytest.fixture
def store(path):
    """Return a store that follows a file with Alice in it."""
    put(path, table())
    return TrustStore.load(path)


def test_a_file_gives_peers_with_all_their_fields(path):
    put(
        path,
        table(
            contexts='["orders", "plant.*"]',
            more='topics = ["dns/", "é"]\nnot_before = 2027-01-15T12:00:00.123456Z\n'
            "not_after = 2028-01-15T13:00:00+01:00\nrevoked = true",
        ),
        table("bob", BOB),
    )
    store = TrustStore.load(str(path))
    assert store["alice"] == peer(
        contexts=("orders", "plant.*"),
        topics=("dns/", "é"),
        not_before=NOON,
        not_after=datetime(2028, 1, 15, 12, tzinfo=UTC),
        revoked=True,
    )
    assert store["bob"] == peer("bob", BOB)
    assert store["bob"].store is store
    assert repr(store).startswith("<TrustStore of 2 peers")


def test_an_empty_file_trusts_nobody(path):
    put(path, "# nobody yet\n")
    assert list(TrustStore.load(path)) == []


def loading(path):
    """Return why the file cannot be loaded."""
    with pytest.raises(TrustFileError) as raised:
        TrustStore.load(path)
    return str(raised.value)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ("revoked = 1", "peer 'alice': revoked is True or False"),
        ("topics = []", "peer 'alice': topics is a non-empty list of str or bytes, or None"),
        ('topics = "dns/"', "peer 'alice': topics is a list: topics=[\"dns/\"]"),
        ("not_after = 2027-01-01", f"peer 'alice': {NO_ZONE}"),
        ("not_after = 2027-01-01T00:00:00", f"peer 'alice': {NO_ZONE}"),
        ("[peer.topics]\ndns = 1", "peer 'alice': topics is a list: topics=[\"dns/\"]"),
    ],
)
def test_a_wrong_field_is_named_with_file_and_line(path, more, reason):
    put(path, "# two lines", "", table("bob", BOB), table(more=more))
    assert loading(path) == f"{path}, line 9: {reason}"


def test_a_wrong_key_is_named_with_file_and_line(path):
    put(path, table("bob", BOB), table().replace("envpub1", "envpub2"))
    assert loading(path) == f"{path}, line 7: expected a text that begins with envpub1"
    put(path, table(), table("bob", BOB).replace(str(BOB), identity("bob").export()))
    reason = loading(path)
    assert reason.startswith(f"{path}, line 7: expected a text that begins with envpub1; this one")


def test_peers_that_contradict_each_other_are_named_with_the_file(path):
    put(path, table(), table("mallory"))
    assert loading(path) == f"{path}: 'mallory' and 'alice' have the same key"


def test_a_missing_file_is_an_error_when_loading(path):
    assert loading(path) == f"{path} does not exist"


def test_a_path_with_a_zero_byte_is_an_error_when_loading():
    with pytest.raises(TrustFileError):
        TrustStore.load("peers\0.toml")


@pytest.mark.audit("A13")
def test_a_peer_knows_its_store_after_a_replacement_too_so_that_a_sealer_hears_of_revocation():
    store = TrustStore([peer()])
    store.replace([peer("bob", BOB)])
    assert store["bob"].store is store


def test_a_store_that_follows_a_file_is_not_replaced_and_a_list_not_reloaded(store, path):
    with pytest.raises(UsageError) as raised:
        store.replace([])
    assert str(raised.value) == f"this store follows {path}; change the file"
    with pytest.raises(UsageError) as raised:
        TrustStore().reload()
    assert str(raised.value) == "this store has no file to reload"


# --- Following a file ------------------------------------------------------------------


@pytest.mark.audit("A13")
def test_a_replaced_file_is_in_force_at_the_next_look(store, path, caplog):
    caplog.set_level(logging.INFO)
    old = store.current(START)
    put(path, table("bob", BOB), table("carol", CAROL))
    assert store.current(START + SECOND - 1) is old
    assert names(store, START + SECOND) == ["bob", "carol"]
    assert [one.name for one in old.peers.values()] == ["alice"]
    [record] = caplog.records
    assert (record.name, record.levelno) == ("envelope.trust", logging.INFO)
    assert record.getMessage() == f"trust file {path} reloaded: 2 peers"


def test_a_file_of_the_same_size_and_second_is_seen(store, path):
    before = path.stat()
    store.current(START)
    put(path, table("clive", CAROL))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert names(store, START + SECOND) == ["clive"]


def test_an_unchanged_file_is_not_read_again(store, monkeypatch):
    monkeypatch.setattr(trust.trustfile, "read", lambda _: pytest.fail("read again"))
    old = store.snapshot
    for second in range(5):
        assert store.current(START + second * SECOND) is old


@pytest.fixture
def looks(monkeypatch):
    """Count how often a file is looked at."""
    found = []
    fingerprint = trust._fingerprint

    def counted(path):
        found.append(path)
        return fingerprint(path)

    monkeypatch.setattr(trust, "_fingerprint", counted)
    return found


@pytest.mark.audit("A16")
def test_a_file_is_looked_at_once_a_second_at_most(store, looks):
    assert trust.POLL == 1_000_000
    for now in (START, START, START + 1, START + SECOND - 1):
        store.current(now)
    assert len(looks) == 1
    store.current(START + SECOND)
    assert len(looks) == 2
    store.current(START + 2 * SECOND - 1)
    assert len(looks) == 2
    store.current(START + 9 * SECOND)
    store.current(START + 10 * SECOND - 1)
    assert len(looks) == 3


@pytest.mark.audit("A19")
def test_a_clock_that_stepped_back_does_not_postpone_the_next_look(store, path, looks):
    store.current(START)
    put(path, table("bob", BOB))
    assert names(store, START - 1) == ["bob"]
    put(path, table("carol", CAROL))
    assert names(store, START + SECOND - 2) == ["bob"]
    assert names(store, START + SECOND - 1) == ["carol"]
    assert names(store, START - 3600 * SECOND) == ["carol"]
    store.current(START - 3600 * SECOND)
    assert len(looks) == 1 + 2 + 2 + 1


def test_a_store_of_a_list_looks_at_nothing(looks):
    TrustStore([peer()]).current(START)
    assert looks == []


def test_while_one_thread_looks_another_does_not_wait_nor_look(store, path, monkeypatch, looks):
    # The second thread comes by between the first one's two glances at the time.
    store.current(START)
    put(path, table("bob", BOB))
    seen = []

    class Between:
        """The store's lock, with another thread passing just before it."""

        def __init__(self, lock):
            self.lock = lock

        def __enter__(self):
            store._lock = self.lock
            other = threading.Thread(target=lambda: seen.append(names(store, START + SECOND)))
            other.start()
            other.join()
            self.lock.acquire()

        def __exit__(self, *_):
            self.lock.release()

    store._lock = Between(store._lock)
    before = len(looks)
    store.current(START + SECOND)
    assert seen == [["bob"]]
    # The other thread looked, twice since it found a change; this one did not.
    assert len(looks) == before + 2


@pytest.mark.audit("R7")
@pytest.mark.parametrize("content", ["[[peer", "", "[[peer]]\n", None])
def test_a_file_that_cannot_be_used_keeps_the_previous_peers(store, path, caplog, content):
    old = store.snapshot
    if content is None:
        path.unlink()
    elif content:
        put(path, content)
    else:
        put(path, table(), table("mallory"))
    before = datetime.now(UTC)
    for second in range(3):
        assert store.current(START + second * SECOND) is old
    # Logged each time it fails, and since the first time.
    assert len(caplog.records) == 3
    for record in caplog.records:
        assert (record.name, record.levelno) == ("envelope.trust", logging.ERROR)
        said = record.getMessage()
        assert said.startswith("trust file not reloaded, the previous peers stay in force: ")
        assert str(path) in said
    since = store.stale_since
    assert before <= since <= datetime.now(UTC)
    store.current(START + 9 * SECOND)
    assert store.stale_since is since


def test_a_file_that_is_mended_is_in_force_and_no_longer_stale(store, path):
    put(path, "[[peer")
    store.current(START)
    assert store.stale_since is not None
    put(path, table("bob", BOB))
    assert names(store, START + SECOND) == ["bob"]
    assert store.stale_since is None


@pytest.mark.parametrize("field", ["st_mtime_ns", "st_ctime_ns", "st_size", "st_ino"])
def test_a_file_is_known_by_its_times_its_size_and_its_inode(field):
    status = {"st_mtime_ns": 1, "st_ctime_ns": 2, "st_size": 3, "st_ino": 4}
    before = trust._fingerprint(SimpleNamespace(stat=lambda: SimpleNamespace(**status)))
    assert before == trust._fingerprint(SimpleNamespace(stat=lambda: SimpleNamespace(**status)))
    status[field] += 10
    assert before != trust._fingerprint(SimpleNamespace(stat=lambda: SimpleNamespace(**status)))


def test_a_file_that_was_away_and_came_back_the_same_is_no_longer_stale(store, path, tmp_path):
    aside = tmp_path / "aside"
    path.rename(aside)
    store.current(START)
    assert store.stale_since is not None
    aside.rename(path)
    assert names(store, START + SECOND) == ["alice"]
    assert store.stale_since is None


@pytest.mark.audit("R7", "A13")
@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO])
def test_a_file_that_could_not_be_opened_for_a_moment_is_read_at_the_next_look(
    store, path, monkeypatch, number
):
    # It does not change again: a revocation in it must not wait until it does.
    put(path, table(more="revoked = true"))
    with monkeypatch.context() as patched:

        def fail(*_):
            raise OSError(number, os.strerror(number))

        patched.setattr(trust.trustfile.os, "open", fail)
        assert not store.current(START).names["alice"][0].revoked
    assert store.current(START + SECOND).names["alice"][0].revoked
    assert store.stale_since is None


def test_a_file_that_could_not_be_opened_and_then_went_away_is_told_as_missing(
    store, path, monkeypatch, caplog
):
    put(path, table("bob", BOB))
    with monkeypatch.context() as patched:

        def fail(*_):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        patched.setattr(trust.trustfile.os, "open", fail)
        store.current(START)
    path.unlink()
    store.current(START + SECOND)
    first, second = (record.getMessage() for record in caplog.records)
    assert os.strerror(errno.EMFILE) in first
    assert os.strerror(errno.EMFILE) not in second


def test_a_file_that_cannot_be_used_and_has_not_changed_is_told_again_and_not_read_again(
    store, path, monkeypatch, caplog
):
    put(path, "[[peer")
    store.current(START)
    monkeypatch.setattr(trust.trustfile, "read", lambda _: pytest.fail("read again"))
    store.current(START + SECOND)
    store.current(START + 2 * SECOND)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 3
    assert len(set(said)) == 1


@pytest.mark.audit("K7")
def test_a_program_that_changes_its_folder_still_follows_the_same_file(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    put(tmp_path / "peers.toml", table())
    put(tmp_path / "elsewhere" / "peers.toml", table("mallory", CAROL))
    monkeypatch.chdir(tmp_path)
    store = TrustStore.load("peers.toml")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert names(store, START) == ["alice"]
    store.reload()
    assert names(store, START) == ["alice"]


@pytest.mark.audit("K1")
def test_a_key_is_checked_when_it_comes_in_and_not_at_every_reload(store, path, monkeypatch):
    checked = []
    parse = PublicIdentity.parse

    def counted(key):
        checked.append(key)
        return parse(key)

    monkeypatch.setattr(PublicIdentity, "parse", counted)
    put(path, table(), table("bob", BOB))
    store.reload()
    assert checked == [str(BOB)]
    put(path, table("carol", CAROL))
    store.reload()
    put(path, table("carol", CAROL), table("bob", BOB))
    store.reload()
    # What left the file is forgotten: the table is no larger than the file.
    assert checked == [str(BOB), str(CAROL), str(BOB)]


def test_nothing_is_stale_at_first(store):
    assert store.stale_since is None
    assert TrustStore().stale_since is None


def test_reload_reads_at_once_and_raises(store, path):
    store.current(START)
    put(path, table("bob", BOB))
    store.reload()
    assert [one.name for one in store] == ["bob"]
    old = store.snapshot
    put(path, "[[peer")
    with pytest.raises(TrustFileError):
        store.reload()
    assert store.snapshot is old
    assert store.stale_since is not None
    put(path, table("carol", CAROL))
    store.reload()
    assert store.stale_since is None
    assert [one.name for one in store] == ["carol"]


def test_after_a_reload_the_file_is_known(store, path, monkeypatch):
    put(path, table("bob", BOB))
    store.reload()
    monkeypatch.setattr(trust.trustfile, "read", lambda _: pytest.fail("read again"))
    assert names(store, START) == ["bob"]


@pytest.mark.parametrize("load", ["load", "reload"])
def test_a_change_while_the_file_is_read_is_seen_at_the_next_look(path, monkeypatch, load):
    read = trust.trustfile.read

    def changed_behind(path):
        tables = read(path)
        monkeypatch.setattr(trust.trustfile, "read", read)
        put(path, table("bob", BOB))
        return tables

    put(path, table())
    if load == "load":
        monkeypatch.setattr(trust.trustfile, "read", changed_behind)
        store = TrustStore.load(path)
    else:
        store = TrustStore.load(path)
        monkeypatch.setattr(trust.trustfile, "read", changed_behind)
        store.reload()
    assert [one.name for one in store] == ["alice"]
    assert names(store, START) == ["bob"]


@pytest.mark.audit("P4")
@pytest.mark.parametrize(
    "content",
    [
        "x = " + "1" * 5000,
        "x = " + "[" * 5000,
        "x = 0000-00-00T00:00:00Z",
        '[[peer]]\nname = "\\ud800"',
        "\0",
        "a.b = 1\na.b.c = 2",
    ],
)
def test_no_file_makes_the_store_raise_anything_else(store, path, caplog, content):
    put(path, content)
    assert names(store, START) == ["alice"]
    assert store.stale_since is not None
    assert len(caplog.records) == 1
    with pytest.raises(TrustFileError):
        store.reload()


def test_extreme_dates_of_a_file_are_read(path):
    dates = "not_before = 0001-01-01T00:00:00+23:59\nnot_after = 9999-12-31T23:59:59-23:59"
    put(path, table(more=dates))
    assert TrustStore.load(path)["alice"].is_valid(START)


def test_a_store_shows_how_many_peers_it_has_and_where_they_are_from(store, path):
    assert repr(TrustStore([peer(), peer("bob", BOB)])) == "<TrustStore of 2 peers from a list>"
    assert repr(store) == f"<TrustStore of 1 peers from {path}>"
    half_made = TrustStore.__new__(TrustStore)
    assert repr(half_made) == "<TrustStore of no peers from nowhere>"
