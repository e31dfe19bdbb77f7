"""What a campaign makes of what libFuzzer says."""

from __future__ import annotations

from random import Random

import pytest

from fuzz import __main__ as campaign
from fuzz.__main__ import read_log
from fuzz.harnesses import storefile
from fuzz.mutations import any_change, flip, join, split
from fuzz.packed import change_bundle

ENDED = """\
#2 INITED cov: 12 ft: 13 corp: 1/1b exec/s: 0 rss: 40Mb
#777\tNEW    cov: 29 ft: 30 corp: 11/1441b lim: 2886 exec/s: 0 rss: 51Mb
stat::number_of_executed_units: 300000
stat::average_exec_per_sec:     100000
"""
STOPPED = "AssertionError\n==7== ERROR: libFuzzer: fuzz target exited\n" + ENDED


def test_executions_and_edges_are_what_stands_last():
    result = read_log("wire", 3.0, ENDED, failed=False)
    assert (result.runs, result.edges, result.finding) == (300_000, 29, "")


def test_a_process_that_failed_is_a_finding_with_its_last_words():
    result = read_log("wire", 3.0, STOPPED, failed=True)
    assert "AssertionError" in result.finding
    assert result.runs == 300_000


@pytest.mark.parametrize("log", ["", "Segmentation fault", "No such harness"])
def test_a_process_that_says_nothing_is_a_finding_too(log):
    assert read_log("wire", 3.0, log + "\n.", failed=False).finding


def test_runs_add_up(monkeypatch, tmp_path):
    monkeypatch.setattr(campaign, "WORK", tmp_path)
    monkeypatch.setattr(campaign, "_TOTALS", tmp_path / "totals.json")
    monkeypatch.setattr(campaign, "_reach", lambda _: (98, 102))  # Takes a process.
    one = read_log("wire", 3.0, ENDED, failed=False)
    campaign.note(one)
    campaign.note(one._replace(runs=7, seconds=1.0, edges=30))
    campaign.note(one._replace(name="of old"))
    (tmp_path / "finding-wire-crash-0").touch()
    rows = campaign.table()
    assert "300,007 executions in 0.0 hours of one process; findings open: 1." in rows
    assert rows[-1].startswith("| wire | What decodes encodes")
    assert "| 300,007 | 75,002 | 30 |" in rows[-1]
    assert "of old" not in "".join(rows)


@pytest.mark.parametrize("pieces", [[], [b""], [b"a", b"", bytes(300)]])
def test_pieces_are_split_as_they_were_joined(pieces):
    assert split(join(pieces), 5) == pieces


def test_of_more_pieces_than_allowed_the_first_are_taken():
    assert split(join([b"a", b"b", b"c"]), 2) == [b"a", b"b"]


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\5", b"\0\5ab"])
def test_any_bytes_are_pieces(data):
    assert all(len(piece) <= len(data) for piece in split(data, 5))


def test_bits_are_flipped_where_there_are_any():
    assert flip(b"abc", b"\0\1\2\3\7\1\2") == b"`b`"


@pytest.mark.parametrize("seed", range(12))
def test_a_file_that_announces_too_much_is_changed_like_any_other(seed):
    random = Random(seed)
    assert storefile.mutate(storefile.SEEDS[-1], 6000, random, any_change(random))


def test_a_bundle_is_changed_as_a_list_of_payloads():
    class First:
        """Chance that always takes the first, and never the rare."""

        randrange = staticmethod(lambda top: top - 1)
        choice = staticmethod(lambda options: options[0])

    changed = change_bundle(b"\x92\xc4\1a\xc4\1b", 100, First, lambda data, _: data + b"!")
    assert changed == b"\x92\xc4\1a\xc4\2b!"
