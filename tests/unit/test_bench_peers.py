"""benchmarks/peers computes what its tables, bars and sentences say, with no peer installed."""

from __future__ import annotations

import json
import logging
import re
from importlib import import_module

import pytest
from peers import bars, figures, ours, raw, run, tables, tokens, words
from peers.bars import BARS, Bar
from peers.run import Times
from peers.ways import NO, OPT, SIGN, YES, Does, Way, need, steady

entry = import_module("peers.__main__")

SIZE = 256


def way(name, does=None, **more):
    """Return a way that nobody measures."""
    return Way(name, does or Does(signed=YES), lambda: None, **more)


def prepared(name, write, read, does=None, **more):
    """Return a way that can be measured."""
    return Way(name, does or Does(), lambda: steady(write, read), **more)


def times(write, read=None, more=10):
    """Return what some rounds took, in microseconds."""
    return Times([us / 1e6 for us in write], [us / 1e6 for us in read or write], [more])


# Numbers.


def test_a_ratio_is_the_median_of_the_ratios_within_the_rounds():
    # The medians of the times are 300 and 200; no round has their ratio.
    results = {
        ("a", SIZE): times([100, 300, 900], [1, 1, 1]),
        ("b", SIZE): times([50, 300, 200], [2, 4, 5]),
    }
    assert figures.ratios(results, "a", "b", SIZE, "write") == pytest.approx([2, 1, 4.5])
    assert figures.ratio(results, "a", "b", SIZE, "write") == pytest.approx(2)
    assert figures.ratio(results, "a", "b", SIZE, "read") == pytest.approx(0.25)


def test_what_was_not_measured_has_no_ratio():
    results = {("a", SIZE): times([1]), ("b", SIZE): "it is not installed"}
    assert figures.ratio(results, "a", "b", SIZE, "write") is None
    assert figures.ratio(results, "b", "a", SIZE, "write") is None
    assert figures.median(results, "c", SIZE, "write") is None


@pytest.mark.parametrize(
    ("value", "text"), [(0.123, "0.12"), (9.99, "9.99"), (12.34, "12.3"), (12345.6, "12,346")]
)
def test_numbers_have_about_three_digits(value, text):
    assert figures.rounded(value) == text


def test_a_spread_tells_the_smallest_and_the_largest():
    assert figures.spread([3e-6, 1e-6, 20e-6], 1e6) == "3.00 (1.00 to 20.0)"


@pytest.mark.parametrize(("size", "text"), [(64, "64 B"), (4096, "4 KiB"), (2**20, "1 MiB")])
def test_sizes_are_written_as_people_do(size, text):
    assert figures.size_name(size) == text


# Bars.


def bar(least=1.7, peers=("fast", "slow"), side="write"):
    return Bar("ours", peers, side, least)


def test_the_best_of_the_peers_decides_a_bar():
    results = {
        ("ours", SIZE): times([10, 10, 10]),
        ("fast", SIZE): times([16, 18, 20]),
        ("slow", SIZE): times([90, 90, 90]),
    }
    outcome = bars.judge(bar(), results)
    assert outcome.figure == "fast: 1.80 (1.60 to 2.00) x; slow: 9.00 x"
    assert outcome.bar == "at least 1.70 x"
    assert outcome.verdict == "holds"
    missed = bars.judge(bar(least=1.81), results)
    assert missed.verdict == "MISSED"
    assert bars.good([outcome])
    assert not bars.good([outcome, missed])


def test_a_bar_judges_its_own_side():
    results = {("ours", SIZE): times([10], [10]), ("fast", SIZE): times([30], [10])}
    assert bars.judge(bar(side="write"), results).verdict == "holds"
    assert bars.judge(bar(side="read"), results).verdict == "MISSED"


def test_a_bar_names_the_peers_that_it_went_without():
    results = {("ours", SIZE): times([10]), ("slow", SIZE): times([50]), ("fast", SIZE): "broken"}
    assert bars.judge(bar(), results).figure == "slow: 5.00 (5.00 to 5.00) x; without fast"


