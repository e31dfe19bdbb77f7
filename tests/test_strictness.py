"""What the tests themselves do not forgive: leaks, warnings, errors that nobody sees.

Each is a test of one line that pytest runs in another process, with this project's
configuration and as the Makefile runs it. The first ones pass: they are the others' control.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

FORGIVEN = {
    "a file that is closed": "open(__file__, encoding='ascii').close()",
    "a socket that is closed": "socket.socket().close()",
}
UNFORGIVEN = {
    "a file that is left open": ("open(__file__, encoding='ascii')", "ResourceWarning"),
    "a socket that is left open": ("socket.socket()", "ResourceWarning"),
    "an event loop that is left open": ("asyncio.new_event_loop()", "ResourceWarning"),
    "a child that is left running": ("subprocess.Popen(['sleep', '0'])", "ResourceWarning"),
    "a coroutine that nobody awaits": ("asyncio.sleep(0)", "never awaited"),
    "an error in a thread": (
        "t = threading.Thread(target=int, args=('x',)); t.start(); t.join()",
        "ValueError",
    ),
    "an error in __del__": ("type('Bad', (), {'__del__': lambda self: 1 / 0})()", "ZeroDivision"),
    "a deprecated call": ("warnings.warn('old', DeprecationWarning)", "DeprecationWarning"),
    "bytes beside str": ("b'x' == 'x'", "BytesWarning"),
}

HEAD = "import asyncio, gc, socket, subprocess, threading, warnings\n"
TEST = """
def test_{number}():
    {line}
    gc.collect()
"""


@pytest.fixture(scope="module")
def reported(tmp_path_factory) -> str:
    """Return what pytest says of all lines, each as a test of its own, as `make unit` runs it."""
    folder = tmp_path_factory.mktemp("strictness")
    lines = [*FORGIVEN.values(), *(line for line, _ in UNFORGIVEN.values())]
    tests = [TEST.format(number=number, line=line) for number, line in enumerate(lines)]
    (folder / "test_it.py").write_text(HEAD + "".join(tests), encoding="ascii")
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-bb", "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider",
         "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(folder), "test_it.py"],
        cwd=folder,
        env=os.environ | {"PYTHONWARNDEFAULTENCODING": "1", "COLUMNS": "300"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=110,
        check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


@pytest.mark.parametrize("number", range(len(FORGIVEN)), ids=list(FORGIVEN))
def test_what_is_in_order_passes(reported, number):
    assert f"PASSED test_it.py::test_{number}\n" in reported, reported


@pytest.mark.parametrize("number", range(len(UNFORGIVEN)), ids=list(UNFORGIVEN))
def test_what_is_not_in_order_fails(reported, number):
    _, named = [*UNFORGIVEN.values()][number]
    failed = f"FAILED test_it.py::test_{number + len(FORGIVEN)} - "
    assert failed in reported, reported
    # What pytest prints of this test, between its heading and the next.
    _, _, words = reported.partition(f" test_{number + len(FORGIVEN)} ____")
    assert named in words.partition("\n____")[0], reported


def test_the_makefile_runs_tests_with_the_checks_of_python_on():
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    (line,) = [line for line in text.splitlines() if "coverage run -m pytest" in line]
    assert "-X dev -bb" in line
    assert "PYTHONWARNDEFAULTENCODING=1" in line
