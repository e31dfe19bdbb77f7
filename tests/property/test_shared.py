"""At most one delivery between receivers that share a server, whatever happens to it.

First the script against the guard that it stands for: the same verdicts, the same
state. Then a machine of several receivers: the network repeats, holds back and loses
questions and answers, receivers restart, the server loses its memory, all of it or a
part. The model is a set of what was delivered.
"""

from __future__ import annotations

import pytest
import redis
import shared_redis
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from shared_redis import key_of
from support import SECOND, START, FakeClock

from envelope.errors import RejectedError
from envelope.replay import Batch, Guard, Mark

SENDERS = (b"a" * 16, b"b" * 16)
CODES = {"before_start", "too_old", "replayed", "future"}
MAX_FUTURE = 2 * SECOND


def fresh(clock, name=None, **options):
    url = shared_redis.server().url
    if name is None:
        name = shared_redis.namespace()
        shared_redis.bear(url, name)
    return shared_redis.TimedStore(url, clock=clock, namespace=name, **options)


def erase(name):
    """Remove what a test left on the server."""
    with redis.Redis.from_url(shared_redis.server().url) as client:
        for key in client.scan_iter(key_of(name, ":*")):
            client.delete(key)


def verdict(guard, place, limits):
    """Return ``skipped`` or the code."""
    try:
        return guard.mark(*place, **limits)
    except RejectedError as error:
        return error.code


def marks_of(window):
    """Return a strategy of envelopes: around a top that jumps, of a few streams."""
    return st.lists(
        st.tuples(
            st.integers(0, 4).map(lambda n: bytes([n]) * 16),
            st.one_of(
                st.integers(0, 40),
                st.integers(window - 9, window + 9),
                st.integers(0, 3 * window),
                st.integers(2**48 - 200, 2**48 - 1),
            ),
            st.integers(0, 30).map(lambda n: START + n),
        ),
        max_size=60,
    )


@pytest.mark.audit("R1", "R3", "A16")
@settings(max_examples=4 * settings.default.max_examples)
@given(
    data=st.data(),
    window=st.sampled_from((64, 65, 71, 128, 1000, 4096, 65_536)),
    full_at=st.integers(1, 4),
    forget=st.one_of(st.just(-1), st.integers(0, 30).map(lambda n: START + n)),
    batch=st.integers(1, 60),
)
def test_the_script_judges_as_the_guard_does(data, window, full_at, forget, batch):
    places = data.draw(marks_of(window))
    model = Guard(cold=-1, birth=0)
    with fresh(FakeClock()) as store:
        # Another receiver's memory, so that nothing is judged but on the server.
        guard = store.guard("home", SENDERS[0], "orders")
        marks = [Mark(*place, False) for place in places]
        results = []
        for at in range(0, len(marks), batch):
            some = Batch(guard, marks[at : at + batch], full_at, window, forget)
            guard.local = Guard(cold=-1, birth=0)
            results += store.mark_each([some])[0]
        limits = {"full_at": full_at, "window": window, "expected": False, "forget_before": forget}
        for place, result in zip(places, results, strict=True):
            assert getattr(result, "code", result) == verdict(model, place, limits)
        assert guard.state() == model.state()
        assert guard.gaps() == model.gaps()
        with redis.Redis.from_url(shared_redis.server().url) as client:
            # Nothing is left on the server of what was dropped.
            assert client.hlen(guard.key) == (2 + 2 * len(model.known()) if model.known() else 0)
        erase(store.namespace)


