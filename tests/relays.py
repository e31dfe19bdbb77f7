"""Relays as processes of the command line, and files that say what they do.

Rules of this file: a relay is ready when it is made; its figures are what it said at its
end. Nothing here waits without a limit.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

from envelope.clock import SECOND, monotonic

ROOT = Path(__file__).parents[1]


class Relay:
    """One relay's process; the figures of its lives are kept.

    Args:
        file: its configuration.
        files: how many files it may have open; None: as many as whoever starts it.
    """

    def __init__(self, file: Path, *, files: int | None = None) -> None:
        self.file = file
        # By a shell: what this process may open is for all the tests in it.
        self._limited = [] if files is None else ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh"]
        self.figures: dict = {}
        self.begin()

    def begin(self) -> None:
        self.process = subprocess.Popen(
            [*self._limited, sys.executable, "-m", "envelope.cli", "relay", self.file, "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
        )
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        assert line.startswith(b"envelope relay: "), line + self.process.stderr.read()
        # What it says later must not fill the pipe.
        self.said: list[bytes] = []
        self._reader = threading.Thread(target=self._read, args=(self.process.stderr,))
        self._reader.start()

    def _read(self, stderr) -> None:
        self.said.extend(stderr)

    def end(self) -> dict:
        """Ask it to end, and return its figures."""
        self.process.terminate()
        assert self.process.stdout is not None
        out = self.process.stdout.read()
        assert self.process.wait(timeout=20) == 0, self.said
        self._close()
        self.figures = json.loads(out)
        return self.figures

    def kill(self) -> None:
        self.process.kill()
        assert self.process.wait(timeout=20) == -signal.SIGKILL, self.said
        self._close()

    def _close(self) -> None:
        self._reader.join()
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.process.stdout.close()
        self.process.stderr.close()


def flow(name, plain, sealed, **more) -> str:
    """Return a flow as TOML; ends are (type, how, place)."""
    lines = [f'name = "{name}"', f'context = "flow.{name}"']
    for key, (kind, how, place) in (("plain", plain), ("sealed", sealed)):
        lines.append(f'{key} = {{ type = "{kind}", {how} = "{place}" }}')
    lines += [f"{key} = {json.dumps(value)}" for key, value in more.items()]
    return "\n".join(lines)


def wait_until(is_so, *, seconds=15) -> None:
    """Wait for a condition that processes bring about."""
    pause = threading.Event()
    end = monotonic() + seconds * SECOND
    while not is_so():
        assert monotonic() < end
        pause.wait(0.01)
