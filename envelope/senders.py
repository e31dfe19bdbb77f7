"""What a receiver knows of its senders: one entry for each key id.

Rules of this file: an entry made for a claim is a function of one trust snapshot
alone. What it caches beyond that, the topics and the AEAD keys, was verified
first (``remember``). Every table is bounded, and a new snapshot begins anew.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from envelope.binding import bind_state, context_digest
from envelope.errors import NotTrustedError, UnknownSenderError, UsageError
from envelope.forks import process
from envelope.identity import Identity
from envelope.primitives import Hasher
from envelope.replay import ReplayStore
from envelope.stats import SenderTally, Tally
from envelope.trust import Peer, Snapshot

_MAX_KEYS: Final = 128
"""AEAD keys kept for each sender: twice the streams remembered by default."""
_MAX_TOPICS: Final = 256
"""Hash states of bound frames kept for each sender."""
_MAX_KEPT: Final = 1024
"""Bytes of bound frames kept; topics are short."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a receiver stands: what does not change while it lives."""

    context: str
    encoded: bytes
    """The context as UTF-8."""
    own: frozenset[bytes]
    """The receiver's key ids."""
    domain: str
    replay: ReplayStore


def own_identities(identity: Identity | Sequence[Identity] | None) -> dict[bytes, Identity]:
    """Return the receiver's identities by key id, in the order given."""
    if identity is None:
        return {}
    several = [identity] if isinstance(identity, Identity) else identity
    if not isinstance(several, list | tuple):
        raise UsageError("identity is an Identity, or a list of them: the secret half of a key")
    own = {}
    for one in several:
        if not isinstance(one, Identity):
            raise UsageError("identity is an Identity, or a list of them: the secret half of a key")
        own[one.key_id] = one
    return own


def domain_name(domain: str | None, own: dict[bytes, Identity], *, shared: bool) -> str:
    """Return the name of the replay domain (SPEC 8.1)."""
    if domain is not None:
        if type(domain) is not str or not domain:
            raise UsageError("domain is a non-empty str that names the replay domain")
        try:
            domain.encode()
        except UnicodeEncodeError:
            raise UsageError("domain cannot be encoded as UTF-8") from None
        return domain
    if shared and len(own) != 1:
        raise UsageError(
            "a replay store used without an identity, or with several, needs the name of its "
            "domain: domain=...; keep the name across a rotation of keys"
        )
    return next(iter(own)).hex() if own else "-"


class Sender:
    """One key id under one snapshot, made so that an opening has little to do."""

    __slots__ = (
        "begins",
        "bound",
        "ends",
        "guard",
        "is_allowed",
        "is_own",
        "keys",
        "peer",
        "signing_key",
        "tally",
        "unbound",
    )

    def __init__(self, peer: Peer, place: Place) -> None:
        self.peer = peer
        self.signing_key = peer.public.public[:32]
        self.begins = peer.begins
        self.ends = 0 if peer.revoked else peer.ends
        self.is_allowed = peer.allows_context(place.context)
        self.is_own = peer.key_id in place.own
        # With topics, an envelope without bound frames is not permitted (SPEC 3.5).
        self.unbound: Hasher | None = None
        if peer.topics is None:
            self.unbound = bind(peer, place, ())
        self.bound: dict[tuple[bytes, ...], Hasher] = {}
        self.keys: dict[bytes, bytes] = {}
        self.guard = place.replay.guard(place.domain, peer.key_id, place.context)
        self.tally: SenderTally | None = None


def bind(peer: Peer, place: Place, bound: tuple[bytes, ...]) -> Hasher:
    """Return BIND's state for bound frames (SPEC 5.2).

    Raises:
        NotTrustedError: the peer may not use this topic.
    """
    if not peer.allows_topic(bound):
        raise NotTrustedError(f"{peer.name!r} may not send on this topic")
    return bind_state(peer.public.public, context_digest(place.encoded, bound))


class Senders:
    """The senders met so far, under the snapshot in force. Thread-safe."""

    def __init__(self, place: Place, snapshot: Snapshot, tally: Tally) -> None:
        self._place = place
        self._tally = tally
        self._met: tuple[Snapshot, dict[bytes, Sender]] = (snapshot, {})
        self._lock = threading.RLock()
        process.adopt(self)

    def find(self, snapshot: Snapshot, key_id: bytes) -> Sender:
        """Return the entry of a claimed sender.

        Raises:
            UnknownSenderError: the snapshot has no such key id.
            StoreUnavailableError: the replay store cannot answer.
        """
        met = self._met
        if met[0] is not snapshot:
            met = self._met = (snapshot, {})
        sender = met[1].get(key_id)
        if sender is None:
            peer = snapshot.peers.get(key_id)
            if peer is None:
                raise UnknownSenderError
            # Two threads may both make one; both are right, and one is kept.
            sender = met[1].setdefault(key_id, Sender(peer, self._place))
        return sender

    def name_of(self, key_id: bytes) -> str | None:
        """Return the name that a claim points at, for logs."""
        peer = self._met[0].peers.get(key_id)
        return None if peer is None else peer.name

    def meet(self, sender: Sender) -> SenderTally:
        """Begin to count a sender, whose signature was verified."""
        with self._lock:
            if sender.tally is None:
                peer = sender.peer
                sender.tally = self._tally.sender(peer.key_id, peer.name, sender.guard)
            return sender.tally

    def remember(
        self,
        sender: Sender,
        bound: tuple[bytes, ...],
        cache_key: bytes | None,
        aead_key: bytes | None,
    ) -> None:
        """Fill a sender's caches with what was just verified (SPEC 7.4)."""
        with self._lock:
            if bound and sum(map(len, bound)) <= _MAX_KEPT:
                if len(sender.bound) >= _MAX_TOPICS:
                    sender.bound = {}
                sender.bound[bound] = bind(sender.peer, self._place, bound)
            if cache_key is not None and aead_key is not None:
                while len(sender.keys) >= _MAX_KEYS:
                    # A signal handler may have dropped the same one meanwhile.
                    sender.keys.pop(next(iter(sender.keys)), None)
                sender.keys[cache_key] = aead_key
