"""Who we are and whom we believe: options to Identity, TrustStore and recipients.

Rules of this file: trust files are read before key files, so that nobody types a
passphrase only to learn of a missing file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from envelope.cli import passphrases
from envelope.errors import KeyFileError, UsageError
from envelope.identity import Identity, PublicIdentity
from envelope.node import Node
from envelope.text import LOCKED, PUBLIC, SECRET
from envelope.trust import Peer, TrustStore

NODE_IDENTITY: Final = "identity.key"
"""The key file in the folder of a Node."""


class Party(NamedTuple):
    """One end, as far as the options name it."""

    identity: Identity | None
    trust: TrustStore | None
    node: Node | None = None


def load_party(
    *, identity: Path | None, trust: Path | None, node: Path | None, passphrase_file: Path | None
) -> Party:
    """Load what the options name.

    Raises:
        UsageError: a node and one of the others, or a locked file and no passphrase.
        TrustFileError: the trust file cannot be used.
        KeyFileError: the identity cannot be used.
        OSError: the passphrase file cannot be read.
    """
    if node is None:
        store = None if trust is None else TrustStore.load(trust)
        who = None if identity is None else load_identity(identity, passphrase_file)
        return Party(who, store)
    if identity is not None or trust is not None:
        raise UsageError(
            "--node has an identity and peers of its own; leave --identity and --trust out"
        )
    if not _is_folder(node):
        raise KeyFileError(f"{node} is not a node; make it with: envelope keygen --node {node}")
    passphrase = passphrases.to_open(node / NODE_IDENTITY, file=passphrase_file)
    loaded = Node.load(node, passphrase)
    return Party(loaded.identity, loaded.trust, loaded)


def load_identity(path: Path, passphrase_file: Path | None) -> Identity:
    """Load the identity of a key file or of a node's folder.

    Raises:
        KeyFileError: it cannot be used.
        UsageError: it is locked, and there is no passphrase.
        OSError: the passphrase file cannot be read.
    """
    file = path / NODE_IDENTITY if _is_folder(path) else path
    return Identity.load(file, passphrases.to_open(file, file=passphrase_file))


def _is_folder(path: Path) -> bool:
    # Path.is_dir() raises for some names; what is wrong with them, loading says.
    return os.path.isdir(path)  # noqa: PTH112 (see above)


def find_recipients(to: Iterable[str], trust: TrustStore | None) -> list[PublicIdentity | Peer]:
    """Return the recipients that ``--to`` names, by public text or by name.

    Raises:
        UsageError: a text that is none, or a name that nobody has.
    """
    return [_find_recipient(one, trust) for one in to]


def _find_recipient(one: str, trust: TrustStore | None) -> PublicIdentity | Peer:
    if one.startswith(PUBLIC):
        return PublicIdentity.parse(one)
    if one.startswith((SECRET, LOCKED)):
        # Not repeated here: the command line has shown it to enough people.
        raise UsageError(
            "--to got the text of a secret key, which counts as leaked now; it takes an "
            "envpub1... text or the name of a peer"
        )
    if trust is None:
        raise UsageError(
            f"--to {one!r} is the name of a peer; say where with --trust or --node, or give its "
            "envpub1... text"
        )
    return trust[one]
