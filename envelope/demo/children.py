"""The child processes, seen from the parent: begun, heard, and ended whatever happens.

Rules of this file: a child is a fresh interpreter, never a fork. What it must know
goes through its stdin, keys too. A child that ends too early is an error with its
last words. Leaving the company ends every child; if the parent is killed, their
stdin closes and they end by themselves.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final, Self

from envelope import clock

_GRACE: Final = 3.0
"""Seconds that a child has to end by itself."""
_REFRESH: Final = 200_000
"""Microseconds between two looks at a wait: five pictures a second."""
_LAST_WORDS: Final = 2000
"""Bytes of a failed child's stderr that are shown, from its end."""


class DemoError(Exception):
    """The demonstration did not come to its end. The text is for a person."""


class Child:
    """One child process. Its reports arrive in the inbox with itself.

    Attributes:
        name: what the parent calls it.
        was_killed: whether the parent killed it on purpose.
    """

    def __init__(self, name: str, role: str, inbox: queue.SimpleQueue[tuple[Child, Any]]) -> None:
        """Start it; it waits for its setting."""
        self.name = name
        self.was_killed = False
        self._inbox = inbox
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (closed by end())
        # The same modules as here, in the same order; -P adds no folder to them.
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)  # noqa: PTH109 (a str)
        self._process = subprocess.Popen(  # noqa: S603 (this very program)
            [sys.executable, "-P", "-m", "envelope.demo.child", role],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env={**os.environ, "PYTHONPATH": path},
            # Ctrl-C is for the parent, which says goodbye in order.
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name=name, daemon=True)
        self._reader.start()

    def tell(self, line: str | Mapping[str, Any]) -> None:
        """Send a command, or a setting."""
        assert self._process.stdin is not None
        text = line if isinstance(line, str) else json.dumps(line)
        # If it is gone, the reader says so.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(text.encode() + b"\n")
            self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            for line in self._process.stdout:
                self._inbox.put((self, json.loads(line)))
        finally:
            self._inbox.put((self, None))

    def last_words(self) -> str:
        """Return the end of what it wrote to stderr."""
        self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, self._stderr.tell() - _LAST_WORDS))
        return self._stderr.read().decode(errors="replace").strip()

    def dismiss(self) -> None:
        """Close its stdin, which tells it to go."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def kill(self) -> None:
        """Kill it, as a crash would: it gets to do nothing more."""
        self.was_killed = True
        self._process.kill()

    def end(self, until: int) -> None:
        """Wait for its end up to a time, then kill it; close what is left."""
        assert self._process.stdout is not None
        try:
            self._process.wait(max(0, until - clock.monotonic()) / clock.SECOND)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        self.dismiss()
        self._process.stdout.close()
        self._stderr.close()


class Company:
    """All children of one run, and what they have reported.

    Attributes:
        reports: by name, the newest value of everything that was reported.
    """

    def __init__(self, roles: Mapping[str, str]) -> None:
        """Take the role of each name; entering starts them."""
        self._roles = roles
        self._children: dict[str, Child] = {}
        self._inbox: queue.SimpleQueue[tuple[Child, Any]] = queue.SimpleQueue()
        self.reports: dict[str, dict[str, Any]] = {name: {} for name in roles}

    def __enter__(self) -> Self:
        """Start all children."""
        try:
            for name, role in self._roles.items():
                self._children[name] = Child(name, role, self._inbox)
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End all children."""
        self.end()

    def tell(self, names: tuple[str, ...], line: str | Mapping[str, Any]) -> None:
        """Send the same to several."""
        for name in names:
            self._children[name].tell(line)

    def replace(self, name: str) -> dict[str, Any]:
        """End a child's process and start another one; return what it had reported."""
        old = self._children[name]
        self._children[name] = Child(name, self._roles[name], self._inbox)
        old.dismiss()
        old.end(clock.monotonic() + round(_GRACE * clock.SECOND))
        reported, self.reports[name] = self.reports[name], {}
        return reported

    def wait(
        self,
        is_over: Callable[[], bool],
        what: str,
        *,
        until: int | None,
        watch: Callable[[], None],
    ) -> None:
        """Listen to reports until something is the case.

        Args:
            is_over: tells so, after each report.
            what: what is waited for, for the error.
            until: the time (monotonic) at which it is too late; None for never.
            watch: called a few times a second.

        Raises:
            DemoError: too late, or a child has ended.
        """
        next_look = 0
        while not is_over():
            now = clock.monotonic()
            if until is not None and now >= until:
                raise DemoError(f"it takes too long: still waiting for {what}")
            if now >= next_look:
                watch()
                next_look = clock.monotonic() + _REFRESH
            with contextlib.suppress(queue.Empty):
                child, report = self._inbox.get(timeout=_REFRESH / clock.SECOND)
                if self._children[child.name] is not child:
                    continue  # Last words of one that was replaced.
                if report is None:
                    words = child.last_words()
                    raise DemoError(f"the process of {child.name} ended too early\n{words}".strip())
                self.reports[child.name].update(report)

    def end(self) -> None:
        """End all children, at once and for certain."""
        for child in self._children.values():
            child.dismiss()
        until = clock.monotonic() + round(_GRACE * clock.SECOND)
        while self._children:
            name, child = next(iter(self._children.items()))
            try:
                child.end(until)
            except KeyboardInterrupt:
                # Impatience kills the rest, and does not leave them behind.
                until = 0
            else:
                del self._children[name]
