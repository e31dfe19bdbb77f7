"""Any file is a replay store that goes on where it says, or a StoreFileError that leaves it alone.

SPEC 8.10. The data is the file. What opens refuses what its windows hold, and marks something
new once: not again, and not in its next life, after a clean end or a crash.
"""

from __future__ import annotations

import atexit
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

from envelope.errors import RejectedError, StoreFileError
from envelope.replay import SQLiteReplayStore
from envelope.replay.sqlite import _row, _stream_digest
from fuzz.harness import Change
from fuzz.mutations import number

COVERS = ("envelope.replay.sqlite", "envelope.replay.zones")
SHARE = 3

_NOW = 1_800_000_000_000_000
_PLACE = ("domain", b"s" * 16, "orders")
_STREAM = b"a stream of ours"
_LIMITS: dict[str, Any] = {"full_at": 4, "window": 64, "expected": False, "forget_before": -1}
_MEMORY = Path("/dev/shm")  # noqa: S108 (a disk would be slow, and worn)
_folder = Path(tempfile.mkdtemp(dir=_MEMORY if _MEMORY.is_dir() else None))
atexit.register(shutil.rmtree, _folder, ignore_errors=True)


def _open(path: Path) -> SQLiteReplayStore:
    return SQLiteReplayStore(path, clock=lambda: _NOW)


def _put(data: bytes) -> Path:
    """Write the file; return its path."""
    path = _folder / "fuzz.store"
    for left in _folder.iterdir():
        left.unlink()
    path.touch(0o600)
    path.write_bytes(data)
    return path


def _made(count: int, *, is_closed: bool) -> bytes:
    """Return a store that has marked so many, closed or as a crash leaves it."""
    path = _put(b"")
    store = SQLiteReplayStore(path, first_life=True, clock=lambda: _NOW)
    for at in range(count):
        store.guard(*_PLACE).mark(_STREAM, at * 3, _NOW - at * 5_000_000, **_LIMITS)
    crashed = path.read_bytes()
    store.close()
    return _small(path.read_bytes() if is_closed else crashed)


def _small(data: bytes) -> bytes:
    """Return the same database in pages of 512 bytes."""
    path = _put(data)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA page_size = 512")
        database.execute("VACUUM")
    return path.read_bytes()


def _of_too_much(data: bytes) -> bytes:
    """Return a store whose schema has a row of 4 GiB, for which SQLite has no memory."""
    row = data.index(b"tablezonezone") - 10
    return data[:row] + b"\x8f\xff\xff\xff\x7f" + data[row + 5 :]


SEEDS = (
    b"",
    b"SQLite format 3\0",
    _made(0, is_closed=True),
    _made(2, is_closed=True),
    _made(3, is_closed=False),
    _of_too_much(_made(2, is_closed=True)),
)


def check(data: bytes) -> None:
    """Open, mark, close, open again."""
    path = _put(data)
    try:
        store = _open(path)
    except StoreFileError as error:
        assert str(path) in str(error)
        return
    try:
        for place, state in store.state().items():
            _check_remembered(store, place, state)
        is_marked = _is_marked(store)
        assert not _is_marked(store) or not is_marked
        crashed = path.read_bytes()
    finally:
        store.close()
    # Its next life, after a clean end, and after a crash instead.
    for left in (path.read_bytes(), crashed):
        try:
            with closing(_open(_put(left))) as again:
                assert not _is_marked(again) or not is_marked
        except StoreFileError:
            continue


def _is_marked(store: SQLiteReplayStore) -> bool:
    """Mark one envelope, always the same; tell whether it was accepted."""
    try:
        store.guard(*_PLACE).mark(b"a stream of fuzz", 1, _NOW + 3_000_000, **_LIMITS)
    except RejectedError:
        return False
    return True


def _check_remembered(store: SQLiteReplayStore, place: Any, state: Any) -> None:
    """Check that what is in a window is refused."""
    guard = store.guard(*place)
    _, streams = state
    for stream, _, newest, size, top, bits, _ in streams:
        if not bits & 1 or size < 64:
            continue
        try:
            guard.check(stream, top, newest, full_at=4, expected=True)
        except RejectedError:
            continue
        raise AssertionError("what its window holds is not refused")


def mutate(data: bytes, max_size: int, random: Random, change: Change) -> bytes:
    """Change values of rows with the digests that they need, or bytes."""
    if random.randrange(4) == 0:
        return change(data, max_size)
    path = _put(data)
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            _change_row(database, random, change)
    except (sqlite3.Error, ValueError, TypeError, OverflowError, MemoryError):
        return change(data, max_size)
    return path.read_bytes()


def _change_row(database: sqlite3.Connection, random: Random, change: Change) -> None:
    """Change a value of a row, or drop or repeat the row; mostly with a right digest."""
    table = random.choice(("store", "zone", "place", "stream"))
    rows = database.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608 (four names)
    row = list(random.choice(rows)) if rows else [_NOW, _NOW + 1, 0, b""]
    at = random.randrange(len(row))
    match row[at]:
        case int(value):
            new = number(random, 64, value, value, 64, 4096, 2**48, 2**53, _NOW)
            row[at] = min(new, 2**63 - 1) * random.choice((1, 1, 1, -1))
        case bytes(value):
            row[at] = change(value, 300)
        case str(value):
            row[at] = change(value.encode(), 300).decode("utf-8", "replace")
    if random.randrange(8) == 0:
        row[at] = random.choice((0, "", b"", 1.5, -1, "[]", "[1]", "[0,0,0,0,0,0,0,0,0]"))
    if random.randrange(8):
        digest = _stream_digest(row[:-1]) if table == "stream" else _row(*row[:-1])[-1]
        row[-1] = digest
    if rows and random.randrange(8):
        database.execute(f"DELETE FROM {table}")  # noqa: S608 (the same)
    if random.randrange(8):
        marks = ", ".join("?" * len(row))
        database.execute(f"INSERT INTO {table} VALUES ({marks})", row)  # noqa: S608 (the same)
