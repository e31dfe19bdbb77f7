"""benchmarks/zeromq.py computes what its table says, and counts what arrived."""

from __future__ import annotations

from multiprocessing import active_children
from signal import SIGKILL

import pytest
import zeromq
import zeromq_ends
from zeromq import CURVE, PLAIN, SUBSCRIBERS, Line, Pipeline, Run
from zeromq_ends import COUNT, Way, child, pull, told

SEALED = Way("sealed")


def rounds(*runs):
    """Return what some rounds gave: of each way its rate and its processor time."""
    return [
        {SEALED: Run(*ours), CURVE: Run(*curve), PLAIN: Run(*plain)} for ours, curve, plain in runs
    ]


def compare(results, least=None, most_cpu=None):
    return list(zeromq.compare(Pipeline("it", SEALED, least, most_cpu), results))


def test_a_ratio_is_the_median_of_the_ratios_within_the_rounds():
    # The medians of the rates are 300 and 200; no round has their ratio, 1.5.
    results = rounds(
        ((100, 6), (50, 3), (400, 1)),
        ((300, 3), (300, 2), (600, 1)),
        ((900, 2), (200, 4), (900, 1)),
    )
    rate, cpu = compare(results)
    assert rate.figure == "300, 2.00 x CURVE (1.00 to 4.50), 0.50 x plain"
    assert cpu.figure == "3.00 us, 1.50 x CURVE (0.50 to 2.00), 3.00 x plain"


@pytest.mark.parametrize(
    ("least", "most_cpu", "holds"),
    [
        (None, None, (True, True)),
        (1.2, 0.75, (True, True)),
        (1.21, 0.75, (False, True)),
        (1.2, 0.74, (True, False)),
    ],
)
def test_a_bar_is_missed_by_its_own_line_alone(least, most_cpu, holds):
    results = rounds(((120, 3), (100, 4), (100, 1)))
    assert tuple(line.holds for line in compare(results, least, most_cpu)) == holds


def test_fan_out_compares_most_subscribers_with_one():
    costs = [dict(zip(SUBSCRIBERS, each, strict=True)) for each in ((1, 2, 3), (2, 3, 4))]
    line = zeromq.fan("bundled", costs, 2.5)
    assert line.figure == "1.50, 2.50, 3.50 us, 2.50 x that to 1 (2.00 to 3.00)"
    assert line.holds
    assert not zeromq.fan("bundled", costs, 2.4).holds
    assert zeromq.fan("CURVE", costs, None).holds


def test_a_call_may_cost_a_twentieth_more_than_its_parts():
    assert zeromq.beside("send", "parts", [(105.0, 100.0)]).holds
    line = zeromq.beside("send", "parts", [(106.0, 100.0), (1.0, 100.0), (107.0, 100.0)])
    assert line.figure == "1.00 us, 1.060 x parts"
    assert not line.holds


@pytest.mark.parametrize(("holds", "code", "word"), [(True, 0, "holds"), (False, 1, "MISSED")])
def test_the_table_goes_into_its_block_and_a_missed_bar_is_the_exit_code(
    tmp_path, holds, code, word
):
    document = tmp_path / "page.md"
    document.write_text("before\n<!-- zeromq:begin -->\nold\n<!-- zeromq:end -->\nafter\n")
    lines = [Line("it", "3 us", "2 us", holds), Line("that", "4 us")]
    assert zeromq.report("versions", lines, document) == code
    assert document.read_text() == (
        "before\n<!-- zeromq:begin -->\nversions.\n\n| what | figure | bar | |\n|---|---|---|---|\n"
        f"| it | 3 us | 2 us | {word} |\n| that | 4 us |  |  |\n<!-- zeromq:end -->\nafter\n"
    )


@pytest.mark.parametrize("way", [SEALED, Way("CURVE", is_packed=True)], ids=lambda way: way.kind)
def test_a_run_takes_time_and_processor(way):
    rate, cpu = zeromq.push(way, 4 * COUNT)
    assert rate > 0
    assert cpu > 0


@pytest.mark.parametrize("how", ["bundled", "one by one", "CURVE"])
def test_every_subscriber_gets_every_message(how):
    assert zeromq.publish(how, 2, COUNT + 1) > 0


def test_a_message_that_did_not_arrive_ends_the_benchmark(monkeypatch):
    monkeypatch.setattr(zeromq, "told", lambda parent: told(parent) - 1)
    with pytest.raises(SystemExit, match="got 9 of 10 messages"):
        zeromq.publish("one by one", 1, 10)


def test_a_child_that_fails_ends_the_benchmark():
    with pytest.raises(SystemExit, match="a child has failed"), child(pull, "no way", 1) as one:
        told(one)
    with pytest.raises(SystemExit, match="a child ended with 1"), child(pull, "no way", 1):
        pass


def wait_in_vain(monkeypatch, children):
    with child(pull, PLAIN, 1) as one:
        told(one)  # Where it receives; but nobody sends.
        children += active_children()
        monkeypatch.setattr(zeromq_ends, "DEADLINE_MS", 50)
        told(one)


def test_a_child_that_is_late_is_killed(monkeypatch):
    children = []
    with pytest.raises(SystemExit, match="a child is late"):
        wait_in_vain(monkeypatch, children)
    assert [one.exitcode for one in children] == [-SIGKILL]
