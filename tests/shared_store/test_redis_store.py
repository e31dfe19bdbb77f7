"""The client of the shared memory: what it asks for, and what it does without an answer.

The servers are real ones, but for one that answers nonsense.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from datetime import UTC, datetime

import pytest
import redis
import shared_redis
import trustme
from local_redis import LocalRedis
from parallel import in_child
from shared_redis import TimedStore, born, free_port, key_of
from support import SECOND, START, STREAM, mark

import envelope.replay
from envelope.errors import RejectedError, StoreUnavailableError, UsageError
from envelope.replay import Batch, Gaps, Mark, RedisReplayStore
from envelope.stream import Stream

SENDER, OTHER = b"s" * 16, b"o" * 16


def marks_of(*sequences):
    return [Mark(STREAM, sequence, START, False) for sequence in sequences]


def mark_each(store, marks, *guards):
    """Mark the same with some guards, by one question; return ``skipped`` or codes."""
    batches = [Batch(guard, marks, 2, 64, -1) for guard in guards]
    results = store.mark_each(batches)
    return [[getattr(one, "code", one) for one in some] for some in results]


def orders(store, sender=SENDER):
    return store.guard("home", sender, "orders")


def admin(server):
    return redis.Redis.from_url(server.url)


# What it is given.


@pytest.mark.parametrize(
    "url", ["", "localhost", "http://localhost", "redis://localhost:port", 7, None, b"redis://x"]
)
def test_a_url_that_is_none_is_refused(url):
    with pytest.raises(UsageError, match="url is redis://"):
        RedisReplayStore(url)


@pytest.mark.parametrize("namespace", ["", "a b", "x" * 65, "a{b}", "ä", "a\n", 7, None])
def test_a_namespace_that_is_none_is_refused(namespace):
    with pytest.raises(UsageError, match="namespace"):
        RedisReplayStore("redis://localhost", namespace=namespace)


@pytest.mark.parametrize("timeout", [0, -1, 61, "1", None, True, float("nan")])
def test_a_timeout_that_is_none_is_refused(timeout):
    with pytest.raises(UsageError, match="timeout"):
        RedisReplayStore("redis://localhost", timeout=timeout)


@pytest.mark.parametrize(("timeout", "namespace"), [(0.001, "A"), (60, "Z" * 64)])
def test_arguments_at_their_bounds_are_taken(tmp_path, timeout, namespace):
    with pytest.raises(StoreUnavailableError, match=r"none\.sock"):
        RedisReplayStore(f"unix://{tmp_path}/none.sock", timeout=timeout, namespace=namespace)


def test_it_lasts_is_elsewhere_and_says_where():
    server = shared_redis.server()
    with RedisReplayStore(server.url) as store:
        assert (store.is_durable, store.is_remote) == (True, True)
        assert repr(store) == f"<RedisReplayStore 'envelope' at {server.path}>"
        assert store._server._connection.socket_timeout == 1.0


@pytest.mark.parametrize("max_future", [-1, 61, "1"])
def test_a_max_future_out_of_bounds_is_refused(max_future):
    with pytest.raises(UsageError, match="max_future"):
        RedisReplayStore("redis://localhost", max_future=max_future)


def test_without_the_client_the_error_names_the_extra():
    code = "import sys; sys.modules['redis'] = None\nfrom envelope.replay import RedisReplayStore"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert "pip install 'signed-envelope[redis]'" in result.stderr


def test_a_name_that_is_none_is_none():
    with pytest.raises(AttributeError, match="NoSuchStore"):
        envelope.replay.NoSuchStore  # noqa: B018


def test_the_client_is_not_imported_by_those_who_do_not_use_it():
    code = "import sys, envelope.replay; sys.exit('redis' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Whom it connects to.


def test_a_server_that_is_not_there_is_told_at_once(tmp_path):
    with pytest.raises(StoreUnavailableError, match=r"none\.sock"):
        RedisReplayStore(f"unix://{tmp_path}/none.sock")


def test_a_server_that_would_throw_keys_away_is_not_used(server):
    with admin(server) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        with pytest.raises(StoreUnavailableError, match="noeviction"):
            RedisReplayStore(server.url)


def test_a_replica_is_not_used(server):
    with admin(server) as client:
        client.replicaof("127.0.0.1", "1")
        with pytest.raises(StoreUnavailableError, match="role:master"):
            RedisReplayStore(server.url)


def test_a_master_that_becomes_a_replica_is_left_until_it_is_one_again(server, clock):
    with born(server.url, clock) as store, admin(server) as client:
        guard = orders(store)
        assert mark(guard, 0) == 0
        client.replicaof("127.0.0.1", "1")
        assert [mark(guard, 1), mark(guard, 1)] == ["store_unavailable"] * 2
        client.replicaof("NO", "ONE")
        # What it had it may have got from another meanwhile: its memory begins anew.
        assert mark(guard, 1) == "before_start"
        clock.advance(5)
        assert [mark(guard, 1, clock()), mark(guard, 1, clock())] == [0, "replayed"]


def test_a_password_is_used_and_never_told(tmp_path, caplog):
    with LocalRedis(tmp_path, "--requirepass", "right") as server:
        good, bad = (f"unix://:{word}@{server.path}" for word in ("right", "wrong7"))
        with RedisReplayStore(good) as store:
            assert "right" not in repr(store)
            assert "right" not in store._server.name
        with pytest.raises(StoreUnavailableError) as caught:
            RedisReplayStore(bad)
        assert "wrong7" not in str(caught.value)
        assert caught.value.__suppress_context__
        assert "right" not in caplog.text


def test_tls_is_by_url_and_checks_who_answers(tmp_path):
    authority, stranger = trustme.CA(), trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    paths = [tmp_path / name for name in ("ca.pem", "stranger.pem", "cert.pem", "key.pem")]
    authority.cert_pem.write_to_path(paths[0])
    stranger.cert_pem.write_to_path(paths[1])
    certificate.cert_chain_pems[0].write_to_path(paths[2])
    certificate.private_key_pem.write_to_path(paths[3])
    port = free_port()
    options = [
        *("--bind", "127.0.0.1", "--tls-port", port, "--tls-auth-clients", "no"),
        *("--tls-cert-file", str(paths[2]), "--tls-key-file", str(paths[3])),
        *("--tls-ca-cert-file", str(paths[0])),
    ]
    url = f"rediss://127.0.0.1:{port}?ssl_ca_certs="
    with LocalRedis(tmp_path, *options):
        with RedisReplayStore(url + str(paths[0])) as store:
            assert store._server.name == f"127.0.0.1:{port}"
            assert mark(orders(store), 0, 0) == "before_start"
        with pytest.raises(StoreUnavailableError, match="certificate"):
            RedisReplayStore(url + str(paths[1]))


def test_receivers_of_a_namespace_have_one_max_future(store, clock):
    url = shared_redis.server().url
    with pytest.raises(StoreUnavailableError, match=r"use a max_future of 2\.000000 s"):
        TimedStore(url, clock=clock, namespace=store.namespace, max_future=3)


def test_namespaces_and_domains_do_not_meet(store, clock):
    with born(shared_redis.server().url, clock) as other:
        for guard in (
            orders(store),
            orders(other),
            store.guard("home1", SENDER, "orders"),
            store.guard("h", SENDER, "omeorders"),
            store.guard("1:h", SENDER, "omeorders"),
        ):
            assert mark(guard, 0) == 0


# What it forgets.


@pytest.mark.audit("A3", "R2")
def test_a_server_that_starts_again_has_lost_what_it_knew(server, clock, caplog):
    with born(server.url, clock) as store, caplog.at_level(logging.WARNING, "envelope.replay"):
        guard = orders(store)
        assert mark(guard, 0) == 0
        server.kill()
        assert [mark(guard, 1), mark(guard, 2)] == ["store_unavailable"] * 2
        server.start()
        cold = START + 4 * SECOND
        clock.advance(4)
        with TimedStore(server.url, clock=clock, namespace=store.namespace) as other:
            assert mark(orders(other), 0) == "before_start"
            clock.advance(4)
            assert mark(guard, 1, cold + 4 * SECOND) == "before_start"
            assert mark(guard, 1, cold + 4 * SECOND, expected=True) == 1
            assert mark(guard, 3, cold + 4 * SECOND + 1) == 1
        assert "began anew" in caplog.text


@pytest.mark.audit("A3", "R2")
def test_a_server_that_starts_from_its_disk_has_lost_what_came_after(server, clock):
    with born(server.url, clock) as store, admin(server) as client:
        guard = orders(store)
        assert mark(guard, 0) == 0
        client.save()
        assert mark(guard, 1) == 0
        server.kill()
        server.start()
        with TimedStore(server.url, clock=clock, namespace=store.namespace) as other:
            assert orders(other).gaps().accepted == 1  # It has a memory, an old one.
            assert [mark(orders(other), n) for n in range(3)] == ["before_start"] * 3
            clock.advance(5)
            assert mark(orders(other), 3, clock()) == 2


@pytest.mark.audit("A3", "R2")
def test_a_replica_that_takes_over_begins_anew_with_what_it_has(tmp_path, clock):
    for name in ("master", "replica"):
        (tmp_path / name).mkdir()
    port = free_port()
    near = ("--bind", "127.0.0.1", "--repl-diskless-sync-delay", "0")
    with (
        LocalRedis(tmp_path / "master", *near, "--port", port) as master,
        LocalRedis(tmp_path / "replica", *near, "--replicaof", "127.0.0.1", port) as replica,
        admin(master) as first,
        admin(replica) as second,
    ):

        def replicate() -> None:
            first.set("written", 1)  # WAIT is about what its own connection wrote.
            while not first.wait(1, 1000):  # Until the replica has it.
                pass

        replicate()  # The master's history changes when its first replica comes.
        name = shared_redis.namespace()
        shared_redis.bear(master.url, name)
        with TimedStore(master.url, clock=clock, namespace=name) as store:
            assert mark(orders(store), 0) == 0
            replicate()
        master.kill()
        with pytest.raises(StoreUnavailableError, match="role:master"):
            TimedStore(replica.url, clock=clock, namespace=name)
        second.replicaof("NO", "ONE")
        with TimedStore(replica.url, clock=clock, namespace=name) as store:
            guard = orders(store)
            assert [mark(guard, 0), mark(guard, 1)] == ["before_start"] * 2
            clock.advance(5)
            assert mark(guard, 2, clock()) == 1
            assert guard.gaps().accepted == 2  # It has what was replicated.


@pytest.mark.audit("R2")
def test_the_peek_knows_from_when_the_memory_is(store, clock):
    guard = orders(store)
    with admin(shared_redis.server()) as client:
        client.delete(key_of(store.namespace, ":store"))
    assert mark(guard, 0) == "before_start"
    store.asked.clear()
    for one in (guard, orders(store, OTHER)):
        with pytest.raises(RejectedError, match="before_start") as caught:
            one.check(STREAM, 0, START + 4 * SECOND, full_at=2, expected=False)
        assert caught.value.detail == "stamped before the shared replay memory begins"
    assert store.asked == []


def test_a_refusal_says_which_rule_it_was(store):
    guard = orders(store)
    marks = [
        *(Mark(STREAM, sequence, START, False) for sequence in (64, 64, 0)),
        Mark(b"n" * 16, 0, START + 3 * SECOND, False),
    ]
    (results,) = store.mark_each([Batch(guard, marks, 2, 64, -1)])
    assert [(one.code, one.detail) for one in results[1:]] == [
        ("replayed", "a receiver that shares this replay store accepted it before"),
        ("too_old", "behind the replay window of its stream"),
        ("future", "stamped further ahead of the replay store's clock than max_future"),
    ]
    mark(guard, 0, START + 1, stream=b"n" * 16)
    (results,) = store.mark_each([Batch(guard, [Mark(b"o" * 16, 0, START, False)], 2, 64, -1)])
    assert [(one.code, one.detail) for one in results] == [
        ("too_old", "older than every stream remembered of this sender")
    ]
    mark(guard, 0, START + 2, stream=b"o" * 16)  # The oldest is dropped.
    (results,) = store.mark_each([Batch(guard, [Mark(STREAM, 9, START, False)], 3, 64, -1)])
    assert [(one.code, one.detail) for one in results] == [
        ("too_old", "stamped before this sender's floor")
    ]


def test_what_may_be_forgotten_is_forgotten_here_too(store):
    guard = orders(store)
    mark(guard, 0)
    mark(guard, 0, START + 1, stream=b"n" * 16, forget_before=START)
    assert guard.local.known() == {b"n" * 16}
    assert guard.gaps().streams == 1


@pytest.mark.audit("R3")
def test_a_sender_whose_memory_alone_is_lost_is_behind_a_floor(store, clock):
    with (
        TimedStore(shared_redis.server().url, clock=clock, namespace=store.namespace) as other,
        admin(shared_redis.server()) as client,
    ):
        assert mark(orders(store), 0) == 0
        client.delete(orders(store).key)
        assert mark(orders(other), 0) == "too_old"
        assert orders(other).state() == (START + 60 * SECOND, ())
        clock.advance(61)
        assert mark(orders(other), 0, START + 60 * SECOND) == "too_old"
        assert mark(orders(other), 0, START + 61 * SECOND) == 0


def test_what_is_idle_is_dropped_by_the_server_but_never_before_a_day(store, clock):
    guard = orders(store)
    with admin(shared_redis.server()) as client:
        for seconds, before in ((86_400, START), (200_000, START - 200_000 * SECOND)):
            clock.advance(61)
            mark(guard, seconds, clock(), forget_before=before)
            assert seconds <= client.ttl(guard.key) <= seconds + 122
        assert client.ttl(key_of(store.namespace, ":store")) == -1


# What comes when no answer does.


@pytest.mark.audit("A24")
@pytest.mark.parametrize("fault", ["lost", "unheard"])
@pytest.mark.parametrize("failures", [1, 3])
def test_an_outage_loses_nothing(store, clock, fault, failures):
    with TimedStore(shared_redis.server().url, clock=clock, namespace=store.namespace) as other:
        guard = orders(store)
        assert mark(guard, 0) == 0
        store.fault = fault
        assert [mark(guard, 2) for _ in range(failures)] == ["store_unavailable"] * failures
        store.fault = None
        if fault == "unheard":
            # It is ours already: nobody else gets it.
            assert mark(orders(other), 2) == "replayed"
        # Before anything else it is asked for again, and given to us when we offer it.
        assert [mark(guard, 3), mark(guard, 2)] == [0, 1]
        assert [mark(guard, 2), mark(orders(other), 2)] == ["replayed"] * 2


def test_a_question_that_comes_late_once_more_does_nothing(store):
    guard = orders(store)
    store.fault = "lost"
    mark(guard, 0)
    store.fault = None
    assert [mark(guard, 1), mark(guard, 0)] == [0, 0]
    (first, *_), last = store.asked[1:2], store.asked[-1]
    mark(guard, 2)
    assert first != last
    before = guard.state()
    for question in (first, last):
        assert "OVERTAKEN" in str(store.ask_as_before(question))
    assert guard.state() == before


@pytest.mark.audit("A19")
def test_two_clones_of_a_receiver_are_two(store):
    # A machine was copied with all its memory: the same client, the same counter.
    guard = orders(store)
    mark(guard, 0)
    number = next(store._numbers)
    store._numbers = itertools.count(number)
    assert mark(guard, 1) == 0
    store._numbers = itertools.count(number)
    guard.local._entries.clear()
    assert [mark(guard, 1), mark(guard, 2)] == ["store_unavailable", 0]  # It renews itself.
    assert mark(guard, 1) == "replayed"
    names = {arguments[3].removeprefix(f"{guard.key}:") for arguments in store.asked[1:]}
    assert len(names) == 2  # The old one and the new, each as long as chance makes them.
    assert {len(bytes.fromhex(name)) for name in names} == {16}


@pytest.mark.audit("A24")
def test_a_batch_that_was_not_answered_is_given_when_it_is_offered_again(store):
    guard = orders(store)
    marks = marks_of(*range(5))
    mark(guard, 3)
    store.fault = "unheard"
    assert mark_each(store, marks, guard) == [["store_unavailable"] * 5]
    store.fault = None
    assert mark(orders(store, OTHER), 0) == 0
    store.fault = "lost"  # What is owed stays owed.
    again = mark_each(store, [*marks, *marks_of(9)], guard)
    assert again == [["store_unavailable"] * 6]
    store.fault = None
    again = mark_each(store, [*marks, *marks, *marks_of(9)], guard)
    assert again == [[0, 0, 0, "replayed", 0, *["replayed"] * 5, 4]]
    assert guard.owed == {}


@pytest.mark.audit("R2", "A22")
def test_an_expected_reply_is_not_taken_twice_though_the_server_forgot_it(store, clock):
    guard = orders(store)
    assert mark(guard, 0, expected=True) == 0
    with admin(shared_redis.server()) as client:
        client.delete(key_of(store.namespace, ":store"), guard.key)
    assert mark(guard, 0, expected=True) == "replayed"


def test_what_others_accepted_makes_no_receiver_refuse_what_the_server_takes(store, clock):
    # The first has seen little of stream A, so its own memory drops that first.
    url = shared_redis.server().url
    with TimedStore(url, clock=clock, namespace=store.namespace) as other:
        mine, others = orders(store), orders(other)
        a, b, c = (bytes([n]) * 16 for n in range(3))
        assert mark(mine, 0, START, stream=a) == 0
        assert mark(others, 1, START + 9, stream=a) == 0
        assert mark(mine, 0, START + 1, stream=b) == 0
        assert mark(mine, 0, START + 2, stream=c) == 0  # The server drops b, we drop a.
        mine.check(a, 2, START, full_at=2, expected=False)
        assert mark(mine, 2, START, stream=a) == 0
        assert mark(mine, 2, START, stream=a) == "replayed"


def test_what_is_owed_is_bounded(store):
    guard = orders(store)
    for first in range(0, 17 * 256, 256):
        store.fault = "unheard"
        mark_each(store, marks_of(*range(first, first + 256)), guard)
        store.fault = None
        mark(orders(store, OTHER), first)
    assert [one.sequence for one in guard.owed] == [*range(256, 17 * 256)]
    assert len(guard.owed) == 4096


def test_what_is_owed_is_given_though_the_rest_of_its_batch_cannot_be_judged(store):
    guard = orders(store)
    store.fault = "unheard"
    mark(guard, 0)
    store.fault = None
    assert mark(orders(store, OTHER), 0) == 0
    with admin(shared_redis.server()) as client:
        client.delete(guard.key)
        client.set(guard.key, "no hash")
    assert mark_each(store, marks_of(0, 1), guard) == [[0, "store_unavailable"]]


def test_one_place_that_cannot_be_resolved_keeps_back_nothing_of_another(store):
    bad, good = orders(store), orders(store, OTHER)
    store.fault = "lost"
    mark_each(store, marks_of(0), bad, good)
    store.fault = None
    with admin(shared_redis.server()) as client:
        client.set(bad.key, "no hash")
    assert mark_each(store, marks_of(0), good) == [[0]]


@pytest.mark.audit("R2")
def test_what_is_owed_is_judged_by_where_the_memory_begins_since(store, clock):
    own = Stream(hashlib.blake2b(), now=START, ns=START * 1000, random=os.urandom)
    guard, ahead = orders(store), START + 2 * SECOND
    store.fault = "unheard"
    marks = [Mark(name, 0, ahead, False) for name in (STREAM, own.id)]
    assert mark_each(store, marks, guard) == [["store_unavailable"] * 2]
    store.fault = None
    assert mark(orders(store, OTHER), 0) == 0
    assert list(guard.owed) == marks
    clock.advance(-2)
    with admin(shared_redis.server()) as client:
        client.delete(key_of(store.namespace, ":store"))
    assert mark(orders(store, OTHER), 1) == "before_start"
    assert store.cold == ahead
    # What this process itself began since it has the store, nobody had before.
    assert mark_each(store, marks, guard) == [["before_start", 0]]


def test_more_than_one_call_can_hold_is_several(store):
    guard = orders(store)
    assert mark_each(store, marks_of(*range(600)), guard) == [[0] * 600]
    assert len(store.asked) == 1 + 3  # The first was at the start.
    # What comes before a failure has its result.
    answers = iter([None, None, "lost"])
    run = store._run
    store._run = lambda *a: (setattr(store, "fault", next(answers)), run(*a))[1]
    (results,) = mark_each(store, marks_of(*range(600, 1200)), guard)
    assert results == [0] * 512 + ["store_unavailable"] * 88


@pytest.mark.audit("A24")
def test_a_server_that_hangs_is_not_waited_for(server, clock):
    with born(server.url, clock, timeout=0.05) as store:
        guard = orders(store)
        assert mark(guard, 0) == 0
        os.kill(server.process.pid, signal.SIGSTOP)
        assert [mark(guard, 1), mark(guard, 1)] == ["store_unavailable"] * 2
        os.kill(server.process.pid, signal.SIGCONT)
        with admin(server) as client:
            client.ping()  # What was asked in vain has been done by now.
        assert [mark(guard, 1), mark(guard, 1)] == [0, "replayed"]


def test_a_server_without_room_marks_nothing(server, clock):
    with born(server.url, clock) as store, admin(server) as client:
        guard = orders(store)
        mark(guard, 0)
        before = guard.state()
        client.config_set("maxmemory", 1)
        assert mark(guard, 1) == "store_unavailable"
        client.config_set("maxmemory", 0)
        assert guard.state() == before
        assert mark(guard, 1) == 0


def test_a_server_that_forgot_the_script_gets_it_again(store):
    with admin(shared_redis.server()) as client:
        client.script_flush()
    assert mark(orders(store), 0) == 0


@pytest.mark.parametrize("field", [b"meta", b"ids", b"h" + STREAM, b"r" + STREAM])
def test_nonsense_in_one_place_stops_that_place_alone(store, field):
    guard = orders(store)
    mark(guard, 0)
    with admin(shared_redis.server()) as client:
        client.hset(guard.key, field, b"no")
        before = client.hgetall(guard.key)
        assert mark(guard, 1) == "store_unavailable"
        assert client.hgetall(guard.key) == before
    with pytest.raises(StoreUnavailableError, match="no memory"):
        guard.state()
    assert mark(orders(store, OTHER), 0) == 0


def test_a_batch_with_one_such_place_has_the_others(store):
    bad, good = orders(store), orders(store, OTHER)
    with admin(shared_redis.server()) as client:
        client.set(bad.key, "no hash")
    assert mark_each(store, marks_of(0), bad, good) == [["store_unavailable"], [0]]


def test_what_was_asked_in_vain_and_then_refused_by_the_server_is_asked_anew(store):
    guard = orders(store)
    store.fault = "lost"
    assert mark(guard, 0) == "store_unavailable"
    store.fault = None
    with admin(shared_redis.server()) as client:
        client.set(guard.key, "no hash")
        assert mark(guard, 1) == "store_unavailable"
        with pytest.raises(StoreUnavailableError, match="WRONGTYPE"):
            guard.state()
        client.delete(guard.key)
    assert [mark(guard, 0), mark(guard, 1)] == [0, 0]


def test_figures_in_an_outage_are_the_last_known(server, clock):
    store = born(server.url, clock)
    guard = orders(store)
    mark(guard, 1)
    assert guard.gaps() == Gaps(1, 1, 1, 0, 0, 0, 1)
    mark(guard, 3)
    server.kill()
    assert guard.gaps() == Gaps(1, 1, 1, 0, 0, 0, 1)
    with pytest.raises(StoreUnavailableError):
        guard.state()
    store.close()


def test_figures_of_many_senders_wait_for_a_dead_server_once(server, clock):
    store = born(server.url, clock)
    guards = [orders(store, bytes([n]) * 16) for n in range(5)]
    assert [mark(guard, 0) for guard in guards] == [0] * 5
    server.kill()
    tried = []
    ask = store._server.ask
    store._server.ask = lambda commands: tried.append(commands) or ask(commands)
    assert [guard.gaps() for guard in guards] == [Gaps(0, 0, 0, 0, 0, 0, 0)] * 5
    assert len(tried) == 1
    server.start()
    assert mark(guards[0], 0) == "before_start"  # An answer: it is there again.
    assert [guard.gaps().accepted for guard in guards] == [0] * 5
    assert [one[0][0] for one in tried].count("HGETALL") == 1 + 5
    store.close()


def test_each_refusal_of_an_outage_is_an_error_of_its_own(store):
    guard = orders(store)
    store.fault = "lost"
    (results,) = store.mark_each([Batch(guard, marks_of(0, 1, 2), 2, 64, -1)])
    assert len(set(map(id, results))) == 3
    where = f"the replay store at {shared_redis.server().path}"
    assert {one.detail for one in results} == {f"{where}: the question was lost"}


def test_a_store_may_be_closed_by_a_signal_handler_within_a_call(store):
    guard = orders(store)
    run = store._run
    store._run = lambda *arguments: (store.close(), run(*arguments))[1]
    assert mark(guard, 0) == 0
    store._run = run
    assert mark(guard, 1) == "store_unavailable"


def test_a_beginning_of_long_ago_is_no_news(store, clock, caplog):
    with admin(shared_redis.server()) as client:
        client.delete(key_of(store.namespace, ":store"))
    for level, count in ((logging.INFO, 1), (logging.WARNING, 0)):
        with caplog.at_level(level, "envelope.replay"):
            TimedStore(shared_redis.server().url, clock=clock, namespace=store.namespace).close()
        assert caplog.text.count("began anew") == count
        caplog.clear()


def test_a_memory_that_begins_anew_is_told_once_and_until_when(store, caplog):
    with admin(shared_redis.server()) as client:
        client.delete(key_of(store.namespace, ":store"))
    guard = orders(store)
    assert [mark(guard, n) for n in range(3)] == ["before_start"] * 3
    until = datetime.fromtimestamp(START // SECOND + 4, UTC)
    text = (
        f"the replay memory at {shared_redis.server().path} ({store.namespace}) began anew; "
        f"refused until then: {until:%Y-%m-%dT%H:%M:%S}+00:00"
    )
    told = [(one.name, one.levelname, one.message) for one in caplog.records]
    assert told == [("envelope.replay", "WARNING", text)]


def test_a_closed_store_refuses(store):
    guard = orders(store)
    assert store._server._connection.is_connected
    store.close()
    assert not store._server._connection.is_connected
    store.close()
    assert mark(guard, 0) == "store_unavailable"


def test_a_signal_handler_within_a_call_is_refused(store):
    guard = orders(store)
    inner = []
    run = store._run

    def interrupted(*arguments):
        inner.append(mark(guard, 7))
        return run(*arguments)

    store._run = interrupted
    assert mark(guard, 0) == 0
    assert inner == ["store_unavailable"]


def test_an_interrupt_within_a_call_leaves_no_connection_that_has_an_answer_waiting(store):
    guard = orders(store)
    run = store._run

    def interrupted(*arguments):
        run(*arguments)
        raise KeyboardInterrupt

    store._run = interrupted
    with pytest.raises(KeyboardInterrupt):
        mark(guard, 0)
    store._run = run
    assert not store._server._connection.is_connected
    assert [mark(guard, 0), mark(guard, 0)] == [0, "replayed"]


@pytest.mark.audit("A18")
def test_a_child_that_closes_the_store_leaves_it_to_its_parent(store):
    guard = orders(store)
    assert mark(guard, 0) == 0
    in_child(store.close)
    assert mark(guard, 1) == 0


@pytest.mark.parametrize("closes", [False, True])
def test_a_thread_waits_for_another_no_longer_than_for_the_server(clock, closes):
    with born(shared_redis.server().url, clock, timeout=0.05) as store:
        guard = orders(store)
        inside, done = threading.Event(), threading.Event()
        run = store._run

        def slow(*arguments):
            inside.set()
            done.wait()
            return run(*arguments)

        store._run = slow
        first = threading.Thread(target=mark, args=(guard, 0))
        first.start()
        inside.wait()
        try:
            assert mark(guard, 1) == "store_unavailable"
            if closes:
                store.close()
        finally:
            done.set()
            first.join()
        expected = ["store_unavailable"] * 2 if closes else ["replayed", 0]
        assert [mark(guard, 0), mark(guard, 1)] == expected


# Answers that do not fit the question.


class Liar(threading.Thread):
    """A server that is a fit master, and answers the script with what it is told."""

    def __init__(self):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self.listener.getsockname()[1]}"
        self.lie = None
        self.start()

    def run(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as file:
                while words := self.read(file):
                    connection.sendall(self.answer(words))

    def read(self, file):
        head = file.readline()
        if not head:
            return None
        return [file.read(int(file.readline()[1:]) + 2)[:-2] for _ in range(int(head[1:]))]

    def answer(self, words):
        if words[0] == b"INFO":
            text = b"role:master\r\nmaxmemory_policy:noeviction\r\n"
            return b"$%d\r\n%b\r\n" % (len(text), text)
        if words[0] not in {b"EVAL", b"EVALSHA"}:
            return b"+OK\r\n"
        attempt, count = words[6][:16], len(words[7]) // 33
        if self.lie is None or not count:
            return fit(attempt, -1, struct.pack(">q", 0) * count)
        return self.lie(attempt)


def fit(attempt, cold, packed):
    reply = attempt + struct.pack(">q", cold) + packed
    return b"$%d\r\n%b\r\n" % (len(reply), reply)


@pytest.mark.audit("A24")
@pytest.mark.parametrize(
    "lie",
    [
        lambda attempt: b"+OK\r\n",
        lambda attempt: b":0\r\n",
        lambda attempt: b"*0\r\n",
        lambda attempt: b"*-1\r\n",
        lambda attempt: b"$-1\r\n",
        lambda attempt: b"nonsense\r\n",
        lambda attempt: fit(b"x" * 16, -1, bytes(8)),
        lambda attempt: fit(attempt, -2, bytes(8)),
        lambda attempt: fit(attempt, 2**53, bytes(8)),
        lambda attempt: fit(attempt, -1, b""),
        lambda attempt: fit(attempt, -1, bytes(16)),
        lambda attempt: fit(attempt, -1, struct.pack(">q", -7)),
        lambda attempt: fit(attempt, -1, struct.pack(">q", 2**62)),
        lambda attempt: fit(attempt, -1, bytes(8))[:-4],
        lambda attempt: b"-ERR no\r\n",
        lambda attempt: b"-LOADING wait\r\n",
        lambda attempt: b"-MOVED 7 127.0.0.1:7\r\n",
        lambda attempt: b"-NOSCRIPT who\r\n",
    ],
)
def test_an_answer_that_does_not_fit_refuses_and_is_asked_for_again(lie):
    liar = Liar()
    with liar.listener, RedisReplayStore(liar.url, timeout=0.2) as store:
        guard = orders(store)
        liar.lie = lie
        assert [mark(guard, 0), mark(guard, 0)] == ["store_unavailable"] * 2
        assert guard.local.state() == (-1, ())
        liar.lie = None
        assert [mark(guard, 0), mark(guard, 0)] == [0, "replayed"]
