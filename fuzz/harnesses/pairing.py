"""Whatever arrives, an end of a pairing knows no peer but who proved its keys by its code.

SPEC 19. The pieces are steps: of Alice and Bob, who pair in either role, each time by another
code; of their clocks; of a network that keeps, changes, repeats and swaps what it saw; and of
Mallory, who knows a code or guesses, shows the keys that he likes, and uses again what he
could read. A run goes the way of SPEC 19.6, takes what its other end said in its turn, says
nothing twice, and is ended for good by the first error, which leaves nothing half done.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from support import seeded

from envelope import clock
from envelope.errors import PairingError, PairingTimeoutError
from envelope.pairing import codes, messages
from envelope.pairing.exchange import Connector, State
from envelope.pairing.messages import BODY_SIZES, Type
from fuzz.harness import Change
from fuzz.mutations import flip, join, pieces_mutator, split
from fuzz.pairings import PUBS, Liar, begin

COVERS = ("envelope.pairing.exchange", "envelope.pairing.pake", "envelope.pairing.transcript")
SHARE = 4

_LIMIT = 32
_CODES = [codes.generate(random=seeded(number)) for number in range(_LIMIT + 2)]
_OVER = {State.DONE, State.ENDED}
_AGREED = {State.AGREED, State.AWAITS_END, State.DONE}
_OF_CONNECTOR = {
    Type.HELLO,
    Type.CONFIRMATION,
    Type.CONNECTOR_PROOF,
    Type.CONNECTOR_DECISION,
    Type.DONE,
}
_FARTHER = {
    (State.IDLE, State.AWAITS_ANSWER),
    (State.AWAITS_ANSWER, State.AWAITS_PROOF),
    (State.AWAITS_HELLO, State.AWAITS_CONFIRMATION),
    (State.AWAITS_CONFIRMATION, State.AWAITS_PROOF),
    (State.AWAITS_PROOF, State.PROVEN),
    (State.PROVEN, State.WILLING),
    (State.PROVEN, State.AWAITS_DECISION),
    (State.WILLING, State.AGREED),
    (State.AWAITS_DECISION, State.AGREED),
    (State.AGREED, State.AWAITS_END),
    (State.AGREED, State.DONE),
    (State.AWAITS_END, State.DONE),
}
"""From where to where a run goes, apart from its end."""
_DUE = {
    (State.AWAITS_HELLO, Type.HELLO),
    (State.AWAITS_ANSWER, Type.ANSWER),
    (State.AWAITS_CONFIRMATION, Type.CONFIRMATION),
    (State.AWAITS_PROOF, Type.LISTENER_PROOF),
    (State.AWAITS_PROOF, Type.CONNECTOR_PROOF),
    (State.PROVEN, Type.CONNECTOR_DECISION),
    (State.AWAITS_DECISION, Type.CONNECTOR_DECISION),
    (State.AWAITS_DECISION, Type.LISTENER_DECISION),
    (State.AWAITS_END, Type.DONE),
}
"""What a state takes, if no owner says no."""
_PATIENCE = {
    **dict.fromkeys((State.AWAITS_HELLO, State.PROVEN, State.WILLING, State.AWAITS_DECISION), 600),
    **dict.fromkeys((State.AWAITS_ANSWER, State.AWAITS_CONFIRMATION, State.AWAITS_PROOF), 30),
    State.AWAITS_END: 30,
}
"""How many seconds a state waits (SPEC 19.8); the others have no need to."""


class _Run:
    """One run at one end, and what became of it."""

    def __init__(self, who: str, number: int, *, is_connector: bool, begun: int) -> None:
        self.who = who
        self.number = number
        self.code = _CODES[number]
        self.is_connector = is_connector
        self.begun = begun
        self.end = begin(who, self.code, is_connector=is_connector)
        self.state = self.end.state
        self.since = begun
        self.said: list[Type] = []
        self.is_touched = False
        self.says_yes = False
        self.has_written = False
        self.liar: Liar | None = None

    @property
    def public(self) -> bytes:
        return PUBS[self.who]

    @property
    def log(self) -> list[bytes]:
        """The messages of the types 1 to 5, as this end saw them."""
        found: list[bytes] = self.end._transcript._messages  # noqa: SLF001 (looks inside)
        return found

    @property
    def peer(self) -> bytes | None:
        return None if self.end.peer is None else self.end.peer.public

    def is_late(self, now: int) -> bool:
        return self.end.deadline is not None and now >= self.end.deadline

    def is_other_of(self, run: _Run) -> bool:
        """Tell whether a run can be at the other end: another role, and one code."""
        return run.code == self.code and run.is_connector != self.is_connector

    def proved_to(self, run: _Run) -> bool:
        """Tell whether this run is what a run that knows its peer was held with."""
        count = 4 if run.is_connector else 5
        return (
            self.is_other_of(run)
            and self.public == run.peer
            and len(self.log) >= count
            and self.log[:count] == run.log[:count]
        )


class _Story:
    def __init__(self) -> None:
        self.now = 0
        self.seen: list[tuple[_Run, bytes]] = []
        alice = _Run("alice", 0, is_connector=True, begun=0)
        bob = _Run("bob", 0, is_connector=False, begun=0)
        self.at = [alice, bob]
        self.runs = [alice, bob]

    def step(self, what: int, place: int, rest: bytes) -> None:  # noqa: C901 (a table)
        run = self.at[place & 1]
        place >>= 1
        match what % 9:
            case 0:
                self.act(run, says_yes=place % 4 != 3)
            case 1 if self.seen:
                sayer, data = self.seen[-1]
                self.bring(self.at[sayer is self.at[0]], data)
            case 2:
                self.bring(run, self.said(place))
            case 3:
                self.now += place * 10 * clock.SECOND
            case 4:
                self.begin(run, place)
            case 5:
                self.bring(run, rest)
            case 6:
                self.bring(run, flip(self.said(place), rest))
            case 7:
                self.lie(run, place, rest)
            case 8:
                self.farewell(run, is_due=run.is_touched and run.state not in _OVER)
        for one in self.at:
            self.check(one)

    def said(self, place: int) -> bytes:
        return self.seen[-1 - place % len(self.seen)][1] if self.seen else b""

    def begin(self, run: _Run, place: int) -> None:
        """Let an end pair again: by the next code or the one after it, in either role."""
        number = min(run.number + 1 + (place >> 1 & 1), len(_CODES) - 2)
        if number > run.number:
            new = _Run(run.who, number, is_connector=bool(place & 1), begun=self.now)
            self.at[self.at.index(run)] = new
            self.runs.append(new)

    def act(self, run: _Run, *, says_yes: bool) -> None:
        """Let an owner do what is next; whatever else is a mistake that changes nothing."""
        end, now = run.end, self.now - run.begun
        if isinstance(end, Connector) and end.state is State.IDLE:
            run.is_touched = True
            self.say(run, end.begin(now))
        elif end.state in {State.PROVEN, State.WILLING}:
            self.decide(run, says_yes=says_yes, now=now)
        elif end.state is State.AGREED:
            run.has_written = True
            self.say(run, end.written(now))
        else:
            _check_is_mistake(lambda: end.decide(accepts=True, now=now))
            _check_is_mistake(lambda: end.written(now))
            if isinstance(end, Connector):
                _check_is_mistake(lambda: end.begin(now))

    def decide(self, run: _Run, *, says_yes: bool, now: int) -> None:
        is_late = run.is_late(now)
        try:
            decision = run.end.decide(accepts=says_yes, now=now)
        except PairingTimeoutError:
            assert is_late
            self.farewell(run, is_due=True)
            return
        assert not is_late
        run.says_yes = says_yes
        if decision is not None:
            self.say(run, decision)
        if not says_yes:
            assert run.end.state is State.ENDED
            self.farewell(run, is_due=False)

    def say(self, run: _Run, data: bytes) -> None:
        """Let the network see what an end says."""
        kind, _ = messages.decode(data)
        assert kind not in run.said
        assert kind is Type.END or (kind in _OF_CONNECTOR) == run.is_connector
        assert run.public[:32] not in data
        assert run.public[32:] not in data
        run.said.append(kind)
        self.seen.append((run, data))
        if run.liar is not None:
            run.liar.hear(data)

    def bring(self, run: _Run, data: bytes) -> None:
        end, now = run.end, self.now - run.begun
        before = end.state, end.peer, end.is_pinned_there
        is_due = self.is_due(run, data, now)
        is_late = run.is_late(now)
        run.is_touched |= not is_late and end.state is not State.ENDED
        try:
            answer = end.receive(data, now)
        except PairingError as error:
            assert not is_due
            assert end.state is (State.DONE if before[0] is State.DONE else State.ENDED)
            assert end.peer == before[1]
            assert isinstance(error, PairingTimeoutError) == is_late
            is_told = not is_late and (data == messages.head(Type.END) or "said no" in str(error))
            assert end.is_pinned_there is (False if "said no" in str(error) else before[2])
            is_first = before[0] not in _OVER
            self.farewell(run, is_due=run.is_touched and is_first and not is_told)
            return
        assert not is_late
        assert (before[0], messages.decode(data)[0]) in _DUE
        if answer is not None:
            self.say(run, answer)

    def is_due(self, run: _Run, data: bytes, now: int) -> bool:
        """Tell whether this is what comes next from who is at the other end."""
        end = run.end
        kind = Type(data[5]) if len(data) > 5 and data[5] in set(Type) else Type.END
        is_role = (kind in _OF_CONNECTOR) != run.is_connector
        if (end.state, kind) not in _DUE or not is_role or run.is_late(now):
            return False
        log = [*run.log, data] if kind <= Type.CONNECTOR_PROOF else run.log
        for sayer, said in self.seen:
            is_code = kind <= Type.ANSWER or sayer.is_other_of(run)
            is_no = kind >= Type.CONNECTOR_DECISION and not sayer.says_yes
            if said == data and is_code and not is_no and sayer.log[: len(log)] == log:
                return True
        return False

    def farewell(self, run: _Run, *, is_due: bool) -> None:
        """Let an end give up, which it says once, if to anybody."""
        was = run.end.state
        message = run.end.give_up()
        assert message == (messages.head(Type.END) if is_due else None)
        assert run.end.state is (State.DONE if was is State.DONE else State.ENDED)
        assert run.end.give_up() is None
        if message is not None:
            self.say(run, message)

    def lie(self, run: _Run, place: int, rest: bytes) -> None:
        """Let Mallory say something to an end."""
        if run.liar is None:
            knows = not place & 1
            code = run.code if knows else _CODES[run.number + 1]
            run.liar = Liar(code, run.public, is_connector=not run.is_connector, knows=knows)
            for sayer, said in self.seen:
                if sayer is run:
                    run.liar.hear(said)
        mine, carol, own = PUBS["mallory"], PUBS["carol"], run.public
        other = PUBS["bob" if run.who == "alice" else "alice"]
        shown = (mine, mine, carol, own, other, mine[:32] + carol[32:], other[:32] + mine[32:])
        kind = Type(1 + rest[0] % 8) if rest else Type.END
        borrowed = self._borrow(kind) if place & 2 else None
        self.bring(run, run.liar.speak(kind, shown[(place >> 2) % 7], borrowed, rest[1:]))

    def _borrow(self, kind: Type) -> bytes | None:
        """Return what Mallory got from another end: the last hello, or what he could open."""
        if kind in {Type.HELLO, Type.ANSWER}:
            found = [said for _, said in self.seen if said[5] in {Type.HELLO, Type.ANSWER}]
        else:
            found = [one for run in self.runs if run.liar is not None for one in run.liar.learned]
        return found[-1] if found else None

    def check(self, run: _Run) -> None:
        """Check where a run stands, and that what it knows is so."""
        end = run.end
        is_end = end.state is State.ENDED and run.state is not State.DONE
        assert run.state is end.state or is_end or (run.state, end.state) in _FARTHER
        if run.state is not end.state:
            run.state, run.since = end.state, self.now
        patience = _PATIENCE.get(end.state)
        until = None if patience is None else run.since - run.begun + patience * clock.SECOND
        assert end.deadline == until
        if end.state in _OVER:
            keys, pake = end._transcript, end._pake  # noqa: SLF001 (the same)
            assert keys.key == keys._ephemeral == b""  # noqa: SLF001 (the same)
            assert pake._spake is None  # noqa: SLF001 (the same)
        is_liar = run.liar is not None and run.liar.knows and run.peer == PUBS["mallory"]
        others = [one for one in self.runs if one.proved_to(run)]
        assert run.peer is None or is_liar or others
        assert not run.has_written or (run.says_yes and run.peer is not None)
        if end.state in _AGREED:
            assert run.says_yes
            assert is_liar or any(one.says_yes for one in others)
        if end.is_pinned_there or (run.is_connector and end.state in _AGREED):
            assert is_liar or any(one.has_written for one in others)
        if end.is_pinned_there is False:
            assert not any(run.proved_to(one) and one.has_written for one in self.runs)


def _check_is_mistake(call: Callable[[], object]) -> None:
    try:
        call()
    except RuntimeError:
        return
    raise AssertionError("what is out of turn was done")


def _at(end: int, place: int = 0) -> int:
    return place << 1 | end


def _lie(end: int, kind: int, place: int = 0, changes: bytes = b"") -> bytes:
    return bytes((7, _at(end, place), kind - 1)) + changes


_A, _B = 0, 1
_ACT_A, _ACT_B, _NO_A, _NO_B = b"\0\0", b"\0\1", b"\0\6", b"\0\7"
_NEXT = b"\1\0"
_PROVEN = (_ACT_A, *[_NEXT] * 5)
_WRONG, _BORROWED = 1, 2
_CAROLS, _OWN, _OTHERS, _MIXED, _MIXED_TOO = (place << 2 for place in range(2, 7))
_IDENTITY = b"\1" + bytes(31)
SEEDS = tuple(
    join(steps)
    for steps in (
        (*_PROVEN, _ACT_A, _NEXT, _ACT_B, _ACT_B, _NEXT, _ACT_A, _NEXT, _ACT_B),
        (*_PROVEN, _ACT_B, _ACT_A, _NEXT, _ACT_B, _NEXT, _ACT_A, _NEXT, b"\2\1", b"\x08\1"),
        (*_PROVEN, _NO_B, _NEXT, _ACT_A),
        (*_PROVEN, _ACT_B, _NO_A, _NEXT),
        (*_PROVEN, _ACT_A, _NEXT, _NO_B, _NEXT),
        (*_PROVEN, b"\3\x78", _ACT_A, _ACT_B),
        (*_PROVEN, b"\x08\0", _NEXT, b"\x08\0"),
        (_ACT_A, _NEXT, b"\3\6", _NEXT, _NEXT),
        (b"\3\x78", b"\x08\1", _ACT_A, _NEXT),
        # Another code at one end, both in one role, and a run before this one.
        (b"\4\3", _ACT_A, _NEXT, _NEXT, _NEXT),
        (b"\4\1", b"\4\2", *_PROVEN, _ACT_A, _NEXT),
        (b"\4\3", b"\4\0", _ACT_B, *[_NEXT] * 5, b"\2\0", b"\2\1"),
        (b"\4\3", b"\4\2", _ACT_A, _ACT_B, b"\6\0\5\3", b"\6\3\5\3"),
        # What is changed, repeated or reflected.
        (_ACT_A, b"\2\0", b"\2\1", b"\2\1"),
        (_ACT_A, _NEXT, b"\6\0\x40\1"),
        (_ACT_A, b"\6\0\5\3", b"\6\1\5\3", b"\5\1" + messages.head(Type.HELLO) + _IDENTITY * 2),
        (_ACT_A, _NEXT, _NEXT, b"\6\1\x50\1", _NEXT),
        # Mallory as connector and as listener: himself, by a guess, and as whom he is not.
        (_lie(_B, 1), _lie(_B, 3), _lie(_B, 5), _lie(_B, 6), _ACT_B, _ACT_B, _lie(_B, 8)),
        (_ACT_A, _lie(_A, 2), _lie(_A, 4), _ACT_A, _lie(_A, 7), _ACT_A),
        (_ACT_A, _lie(_A, 2), _lie(_A, 4), _lie(_A, 7, 0, b"\0\1"), _lie(_A, 7)),
        (_lie(_B, 1), _lie(_B, 3), _lie(_B, 5), _lie(_B, 6, 0, b"\0\2"), _ACT_B),
        (_lie(_B, 1, _WRONG), _lie(_B, 3), _lie(_B, 5)),
        (_ACT_A, _lie(_A, 2, _WRONG), _lie(_A, 4)),
        *(
            (_lie(_B, 1), _lie(_B, 3, shown), _lie(_B, 5, shown))
            for shown in (_CAROLS, _OWN, _OTHERS, _MIXED, _MIXED_TOO)
        ),
        *(
            (_ACT_A, _lie(_A, 2), _lie(_A, 4, shown))
            for shown in (_CAROLS, _OWN, _OTHERS, _MIXED, _MIXED_TOO)
        ),
        # Mallory between the two, as the one to the other, by what he got of each.
        (
            *(_ACT_A, _lie(_B, 1, _BORROWED), _lie(_A, 2, _BORROWED), _lie(_B, 3, _OTHERS)),
            *(_lie(_A, 4, _OTHERS | _BORROWED), _lie(_B, 5, _OTHERS | _BORROWED)),
        ),
        (
            *(_ACT_A, _lie(_A, 2), _lie(_A, 4), _lie(_B, 1), _lie(_B, 3, _OTHERS)),
            _lie(_B, 5, _OTHERS | _BORROWED),
        ),
    )
)


def check(data: bytes) -> None:
    """Go step by step; look after each."""
    story = _Story()
    for step in split(data, _LIMIT):
        what, place = step[:2].ljust(2, b"\0")
        story.step(what, place, step[2:])


def _fresh(random: Random) -> bytes:
    what = random.choice((0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 4, 7, 7, 8))
    return bytes([what, random.choice((0, 1, random.randrange(256))), random.randrange(8)])


def _change_step(step: bytes, max_size: int, random: Random, change: Change) -> bytes:
    match random.randrange(5):
        case 0:
            return _fresh(random) + step[3:]
        case 1:
            place = random.randrange(256)
            return bytes([6, place, random.randrange(214), 1 << random.randrange(8)])
        case 2:
            # One message for another: types differ in two bits or so.
            return bytes([6, random.randrange(256), 5, random.randrange(1, 16)])
        case 3:
            kind = random.choice(list(Type))
            body = random.randbytes(BODY_SIZES[kind])
            return bytes([5, random.randrange(2)]) + messages.head(kind) + body
    return change(step, max_size)


mutate = pieces_mutator(_LIMIT, _fresh, _change_step)
