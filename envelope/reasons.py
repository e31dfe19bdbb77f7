"""Why an envelope was refused, in a sentence for a person.

Rules of this file: it is asked only after the verdict and decides nothing. It says
ages, names and settings of this end; never anything that the envelope carries
besides its time.
"""

from __future__ import annotations

from envelope import clock, wire
from envelope.policy import Policy
from envelope.trust import Peer

NOT_ASKED = "a reply by somebody whom the request was not addressed to"


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
