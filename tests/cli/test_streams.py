"""Streams that are closed, full, broken or interrupted; and bytes kept as they are."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import identity

from envelope import Sealer, wire
from envelope.cli import streams

SEAL = "envelope seal --identity alice.key --context orders"
OPEN = "envelope open --trust peers.toml --context orders"
BIG = bytes(1_000_000)


def finish(process, stdin=None):
    out, err = process.communicate(stdin, timeout=60)
    return process.returncode, out or b"", err or b""


@contextlib.contextmanager
def broken_pipe():
    """Give the writing end of a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        yield writer
    finally:
        os.close(writer)


@pytest.mark.parametrize("line", [SEAL, "envelope public alice.key", "envelope --version"])
def test_a_reader_that_went_away_ends_it_quietly(shell, line):
    with broken_pipe() as nobody:
        process = shell.start(line, stdin=subprocess.PIPE, stdout=nobody, stderr=subprocess.PIPE)
        assert finish(process, BIG) == (141, b"", b"")


def test_the_help_to_a_reader_that_went_away_ends_quietly(shell):
    with broken_pipe() as nobody:
        process = shell.start("envelope --help", stdout=nobody, stderr=subprocess.PIPE)
        assert finish(process) == (141, b"", b"")


def test_a_full_disk_is_told(shell):
    with Path("/dev/full").open("wb") as full:
        process = shell.start(SEAL, stdin=subprocess.PIPE, stdout=full, stderr=subprocess.PIPE)
        status, _, err = finish(process, b"payload")
    assert (status, err) == (1, b"envelope: stdout: No space left on device\n")


def test_a_closed_stdout_is_told(shell):
    refused = shell.redirected("envelope public alice.key", ">&-")
    assert (refused.status, refused.err) == (1, "envelope: stdout: closed\n")
    assert shell.redirected("envelope inspect", ">&-", b"no envelope").status == 10


def test_a_closed_stdin_is_told_and_not_sealed_as_nothing(shell):
    refused = shell.redirected(SEAL, "<&-")
    assert (refused.status, refused.out) == (1, b"")
    assert refused.err == "envelope: stdin: closed\n"


def test_with_stderr_closed_nothing_slips_into_the_payload(shell):
    data = Sealer(identity("alice"), context="orders").seal(b"payload")
    opened = shell.redirected(OPEN, "2>&-", data)
    assert (opened.status, opened.out) == (0, b"payload")


@pytest.mark.parametrize("where", ["2>&-", "2>/dev/full"])
def test_a_refusal_keeps_its_status_when_nobody_can_be_told(shell, where):
    refused = shell.redirected("envelope inspect", where, b"no envelope", diagnosed=False)
    assert refused == (10, b"", "")


def test_ctrl_c_while_reading_ends_quietly(shell, desk):
    os.mkfifo(desk / "slow.env")
    process = shell.start(
        "envelope inspect slow.env", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    # Opening waits for the other side: then the command is at its work.
    with (desk / "slow.env").open("wb"):
        process.send_signal(signal.SIGINT)
        assert finish(process) == (130, b"", b"")


def test_a_command_reads_no_more_than_it_may(desk):
    (desk / "long").write_bytes(bytes(1000))
    assert len(streams.read(desk / "long", limit=10)) == 11


def test_streams_that_do_not_block_are_made_to(monkeypatch):
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.write(writer, b"payload")
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert streams.read(None, limit=100) == b"payload"
        assert os.get_blocking(reader)


def test_a_stream_that_was_closed_is_an_error_and_not_empty(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.setattr(sys, "stdout", None)
    for act in (
        lambda: streams.read(None, limit=1),
        lambda: streams.write(b""),
        lambda: streams.write_text(""),
        streams.flush,
    ):
        with pytest.raises(OSError, match="closed"):
            act()
    assert not streams.is_terminal()
    streams.abandon()


def test_nothing_is_said_to_a_closed_stderr(monkeypatch, capfdbinary):
    monkeypatch.setattr(sys, "stderr", None)
    streams.say("a line")
    assert capfdbinary.readouterr() == (b"", b"")


def test_what_a_terminal_would_obey_is_shown_and_not_sent(run):
    refused = run("inspect", "no\x1b[2J\nwhere \udcff")
    assert refused.err == "envelope: no\\x1b[2J\\nwhere \\udcff: No such file or directory\n"


def test_a_stderr_that_fails_changes_nothing(monkeypatch):
    with Path("/dev/full").open("w", encoding="utf-8", buffering=1) as full:
        monkeypatch.setattr(sys, "stderr", full)
        streams.say("a line")
        # What is left in the buffer must not fail again when the file is closed.
        with contextlib.suppress(OSError):
            full.close()


def test_an_output_that_fails_is_named(monkeypatch):
    with contextlib.suppress(OSError), Path("/dev/full").open("w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(OSError, match="No space left") as raised:
            streams.write(b"payload")
        assert raised.value.filename == "stdout"
        streams.abandon()


def test_characters_that_a_terminal_does_not_know_become_question_marks(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    streams.write_text("a \N{BOX DRAWINGS LIGHT VERTICAL}")
    assert raw.getvalue() == b"a ?\n"


def test_an_envelope_in_a_pipeline_is_the_same_bytes(shell, desk):
    (desk / "payload").write_bytes(BIG)
    sealed = shell.redirected(SEAL, "<payload")
    assert len(sealed.out) == len(BIG) + wire.MIN_SIZE
    assert shell.redirected(OPEN, "", sealed.out).out == BIG
