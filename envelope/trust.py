"""Whom to believe, and for what: Peer, Snapshot, TrustStore (SPEC 3.5, 3.6).

Rules of this file:

- Keys are pinned: nobody enters a trust store by sending something.
- A snapshot never changes. Reloading builds a whole new one and swaps one
  reference, so an opening sees one snapshot from its start to its end.
- A failed reload keeps what was in force, is logged each time it fails, and
  shows in ``stale_since`` until a reload succeeds.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from envelope import clock, trustfile
from envelope.arguments import MAX_CONTEXT
from envelope.errors import TrustFileError, UsageError
from envelope.forks import process
from envelope.identity import PublicIdentity
from envelope.wire import MAX_SENT_AT

_log = logging.getLogger("envelope.trust")

POLL = clock.SECOND
"""A trust file is looked at this often at most, and only when somebody opens or
seals: a revocation is in force about a second after the file was replaced."""

_MAX_NAME = 255

_UNSEEN: tuple[int, ...] = ()
"""The fingerprint of no file."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A name, a public identity, and what it may send. Immutable.

    Attributes:
        name: what logs and statistics call it, 1 to 255 bytes of UTF-8.
        public: its keys. One name with two peers is a rotation: both are valid.
        contexts: patterns (SPEC 3.5): an exact context, ``"name.*"`` for all below
            a name, or ``"*"`` for all. Required: nobody may send everywhere by
            oversight.
        topics: prefixes that the first bound frame must have; str is UTF-8. None
            allows all, and envelopes without bound frames.
        not_before: aware datetime; earlier, nothing of this peer is accepted.
        not_after: aware datetime; from then on, nothing of this peer is accepted.
        revoked: nothing of this peer is accepted, and nothing is sealed to it.

    Raises:
        UsageError: a field that cannot be used; the text says which and why.
    """

    name: str
    public: PublicIdentity
    contexts: Sequence[str]
    topics: Sequence[str | bytes] | None = None
    not_before: datetime | None = None
    not_after: datetime | None = None
    revoked: bool = False
    store: TrustStore | None = field(default=None, repr=False, compare=False, kw_only=True)
    """The store that handed this peer out; a Sealer follows its changes."""
    begins: int = field(init=False, repr=False, compare=False)
    """``not_before`` in Unix microseconds; 0 if None."""
    ends: int = field(init=False, repr=False, compare=False)
    """``not_after`` in Unix microseconds; beyond all times if None."""

    def __post_init__(self) -> None:
        """Check and normalise every field."""
        if type(self.name) is not str or not 1 <= len(self.name.encode("utf-8", "replace")) <= (
            _MAX_NAME
        ):
            raise UsageError("a peer's name is a str of 1 to 255 bytes")
        if not self.name.isprintable():
            raise UsageError("a peer's name is printable: it appears in logs")
        if not isinstance(self.public, PublicIdentity):
            raise UsageError(
                f"peer {self.name!r}: public is a PublicIdentity, such as "
                "identity.public, or a text that PublicIdentity.parse() read"
            )
        if type(self.revoked) is not bool:
            raise UsageError(f"peer {self.name!r}: revoked is True or False")
        set_ = object.__setattr__
        set_(self, "contexts", tuple(_patterns(self.name, self.contexts)))
        set_(self, "topics", _topics(self.name, self.topics))
        set_(self, "begins", _unix_us(self.name, self.not_before, default=0))
        set_(self, "ends", _unix_us(self.name, self.not_after, default=MAX_SENT_AT))
        if self.begins >= self.ends:
            raise UsageError(f"peer {self.name!r}: not_before is not before not_after")

    @property
    def key_id(self) -> bytes:
        """The 16-byte key id of its public identity."""
        return self.public.key_id

    def allows_context(self, context: str) -> bool:
        """Tell whether the peer may send in this context (SPEC 3.5)."""
        for pattern in self.contexts:
            if pattern in ("*", context):
                return True
            # "orders.*" needs the dot and at least one character after it.
            stem = pattern[:-1]
            if pattern.endswith(".*") and context.startswith(stem) and context != stem:
                return True
        return False

    def allows_topic(self, bound: tuple[bytes, ...]) -> bool:
        """Tell whether the first bound frame has one of the peer's topics."""
        if self.topics is None:
            return True
        return bool(bound) and bound[0].startswith(self.topics)  # type: ignore[arg-type]  # __post_init__ made a tuple of bytes

    def is_valid(self, now: int) -> bool:
        """Tell whether the peer is not revoked and within its dates at ``now`` (Unix us)."""
        return not self.revoked and self.begins <= now < self.ends


