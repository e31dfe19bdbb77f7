"""benchmarks/stream says what was measured, and every event of a run came once."""

from __future__ import annotations

from array import array
from dataclasses import replace

import pytest
from stream import bars, events, figures, processes, sentences, tell
from stream.events import HEAD
from stream.nodes import Log
from stream.results import ROLES, End, Record, Result, Step
from stream.run import Sizes, measure
from stream.ways import BY_NAME


def end(cpu, busiest=None, peak=2**20):
    return End(cpu, cpu if busiest is None else busiest, peak)


def result(way, rate, *, many=1, number=0, cpu=(1.0, 2.0, 4.0), waits=(1000.0, 2000.0, 3000.0)):
    """Return a run: its rate, the processor time of each role, and latencies at half of it."""
    ends = dict(zip(ROLES, map(end, cpu), strict=True))
    half = Step(0.5, rate / 2, rate / 2, 1000, waits, ends)
    return Result(way, many, number, 100, 1000, rate, ends, [half])


def record(*results):
    return Record("a machine", 2, "events", 1, list(results))


@pytest.mark.parametrize(
    ("percent", "value"), [(50, 50), (99, 99), (99.9, 100), (100, 100), (0, 1), (0.1, 1)]
)
def test_a_percentile_is_the_value_that_so_many_do_not_exceed(percent, value):
    assert figures.percentile(range(1, 101), percent) == value


def test_no_values_have_no_percentile():
    with pytest.raises(ValueError, match="no values"):
        figures.percentile([], 50)


def test_a_ratio_is_taken_within_a_round_and_only_where_both_were_measured():
    results = [
        result("plain", 100.0, number=0),
        result("plain", 900.0, number=2),
        result("curve", 50.0, number=0),
        result("curve", 10.0, number=1),
        result("curve", 300.0, number=2),
        result("curve", 1.0, number=2, many=4),
    ]
    assert figures.ratios(results, ("plain", "curve"), 1, figures.rate) == [2.0, 3.0]
    assert figures.spread([2.0, 3.0, 7.0]) == (3.0, 2.0, 7.0)


def test_the_role_with_the_busiest_thread_is_bound_first():
    one = result("plain", 100.0)
    ends = one.ends | {"proxy": end(9.0, busiest=5.0)}
    assert figures.bound_first(replace(one, ends=ends)) == ("proxy", 200_000.0)


def test_subscribers_count_each_in_what_all_compute():
    one = result("plain", 100_000.0, many=4)
    assert one.cpu() == 1 + 2 + 4 * 4
    assert figures.occupied(one, 2) == pytest.approx(0.95)


@pytest.mark.parametrize(("ours", "word"), [(280.0, "holds"), (279.0, "MISSED")])
def test_a_bar_of_a_ratio_holds_from_its_bound_on(ours, word):
    results = [result("sealed-bundled", ours), result("curve", 100.0)]
    verdicts = {one.bar: one for one in bars.judge(results)}
    assert verdicts["2.8 x CURVE"].word == word
    assert verdicts["1.4 x stunnel"].word == "not measured"
    assert verdicts["300,000"].word == "MISSED"


@pytest.mark.parametrize("way", ["sealed-bundled", "sealed-large"])
@pytest.mark.parametrize(("proxy", "word"), [(0.2, "holds"), (0.21, "MISSED")])
def test_the_proxy_may_compute_a_tenth_of_what_it_does_with_curve(way, proxy, word):
    results = [result(way, 100.0, cpu=(1, proxy, 1)), result("curve", 100.0)]
    found = [one for one in bars.judge(results) if one.bar == "0.1 x CURVE"]
    measured = [one.word for one in found if one.holds is not None]
    assert (measured, len(found)) == ([word], 6)


