"""The lock beside a file: private, followed nowhere, and it names who holds it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import warnings

import pytest

from envelope import StoreFileError
from envelope.replay.lockfile import LockFile


@pytest.fixture
def path(tmp_path):
    return tmp_path / "replay.db"


@pytest.fixture
def lock(path):
    return path.with_name("replay.db.lock")


@contextlib.contextmanager
def held_by_a_child(lock, content):
    """Have another process that holds the lock, and has written this into its file."""
    (ready, tell), (told, go) = os.pipe(), os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Of threads of other tests.
        child = os.fork()
    if not child:
        try:
            handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.lockf(handle, fcntl.LOCK_EX)
            os.write(handle, content)
            os.write(tell, b".")
            os.close(go)
            os.read(told, 1)  # Until the parent has done, or is no more.
        finally:
            os._exit(0)
    os.close(tell)
    try:
        assert os.read(ready, 1) == b"."
        yield
    finally:
        os.close(go)
        os.waitpid(child, 0)
        os.close(ready)
        os.close(told)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"4711\n", "4711"),
        (b"", "another"),
        (b"\xff\n", "\N{REPLACEMENT CHARACTER}"),
        (b"1" * 30, "1" * 20),
    ],
)
def test_another_process_that_has_it_is_named(path, lock, content, name):
    with (
        held_by_a_child(lock, content),
        pytest.raises(StoreFileError) as caught,
    ):
        LockFile(path)
    text = f"{path} is in use by process {name}; a store is for one process at a time"
    assert text in str(caught.value)
    assert lock.read_bytes() == content
    LockFile(path).release()


def test_this_process_is_told_which_file_it_has_already(path):
    held = LockFile(path)
    with pytest.raises(StoreFileError, match=f"{path} is open in this process already"):
        LockFile(path)
    held.release()
    LockFile(path).release()


def test_it_is_private_and_holds_the_process_alone(path, lock):
    umask = os.umask(0)
    try:
        held = LockFile(path)
    finally:
        os.umask(umask)
    assert stat.S_IMODE(lock.stat().st_mode) == 0o600
    held.release()
    lock.write_bytes(b"something that was there before and is longer")
    held = LockFile(path)
    assert lock.read_text(encoding="ascii") == f"{os.getpid()}\n"
    held.release()


def test_a_link_is_not_followed(path, lock):
    elsewhere = path.with_name("elsewhere")
    lock.symlink_to(elsewhere)
    with pytest.raises(StoreFileError, match="cannot lock"):
        LockFile(path)
    assert not elsewhere.exists()
