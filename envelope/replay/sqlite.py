"""Replay memory that survives restarts, crashes and power loss: one file (SPEC 8.10).

Rules of this file:

- Every accepted envelope is in the file's last checkpoint, or its sent_at lies in a
  zone that the same checkpoint opened. That is the whole proof.
- An envelope inside an open zone is accepted from memory alone. One outside first
  commits all that has changed, together with a zone for it: about one commit a second.
- The zones that a crash left open are dead: what is stamped in them is refused, for it
  may have been accepted and forgotten. All else is judged by the checkpoint, exactly.
- A clean close writes all and leaves no zone: exact, nothing is lost.
- No clock is in the proof. The clock only chooses where the next zone lies.
- A commit that failed may have reached the disk or not; nothing here asks which.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import sqlite3
import stat
import threading
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from envelope import clock as clocks
from envelope import stream as streams
from envelope.clock import Clock
from envelope.errors import (
    BeforeStartError,
    EnvelopeError,
    StoreFileError,
    StoreUnavailableError,
    UsageError,
)
from envelope.forks import process
from envelope.keyfile import sync_folder
from envelope.policy import Policy
from envelope.replay.guard import NEVER, Gaps, Guard, Remembered
from envelope.replay.lockfile import LockFile
from envelope.replay.store import ReplayStore

_log = logging.getLogger("envelope.replay")

APPLICATION_ID: Final = 0x454E5652
"""ENVR, by which a foreign database is told."""
SCHEMA_VERSION: Final = 1

BEHIND: Final = 2 * clocks.SECOND
AHEAD: Final = clocks.SECOND
"""A zone reaches from two seconds before its middle to one second after: about one
commit a second for what is sent now, and three seconds of stamps lost by a crash."""
MAX_ZONES: Final = 8
"""Open at once: now, and senders that lag behind by different times."""
MAX_DEAD: Final = 64
"""Dead zones remembered, some crashes each; beyond, the oldest raise ``cold``."""

_SCHEMA: Final = (
    """CREATE TABLE store (cold INTEGER NOT NULL)""",
    """CREATE TABLE zone (
        after INTEGER NOT NULL, until INTEGER NOT NULL, is_dead INTEGER NOT NULL
    )""",
    """CREATE TABLE place (
        id INTEGER PRIMARY KEY, domain TEXT NOT NULL, sender BLOB NOT NULL,
        context TEXT NOT NULL, floor INTEGER NOT NULL, figures TEXT NOT NULL,
        UNIQUE (domain, sender, context)
    )""",
    """CREATE TABLE stream (
        place INTEGER NOT NULL REFERENCES place (id), id BLOB NOT NULL,
        floor INTEGER NOT NULL, first INTEGER NOT NULL, newest INTEGER NOT NULL,
        accepted INTEGER NOT NULL, early INTEGER NOT NULL, size INTEGER NOT NULL,
        top INTEGER NOT NULL, ring BLOB NOT NULL, PRIMARY KEY (place, id)
    ) WITHOUT ROWID""",
)


class Zone(NamedTuple):
    """The times later than ``after``, up to and with ``until``; Unix microseconds."""

    after: int
    until: int


def _around(time: int) -> Zone:
    return Zone(time - BEHIND, time + AHEAD)


def _find(zones: Iterable[Zone], sent_at: int) -> Zone | None:
    """Return the first zone that a time lies in, or None."""
    return next((zone for zone in zones if zone.after < sent_at <= zone.until), None)


class DurableGuard:
    """A Guard each of whose marks the file covers. Thread-safe by the store's lock."""

    __slots__ = ("_changed", "_memory", "_number", "_on_disk", "_place", "_store")

    def __init__(
        self, store: SQLiteReplayStore, number: int, place: tuple[str, bytes, str], memory: Guard
    ) -> None:
        """Begin with nothing in the file."""
        self._store = store
        self._number = number
        self._place = place
        self._memory = memory
        self._changed: set[bytes] = set()
        """Streams marked since the last commit."""
        self._on_disk: set[bytes] = set()
        """Streams that have a row in the file."""

    def check(
        self, stream: bytes, sequence: int, sent_at: int, *, full_at: int, expected: bool
    ) -> None:
        """See ``ReplayGuard.check``; a time in a dead zone is before the start."""
        if self._store.dead and not expected:
            self._check_dead(stream, sent_at)
        self._memory.check(stream, sequence, sent_at, full_at=full_at, expected=expected)

    def _check_dead(self, stream: bytes, sent_at: int) -> None:
        if _find(self._store.dead, sent_at) and not self._memory.is_younger(stream):
            raise BeforeStartError(
                "stamped around an end of this receiver that was not clean; it may have been "
                "accepted then"
            )

    def mark(  # noqa: PLR0913 (the interface's)
        self,
        stream: bytes,
        sequence: int,
        sent_at: int,
        *,
        full_at: int,
        window: int,
        expected: bool,
        forget_before: int,
    ) -> int:
        """See ``ReplayGuard.mark``; about once a second it first waits for the disk."""
        store = self._store
        store.check_usable()
        with store._lock:  # noqa: SLF001 (one file; forks replace it by this name)
            if not store.zone.after < sent_at <= store.zone.until:
                self.check(stream, sequence, sent_at, full_at=full_at, expected=expected)
                store.cover(sent_at)
            elif store.dead and not expected:
                self._check_dead(stream, sent_at)
            skipped = self._memory.mark(
                stream,
                sequence,
                sent_at,
                full_at=full_at,
                window=window,
                expected=expected,
                forget_before=forget_before,
            )
            if not self._changed:
                store.dirty.append(self)
            self._changed.add(stream)
            return skipped

    def gaps(self) -> Gaps:
        """See ``ReplayGuard.gaps``."""
        return self._memory.gaps()

    def state(self) -> object:
        """Return all that decides a verdict, as values that compare."""
        return self._memory.state()

    def write(self, database: sqlite3.Connection) -> None:
        """Write what has changed since the last commit, within a transaction."""
        memory, number = self._memory, self._number
        floor, figures = memory.figures()
        database.execute(
            "INSERT OR REPLACE INTO place VALUES (?, ?, ?, ?, ?, ?)",
            (number, *self._place, floor, json.dumps(figures)),
        )
        known = memory.known()
        database.executemany(
            "DELETE FROM stream WHERE place = ? AND id = ?",
            [(number, stream) for stream in self._on_disk - known],
        )
        database.executemany(
            "INSERT OR REPLACE INTO stream VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(number, stream, *memory.remembered(stream)) for stream in self._changed & known],
        )

    def written(self) -> None:
        """Note that ``write`` was committed.

        If it failed, and is on the disk nevertheless, nothing is marked or dropped
        before the next one succeeds, which writes the same streams again.
        """
        self._on_disk = self._memory.known()
        self._changed = set()

    def restore(
        self, floor: int, figures: list[int], known: list[tuple[bytes, Remembered]]
    ) -> None:
        """Take up what the file has; see ``Guard.restore``."""
        self._memory.restore(floor, figures, known)
        self.written()


