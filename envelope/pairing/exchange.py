"""The exchange of a pairing: two state machines, bytes in and bytes out (SPEC 19.1, 19.6).

Rules of this file:

- No socket, terminal, file or clock: messages, decisions and readings of a monotonic
  clock are handed in, and what comes back is to be sent.
- What is not in a table of transitions ends the run, and so does whatever fails: nothing
  is tried twice. Any exception but ``PairingError`` from ``receive`` is a bug.
- The other side's identity is known to the caller only after everything is proven.
- Nothing is pinned here. Only in the state ``AGREED`` may the caller do so.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from enum import Enum
from typing import Any, ClassVar, Final

from envelope import clock
from envelope.errors import PairingError, PairingTimeoutError, UsageError
from envelope.identity import Identity, PublicIdentity
from envelope.pairing import codes, messages
from envelope.pairing.messages import ELEMENT, PUB, STRANGE, Type
from envelope.pairing.pake import Pake
from envelope.pairing.transcript import Transcript
from envelope.primitives import random_bytes

PEOPLE: Final = 600 * clock.SECOND
"""Microseconds for what people do: read out a code, decide."""
MACHINES: Final = 30 * clock.SECOND
"""Microseconds for what machines do: above any round trip, and short for a person."""

_YES: Final = b"\x01"
_NO: Final = b"\x00"


class State(Enum):
    """What is known at one end (SPEC 19.6); the value ends the sentence "this end ..."."""

    IDLE = "has not begun"
    AWAITS_HELLO = "waits for the other side"
    AWAITS_ANSWER = "waits for the other side to answer"
    AWAITS_CONFIRMATION = "waits for the other side to confirm the code"
    AWAITS_PROOF = "waits for the proof of the other side's keys"
    PROVEN = "waits for its owner to decide"
    WILLING = "waits for its owner to decide, as the other side did"
    AWAITS_DECISION = "waits for the other side's owner to decide"
    AGREED = "may write"
    AWAITS_END = "waits to hear that the other side has written"
    DONE = "is done"
    ENDED = "ended without a peer"


_PATIENCE: Final = {
    State.AWAITS_HELLO: PEOPLE,
    State.AWAITS_ANSWER: MACHINES,
    State.AWAITS_CONFIRMATION: MACHINES,
    State.AWAITS_PROOF: MACHINES,
    State.PROVEN: PEOPLE,
    State.WILLING: PEOPLE,
    State.AWAITS_DECISION: PEOPLE,
    State.AWAITS_END: MACHINES,
}

_Step = Callable[[Any, bytes, bytes], bytes | None]
_Table = dict[tuple[State, Type], tuple[_Step, State]]


class _Exchange(ABC):
    """What both ends have in common. Not thread-safe; one for each run.

    Attributes:
        state: where this end stands.
        deadline: when it ends by itself, in microseconds of the monotonic clock; or None.
        peer: the other side, once both its keys are proven; None before.
        is_pinned_there: whether the other side has added this end; None if that is not
            known (SPEC 19.7).
    """

    _STEPS: ClassVar[_Table]
    _IS_CONNECTOR: ClassVar[bool]
    _DECISION: ClassVar[Type]
    _FIRST: ClassVar[State]

    def __init__(
        self,
        identity: Identity,
        code: str,
        *,
        now: int,
        random: Callable[[int], bytes] = random_bytes,
    ) -> None:
        """Begin a run.

        Args:
            identity: who this end is.
            code: a code that was never used before, in its one form.
            now: the monotonic clock, in microseconds.
            random: returns n random bytes.

        Raises:
            UsageError: no code.
        """
        if codes.parse(code) != code:
            raise UsageError("the code is not in its one form; parse it first")
        self._pake = Pake(code.encode(), is_connector=self._IS_CONNECTOR, random=random)
        self._transcript = Transcript(identity, random(32))
        self._is_awaited = False
        self.peer: PublicIdentity | None = None
        self.is_pinned_there: bool | None = False
        self.state = self._FIRST
        self.deadline: int | None = None
        self._go(self._FIRST, now)

    def receive(self, data: bytes, now: int) -> bytes | None:
        """Take a message; return what to send in answer, if anything.

        Raises:
            PairingError: the run is over, and nothing may be pinned.
        """
        self.check_time(now)
        self._is_awaited = self.state is not State.DONE
        try:
            answer, then = self._take(data)
        except PairingError:
            self._end()
            raise
        self._go(then, now)
        return answer

    def _take(self, data: bytes) -> tuple[bytes | None, State]:
        """Take the step that a message asks for; return the answer and the next state."""
        kind, body = messages.decode(data)
        if kind is Type.END:
            self._is_awaited = False
            hint = "; was the code mistyped?" if self.peer is None else ""
            raise PairingError(f"the other side gave up{hint}")
        if (self.state, kind) not in self._STEPS:
            raise PairingError("the other side sent a message out of its turn")
        step, then = self._STEPS[self.state, kind]
        return step(self, data, body), then

    def decide(self, *, accepts: bool, now: int) -> bytes | None:
        """Take this end's owner's decision; return what to send, if anything.

        A no ends the run.

        Raises:
            PairingTimeoutError: it came too late.
            RuntimeError: nobody was asked; a bug.
        """
        self._check_state(State.PROVEN, State.WILLING)
        self.check_time(now)
        if accepts:
            return self._accept(now)
        answer = self._transcript.seal(self._DECISION, _NO)
        self._is_awaited = False
        self._end()
        return answer

    def check_time(self, now: int) -> None:
        """End the run if its time is over.

        Raises:
            PairingError: it is, or was before.
        """
        if self.state is State.ENDED:
            raise PairingError("this pairing is over; begin again with a new code")
        if self.deadline is not None and now >= self.deadline:
            state = self.state
            self._end()
            raise PairingTimeoutError(f"too late: this end {state.value}, and no longer")

    def give_up(self) -> bytes | None:
        """End the run; return what to send, if the other side may wait for something."""
        message = messages.head(Type.END) if self._is_awaited else None
        self._is_awaited = False
        self._end()
        return message

    @abstractmethod
    def _accept(self, now: int) -> bytes | None:
        """Take a yes of this end's owner."""

    def _check_state(self, *states: State) -> None:
        if self.state not in states:
            raise RuntimeError(f"this end {self.state.value}")

    def _go(self, state: State, now: int) -> None:
        patience = _PATIENCE.get(state)
        self.state = state
        self.deadline = None if patience is None else now + patience
        if state in {State.DONE, State.ENDED}:
            self._is_awaited &= state is State.ENDED
            self._transcript.forget()
            self._pake.forget()

    def _end(self) -> None:
        if self.state is not State.DONE:
            self._go(State.ENDED, 0)

    def _hello(self, kind: Type) -> bytes:
        """Return the message with our fresh halves."""
        halves = self._pake.element + self._transcript.ephemeral
        return self._transcript.log(messages.head(kind) + halves)

    def _take_hello(self, data: bytes, body: bytes) -> None:
        self._transcript.log(data)
        self._transcript.take_ephemeral(body[ELEMENT:])
        self._transcript.key = self._pake.finish(body[:ELEMENT])

    def _hear(self, kind: Type, data: bytes, expected: bytes) -> None:
        """Take the other owner's decision; a no ends the run."""
        decision = self._transcript.open(kind, data)
        if decision == _NO:
            self._is_awaited = self.is_pinned_there = False
            raise PairingError("the other side's owner said no; nothing was added")
        if decision != expected:
            raise PairingError(STRANGE)

    def __repr__(self) -> str:
        """Return role and state, and no secret."""
        return f"<{type(self).__name__}: {self.state.value}>"


