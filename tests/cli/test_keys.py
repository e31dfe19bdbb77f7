"""keygen and public: keys made, locked, shown; passphrases from a file or a terminal."""

from __future__ import annotations

import contextlib
import os
import pty
import stat
import subprocess

import pytest
from support import identity

from envelope import Identity, Node, keyfile
from envelope.cli import passphrases
from envelope.cli.parties import NODE_IDENTITY
from envelope.keyfile import Cost

PASSPHRASE = "correct horse"


def private(path, content):
    path.write_bytes(content)
    path.chmod(0o600)
    return path.name


@pytest.fixture
def cheap(monkeypatch):
    """Let a new lock cost nothing; what a lock is worth is not this file's subject."""
    monkeypatch.setitem(keyfile.save.__kwdefaults__, "cost", Cost(passes=1, memory_kib=8))


@pytest.fixture
def answers(monkeypatch):
    """Answer on a terminal that this process need not have; keeps what was asked."""
    asked = []

    def answer(*given):
        replies = iter(given)

        def ask(prompt):
            asked.append(prompt)
            reply = next(replies)
            if isinstance(reply, BaseException):
                raise reply
            return reply

        monkeypatch.setattr(passphrases, "_TERMINAL", passphrases.Path(os.devnull))
        monkeypatch.setattr(passphrases.getpass, "getpass", ask)
        return asked

    return answer


# --- keygen -----------------------------------------------------------------------------


def test_keygen_writes_the_key_whose_public_text_it_prints(run, desk):
    made = run("keygen", "new.key")
    assert made.status == 0
    assert made.out == f"{Identity.load(desk / 'new.key').public}\n".encode()


def test_keygen_makes_a_node_that_the_library_loads(run, desk):
    made = run("keygen", "--node", "new.node")
    node = Node.load(desk / "new.node")
    assert made.out == f"{node.identity.public}\n".encode()
    assert stat.S_IMODE((desk / "new.node").stat().st_mode) == 0o700
    assert (desk / "new.node" / NODE_IDENTITY).is_file()


def test_keygen_never_makes_a_node_twice(run):
    run("keygen", "--node", "new.node")
    again = run("keygen", "--node", "new.node")
    assert again.status == 2
    assert "exists already" in again.err


def test_keygen_says_why_a_key_cannot_be_written(run):
    refused = run("keygen", "nowhere/new.key")
    assert refused.status == 2
    assert "nowhere/new.key: No such file or directory" in refused.err


@pytest.mark.parametrize("node", [False, True])
def test_keygen_locks_with_the_passphrase_of_a_file(run, desk, cheap, node):
    options = ["--node"] if node else []
    made = run("keygen", "new", "--passphrase-file", "passphrase", *options)
    assert made.status == 0
    file = desk / "new" / NODE_IDENTITY if node else desk / "new"
    assert f"{Identity.load(file, PASSPHRASE).public}\n" == made.text


def test_keygen_asks_twice_and_locks(run, desk, cheap, answers):
    asked = answers(PASSPHRASE, PASSPHRASE)
    assert run("keygen", "new.key", "--passphrase").status == 0
    assert asked == ["Passphrase for new.key: ", "Again: "]
    assert Identity.load(desk / "new.key", PASSPHRASE)


def test_keygen_makes_nothing_if_the_two_answers_differ(run, desk, answers):
    answers(PASSPHRASE, "correct house")
    refused = run("keygen", "new.key", "--passphrase")
    assert refused.status == 2
    assert "differ; nothing was written" in refused.err
    assert not (desk / "new.key").exists()


def test_keygen_makes_nothing_with_an_empty_passphrase(run, desk, answers):
    answers("", "")
    refused = run("keygen", "new.key", "--passphrase")
    assert refused.status == 2
    assert not (desk / "new.key").exists()


def test_a_passphrase_is_asked_for_or_read_and_not_both(run, desk):
    refused = run("keygen", "new.key", "--passphrase", "--passphrase-file", "passphrase")
    assert refused.status == 2
    assert "give one of them" in refused.err
    assert not (desk / "new.key").exists()


# --- public -----------------------------------------------------------------------------


def test_public_prints_the_public_text_and_the_key_id_if_asked(run):
    alice = identity("alice")
    assert run("public", "alice.key").text == f"{alice.public}\n"
    assert run("public", "alice.key", "--key-id").text == f"{alice.public}\n{alice.key_id.hex()}\n"


def test_public_reads_a_node_whose_trust_file_is_broken(run, desk):
    made = run("keygen", "--node", "new.node")
    (desk / "new.node" / "peers.toml").write_text("[[peer", encoding="utf-8")
    assert run("public", "new.node").out == made.out


def test_public_unlocks_with_a_file_or_by_asking(run, answers):
    expected = f"{identity('alice').public}\n"
    assert run("public", "locked.key", "--passphrase-file", "passphrase").text == expected
    asked = answers(PASSPHRASE)
    assert run("public", "locked.key").text == expected
    assert asked == ["Passphrase for locked.key: "]


def test_public_asks_for_nothing_that_is_not_locked(run, answers):
    asked = answers()
    assert run("public", "alice.key").status == 0
    assert asked == []


@pytest.mark.parametrize("given", [b"battery\n", b"correct  horse\n"])
def test_a_wrong_passphrase_is_named_and_not_shown(run, desk, given):
    file = private(desk / "other", given)
    refused = run("public", "locked.key", "--passphrase-file", file)
    assert refused.status == 2
    assert "wrong passphrase" in refused.err
    assert given.decode().strip() not in refused.err