class SQLiteReplayStore(ReplayStore):
    """Replay memory in one file, for one process at a time. Thread-safe.

    After ``close()``, or a normal end of the program, the next life goes on exactly
    where this one ended. After a crash or a power loss it refuses (``before_start``)
    what is stamped in the three seconds around the last commit, and around each time
    by which a sender lagged then; everything else is judged as before. There is about
    one commit a second, in the thread that opens an envelope. A full or failing disk
    refuses (``store_unavailable``) until a commit succeeds again.

    A copy of the file that is restored later cannot be told from the real one, and
    would permit replays of what was accepted in between. Delete the file instead: a
    new one starts cold (SPEC 8.7). A forked child gets ``store_unavailable``.
    """

    is_durable = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        first_life: bool = False,
        max_future: float = ReplayStore.max_future,
        clock: Clock = clocks.wall,
    ) -> None:
        """Open a store, or make a new one.

        Args:
            path: the file, on a local disk. Beside it appear SQLite's journal and a
                lock file.
            first_life: if the file is new: the receiver's keys, or its domain, were
                never used before, so there is nothing to wait for.
            max_future: seconds, at least that of every policy used with this store;
                how far a new file's cold start reaches.
            clock: wall clock in Unix microseconds.

        Raises:
            StoreFileError: in use by another process (which is named), damaged, not a
                replay store or that of a newer version, writable by others, or not to
                be read or written.
            UsageError: an argument that cannot be used.
        """
        if type(first_life) is not bool:
            raise UsageError("first_life is True or False")
        self.max_future = Policy(max_future=max_future).max_future
        self.path = _as_path(path)
        self._clock = clock
        self._life = process.life()
        self._birth = streams.birth()
        self._guards: dict[tuple[str, bytes, str], DurableGuard] = {}
        self._next_place = 1
        self._cold = NEVER
        self._is_open = False
        self._is_writing = False
        """The lock is reentrant; a commit is not."""
        self.dirty: list[DurableGuard] = []
        self.zone = _NO_ZONE
        """The open zone that was used last; most envelopes lie in it."""
        self._others: tuple[Zone, ...] = ()
        self._used: set[Zone] = set()
        self.dead: tuple[Zone, ...] = ()
        self._lock = threading.RLock()
        start = clocks.check(clock())
        cold = NEVER if first_life else start + clocks.microseconds(self.max_future)
        self._lock_file = LockFile(self.path)
        try:
            self._database = self._connect(cold)
        except BaseException:
            self._lock_file.release()
            raise
        self._is_open = True
        process.adopt(self)
        _open_stores.add(self)

    def guard(self, domain: str, sender: bytes, context: str) -> DurableGuard:
        """Return the guard of one sender; see ``ReplayStore``. Raises nothing."""
        place = (domain, sender, context)
        with self._lock:
            found = self._guards.get(place)
            return self._add(place, self._next_place) if found is None else found

    def _add(self, place: tuple[str, bytes, str], number: int) -> DurableGuard:
        memory = Guard(cold=self._cold, birth=self._birth, life=self._life)
        added = self._guards[place] = DurableGuard(self, number, place, memory)
        self._next_place = max(self._next_place, number + 1)
        return added

    def check_usable(self) -> None:
        """Check that this process may still write.

        Raises:
            StoreUnavailableError: closed, or the parent's.
        """
        if process.life() != self._life:
            raise StoreUnavailableError("this replay store is the parent's; a child opens its own")
        if not self._is_open:
            raise StoreUnavailableError("this replay store was closed")

    def cover(self, sent_at: int) -> None:
        """See to it that an open zone on the disk holds a time. Under the lock.

        Raises:
            StoreUnavailableError: the disk did not take it.
        """
        self.check_usable()  # Another thread may have closed it meanwhile.
        other = _find(self._others, sent_at)
        if other is not None:
            # What comes next is likely to lag as much: look there first.
            rest = [zone for zone in self._others if zone is not other]
            self._used |= {self.zone, other}
            self.zone, self._others = other, (self.zone, *rest)
            return
        now = _around(self._clock())
        fresh = [] if now.after < sent_at <= now.until else [_around(sent_at)]
        kept = [zone for zone in (self.zone, *self._others) if zone in self._used]
        first, *others = [*fresh, now, *kept][:MAX_ZONES]
        self._commit(first, tuple(others))
        self._used.update(fresh)

    def _commit(self, zone: Zone, others: tuple[Zone, ...]) -> None:
        """Write all that has changed, and replace the open zones."""
        if self._is_writing:
            raise StoreUnavailableError("called by a signal handler from within a commit")
        # From here until success no zone may be relied on: a commit that fails may
        # still have reached the disk, and have replaced those that were there.
        self.zone, self._others, self._used = _NO_ZONE, (), set()
        self._is_writing = True
        try:
            with _transaction(self._database) as database:
                for guard in self.dirty:
                    guard.write(database)
                database.execute("DELETE FROM zone WHERE NOT is_dead")
                database.executemany(
                    "INSERT INTO zone VALUES (?, ?, 0)",
                    [one for one in (zone, *others) if one is not _NO_ZONE],
                )
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailableError(f"cannot write {self.path}: {error}") from None
        finally:
            self._is_writing = False
        for guard in self.dirty:
            guard.written()
        self.dirty = []
        self.zone, self._others = zone, others

    def close(self) -> None:
        """Write all and release the file. May be called again. Raises nothing.

        If the disk does not take it, the next life begins as after a crash.
        """
        if process.life() != self._life:
            return  # The parent's connection is not ours to touch.
        with self._lock:
            if not self._is_open:
                return
            try:
                self._commit(_NO_ZONE, ())
            except StoreUnavailableError as error:
                _log.error("closing: %s; the next start will be as after a crash", error.detail)
            self._is_open = False
            _open_stores.discard(self)
            self._database.close()
            self._lock_file.release()

    def state(self) -> dict[tuple[str, bytes, str], object]:
        """Return all that decides a verdict, as values; untouched guards are left out."""
        with self._lock:
            states = {place: guard.state() for place, guard in self._guards.items()}
        return {place: state for place, state in states.items() if state != (NEVER, ())}

    def _connect(self, cold: int) -> sqlite3.Connection:
        """Open or make the file, and read it whole."""
        try:
            is_new = _make_private(self.path)
            with contextlib.ExitStack() as undo:
                database = sqlite3.connect(
                    self.path, timeout=0, isolation_level=None, check_same_thread=False
                )
                undo.callback(database.close)
                # The journal is deleted, and its folder synced, before a commit returns;
                # between commits no other file exists, which a fork could damage.
                database.execute("PRAGMA journal_mode = DELETE")
                database.execute("PRAGMA synchronous = EXTRA")
                if is_new or _is_blank(database):
                    _initialise(database, cold)
                    sync_folder(self.path.parent)
                    if cold != NEVER:
                        _log.warning(
                            "%s is new: what is stamped in the next %.1f s, or before now, is "
                            "refused, for an earlier memory may be lost",
                            self.path,
                            self.max_future,
                        )
                self._check_schema(database)
                self._read(database)
                undo.pop_all()
                return database
        except EnvelopeError:
            raise
        except Exception as error:  # noqa: BLE001 (anything may be in the file)
            raise StoreFileError(
                f"{self.path} cannot be used: {error}. If it is damaged move it away: a new one "
                "starts cold, and permits no replay"
            ) from None

    def _check_schema(self, database: sqlite3.Connection) -> None:
        application = database.execute("PRAGMA application_id").fetchone()[0]
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if application != APPLICATION_ID:
            raise StoreFileError(f"{self.path} is a database of something else")
        if version != SCHEMA_VERSION:
            raise StoreFileError(
                f"{self.path} has version {version} of the store's form; this release reads "
                f"{SCHEMA_VERSION}"
            )

    def _read(self, database: sqlite3.Connection) -> None:
        """Take up the checkpoint; zones that were left open die at once."""
        [(cold,)] = database.execute("SELECT cold FROM store").fetchall()
        zones = [Zone(*row) for row in database.execute("SELECT after, until FROM zone")]
        dead, self._cold = _bury(zones, _as_time(cold))
        self.dead = tuple(dead)
        with _transaction(database):
            database.execute("UPDATE store SET cold = ?", (self._cold,))
            database.execute("DELETE FROM zone")
            database.executemany("INSERT INTO zone VALUES (?, ?, 1)", dead)
        rows: dict[int, list[tuple[bytes, Remembered]]] = {}
        for place, stream, *fields in database.execute("SELECT * FROM stream"):
            rows.setdefault(place, []).append((stream, Remembered(*fields)))
        for number, domain, sender, context, floor, figures in database.execute(
            "SELECT * FROM place ORDER BY id"
        ):
            if [*map(type, (number, domain, sender, context))] != [int, str, bytes, str]:
                raise ValueError("a place that is none")
            guard = self._add((domain, sender, context), number)
            guard.restore(_as_time(floor), json.loads(figures), rows.pop(number, []))
        if rows:
            raise ValueError("streams of places that are not there")

    def __repr__(self) -> str:
        """Return the file."""
        return f"<SQLiteReplayStore {os.fspath(self.path)}>"


