"""A subject: how a sender writes and a receiver reads, and what there is to attack.

Rules of this file: keys are plain data, so that a new process can be given them; what a
receiver remembers besides is what its documentation lets it keep.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any, ClassVar, NamedTuple

MAX_AGE = 30
"""Seconds that a message may be old, wherever a subject can be told so."""
MEMBERS = ("alice", "bob", "carol")
"""The group. Alice is the honest sender, Bob the honest receiver, Carol whatever she likes."""
STRANGER = "stranger"
OBJECTS = "objects/"
"""Topics that begin so carry objects, and a receiver decodes them."""


class Note(NamedTuple):
    """What a sender means to say."""

    payload: bytes = b"open valve 3"
    topic: str = "valves/3"
    to: str = "bob"
    sender: str = "alice"
    """The name that it is written under."""
    age: int = 0
    """Seconds since it was written."""
    nested: int = 0
    """Levels of lists, instead of the payload."""


class Wire(NamedTuple):
    """What travels: a topic in clear, as for a subscription, and the message beside it."""

    topic: bytes
    frames: list[bytes]


class Heard(NamedTuple):
    """What a receiver believes."""

    payload: Any
    sender: str | None = None
    """Who it says has written it; None if it says nothing."""
    skipped: int | None = None
    """How many it says are missing; None if it says nothing."""


class Doubled(NamedTuple):
    """What the maker of a message to two recipients has in hand."""

    keys: tuple[bytes, bytes]
    """Two XChaCha20-Poly1305 keys: Bob is given the first, Carol the second."""
    nonce: bytes
    aad: bytes
    finish: Callable[[bytes], Wire]
    """Makes the message of the ciphertext."""


class Page(NamedTuple):
    """A page of a subject's documentation."""

    title: str
    address: str


class RefusedError(Exception):
    """What code by hand raises where its recipe says to stop."""


Writer = Callable[[Note], Wire]
Reader = Callable[[Wire], Heard]


class Subject(ABC):
    """One way to protect messages. Made anew, with new keys, for each attack.

    Attributes:
        keys: what receivers are given, by ``reader``.
    """

    name: ClassVar[str]
    used_as: ClassVar[str]
    """Which protections are turned on."""
    pages: ClassVar[tuple[Page, ...]] = ()
    absent: ClassVar[Mapping[str, str]] = {}
    """Attacks that there is nothing for, by name, and why."""
    decoder: ClassVar[Callable[..., Any] | None] = None
    """What turns bytes into objects."""
    is_ours: ClassVar[bool] = False
    keys: Any

    @abstractmethod
    def __init__(self, stack: ExitStack) -> None:
        """Make keys; whatever has to be closed goes on the stack."""

    @abstractmethod
    def writer(self, who: str) -> Writer:
        """Return how somebody writes, with what that one has."""

    @staticmethod
    @abstractmethod
    def reader(keys: Any, who: str) -> AbstractContextManager[Reader]:
        """Return how a member reads; whatever raises there is a refusal."""

    def weaker(self) -> Mapping[str, Wire | None]:
        """Return messages that ask for less protection, as anyone on the way can make them.

        None stands for one that did not come as far as to a receiver.
        """
        raise NotImplementedError(f"{self.name}: ``absent`` says why it has none")

    def doubled(self) -> Doubled:
        """Return what Alice has when she means to say two things in one message."""
        raise NotImplementedError(f"{self.name}: ``absent`` says why it has none")

    def bombs(self, who: str, depth: int) -> Sequence[Wire]:
        """Return messages that decode to lists in lists."""
        return [self.writer(who)(Note(topic=f"{OBJECTS}1", nested=depth))]

    def arrived(self) -> None:  # noqa: B027 (most have no connection to wait for)
        """Wait until a new receiver can be reached."""

    def deliver(self, wire: Wire) -> Wire:
        """Put on the way to the receivers what the attacker likes, and return it."""
        return wire


def nested_json(depth: int) -> str:
    """Return lists in lists."""
    return "[" * depth + "]" * depth