class Connector(_Exchange):
    """The end that is told the code. Not thread-safe; one for each run."""

    _IS_CONNECTOR = True
    _DECISION = Type.CONNECTOR_DECISION
    _FIRST = State.IDLE

    def begin(self, now: int) -> bytes:
        """Return the first message.

        Raises:
            RuntimeError: it was begun before; a bug.
        """
        self._check_state(State.IDLE)
        self._is_awaited = True
        self._go(State.AWAITS_ANSWER, now)
        return self._hello(Type.HELLO)

    def written(self, now: int) -> bytes:
        """Take that the peer is in the trust file; return the last message.

        Raises:
            RuntimeError: nothing was agreed; a bug.
        """
        self._check_state(State.AGREED)
        message = self._transcript.seal(Type.DONE, b"")
        self._go(State.DONE, now)
        return message

    def _confirm(self, data: bytes, body: bytes) -> bytes:
        self._take_hello(data, body)
        public = self._transcript.own_public
        return self._transcript.log(self._transcript.seal(Type.CONFIRMATION, public, confirms=True))

    def _prove_back(self, data: bytes, _: bytes) -> bytes:
        transcript = self._transcript
        plaintext = transcript.open(Type.LISTENER_PROOF, data, confirms=True)
        claimed = transcript.take_public(plaintext[:PUB])
        transcript.check_proof(Type.LISTENER_PROOF, claimed, plaintext[PUB:])
        transcript.log(data)
        self.peer = claimed
        proof = transcript.prove(Type.CONNECTOR_PROOF, claimed)
        return transcript.log(transcript.seal(Type.CONNECTOR_PROOF, proof))

    def _accept(self, now: int) -> bytes:
        self.is_pinned_there = None
        self._go(State.AWAITS_DECISION, now)
        return self._transcript.seal(self._DECISION, _YES)

    def _take_refusal(self, data: bytes, _: bytes) -> None:
        """Before this end has decided the other side can only say no."""
        self._hear(Type.LISTENER_DECISION, data, _NO)

    def _take_decision(self, data: bytes, _: bytes) -> None:
        self._hear(Type.LISTENER_DECISION, data, _YES)
        self.is_pinned_there = True

    _STEPS: ClassVar[_Table] = {
        (State.AWAITS_ANSWER, Type.ANSWER): (_confirm, State.AWAITS_PROOF),
        (State.AWAITS_PROOF, Type.LISTENER_PROOF): (_prove_back, State.PROVEN),
        (State.PROVEN, Type.LISTENER_DECISION): (_take_refusal, State.ENDED),
        (State.AWAITS_DECISION, Type.LISTENER_DECISION): (_take_decision, State.AGREED),
    }


