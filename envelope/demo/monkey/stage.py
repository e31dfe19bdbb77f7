"""The parent: begins the processes, kills them, keeps the book, and judges.

Rules of this file: every wait is bounded. Who is killed and when is up to dice with a
seed; what the processes make of it is up to them and the machine. The parent takes part
in nothing.
"""

from __future__ import annotations

import contextlib
import math
import queue
import random
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

from envelope import Identity, clock
from envelope.clock import SECOND
from envelope.demo.channel import FINISH, GO
from envelope.demo.children import Child, DemoError
from envelope.demo.monkey import picture, speech
from envelope.demo.monkey.book import LIMIT, Book, Restart
from envelope.errors import UsageError

_REFRESH: Final = SECOND // 5
_DEADLINE: Final = 30 * SECOND
"""For processes to begin, or to end."""
_QUIET: Final = SECOND
"""Nothing more is expected when nothing came for so long."""

_WHOM: Final = {(speech.CLIENT,): 4, (speech.SERVER,): 4, speech.ENDS: 2}
"""Who is struck: the odds."""
_AT_ONCE: Final = 0.2
"""How likely the next strike is soon after the restart, in the middle of a handshake."""
_SOON: Final = (0.0, 0.2)
_LATER: Final = (0.3, 2.0)
"""Seconds from the recovery to the next strike."""


@dataclass(slots=True)
class Actor:
    """One process of the three, in whichever life.

    Attributes:
        child: the process; None before the first.
        life: how often it has begun.
        since: when the process said that it is ready; 0: not yet.
        report: its newest figures.
        refused: what its processes refused, by code, those that are gone included.
        handshakes: asked for and granted by those that are gone.
    """

    child: Child | None = None
    life: int = 0
    since: int = 0
    report: dict[str, Any] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    handshakes: Counter[str] = field(default_factory=Counter)

    def begin(self, child: Child, life: int) -> None:
        """Go on with another process."""
        self.refused = self.all_refused()
        self.handshakes = self.all_handshakes()
        self.child, self.life, self.since, self.report = child, life, 0, {}

    def all_refused(self) -> Counter[str]:
        """Return what was refused, by code."""
        return self.refused + Counter(self.report.get("refused", {}))

    def all_handshakes(self) -> Counter[str]:
        """Return the sessions that were asked for and granted."""
        return self.handshakes + Counter(
            {name: self.report.get(name, 0) for name in ("asked", "granted")}
        )