def test_a_bar_without_figures_is_not_measured_and_not_missed():
    outcome = bars.judge(bar(), {("ours", SIZE): times([10])})
    assert outcome.verdict == "not measured"
    assert bars.good([outcome])


def test_every_bar_names_ways_that_there_are():
    names = {each.name for each in entry.WAYS}
    assert {name for one in BARS for name in (one.ours, *one.peers)} <= names


# Tables.


def test_a_row_tells_what_a_way_does_and_costs():
    signer = way("signer", Does(signed=YES, context=OPT))
    results = {
        (SIGN, SIZE): times([10, 10], [40, 40]),
        ("signer", SIZE): times([20, 40], [80, 80], 1234),
    }
    row = tables.full([signer], results, SIZE)[-1]
    assert row == (
        "| signer | yes | no | all | yes | opt | no | no | no | no "
        "| 30.0 (20.0 to 40.0) | 80.0 (80.0 to 80.0) | 1,234 | 3.00 x | 2.00 x |"
    )


def test_a_way_without_a_signature_has_no_limit():
    mac = way("mac", Does())
    assert mac.limit is None
    row = tables.full([mac], {("mac", SIZE): times([1]), (SIGN, SIZE): times([1])}, SIZE)[-1]
    assert row.endswith("| 10 |  |  |")


def test_what_was_not_measured_keeps_its_row_with_the_reason():
    results = {("gone", SIZE): "gone is not installed", ("gone", 64): "too small"}
    head, line, row = tables.full([way("gone")], results, SIZE)
    assert "not measured: gone is not installed" in row
    assert head.count("|") == line.count("|") == row.count("|")
    assert tables.others([way("gone")], results, [64, SIZE])[-1] == (
        "| gone | not measured: too small | | | | |"
    )


def test_each_other_size_has_a_table_of_its_own():
    results = {
        ("a", 64): times([1], [2], 4.25),
        ("a", 4096): times([300, 500], [400, 400], 20),
        (SIGN, 4096): times([100, 100], [400, 400]),
    }
    assert tables.others([way("a")], results, [64, SIZE, 4096]) == [
        "| 64 B | write | read | bytes more | write ratio | read ratio |",
        "|---|---:|---:|---:|---:|---:|",
        "| a | 1.00 (1.00 to 1.00) | 2.00 (2.00 to 2.00) | 4.2 |  |  |",
        "",
        "| 4 KiB | write | read | bytes more | write ratio | read ratio |",
        "|---|---:|---:|---:|---:|---:|",
        "| a | 400 (300 to 500) | 400 (400 to 400) | 20 | 4.00 x | 1.00 x |",
    ]
    assert tables.others([way("a")], results, [SIZE]) == []


# Sentences.


def test_the_order_is_that_of_the_medians():
    results = {("a", SIZE): times([9, 9, 1]), ("b", SIZE): times([5, 5, 50]), ("c", SIZE): "no"}
    text = words.order([way("a"), way("b"), way("c")], results, SIZE, "write")
    assert text.endswith("dearest: b (5.00), a (9.00).")


@pytest.mark.parametrize(
    ("costs", "says"),
    [
        ({64: 20, SIZE: 20}, "costs less than every peer at every size"),
        ({64: 5, SIZE: 20}, "costs more than peer at 64 B (2.00 x)."),
        ({64: 5, SIZE: 2}, "costs more than peer at every size (up to 5.00 x)."),
        ({}, "not measured beside a peer"),
    ],
)
def test_where_a_peer_is_faster_is_told(costs, says):
    results = {("ours", size): times([10]) for size in (64, SIZE)}
    results |= {("peer", size): times([us]) for size, us in costs.items()}
    assert says in words.slower("ours", [way("peer")], results, [64, SIZE], "read")