class Listener(_Exchange):
    """The end that shows the code. Not thread-safe; one for each run."""

    _IS_CONNECTOR = False
    _DECISION = Type.LISTENER_DECISION
    _FIRST = State.AWAITS_HELLO
    _claimed: PublicIdentity | None = None

    def written(self, now: int) -> bytes:
        """Take that the peer is in the trust file; return the message that says so.

        Raises:
            RuntimeError: nothing was agreed; a bug.
        """
        self._check_state(State.AGREED)
        self.is_pinned_there = None
        self._go(State.AWAITS_END, now)
        return self._transcript.seal(self._DECISION, _YES)

    def _answer(self, data: bytes, body: bytes) -> bytes:
        self._take_hello(data, body)
        return self._hello(Type.ANSWER)

    def _prove_first(self, data: bytes, _: bytes) -> bytes:
        transcript = self._transcript
        public = transcript.open(Type.CONFIRMATION, data, confirms=True)
        self._claimed = transcript.take_public(public)
        transcript.log(data)
        plaintext = transcript.own_public + transcript.prove(Type.LISTENER_PROOF, self._claimed)
        return transcript.log(transcript.seal(Type.LISTENER_PROOF, plaintext, confirms=True))

    def _take_proof(self, data: bytes, _: bytes) -> None:
        assert self._claimed is not None
        proof = self._transcript.open(Type.CONNECTOR_PROOF, data)
        self._transcript.check_proof(Type.CONNECTOR_PROOF, self._claimed, proof)
        self._transcript.log(data)
        self.peer = self._claimed

    def _take_decision(self, data: bytes, _: bytes) -> None:
        self._hear(Type.CONNECTOR_DECISION, data, _YES)

    def _take_end(self, data: bytes, _: bytes) -> None:
        self._transcript.open(Type.DONE, data)
        self.is_pinned_there = True

    def _accept(self, now: int) -> None:
        is_willing = self.state is State.WILLING
        self._go(State.AGREED if is_willing else State.AWAITS_DECISION, now)

    _STEPS: ClassVar[_Table] = {
        (State.AWAITS_HELLO, Type.HELLO): (_answer, State.AWAITS_CONFIRMATION),
        (State.AWAITS_CONFIRMATION, Type.CONFIRMATION): (_prove_first, State.AWAITS_PROOF),
        (State.AWAITS_PROOF, Type.CONNECTOR_PROOF): (_take_proof, State.PROVEN),
        (State.PROVEN, Type.CONNECTOR_DECISION): (_take_decision, State.WILLING),
        (State.AWAITS_DECISION, Type.CONNECTOR_DECISION): (_take_decision, State.AGREED),
        (State.AWAITS_END, Type.DONE): (_take_end, State.DONE),
    }