class Troupe:
    """The three processes of a run, and the book of what they tell."""

    def __init__(self, book: Book, *, seed: int, watch: Callable[[], None]) -> None:
        """Take the book; entering starts the processes."""
        self.book = book
        self.actors = {name: Actor() for name in (speech.PROXY, *speech.ENDS)}
        self.last_heard = 0
        self._seed = seed
        self._watch = watch
        self._next_look = 0
        self._inbox: queue.SimpleQueue[tuple[Child, Any]] = queue.SimpleQueue()
        self._keys = {name: Identity.generate() for name in speech.ENDS}
        self._public = {name: str(key.public) for name, key in self._keys.items()}

    def __enter__(self) -> Self:
        """Start all."""
        try:
            self._start(speech.PROXY, {"public": self._public, "seed": self._seed})
            self.wait(lambda: bool(self.actors[speech.PROXY].report), _DEADLINE, "the proxy")
            for name in speech.ENDS:
                self._start_end(name)
            self.wait(self.is_ready, _DEADLINE, "client and server")
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
        """End all, whatever happened."""
        self.end()

    def _start(self, name: str, setting: dict[str, Any], life: int = 1) -> None:
        role = speech.PROXY if name == speech.PROXY else "end"
        child = Child(name, f"monkey-{role}", self._inbox)
        self.actors[name].begin(child, life)
        child.tell(setting)

    def _start_end(self, name: str) -> None:
        life = self.book.begin(name)
        setting = {
            "name": name,
            "life": life,
            "secret": self._keys[name].export(),
            "other": self._public[speech.OTHER[name]],
            "endpoint": self.actors[speech.PROXY].report[name],
        }
        self._start(name, setting, life)

    def is_ready(self) -> bool:
        """Tell whether both ends are there."""
        return all(self.actors[name].since for name in speech.ENDS)

    def strike(self, names: tuple[str, ...]) -> Restart:
        """Kill some, begin them again, and wait until they are there."""
        doomed = [child for name in names if (child := self.actors[name].child)]
        for child in doomed:
            child.kill()
        restart = self.book.strike(names)
        for child in doomed:
            # Also waits for its last words to be in the inbox.
            child.end(clock.monotonic() + _DEADLINE)
        self._take_all()
        for name in names:
            self._start_end(name)
        self.wait(self.is_ready, _DEADLINE, " and ".join(names))
        restart.ready_at = max(self.actors[name].since for name in names)
        return restart

    def tell(self, names: tuple[str, ...], command: str) -> None:
        """Send a command to some."""
        for name in names:
            child = self.actors[name].child
            assert child is not None
            child.tell(command)

    # What they tell.

    def wait(self, is_over: Callable[[], bool], within: int, what: str = "") -> bool:
        """Keep the book until something is the case; return whether it is.

        Args:
            is_over: tells so, after each report.
            within: microseconds.
            what: what must be in that time; empty if it need not.

        Raises:
            DemoError: it is not, or a process has ended.
        """
        until = clock.monotonic() + within
        while not is_over():
            now = clock.monotonic()
            if now >= until:
                if what:
                    raise DemoError(f"it takes too long: still waiting for {what}")
                return False
            if now >= self._next_look:
                self._watch()
                self._next_look = clock.monotonic() + _REFRESH
            with contextlib.suppress(queue.Empty):
                self._take(*self._inbox.get(timeout=min(_REFRESH, until - now) / SECOND))
        return True

    def _take_all(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._take(*self._inbox.get_nowait())

    def _take(self, child: Child, report: dict[str, Any] | None) -> None:
        """Take in what a process told."""
        name, actor = child.name, self.actors[child.name]
        is_here = child is actor.child
        if report is None:
            if is_here and not child.was_killed:
                words = child.last_words()
                raise DemoError(f"the process of the {name} ended too early\n{words}".strip())
        elif "said" in report:
            self.book.say(name, *report["said"])
        elif "heard" in report:
            self.last_heard = clock.monotonic()
            self.book.hear(name, actor.life, *report["heard"])
        elif is_here:
            actor.since = report.get("ready", actor.since)
            actor.report.update(report)

    def end(self) -> None:
        """End all processes, at once and for certain."""
        children = [one.child for one in self.actors.values() if one.child is not None]
        for child in children:
            child.dismiss()
        until = clock.monotonic() + 3 * SECOND
        for child in children:
            child.end(until)


def run(*, seed: int, seconds: float) -> int:
    """See ``envelope.demo.monkey.run``."""
    if not (math.isfinite(seconds) and 0 < seconds <= 3600):
        raise UsageError("--seconds is a number above 0, at most 3600")
    console = picture.make_console()
    book = Book()
    scene = picture.Scene(seed=seed, book=book)
    try:
        with picture.live(console, scene) as watch:
            with Troupe(book, seed=seed, watch=watch) as troupe:
                scene.actors = troupe.actors
                _play(troupe, random.Random(seed), seconds)  # noqa: S311 (no secret)
            scene.problems = book.problems()
            watch()
    except DemoError as error:
        print(f"envelope demo-session: {error}", file=sys.stderr, flush=True)  # noqa: T201 (a command line prints)
        return 1
    console.print(picture.draw(scene))
    return 1 if scene.problems else 0


def _play(troupe: Troupe, dice: random.Random, seconds: float) -> None:
    """Run from the first message to the last report.

    Raises:
        DemoError: it did not come to its end.
    """
    book = troupe.book
    troupe.wait(lambda: all(book.heard_by[name] for name in speech.ENDS), LIMIT)
    until = clock.monotonic() + clock.microseconds(seconds)
    pause = _LATER
    while True:
        troupe.wait(lambda: False, clock.microseconds(dice.uniform(*pause)))
        whom = dice.choices(list(_WHOM), list(_WHOM.values()))[0]
        restart = troupe.strike(whom)
        if clock.monotonic() >= until:
            break
        if dice.random() < _AT_ONCE:
            pause = _SOON
        else:
            pause = _LATER
            troupe.wait(lambda: restart.has_recovered, LIMIT)  # noqa: B023 (called at once)
    troupe.wait(lambda: restart.has_recovered, LIMIT)
    # What is under way comes to its end: no more words, and no more lies.
    troupe.tell(speech.ENDS, GO)
    troupe.tell((speech.PROXY,), GO)
    troupe.last_heard = clock.monotonic()
    troupe.wait(lambda: clock.monotonic() - troupe.last_heard >= _QUIET, _DEADLINE)
    troupe.tell((speech.PROXY, *speech.ENDS), FINISH)
    troupe.wait(
        lambda: all("over" in one.report for one in troupe.actors.values()),
        _DEADLINE,
        "the last reports",
    )