_NO_ZONE: Final = Zone(0, -1)
"""Holds no time."""

_open_stores: weakref.WeakSet[SQLiteReplayStore] = weakref.WeakSet()


def _as_path(path: str | os.PathLike[str]) -> Path:
    try:
        found = Path(path)
    except TypeError:
        raise UsageError("path is that of a file, as str or Path") from None
    if not found.name or "\0" in str(found):
        raise UsageError(f"{str(found)!r} names no file")
    try:
        return found.resolve()
    except (OSError, RuntimeError) as error:  # A loop of links.
        raise StoreFileError(f"cannot open {found}: {error}") from None


def _make_private(path: Path) -> bool:
    """Make the file if it is not there, for this user alone; return whether it was made."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise StoreFileError(f"{path} is not a file") from None
        if status.st_mode & 0o022 or status.st_uid not in (os.geteuid(), 0):
            raise StoreFileError(
                f"{path} can be changed by others, who could permit replays; own it and "
                f"make it private: chmod 600 {path}"
            ) from None
        return False
    return True


def _is_blank(database: sqlite3.Connection) -> bool:
    """Tell whether the first life of this file ended before it held anything."""
    return (
        not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        and not (database.execute("PRAGMA application_id").fetchone()[0])
    )


def _initialise(database: sqlite3.Connection, cold: int) -> None:
    with _transaction(database):
        database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        for statement in _SCHEMA:
            database.execute(statement)
        database.execute("INSERT INTO store VALUES (?)", (cold,))


class _transaction(contextlib.AbstractContextManager[sqlite3.Connection]):  # noqa: N801 (used as a statement)
    """All of it reaches the disk, or this raises."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __enter__(self) -> sqlite3.Connection:
        if self._database.in_transaction:  # An interrupt came just after BEGIN.
            self._database.execute("ROLLBACK")
        self._database.execute("BEGIN IMMEDIATE")
        return self._database

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if kind is None:
                self._database.execute("COMMIT")
        finally:
            if self._database.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    self._database.execute("ROLLBACK")


