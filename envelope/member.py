"""One of a fleet, and the text by which it is handed to its process: Member (SPEC 13.4).

Rules of this file:

- A Member holds a secret: no pickle, no copy, and it prints as its name.
- Keys that were never used need not wait for a cold start (SPEC 8.7). So that no second
  memory says so of them, a process says it of a key once, or gives it away once. What can
  be read again - a folder, an environment variable, an old text - never says it.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import stat
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NoReturn, Self

from envelope import clock as clocks
from envelope.clock import Clock
from envelope.errors import KeyFileError, UsageError
from envelope.forks import process
from envelope.identity import Identity, PublicIdentity, read_handle
from envelope.opener import Opener
from envelope.policy import Policy
from envelope.primitives import H
from envelope.replay import MemoryReplayStore, ReplayStore
from envelope.sealer import Sealer
from envelope.trust import Peer, TrustStore

FIRST_LIFE: Final = 60 * clocks.SECOND
"""Microseconds within which a handed-out text is taken up as new: enough for a process to
start. Whoever starts a process again with an old text gets a cold start after that."""

MAX_TEXT: Final = 2**20
"""About seven thousand members; beyond that a folder is the way."""

PEERS: Final = "peers.toml"
"""The trust file of a fleet's folder."""

_PREFIX: Final = "envmember1"
_CHECK: Final = 16
"""Characters of the checksum: 10 bytes."""
_MAX_SPENT: Final = 65_536
_name = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class _FirstLives:
    """The keys whose first life this process began or gave away; the last 65,536."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._life = process.life()
        self._spent: dict[bytes, None] = {}
        process.adopt(self)

    def take(self, key_id: bytes, life: int | None) -> bool:
        """Tell, once, whether a key that came in this life of the process is new."""
        now = process.life()  # In a child this replaces the lock, before it is taken.
        with self._lock:
            if self._life != now:  # A child: what it is handed is its own to begin.
                self._spent = {}
                self._life = now
            is_first = life == now and key_id not in self._spent
            self._spent[key_id] = None
            if len(self._spent) > _MAX_SPENT:
                # A signal handler may have dropped the same one meanwhile.
                self._spent.pop(next(iter(self._spent)), None)
            return is_first


first_lives = _FirstLives()


class Member:
    """One of a fleet: its identity, and its trust in all. Thread-safe.

    Get one with ``fleet[name]``, ``parse``, ``from_env``, ``from_fd`` or ``load``. Not
    copied, not pickled: it holds a secret.

    The replay memory is this process's own and shared by all openers of this member. In a
    forked child an opener of the parent opens nothing (``store_unavailable``), and a new
    one begins cold.

    Attributes:
        name: its name in the fleet.
        identity: its secret half.
        trust: all members, itself included: what comes back to it is ``reflected``. One
            that was loaded from a folder follows ``peers.toml``.
    """

    def __init__(
        self, name: str, identity: Identity, trust: TrustStore, *, life: int | None, clock: Clock
    ) -> None:
        """Use ``Fleet``, ``parse``, ``from_env``, ``from_fd`` or ``load``."""
        if not any(peer.name == name and peer.public == identity.public for peer in trust):
            raise UsageError(f"among the peers there is no {name!r} with this key")
        self.name = name
        self.identity = identity
        self.trust = trust
        self._life = life
        self._clock = clock
        self._replay: MemoryReplayStore | None = None
        self._replay_life = life
        self._lock = threading.RLock()
        process.adopt(self)

    @classmethod
    def parse(cls, member_text: str, *, clock: Clock = clocks.wall) -> Self:
        """Read what ``Fleet.hand_out`` returned.

        A text is for one process. Parsed in a second one within a minute, it permits
        replays there; parsed again in the same one or later than that, it begins cold.

        Args:
            member_text: the text.
            clock: wall clock in Unix microseconds.

        Raises:
            UsageError: not such a text; the message does not repeat it.
        """
        return cls._decode(member_text, may_be_new=True, clock=clock)

    @classmethod
    def from_env(cls, variable: str = "ENVELOPE_MEMBER") -> Self:
        """Read what ``Fleet.hand_out`` returned from an environment variable.

        It begins cold: a variable outlives its reader, and whatever starts the process
        again starts it with the same one. The variable stays set, child processes
        inherit it, and other processes of this user can read it.

        Raises:
            KeyFileError: the variable is not set, or holds no member.
        """
        value = os.environ.get(variable)
        if value is None:
            raise KeyFileError(f"the environment variable {variable} is not set")
        try:
            return cls._decode(value, may_be_new=False, clock=clocks.wall)
        except UsageError as error:
            raise KeyFileError(f"the environment variable {variable}: {error}") from None

    @classmethod
    def from_fd(cls, fd: int) -> Self:
        """Read what ``Fleet.hand_out`` returned from a file descriptor, such as a pipe's.

        Waits until the other end is closed. Then the descriptor is closed, unless it is
        standard input (0). What was no pipe or socket begins cold: it can be read again.

        Args:
            fd: the descriptor, as the parent passed it on.

        Raises:
            KeyFileError: it cannot be read, or holds no member.
            UsageError: no descriptor.
        """
        is_pipe = _is_pipe(fd)
        member_text = read_handle(fd, MAX_TEXT + 1)
        try:
            return cls._decode(member_text, may_be_new=is_pipe, clock=clocks.wall)
        except UsageError as error:
            raise KeyFileError(f"file descriptor {fd}: {error}") from None

    @classmethod
    def load(cls, folder: str | Path, name: str) -> Self:
        """Take up a member of a fleet that was saved. It begins cold.

        Args:
            folder: where ``NAME.key`` and ``peers.toml`` are; keys of others need not be.
            name: of the member.

        Raises:
            KeyFileError: the key is missing, unsafe, damaged or locked, or another one
                stands under this name in ``peers.toml``.
            TrustFileError: ``peers.toml`` is missing or wrong.
            UsageError: no path, or no name of a member.
        """
        path = as_folder(folder)
        identity = Identity.load(path / f"{check_name(name)}.key")
        trust = TrustStore.load(path / PEERS)
        try:
            return cls(name, identity, trust, life=None, clock=clocks.wall)
        except UsageError as error:
            raise KeyFileError(f"{path / PEERS} and {name}.key do not match: {error}") from None

    @classmethod
    def _decode(cls, member_text: str, *, may_be_new: bool, clock: Clock) -> Self:
        document = _read(member_text)
        now = clocks.check(clock())
        # What is wrong is told by names and patterns, and a secret may stand in their place:
        # none of those errors may hang on ours.
        with contextlib.suppress(UsageError):
            match document:
                case [str(name), str(key), int(until), list(rows)] if type(until) is int:
                    identity = Identity.parse(key)
                    trust = TrustStore(_peer(row) for row in rows)
                    is_new = may_be_new and 0 <= until - now <= FIRST_LIFE
                    life = process.life() if is_new else None
                    return cls(name, identity, trust, life=life, clock=clock)
        raise UsageError(f"this {_PREFIX}... text does not hold a member")

    @property
    def replay(self) -> MemoryReplayStore:
        """The replay memory of this process; it begins when it is first asked for. Raises nothing.

        It covers the default ``max_future``. It does not begin cold if this process made
        the fleet or was handed the member, and nobody else was meanwhile.
        """
        life = process.life()  # In a child this replaces the lock, before it is taken.
        with self._lock:
            if self._replay is None or self._replay_life != life:
                is_first = first_lives.take(self.identity.key_id, self._life)
                self._replay = MemoryReplayStore(first_life=is_first, clock=self._clock)
                self._replay_life = life
            return self._replay

    def sealer(
        self,
        context: str,
        *,
        to: Iterable[str | PublicIdentity | Peer] = (),
        sealed: bool | None = None,
    ) -> Sealer:
        """Return a sealer of this member.

        Args:
            context: the application's name for the flow.
            to: recipients; a str is the name of a member.
            sealed: as for ``Sealer``.

        Raises:
            UsageError: as ``Sealer``; or nobody has this name.
        """
        if not isinstance(to, list | tuple | set | frozenset):
            raise UsageError('to is a list: to=["worker-0"]')
        members = [self.trust[one] if isinstance(one, str) else one for one in to]
        return Sealer(self.identity, context=context, to=members, sealed=sealed, clock=self._clock)

    def opener(
        self,
        context: str,
        *,
        policy: Policy | None = None,
        replay: ReplayStore | None = None,
        domain: str | None = None,
    ) -> Opener:
        """Return an opener of this member.

        Args:
            context: the application's name for the flow.
            policy: as for ``Opener``; a larger ``max_future`` needs a store that covers it.
            replay: a replay memory to use in place of this member's own, such as a
                ``SQLiteReplayStore``. The member's own then never begins without a wait.
            domain: as for ``Opener``.

        Raises:
            UsageError: as ``Opener``.
        """
        if replay is None:
            replay = self.replay
        else:
            first_lives.take(self.identity.key_id, self._life)
        return Opener(
            self.trust,
            context=context,
            identity=self.identity,
            replay=replay,
            policy=policy,
            domain=domain,
            clock=self._clock,
        )

    def __repr__(self) -> str:
        """Return the name and the key id; never a secret."""
        return f"<Member {self.name} {self.identity.key_id.hex()}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse to be copied or pickled.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            "a Member is not pickled; pass fleet.hand_out(name) on, and Member.parse it there"
        )


def check_name(name: str) -> str:
    """Return the name of a member; UsageError if it cannot be one."""
    if type(name) is not str or not _name.fullmatch(name):
        raise UsageError(
            "a member's name is 1 to 100 letters, digits, '.', '_' or '-', of ASCII, "
            "and begins with a letter or digit: it names a file"
        )
    return name


def as_folder(folder: str | Path) -> Path:
    """Return the path of a folder; UsageError if it cannot be one."""
    if not isinstance(folder, str | Path) or "\0" in str(folder):
        raise UsageError("folder is a str or a Path")
    return Path(folder).absolute()


def _is_pipe(fd: int) -> bool:
    """Tell whether what is read from a descriptor is gone from it."""
    try:
        mode = os.fstat(fd).st_mode
    except (OSError, TypeError, OverflowError):
        return False  # Whoever reads it says what is wrong.
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _checksum(body: str) -> str:
    return base64.b32encode(H(10, b"env1-text", _PREFIX.encode(), body.encode())).decode().lower()


def _json(document: object) -> str:
    return json.dumps(document, separators=(",", ":"))


def write(document: list[Any]) -> str:
    """Return a document as text: the prefix, a checksum, and the one JSON of it in ASCII."""
    body = _json(document)
    return _PREFIX + _checksum(body) + body


def _read(member_text: str) -> object:
    """Return the document of a text; UsageError if it is none that ``write`` writes."""
    if type(member_text) is not str or not member_text.startswith(_PREFIX):
        raise UsageError(f"expected a text that begins with {_PREFIX}")
    if len(member_text) > MAX_TEXT or not member_text.isascii():
        raise UsageError(f"this {_PREFIX}... text is too long, or not ASCII")
    body = member_text[len(_PREFIX) + _CHECK :]
    if member_text[len(_PREFIX) : len(_PREFIX) + _CHECK] != _checksum(body):
        raise UsageError(f"this {_PREFIX}... text is cut short or changed")
    # JSON's own errors hold what they were given: none may hang on ours.
    with contextlib.suppress(ValueError, RecursionError):
        document = json.loads(body)
        if _json(document) == body:
            return document
    return None


def _peer(row: object) -> Peer:
    match row:
        case [str(name), str(key), list(contexts)]:
            return Peer(name, PublicIdentity.parse(key), contexts)
    raise UsageError("not a peer")
