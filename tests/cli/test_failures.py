"""Exit statuses and the lines that go with them: complete, short, and free of secrets."""

from __future__ import annotations

import errno
import sys
import types

import pytest
import typer
from support import identity

from envelope import Sealer, __version__, errors
from envelope.cli import failures, main, status
from envelope.cli.app import app
from envelope.cli.failures import explain
from envelope.cli.status import OF_CODE, REFUSALS, Status
from envelope.errors import CODES, REJECTIONS

COMMANDS = [
    "keygen",
    "public",
    "inspect",
    "seal",
    "open",
    "demo",
    "demo-session",
    "relay",
    "pair",
    "fingerprint",
]


# --- The table --------------------------------------------------------------------------


def test_every_code_has_one_class():
    listed = [code for codes in REFUSALS.values() for code in codes]
    assert sorted(listed) == sorted(CODES)
    assert sorted(OF_CODE) == sorted(CODES)


@pytest.mark.parametrize(
    ("number", "codes"),
    [
        (10, {"too_large", "malformed", "version"}),
        (11, {"policy"}),
        (
            12,
            {"unknown_sender", "reflected", "not_trusted", "not_addressed", "unknown_session"},
        ),
        (13, {"stale", "future", "before_start", "too_old", "replayed"}),
        (14, {"bad_signature", "unseal"}),
        (15, {"store_unavailable"}),
    ],
)
def test_the_numbers_do_not_change(number, codes):
    assert {code for code in CODES if OF_CODE[code] == number} == codes


def test_the_table_names_every_status_and_every_code():
    shown = status.table()
    for one in Status:
        assert f"  {one:3}  " in shown
    for code in CODES:
        assert code in shown


@pytest.mark.parametrize("refusal", REJECTIONS, ids=CODES)
def test_every_refusal_ends_with_its_status_and_its_code(refusal):
    failure = explain(refusal())
    assert failure.status == OF_CODE[refusal.code]
    assert failure.lines[0] == f"envelope refused, {refusal.code}: {refusal.summary}"
    assert len(failure.lines) <= 2


def test_a_remedy_is_for_a_code_that_exists():
    assert set(failures._REMEDIES) <= set(CODES)


# --- Everything else --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "number", "line"),
    [
        (errors.UsageError("do this"), 2, "envelope: do this"),
        (errors.TrustFileError("peers.toml, line 3: no"), 2, "envelope: peers.toml, line 3: no"),
        (errors.KeyFileError("a.key is locked"), 2, "envelope: a.key is locked"),
        (FileNotFoundError(errno.ENOENT, "Not there", "x"), 1, "envelope: x: Not there"),
        (OSError(errno.EIO, "Input/output error"), 1, "envelope: Input/output error"),
        (OSError("no number"), 1, "envelope: no number"),
        (MemoryError(), 1, "envelope: out of memory"),
        (ValueError("not raised"), 1, "envelope: a bug, ValueError; please report it"),
    ],
)
def test_an_error_becomes_one_line(error, number, line):
    assert explain(error) == (number, (line,))


@pytest.mark.parametrize(
    ("error", "number"),
    [(KeyboardInterrupt(), 130), (BrokenPipeError(), 141), (typer.Exit(), 0), (typer.Exit(5), 5)],
)
def test_some_ends_need_no_words(error, number):
    assert explain(error) == (number, ())


@pytest.mark.audit("K5", "E3")
def test_a_bug_is_told_by_its_place_and_not_by_its_text():
    with pytest.raises(ValueError) as raised:
        int("envsec1verysecret")
    (line,) = explain(raised.value).lines
    assert line.startswith("envelope: a bug, ValueError at cli/test_failures.py:")
    assert "verysecret" not in line


def test_a_bug_in_the_library_ends_without_a_traceback(run, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("secret")

    monkeypatch.setattr(Sealer, "seal", broken)
    refused = run("seal", "--identity", "alice.key", "--context", "orders", stdin=b"payload")
    assert refused.status == 1
    assert "a bug, RuntimeError" in refused.err
    assert "secret" not in refused.err


@pytest.mark.parametrize(
    ("arguments", "message", "see"),
    [
        ([], "Missing command", "envelope"),
        (["sael"], "No such command 'sael'", "envelope"),
        (["--verbose"], "No such option: --verbose", "envelope"),
        (["seal", "--verbose"], "No such option: --verbose", "envelope seal"),
        (["keygen"], "Missing argument 'PATH'", "envelope keygen"),
        (["public", "a", "b"], "unexpected extra argument", "envelope public"),
        (["open", "--context", "x", "--max-age", "x"], "'--max-age'", "envelope open"),
        (["demo", "--seed", "x"], "'--seed'", "envelope demo"),
    ],
)
def test_wrong_options_are_told_in_two_lines(run, arguments, message, see):
    refused = run(*arguments)
    assert refused.status == 2
    what, then = refused.err.splitlines()
    assert message in what
    assert then == f"  see: {see} --help"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(run, command):
    shown = run(command, "--help")
    assert (shown.status, shown.err) == (0, "")
    assert shown.text.startswith(f"Usage: envelope {command} ")


def test_the_version_is_that_of_the_package_and_of_the_format(run):
    assert run("--version").text == f"envelope {__version__}, format 1\n"


# --- main -------------------------------------------------------------------------------


def test_main_takes_the_words_of_the_command_line(monkeypatch, capfd, desk):
    monkeypatch.chdir(desk)
    monkeypatch.setattr(sys, "argv", ["envelope", "public", "alice.key"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert capfd.readouterr().out == f"{identity('alice').public}\n"


@pytest.mark.parametrize("missing", ["typer", "rich.console"])
@pytest.mark.parametrize("heard", [True, False])
def test_main_without_the_extra_says_what_to_install(monkeypatch, capfd, missing, heard):
    monkeypatch.delitem(sys.modules, "envelope.cli.app")
    monkeypatch.setitem(sys.modules, missing, None)
    if not heard:
        monkeypatch.setattr(sys, "stderr", None)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("pip install 'signed-envelope[cli]'\n") == err.count("\n") == heard


def test_main_hides_no_other_missing_module(monkeypatch):
    monkeypatch.setitem(sys.modules, "envelope.cli.app", None)
    with pytest.raises(ImportError):
        main()


# --- demo -------------------------------------------------------------------------------


@pytest.fixture
def demo(monkeypatch):
    """Stand in for the demo, which is not this file's subject; keeps its arguments."""
    module = types.ModuleType("envelope.demo")
    module.calls = []

    def run(**arguments):
        module.calls.append(arguments)
        sys.stdout.write("the demo\n")
        return 3 if arguments["follow"] else 0

    module.run = run
    monkeypatch.setitem(sys.modules, "envelope.demo", module)
    return module


def test_demo_hands_its_options_on(run, demo):
    assert run("demo").out == b"the demo\n"
    given = "demo --log a.log --follow --seed 3 --events 9 --svg a.svg"
    ended = run(*given.split(), diagnosed=False)
    assert (ended.status, ended.out) == (3, b"the demo\n")
    first, second = demo.calls
    assert first == {"log": None, "follow": False, "seed": 7, "events": None, "svg": None}
    assert {name: str(value) for name, value in second.items()} == {
        "log": "a.log",
        "follow": "True",
        "seed": "3",
        "events": "9",
        "svg": "a.svg",
    }


def test_these_are_the_commands():
    names = [command.name or command.callback.__name__ for command in app.registered_commands]
    assert names == COMMANDS