def _as_time(value: object) -> int:
    if type(value) is not int or not NEVER <= value < 2 * clocks.MAX_TIME:
        raise ValueError("a time that is none")
    return value


def _bury(zones: Iterable[Zone], cold: int) -> tuple[list[Zone], int]:
    """Return dead zones, merged and few, and ``cold``, raised to those left out."""
    merged: list[Zone] = []
    for zone in sorted(zones):
        if type(zone.after) is not int or type(zone.until) is not int:
            raise ValueError("a zone that is none")
        if merged and zone.after <= merged[-1].until:
            merged[-1] = Zone(merged[-1].after, max(merged[-1].until, zone.until))
        else:
            merged.append(zone)
    while len(merged) > MAX_DEAD:
        cold = max(cold, merged.pop(0).until)
    return [zone for zone in merged if zone.until > cold], cold


def _before_fork() -> None:
    """Wait for commits: a child that inherits half of one could undo it."""
    for store in list(_open_stores):
        store._lock.acquire()  # noqa: SLF001 (its own module)


def _after_fork() -> None:
    for store in list(_open_stores):
        with contextlib.suppress(RuntimeError):  # Made meanwhile by another thread.
            store._lock.release()  # noqa: SLF001 (its own module)


def _close_all() -> None:
    for store in list(_open_stores):
        store.close()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork)
atexit.register(_close_all)