def test_a_row_has_the_figures_of_its_way():
    lines = tell.table([result("curve", 1234.5), result("plain", 2469.0)], 1)
    assert lines[2:] == [
        (
            "| plain ZeroMQ | 2,469 | 2.00 | 1.00 | 2.00 | 4.00 | 1.00 | 2.00 | 3.00 | 1, 1, 1 "
            "| subscriber, 250,000 |"
        ),
        (
            "| CURVE | 1,234 | 1.00 | 1.00 | 2.00 | 4.00 | 1.00 | 2.00 | 3.00 | 1, 1, 1 "
            "| subscriber, 250,000 |"
        ),
    ]


def test_sentences_say_what_is_slower_whichever_it_is():
    ours, theirs = result("sealed-bundled", 80.0), result("stunnel", 100.0)
    first, *_ = sentences.compare(record(ours, theirs))
    assert first == "To one subscriber, from fast to slow: stunnel; sealed, bundled."
    slower = "To one subscriber, sealed, bundled is slower than stunnel (0.80 of its rate)."
    assert any(one.startswith(slower) for one in sentences.warn([ours, theirs]))
    faster = replace(ours, rate=120.0)
    assert not any("is slower" in one for one in sentences.warn([faster, theirs]))


def test_sentences_tell_numbers_of_subscribers_together():
    results = [
        result(way, rate, many=many)
        for many in (1, 4, 16)
        for way, rate in (("sealed", 10.0), ("curve", 40.0 * many))
    ]
    found = list(sentences.warn(results))
    assert found == [
        (
            "An envelope for each event (sealed, one by one) brings 0.25, 0.06 and 0.02 of CURVE's "
            "rate (1, 4 and 16 subscribers): a stream of events wants bundles."
        )
    ]


def test_what_was_not_measured_is_told_with_the_reason():
    found = record(result("plain", 100.0))
    found.missing.append("stunnel: it is not installed")
    assert "- stunnel: it is not installed." in tell.document(found)


def test_a_record_is_the_same_after_saving(tmp_path):
    found = record(result("plain", 100.0), result("curve", 50.0, many=4))
    found.save(tmp_path / "it.json")
    assert Record.load(tmp_path / "it.json") == found


class Given:
    """An inlet of payloads that are there already."""

    takes_bundles = False

    def __init__(self, numbers):
        self._payloads = iter([HEAD.pack(number, 0) + b"body" for number in numbers])

    def receive(self):
        return next(self._payloads)

    def receive_bundle(self):
        return [next(self._payloads), next(self._payloads)]

    def poll(self, milliseconds):
        raise NotImplementedError


@pytest.mark.parametrize("fill", [Log.fill, Log.fill_by_bundles])
@pytest.mark.parametrize(
    ("numbers", "missing", "repeated"),
    [((3, 1, 0, 2), 0, 0), ((0, 1, 1, 3), 1, 1), ((0, 1, 2, 4), 1, 1), ((2, 2, 2, 2), 3, 1)],
)
def test_a_subscriber_finds_what_did_not_come_once(fill, numbers, missing, repeated):
    log, slots = Log(4), [0]
    fill(log, Given(numbers), slots, 0)
    receipt = log.check()
    assert (receipt.missing, receipt.repeated, slots) == (missing, repeated, [4])
    latencies = array("q", receipt.latencies)
    assert len(latencies) == 4
    assert max(latencies) == log.last


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
def test_events_are_real_and_of_a_usual_size(encoding):
    found = events.load(encoding)
    assert len({event.topic for event in found}) > 1
    assert all(events.LEAST <= len(event.body) <= events.MOST for event in found)


@pytest.mark.parametrize("way", ["plain", "sealed-bundled"])
def test_two_thousand_events_come_once_each_through_a_proxy(way):
    processes.start_server()
    sizes = Sizes(2000, 1.0, (0.5,))
    found = measure(BY_NAME[way], 1, events.load("msgpack"), number=0, sizes=sizes)
    assert found.count == 2000
    assert found.rate > 0
    assert all(end.cpu > 0 and end.peak > 0 for end in found.ends.values())
    (half,) = found.steps
    p50, p99, p999 = half.percentiles
    assert 0 < p50 <= p99 <= p999
