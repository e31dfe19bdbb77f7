"""The demonstration's logs: lines, kinds, growing files, and who publishes what."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import os
from pathlib import Path

import pytest

from envelope import UsageError
from envelope.demo import publisher, run, stage
from envelope.demo.channel import Channel
from envelope.demo.events import Lines, Parser, find_logs, load

LOG = b"".join(b'{"n":%d,"_path":"%s"}\n' % (n, (b"dns", b"http")[n % 3 == 0]) for n in range(40))


def test_the_logs_that_come_along_are_found_and_hold_events():
    logs = find_logs()
    assert [path.name for path in logs] == ["conn.log", "dns.log"]
    for path in logs:
        parser = Parser(path)
        events = load(path, parser)
        assert {event.kind for event in events} == {path.stem}
        assert len(events) == 50
        assert not parser.skipped
        assert b"\n".join(event.payload for event in events) + b"\n" == path.read_bytes()


def test_lines_that_are_no_objects_are_counted_and_passed_over(tmp_path):
    path = tmp_path / "a log.json"
    deep = b"[" * 100_000
    lines = [b'{"a":1}', b"", b"#fields", b"[1]", b"\xff\xfe", deep, b'{"a":2}']
    path.write_bytes(b"\r\n".join(lines))
    parser = Parser(path)
    assert load(path, parser) == [("a-log", b'{"a":1}'), ("a-log", b'{"a":2}')]
    assert (parser.skipped, parser.first_skipped) == (4, 3)


def test_a_line_longer_than_a_mebibyte_is_passed_over(tmp_path):
    path = tmp_path / "long.log"
    path.write_bytes(b'{"a":"%s"}\n{"b":1}\n' % (b"x" * 3_000_000))
    parser = Parser(path)
    assert load(path, parser) == [("long", b'{"b":1}')]
    assert parser.skipped == 1


def test_the_kinds_of_a_log_are_plain_and_not_many():
    parser = Parser(Path("my.log"))
    kinds = [parser.parse(json.dumps({"_path": f"k{n}"}).encode()).kind for n in range(30)]
    assert len(set(kinds)) == 25
    assert kinds[-1] == "other"
    for odd in ("a/b", "", "x" * 41, "a b", 7, None):
        assert Parser(Path("my.log")).parse(json.dumps({"_path": odd}).encode()).kind == "my"


def test_a_growing_file_is_read_line_by_line_also_when_it_is_cut_or_replaced(tmp_path):
    path = tmp_path / "grows.log"
    path.write_bytes(b"one\ntw")
    with Lines(path) as lines:
        assert lines.take() == [b"one"]
        assert lines.take() is None
        with path.open("ab") as file:
            file.write(b"o\n")
        assert lines.take() == [b"two"]
        path.write_bytes(b"3\n")
        assert lines.take() is None
        assert lines.take() == [b"3"]
        path.rename(tmp_path / "rotated")
        assert lines.take() is None
        path.write_bytes(b"4\nfive")
        assert lines.take() is None
        assert lines.take() == [b"4"]
        assert lines.rest() == [b"five"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"follow": True}, "--log FILE"),
        ({"events": 0}, "at least 1"),
        ({"log": Path(os.devnull)}, "not a regular file"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_anything_begins(options, problem):
    with pytest.raises(UsageError, match=problem):
        run(**options)


def test_a_log_without_events_is_refused_before_anything_begins(tmp_path):
    path = tmp_path / "conn.log"
    path.write_text("#separator \\x09\n", encoding="utf-8")
    with pytest.raises(UsageError, match="use_json"):
        run(log=path)
    with pytest.raises(FileNotFoundError):
        run(log=tmp_path / "none.log")


@pytest.mark.parametrize("follow", [False, True], ids=["repeated", "followed"])
@pytest.mark.parametrize("events", [None, 31])
def test_two_publishers_share_a_log_between_them(tmp_path, capsys, follow, events):
    log = tmp_path / "my.log"
    log.write_bytes(b"no event\n" + LOG + b"no event\n")
    parts = stage.plan(log, follow=follow, events=events)
    source, write = os.pipe()
    # Told to finish before it begins: what is there by then is published all the same.
    os.write(write, b"finish\n" * 2 * follow)
    channel = Channel(source, io.BytesIO())
    published = []
    for part in parts.values():
        setting = {**dataclasses.asdict(part), "log": str(part.log), "rate": 10**6}
        read = publisher._follow if follow else publisher._repeat
        published.append(list(read(channel, setting, Parser(log))))
    os.close(source)
    os.close(write)
    together = [event for pair in itertools.zip_longest(*published) for event in pair if event]
    whole = load(log, Parser(log))
    assert len(whole) == 40
    if events is None and not follow:
        whole *= stage.EVENTS // 40
    assert together == whole[:events]
    assert {event.kind for event in together} == {"dns", "http"}
    if not follow:
        assert (
            "my.log: lines passed over, since they are no JSON objects: 2, the first is line 1"
            in capsys.readouterr().err
        )


def test_a_log_that_is_longer_than_usual_is_published_whole_and_faster(tmp_path):
    log = tmp_path / "my.log"
    log.write_bytes(b"{}\n" * 30_001)
    north, south = stage.plan(log, follow=False, events=None).values()
    assert (north.count, south.count) == (15_001, 15_000)
    assert north.rate == south.rate == 600