def _patterns(name: str, contexts: Sequence[str]) -> Iterator[str]:
    if not isinstance(contexts, list | tuple | set | frozenset):
        raise UsageError(f'peer {name!r}: contexts is a list of str: contexts=["orders"]')
    patterns = list(contexts)
    if not patterns:
        raise UsageError(f'peer {name!r}: contexts is empty; ["*"] means all')
    for pattern in patterns:
        # What ends in ".*" stands for contexts that have a character in its place.
        if (
            type(pattern) is not str
            or not pattern
            or len(_encodable(name, pattern, "a context").encode()) > MAX_CONTEXT
        ):
            raise UsageError(f"peer {name!r}: a context is a non-empty str of at most 255 bytes")
        stem = pattern.removesuffix(".*")
        if pattern != "*" and ("*" in stem or not stem):
            raise UsageError(
                f"peer {name!r}: {pattern!r}: a * stands alone, or last after a name and a dot"
            )
        yield pattern


def _topics(name: str, topics: Sequence[str | bytes] | None) -> tuple[bytes, ...] | None:
    if topics is None:
        return None
    if not isinstance(topics, list | tuple | set | frozenset):
        raise UsageError(f'peer {name!r}: topics is a list: topics=["dns/"]')
    prefixes = tuple(
        _encodable(name, topic, "a topic").encode() if type(topic) is str else topic
        for topic in topics
    )
    if not prefixes or not all(type(prefix) is bytes for prefix in prefixes):
        raise UsageError(f"peer {name!r}: topics is a non-empty list of str or bytes, or None")
    return prefixes


