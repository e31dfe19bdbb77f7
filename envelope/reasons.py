"""Why an envelope was refused, in a sentence for a person, and what to do.

Rules of this file:

- It is asked only after the verdict and decides nothing.
- It says ages, names and settings of this end; never anything that the envelope or
  its bound frames carry besides the time.
- What ``RejectedError`` holds is made for each refusal, so it is a constant or nearly
  one. ``here``, ``remedy`` and ``one_line`` are for a line that is written.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Final

from envelope import clock, wire
from envelope.errors import RejectedError
from envelope.policy import Policy
from envelope.trust import Peer, TrustStore

REMEDIES: Final = {
    "too_large": "raise max_size of the policy, if this is meant to come here",
    "malformed": "does a program without envelopes send here?",
    "version": "update the older end",
    "unknown_sender": "is it one of yours? `envelope public KEY --key-id` there tells",
    "reflected": "is this end connected to itself, or has the sender the same identity?",
    "not_trusted": "the trust store says who may send where, and when",
    "not_addressed": "does the sender name this end, by its key of today, in to=[...]?",
    "stale": "late, sent again, or stamped by a clock that is behind this one",
    "future": "the sender's clock is ahead, or this one is behind",
    "before_start": "a receiver that started, or crashed, a moment ago; it passes",
    "too_old": "sent again, or long delayed",
    "replayed": "sent twice by the network, or by somebody who recorded it",
    # Not the key: its id is a hash of it, so who has this id and another key forges.
    "bad_signature": "compare context and topic of both ends, letter by letter; if they are the "
    "same, it was changed on the way or is a forgery",
    "unseal": "the sender sealed it wrongly, or for another key",
    "unknown_session": "an end that was restarted; the two make another by themselves",
}
"""What to do about a code, where the detail does not say it."""

_SIGNED: Final = {"malformed": "the sender sends something else than this end expects"}
"""The same, where it is another thing once the signature was verified."""

_IN_A_SESSION: Final = {
    "unseal": "compare the context of both ends, letter by letter; if it is the same, it was "
    "changed on the way or is a forgery"
}
"""The same, where nothing is signed: in a session what does not open was not said."""

NOT_ASKED: Final = "a reply by somebody whom the request was not addressed to"

_LONGEST: Final = 500
"""Characters in a part of a line."""
_SHOWN: Final = 3
"""Things of a list that are named in a line."""


def policy(required: Policy, header: wire.Header, bundles: int) -> str:
    """Return what the policy asks for and the envelope has not (SPEC 7.2 step 3)."""
    if header.kind != wire.SEALED and required.require == "sealed":
        return "signed only; sealed is required, which the sender does with to=[...]"
    if required.addressed and not header.recipients:
        return (
            "for everyone in the context; addressed is required, which the sender does with "
            "to=[...]"
        )
    if header.flags & wire.BUNDLE > bundles:
        return "a bundle; open it with open_bundle()"
    if header.flags & wire.REPLY:
        return "a reply to another request, or to none"
    return "no reply, where the reply to a request is expected"


def not_trusted(peer: Peer, context: str, now: int) -> str:
    """Return what a known sender lacks (SPEC 7.2 step 4)."""
    name = repr(peer.name)
    if peer.revoked:
        return f"{name} is revoked"
    if now < peer.begins:
        return f"{name} is not valid yet; not_before is {peer.not_before}"
    if now >= peer.ends:
        return f"{name} has expired; not_after is {peer.not_after}"
    return f"{name} may not send in the context {context!r}, {_only_in(peer.contexts)}"


@lru_cache(maxsize=1024)
def _only_in(contexts: tuple[str, ...]) -> str:
    return f"only in {_list([repr(one) for one in contexts])}"


def stale(required: Policy, age: int, *, is_back: bool) -> str:
    """Return how old is too old; ``age`` in microseconds (SPEC 7.2 step 6)."""
    note = "; this receiver's clock stepped back, see reset_clock()" if is_back else ""
    return (
        f"{age / clock.SECOND:.3f} s old; max_age is {required.max_age} s; compare the clocks{note}"
    )


def future(required: Policy, lead: int) -> str:
    """Return how far ahead is too far; ``lead`` in microseconds (SPEC 7.2 step 6)."""
    return (
        f"stamped {lead / clock.SECOND:.3f} s ahead; max_future is {required.max_future} s; "
        "compare the clocks"
    )


def here(
    error: RejectedError, own: Collection[bytes] | None, trust: TrustStore | None
) -> str | None:
    """Return what of this end an envelope was compared with, if that is the question.

    Args:
        error: the refusal.
        own: the key ids that can be addressed; None if that is not known.
        trust: where senders are looked up; None if that is not known.
    """
    if error.code == "not_addressed" and own is not None:
        return f"this end is {_list([key_id.hex() for key_id in own]) or 'without an identity'}"
    if error.code == "unknown_sender" and trust is not None:
        since = trust.stale_since
        note = "" if since is None else f", which cannot be read since {since:%Y-%m-%d %H:%M:%S}Z"
        return f"looked up in {trust!r}{note}"
    return None


def remedy(error: RejectedError) -> str | None:
    """Return what to do, or None if the detail says it."""
    special = _SIGNED if error.verified else _IN_A_SESSION
    return special.get(error.code) or REMEDIES.get(error.code)


def one_line(text: str) -> str:
    """Return a part of a line in printable characters, and cut if it is long."""
    if len(text) > _LONGEST:
        text = text[: _LONGEST - 3] + "..."
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    return character if character.isprintable() else ascii(character)[1:-1]


def _list(things: Sequence[str]) -> str:
    """Name a few, and count the others."""
    more = len(things) - _SHOWN
    return ", ".join(things[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
