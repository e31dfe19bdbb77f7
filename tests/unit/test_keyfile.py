"""Key files: private, whole or absent, never overwritten, locked if asked (SPEC 13.2)."""

from __future__ import annotations

import base64
import contextlib
import errno
import os
import stat
import subprocess
import sys
import tracemalloc
import unicodedata
from pathlib import Path

import pytest
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt
from nacl.pwhash import argon2id as reference_argon2id
from support import seeded

from envelope import Identity, KeyFileError, UsageError, keyfile, text
from envelope.keyfile import COST, Cost

ROOT = Path(__file__).parents[2]
SEED = bytes(range(32))
SECRET = text.encode("envsec1", SEED)
CHEAP = Cost(passes=1, memory_kib=8)
PASSPHRASE = "correct horse"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "alice.key"


def save(path, passphrase=None, *, cost=CHEAP, random=None, seed=SEED):
    keyfile.save(
        path,
        seed,
        comment="public: somebody",
        passphrase=passphrase,
        random=random or seeded(),
        cost=cost,
    )


def load(path, passphrase=None):
    return keyfile.load(path, passphrase=passphrase)


def write(path, content, mode=0o600):
    """Write a key file by hand."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    return path


def refused(path, passphrase=None):
    """Return why the file is refused; the reason names the file and no secret."""
    with pytest.raises(KeyFileError) as raised:
        load(path, passphrase)
    reason = str(raised.value)
    assert str(path) in reason
    assert SECRET[7:17] not in reason
    assert raised.value.__suppress_context__ or raised.value.__context__ is None
    return reason


# --- Writing ---------------------------------------------------------------------------


@pytest.mark.audit("K2", "K7")
def test_a_key_file_is_a_comment_and_the_text_of_the_seed(path):
    save(path)
    assert path.read_text(encoding="utf-8") == f"# public: somebody\n{SECRET}\n"
    assert load(path) == SEED


@pytest.mark.audit("K7")
@pytest.mark.parametrize("umask", [0, 0o022, 0o077, 0o777])
def test_a_key_file_is_private_whatever_the_umask(path, umask):
    before = os.umask(umask)
    try:
        save(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.audit("K7")
def test_a_key_file_is_private_from_its_first_byte_on(path, monkeypatch):
    modes = []
    fchmod = os.fchmod

    def watched(handle, mode):
        modes.append(stat.S_IMODE(os.fstat(handle).st_mode))
        assert os.fstat(handle).st_size == 0
        fchmod(handle, mode)

    monkeypatch.setattr(os, "fchmod", watched)
    before = os.umask(0)
    try:
        save(path)
    finally:
        os.umask(before)
    assert modes == [0o600]


@pytest.mark.audit("K7")
def test_file_and_folder_are_synced_in_this_order(path, monkeypatch):
    synced = []
    fsync = os.fsync

    def watched(handle):
        is_folder = stat.S_ISDIR(os.fstat(handle).st_mode)
        synced.append(("folder" if is_folder else "file", path.exists(), os.fstat(handle).st_size))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", watched)
    save(path)
    size = path.stat().st_size
    assert synced[0] == ("file", False, size)
    assert synced[1][:2] == ("folder", True)
    assert len(synced) == 2


@pytest.mark.audit("K7")
@pytest.mark.parametrize("there", ["file", "folder", "fifo", "symlink", "dangling symlink"])
def test_nothing_is_ever_overwritten(path, tmp_path, there):
    other = tmp_path / "other"
    if there == "file":
        path.write_text("precious")
    elif there == "folder":
        path.mkdir()
    elif there == "fifo":
        os.mkfifo(path)
    else:
        if there == "symlink":
            other.write_text("precious")
        path.symlink_to(other)
    before = (sorted(tmp_path.iterdir()), path.lstat())
    with pytest.raises(KeyFileError) as raised:
        save(path)
    assert str(raised.value) == f"{path} exists already; choose another name or move it away"
    assert (sorted(tmp_path.iterdir()), path.lstat()) == before


class Failing:
    """A file whose writing or flushing fails."""

    def __init__(self, file, step):
        self.file = file
        self.step = step

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.file.close()

    def __getattr__(self, name):
        if name == self.step:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return getattr(self.file, name)


def break_at(monkeypatch, step):
    """Make one step of the writing fail as on a full disk."""

    def fail(*_args, **_more):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if step in ("write", "flush"):
        fdopen = os.fdopen
        monkeypatch.setattr(os, "fdopen", lambda *a, **k: Failing(fdopen(*a, **k), step))
    else:
        monkeypatch.setattr(os, step, fail)


@pytest.mark.audit("K7")
@pytest.mark.parametrize("step", ["open", "fchmod", "write", "flush", "fsync", "link"])
def test_a_failure_at_any_step_leaves_nothing_behind(path, tmp_path, monkeypatch, step):
    with monkeypatch.context() as patched:
        break_at(patched, step)
        with pytest.raises(KeyFileError) as raised:
            save(path)
    assert str(raised.value) == f"cannot write {path}: No space left on device"
    assert list(tmp_path.iterdir()) == []
    save(path)
    assert load(path) == SEED


@pytest.mark.audit("K7")
def test_a_folder_that_cannot_be_synced_is_reported_and_its_handle_closed(path, monkeypatch):
    handles = []
    fsync = os.fsync

    def fail_on_folder(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            handles.append(handle)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", fail_on_folder)
    with pytest.raises(KeyFileError, match=r"cannot write .*: Input/output error"):
        save(path)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(handles[0])
    # The file is whole: what is not known is whether its name survives a power loss.
    assert load(path) == SEED


@pytest.mark.audit("K7")
@pytest.mark.parametrize("step", ["fchmod", "fsync", "link", "unlink"])
def test_a_process_killed_at_any_step_leaves_no_half_file(path, tmp_path, step):
    script = (
        "import os, pathlib, sys\n"
        "from envelope import keyfile\n"
        f"os.{step} = lambda *a, **k: os._exit(9)\n"
        "keyfile.save(pathlib.Path(sys.argv[1]), bytes(range(32)), comment='c', passphrase=None)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, path], cwd=ROOT, check=False)
    assert done.returncode == 9
    if step == "unlink":
        assert load(path) == SEED
    else:
        assert not path.exists()
    for left in tmp_path.iterdir():
        assert stat.S_IMODE(left.stat().st_mode) == 0o600
    if not path.exists():
        save(path)
        assert load(path) == SEED


def test_the_temporary_name_is_hidden_beside_the_file_and_random(path, monkeypatch):
    names = []
    link = os.link

    def watched(source, target):
        names.append(Path(source))
        link(source, target)

    monkeypatch.setattr(os, "link", watched)
    save(path, random=lambda n: b"\xab" * n)
    assert names == [path.parent / ".alice.key.abababababab"]


@pytest.mark.parametrize("parent", ["missing", "file"])
def test_a_folder_that_is_none_is_reported(tmp_path, parent):
    if parent == "file":
        (tmp_path / "file").write_text("")
    with pytest.raises(KeyFileError, match=r"cannot write .*: (No such file|Not a directory)"):
        save(tmp_path / parent / "alice.key")


@pytest.mark.parametrize("name", ["", "/", "."])
def test_a_path_without_a_file_name_is_reported(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((KeyFileError, UsageError)):
        save(Path(name))


def test_a_path_with_a_zero_byte_is_reported():
    for call in (save, load):
        with pytest.raises((KeyFileError, UsageError)):
            call(Path("a\0b"))


# --- Reading ---------------------------------------------------------------------------


@pytest.mark.audit("K7")
@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700], ids=oct)
def test_a_private_file_is_read(path, mode):
    assert load(write(path, SECRET, mode)) == SEED


@pytest.mark.audit("K7")
@pytest.mark.parametrize(
    "mode", [0o640, 0o604, 0o660, 0o606, 0o666, 0o644, 0o601, 0o602, 0o610, 0o620, 0o677], ids=oct
)
def test_a_file_that_others_can_reach_is_refused(path, mode):
    reason = refused(write(path, SECRET, mode))
    assert reason.startswith(f"{path} can be read or written by others")
    assert f"chmod 600 {path}" in reason


def owned_by(uid):
    """Return an fstat that says that every file belongs to this user."""
    fstat = os.fstat

    def changed(handle):
        status = list(fstat(handle))
        status[stat.ST_UID] = uid
        return os.stat_result(status)

    return changed


@pytest.mark.audit("K7")
@pytest.mark.parametrize(("owner", "is_read"), [(1000, True), (0, True), (1001, False)])
def test_a_file_of_another_user_is_refused_unless_that_is_root(path, monkeypatch, owner, is_read):
    write(path, SECRET)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "fstat", owned_by(owner))
    if is_read:
        assert load(path) == SEED
    else:
        assert refused(path).startswith(f"{path} belongs to another user")


@pytest.mark.audit("K7")
def test_a_symlink_is_judged_by_the_file_behind_it(path, tmp_path):
    behind = write(tmp_path / "behind", SECRET)
    path.symlink_to(behind)
    assert load(path) == SEED
    behind.chmod(0o644)
    assert "can be read or written by others" in refused(path)
    behind.unlink()
    assert "does not exist" in refused(path)
    path.unlink()
    path.symlink_to(path)
    assert "cannot read" in refused(path)


def test_a_missing_file_names_the_remedy(path):
    assert refused(path) == f"{path} does not exist; make it with: envelope keygen {path}"


def test_a_file_that_cannot_be_opened_is_reported(path, monkeypatch):
    def fail(*_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", fail)
    assert refused(path) == f"cannot read {path}: Permission denied"


def test_a_file_that_fails_while_it_is_read_is_reported_and_its_handle_closed(path, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    write(path, SECRET)
    closed = []
    close = os.close
    monkeypatch.setattr(os, "close", lambda handle: (closed.append(handle), close(handle)))
    monkeypatch.setattr(os, "read", fail)
    assert refused(path) == f"cannot read {path}: Input/output error"
    assert len(closed) == 1


@pytest.mark.audit("K7")
def test_a_fifo_is_refused_and_not_waited_for(path):
    os.mkfifo(path, 0o600)
    assert refused(path) == f"{path} is not a file"


def test_a_device_is_refused():
    assert refused(Path(os.devnull)) == f"{os.devnull} is not a file"


def test_a_folder_is_refused_and_its_handle_closed(tmp_path, monkeypatch):
    handles = []
    opened = os.open

    def watched(*args):
        handles.append(opened(*args))
        return handles[-1]

    monkeypatch.setattr(os, "open", watched)
    try:
        assert refused(tmp_path) == (
            f"{tmp_path} is a folder, not a file; if it is a node, use Node.load()"
        )
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(handles[0])
    finally:
        with contextlib.suppress(OSError):
            os.close(handles[0])


@pytest.mark.parametrize(
    "content",
    [
        SECRET,
        f"{SECRET}\n",
        f"\n\n{SECRET}\n\n",
        f"# one\n#two\n{SECRET}\n# é € three",
        f"#{SECRET}\n{SECRET}\n",
    ],
)
def test_comments_and_empty_lines_are_passed_over(path, content):
    assert load(write(path, content)) == SEED


ONE_LINE = "is not an identity: expected one envsec1... or envkey1... line"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", ONE_LINE),
        ("\n\n", ONE_LINE),
        (f"# {SECRET}\n", ONE_LINE),
        (f"{SECRET}\n{SECRET}\n", ONE_LINE),
        (f"{SECRET}\n \n", ONE_LINE),
        (f"# comment\r\n\r\n{SECRET}\r\n", ONE_LINE),
        (f"{SECRET}\r\n", "is not an identity: this envsec1... text is cut short or too long"),
        (f" {SECRET}\n", "is not an identity: expected a text that begins with envsec1"),
        (f"\ufeff{SECRET}\n", "is not an identity: expected a text that begins with envsec1"),
        ("hunter2\n", "is not an identity: expected a text that begins with envsec1"),
        (f"{SECRET}x\n", "is not an identity: this envsec1... text is cut short or too long"),
        (b"\xff\xfe\n", "is not an identity: not UTF-8 text"),
        (SECRET.encode("utf-16"), "is not an identity: not UTF-8 text"),
    ],
)
def test_anything_else_is_no_identity(path, content, reason):
    assert refused(write(path, content)) == f"{path} {reason}"


@pytest.mark.audit("K3")
def test_a_public_identity_is_no_key_file(path):
    reason = refused(write(path, f"{Identity(SEED).public}\n"))
    assert "expected a text that begins with envsec1" in reason


@pytest.mark.audit("K1", "K5")
def test_a_damaged_file_is_refused_at_every_character(path):
    write(path, SECRET)
    for at in range(len(SECRET)):
        letter = "b" if SECRET[at] == "a" else "a"
        path.write_text(SECRET[:at] + letter + SECRET[at + 1 :])
        assert "is not an identity" in refused(path)
        path.write_text(SECRET[:at])
        assert "is not an identity" in refused(path)


def test_a_file_of_4096_bytes_is_read_and_a_larger_one_refused(path):
    most = f"{SECRET}\n#"
    assert load(write(path, most.ljust(4096, "x"))) == SEED
    assert refused(write(path, most.ljust(4097, "x"))) == f"{path} {ONE_LINE}"


def test_of_a_huge_file_only_the_beginning_is_read(path):
    write(path, f"{SECRET}\n")
    os.truncate(path, 2**32)
    tracemalloc.start()
    try:
        refused(path)
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()


# --- Locked files ----------------------------------------------------------------------


def unpacked(path):
    """Return the 96 bytes of a locked file without their checksum."""
    line = path.read_text(encoding="utf-8").splitlines()[1]
    assert line.startswith("envkey1")
    return base64.b32decode(line.removeprefix("envkey1").upper())[:96]


@pytest.mark.audit("K7")
def test_a_locked_file_is_that_of_spec_13_2(path):
    save(path, PASSPHRASE, cost=Cost(2, 16))
    raw = unpacked(path)
    source = seeded()
    salt, nonce = source(16), source(24)
    assert raw[:48] == salt + (2).to_bytes(4, "big") + (16).to_bytes(4, "big") + nonce
    key = reference_argon2id.kdf(32, PASSPHRASE.encode(), salt, opslimit=2, memlimit=16 * 1024)
    seed = crypto_aead_xchacha20poly1305_ietf_decrypt(raw[48:], b"envkey1" + raw[:24], nonce, key)
    assert seed == SEED
    assert SECRET not in path.read_text(encoding="utf-8")


@pytest.mark.audit("K7")
def test_a_locked_file_opens_with_its_passphrase_alone(path):
    save(path, PASSPHRASE)
    assert load(path, PASSPHRASE) == SEED
    assert refused(path) == f"{path} is locked; give its passphrase"
    for wrong in ("Correct horse", "correct  horse", "correct horse ", "x"):
        assert refused(path, wrong).startswith(f"{path}: wrong passphrase")


@pytest.mark.parametrize("wrong", ["", b"correct horse", 7, ["x"]])
def test_a_passphrase_is_a_str_with_something_in_it(path, tmp_path, wrong):
    with pytest.raises(UsageError) as raised:
        save(path, wrong)
    assert str(raised.value) == "the passphrase is a non-empty str"
    assert list(tmp_path.iterdir()) == []
    save(path, PASSPHRASE)
    with pytest.raises(UsageError):
        load(path, wrong)


@pytest.mark.audit("K5")
def test_a_passphrase_that_is_no_unicode_is_a_usage_error(path):
    # As from an environment variable whose bytes are no UTF-8.
    with pytest.raises(UsageError):
        save(path, "horse\udcff")
    save(path, PASSPHRASE)
    with pytest.raises(UsageError):
        load(path, "horse\udcff")


def test_a_passphrase_is_one_however_it_was_typed(path):
    composed, apart = "caf\u00e9", "cafe\u0301"
    assert unicodedata.normalize("NFC", apart) == composed
    save(path, apart)
    assert load(path, composed) == SEED
    assert load(path, apart) == SEED
    # NFC and not NFKC: a ligature stays one.
    path.unlink()
    save(path, "\ufb01sh")
    assert "wrong passphrase" in refused(path, "fish")


def test_two_locked_files_have_nothing_in_common(tmp_path):
    source = seeded()
    save(tmp_path / "one", PASSPHRASE, random=source)
    save(tmp_path / "two", PASSPHRASE, random=source)
    one, two = unpacked(tmp_path / "one"), unpacked(tmp_path / "two")
    for part in (slice(16), slice(24, 48), slice(48, 96)):
        assert one[part] != two[part]


@pytest.fixture
def no_work(monkeypatch):
    """Fail the test if Argon2id is computed."""

    def fail(*_args, **_more):
        pytest.fail("Argon2id was computed")

    monkeypatch.setattr(keyfile, "argon2id", fail)


@pytest.mark.audit("K1")
def test_a_damaged_locked_file_is_refused_at_every_character_before_any_work(path, no_work):
    line = text.encode("envkey1", bytes(16) + (1).to_bytes(4) + (8).to_bytes(4) + bytes(72))
    write(path, line)
    for at in range(len(line)):
        letter = "b" if line[at] == "a" else "a"
        path.write_text(line[:at] + letter + line[at + 1 :])
        assert "is not an identity" in refused(path, PASSPHRASE)


def test_every_byte_of_a_locked_file_is_authenticated(path):
    # Somebody who can write the file can make the checksum fit.
    save(path, PASSPHRASE)
    raw = unpacked(path)
    for at in (*range(16), 23, *range(24, 96)):
        changed = bytearray(raw)
        changed[at] ^= 1
        write(path, text.encode("envkey1", bytes(changed)))
        assert refused(path, PASSPHRASE).startswith(f"{path}: wrong passphrase")


def with_cost(path, passes, memory_kib):
    """Write a locked file that asks for this much work."""
    numbers = passes.to_bytes(4, "big") + memory_kib.to_bytes(4, "big")
    return write(path, text.encode("envkey1", bytes(16) + numbers + bytes(72)))


@pytest.mark.audit("P3")
@pytest.mark.parametrize(
    ("passes", "memory_kib"),
    [(0, 8), (17, 8), (2**32 - 1, 8), (1, 0), (1, 7), (1, 2**20 + 1), (1, 2**32 - 1)],
)
def test_work_outside_the_bounds_is_refused_before_it_begins(path, no_work, passes, memory_kib):
    reason = refused(with_cost(path, passes, memory_kib), PASSPHRASE)
    assert reason == f"{path} asks for more work than any key file of ours; refused"


@pytest.mark.parametrize(("passes", "memory_kib"), [(1, 8), (16, 8), (1, 2**20), (16, 2**20)])
def test_work_within_the_bounds_is_tried(path, monkeypatch, passes, memory_kib):
    tried = []

    def cheap(passphrase, salt, **cost):
        tried.append((passphrase, salt, cost))
        return bytes(32)

    monkeypatch.setattr(keyfile, "argon2id", cheap)
    assert "wrong passphrase" in refused(with_cost(path, passes, memory_kib), PASSPHRASE)
    assert tried == [(PASSPHRASE.encode(), bytes(16), {"passes": passes, "memory_kib": memory_kib})]


def test_the_usual_cost_is_three_passes_over_256_mib():
    assert Cost(passes=3, memory_kib=262_144) == COST
    assert keyfile.save.__kwdefaults__["cost"] is COST
