"""Who an envelope is for: the recipients of a sealer, as they stand now.

Rules of this file: a ``PublicIdentity`` is pinned by whoever wrote it down. A
``Peer`` is judged by its dates and its revocation, and one that a trust store
handed out is looked up there again, by name, whenever the store changes. So a
revoked recipient is dropped from every sealer at once, and a rotated one gets
both keys.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from envelope.errors import UsageError
from envelope.identity import PublicIdentity
from envelope.trust import Peer, Snapshot, TrustStore
from envelope.wire import MAX_RECIPIENTS, MAX_SENT_AT

_SHOWN: Final = 3
"""Names that an error tells."""


class Recipients(NamedTuple):
    """The audience at one moment."""

    keys: tuple[PublicIdentity, ...]
    """Ascending by key id, each once."""
    until: int
    """Unix microseconds; from then on dates may change the answer."""
    seen: tuple[tuple[TrustStore, Snapshot], ...]
    """The snapshots that the answer rests on."""

    def is_current(self, now: int) -> bool:
        """Tell whether asking again would give the same answer."""
        return now < self.until and all(
            store.current(now) is snapshot for store, snapshot in self.seen
        )


class Audience:
    """What the caller named as recipients. Immutable."""

    __slots__ = ("_members",)

    def __init__(self, to: Iterable[PublicIdentity | Peer]) -> None:
        """Take the recipients.

        Raises:
            UsageError: not an iterable of PublicIdentity or Peer.
        """
        if isinstance(to, PublicIdentity | Peer | str | bytes) or not isinstance(to, Iterable):
            raise UsageError("to is a list of recipients: to=[bob.public]")
        self._members = tuple(to)
        for member in self._members:
            if not isinstance(member, PublicIdentity | Peer):
                raise UsageError(
                    "a recipient is a PublicIdentity or a Peer; never a secret Identity, "
                    "and a name only by way of a trust store: to=[trust[name]]"
                )

    def __bool__(self) -> bool:
        """Tell whether anybody was named."""
        return bool(self._members)

    def resolve(self, now: int) -> Recipients:
        """Return the recipients at ``now`` (Unix microseconds).

        Raises:
            UsageError: recipients were named and none is valid, or more than 256 are.
        """
        keys: dict[bytes, PublicIdentity] = {}
        seen: dict[int, tuple[TrustStore, Snapshot]] = {}
        changes = [MAX_SENT_AT]
        for member in self._members:
            if isinstance(member, PublicIdentity):
                keys[member.key_id] = member
                continue
            for peer in self._look_up(member, now, seen):
                if peer.is_valid(now):
                    keys[peer.key_id] = peer.public
                changes += (date for date in (peer.begins, peer.ends) if date > now)
        if self._members and not keys:
            raise UsageError(
                f"every recipient is revoked, expired, not yet valid or gone: {self._names()}"
            )
        if len(keys) > MAX_RECIPIENTS:
            raise UsageError(f"an envelope has at most {MAX_RECIPIENTS} recipients")
        return Recipients(
            tuple(keys[key_id] for key_id in sorted(keys)), min(changes), tuple(seen.values())
        )

    def _names(self) -> str:
        """Return the names of the peers among the recipients, the first of them."""
        names = sorted({repr(one.name) for one in self._members if isinstance(one, Peer)})
        return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")

    @staticmethod
    def _look_up(
        member: Peer, now: int, seen: dict[int, tuple[TrustStore, Snapshot]]
    ) -> tuple[Peer, ...]:
        store = member.store
        if store is None:
            return (member,)
        _, snapshot = seen.setdefault(id(store), (store, store.current(now)))
        return snapshot.names.get(member.name, ())
