"""A way to carry a message: what it does by itself, and how to begin.

Rules of this file: ``Does`` has the same questions for all, answered by what the
documentation of each says, for the way it is used here. "opt" stands for what a way
carries or offers, but leaves to the caller to ask for or to check.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

CONTEXT = "bench"
AGE = 30
"""Seconds; given to each way that checks an age if told to."""

YES, NO, OPT, STOPS = "yes", "no", "opt", "stops"

Ends = tuple[Callable[[Any], Any], Callable[[Any], Any]]
"""How to write a payload (or a list of them) and how to read it back."""
Start = Callable[[], Ends]
"""Makes new ends with the same keys."""


class Does(NamedTuple):
    """What a way does by itself."""

    signed: str = NO
    """A signature that a public key verifies."""
    encrypted: str = NO
    to: str = "all"
    """Who can read: all, so many recipients, or who has the one key that all share."""
    changed: str = YES
    """A changed message is refused."""
    context: str = NO
    """Bound to what the message is for; read for something else it is refused."""
    replayed: str = NO
    """A repeated message is refused."""
    stale: str = NO
    """A late message is refused."""
    permission: str = NO
    """Whether this sender may say this here is checked."""
    lost: str = NO
    """A lost message is noticed."""


QUESTIONS = {
    "signed": "sign with a key whose public half verifies",
    "encrypted": "encrypt",
    "changed": "refuse a changed payload",
    "context": "bind to a context",
    "replayed": "refuse a replay",
    "stale": "refuse what is late",
    "permission": "check what the sender may do",
    "lost": "notice a loss",
}


class Way(NamedTuple):
    """One row of the tables."""

    name: str
    does: Does
    prepare: Callable[[], Start]
    """Imports what it needs and makes keys."""
    each: int = 1
    """Messages written at once, as a list if more than one."""
    note: str = ""
    """What the columns do not say: the end of a sentence about it."""
    kind: str = "peer"
    """"limit", "ours" or "peer"."""
    excused: tuple[type[Exception], ...] = (Exception,)
    """What it may raise to say that it cannot be measured; a peer has its own errors."""

    @property
    def limit(self) -> str | None:
        """The name of the limit that its times are multiples of."""
        if self.does.signed != YES:
            return None
        return SIGN_ENCRYPT if self.does.encrypted == YES else SIGN


ANYONE = "anyone can write one, so it names no sender"
SHARED = "whoever can verify one can write one, for there is one key"
SIGN, SIGN_ENCRYPT = "raw sign", "raw sign + AEAD"


def need(module: str) -> Any:
    """Import what only the environment of this benchmark has."""
    return import_module(module)


def steady(write: Callable[[Any], Any], read: Callable[[Any], Any]) -> Start:
    """Return a start for ends that keep no state."""
    return lambda: (write, read)
