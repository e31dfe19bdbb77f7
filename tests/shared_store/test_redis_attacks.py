"""The shared memory against a broken or hostile server, network and operator.

The servers are real ones where the subject is what a server does to memory. Where it is
what a server says, one that says anything.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import threading

import pytest
import redis
import shared_redis
from local_redis import LocalRedis
from shared_redis import TimedStore, born, free_port, key_of
from support import SECOND, START, STREAM, mark

from envelope import clock as clocks
from envelope.errors import BeforeStartError, StoreUnavailableError, UsageError
from envelope.replay import Batch, Mark, RedisReplayStore
from envelope.replay.server import _Line as Line

SENDER, OTHER = b"s" * 16, b"o" * 16


def mark_each(store, marks, *guards):
    """Mark the same with some guards, by one question; return ``skipped`` or codes."""
    results = store.mark_each([Batch(guard, marks, 2, 64, -1) for guard in guards])
    return [[getattr(one, "code", one) for one in some] for some in results]


def orders(store, sender=SENDER):
    return store.guard("home", sender, "orders")


def admin(server):
    return redis.Redis.from_url(server.url)


# Whose memory it is.


def await_replica(client):
    """Wait until a replica has all that was written up to now."""
    client.set("written", 1)  # WAIT is about what its own connection wrote.
    while not client.wait(1, 1000):
        pass


@pytest.mark.audit("A3", "R2")
def test_a_master_that_was_a_replica_for_a_while_has_lost_its_memory(tmp_path, clock):
    # A failover and back, and nobody asked between: one process all the time, one run_id.
    ports = free_port(), free_port()
    folders = [tmp_path / port for port in ports]
    for folder in folders:
        folder.mkdir()
    near = ("--bind", "127.0.0.1", "--repl-diskless-sync-delay", "0")
    with (
        LocalRedis(folders[0], *near, "--port", ports[0]) as one,
        LocalRedis(
            folders[1], *near, "--port", ports[1], "--replicaof", "127.0.0.1", ports[0]
        ) as two,
        admin(one) as first,
        admin(two) as second,
    ):
        await_replica(first)
        name = shared_redis.namespace()
        shared_redis.bear(one.url, name)
        with TimedStore(one.url, clock=clock, namespace=name) as store:
            assert mark(orders(store), 0) == 0
            await_replica(first)
            second.replicaof("NO", "ONE")
            assert mark(orders(store), 1) == 0  # The replica never hears of it.
            first.replicaof("127.0.0.1", ports[1])
            while first.info("replication")["master_link_status"] != "up":
                pass
            first.replicaof("NO", "ONE")
        with TimedStore(one.url, clock=clock, namespace=name) as store:
            assert orders(store).gaps().accepted == 1  # An old memory.
            assert mark(orders(store), 1) == "before_start"
            clock.advance(5)
            assert mark(orders(store), 2, clock()) == 1


def test_a_replica_that_lets_itself_be_written_to_marks_nothing(server, clock):
    with born(server.url, clock) as store, admin(server) as client:
        guard = orders(store)
        assert mark(guard, 0) == 0
        client.config_set("replica-read-only", "no")
        before = client.hgetall(guard.key)
        client.replicaof("127.0.0.1", "1")
        assert mark(guard, 1) == "store_unavailable"
        assert client.hgetall(guard.key) == before


@pytest.mark.audit("A3", "R2")
@pytest.mark.parametrize(
    "lost", [some for count in (1, 2, 3) for some in itertools.combinations(range(3), count)]
)
def test_whatever_an_eviction_takes_nothing_is_delivered_twice(store, clock, lost):
    # maxmemory-policy may be changed after it was looked at.
    with TimedStore(shared_redis.server().url, clock=clock, namespace=store.namespace) as other:
        guard = orders(store)
        assert mark(guard, 0) == 0
        keys = key_of(store.namespace, ":store"), guard.key, f"{guard.key}:{store._client}"
        with admin(shared_redis.server()) as client:
            assert client.delete(*(keys[at] for at in lost)) == len(lost)
        for who in (other, store):
            assert mark(orders(who), 0) in {"replayed", "too_old", "before_start"}


@pytest.mark.audit("A22", "R2")
def test_an_expected_reply_from_before_is_judged_by_all_that_is_remembered_here(store, clock):
    # Its stream has left our own table too: the floor there speaks, as it does nowhere else.
    guard = orders(store)
    streams = [bytes([n]) * 16 for n in range(3)]
    for n, stream in enumerate(streams):
        assert mark(guard, 0, START + n, stream=stream, expected=True) == 0
    with admin(shared_redis.server()) as client:
        client.delete(key_of(store.namespace, ":store"), guard.key)
    for n, stream in enumerate(streams):
        assert mark(guard, 0, START + n, stream=stream, expected=True) in {"too_old", "replayed"}


def test_a_loss_that_one_sender_heard_of_is_known_to_all(store):
    first, second = orders(store), orders(store, OTHER)
    second.check(STREAM, 0, START, full_at=2, expected=False)
    with admin(shared_redis.server()) as client:
        client.delete(key_of(store.namespace, ":store"))
    assert mark(first, 0) == "before_start"
    with pytest.raises(BeforeStartError):
        second.check(STREAM, 0, START, full_at=2, expected=False)
    second.check(STREAM, 0, START, full_at=2, expected=True)


# What was asked and not answered.


@pytest.mark.audit("A24", "R1")
def test_what_is_owed_is_given_once_though_a_batch_has_it_twice(store, clock):
    # The own memory cannot tell: there its stream was dropped, with a floor above.
    with TimedStore(shared_redis.server().url, clock=clock, namespace=store.namespace) as other:
        mine, others = orders(store), orders(other)
        a, b, c = (bytes([n]) * 16 for n in range(3))
        assert mark(mine, 0, START, stream=a) == 0
        assert mark(others, 1, START + 9, stream=a) == 0
        assert mark(mine, 0, START + 1, stream=b) == 0
        assert mark(mine, 0, START + 2, stream=c) == 0  # The server drops b, we drop a.
        late = Mark(a, 2, START, False)
        store.fault = "unheard"
        assert mark_each(store, [late], mine) == [["store_unavailable"]]
        store.fault = None
        assert mark_each(store, [late, late], mine) == [[0, "replayed"]]


@pytest.mark.audit("A24")
def test_an_error_says_nothing_of_what_was_done_when_the_same_was_asked_before(server, clock):
    # A cluster that is down for a moment, a script that was not allowed: not this script.
    with born(server.url, clock) as store, admin(server) as client:
        guard, other = orders(store), orders(store, OTHER)
        store.fault = "unheard"
        assert mark(guard, 0) == "store_unavailable"
        store.fault = None
        client.execute_command("ACL", "SETUSER", "default", "-evalsha")
        assert [mark(guard, 0), mark(other, 0)] == ["store_unavailable"] * 2
        client.execute_command("ACL", "SETUSER", "default", "+evalsha")
        # The next of that sender first hears what became of the last.
        assert [mark(other, 0), mark(guard, 1), mark(guard, 0)] == [0, 0, 0]
        assert [mark(guard, 0), mark(guard, 1), mark(other, 0)] == ["replayed"] * 3


def test_a_sender_whose_memory_is_nonsense_keeps_no_other_waiting(store):
    bad, good = orders(store), orders(store, OTHER)
    store.fault = "lost"
    assert mark(bad, 0) == "store_unavailable"
    store.fault = None
    with admin(shared_redis.server()) as client:
        client.set(bad.key, "no hash")
        assert mark_each(store, [Mark(STREAM, 0, START, False)], bad, good) == [
            ["store_unavailable"],
            [0],
        ]
        asked = len(store.asked)
        assert mark(good, 1) == 0
        assert len(store.asked) == asked + 1  # That of the other alone.
        client.delete(bad.key)
    assert [mark(bad, 1), mark(bad, 0)] == [0, 0]


def test_a_clone_that_overtook_a_question_leaves_its_sender_usable(store):
    guard = orders(store)
    store.fault = "lost"
    assert mark(guard, 0) == "store_unavailable"
    store.fault = None
    number = next(store._numbers) + 1
    later = struct.pack(">Q", number) + bytes(8) + struct.pack(">qqqq", 2 * SECOND, 2, 64, -1)
    keys = store._record, guard.key, f"{guard.key}:{store._client}"
    store.ask_as_before((3, *keys, later, struct.pack(">16sQqB", STREAM, 7, START, 0)))
    assert [mark(guard, 8), mark(guard, 9)] == [0, 0]


def test_only_what_missed_the_script_is_asked_with_it(store):
    # The script is flushed between two calls of one question.
    first, second = orders(store), orders(store, OTHER)
    ask = store._server.ask

    def interrupted(commands):
        replies = []
        for command in commands:
            replies += ask([command])
            if command[0] == "EVALSHA":
                ask([("SCRIPT", "FLUSH")])
        return replies

    store._server.ask = interrupted
    del store.asked[:]
    assert mark_each(store, [Mark(STREAM, 0, START, False)], first, second) == [[0], [0]]
    assert [one[2] for one in store.asked] == [first.key, second.key, second.key]


def test_a_place_whose_window_is_none_stops_alone(store):
    bad, good = orders(store), orders(store, OTHER)
    assert mark_each(store, [Mark(STREAM, 0, START, False)], bad, good) == [[0], [0]]
    head = struct.pack(">7q", -1, 0, START, 1, 0, 64, -(2**60))
    with admin(shared_redis.server()) as client:
        client.hset(bad.key, b"h" + STREAM, head)
    assert mark_each(store, [Mark(STREAM, 1, START, False)], bad, good) == [
        ["store_unavailable"],
        [0],
    ]


# Whom the operator lets in, and when it ends.


@pytest.mark.parametrize("missing", ["set", "pexpire"])
def test_a_right_that_is_missing_is_seen_before_anything_is_accepted(server, missing):
    needed = "eval evalsha info time get set hget hmget hgetall hset hdel pexpire"
    rights = ["-@all", *("+" + one for one in needed.split() if one != missing)]
    with admin(server) as client:
        client.execute_command("ACL", "SETUSER", "worker", "on", ">secret", "~{plant}:*", *rights)
        url = f"unix://worker:secret@{server.path}"
        with pytest.raises(StoreUnavailableError, match="can't run this command"):
            RedisReplayStore(url, namespace="plant")
        client.execute_command("ACL", "SETUSER", "worker", "+" + missing)
        with RedisReplayStore(url, namespace="plant") as store:
            assert mark(orders(store), 0, 0) == "before_start"


@pytest.mark.parametrize(
    "option",
    ["foo=1", "max_connections=3", "parser_class=x", "driver_info=7", "ssl_cert_reqs=bogus"],
)
@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_an_option_of_the_url_that_is_none_is_the_callers_mistake(scheme, option):
    with pytest.raises(UsageError, match="url"):
        RedisReplayStore(f"{scheme}://127.0.0.1:1?{option}")


def test_a_store_that_is_closed_within_a_call_leaves_no_connection(store):
    run = store._run
    store._run = lambda *arguments: (store.close(), run(*arguments))[1]
    assert mark(orders(store), 0) == 0
    assert store._server._connection._sock is None


# What a server says.


class Speaker(threading.Thread):
    """A server that says what it is told, to whatever it is asked.

    Attributes:
        says: what, for the words of a command; None for what a fit server would.
        pause: seconds between two bytes of what is told.
        sent: how many bytes of that were sent.
        left: set when a client left in the middle.
    """

    def __init__(self):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self.listener.getsockname()[1]}"
        self.says = lambda words: None
        self.pause = None
        self.sent = 0
        self.left = threading.Event()
        self.start()

    def run(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as file, contextlib.suppress(OSError):
                while words := self.read(file):
                    told = self.says(words)
                    if told is None:
                        connection.sendall(self.fit(words))
                    else:
                        self.tell(connection, told)

    def read(self, file):
        head = file.readline()
        if not head:
            return None
        return [file.read(int(file.readline()[1:]) + 2)[:-2] for _ in range(int(head[1:]))]

    def fit(self, words):
        if words[0] == b"INFO":
            return bulk(b"role:master\r\nmaxmemory_policy:noeviction\r\n")
        if words[0] == b"HGETALL":
            return b"*0\r\n"
        if words[0] == b"HGET":
            return b"$-1\r\n"
        if words[0] not in {b"EVAL", b"EVALSHA"}:
            return b"+OK\r\n"
        count = len(words[7]) // 33
        return bulk(words[6][:16] + struct.pack(">q", -1) + struct.pack(">q", 0) * count)

    def tell(self, connection, told):
        pieces = [told[at : at + 1] for at in range(len(told))] if self.pause else told
        try:
            for piece in [pieces] if isinstance(pieces, bytes) else pieces:
                connection.sendall(piece)
                self.sent += len(piece)
                if self.pause:
                    self.left.wait(self.pause)
        except OSError:
            self.left.set()
            raise


def bulk(data):
    return b"$%d\r\n%b\r\n" % (len(data), data)


@pytest.fixture
def speaker():
    made = Speaker()
    with made.listener:
        yield made


def is_script(words):
    return words[0] in {b"EVAL", b"EVALSHA"} and words[7] != b""


@pytest.mark.audit("A24")
@pytest.mark.parametrize("when", ["CLIENT", "INFO", "SELECT"])
def test_a_server_that_drips_at_the_handshake_does_not_hold_its_caller(speaker, when):
    speaker.pause = 0.02  # Each byte comes well in time; all of them would take a minute.
    speaker.says = lambda words: b"+" + b"x" * 3000 if words[0] == when.encode() else None
    with pytest.raises(StoreUnavailableError):
        RedisReplayStore(speaker.url + "/1", timeout=0.1)
    assert speaker.left.wait(30)
    assert speaker.sent < 1500


@pytest.mark.audit("A24")
@pytest.mark.parametrize(
    "told", [b":5\r\n", bulk(b"said:a role:master\r\nmaxmemory_policy:noeviction\r\n")]
)
def test_a_server_that_does_not_say_what_it_is_on_a_line_of_its_own_is_not_used(speaker, told):
    speaker.says = lambda words: told if words[0] == b"INFO" else None
    with pytest.raises(StoreUnavailableError, match="not a server that has role:master"):
        RedisReplayStore(speaker.url)


@pytest.mark.audit("A24")
@pytest.mark.parametrize("kind", [b"+", b"-", b":", b"$3000\r\n", b"*1\r\n*1\r\n"])
def test_a_server_that_drips_its_answer_does_not_hold_its_caller(speaker, kind):
    with RedisReplayStore(speaker.url, timeout=0.1) as store:
        speaker.pause = 0.02
        speaker.says = lambda words: kind + b"1" * 3000 if is_script(words) else None
        assert mark(orders(store), 0) == "store_unavailable"
        assert speaker.left.wait(30)
        assert speaker.sent < 1500
        speaker.says = lambda words: None
        assert [mark(orders(store), 0), mark(orders(store), 0)] == [0, "replayed"]


def test_an_answer_may_take_its_time_each_time_anew(speaker):
    # The end is that of one answer, not of a connection: in sum these are far beyond it.
    with RedisReplayStore(speaker.url, timeout=0.5) as store:
        speaker.pause = 0.001
        speaker.says = lambda words: speaker.fit(words) if is_script(words) else None
        assert [mark(orders(store), n) for n in range(15)] == [0] * 15


@pytest.mark.audit("A24")
@pytest.mark.parametrize("parser", ["recv", "recv_into"])
def test_all_waiting_has_one_end_though_something_always_came(monkeypatch, parser):
    # The client's parser in Python takes the one, that in C the other.
    def receive():
        return line.recv(8) if parser == "recv" else line.recv_into(bytearray(8))

    near, far = socket.socketpair()
    with near, far:
        line = Line(near, 60)
        far.sendall(b"a")
        assert receive() in {b"a", 1}
        now = clocks.monotonic()
        monkeypatch.setattr(clocks, "monotonic", lambda: now + 61 * SECOND)
        far.sendall(b"b")
        with pytest.raises(TimeoutError):
            receive()
        monkeypatch.setattr("envelope.replay.server.MAX_ANSWER", 2)
        line.begin()
        far.sendall(b"cd")
        with pytest.raises(OSError, match="without end"):
            receive()


@pytest.mark.audit("A24")
@pytest.mark.parametrize("head", [b"$536870912\r\n", b"+", b"*1000000000\r\n"])
def test_an_answer_without_end_is_not_taken(speaker, monkeypatch, head):
    monkeypatch.setattr("envelope.replay.server.MAX_ANSWER", 2**20)
    endless = [head, *[b":1\r\n" * 2**16 if head[:1] == b"*" else b"x" * 2**18] * 200]
    with RedisReplayStore(speaker.url, timeout=20) as store:
        speaker.says = lambda words: endless if is_script(words) else None
        assert mark(orders(store), 0) == "store_unavailable"
        assert speaker.left.wait(30)
        assert speaker.sent < 100 * 2**18  # What the kernel holds comes on top.


@pytest.mark.audit("A24")
@pytest.mark.parametrize(
    "told",
    [
        b"*1\r\n" * 100_000 + b":1\r\n",
        b"$-5\r\n",
        b"$-2\r\n",
        b"$x\r\n",
        b":" + b"9" * 10_000 + b"\r\n",
        b"*2\r\n$-1\r\n-ERR in a list\r\n",
        b"%1\r\n+a\r\n+b\r\n",
        b">2\r\n+message\r\n+x\r\n",
        b"\r\n",
        b"\xff\xfe\r\n",
        b"+\xff\xfe\r\n",
        b"-\xff\xfe\r\n",
        b"-\r\n",
        b"-MOVED\r\n",
        b"-MOVED x y\r\n",
        b"-ASK 1 127.0.0.1:1\r\n",
        b"-TRYAGAIN later\r\n",
        b"-CLUSTERDOWN no\r\n",
        b"-CROSSSLOT no\r\n",
        b"-MASTERDOWN no\r\n",
        b"-READONLY no\r\n",
        b"-OOM no\r\n",
        b"-MISCONF no\r\n",
        b"-BUSY no\r\n",
        b"-NOREPLICAS no\r\n",
        b"-NOAUTH no\r\n",
        b"-NOPERM no\r\n",
        b"-EXECABORT no\r\n",
        b"-UNKILLABLE no\r\n",
        b"-ERR max number of clients reached\r\n",
    ],
)
def test_whatever_a_server_says_is_a_refusal_and_no_end(speaker, told):
    with RedisReplayStore(speaker.url, timeout=0.2) as store:
        speaker.says = lambda words: told if is_script(words) else None
        assert [mark(orders(store), n) for n in (0, 0, 1)] == ["store_unavailable"] * 3
        speaker.says = lambda words: None
        assert [mark(orders(store), n) for n in (0, 1, 0)] == [0, 0, "replayed"]


@pytest.mark.parametrize("command", [b"HGETALL", b"HGET"])
@pytest.mark.parametrize(
    "told",
    [
        b":5\r\n",
        b"+OK\r\n",
        b"*1\r\n$4\r\nmeta\r\n",
        b"*2\r\n$4\r\nmeta\r\n:1\r\n",
        b"*2\r\n*0\r\n*0\r\n",
        b"*4\r\n$4\r\nmeta\r\n" + bulk(bytes(80)) + b"$3\r\nids\r\n:1\r\n",
        b"*4\r\n$4\r\nmeta\r\n" + bulk(bytes(80)) + b"$3\r\nids\r\n*1\r\n$1\r\nx\r\n",
        b"-LOADING wait\r\n",
        b"-NOPERM no\r\n",
    ],
)
def test_figures_that_are_none_are_the_last_known(speaker, command, told):
    with RedisReplayStore(speaker.url, timeout=0.2) as store:
        guard = orders(store)
        before = guard.gaps()
        speaker.says = lambda words: told if words[0] == command else None
        with pytest.raises(StoreUnavailableError):
            guard.state()
        speaker.says = lambda words: None
        assert mark(guard, 0) == 0  # Else no figures would be asked for.
        speaker.says = lambda words: told if words[0] == command else None
        assert guard.gaps() == before


def test_what_a_server_says_does_not_write_over_a_terminal(speaker):
    with RedisReplayStore(speaker.url, timeout=0.2) as store:
        speaker.says = lambda words: (
            b"-\x1b[2Jx\ry" + b"z" * 9999 + b"\r\n" if is_script(words) else None
        )
        (results,) = store.mark_each(
            [Batch(orders(store), [Mark(STREAM, 0, START, False)], 2, 64, -1)]
        )
        detail = results[0].detail
        assert detail.isprintable()
        assert len(detail) < 500


def test_an_answer_too_many_gives_nobody_what_is_not_theirs(speaker):
    with RedisReplayStore(speaker.url, timeout=0.2) as store:
        first, second = orders(store), orders(store, OTHER)
        speaker.says = lambda words: 2 * speaker.fit(words) if is_script(words) else None
        assert mark(first, 0) == 0
        speaker.says = lambda words: None
        assert [mark(second, 0), mark(second, 0), mark(second, 0)] == [
            "store_unavailable",
            0,
            "replayed",
        ]


def test_answers_in_another_order_are_no_answers(speaker):
    with RedisReplayStore(speaker.url, timeout=0.2) as store:
        first, second = orders(store), orders(store, OTHER)
        held = []

        def swapped(words):
            if not is_script(words):
                return None
            held.append(speaker.fit(words))
            return b"" if len(held) % 2 else held.pop() + held.pop()

        speaker.says = swapped
        marks = [Mark(STREAM, 0, START, False)]
        assert mark_each(store, marks, first, second) == [["store_unavailable"]] * 2
        speaker.says = lambda words: None
        assert mark_each(store, marks, first, second) == [[0], [0]]