def _encodable(name: str, value: str, what: str) -> str:
    """Return a str that has a UTF-8 form."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UsageError(f"peer {name!r}: {what} cannot be encoded as UTF-8") from None
    return value


def _unix_us(name: str, date: datetime | None, *, default: int) -> int:
    if date is None:
        return default
    if not isinstance(date, datetime) or date.utcoffset() is None:
        raise UsageError(
            f"peer {name!r}: a date is a datetime with a time zone, such as 2027-06-30T00:00:00Z"
        )
    delta = date - datetime(1970, 1, 1, tzinfo=UTC)
    return max(0, (delta.days * 86_400 + delta.seconds) * clock.SECOND + delta.microseconds)


_TAKES: Final = "a TrustStore takes a list of Peer objects; for a file use TrustStore.load()"


class Snapshot:
    """One immutable state of a trust store.

    Attributes:
        peers: by key id.
        names: by name, in the order given; more than one during a rotation.
    """

    __slots__ = ("names", "peers")

    def __init__(self, peers: Iterable[Peer], store: TrustStore) -> None:
        """Check the peers against each other (SPEC 3.6).

        Raises:
            UsageError: a key stands twice, or two identities have one key id.
        """
        self.peers: dict[bytes, Peer] = {}
        names: dict[str, list[Peer]] = {}
        halves: dict[bytes, str] = {}
        if not isinstance(peers, Iterable):
            raise UsageError(_TAKES)
        for given in peers:
            if not isinstance(given, Peer):
                raise UsageError(_TAKES)
            for half in (given.public.public[:32], given.public.public[32:]):
                other = halves.setdefault(half, given.name)
                if other != given.name:
                    raise UsageError(f"{given.name!r} and {other!r} have the same key")
            if len(halves) != 2 * (len(self.peers) + 1):
                raise UsageError(f"{given.name!r} has the same key twice")
            peer = dataclasses.replace(given, store=store)
            if self.peers.setdefault(peer.key_id, peer) is not peer:
                raise UsageError(f"{given.name!r} and another peer have one key id")
            names.setdefault(peer.name, []).append(peer)
        self.names: dict[str, tuple[Peer, ...]] = {n: tuple(p) for n, p in names.items()}


class TrustStore:
    """The peers that are believed, from a list or from a TOML file (SPEC 13.3).

    A store made by ``load`` follows its file: when the file changes, a new
    snapshot replaces the old one, about a second later and without a pause.
    Thread-safe.

    Attributes:
        snapshot: what is in force now; it never changes, it is replaced.
        stale_since: None, or since when (aware datetime) the file could not be
            loaded, so that an older state is in force.
    """

    def __init__(self, peers: Iterable[Peer] = ()) -> None:
        """Take the peers.

        Raises:
            UsageError: two peers contradict each other (SPEC 3.6).
        """
        self._lock = threading.RLock()
        process.adopt(self)
        self._path: Path | None = None
        self._mark: tuple[int, ...] | None = None
        self._failure: TrustFileError | None = None
        self._keys: dict[str, PublicIdentity] = {}
        self._next_poll: int | None = None
        self.stale_since: datetime | None = None
        self.snapshot = Snapshot(peers, self)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a trust file and follow its changes.

        Raises:
            TrustFileError: missing, unreadable or wrong; with line and reason.
        """
        store = cls()
        # A program that changes its folder must not come to believe another file.
        store._path = Path(path).absolute()
        store._mark = _fingerprint(store._path)
        store.snapshot = store._read(store._path)
        return store

    def _read(self, path: Path) -> Snapshot:
        """Build a snapshot from the file; TrustFileError says what is wrong with it."""
        try:
            tables = trustfile.read(path)
            peers = []
            keys: dict[str, PublicIdentity] = {}
            for table in tables:
                try:
                    # Most keys are those of before, and checking one takes time.
                    public = self._keys.get(table.key) or PublicIdentity.parse(table.key)
                    keys[table.key] = public
                    peers.append(Peer(public=public, **table.fields))
                except UsageError as error:
                    raise TrustFileError(f"{path}, line {table.line}: {error}") from None
            snapshot = Snapshot(peers, self)
        except TrustFileError:
            raise
        except UsageError as error:
            raise TrustFileError(f"{path}: {error}") from None
        self._keys = keys
        return snapshot

    def replace(self, peers: Iterable[Peer]) -> None:
        """Put a whole new list in force.

        Raises:
            UsageError: two peers contradict each other, or the store follows a
                file; the previous list stays in force.
        """
        if self._path is not None:
            raise UsageError(f"this store follows {self._path}; change the file")
        with self._lock:
            self.snapshot = Snapshot(peers, self)

    def reload(self) -> None:
        """Read the file again now.

        Raises:
            TrustFileError: it cannot be used; what was in force stays so.
            UsageError: the store was not loaded from a file.
        """
        if self._path is None:
            raise UsageError("this store has no file to reload")
        with self._lock:
            self._reload(self._path)

    def _reload(self, path: Path) -> None:
        # The mark is from before the reading: a change in between is seen next time.
        self._mark = _fingerprint(path)
        try:
            self.snapshot = self._read(path)
        except TrustFileError as error:
            self._failure = error.with_traceback(None)
            if error.is_unread:
                # A passing lack of handles must not hide a revocation until the next change.
                self._mark = _UNSEEN
            if self.stale_since is None:
                self.stale_since = datetime.now(UTC)
            raise
        self._failure = self.stale_since = None

    def current(self, now: int) -> Snapshot:
        """Return the snapshot in force, after a look at the file if one is due.

        Never raises: a file that cannot be used is logged and passed over.

        Args:
            now: a clock's reading in microseconds; it only spaces the looks.
        """
        if self._path is not None and self._is_due(now):
            self._poll(self._path)
        return self.snapshot

    def _is_due(self, now: int) -> bool:
        due = self._next_poll
        # A clock that stepped back far must not postpone the next look.
        if due is not None and due - POLL <= now < due:
            return False
        with self._lock:
            if self._next_poll is not due:
                return False  # Another thread looks.
            self._next_poll = now + POLL
        return True

    def _poll(self, path: Path) -> None:
        if _fingerprint(path) == self._mark:
            # What cannot be used and has not changed is told again, not read again.
            if self._failure is not None:
                self._tell(self._failure)
            return
        try:
            with self._lock:
                self._reload(path)
        except TrustFileError as error:
            self._tell(error)
        else:
            _log.info("trust file %s reloaded: %d peers", path, len(self.snapshot.peers))

    @staticmethod
    def _tell(failure: TrustFileError) -> None:
        _log.error("trust file not reloaded, the previous peers stay in force: %s", failure)

    def __iter__(self) -> Iterator[Peer]:
        """Iterate over the peers in force now."""
        return iter(self.snapshot.peers.values())

    def __len__(self) -> int:
        """Return the number of peers in force now."""
        return len(self.snapshot.peers)

    def __contains__(self, name: object) -> bool:
        """Tell whether a peer has this name now."""
        return name in self.snapshot.names

    def __getitem__(self, name: str) -> Peer:
        """Return the peer of this name; the first one during a rotation.

        As a recipient it stands for all valid keys of the name.

        Raises:
            UsageError: there is no such name.
        """
        found = self.snapshot.names.get(name)
        if not found:
            raise UsageError(f"no peer is named {name!r} in {self!r}")
        return found[0]

    def __repr__(self) -> str:
        """Return the number of peers and where they are from."""
        snapshot = getattr(self, "snapshot", None)  # A traceback may show one half made.
        origin = self._path or "a list" if snapshot else "nowhere"
        return f"<TrustStore of {len(snapshot.peers) if snapshot else 'no'} peers from {origin}>"


def _fingerprint(path: Path) -> tuple[int, ...] | None:
    """Return what changes when a file is rewritten or replaced; None if it is not there."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino
