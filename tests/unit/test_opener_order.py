"""The first check that fails decides the code, for every pair of checks (SPEC 7.2).

Each fault spoils one thing of an opening that would succeed. Two faults together
must be refused by the code of the one that is checked first, and by nothing else.
"""

from __future__ import annotations

import itertools
import logging
from pathlib import Path

import pytest
from crafting import STREAM, craft
from support import SECOND, START, FakeClock, flip, identity

import envelope
from envelope import Opener, Peer, Policy, TrustStore
from envelope.codec import encode_bundle
from envelope.errors import CODES, RejectedError, ReplayedError, StoreUnavailableError
from envelope.replay import MemoryReplayStore, ReplayStore

ALICE, BOB, CAROL = identity("alice"), identity("bob"), identity("carol")
SECRET = b"the secret payload"
TOPIC = b"the secret topic"
SEQUENCE = 10_000


class MarkingStore(ReplayStore):
    """A memory whose last step can fail although its peek saw nothing."""

    def __init__(self, memory, failure):
        self.memory = memory
        self.failure = failure

    def guard(self, domain, sender, context):
        guard = self.memory.guard(domain, sender, context)
        if self.failure is None:
            return guard
        failure = self.failure

        class Guard:
            check, gaps = guard.check, guard.gaps

            def mark(self, *_, **__):
                raise failure

        return Guard()

    def close(self):
        raise NotImplementedError


class Case:
    """An opening in which everything is right, until a fault spoils it."""

    def __init__(self, *, sealed=True):
        self.envelope = {
            "to": [BOB.public],
            "sealed": sealed,
            "flags": 1,
            "bound": (TOPIC, b""),
            "sequence": SEQUENCE,
            "sent_at": START,
        }
        self.payload = encode_bundle([SECRET])
        self.alice = {"contexts": ["orders"], "topics": [TOPIC]}
        self.is_known = True
        self.own = [BOB]
        self.expected = None
        self.store_clock = None
        self.marked = []
        self.failure = None
        self.spoil_signature = False
        self.spoil_size = False

    def prepare(self):
        """Return the opener, the replay memory and the arguments of ``open_bundle``."""
        data = craft(ALICE, self.payload, **self.envelope)
        if self.spoil_signature:
            data = flip(data, -1)
        bound = self.envelope["bound"]
        size = len(data) + sum(map(len, bound)) - self.spoil_size
        policy = Policy(max_size=size)
        trust = [Peer("carol", CAROL.public, contexts=["*"])]
        if self.is_known:
            trust.append(Peer("alice", ALICE.public, **self.alice))
        memory = MemoryReplayStore(
            first_life=self.store_clock is None, clock=self.store_clock or FakeClock()
        )
        opener = Opener(
            TrustStore(trust),
            context="orders",
            identity=self.own,
            replay=MarkingStore(memory, self.failure),
            policy=policy,
            domain="home",
            clock=FakeClock(),
            monotonic=FakeClock(),
        )
        guard = memory.guard("home", ALICE.key_id, "orders")
        for sequence in sorted(self.marked):
            # As an expected reply, so that a cold start does not stand in the way.
            guard.mark(STREAM, sequence, START, full_at=64, window=4096, expected=True)
        return opener, memory, (data,), {"bound": bound, "in_reply_to": self.expected}


def _set(**fields):
    def spoil(case):
        for name, value in fields.items():
            setattr(case, name, value)

    return spoil


def _envelope(**fields):
    return lambda case: case.envelope.update(fields)


FAULTS = {
    "1 size": ("too_large", _set(spoil_size=True)),
    "1 frames": ("too_large", _envelope(bound=(TOPIC,) + (b"",) * 64)),
    "2 magic": ("malformed", _envelope(magic=b"ENW")),
    "2 version": ("version", _envelope(version=2)),
    "2 flags": ("malformed", lambda case: case.envelope.update(flags=5)),
    "3 reply": ("policy", _set(expected=bytes(32))),
    "4 unknown": ("unknown_sender", _set(is_known=False)),
    "4 reflected": ("reflected", _set(own=[BOB, ALICE])),
    "4 revoked": ("not_trusted", lambda case: case.alice.update(revoked=True)),
    "4 context": ("not_trusted", lambda case: case.alice.update(contexts=["orders.*"])),
    "4 topic": ("not_trusted", lambda case: case.alice.update(topics=["another"])),
    "5 addressed": ("not_addressed", _envelope(to=[CAROL.public])),
    "6 stale": ("stale", _envelope(sent_at=START - 30 * SECOND - 1)),
    "6 future": ("future", _envelope(sent_at=START + 2 * SECOND + 1)),
    "7 cold": ("before_start", _set(store_clock=FakeClock(START + 100 * SECOND))),
    "7 behind": ("too_old", lambda case: case.marked.append(SEQUENCE + 4096)),
    "7 seen": ("replayed", lambda case: case.marked.append(SEQUENCE)),
    "8 signature": ("bad_signature", _set(spoil_signature=True)),
    "9 unseal": ("unseal", _envelope(spoil_tag=True)),
    "10 bundle": ("malformed", _set(payload=SECRET)),
    "11 store": ("store_unavailable", _set(failure=StoreUnavailableError)),
    "11 mark": ("replayed", _set(failure=ReplayedError)),
}
IMPOSSIBLE = {("6 stale", "6 future"), ("11 store", "11 mark")}
PAIRS = [pair for pair in itertools.combinations(FAULTS, 2) if pair not in IMPOSSIBLE]
DECODED = list(FAULTS)[5:]
"""The faults that are found after the header was decoded."""


