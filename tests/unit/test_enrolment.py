"""A peer into a trust file (SPEC 19.7): appended, checked, and never over another one."""

from __future__ import annotations

import fcntl
import os
import stat
import threading

import pytest
from support import identity

from envelope import Peer, PublicIdentity, TrustStore
from envelope.errors import TrustFileError, UsageError
from envelope.pairing import enrolment

BEFORE = """\
# Whom we believe.
[[peer]]
name = "carol"   # since March
key = "{carol}"
contexts = ["orders"]
topics = ["eu/"]
not_after = 2027-06-30T00:00:00Z
"""


def alice(name="alice", contexts=("orders", "orders.*")):
    return Peer(name, identity("alice").public, contexts=list(contexts))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "peers.toml"
    path.write_text(BEFORE.format(carol=identity("carol").public), encoding="utf-8")
    path.chmod(0o640)
    return path


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_stood_there_stays_byte_for_byte(file):
    before = file.read_bytes()
    (carol,) = TrustStore.load(file)
    assert enrolment.add(file, alice()) is True
    after = file.read_bytes()
    assert after.startswith(before)
    assert after[len(before) :].decode() == (
        f'\n[[peer]]\nname = "alice"\nkey = "{identity("alice").public}"\n'
        'contexts = ["orders", "orders.*"]\n'
    )
    assert list(TrustStore.load(file)) == [carol, alice()]
    assert names_in(file.parent) == ["peers.toml"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
@pytest.mark.audit("K7")
def test_the_mode_stays(file, mode):
    file.chmod(mode)
    umask = os.umask(0)
    try:
        enrolment.add(file, alice())
    finally:
        os.umask(umask)
    assert stat.S_IMODE(file.stat().st_mode) == mode


@pytest.mark.audit("K7")
def test_the_new_file_is_private_until_it_has_the_mode_of_the_old_one(file, monkeypatch):
    modes = []
    change = os.fchown

    def look(handle, *owner):
        modes.append(stat.S_IMODE(os.fstat(handle).st_mode))
        change(handle, *owner)

    monkeypatch.setattr(enrolment.os, "fchown", look)
    umask = os.umask(0)
    try:
        enrolment.add(file, alice())
    finally:
        os.umask(umask)
    assert modes == [0o600]


def test_a_group_that_cannot_be_given_is_no_reason_to_refuse(file, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "not in that group")

    monkeypatch.setattr(enrolment.os, "fchown", refuse)
    assert enrolment.add(file, alice()) is True
    assert list(TrustStore.load(file))[1] == alice()
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


@pytest.mark.audit("K7")
def test_what_stands_under_the_temporary_name_is_neither_used_nor_removed(file, monkeypatch):
    before = file.read_bytes()
    monkeypatch.setattr(enrolment, "random_bytes", bytes)
    other = file.with_name(f".{file.name}.{bytes(6).hex()}")
    other.write_bytes(b"theirs")
    with pytest.raises(FileExistsError):
        enrolment.add(file, alice())
    assert (file.read_bytes(), other.read_bytes()) == (before, b"theirs")


def test_a_long_name_leaves_room_for_the_temporary_one(file):
    long = file.rename(file.with_name("x" * 241))
    assert enrolment.add(long, alice()) is True


@pytest.mark.parametrize(
    ("before", "gap"), [("", ""), ("# nobody yet", "\n\n"), ("# nobody yet\n", "\n")]
)
def test_an_empty_file_gets_its_first_peer(file, before, gap):
    file.write_text(before, encoding="utf-8")
    enrolment.add(file, alice())
    assert list(TrustStore.load(file)) == [alice()]
    assert file.read_text(encoding="utf-8").startswith(f"{before}{gap}[[peer]]\nname")


@pytest.mark.parametrize(
    ("name", "context"),
    [
        ('ali"ce\\', "orders"),
        ("\u00c5l\u00efce \U0001f600", "orders.\U0001f600"),
        ("alice", 'tab\there "and" \\'),
        ("alice", "line\nend\x7f\x00"),
        ("]]", "]"),
    ],
)
def test_any_name_and_context_comes_back_as_it_was(file, name, context):
    peer = alice(name, [context])
    enrolment.add(file, peer)
    assert list(TrustStore.load(file))[1] == peer


def test_a_peer_that_is_there_already_changes_nothing(file):
    enrolment.add(file, alice())
    before = file.read_bytes(), file.stat().st_ino
    assert enrolment.add(file, alice(contexts=["other"])) is False
    assert (file.read_bytes(), file.stat().st_ino) == before


def test_another_key_under_a_name_that_is_taken_is_refused(file):
    before = file.read_bytes()
    with pytest.raises(UsageError, match="already, with another key; choose another name"):
        enrolment.add(file, alice("carol"))
    assert file.read_bytes() == before


def test_a_key_that_is_there_under_another_name_is_refused(file):
    carol = Peer("caroline", identity("carol").public, contexts=["orders"])
    with pytest.raises(UsageError, match="already, as 'carol'"):
        enrolment.add(file, carol)


def test_a_key_that_is_revoked_there_is_refused(file):
    with file.open("a", encoding="utf-8") as opened:
        opened.write("revoked = true\n")
    with pytest.raises(UsageError, match="revoked"):
        enrolment.is_known(TrustStore.load(file), "carol", identity("carol").public)


def test_peers_written_inline_are_told_of_and_left(file):
    line = f'peer = [{{name = "carol", key = "{identity("carol").public}", contexts = ["*"]}}]\n'
    file.write_text(line, encoding="utf-8")
    with pytest.raises(TrustFileError, match="add it by hand") as caught:
        enrolment.add(file, alice())
    # It names the file in its own words and in those of its reason; the other file is gone.
    assert str(caught.value).count(str(file)) == 2
    assert str(identity("alice").public) in str(caught.value)
    assert file.read_text(encoding="utf-8") == line
    assert names_in(file.parent) == ["peers.toml"]


def test_a_file_that_would_say_something_else_is_not_written(file, monkeypatch):
    before = file.read_bytes()
    monkeypatch.setattr(enrolment, "_table", lambda *_: b"# nothing\n")
    with pytest.raises(TrustFileError, match="add it by hand"):
        enrolment.add(file, alice())
    assert file.read_bytes() == before
    assert names_in(file.parent) == ["peers.toml"]


def test_half_a_key_that_another_has_is_refused(file):
    mixed = identity("carol").public.public[:32] + identity("alice").public.public[32:]
    before = file.read_bytes()
    with pytest.raises(UsageError, match="same key"):
        enrolment.add(file, Peer("mixed", PublicIdentity(mixed), contexts=["*"]))
    assert file.read_bytes() == before
    assert names_in(file.parent) == ["peers.toml"]


@pytest.mark.audit("K7")
def test_a_file_that_others_can_write_or_that_is_none_is_refused(file, tmp_path):
    file.chmod(0o666)
    with pytest.raises(TrustFileError, match="written by others"):
        enrolment.add(file, alice())
    with pytest.raises(TrustFileError, match="does not exist"):
        enrolment.add(tmp_path / "nothing.toml", alice())
    with pytest.raises(TrustFileError):
        enrolment.add(tmp_path, alice())


def test_a_link_stays_one_and_what_it_leads_to_is_replaced(file, tmp_path):
    link = tmp_path / "link.toml"
    link.symlink_to(file)
    enrolment.add(link, alice())
    assert link.is_symlink()
    assert len(TrustStore.load(file)) == 2


def test_a_folder_that_cannot_be_written_leaves_the_file_as_it_was(file, monkeypatch):
    before = file.read_bytes()

    def refuse(*_):
        raise PermissionError(13, "no")

    monkeypatch.setattr(enrolment.os, "fsync", refuse)
    with pytest.raises(OSError, match="no"):
        enrolment.add(file, alice())
    assert file.read_bytes() == before
    assert names_in(file.parent) == ["peers.toml"]


@pytest.mark.audit("K7")
def test_two_that_add_at_once_both_get_in(file):
    bob = Peer("bob", identity("bob").public, contexts=["orders"])
    with file.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        waiting = threading.Thread(target=enrolment.add, args=(file, alice()))
        waiting.start()
        # Another one replaces the file in the meantime, as its writer does.
        other = file.with_name("other.toml")
        other.write_bytes(file.read_bytes())
        enrolment.add(other, bob)
        other.replace(file)
    waiting.join()
    assert [peer.name for peer in TrustStore.load(file)] == ["carol", "bob", "alice"]


def test_a_running_store_follows(file):
    trust = TrustStore.load(file)
    enrolment.add(file, alice())
    trust.reload()
    assert "alice" in trust
