"""Every exception of the library, in two families: you, and they.

Rules of this file:

- ``UsageError``, ``KeyFileError`` and ``StoreFileError`` are of this end and say what
  to do. ``RequestError`` says what became of a request, as far as it is known.
- ``PairingError`` is a run of a pairing that ended without a peer; its code is burned.
- ``RejectedError`` is what a received envelope can do wrong. Each subclass has a
  stable ``code`` (SPEC 12), which vectors, counters, logs and documents share.
- ``Opener.open`` raises nothing else for any bytes at all; anything else is a bug.
- No text here ever holds a payload that was not verified, nor a secret.

::

    EnvelopeError
    +-- UsageError                 the caller's mistake (also a ValueError)
    |   +-- TrustFileError         a trust file that cannot be used
    |   +-- NoRoomError            as much waits for sessions as may
    +-- KeyFileError               an identity on disk that cannot be used
    +-- StoreFileError             a replay store on disk that cannot be used
    +-- RequestError               a request without a reply
    |   +-- RequestTimeoutError    none came in time (also a TimeoutError)
    |   +-- RequestRefusedError    it was refused, and may have been executed before
    |   +-- RequestDoneError       it was executed, and its reply is kept no more
    +-- PairingError               a pairing that ended without a peer
    |   +-- PairingCodeError       the two ends have different codes
    |   +-- PairingTimeoutError    the other side kept silent (also a TimeoutError)
    +-- RejectedError              a received envelope was refused
        +-- TooLargeError          too_large
        +-- MalformedError         malformed
        +-- VersionError           version
        +-- PolicyError            policy
        +-- UnknownSenderError     unknown_sender
        +-- ReflectedError         reflected
        +-- NotTrustedError        not_trusted
        +-- NotAddressedError      not_addressed
        +-- StaleError             stale
        +-- FutureError            future
        +-- BeforeStartError       before_start
        +-- TooOldError            too_old
        +-- ReplayedError          replayed
        +-- BadSignatureError      bad_signature
        +-- UnsealError            unseal
        +-- StoreUnavailableError  store_unavailable
        +-- UnknownSessionError    unknown_session
"""

from __future__ import annotations

from typing import ClassVar


class EnvelopeError(Exception):
    """The root of every exception that this library raises on purpose."""


class UsageError(EnvelopeError, ValueError):
    """The caller passed something that cannot work. Nothing was sent or changed."""


class TrustFileError(UsageError):
    """A trust file that cannot be used. The text names the file, line and reason.

    Attributes:
        is_unread: whether the content was not even seen; reading may work later,
            though the file does not change.
    """

    is_unread: bool = False


class NoRoomError(UsageError):
    """As many messages wait for sessions as may, or as many of this peer (SPEC 18.9)."""


class KeyFileError(EnvelopeError):
    """An identity on disk that is missing, unreadable, unsafe or damaged."""


class StoreFileError(EnvelopeError):
    """A replay store on disk that is in use, damaged, unsafe or not one."""


class RequestError(EnvelopeError):
    """A request got no reply. Unless it says otherwise, it may have been executed."""


class RequestTimeoutError(RequestError, TimeoutError):
    """No reply came in time; whether the request was executed is not known."""


class RequestRefusedError(RequestError):
    """The answerer refused it, and cannot know whether it was executed before (SPEC 16.5).

    Both ends know each other's clock now: another request is heard. But where this clock is
    ahead of the answerer's by more than its max_future, and its replay store is not durable,
    only one is that was said to be idempotent.
    """


class RequestDoneError(RequestError):
    """It was executed, once, and the answerer keeps its reply no more (SPEC 16.3)."""


class PairingError(EnvelopeError):
    """A pairing ended without a peer (SPEC 19). Its code is burned: begin again for a new one."""


class PairingCodeError(PairingError):
    """The two ends have different codes: one was mistyped, or somebody guessed."""


class PairingTimeoutError(PairingError, TimeoutError):
    """The other side, or this end's owner, was silent for too long (SPEC 19.8)."""


