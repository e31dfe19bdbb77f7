"""Trust files: TOML to tables, and each mistake with its file and line (SPEC 13.3)."""

from __future__ import annotations

import contextlib
import errno
import os
import tracemalloc
from datetime import UTC, datetime

import pytest

from envelope import TrustFileError, trustfile
from envelope.trustfile import PeerTable

GOOD = '[[peer]]\nname = "alice"\nkey = "k"\ncontexts = ["orders"]\n'
KEYS = "; a [[peer]] has name, key, contexts, topics, not_before, not_after, revoked"
FIELDS = {"name": "alice", "contexts": ["orders"]}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "peers.toml"


def read(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return trustfile.read(path)


def refused(path, content):
    """Return the reason without the file's name, with which it begins."""
    with pytest.raises(TrustFileError) as raised:
        read(path, content)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None
    return str(raised.value).removeprefix(str(path))


def test_a_table_is_its_line_its_key_and_the_other_fields(path):
    assert read(path, GOOD) == [PeerTable(1, "k", FIELDS)]


def test_every_field_of_spec_13_3_is_taken_as_it_stands(path):
    more = (
        'topics = ["a"]\nnot_before = 2027-01-01T00:00:00Z\n'
        "not_after = 2028-01-01T00:00:00Z\nrevoked = false\n"
    )
    [table] = read(path, GOOD + more)
    assert table.fields == {
        **FIELDS,
        "topics": ["a"],
        "not_before": datetime(2027, 1, 1, tzinfo=UTC),
        "not_after": datetime(2028, 1, 1, tzinfo=UTC),
        "revoked": False,
    }


@pytest.mark.parametrize("content", ["", "\n\n", "# nobody\n", "peer = []"])
def test_a_file_without_peers_has_none(path, content):
    assert read(path, content) == []


def lines(path, content):
    return [table.line for table in read(path, content)]


def test_each_table_knows_the_line_of_its_header(path):
    assert lines(path, GOOD + "\n" + GOOD + "# comment\n\n" + GOOD) == [1, 6, 12]
    assert lines(path, "# one\r\n\r\n" + (GOOD + GOOD).replace("\n", "\r\n")) == [3, 7]


@pytest.mark.parametrize(
    "header", ["[[peer]]", "  [[peer]]", "\t[[ peer ]]", "[[ 'peer' ]] # x", '[["peer"]]']
)
def test_a_header_may_be_written_in_any_of_its_ways(path, header):
    assert lines(path, "\n\n" + GOOD.replace("[[peer]]", header)) == [3]


@pytest.mark.parametrize("comment", ["# [[peer]]", "#[[peer]]", "# see [[peer]] below"])
def test_a_header_in_a_comment_is_none(path, comment):
    assert lines(path, f"{comment}\n{GOOD}") == [2]


@pytest.mark.parametrize("end", ["\u2028", "\u2029", "\x85"])
def test_what_toml_takes_for_no_end_of_a_line_is_none(path, end):
    # str.splitlines() ends lines at these too; TOML and editors do not.
    assert lines(path, f"# one{end}line\n{GOOD}") == [2]


@pytest.mark.parametrize(
    "content",
    [
        'peer = [{name = "alice", key = "k", contexts = ["orders"]}]',
        GOOD + 'topics = ["""\n[[peer]]\n"""]\n',
    ],
)
def test_where_the_lines_cannot_be_told_the_peers_are_read_all_the_same(path, content):
    [table] = read(path, content)
    assert table.fields["name"] == "alice"


def test_a_missing_file_is_named(path):
    with pytest.raises(TrustFileError) as raised:
        trustfile.read(path)
    assert str(raised.value) == f"{path} does not exist"


def test_a_file_that_cannot_be_read_is_named(tmp_path, path, monkeypatch):
    with pytest.raises(TrustFileError) as raised:
        trustfile.read(tmp_path)
    assert str(raised.value) == f"{tmp_path} is not a file"

    def fail(*_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    path.write_text(GOOD)
    monkeypatch.setattr(trustfile.os, "open", fail)
    with pytest.raises(TrustFileError) as raised:
        trustfile.read(path)
    assert str(raised.value) == f"cannot read {path}: Permission denied"


@pytest.mark.audit("P4")
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff", " is not UTF-8"),
        ("a = " + "[" * 5000, ": nested too deeply"),
        ("peers = 1", ": unknown key 'peers'; expected [[peer]]"),
        (GOOD + "[options]\n", ": unknown key 'options'; expected [[peer]]"),
        ("[peer]\n", ": peer is written [[peer]], once for each peer"),
        ("peer = 1", ": peer is written [[peer]], once for each peer"),
        ('peer = "alice"', ": peer is written [[peer]], once for each peer"),
        ("peer = [1]", ", line 1: a peer is a table"),
        (f"{GOOD}topic = []", ", line 1: unknown key 'topic'" + KEYS),
        (f"{GOOD}\n{GOOD}Revoked = true", ", line 6: unknown key 'Revoked'" + KEYS),
        (f"{GOOD}store = 1", ", line 1: unknown key 'store'" + KEYS),
        (f"{GOOD}public = 1", ", line 1: unknown key 'public'" + KEYS),
        (f"{GOOD}\n[[peer]]", ", line 6: name is missing"),
        ('#\n[[peer]]\nname = "a"', ", line 2: key is missing"),
        ('[[peer]]\nname = "a"\nkey = "k"', ", line 1: contexts is missing"),
        (GOOD.replace('"k"', "7"), ", line 1: key is an envpub1... text"),
        (GOOD.replace('"k"', '["k"]'), ", line 1: key is an envpub1... text"),
    ],
)
def test_every_mistake_is_named_with_its_line(path, content, reason):
    assert refused(path, content) == reason


