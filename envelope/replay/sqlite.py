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
- A second life of one file, which the lock should prevent and cannot if it is removed,
  kills the zones of the first and takes the file from it (``life``).
- Signal handlers may call anything here at any point, and raise.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import itertools
import json
import logging
import operator
import os
import sqlite3
import stat
import struct
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

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
from envelope.replay import zones
from envelope.replay.guard import NEVER, Gaps, Guard, Remembered
from envelope.replay.lockfile import LockFile
from envelope.replay.store import ReplayStore
from envelope.replay.zones import Zone

_log = logging.getLogger("envelope.replay")

APPLICATION_ID: Final = 0x454E5652
"""ENVR, by which a foreign database is told."""
SCHEMA_VERSION: Final = 1

_SCHEMA: Final = (
    """CREATE TABLE store (cold INTEGER NOT NULL, life BLOB NOT NULL, digest BLOB NOT NULL)""",
    """CREATE TABLE zone (
        after INTEGER NOT NULL, until INTEGER NOT NULL, is_dead INTEGER NOT NULL,
        digest BLOB NOT NULL
    )""",
    """CREATE TABLE place (
        id INTEGER PRIMARY KEY, domain TEXT NOT NULL, sender BLOB NOT NULL,
        context TEXT NOT NULL, floor INTEGER NOT NULL, figures TEXT NOT NULL,
        digest BLOB NOT NULL, UNIQUE (domain, sender, context)
    )""",
    """CREATE TABLE stream (
        place INTEGER NOT NULL REFERENCES place (id), id BLOB NOT NULL,
        floor INTEGER NOT NULL, first INTEGER NOT NULL, newest INTEGER NOT NULL,
        accepted INTEGER NOT NULL, early INTEGER NOT NULL, size INTEGER NOT NULL,
        top INTEGER NOT NULL, ring BLOB NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (place, id)
    ) WITHOUT ROWID""",
)


_pack_integers: Final = struct.Struct(">8q").pack

MAX_CHANGED: Final = 2048
"""Streams noted as changed; beyond, those that are forgotten already are left out."""


def _row(*values: object) -> tuple[object, ...]:
    """Return a row with its digest: a sector that the disk forgot is told."""
    return *values, hashlib.blake2b(repr(values).encode(), digest_size=8).digest()


def _checked(row: tuple[object, ...]) -> list[Any]:
    """Return a row's values.

    Raises:
        ValueError: they are not what was written.
    """
    if _row(*row[:-1]) != row:
        raise ValueError("a row that is damaged")
    return list(row[:-1])


def _stream_digest(row: Sequence[Any]) -> bytes:
    """Return the digest of a stream's row; there are many of these.

    Raises:
        ValueError, TypeError: no such row.
    """
    number, stream, *integers, ring = row
    try:
        packed = _pack_integers(number, *integers)
    except struct.error:
        raise ValueError("a stream that is none") from None
    return hashlib.blake2b(packed + stream + ring, digest_size=8).digest()


def _checked_stream(row: tuple[Any, ...]) -> tuple[bytes, Remembered]:
    """Return the id and the memory of a stream.

    Raises:
        ValueError, TypeError: they are not what was written.
    """
    *values, digest = row
    if _stream_digest(values) != digest:
        raise ValueError("a stream that is damaged")
    return row[1], Remembered._make(values[2:])


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
        if zones.find(self._store.dead, sent_at) and not self._memory.is_younger(stream):
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
            if store.is_inside:
                raise StoreUnavailableError("called by a signal handler from within itself")
            store.is_inside = True
            try:
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
                elif len(self._changed) > MAX_CHANGED:
                    self._changed &= self._memory.known()
                self._changed.add(stream)
                store.lowest = min(store.lowest, sent_at)
                return skipped
            finally:
                store.is_inside = False
                if store.wants_close:
                    store.close()

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
            "INSERT OR REPLACE INTO place VALUES (?, ?, ?, ?, ?, ?, ?)",
            _row(number, *self._place, floor, json.dumps(figures)),
        )
        known = memory.known()
        database.executemany(
            "DELETE FROM stream WHERE place = ? AND id = ?",
            [(number, stream) for stream in self._on_disk - known],
        )
        database.executemany(
            "INSERT OR REPLACE INTO stream VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (*row, _stream_digest(row))
                for row in ((number, one, *memory.remembered(one)) for one in self._changed & known)
            ],
        )

    def written(self) -> None:
        """Note that ``write`` was committed.

        If it failed, and is on the disk nevertheless, nothing is marked or dropped
        before the next one succeeds, which writes the same streams again.
        """
        self._on_disk = self._memory.known()
        self._changed = set()

    def restore(
        self, floor: int, figures: list[int], known: Iterable[tuple[bytes, Remembered]]
    ) -> None:
        """Take up what the file has; see ``Guard.restore``."""
        self._memory.restore(floor, figures, known)
        self.written()