def test_no_answer_is_no_passphrase(run, answers):
    answers(EOFError())
    refused = run("public", "locked.key")
    assert refused.status == 2
    assert "no passphrase was given" in refused.err


def test_an_interrupted_question_ends_quietly(run, answers):
    answers(KeyboardInterrupt())
    assert run("public", "locked.key", diagnosed=False) == (130, b"", "")


def test_without_a_terminal_nothing_is_read_from_stdin(run, monkeypatch):
    monkeypatch.setattr(passphrases, "_TERMINAL", passphrases.Path("no such terminal"))
    refused = run("public", "locked.key", stdin=PASSPHRASE.encode())
    assert refused.status == 2
    assert "no terminal to ask for a passphrase on; give --passphrase-file FILE" in refused.err


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda _: None, "does not exist; make it with: envelope keygen x.key"),
        (lambda path: path.mkdir(), "x.key/identity.key does not exist"),
        (os.mkfifo, "is not a file"),
        (lambda path: private(path, b"hello\n"), "is not an identity"),
        (lambda path: private(path, b"envsec1aaaa\n"), "is not an identity"),
        (lambda path: path.symlink_to(path), "cannot read x.key"),
    ],
)
def test_a_key_file_that_is_none_is_refused_with_the_reason(run, desk, make, reason):
    make(desk / "x.key")
    refused = run("public", "x.key", "--passphrase-file", "passphrase")
    assert refused.status == 2
    assert reason in refused.err
    assert run("public", "x.key").status == 2


@pytest.mark.parametrize("command", ["public {}", "seal --context orders --node {}"])
def test_a_name_that_no_file_can_have_is_a_usage_error(run, command):
    refused = run(*command.format("x" * 300).split())
    assert refused.status == 2


# --- passphrase files -------------------------------------------------------------------


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n"])
def test_a_passphrase_file_has_one_line_however_it_ends(run, desk, ending):
    file = private(desk / "other", PASSPHRASE.encode() + ending)
    assert run("public", "locked.key", "--passphrase-file", file).status == 0


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "expected one line"),
        (b"\n", "expected one line"),
        (b"one\ntwo\n", "expected one line"),
        (b"x" * 4097, "expected one line"),
        (b"\xff\xfe\n", "not UTF-8"),
    ],
)
def test_a_passphrase_file_that_is_none_is_refused(run, desk, content, reason):
    file = private(desk / "other", content)
    refused = run("public", "locked.key", "--passphrase-file", file)
    assert refused.status == 2
    assert reason in refused.err


@pytest.mark.audit("K7")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o622])
def test_a_passphrase_file_that_others_can_touch_is_refused(run, desk, mode):
    (desk / "passphrase").chmod(mode)
    refused = run("public", "locked.key", "--passphrase-file", "passphrase")
    assert refused.status == 2
    assert "chmod 600 passphrase" in refused.err


def test_a_passphrase_may_come_through_a_pipe(run):
    reader, writer = os.pipe()
    os.write(writer, PASSPHRASE.encode())
    os.close(writer)
    with contextlib.closing(os.fdopen(reader, "rb")):
        assert run("public", "locked.key", "--passphrase-file", f"/dev/fd/{reader}").status == 0


def test_a_passphrase_file_that_is_missing_is_the_environments_failure(run):
    refused = run("public", "locked.key", "--passphrase-file", "nowhere")
    assert refused.status == 1
    assert refused.err == "envelope: nowhere: No such file or directory\n"


# --- a real terminal --------------------------------------------------------------------


class Terminal:
    """A terminal with a person at it."""

    def __init__(self):
        self.master, self.slave = pty.openpty()
        self.name = os.ttyname(self.slave)
        self.screen = b""

    def expect(self, text):
        while text not in self.screen:
            self.screen += os.read(self.master, 1024)

    def type(self, text):
        os.write(self.master, text)

    def close(self):
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal():
    with contextlib.closing(Terminal()) as terminal:
        yield terminal


def finish(process):
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


PIPES = {
    "stdin": subprocess.PIPE,
    "stdout": subprocess.PIPE,
    "stderr": subprocess.PIPE,
}


def test_a_passphrase_is_typed_twice_without_echo(shell, desk, terminal):
    process = shell.start("envelope keygen new.key --passphrase", terminal=terminal.name, **PIPES)
    terminal.expect(b"Passphrase for new.key: ")
    terminal.type(b"correct horse\n")
    terminal.expect(b"Again: ")
    terminal.type(b"correct horse\n")
    status, out, err = finish(process)
    assert (status, err) == (0, b"")
    assert f"{Identity.load(desk / 'new.key', PASSPHRASE).public}\n".encode() == out
    assert b"horse" not in terminal.screen


def test_the_passphrase_comes_from_the_terminal_and_the_payload_from_stdin(shell, terminal, run):
    process = shell.start(
        "envelope seal --identity locked.key --context orders", terminal=terminal.name, **PIPES
    )
    terminal.expect(b"Passphrase for locked.key: ")
    terminal.type(b"correct horse\n")
    sent, err = process.communicate(b"payload", timeout=60)
    assert (process.returncode, err) == (0, b"")
    assert run("open", "--trust", "peers.toml", "--context", "orders", stdin=sent).out == b"payload"


def test_ctrl_c_at_the_question_ends_quietly(shell, terminal):
    process = shell.start("envelope public locked.key", terminal=terminal.name, **PIPES)
    terminal.expect(b"Passphrase for locked.key: ")
    terminal.type(b"\x03")
    assert finish(process) == (130, b"", b"")