def test_a_sentence_tells_what_a_peer_does_not_do():
    does = Does(signed=YES, encrypted=YES, context=YES, permission=YES, lost=OPT, stale=OPT)
    results = {("p", SIZE): times([10], [5]), (ours.SEALED, SIZE): times([5], [10])}
    assert words.beside(way("p", does, note="it is odd"), results, SIZE) == (
        "p costs 2.00 x to write and 0.50 x to read 256 B, in multiples of envelope sealed to 1. "
        "It does not refuse a replay. "
        "It leaves it to the caller to refuse what is late and notice a loss. It is odd."
    )
    assert words.beside(way("p"), {}, SIZE).startswith("p: not measured at 256 B. It does not enc")


def test_what_no_peer_does_is_told():
    all_but_loss = Does(YES, YES, "1", YES, YES, YES, YES, YES, NO)
    assert words.nobody([way("a", all_but_loss), way("b")]) == (
        "No peer in this run will by itself notice a loss."
    )
    everything = way("c", all_but_loss._replace(lost=YES))
    assert words.nobody([everything]) == "Each of these is done by some peer."


# Measuring.


def test_a_peer_that_is_not_installed_keeps_its_row():
    missing = Way("missing", Does(), lambda: need("no_such_peer"))
    results = run.measure([missing], [64], 1, lambda *_: None)
    assert results == {("missing", 64): "no_such_peer is not installed"}


def refuse_large(payload):
    if len(payload) > SIZE:
        raise ValueError("too\nlarge | sorry; really")
    return payload + b"!"


def strip(data):
    if not data.endswith(b"!"):
        raise ValueError
    return data[:-1]


def test_a_size_that_a_way_cannot_do_has_a_reason_and_the_others_have_figures(monkeypatch):
    monkeypatch.setattr(run, "LOOP", 1e-4)
    each = prepared("it", refuse_large, strip, Does(changed=NO))
    ticks = []
    results = run.measure([each], [SIZE, 4096], 3, lambda *what: ticks.append(what))
    assert results["it", 4096] == "ValueError: too large / sorry"
    found = results["it", SIZE]
    assert (len(found.write), len(found.read), found.more) == (3, 3, [1, 1, 1])
    assert ticks == [("it", SIZE)] * 3


def test_ways_take_turns_in_alternating_order(monkeypatch):
    monkeypatch.setattr(run, "LOOP", 1e-4)
    both = [prepared(name, bytes, bytes, Does(changed=NO)) for name in "ab"]
    turns = []
    run.measure(both, [64], 3, lambda name, _: turns.append(name))
    assert "".join(turns) == "abbaab"


@pytest.mark.parametrize(
    ("does", "says"),
    [(Does(changed=NO, replayed=YES), "refuses a replay"), (Does(), "refuses a change")],
)
def test_a_claim_that_is_not_true_ends_the_benchmark(does, says):
    with pytest.raises(SystemExit, match=says):
        run.prepare([prepared("it", bytes, bytes, does)])


def test_a_way_that_reads_something_else_ends_the_benchmark():
    with pytest.raises(SystemExit, match="reads something else"):
        run.prepare([prepared("it", bytes, lambda _: b"")])


def test_this_library_is_not_excused():
    def fail():
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        run.prepare([ours.WAYS[0]._replace(prepare=fail)])


def test_a_change_is_one_bit_of_the_longest_frame():
    assert run.changed(b"abc") == b"acc"
    assert run.changed([b"x", b"abc", b"yy"]) == [b"x", b"acc", b"yy"]


def test_a_few_payloads_make_many_bundles():
    bundles = run.payloads(way("bundle", each=4), [b"1", b"2", b"3"])
    assert bundles[:2] == [[b"1", b"2", b"3", b"1"], [b"2", b"3", b"1", b"2"]]
    assert len(bundles) == run.FEWEST


def test_ours_and_the_limits_do_what_the_table_says(monkeypatch, caplog):
    caplog.set_level(logging.CRITICAL)
    monkeypatch.setattr(run, "LOOP", 1e-3)
    monkeypatch.setattr(run, "MOST", 300)
    ways = [*raw.LIMITS, *raw.WAYS, *ours.WAYS]
    results = run.measure(ways, [64], 1, lambda *_: None)
    assert all(isinstance(results[each.name, 64], Times) for each in ways)
    assert results[ours.SIGNED, 64].more == [144]
    assert results[ours.SEALED, 64].more == [288]
    assert results[ours.BUNDLE, 64].more[0] < 5
    assert results[ours.SESSION, 64].more == [36]


