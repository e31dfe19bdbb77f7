"""A folder that holds what a program needs to take part: Node.

Rules of this file: identity, trust and replay memory are made together and used
together, so that the easy way is the safe way.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from envelope.errors import KeyFileError, StoreFileError, UsageError
from envelope.forks import process
from envelope.identity import Identity, PathText, PublicIdentity
from envelope.opener import Opener
from envelope.policy import Policy
from envelope.replay import SQLiteReplayStore
from envelope.sealer import Sealer
from envelope.trust import Peer, TrustStore

_IDENTITY: Final = "identity.key"
_PEERS: Final = "peers.toml"
_REPLAY: Final = "replay.db"
_NEW_PEERS: Final = """\
# Whom this node believes, and for what. One table for each peer:
#
# [[peer]]
# name = "alice"
# key = "envpub1..."                  # what `envelope public alice.node` prints there
# contexts = ["orders", "orders.*"]   # where alice may send
# topics = ["eu/"]                    # and there, what her topics begin with; left out: all
# not_after = 2027-06-30T00:00:00Z    # until when; revoked = true: not any more
#
# Changes take effect within a second or so, without a restart. Replace the file by
# renaming another one over it: what is half written could say half of what you mean.
"""


class Node:
    """Identity, peers and replay memory of one place, in one folder. Thread-safe.

    The replay memory is durable: a ``SQLiteReplayStore`` that was born with the key.
    It is opened when the first opener is made, and then belongs to one process; any
    number of processes may seal with the same node. Close the node, or use it as a
    context manager; a normal end of the program closes it too.

    Attributes:
        path: the folder.
        identity: who this node is.
        trust: its peers; follows ``peers.toml``.
    """

    def __init__(self, path: Path, identity: Identity) -> None:
        """Use ``create`` or ``load``."""
        self.path = path
        self.identity = identity
        self.trust = TrustStore.load(path / _PEERS)
        self._replay: SQLiteReplayStore | None = None
        self._lock = threading.RLock()
        process.adopt(self)

    @property
    def replay(self) -> SQLiteReplayStore:
        """The replay memory, shared by all openers of this node; opened at first use.

        Without its file, which ``create`` made, it starts cold (SPEC 8.7).

        Raises:
            StoreFileError: another process has it open, or it cannot be used.
        """
        with self._lock:
            if self._replay is None:
                self._replay = SQLiteReplayStore(self.path / _REPLAY)
            return self._replay

    def close(self) -> None:
        """Close the replay memory, if it is open. Raises nothing."""
        with self._lock:
            if self._replay is not None:
                self._replay.close()
                self._replay = None

    def __enter__(self) -> Self:
        """Return the node."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the node."""
        self.close()

    @classmethod
    def create(cls, path: PathText, passphrase: str | None = None) -> Self:
        """Make a new node: a folder with a new identity, no peers and no past.

        Args:
            path: the folder; it may exist, but without an identity in it.
            passphrase: locks the identity if given.

        Raises:
            KeyFileError: there is an identity already, or the folder cannot be made.
            StoreFileError: a replay store is there already and cannot be used.
            UsageError: the passphrase is empty or no str.
        """
        folder = Path(path).absolute()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            identity = Identity.generate()
            identity.save(folder / _IDENTITY, passphrase)
            # O_EXCL: peers that stand there already were written by the operator.
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with os.fdopen(os.open(folder / _PEERS, flags, 0o644), "w", encoding="utf-8") as file:
                # Whoever may write this file decides whom the node believes.
                os.fchmod(file.fileno(), 0o644)
                file.write(_NEW_PEERS)
        except FileExistsError as error:
            if Path(error.filename) != folder / _PEERS:
                raise KeyFileError(f"{folder} is not a folder") from None
        except OSError as error:
            raise KeyFileError(f"cannot make {folder}: {error.strerror}") from None
        # The key was born a moment ago: nobody can have accepted anything for it.
        SQLiteReplayStore(folder / _REPLAY, first_life=True).close()
        return cls(folder, identity)

    @classmethod
    def load(cls, path: PathText, passphrase: str | None = None) -> Self:
        """Take up a node that was created before.

        Args:
            path: the folder.
            passphrase: if the identity is locked.

        Raises:
            KeyFileError: the identity is missing, unsafe, damaged or locked.
            TrustFileError: ``peers.toml`` is missing or wrong.
            UsageError: the passphrase is empty or no str.
        """
        folder = Path(path).absolute()
        _check_made(folder)
        return cls(folder, Identity.load(folder / _IDENTITY, passphrase))

    def sealer(
        self,
        context: str,
        *,
        to: Iterable[str | PublicIdentity | Peer] = (),
        sealed: bool | None = None,
    ) -> Sealer:
        """Return a sealer of this node.

        Args:
            context: the application's name for the flow.
            to: recipients; a str is the name of a peer of this node.
            sealed: as for ``Sealer``.

        Raises:
            UsageError: as ``Sealer``; or no peer has this name.
        """
        if not isinstance(to, list | tuple | set | frozenset):
            raise UsageError('to is a list: to=["bob"]')
        members = [self.trust[one] if isinstance(one, str) else one for one in to]
        return Sealer(self.identity, context=context, to=members, sealed=sealed)

    def opener(self, context: str, *, policy: Policy | None = None) -> Opener:
        """Return an opener of this node, with its trust and its replay memory.

        Raises:
            UsageError: as ``Opener``.
            StoreFileError: another process opens for this node already, or the
                replay memory cannot be used: it is that of another key, for example.
        """
        _check_remembered(self.replay, self.identity)
        return Opener(
            self.trust,
            context=context,
            identity=self.identity,
            replay=self.replay,
            policy=policy,
        )

    def __repr__(self) -> str:
        """Return the folder and the key id."""
        return f"<Node {os.fspath(self.path)} {self.identity.key_id.hex()}>"


def _check_made(folder: Path) -> None:
    """Check that something stands where the identity of a node does."""
    try:
        (folder / _IDENTITY).lstat()
    except (FileNotFoundError, NotADirectoryError):
        raise KeyFileError(
            f"{folder} is not a node; make it with: envelope keygen --node {folder}"
        ) from None
    except (OSError, ValueError):
        return  # What is wrong with it, loading says.


def _check_remembered(replay: SQLiteReplayStore, identity: Identity) -> None:
    """Check that a memory is this identity's: a key in place of another one's remembers nothing."""
    domains = replay.domains
    if domains and identity.key_id.hex() not in domains:
        raise StoreFileError(
            f"the replay memory of this node is that of {', '.join(sorted(domains))}, and its "
            f"identity is {identity.key_id.hex()}: what was accepted would be accepted again. Put "
            "the old key back and the new one beside it (docs/guides/keys.md), or make a new node"
        )