class Receivers(RuleBasedStateMachine):
    """Two senders, three receivers, one server."""

    def __init__(self):
        super().__init__()
        self.clock = FakeClock()
        self.high = self.clock.now
        self.full_at, self.window = 3, 64
        self.sent: list[tuple[bytes, bytes, int, int]] = []
        self.next: dict[tuple[bytes, bytes], int] = {}
        self.delivered: set[tuple[bytes, bytes, int, int]] = set()
        self.questions: list[object] = []
        first = fresh(self.clock)
        self.name = first.namespace
        self.stores = [first, fresh(self.clock, self.name), fresh(self.clock, self.name)]
        self.admin = redis.Redis.from_url(shared_redis.server().url)
        self.copy: dict[bytes, bytes] = {}

    def teardown(self):
        for store in self.stores:
            store.close()
        erase(self.name)
        self.admin.close()

    def offer(self, who, envelopes):
        """Let a receiver open a batch; return the codes, None for what it delivers."""
        self.high = max(self.high, self.clock.now)
        store = self.stores[who]
        limits = self.full_at, self.window, self.clock.now - 600 * SECOND
        batches, codes = [], []
        for sender in SENDERS:
            marks = [Mark(*rest, False) for by, *rest in envelopes if by == sender]
            batches.append(Batch(store.guard("home", sender, "orders"), marks, *limits))
        results = dict(zip(SENDERS, map(iter, store.mark_each(batches)), strict=True))
        for envelope in envelopes:
            result = next(results[envelope[0]])
            codes.append(getattr(result, "code", None))
            if codes[-1] is None:
                assert envelope not in self.delivered, "delivered twice"
                self.delivered.add(envelope)
        self.questions += store.asked
        store.asked.clear()
        return codes

    @rule(
        who=st.integers(0, 2),
        sender=st.sampled_from(SENDERS),
        stream=st.integers(0, 4),
        skip=st.sampled_from((0, 0, 0, 1, 70, 10_000)),
        lag=st.sampled_from((0, 0, 0, 1, 5, 29, -1, -3, -30)),
        count=st.integers(0, 5),
    )
    def send(self, who, sender, stream, skip, lag, count):
        """Send some of a stream to a receiver; the network may hold them back."""
        name = bytes([stream]) * 16
        batch = []
        for _ in range(max(count, 1)):
            sequence = self.next.get((sender, name), 0) + skip
            self.next[sender, name] = sequence + 1
            batch.append((sender, name, sequence, self.clock.now - lag * SECOND))
        self.sent += batch
        if count:
            self.offer(who, batch)

    @rule(who=st.integers(0, 2), data=st.data())
    def repeat(self, who, data):
        """Offer some of what was sent at any time, in any order."""
        if self.sent:
            batch = data.draw(st.lists(st.sampled_from(self.sent), min_size=1, max_size=9))
            # Read before: the batch may have one twice.
            delivered = set(self.delivered)
            for envelope, code in zip(batch, self.offer(who, batch), strict=True):
                assert envelope not in delivered or code in {*CODES, "store_unavailable"}

    @rule()
    def repeat_all(self):
        """Offer all that was ever sent, to everybody."""
        for who in range(3):
            self.offer(who, self.sent)

    @rule(
        who=st.integers(0, 2),
        fault=st.sampled_from(("lost", "unheard")),
        times=st.integers(1, 2),
        data=st.data(),
    )
    def a_network_fails(self, who, fault, times, data):
        """Lose questions or answers; what was offered is offered again."""
        if not self.sent:
            return
        store = self.stores[who]
        batch = data.draw(st.lists(st.sampled_from(self.sent), min_size=1, max_size=4))
        store.fault = fault
        for _ in range(times):
            assert set(self.offer(who, batch)) <= {*CODES, "store_unavailable"}
        store.fault = None
        if data.draw(st.booleans()):
            self.offer(who, batch)

    @rule(who=st.integers(0, 2), data=st.data())
    def a_question_comes_late(self, who, data):
        """Deliver once more a question that some receiver asked at some time."""
        if self.questions:
            self.stores[who].ask_as_before(data.draw(st.sampled_from(self.questions)))

    @rule(who=st.integers(0, 2))
    def a_receiver_restarts(self, who):
        """Begin anew, with nothing in memory."""
        # It asks the server at once, whose clock counts from then on.
        self.high = max(self.high, self.clock.now)
        self.stores[who].close()
        self.stores[who] = fresh(self.clock, self.name)

    def forget(self, kind, back):
        """Lose everything, or the record, or go on in a new life with a memory of sorts."""
        if kind == "all":
            erase(self.name)
        elif kind == "record":
            self.admin.delete(key_of(self.name, ":store"))
        elif self.admin.exists(key_of(self.name, ":store")):
            self.admin.hset(key_of(self.name, ":store"), "run", "another")
        self.clock.now = max(self.clock.now, self.high - back * SECOND)

    @rule(kind=st.sampled_from(("all", "record", "run")), back=st.sampled_from((0, 1, 2)))
    def the_server_loses_its_memory(self, kind, back):
        """See ``forget``."""
        self.forget(kind, back)

    @rule()
    def the_server_writes_to_its_disk(self):
        """Keep a copy, which is soon an old one."""
        keys = self.admin.scan_iter(key_of(self.name, ":*"))
        self.copy = {key: self.admin.dump(key) for key in keys}

    @rule(back=st.sampled_from((0, 1, 2)))
    def the_server_starts_from_its_disk(self, back):
        """Begin a new life with the old copy."""
        erase(self.name)
        for key, value in self.copy.items():
            self.admin.restore(key, 0, value)
        self.forget("run", back)

    @rule(data=st.data())
    def a_place_is_lost(self, data):
        """Lose one sender's memory alone: an expiry, an eviction, an operator."""
        guard = self.stores[0].guard("home", data.draw(st.sampled_from(SENDERS)), "orders")
        self.admin.delete(guard.key)
        if data.draw(st.booleans()):  # The attempts too.
            for key in self.admin.scan_iter(guard.key + ":*"):
                self.admin.delete(key)

    @rule(seconds=st.sampled_from((0.01, 0.5, 1, 3, 40, 1000, 100_000, -0.5, -1.5)))
    def turn_the_clock(self, seconds):
        """Let time go by, or set the server's clock, as far back as is borne."""
        self.clock.advance(seconds)
        self.clock.now = max(self.clock.now, self.high - MAX_FUTURE)

    @rule(full_at=st.sampled_from((1, 3, 64)), window=st.sampled_from((64, 100, 4096)))
    def change_the_policy(self, full_at, window):
        """Allow more or fewer streams."""
        self.full_at, self.window = full_at, window

    @rule(who=st.integers(0, 2))
    def fresh_ones_arrive(self, who):
        """First arrivals that no rule speaks against are delivered."""
        self.clock.now = max([self.high, *(sent_at for *_, sent_at in self.sent)])
        self.clock.advance(100)
        name = len(self.sent).to_bytes(16, "big")
        batch = [(SENDERS[0], name, n, self.clock.now) for n in range(3)]
        self.sent += batch
        self.offer(who, [])  # Whoever comes first finds out that memory was lost.
        self.clock.advance(5)
        batch = [(SENDERS[0], name, n, self.clock.now) for n in range(3, 6)]
        self.sent += batch
        assert self.offer(who, batch[:1])[0] in {None, "before_start"}
        self.clock.advance(5)
        batch = [(SENDERS[0], name, n, self.clock.now) for n in range(6, 9)]
        self.sent += batch
        assert self.offer(who, batch) == [None] * 3

    @invariant()
    def tables_are_bounded(self):
        """No more streams than ever allowed."""
        for sender in SENDERS:
            _, streams = self.stores[0].guard("home", sender, "orders").state()
            assert len(streams) <= 64


