"""Keys for a set of processes that are started together: Fleet.

Rules of this file:

- One call makes the identities, and everyone knows everyone. Nobody is added later.
- A secret leaves by ``hand_out``, ``pipe`` and ``save`` alone. Whatever leaves is no
  longer new here (``member`` says what that means).
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn, Self

from envelope import clock as clocks
from envelope.clock import Clock
from envelope.errors import KeyFileError, UsageError
from envelope.forks import process
from envelope.identity import Identity
from envelope.keyfile import sync_folder
from envelope.member import (
    FIRST_LIFE,
    MAX_TEXT,
    PEERS,
    Member,
    as_folder,
    check_name,
    first_lives,
    write,
)
from envelope.primitives import random_bytes
from envelope.trust import Peer, TrustStore


class Fleet:
    """Identities for processes that are started together. Thread-safe.

    Iterates over the names. Not copied, not pickled: it holds the secrets of all. A child
    that was forked has them in its memory, too.
    """

    def __init__(
        self, identities: Mapping[str, Identity], peers: Sequence[Peer], *, clock: Clock
    ) -> None:
        """Use ``generate``."""
        self._identities = dict(identities)
        self._peers = tuple(peers)
        self._rows = [[peer.name, str(peer.public), list(peer.contexts)] for peer in peers]
        self._members: dict[str, Member] = {}
        self._clock = clock
        self._life = process.life()
        self._lock = threading.RLock()
        process.adopt(self)

    @classmethod
    def generate(
        cls,
        names: Sequence[str],
        *,
        contexts: Sequence[str] | Mapping[str, Sequence[str]],
        clock: Clock = clocks.wall,
        random: Callable[[int], bytes] = random_bytes,
    ) -> Self:
        """Make fresh identities that know each other.

        Args:
            names: one for each member: letters, digits, ``.``, ``_`` and ``-``, at most 100.
            contexts: where each may send, as in ``Peer``; or a dict with such a list
                for each name.
            clock: wall clock in Unix microseconds.
            random: returns n random bytes.

        Raises:
            UsageError: an argument that cannot be used; the text says which and why.
        """
        if not isinstance(names, list | tuple) or not names:
            raise UsageError('names is a non-empty list of str: ["router", "worker-0"]')
        identities: dict[str, Identity] = {}
        for name in names:
            if check_name(name) in identities:
                raise UsageError(f"two members are named {name!r}")
            identities[name] = Identity.generate(random=random)
        if not isinstance(contexts, Mapping):
            contexts = dict.fromkeys(identities, contexts)
        elif set(contexts) != set(identities):
            raise UsageError("contexts has a list for each name, and no other name")
        peers = [Peer(name, one.public, contexts[name]) for name, one in identities.items()]
        return cls(identities, peers, clock=clock)

    def __getitem__(self, name: str) -> Member:
        """Return the member of this name, to be used in this process; always the same one.

        Raises:
            UsageError: there is no such name.
        """
        identity = self._identity(name)
        with self._lock:
            member = self._members.get(name)
            if member is None:
                trust = TrustStore(self._peers)
                member = Member(name, identity, trust, life=self._life, clock=self._clock)
                self._members[name] = member
            return member

    def hand_out(self, name: str) -> str:
        """Return a member as a text for one other process, which is a secret.

        For arguments of ``multiprocessing``, a pipe, standard input or, as ``from_env``
        says, an environment variable. The first text of a member lets its process accept
        at once, if it starts within a minute and this process has not opened as this
        member; every later one begins cold. So hand out anew for each process that is
        started, also for one that takes the place of another.

        Returns:
            One line of ASCII; some 150 characters for each member of the fleet. Linux
            takes 128 KiB in an environment variable.

        Raises:
            UsageError: there is no such name, or the fleet is too large for a text (1 MiB).
        """
        identity = self._identity(name)
        is_first = first_lives.take(identity.key_id, self._life)
        until = clocks.check(self._clock()) + FIRST_LIFE if is_first else 0
        member_text = write([name, identity.export(), until, self._rows])
        if len(member_text) > MAX_TEXT:
            raise UsageError("this fleet is too large for a text; save it to a folder")
        return member_text

    @contextlib.contextmanager
    def pipe(self, name: str) -> Iterator[int]:
        """Hand a member out through a pipe; ``Member.from_fd`` reads it at the other end.

        For ``subprocess``, within the ``with``: ``Popen([..., str(fd)], pass_fds=[fd])``.

        Returns:
            A context manager that gives the number of the descriptor, and closes it here.

        Raises:
            UsageError: there is no such name, or the pipe does not hold the text (a pipe
                of Linux: 64 KiB, some 400 members).
            OSError: there is no descriptor left.
        """
        content = self.hand_out(name).encode()
        reader, writer = os.pipe()
        try:
            try:
                # All is written before anyone reads, so it must not wait for a reader.
                os.set_blocking(writer, False)
                written = os.write(writer, content)
            finally:
                os.close(writer)
            if written != len(content):
                raise UsageError("this fleet is too large for a pipe; save it to a folder")
            yield reader
        finally:
            os.close(reader)

    def save(self, folder: str | Path) -> None:
        """Write all keys (``NAME.key``, 0600 each), then ``peers.toml``; ``Member.load`` reads.

        From then on every memory of these members begins cold, also those of this process
        that did not begin before: nobody knows who else loads them.

        Args:
            folder: is made (0700) if it is not there. Nothing in it is replaced.

        Raises:
            KeyFileError: something is there already, or it cannot be written; what this
                call had written is removed.
            UsageError: no path.
        """
        path = as_folder(folder)
        for identity in self._identities.values():
            first_lives.take(identity.key_id, self._life)
        with contextlib.ExitStack() as undo:
            try:
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
                for name, identity in self._identities.items():
                    identity.save(path / f"{name}.key")
                    undo.callback((path / f"{name}.key").unlink)
                _write_new(path / PEERS, "\n".join(map(_table, self._peers)))
                undo.callback((path / PEERS).unlink)
                sync_folder(path)
            except FileExistsError as error:
                taken = error.filename2 or error.filename
                raise KeyFileError(f"{taken} exists already; choose another folder") from None
            except OSError as error:
                raise KeyFileError(f"cannot write {path}: {error.strerror}") from None
            undo.pop_all()

    def _identity(self, name: str) -> Identity:
        identity = self._identities.get(name) if isinstance(name, str) else None
        if identity is None:
            raise UsageError(f"no member is named {name!r}")
        return identity

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, in the order given."""
        return iter(self._identities)

    def __len__(self) -> int:
        """Return the number of members."""
        return len(self._identities)

    def __repr__(self) -> str:
        """Return the number of members; never a secret."""
        return f"<Fleet of {len(self)} members>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse to be copied or pickled.

        Raises:
            TypeError: always.
        """
        raise TypeError("a Fleet is not pickled; pass hand_out(name) on to each child")


def _table(peer: Peer) -> str:
    """Return one ``[[peer]]`` of a trust file (SPEC 13.3)."""
    # A string of JSON is one of TOML, but for DEL and for pairs of surrogates.
    contexts = json.dumps(peer.contexts, ensure_ascii=False).replace("\x7f", "\\u007f")
    return f'[[peer]]\nname = "{peer.name}"\nkey = "{peer.public}"\ncontexts = {contexts}\n'


def _write_new(path: Path, content: str) -> None:
    """Write a file that others may read, whole or not at all, and never over another one."""
    temporary = path.with_name(f".{path.name}.{random_bytes(6).hex()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            # Whoever may write this file decides whom all of them believe.
            os.fchmod(file.fileno(), 0o644)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # link, unlike rename, fails if the name is taken.
        os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
