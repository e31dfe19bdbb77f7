"""What waits for company, and when it goes out (SPEC 16.6)."""

from __future__ import annotations

import math

import pytest

from envelope import UsageError, clock
from envelope.zeromq.bundling import Batch, Bundling, Collector, chunks

MS = 1_000_000
ROOM = 2**24


@pytest.fixture
def now(monkeypatch):
    """The monotonic clock: ``now[0]`` in nanoseconds."""
    reading = [1000 * MS]
    monkeypatch.setattr(clock, "monotonic_ns", lambda: reading[0])
    return reading


@pytest.fixture
def collector(now):
    return Collector(Bundling(max_count=3, max_bytes=100, max_delay=0.01))


def put(collector: Collector, payload: bytes, topic: bytes | str | None = None) -> Batch:
    """Take a payload in the way of the first one of a batch."""
    name = topic.encode() if isinstance(topic, str) else topic
    batch = collector.find(name, topic, ROOM)
    batch.add(payload)
    collector.look(is_blocked=False)
    return batch


class TestBounds:
    @pytest.mark.parametrize(
        "options",
        [
            {"max_count": 1},
            {"max_count": 4096},
            {"max_bytes": 1},
            {"max_bytes": 2**24},
            {"max_delay": 0},
            {"max_delay": 60},
            {"max_delay": 0.5},
        ],
        ids=repr,
    )
    def test_these_are_in(self, options):
        (name, value), *_ = options.items()
        assert getattr(Bundling(**options), name) == value

    @pytest.mark.parametrize(
        "options",
        [
            {"max_count": 0},
            {"max_count": 4097},
            {"max_count": 2.0},
            {"max_count": True},
            {"max_bytes": 0},
            {"max_bytes": 2**24 + 1},
            {"max_bytes": "1"},
            {"max_delay": -0.001},
            {"max_delay": 60.1},
            {"max_delay": math.nan},
            {"max_delay": math.inf},
            {"max_delay": None},
            {"max_delay": True},
        ],
        ids=repr,
    )
    def test_these_are_out(self, options):
        (name, _), *_ = options.items()
        with pytest.raises(UsageError, match=name):
            Bundling(**options)


class TestFull:
    def test_it_is_by_count(self, collector):
        batch = put(collector, b"a")
        assert (batch.is_full, collector.add(b"b", None)) == (False, True)
        assert not collector.add(b"c", None)
        assert (put(collector, b"c").is_full, batch.payloads) == (True, [b"a", b"b", b"c"])

    def test_it_is_by_bytes(self, collector):
        batch = put(collector, bytes(60))
        assert collector.has_room(batch, 40)
        assert not collector.has_room(batch, 41)
        assert not collector.add(bytes(40), None)
        assert put(collector, bytes(40)).is_full

    def test_a_payload_that_is_larger_goes_alone(self, collector):
        batch = collector.find(None, None, ROOM)
        assert collector.has_room(batch, 101)
        batch.add(bytes(101))
        assert batch.is_full
        assert not collector.has_room(batch, 0)

    def test_the_room_of_an_envelope_is_a_bound_too(self, collector):
        batch = collector.find(None, None, 50)
        batch.add(bytes(50))
        assert batch.is_full

    def test_what_was_taken_back_leaves_its_room(self, collector):
        batch = put(collector, b"a")
        batch.add(bytes(200))
        batch.take_back()
        assert (batch.payloads, batch.left, batch.room) == ([b"a"], 2, 99)

    @pytest.mark.parametrize("payload", ["text", bytearray(b"a"), None, 5])
    def test_the_short_way_takes_bytes_alone(self, collector, payload):
        batch = put(collector, b"a")
        assert not collector.add(payload, None)
        assert batch.payloads == [b"a"]

    @pytest.mark.parametrize("topic", [b"other", [], 5])
    def test_the_short_way_takes_topics_that_are_being_collected(self, collector, topic):
        put(collector, b"a", b"topic")
        assert not collector.add(b"b", topic)


class TestTopics:
    def test_str_and_bytes_of_one_topic_share_a_batch(self, collector):
        batch = put(collector, b"a", "zürich")
        assert put(collector, b"b", "zürich".encode()) is batch
        assert collector.find("zürich".encode(), "zürich", ROOM) is batch
        collector.drop(batch)
        assert not collector.add(b"c", "zürich")
        assert not collector.add(b"c", "zürich".encode())

    def test_no_topic_and_an_empty_one_are_two(self, collector):
        assert put(collector, b"a", None) is not put(collector, b"a", b"")

    def test_all_are_forgotten_at_once(self, collector):
        put(collector, b"a", b"1")
        put(collector, b"a", "2")
        assert collector.clear() == 2
        assert collector.next_due() is None
        assert not collector.add(b"b", b"1")
        assert collector.clear() == 0


class TestDue:
    def test_the_first_payload_sets_when(self, collector, now):
        put(collector, b"a")
        now[0] += 5 * MS
        assert collector.add(b"b", None)
        assert collector.next_due() == 1010 * MS

    def test_the_short_way_ends_when_something_is_due(self, collector, now):
        put(collector, b"a", b"old")
        now[0] += 5 * MS
        put(collector, b"a", b"new")
        now[0] = 1010 * MS - 1
        assert collector.add(b"b", b"new")
        now[0] += 1
        assert not collector.add(b"c", b"new")

    def test_the_short_way_ends_when_something_could_not_be_sent(self, collector):
        put(collector, b"a")
        collector.look(is_blocked=True)
        assert not collector.add(b"b", None)

    def test_the_oldest_goes_first_and_what_is_not_due_stays(self, collector, now):
        for topic in (b"1", b"2", b"3"):
            put(collector, b"a", topic)
            now[0] += MS
        gone = []
        for batch in collector.due(1011 * MS):
            gone.append(batch.topic)
            collector.drop(batch)
        assert gone == [b"1", b"2"]
        assert collector.next_due() == 1012 * MS

    def test_all_go_when_all_are_asked_for(self, collector):
        put(collector, b"a", b"1")
        put(collector, b"a", b"2")
        for batch in collector.due(None):
            collector.drop(batch)
        assert collector.next_due() is None

    def test_no_more_than_1024_topics_wait(self, collector):
        for number in range(1026):
            put(collector, b"a", b"%d" % number)
        gone = []
        for batch in collector.due(0):
            gone.append(batch.topic)
            collector.drop(batch)
        assert gone == [b"0", b"1"]


class TestChunks:
    @pytest.mark.parametrize("payloads", [None, b"ab", {b"a"}, ["a"], [b"a", None], iter([b"a"])])
    def test_they_are_of_a_list_of_bytes(self, payloads):
        with pytest.raises(UsageError, match="list of bytes"):
            list(chunks(payloads, Bundling()))

    def test_they_are_full_in_order_and_never_empty(self):
        sizes = [0, 100, 0, 1, 99, 1, 500, 5, 5, 5, 5]
        payloads = [bytes(size) for size in sizes]
        got = list(chunks(payloads, Bundling(max_count=3, max_bytes=100)))
        assert [[len(one) for one in chunk] for chunk in got] == [
            [0, 100, 0],
            [1, 99],
            [1],
            [500],
            [5, 5, 5],
            [5],
        ]
        assert list(chunks([], Bundling())) == []