class RejectedError(EnvelopeError):
    """A received envelope was refused, and nothing was changed by it.

    Attributes:
        code: the stable name of the reason (SPEC 12).
        claimed_sender: the key id in the header (16 bytes), or None if the
            envelope was refused before its header was decoded. It is a claim
            unless ``verified`` is true.
        verified: whether the signature had been checked when it was refused.
    """

    code: ClassVar[str] = "rejected"
    summary: ClassVar[str] = "the envelope was refused"

    has_header: ClassVar[bool] = True
    """Whether the header had been decoded when this was found."""

    claimed_sender: bytes | None = None
    verified: bool = False

    @property
    def detail(self) -> str:
        """One sentence for a person. Never payload, never a secret."""
        # No __init__: a flood of refusals pays for every line that runs here.
        return str(self.args[0]) if self.args else self.summary

    def __str__(self) -> str:
        """Return the code and the sentence."""
        return f"{self.code}: {self.detail}"


class TooLargeError(RejectedError):
    """SPEC 7.2 step 1."""

    code = "too_large"
    summary = "larger than the policy allows"
    has_header = False


class MalformedError(RejectedError):
    """SPEC 7.2 steps 2 and 10."""

    code = "malformed"
    summary = "not an envelope, or not in its one encoding"
    has_header = False


class VersionError(RejectedError):
    """SPEC 7.2 step 2."""

    code = "version"
    summary = "a version of the envelope that this receiver does not speak"
    has_header = False


class PolicyError(RejectedError):
    """SPEC 7.2 step 3."""

    code = "policy"
    summary = "the receiver's policy requires more"


class UnknownSenderError(RejectedError):
    """SPEC 7.2 step 4."""

    code = "unknown_sender"
    summary = "no peer in the trust store has this key id; add the sender's envpub1... text to it"


class ReflectedError(RejectedError):
    """SPEC 7.2 step 4."""

    code = "reflected"
    summary = "the receiver's own envelope came back"


class NotTrustedError(RejectedError):
    """SPEC 7.2 step 4."""

    code = "not_trusted"
    summary = "the sender is known, and may not send this"


class NotAddressedError(RejectedError):
    """SPEC 7.2 step 5."""

    code = "not_addressed"
    summary = "addressed to others"


class StaleError(RejectedError):
    """SPEC 7.2 step 6."""

    code = "stale"
    summary = "older than max_age; compare the clocks"


class FutureError(RejectedError):
    """SPEC 7.2 step 6."""

    code = "future"
    summary = "stamped further ahead than max_future; compare the clocks"


class BeforeStartError(RejectedError):
    """SPEC 7.2 steps 7 and 11."""

    code = "before_start"
    summary = "stamped before this receiver's replay memory begins"


class TooOldError(RejectedError):
    """SPEC 7.2 steps 7 and 11."""

    code = "too_old"
    summary = "behind the replay window or a floor"


class ReplayedError(RejectedError):
    """SPEC 7.2 steps 7 and 11."""

    code = "replayed"
    summary = "this envelope was accepted before"


class BadSignatureError(RejectedError):
    """SPEC 7.2 step 8."""

    code = "bad_signature"
    summary = "not signed by this key for this context and these bound frames"


class UnsealError(RejectedError):
    """SPEC 7.2 step 9."""

    code = "unseal"
    summary = "the key block or the ciphertext does not open"
    verified = True


class StoreUnavailableError(RejectedError):
    """SPEC 7.2 steps 4 and 11. The envelope may be offered again."""

    code = "store_unavailable"
    summary = "the replay store cannot answer; offer the envelope again"


class UnknownSessionError(RejectedError):
    """SPEC 18.8: of sessions alone. Its sender is told to begin another."""

    code = "unknown_session"
    summary = "a message of a session that this end does not have"
    has_header = False


REJECTIONS: tuple[type[RejectedError], ...] = (
    TooLargeError,
    MalformedError,
    VersionError,
    PolicyError,
    UnknownSenderError,
    ReflectedError,
    NotTrustedError,
    NotAddressedError,
    StaleError,
    FutureError,
    BeforeStartError,
    TooOldError,
    ReplayedError,
    BadSignatureError,
    UnsealError,
    StoreUnavailableError,
    UnknownSessionError,
)
"""Every way to refuse, in the order of the checks (SPEC 7.2); last, that of sessions."""

CODES: tuple[str, ...] = tuple(error.code for error in REJECTIONS)
"""The codes of ``REJECTIONS``, in the same order."""