class SQLiteReplayStore(ReplayStore):
    """Replay memory in one file, for one process at a time. Thread-safe.

    After ``close()``, or a normal end of the program, the next life goes on exactly
    where this one ended. After a crash or a power loss it refuses (``before_start``)
    what is stamped in the three seconds around the last commit, and around each time
    by which a sender lagged then (or all between, of more than sixteen such times);
    everything else is judged as before. There is about one commit a second, in the
    thread that opens an envelope. A full or failing disk refuses (``store_unavailable``)
    until a commit succeeds again.

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
        self._guards: dict[tuple[str, bytes, str], DurableGuard] = {}
        self._numbers = itertools.count(1)
        self.is_inside = False
        """The lock is reentrant, for signal handlers; a mark and a close are not."""
        self.wants_close = False
        """A signal handler closed it from within a mark."""
        self._life_id = os.urandom(16)
        """In the file, it says whose the file is."""
        self.dirty: list[DurableGuard] = []
        self.zone = zones.NO_ZONE
        """The open zone that was used last; most envelopes lie in it."""
        self._others: tuple[Zone, ...] = ()
        self._used: dict[Zone, int] = {}
        """When an open zone was used last, roughly, by the wall clock."""
        self.lowest = clocks.MAX_TIME
        """The lowest sent_at since the last commit."""
        self._lows: list[tuple[int, int]] = []
        """When there was a commit lately, and what was the lowest then."""
        self._lock = threading.RLock()
        start = clocks.check(clock())
        cold = NEVER if first_life else start + clocks.microseconds(self.max_future)
        self._lock_file = LockFile(self.path)
        # Streams begun before this may have been opened by the life before.
        self._birth = streams.birth()
        try:
            self._database = self._connect(cold)
        except BaseException:
            self._lock_file.release()
            raise
        self._is_open = True
        process.adopt(self)
        _open_stores.add(self)

    def guard(self, domain: str, sender: bytes, context: str) -> DurableGuard:
        """Return the guard of one sender; see ``ReplayStore``."""
        place = (domain, sender, context)
        with self._lock:
            if place not in self._guards:
                self._add(place, next(self._numbers))
            return self._guards[place]

    @property
    def domains(self) -> frozenset[str]:
        """The replay domains that something is remembered for, or was asked for (SPEC 8.1)."""
        with self._lock:
            return frozenset(domain for domain, _, _ in self._guards)

    def _add(self, place: tuple[str, bytes, str], number: int) -> DurableGuard:
        for name in (place[0], place[2]):
            try:
                name.encode()
            except UnicodeEncodeError:
                raise UsageError(f"{name!r} cannot be encoded as UTF-8") from None
        memory = Guard(cold=self._cold, birth=self._birth)
        # A signal handler may have made one meanwhile, and marked in it.
        return self._guards.setdefault(place, DurableGuard(self, number, place, memory))

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
        other = zones.find(self._others, sent_at)
        if other is not None:
            # What comes next is likely to lag as much: look there first.
            rest = [zone for zone in self._others if zone is not other]
            self._used[other] = self._used[self.zone] = self._clock()
            self.zone, self._others = other, (self.zone, *rest)
            return
        now = self._clock()
        used = self._still_used(now, sent_at)
        ahead = now + zones.AHEAD // 2
        if not zones.find(used, ahead):
            used[zones.around(now)] = now
        if not zones.find(used, sent_at):
            used[zones.around(sent_at)] = now
        zones.merge(used)
        first = zones.find(used, sent_at)
        assert first is not None
        self._commit(first, tuple(zone for zone in used if zone is not first))
        self._used = used

    def _still_used(self, now: int, sent_at: int) -> dict[Zone, int]:
        """Return the open zones that were used lately, cut off below what came lately."""
        lows = [(at, low) for at, low in self._lows if abs(now - at) <= zones.LINGER]
        self._lows = [*lows, (now, min(self.lowest, sent_at))]
        self.lowest = clocks.MAX_TIME
        floor = min(low for _, low in self._lows) - zones.BEHIND
        if self.zone is not zones.NO_ZONE:
            self._used[self.zone] = now
        return {
            Zone(max(zone.after, floor), zone.until): at
            for zone, at in self._used.items()
            if abs(now - at) <= zones.LINGER and zone.until > floor
        }

    def _commit(self, zone: Zone, others: tuple[Zone, ...]) -> None:
        """Write all that has changed, and replace the open zones."""
        # From here until success no zone may be relied on: a commit that fails may
        # still have reached the disk, and have replaced those that were there.
        self.zone, self._others, self._used = zones.NO_ZONE, (), {}
        try:
            with _transaction(self._database) as database:
                [(_, life, _)] = database.execute("SELECT * FROM store").fetchall()
                if life != self._life_id:
                    raise StoreUnavailableError(f"another process has taken {self.path}")
                for guard in self.dirty:
                    guard.write(database)
                database.execute("DELETE FROM zone WHERE NOT is_dead")
                database.executemany(
                    "INSERT INTO zone VALUES (?, ?, ?, ?)",
                    [_row(*one, 0) for one in (zone, *others) if one is not zones.NO_ZONE],
                )
        except (sqlite3.Error, OSError, ValueError, MemoryError) as error:
            raise StoreUnavailableError(f"cannot write {self.path}: {_reason(error)}") from None
        for guard in self.dirty:
            guard.written()
        self.dirty = []
        self.zone, self._others = zone, others

    def close(self) -> None:
        """Write all and release the file. May be called again. Raises nothing.

        Called by a signal handler from within a mark, it is done when that ends. If the
        disk does not take it, the next life begins as after a crash.
        """
        if process.life() != self._life:
            return  # The parent's connection is not ours to touch.
        with self._lock:
            if not self._is_open:
                return
            if self.is_inside:
                self.wants_close = True
                return
            self.is_inside = True
            try:
                self._commit(zones.NO_ZONE, ())
            except StoreUnavailableError as error:
                _log.error("closing: %s; the next start will be as after a crash", error.detail)
            finally:
                self.is_inside = self._is_open = False
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
            _make_private(self.path)
            with contextlib.ExitStack() as undo:
                database = sqlite3.connect(
                    self.path, timeout=0, isolation_level=None, check_same_thread=False
                )
                undo.callback(database.close)
                is_blank = _is_blank(database)
                if not is_blank:
                    self._check_schema(database)
                # The journal is deleted, and its folder synced, before a commit returns;
                # between commits no other file exists, which a fork could damage.
                database.execute("PRAGMA journal_mode = DELETE")
                database.execute("PRAGMA synchronous = EXTRA")
                if is_blank:
                    _initialise(database, cold)
                    sync_folder(self.path.parent)
                    if cold != NEVER:
                        _log.warning(
                            "%s is new: what is stamped in the next %.1f s, or before now, is "
                            "refused, for an earlier memory may be lost",
                            self.path,
                            self.max_future,
                        )
                self._read(database)
                undo.pop_all()
                return database
        except EnvelopeError:
            raise
        except (OSError, sqlite3.OperationalError) as error:  # A full disk, a read-only one.
            raise StoreFileError(f"{self.path} cannot be used: {error}") from None
        except Exception as error:  # noqa: BLE001 (anything may be in the file)
            raise StoreFileError(
                f"{self.path} cannot be used: {_reason(error)}. It is damaged: move it away. A "
                "new one starts cold, and permits no replay"
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
        [row] = database.execute("SELECT * FROM store").fetchall()
        cold, _ = _checked(row)
        left = [Zone(*_checked(row)[:2]) for row in database.execute("SELECT * FROM zone")]
        dead, self._cold = zones.bury(left, _as_time(cold))
        self.dead = tuple(dead)
        with _transaction(database):
            database.execute("DELETE FROM store")
            database.execute("INSERT INTO store VALUES (?, ?, ?)", _row(self._cold, self._life_id))
            database.execute("DELETE FROM zone")
            database.executemany(
                "INSERT INTO zone VALUES (?, ?, ?, ?)", [_row(*zone, 1) for zone in dead]
            )
        places: dict[object, tuple[DurableGuard, int, list[int]]] = {}
        for row in database.execute("SELECT * FROM place ORDER BY id"):
            number, domain, sender, context, floor, figures = _checked(row)
            if [*map(type, (number, domain, sender, context))] != [int, str, bytes, str]:
                raise ValueError("a place that is none")
            guard = self._add((domain, sender, context), number)
            places[number] = guard, _as_time(floor), json.loads(figures)
            self._numbers = itertools.count(number + 1)
        # One by one: a hundred thousand rows at once would keep the garbage collector busy.
        streams = database.execute("SELECT * FROM stream ORDER BY place, id")
        for number, some in itertools.groupby(streams, key=operator.itemgetter(0)):
            if number not in places:
                raise ValueError("streams of places that are not there")
            guard, floor, figures = places.pop(number)
            guard.restore(floor, figures, map(_checked_stream, some))
        if places:
            raise ValueError("places that have lost their streams")

    def __repr__(self) -> str:
        """Return the file."""
        return f"<SQLiteReplayStore {os.fspath(self.path)}>"


_open_stores: set[SQLiteReplayStore] = set()
"""Kept until they are closed: a normal end of the program closes them."""


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


def _make_private(path: Path) -> None:
    """Make the file if it is not there, for this user alone."""
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
        database.execute("INSERT INTO store VALUES (?, ?, ?)", _row(cold, b""))


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
                with contextlib.suppress(sqlite3.Error, MemoryError):
                    self._database.execute("ROLLBACK")


def _reason(error: Exception) -> str:
    """Return why; a MemoryError, which SQLite makes of a damaged length, says nothing."""
    return str(error) or type(error).__name__


def _as_time(value: object) -> int:
    if type(value) is not int or not NEVER <= value < 2 * clocks.MAX_TIME:
        raise ValueError("a time that is none")
    return value


_forking = threading.local()


def _before_fork() -> None:
    """Wait for commits: a child that inherits half of one could undo it."""
    _forking.locks = [store._lock for store in list(_open_stores)]  # noqa: SLF001 (its own)
    for lock in _forking.locks:
        lock.acquire()


def _after_fork() -> None:
    for lock in _forking.locks:
        lock.release()


def _close_all() -> None:
    for store in list(_open_stores):
        store.close()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork)
atexit.register(_close_all)
