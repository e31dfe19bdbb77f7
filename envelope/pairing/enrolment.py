"""A proven peer into a trust file: whole, checked, and never over another one (SPEC 19.7).

Rules of this file: the only writer of trust files. What stands there stays, byte for byte,
with its comments; a table is added at the end. The file that would come of it is read as
any reader would, and must say what the old one says and this peer besides; only then does it
take the old one's name. Its mode and group stay.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from envelope.errors import TrustFileError, UsageError
from envelope.identity import PublicIdentity
from envelope.keyfile import sync_folder
from envelope.primitives import random_bytes
from envelope.trust import Peer, TrustStore

_PERMISSIONS: Final = 0o7777


def is_known(trust: TrustStore, name: str, public: PublicIdentity) -> bool:
    """Tell whether an identity stands in a trust store already, under this name.

    Raises:
        UsageError: it stands there under another name or revoked, or the name has another
            key. The text says what to do.
    """
    for peer in trust:
        if peer.public == public and peer.name != name:
            raise UsageError(f"this key is there already, as {peer.name!r}; pair with that name")
        if peer.public == public and peer.revoked:
            raise UsageError(f"this key of {name!r} is revoked there; nothing was changed")
        if peer.public == public:
            return True
    if name in trust:
        raise UsageError(
            f"there is a {name!r} already, with another key; choose another name, or rename "
            "or remove that one first"
        )
    return False


def add(path: str | os.PathLike[str], peer: Peer) -> bool:
    """Add a peer to a trust file; return False if it is there already, which changes nothing.

    Args:
        path: the file; it exists, and may be a link.
        peer: a name, a key and contexts; nothing else.

    Raises:
        TrustFileError: the file cannot be used, or not by appending to it.
        UsageError: as ``is_known``; or the file's other peers contradict this one (SPEC 3.6).
        OSError: it cannot be written. The file is as it was.
    """
    # What a link leads to is replaced, not the link.
    file = Path(path).resolve()
    before = TrustStore.load(file)  # Says of a folder, or of nothing, what it is.
    with _locked(file) as handle:
        before = TrustStore.load(file)
        if is_known(before, peer.name, peer.public):
            return False
        _replace(file, handle, before, peer)
    return True


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[int]:
    """Keep other processes that add peers out, and yield a handle of the file."""
    while True:
        handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            # Whoever had the lock before has put another file in its place.
            if os.path.samestat(os.fstat(handle), file.stat()):
                yield handle
                return
        finally:
            os.close(handle)


def _replace(file: Path, handle: int, before: TrustStore, peer: Peer) -> None:
    """Put a file with one peer more in the place of the old one."""
    old = os.fstat(handle)
    with open(handle, "rb", closefd=False) as opened:
        content = opened.read()
    temporary = file.with_name(f".{file.name}.{random_bytes(6).hex()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    made = os.open(temporary, flags, 0o600)  # Not within the try: what is there is another's.
    try:
        with os.fdopen(made, "wb") as new:
            with contextlib.suppress(PermissionError):
                os.fchown(new.fileno(), -1, old.st_gid)
            os.fchmod(new.fileno(), old.st_mode & _PERMISSIONS)
            new.write(content + _table(content, peer))
            new.flush()
            os.fsync(new.fileno())
        _check(file, temporary, before, peer)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(file.parent)


def _table(content: bytes, peer: Peer) -> bytes:
    """Return what to append."""
    contexts = ", ".join(_quoted(pattern) for pattern in peer.contexts)
    lines = [
        "[[peer]]",
        f"name = {_quoted(peer.name)}",
        f'key = "{peer.public}"',
        f"contexts = [{contexts}]",
    ]
    gap = b"" if not content else b"\n" if content.endswith(b"\n") else b"\n\n"
    return gap + "\n".join(lines).encode() + b"\n"


def _quoted(text: str) -> str:
    """Return a basic string of TOML; JSON's escapes are some of its own."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _check(file: Path, temporary: Path, before: TrustStore, peer: Peer) -> None:
    """Check that a new file says what the old one does, and one peer more.

    Raises:
        TrustFileError: it does not; the peers are written in a way that nothing can follow.
        UsageError: the peers contradict each other.
    """
    try:
        after = list(TrustStore.load(temporary))
    except TrustFileError as error:
        reason = str(error).replace(str(temporary), str(file))
        raise TrustFileError(
            f"no peer can be added to the end of {file}; add it by hand: key = "
            f'"{peer.public}" ({reason})'
        ) from None
    if after != [*before, peer]:
        raise TrustFileError(f"no peer can be added to the end of {file}; add it by hand")