@pytest.mark.parametrize(("content", "line"), [("[[peer]", 1), ("\n\nname = = 1", 3)])
def test_a_mistake_of_toml_is_named_with_its_line(path, content, line):
    assert f"(at line {line}, column " in refused(path, content)


@pytest.mark.audit("P4")
def test_a_number_that_python_will_not_read_is_a_mistake_too(path):
    assert refused(path, "a = " + "1" * 5000).startswith(": ")


@pytest.mark.audit("P3")
def test_a_file_has_at_most_64_mib(path, monkeypatch):
    assert trustfile._MAX_FILE == 64 * 2**20
    monkeypatch.setattr(trustfile, "_MAX_FILE", len(GOOD))
    assert read(path, GOOD)
    assert refused(path, GOOD + "\n") == " is larger than any trust file"


def test_of_a_huge_file_only_the_beginning_is_read(path, monkeypatch):
    monkeypatch.setattr(trustfile, "_MAX_FILE", 10_000)
    path.write_text("")
    os.truncate(path, 2**32)
    tracemalloc.start()
    try:
        with pytest.raises(TrustFileError, match="larger than any trust file"):
            trustfile.read(path)
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()


@pytest.mark.audit("K7")
@pytest.mark.parametrize("mode", [0o620, 0o602, 0o622, 0o666])
def test_a_file_that_others_can_write_is_refused(path, mode):
    # Whoever may write it decides whom we believe.
    path.write_text(GOOD)
    path.chmod(mode)
    with pytest.raises(TrustFileError, match="can be written by others; forbid it: chmod go-w"):
        trustfile.read(path)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o444, 0o755])
def test_a_file_that_others_can_read_is_read(path, mode):
    path.write_text(GOOD)
    path.chmod(mode)
    assert [table.key for table in trustfile.read(path)] == ["k"]


def test_a_file_of_another_user_is_refused_and_one_of_root_is_not(path, monkeypatch):
    path.write_text(GOOD)
    owner = path.stat().st_uid
    monkeypatch.setattr(trustfile.os, "geteuid", lambda: owner + 1)
    if owner == 0:
        assert trustfile.read(path)
        os.chown(path, 12345, -1)
    with pytest.raises(TrustFileError, match="belongs to another user"):
        trustfile.read(path)


def test_a_fifo_is_refused_and_not_waited_for(path):
    os.mkfifo(path, 0o600)
    with pytest.raises(TrustFileError, match="is not a file"):
        trustfile.read(path)


def test_a_folder_is_refused_and_its_handle_closed(tmp_path, monkeypatch):
    handles = []
    opened = os.open

    def watched(*args):
        handles.append(opened(*args))
        return handles[-1]

    monkeypatch.setattr(os, "open", watched)
    try:
        with pytest.raises(TrustFileError):
            trustfile.read(tmp_path)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(handles[0])
    finally:
        with contextlib.suppress(OSError):
            os.close(handles[0])
