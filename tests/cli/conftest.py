"""A person's desk: a folder, a shell in it, and keys of people who know each other.

Rules of this file: ``shell`` starts real processes, ``run`` does the same within
this one; both hold every outcome to what errors owe a person.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pexpect
import pytest
from support import identity
from typer.testing import CliRunner

import envelope
from envelope import keyfile
from envelope.cli.app import app
from envelope.keyfile import Cost

PACKAGE = Path(envelope.__file__).parents[1]
PEOPLE = ("alice", "bob", "carol")
PASSPHRASE = "correct horse"


class Outcome(NamedTuple):
    """How a command ended."""

    status: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()


def held_to_account(outcome: Outcome, *, diagnosed: bool = True) -> Outcome:
    """Return the outcome, if it is one that a person can be shown."""
    assert "Traceback" not in outcome.err
    assert 'File "' not in outcome.err
    lines = outcome.err.splitlines()
    assert len(lines) <= 2
    if outcome.status and diagnosed:
        assert lines
        assert lines[0].startswith("envelope")
        assert outcome.out == b""
    return outcome


def child_environment() -> dict[str, str]:
    """Return the environment of a child that imports the package under test."""
    quiet = {k: v for k, v in os.environ.items() if k != "PYTHONWARNDEFAULTENCODING"}
    paths = [str(PACKAGE), *quiet.get("PYTHONPATH", "").split(os.pathsep)]
    return quiet | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "TERM": "xterm"}


def words(line: str) -> list[str]:
    """Return the arguments of a line that begins with the command's name."""
    name, *arguments = shlex.split(line)
    assert name == "envelope"
    return arguments


class Shell:
    """Runs ``envelope ...`` as a process, in the folder of the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, line: str, stdin: bytes = b"", **more: object) -> Outcome:
        command = [sys.executable, "-m", "envelope.cli", *words(line)]
        return self._finish(command, input=stdin, **more)

    def redirected(
        self, line: str, redirection: str, stdin: bytes = b"", **more: object
    ) -> Outcome:
        """Run a line with a redirection of the real shell, such as ``>&-``."""
        command = shlex.join([sys.executable, "-m", "envelope.cli", *words(line)])
        return self._finish(["sh", "-c", f"{command} {redirection}"], input=stdin, **more)

    def script(self, code: str) -> Outcome:
        """Run Python that ends as the command line would."""
        return self._finish([sys.executable, "-c", code], input=b"")

    def _finish(self, command: list[str], *, diagnosed: bool = True, **more: object) -> Outcome:
        done = subprocess.run(
            command,
            capture_output=True,
            cwd=self.folder,
            env=child_environment(),
            check=False,
            timeout=60,
            **more,
        )
        outcome = Outcome(done.returncode, done.stdout, done.stderr.decode())
        return held_to_account(outcome, diagnosed=diagnosed)

    def start(self, line: str, **streams: object) -> subprocess.Popen:
        """Start a command that can be interrupted, whatever the test run's own signals."""
        boot = (
            "import os, signal, sys\n"
            f"signal.signal({int(signal.SIGINT)}, signal.SIG_DFL)\n"
            "terminal, *rest = sys.argv[1:]\n"
            # The first terminal that a session leader opens becomes its own.
            "terminal and os.close(os.open(terminal, os.O_RDWR))\n"
            "os.execv(sys.executable, [sys.executable, '-m', 'envelope.cli', *rest])\n"
        )
        terminal = streams.pop("terminal", "")
        return subprocess.Popen(
            [sys.executable, "-c", boot, terminal, *words(line)],
            cwd=self.folder,
            env=child_environment(),
            start_new_session=True,
            **streams,
        )

    def at_terminal(self, line: str) -> pexpect.spawn:
        """Start a command with a terminal of its own, to type at."""
        return pexpect.spawn(
            sys.executable,
            ["-m", "envelope.cli", *words(line)],
            cwd=str(self.folder),
            env=child_environment(),
            encoding="utf-8",
            timeout=60,
            dimensions=(24, 400),
            # A test run in the background may ignore it, and its children would, too.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )


@pytest.fixture
def shell(desk):
    return Shell(desk)


@pytest.fixture
def run(desk, monkeypatch):
    """Run a command within this process: run("public", "alice.key")."""
    monkeypatch.chdir(desk)

    def run(*arguments: object, stdin: bytes = b"", diagnosed: bool = True) -> Outcome:
        result = CliRunner().invoke(app, [str(one) for one in arguments], input=stdin)
        assert result.exception is None or isinstance(result.exception, SystemExit)
        outcome = Outcome(result.exit_code, result.stdout_bytes, result.stderr)
        return held_to_account(outcome, diagnosed=diagnosed)

    return run


@pytest.fixture(scope="session")
def furniture(tmp_path_factory):
    """NAME.key for everybody, a locked one, and a trust file; made once, since keys are synced."""
    folder = tmp_path_factory.mktemp("furniture")
    tables = []
    for name in PEOPLE:
        identity(name).save(folder / f"{name}.key")
        tables.append(
            f'[[peer]]\nname = "{name}"\nkey = "{identity(name).public}"\n'
            'contexts = ["orders", "orders.*"]\n'
        )
    identity("mallory").save(folder / "mallory.key")
    (folder / "peers.toml").write_text("\n".join(tables), encoding="utf-8")
    keyfile.save(
        folder / "locked.key",
        identity("alice")._seed,
        comment=f"public: {identity('alice').public}",
        passphrase=PASSPHRASE,
        cost=Cost(passes=1, memory_kib=8),
    )
    passphrase = folder / "passphrase"
    passphrase.write_text(PASSPHRASE + "\n", encoding="utf-8")
    passphrase.chmod(0o600)
    return folder


@pytest.fixture
def desk(furniture, tmp_path):
    """A folder of the test's own, with the furniture in it."""
    return shutil.copytree(furniture, tmp_path / "desk")
