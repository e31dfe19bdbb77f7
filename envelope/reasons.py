"""Why an envelope was refused, in a sentence for a person.

Rules of this file: it is asked only after the verdict and decides nothing. It says
ages, names and settings of this end; never anything that the envelope carries
besides its time.
"""

from __future__ import annotations

from typing import Final

from envelope import clock, wire
from envelope.policy import Policy
from envelope.trust import Peer

REMEDIES: Final = {
    "too_large": "raise max_size of the policy, if this is meant to come here",
    "malformed": "does a program without envelopes send here?",
    "version": "update the older end",
    "unknown_sender": "if it is one of yours, add its envpub1... text to the trust store",
    "reflected": "is this end connected to itself, or is its identity used elsewhere?",
    "not_trusted": "the trust store says who may send where, and when",
    "not_addressed": "does the sender name this end, by its key of today, in to=[...]?",
    "before_start": "a receiver that started, or crashed, a moment ago; it passes",
    "too_old": "sent again, or long delayed",
    "replayed": "sent twice by the network, or by somebody who recorded it",
    "bad_signature": "compare context and topic of both ends, and the sender's key with that "
    "in the trust store",
    "unseal": "the sender sealed it wrongly, or for another key",
}
"""What to do about a code, where the detail does not say it."""

NOT_ASKED: Final = "a reply by somebody whom the request was not addressed to"


def policy(required: Policy, header: wire.Header, bundles: int) -> str:
    """Return what the policy asks for and the envelope has not (SPEC 7.2 step 3)."""
    if header.kind != wire.SEALED and required.require == "sealed":
        return "signed only; sealed is required"
    if required.addressed and not header.recipients:
        return "for everyone in the context; addressed is required"
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
        return f"{name} is not valid yet"
    if now >= peer.ends:
        return f"{name} has expired"
    return f"{name} may not send in the context {context!r}"


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