def refused(case):
    """Open, and check all that holds for every refusal; return the error and the opener."""
    opener, memory, args, options = case.prepare()
    before = memory.state()
    with pytest.raises(RejectedError) as caught:
        opener.open_bundle(*args, **options)
    error = caught.value
    stats = opener.stats
    assert memory.state() == before
    assert stats.refused == {error.code: 1}
    assert (stats.accepted, stats.messages, stats.clock_stepped_back) == (0, 0, 0)
    return error, opener


def test_without_a_fault_it_is_delivered():
    for sealed in (True, False):
        opener, memory, args, options = Case(sealed=sealed).prepare()
        [message] = opener.open_bundle(*args, **options)
        assert message.payload == SECRET
        assert message.skipped == SEQUENCE
        assert memory.state() != {}
        assert opener.stats.refused == {}


def test_every_code_has_a_fault():
    assert {code for code, _ in FAULTS.values()} == set(CODES) - {"unknown_session"}


@pytest.mark.audit("P1", "R1", "A12", "A13", "A14")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_single_fault_has_its_code(fault):
    code, spoil = FAULTS[fault]
    case = Case()
    spoil(case)
    error, _ = refused(case)
    assert error.code == code
    assert str(error).startswith(f"{code}: ")
    assert error.claimed_sender == (ALICE.key_id if fault in DECODED else None)
    assert error.verified == (int(fault.split()[0]) >= 9)


@pytest.mark.audit("P1", "R1")
@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_of_two_faults_the_one_that_is_checked_first_decides(first, second):
    case = Case()
    FAULTS[second][1](case)
    FAULTS[first][1](case)
    error, _ = refused(case)
    assert error.code == FAULTS[first][0]


@pytest.mark.audit("E3", "K5")
@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_of_the_payload_or_the_topic_is_said(fault, sealed, caplog):
    case = Case(sealed=sealed)
    FAULTS[fault][1](case)
    if fault == "9 unseal" and not sealed:
        return  # Without a ciphertext there is no tag.
    with caplog.at_level(logging.DEBUG):
        error, opener = refused(case)
    [record] = caplog.records
    assert error.code in record.getMessage()
    said = [str(error), repr(error), repr(error.__dict__), record.getMessage(), repr(opener)]
    said += [repr(record.args), repr(opener.stats)]
    for text in said:
        assert "secret" not in text
        assert SECRET.hex() not in text


@pytest.mark.audit("E3", "K5")
@pytest.mark.parametrize("fault", FAULTS)
def test_no_variable_in_the_traceback_holds_the_payload(fault):
    """Tools that report errors print the variables of every frame."""
    case = Case()
    FAULTS[fault][1](case)
    error, _ = refused(case)
    trace = error.__traceback__
    names = []
    while trace is not None:
        code, variables = trace.tb_frame.f_code, trace.tb_frame.f_locals
        if Path(code.co_filename).is_relative_to(Path(envelope.__file__).parent):
            names.append(code.co_name)
            for name, value in variables.items():
                text = value if isinstance(value, bytes) else repr(value).encode()
                assert SECRET not in text, f"{name} in {code.co_name}"
        trace = trace.tb_next
    assert "open_bundle" in names


@pytest.mark.parametrize("fault", DECODED)
def test_the_log_says_claimed_until_the_signature_was_checked(fault, caplog):
    case = Case()
    FAULTS[fault][1](case)
    with caplog.at_level(logging.WARNING):
        refused(case)
    [record] = caplog.records
    label = "signed by" if int(fault.split()[0]) >= 9 else "claimed sender"
    name = "" if fault == "4 unknown" else " (alice)"
    assert f"; {label} {ALICE.key_id.hex()}{name}; context 'orders'" in record.getMessage()


@pytest.mark.audit("A16")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_sender_is_counted_by_name_from_the_first_checked_signature_on(fault):
    case = Case()
    FAULTS[fault][1](case)
    error, opener = refused(case)
    senders = opener.stats.senders
    if int(fault.split()[0]) < 9:
        assert senders == {}
    else:
        assert senders["alice"].refused == {error.code: 1}
        assert senders["alice"].accepted == 0
