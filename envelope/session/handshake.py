"""Initiation and response: Noise IK with who, where and when (SPEC 18.3, 18.4).

Rules of this file: bytes in, bytes out; identities, session ids, stamps and randomness are
handed in. Whether a peer may ask at all, and what becomes of its session, is not decided here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from envelope.errors import UnsealError
from envelope.identity import Identity, PublicIdentity
from envelope.primitives import CryptoError, H, x25519
from envelope.session import wire
from envelope.session.noise import KEY_SIZE, Handshake, Keys
from envelope.session.wire import Grant, Offer

_PROLOGUE: Final = 64


class Statics:
    """What this end's static key comes to with those of its peers: ss of Noise, kept.

    It is the same in each handshake, and a fifth of what one costs. Whoever has it has one of
    the two secrets, or was given it by who has; so it is kept like them, in memory alone.
    """

    __slots__ = ("_known", "_secret")

    def __init__(self, identity: Identity) -> None:
        self._secret = identity._x_secret  # noqa: SLF001 (one package, one secret)
        self._known: dict[bytes, bytes] = {}

    def of(self, peer: PublicIdentity) -> Callable[[bytes], bytes]:
        """Return ss by static key, kept if that is the peer's: anyone can show another."""
        expected = peer.public[32:]

        def shared(public: bytes) -> bytes:
            if public != expected:
                return x25519(self._secret, public)
            if peer.key_id not in self._known:
                self._known[peer.key_id] = x25519(self._secret, public)
            return self._known[peer.key_id]

        return shared

    def forget(self) -> None:
        """Drop all: the peers may be others now."""
        self._known.clear()

    def __repr__(self) -> str:
        """Return how many, and no secret."""
        return f"<Statics of {len(self._known)} peers>"


@dataclass(slots=True, eq=False)
class Initiation:
    """An initiation of this end that waits for its response.

    Attributes:
        session_id: the one that it offers.
        made_at: monotonic microseconds.
        ephemeral: the public key that it shows; ties break by it.
        data: the message.
    """

    session_id: bytes
    made_at: int
    ephemeral: bytes
    data: bytes = field(repr=False)
    _noise: Handshake = field(repr=False)

    def finish(self, data: bytes) -> tuple[Grant, Keys]:
        """Return what a response grants, and the keys.

        Raises:
            UnsealError: it answers something else; this waits on.
            MalformedError: it holds what nobody would write.
        """
        if self._noise.is_over:  # Malformed inside: the peer itself has spoilt it.
            raise UnsealError("this initiation was answered before")
        try:
            payload = self._noise.read(data[wire.RESPONSE_HEAD :])
        except CryptoError:
            raise UnsealError("no response to this initiation") from None
        keys = self._noise.keys
        assert keys is not None
        return wire.decode_grant(payload), keys


def begin(  # noqa: PLR0913 (whom, where, what, when, by which randomness)
    identity: Identity,
    peer: PublicIdentity,
    ctx: bytes,
    offer: Offer,
    *,
    ephemeral: bytes,
    now: int,
    statics: Statics | None = None,
) -> Initiation:
    """Make an initiation.

    Args:
        identity: this end's.
        peer: whom it asks.
        ctx: CTX of the context without bound frames.
        offer: session id and stamp.
        ephemeral: 32 fresh random bytes.
        now: monotonic microseconds.
        statics: of this end, with what is known already.
    """
    head = wire.start(wire.INITIATION) + identity.key_id + peer.key_id
    noise = Handshake(
        secret=identity._x_secret,  # noqa: SLF001 (one package, one secret)
        public=identity.public.public[32:],
        ephemeral=ephemeral,
        prologue=_prologue(ctx, identity.public, peer, head),
        remote_static=peer.public[32:],
        shared=None if statics is None else statics.of(peer),
    )
    message = noise.write(offer.encode())
    return Initiation(offer.session_id, now, message[:KEY_SIZE], head + message, noise)


class Request:
    """An initiation of a peer that was read. Nobody has decided on it.

    Attributes:
        offer: its session id and stamp.
        ephemeral: the public key that it showed.
    """

    __slots__ = ("_noise", "ephemeral", "offer")

    def __init__(  # noqa: PLR0913, PLR0917 (who, from whom, where, what, by which randomness)
        self,
        identity: Identity,
        peer: PublicIdentity,
        ctx: bytes,
        data: bytes,
        ephemeral: bytes,
        statics: Statics | None = None,
    ) -> None:
        """Read it.

        Args:
            identity: this end's.
            peer: who it claims to be.
            ctx: CTX of the context without bound frames.
            data: the message, of the size that it must have.
            ephemeral: 32 fresh random bytes, for the response.
            statics: of this end, with what is known already.

        Raises:
            UnsealError: it was not written by that peer, for this end and context.
            MalformedError: it holds what nobody would write.
        """
        head, message = data[: wire.INITIATION_HEAD], data[wire.INITIATION_HEAD :]
        self._noise = Handshake(
            secret=identity._x_secret,  # noqa: SLF001 (one package, one secret)
            public=identity.public.public[32:],
            ephemeral=ephemeral,
            prologue=_prologue(ctx, peer, identity.public, head),
            remote_static=None,
            shared=None if statics is None else statics.of(peer),
        )
        try:
            payload = self._noise.read(message)
        except CryptoError:
            raise UnsealError("not written by this peer for this end and context") from None
        # Public keys, and what is compared was authenticated: nothing to tell by the time.
        if self._noise.remote_static != peer.public[32:]:
            raise UnsealError("written by another key than that of its key id")
        self.offer = wire.decode_offer(payload)
        self.ephemeral = message[:KEY_SIZE]

    def grant(self, grant: Grant) -> tuple[bytes, Keys]:
        """Return the response, and the keys."""
        head = wire.start(wire.RESPONSE) + self.offer.session_id
        message = self._noise.write(grant.encode())
        keys = self._noise.keys
        assert keys is not None
        return head + message, keys


def _prologue(
    ctx: bytes, initiator: PublicIdentity, responder: PublicIdentity, head: bytes
) -> bytes:
    return H(_PROLOGUE, b"env1-session", ctx, initiator.public, responder.public, head)
