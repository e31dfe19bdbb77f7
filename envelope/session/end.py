"""One end of sessions: who it is, whom it believes, and what it may do (SPEC 18.2).

Rules of this file: nothing here changes while the end lives. It says no word to anybody.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from envelope import clock as clocks
from envelope.arguments import check_context
from envelope.binding import context_digest
from envelope.clock import Clock
from envelope.errors import UsageError
from envelope.identity import Identity
from envelope.policy import Policy
from envelope.session import wire
from envelope.session.timing import Times, Timing
from envelope.stats import Tally
from envelope.trust import TrustStore


class Pace(enum.Enum):
    """Who may speak when, on what carries the sessions (SPEC 18.13)."""

    FREE = "free"
    ASKS = "asks"
    """This end sends one message and waits for one. So it asks before it sends, and confirms
    and doubts nothing by itself: that would take the place of an answer."""
    ANSWERS = "answers"
    """This end sends one message for each that it got, and none by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """What one end is and may do."""

    identity: Identity
    trust: TrustStore
    context: str
    ctx: bytes
    """CTX of the context without bound frames."""
    policy: Policy
    times: Times
    clock: Clock
    monotonic: Clock
    watch: clocks.HighWater
    random: Callable[[int], bytes]
    tally: Tally
    pace: Pace = Pace.FREE

    @classmethod
    def of(  # noqa: PLR0913 (all that a SessionManager is given)
        cls,
        identity: Identity,
        trust: TrustStore,
        *,
        context: str,
        policy: Policy | None,
        timing: Timing | None,
        clock: Clock,
        monotonic: Clock,
        random: Callable[[int], bytes],
    ) -> Self:
        """Return the end that is described so, as ``SessionManager`` says.

        Raises:
            UsageError: an argument that cannot be used.
        """
        if not isinstance(identity, Identity):
            raise UsageError("identity is an Identity, the secret half of a key")
        if not isinstance(trust, TrustStore):
            raise UsageError("trust is a TrustStore, such as TrustStore.load(path)")
        if policy is not None and not isinstance(policy, Policy):
            raise UsageError("policy is a Policy, such as Policy(max_age=5)")
        if policy is not None and policy.max_size < wire.LARGEST:
            raise UsageError(f"max_size is at least {wire.LARGEST} for sessions")
        if timing is not None and not isinstance(timing, Timing):
            raise UsageError("timing is a Timing")
        encoded = check_context(context)
        policy = Policy() if policy is None else policy
        return cls(
            identity=identity,
            trust=trust,
            context=context,
            ctx=context_digest(encoded, ()),
            policy=policy,
            times=Times.of(Timing() if timing is None else timing),
            clock=clock,
            monotonic=monotonic,
            watch=clocks.HighWater(clock, tolerance=clocks.microseconds(policy.max_future)),
            random=random,
            tally=_tally(identity, trust, context, monotonic),
        )

    def at(self, pace: Pace) -> Self:
        """Return this end on a socket that has a pace."""
        return dataclasses.replace(self, pace=pace)

    def anew(self) -> Self:
        """Return this end with nothing counted: in a forked child."""
        tally = _tally(self.identity, self.trust, self.context, self.monotonic)
        return dataclasses.replace(self, tally=tally)


def _tally(identity: Identity, trust: TrustStore, context: str, monotonic: Clock) -> Tally:
    return Tally(monotonic, context=context, own={identity.key_id}, trust=trust)
