"""A folder that holds what a program needs to take part: Node.

Rules of this file: identity, trust and replay memory are made together and used
together, so that the easy way is the safe way.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Self

from envelope.errors import KeyFileError, UsageError
from envelope.identity import Identity, PathText, PublicIdentity
from envelope.opener import Opener
from envelope.policy import Policy
from envelope.replay import MemoryReplayStore, ReplayStore
from envelope.sealer import Sealer
from envelope.trust import Peer, TrustStore

_log = logging.getLogger("envelope.node")

_IDENTITY: Final = "identity.key"
_PEERS: Final = "peers.toml"
_NEW_PEERS: Final = """\
# Whom this node believes, and for what. One table for each peer:
#
# [[peer]]
# name = "alice"
# key = "envpub1..."                  # what `envelope public alice.node` prints there
# contexts = ["orders", "orders.*"]   # where alice may send
#
# Changes take effect within a second or so, without a restart. Replace the file by
# renaming another one over it: what is half written could say half of what you mean.
"""


class Node:
    """Identity, peers and replay memory of one place, in one folder. Thread-safe.

    The replay memory is not durable yet: it is a ``MemoryReplayStore``, and
    ``is_durable`` is False. After a restart the node therefore accepts nothing for
    the first two seconds (``before_start``), and remembers nothing from before;
    see SPEC 8.7 for what that does and does not protect.

    Attributes:
        path: the folder.
        identity: who this node is.
        trust: its peers; follows ``peers.toml``.
        replay: its replay memory, shared by all its openers.
        is_durable: whether the replay memory survives a restart.
    """

    def __init__(self, path: Path, identity: Identity, replay: ReplayStore) -> None:
        """Use ``create`` or ``load``."""
        self.path = path
        self.identity = identity
        self.trust = TrustStore.load(path / _PEERS)
        self.replay = replay
        self.is_durable = replay.is_durable
        if not self.is_durable:
            _log.info("node %s: replay memory ends with this process", path)

    @classmethod
    def create(cls, path: PathText, passphrase: str | None = None) -> Self:
        """Make a new node: a folder with a new identity and an empty list of peers.

        Args:
            path: the folder; it may exist, but without an identity in it.
            passphrase: locks the identity if given.

        Raises:
            KeyFileError: there is an identity already, or the folder cannot be made.
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
        return cls(folder, identity, MemoryReplayStore(first_life=True))

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
        return cls(folder, Identity.load(folder / _IDENTITY, passphrase), MemoryReplayStore())

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
        """
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
