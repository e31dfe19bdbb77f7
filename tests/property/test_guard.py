"""The guard agrees with a naive reading of SPEC 8, whatever it is offered.

Rules of this file: the model is written from the specification alone. It keeps
every sequence it ever accepted in sets, counts gaps by looking at each number,
and shares no line and no constant with the code.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from envelope.errors import RejectedError
from envelope.replay.guard import NEVER, Guard
from envelope.stream import birth

STREAMS = [bytes([number]) * 16 for number in range(6)]


@dataclass
class Life:
    """What the model knows of one stream, from its entry until it is dropped."""

    floor: int | None
    window: int
    first: int
    newest: int
    accepted: set = field(default_factory=set)

    @property
    def top(self):
        return max(self.accepted)

    def figures(self, *, is_open):
        """Return missing, lost and unseen by looking at each sequence below the top."""
        missing = lost = unseen = 0
        for sequence in range(self.top + 1):
            if sequence in self.accepted:
                continue
            if sequence < self.first:
                unseen += 1
            elif is_open and sequence + self.window > self.top:
                missing += 1
            else:
                lost += 1
        return missing, lost, unseen


class Model:
    """SPEC 8.3 to 8.6 and 8.9, with None where nothing is remembered."""

    def __init__(self, cold):
        self.cold = cold
        self.floor = None
        self.lives = {}
        self.ended = []
        self.skipped = 0
        self.late = 0

    def check(self, stream, sequence, sent_at, *, full_at, exempt):
        """SPEC 8.4: return a code, or None."""
        if self.cold is not None and sent_at <= self.cold and not exempt:
            return "before_start"
        life = self.lives.get(stream)
        if life is not None:
            if life.floor is not None and sent_at <= life.floor:
                return "too_old"
            if sequence + life.window <= life.top:
                return "too_old"
            return "replayed" if sequence in life.accepted else None
        if self.floor is not None and sent_at <= self.floor:
            return "too_old"
        if len(self.lives) >= full_at and sent_at <= min(o.newest for o in self.lives.values()):
            return "too_old"
        return None

    def mark(self, stream, sequence, sent_at, *, full_at, window, forget_before):
        """SPEC 8.5 for what ``check`` let through: return ``skipped``."""
        if stream not in self.lives:
            for other in [o for o, life in self.lives.items() if life.newest <= forget_before]:
                self.drop(other)
            while len(self.lives) >= full_at:
                self.drop(min(self.lives, key=lambda other: self.lives[other].newest))
            self.lives[stream] = Life(self.floor, window, sequence, sent_at)
            skipped = sequence
        else:
            skipped = max(0, sequence - self.lives[stream].top - 1)
            self.late += sequence < self.lives[stream].top
        life = self.lives[stream]
        life.accepted.add(sequence)
        life.newest = max(life.newest, sent_at)
        self.skipped += skipped
        return skipped

    def drop(self, stream):
        """SPEC 8.6."""
        life = self.lives.pop(stream)
        self.floor = life.newest if self.floor is None else max(self.floor, life.newest)
        self.ended.append(life)

    def state(self):
        def time(value):
            return NEVER if value is None else value

        return time(self.floor), tuple(
            (
                stream,
                time(life.floor),
                life.newest,
                life.window,
                life.top,
                sum(1 << (life.top - q) for q in life.accepted if life.top - q < life.window),
                life.first,
            )
            for stream, life in sorted(self.lives.items())
        )

    def gaps(self):
        rows = [life.figures(is_open=True) for life in self.lives.values()]
        rows += [life.figures(is_open=False) for life in self.ended]
        missing, lost, unseen = map(sum, zip(*rows, strict=True)) if rows else (0, 0, 0)
        every = [*self.lives.values(), *self.ended]
        accepted = sum(len(life.accepted) for life in every)
        return (len(self.lives), accepted, self.skipped, self.late, missing, lost, unseen)


ages = st.one_of(st.integers(-2, 3), st.integers(-3, 25))
"""How much earlier than the newest of all so far something is stamped."""
forgets = st.one_of(st.none(), st.none(), st.integers(0, 25))
"""How much older than that a stream may be forgotten; None: none may."""


class GuardMachine(RuleBasedStateMachine):
    """Offers of every kind; the network may also repeat whatever was accepted."""

    @initialize(cold=st.none() | st.integers(0, 3))
    def begin(self, cold):
        self.delivered = set()
        self.newest_of_all = -1
        self.start(cold)

    def start(self, cold):
        self.offers = 0
        self.model = Model(cold)
        self.guard = Guard(cold=NEVER if cold is None else cold, birth=birth())

    def ago(self, age):
        return max(0, self.newest_of_all - age)

    def offer(self, stream, sequence, sent_at, *, full_at, window, expected, forget_before):
        self.offers += 1
        model, guard = self.model, self.guard
        code = model.check(stream, sequence, sent_at, full_at=full_at, exempt=expected)
        place = {"full_at": full_at, "expected": expected}
        room = {"window": window, "forget_before": forget_before}
        if code is not None:
            with pytest.raises(RejectedError) as refused:
                guard.check(stream, sequence, sent_at, **place)
            assert refused.value.code == code
            with pytest.raises(RejectedError) as refused:
                guard.mark(stream, sequence, sent_at, **place, **room)
            assert refused.value.code == code
            return
        floor = guard.floor
        assert guard.check(stream, sequence, sent_at, **place) is None
        skipped = guard.mark(stream, sequence, sent_at, **place, **room)
        assert skipped == model.mark(stream, sequence, sent_at, full_at=full_at, **room)
        assert guard.floor >= floor
        if not expected:  # An expected reply of an earlier life is the opener's to refuse.
            envelope = (stream, sequence, sent_at)
            assert envelope not in self.delivered
            self.delivered.add(envelope)
        self.newest_of_all = max(self.newest_of_all, sent_at)

    @rule(
        stream=st.sampled_from(STREAMS),
        step=st.one_of(
            st.integers(-3, 3), st.integers(-80, 80), st.integers(-66, -62), st.integers(0, 400)
        ),
        age=ages,
        full_at=st.sampled_from([1, 2, 3, 4, 4, 5, 5]),
        window=st.sampled_from([64, 65, 72, 100]),
        expected=st.sampled_from([False, False, False, True]),
        forget=forgets,
    )
    def anything(self, stream, step, age, full_at, window, expected, forget):
        life = self.model.lives.get(stream)
        sequence = max(0, step if life is None else life.top + step)
        self.offer(
            stream,
            sequence,
            self.ago(age),
            full_at=full_at,
            window=window,
            expected=expected,
            forget_before=NEVER if forget is None else self.ago(forget),
        )

    @rule(stream=st.sampled_from(STREAMS), later=st.integers(0, 2), forget=st.integers(1, 60))
    def the_next_of_an_honest_sender(self, stream, later, forget):
        life = self.model.lives.get(stream)
        self.offer(
            stream,
            0 if life is None else life.top + 1,
            self.ago(-later),
            full_at=3,
            window=64,
            expected=False,
            forget_before=self.ago(forget),
        )

    @precondition(lambda self: self.delivered)
    @rule(data=st.data(), full_at=st.integers(1, 6), forget=forgets)
    def a_replay(self, data, full_at, forget):
        stream, sequence, sent_at = data.draw(st.sampled_from(sorted(self.delivered)))
        self.offer(
            stream,
            sequence,
            sent_at,
            full_at=full_at,
            window=64,
            expected=False,
            forget_before=NEVER if forget is None else self.ago(forget),
        )

    @precondition(lambda self: self.offers >= 20)
    @rule(later=st.integers(0, 2))
    def the_memory_is_lost(self, later):
        """SPEC 8.7: the next life is cold up to all that this one can have accepted."""
        self.newest_of_all = self.ago(-later)
        self.start(self.newest_of_all)

    @invariant()
    def the_state_is_the_models(self):
        if hasattr(self, "model"):
            assert self.guard.state() == self.model.state()
            assert tuple(self.guard.gaps()) == self.model.gaps()


GuardMachine.TestCase.settings = settings(stateful_step_count=60)
TestGuard = pytest.mark.audit("A3", "R2", "R3", "A21")(GuardMachine.TestCase)