def test_a_memory_that_begins_far_ahead_of_all_that_was_offered_takes_what_is_new():
    state = Receivers()
    state.turn_the_clock(seconds=1000)
    state.the_server_loses_its_memory(back=0, kind="all")
    state.a_receiver_restarts(who=0)
    state.fresh_ones_arrive(who=0)
    state.teardown()


Receivers.TestCase.settings = settings(
    settings.default,
    max_examples=max(settings.default.max_examples // 2, 10),
    stateful_step_count=40,
)


@pytest.mark.audit("A3", "A19", "A23", "R2", "R3", "R6")
class TestShared(Receivers.TestCase):
    """Hypothesis runs the machine."""


@pytest.mark.audit("R1")
@pytest.mark.parametrize("batch", [1, 7, 64])
@pytest.mark.parametrize(
    "order",
    [[*range(300)], [*range(72), 79, *range(72, 79)], [*range(32), 95, *range(72, 95), *range(40)]],
)
def test_the_ring_is_cleared_where_the_top_comes_to(order, batch):
    model, name = Guard(cold=-1, birth=0), b"n" * 16
    limits = {"full_at": 1, "window": 64, "expected": False, "forget_before": -1}
    with fresh(FakeClock()) as store:
        guard = store.guard("home", SENDERS[0], "orders")
        for at in range(0, len(order), batch):
            some = order[at : at + batch]
            marks = [Mark(name, sequence, START, False) for sequence in some]
            guard.local = Guard(cold=-1, birth=0)
            results = store.mark_each([Batch(guard, marks, 1, 64, -1)])[0]
            codes = [getattr(one, "code", one) for one in results]
            assert codes == [verdict(model, (name, one, START), limits) for one in some]
        assert guard.state() == model.state()