def test_a_bundle_above_the_policy_is_not_measured(monkeypatch, caplog):
    caplog.set_level(logging.CRITICAL)
    monkeypatch.setattr(run, "POOL", 2**20)
    [largest] = [one for one in ours.WAYS if one.each == 1024]
    results = run.measure([largest], [65_536], 1, lambda *_: None)
    assert "larger than 16777216 bytes" in results[largest.name, 65_536]


# The whole.


@pytest.fixture
def measured(monkeypatch):
    """Let every way have taken as many microseconds as its place in the list."""

    def observed(ways, sizes, rounds):
        return {
            (each.name, size): times([place + 1] * rounds)
            for place, each in enumerate(ways)
            for size in sizes
        }

    monkeypatch.setattr(entry, "observed", observed)
    yield
    logging.disable(logging.NOTSET)


DOCUMENT = "".join(
    f"before\n<!-- {name}:begin -->\nan earlier run\n<!-- {name}:end -->\nafter\n"
    for name in ("all_peers", "peers")
)


def test_the_block_has_all_ways_and_a_missed_bar_is_the_exit_code(measured, tmp_path, capsys):
    document, data = tmp_path / "page.md", tmp_path / "data.json"
    document.write_text(DOCUMENT)
    arguments = ["--rounds", "2", "--json", str(data)]
    arguments += ["--write", str(document), "--tables", str(document)]
    assert entry.main(arguments) == 1
    block = r"before\n<!-- (\w+):begin -->\n(.*?)<!-- \1:end -->\nafter\n"
    blocks = re.findall(block, document.read_text(), re.DOTALL)
    assert [name for name, _ in blocks] == ["all_peers", "peers"]
    whole, short = (text for _, text in blocks)
    assert whole + short == capsys.readouterr().out
    assert whole.startswith("Python ")
    assert short.startswith("Python ")
    for each in entry.WAYS:
        assert whole.count(f"\n| {each.name} |") == len(run.SIZES)
    assert short.count("| MISSED |") + short.count("| holds |") == len(BARS)
    found = json.loads(data.read_text())
    assert len(found["rows"]) == len(entry.WAYS) * len(run.SIZES)
    assert found["rows"][0]["write"] == [1e-6, 1e-6]
    assert len(found["bars"]) == len(BARS)
    assert found["unit"] == "seconds"


def test_bars_that_hold_are_no_failure(measured, tmp_path, monkeypatch):
    monkeypatch.setattr(entry.bars, "judge_all", lambda _: [])
    assert entry.main(["--rounds", "1"]) == 0


def test_a_part_of_the_run_is_not_written(measured, tmp_path, capsys):
    document = tmp_path / "page.md"
    document.write_text(DOCUMENT)
    for part in (["--only", "fernet"], ["--payloads", "64"]):
        entry.main(["--rounds", "1", *part, "--write", str(document), "--tables", str(document)])
        assert capsys.readouterr().err.count("stays as it is") == 2
    assert document.read_text() == DOCUMENT


def test_a_part_of_the_run_keeps_the_limits():
    assert entry.chosen(entry.WAYS, ["FERNET"]) == [
        *raw.LIMITS,
        next(each for each in tokens.WAYS if each.name == "Fernet"),
    ]


def test_names_are_unique_and_break_no_table():
    names = [each.name for each in entry.WAYS]
    assert len(set(names)) == len(names)
    assert not any("|" in f"{each.name}{each.note}" for each in entry.WAYS)


def test_a_package_that_is_not_installed_is_named():
    assert entry.versions(["pynacl", "no-such-package"]).endswith(", no no-such-package")


@pytest.mark.parametrize("arguments", [["--rounds", "0"], ["--payloads", "0"]])
def test_arguments_that_make_no_sense_are_refused(arguments, capsys):
    with pytest.raises(SystemExit):
        entry.parse(arguments)
    assert "at least 1" in capsys.readouterr().err
