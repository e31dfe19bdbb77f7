"""What is counted and what is logged, and that a flood of either stays small."""

from __future__ import annotations

import dataclasses
import logging
from concurrent.futures import ThreadPoolExecutor

import pytest
from crafting import craft
from parallel import at_once, held_by_another_thread, in_child
from support import SECOND, FakeClock, World, flip, identity

from envelope import Opener, Peer, SenderStats, Stats, TrustStore
from envelope import clock as clocks
from envelope.errors import (
    CODES,
    REJECTIONS,
    MalformedError,
    RejectedError,
    ReplayedError,
    StoreUnavailableError,
    UnknownSenderError,
    UnsealError,
)
from envelope.replay import Gaps
from envelope.stats import LOG_EVERY, Tally

ALICE, BOB, CAROL = identity("alice"), identity("bob"), identity("carol")
KEY_ID = bytes(range(16))


class StillGuard:
    """Figures that stand still."""

    def __init__(self, *figures):
        self.figures = Gaps(*figures)

    def gaps(self):
        return self.figures


@pytest.fixture
def clock():
    return FakeClock(0)


@pytest.fixture
def tally(clock):
    return Tally(clock)


def refuse(tally, kind=ReplayedError, *, claimed=KEY_ID, verified=False, name=None):
    """Have one refusal counted, of a claim that points at a name or at none."""
    error = kind()
    error.claimed_sender, error.verified = claimed, verified
    asked = []

    def name_of(key_id):
        asked.append(key_id)
        return name

    tally.refuse(error, name_of)
    assert set(asked) <= {claimed}


class TestCounting:
    def test_it_begins_at_nothing(self, tally):
        assert tally.read(0) == Stats(
            accepted=0, messages=0, refused={}, senders={}, clock_stepped_back=0
        )

    def test_of_a_sender_nothing_is_known_at_first(self):
        assert dataclasses.astuple(SenderStats()) == (0, 0, {}, 0, 0, 0, 0, 0, 0)

    def test_every_refusal_is_counted_by_its_code(self, tally):
        for count, kind in enumerate(REJECTIONS, 1):
            for _ in range(count):
                refuse(tally, kind)
        assert tally.read(0).refused == {code: n for n, code in enumerate(CODES, 1)}
        assert tally.read(0).senders == {}

    def test_a_store_of_somebody_elses_may_have_a_code_of_its_own(self, tally, caplog):
        class FullError(RejectedError):
            code = "full"

        for _ in range(2):
            refuse(tally, FullError)
        assert tally.read(0).refused == {"full": 2}
        assert len(caplog.records) == 1

    def test_the_steps_of_the_clock_are_handed_through(self, tally):
        assert tally.read(3).clock_stepped_back == 3

    def test_envelopes_and_messages_are_counted_for_their_sender(self, tally):
        alice = tally.sender(b"a" * 16, "alice", StillGuard(1, 2, 3, 4, 5, 6, 7))
        carol = tally.sender(b"c" * 16, "carol", StillGuard(0, 0, 0, 0, 0, 0, 0))
        tally.accept(alice, 1)
        tally.accept(alice, 10)
        tally.accept(carol, 3)
        stats = tally.read(0)
        assert (stats.accepted, stats.messages) == (3, 14)
        assert stats.senders == {
            "alice": SenderStats(
                accepted=2,
                messages=11,
                refused={},
                streams=1,
                skipped=3,
                late=4,
                missing=5,
                lost=6,
                unseen=7,
            ),
            "carol": SenderStats(accepted=1, messages=3),
        }

    def test_a_sender_has_one_row(self, tally):
        guard = StillGuard(0, 0, 0, 0, 0, 0, 0)
        assert tally.sender(KEY_ID, "alice", guard) is tally.sender(KEY_ID, "alice", guard)

    def test_two_keys_of_one_name_are_added_up(self, tally):
        old = tally.sender(b"o" * 16, "alice", StillGuard(1, 2, 3, 4, 5, 6, 7))
        new = tally.sender(b"n" * 16, "alice", StillGuard(10, 20, 30, 40, 50, 60, 70))
        tally.accept(old, 1)
        tally.accept(new, 5)
        for who, kind in ((b"o", ReplayedError), (b"n", ReplayedError), (b"n", UnsealError)):
            refuse(tally, kind, claimed=who * 16, verified=True)
        assert tally.read(0).senders == {
            "alice": SenderStats(
                accepted=2,
                messages=6,
                refused={"replayed": 2, "unseal": 1},
                streams=11,
                skipped=33,
                late=44,
                missing=55,
                lost=66,
                unseen=77,
            )
        }
        assert tally.read(0).accepted == 2

    def test_only_what_a_sender_did_sign_is_counted_against_it(self, tally):
        tally.sender(KEY_ID, "alice", StillGuard(0, 0, 0, 0, 0, 0, 0))
        refuse(tally, verified=False, name="alice")
        assert tally.read(0).senders["alice"].refused == {}
        refuse(tally, verified=True)
        refuse(tally, verified=True)
        assert tally.read(0).senders["alice"].refused == {"replayed": 2}
        assert tally.read(0).refused == {"replayed": 3}

    @pytest.mark.audit("A16")
    def test_a_claim_makes_no_row(self, tally):
        for number in range(100):
            refuse(tally, claimed=bytes([number]) * 16)
        assert tally._senders == {}
        assert tally.read(0).refused == {"replayed": 100}

    def test_a_reading_does_not_change(self, tally):
        alice = tally.sender(KEY_ID, "alice", StillGuard(0, 0, 0, 0, 0, 0, 0))
        tally.accept(alice, 1)
        refuse(tally, verified=True)
        stats = tally.read(0)
        same = dataclasses.replace(stats)
        tally.accept(alice, 1)
        refuse(tally, verified=True)
        assert stats == same
        assert stats.senders["alice"].refused == {"replayed": 1}
        for part in (stats, stats.senders["alice"]):
            with pytest.raises(dataclasses.FrozenInstanceError):
                part.accepted = 7

    def test_threads_lose_no_count(self, tally):
        alice = tally.sender(KEY_ID, "alice", StillGuard(0, 0, 0, 0, 0, 0, 0))

        def run(_):
            for _ in range(100):
                tally.accept(alice, 2)
                refuse(tally, verified=True)
                tally.read(0)

        at_once(8, run)
        stats = tally.read(0)
        assert (stats.accepted, stats.messages, stats.refused) == (800, 1600, {"replayed": 800})
        assert stats.senders["alice"].refused == {"replayed": 800}

    @pytest.mark.parametrize("step", ["sender", "accept", "refuse", "read"])
    def test_each_step_waits_for_the_one_that_is_being_made(self, tally, step):
        guard = StillGuard(0, 0, 0, 0, 0, 0, 0)
        alice = tally.sender(KEY_ID, "alice", guard)
        work = {
            "sender": lambda: tally.sender(KEY_ID, "alice", guard),
            "accept": lambda: tally.accept(alice, 1),
            "refuse": lambda: refuse(tally),
            "read": lambda: tally.read(0),
        }[step]
        with ThreadPoolExecutor(1) as pool:
            with held_by_another_thread(tally._lock):
                done = pool.submit(work)
                with pytest.raises(TimeoutError):
                    done.result(timeout=0.05)
            done.result()

    def test_a_child_counts_though_a_thread_held_the_lock_at_the_fork(self, tally):
        with held_by_another_thread(tally._lock):
            assert in_child(lambda: tally.read(0).accepted, seconds=5) == 0


class TestLog:
    """E3: what logs hold, and that a stranger cannot flood them."""

    def lines(self, caplog):
        return [record.getMessage() for record in caplog.records]

    @pytest.mark.audit("E3")
    @pytest.mark.parametrize(
        ("claimed", "verified", "name", "who"),
        [
            (None, False, None, "no sender decoded"),
            (KEY_ID, False, None, f"claimed sender {KEY_ID.hex()}"),
            (KEY_ID, False, "alice", f"claimed sender {KEY_ID.hex()} (alice)"),
            (KEY_ID, True, "alice", f"signed by {KEY_ID.hex()} (alice)"),
            (KEY_ID, True, None, f"signed by {KEY_ID.hex()}"),
        ],
    )
    def test_a_line_says_why_and_who_claims_it(self, tally, caplog, claimed, verified, name, who):
        refuse(tally, claimed=claimed, verified=verified, name=name)
        assert self.lines(caplog) == [
            (
                f"envelope refused, replayed: this envelope was accepted before; {who}; "
                "sent twice by the network, or by somebody who recorded it"
            )
        ]
        [record] = caplog.records
        assert (record.name, record.levelno) == ("envelope.opener", logging.WARNING)

    @pytest.mark.audit("E3", "A16")
    def test_a_flood_makes_one_line_in_five_seconds_with_a_count(self, tally, clock, caplog):
        assert LOG_EVERY == 5 * SECOND
        for _ in range(1000):
            refuse(tally)
        assert len(caplog.records) == 1
        clock.now = LOG_EVERY - 1
        refuse(tally)
        assert len(caplog.records) == 1
        clock.now = LOG_EVERY
        for _ in range(3):
            refuse(tally)
        clock.now = 2 * LOG_EVERY - 1
        refuse(tally)
        clock.now = 2 * LOG_EVERY
        refuse(tally)
        clock.now = 100 * LOG_EVERY
        refuse(tally)
        first, second, third, fourth = self.lines(caplog)
        assert second == first + "; 1000 more of this code since the last line"
        assert third == first + "; 3 more of this code since the last line"
        assert fourth == first
        assert tally.read(0).refused == {"replayed": 1007}

    @pytest.mark.audit("E3")
    def test_each_code_has_lines_of_its_own(self, tally, caplog):
        for _ in range(3):
            for kind in REJECTIONS:
                refuse(tally, kind)
        assert len(caplog.records) == len(REJECTIONS)

    @pytest.mark.audit("E3", "A16")
    def test_an_opener_logs_a_flood_of_garbage_once(self, caplog):
        world = World()
        opener = world.opener()
        for number in range(200):
            with pytest.raises(MalformedError):
                opener.open(b"%d" % number)
        assert self.lines(caplog) == [
            (
                "envelope refused, malformed: shorter than the shortest envelope; "
                "no sender decoded; context 'orders'; does a program without envelopes send here?"
            )
        ]
        world.clock.advance(5)
        with pytest.raises(MalformedError):
            opener.open(b"")
        assert self.lines(caplog)[1].endswith("; 199 more of this code since the last line")

    @pytest.mark.audit("E3", "A16")
    def test_a_strangers_flood_hides_no_peer_that_is_set_up_wrongly(self, tally, clock, caplog):
        for number in range(500):
            refuse(tally, claimed=number.to_bytes(16, "big"))
        assert len(caplog.records) == 1
        for _ in range(3):
            refuse(tally, claimed=KEY_ID, name="alice")
        assert len(caplog.records) == 2
        assert "(alice)" in self.lines(caplog)[1]
        clock.now = LOG_EVERY
        refuse(tally, claimed=KEY_ID, name="alice")
        assert self.lines(caplog)[2].endswith(
            "; 2 more of this code and sender since the last line"
        )
        refuse(tally, claimed=bytes(16))
        assert self.lines(caplog)[3].endswith("; 499 more of this code since the last line")

    @pytest.mark.audit("E3", "A16")
    def test_who_claims_every_known_sender_gets_few_lines(self, tally, clock, caplog):
        for number in range(1000):
            refuse(tally, claimed=number.to_bytes(16, "big"), name=f"peer-{number}")
        # Sixteen of their own, and one for all the others.
        assert len(caplog.records) == 17
        # Those who have lines of their own are silent, too, once the others have used them up.
        clock.now = LOG_EVERY
        for number in reversed(range(1000)):
            refuse(tally, claimed=number.to_bytes(16, "big"), name=f"peer-{number}")
        assert len(caplog.records) == 34
        assert tally.read(0).refused == {"replayed": 2000}

    def test_the_lines_of_known_senders_are_bounded(self, tally, clock, caplog):
        for number in range(2000):
            refuse(tally, claimed=number.to_bytes(16, "big"), name=f"peer-{number}")
            clock.now += LOG_EVERY
        assert len(caplog.records) == 2000
        assert len(tally._codes["replayed"].own) <= 1024
        # What is forgotten of the lines stays counted, and is not told as unsaid.
        assert tally.read(0).refused == {"replayed": 2000}
        refuse(tally, claimed=None)
        assert "more of this code" not in self.lines(caplog)[-1]

    def test_who_is_no_peer_any_more_has_no_line_of_its_own(self, tally, clock, caplog):
        for number in range(10):
            refuse(tally, claimed=bytes([number]) * 16, name="alice")
        assert len(caplog.records) == 10
        clock.now = LOG_EVERY
        for number in range(10):
            refuse(tally, claimed=bytes([number]) * 16, name=None)
        assert len(caplog.records) == 11
        assert tally.read(0).refused == {"replayed": 20}

    @pytest.mark.audit("A16")
    def test_of_the_unknown_nobody_is_looked_up(self, tally):
        error = UnknownSenderError()
        error.claimed_sender = KEY_ID
        tally.refuse(error, lambda _: pytest.fail("by definition it is not there"))
        assert tally.read(0).refused == {"unknown_sender": 1}

    @pytest.mark.audit("E3", "A16")
    def test_no_text_is_made_for_a_line_that_is_not_written(self, tally, clock, caplog):
        class CostlyError(ReplayedError):
            asked = 0

            @property
            def detail(self):
                CostlyError.asked += 1
                return "at a price"

        for _ in range(100):
            refuse(tally, CostlyError, claimed=None)
            refuse(tally, CostlyError, name="alice")
        assert len(caplog.records) == CostlyError.asked == 2

    @pytest.mark.audit("E3")
    def test_what_a_server_answers_makes_no_second_line(self, tally, caplog):
        error = StoreUnavailableError(
            "it answers: no\n2027 WARNING all is well\x1b[2J" + "!" * 9999
        )
        tally.refuse(error, lambda _: None)
        (line,) = self.lines(caplog)
        assert line.isprintable()
        assert "no\\n2027 WARNING all is well\\x1b[2J!!!" in line
        assert line.endswith("...; no sender decoded")
        assert len(line) < 600

    def test_lines_are_spaced_by_a_clock_that_never_steps_back(self):
        assert Tally()._clock is clocks.monotonic
        opener = Opener(TrustStore(), context="c")
        assert opener._tally._clock is clocks.monotonic


class TestOfAnOpener:
    @pytest.mark.audit("A21")
    def test_gaps_are_those_of_the_replay_memory(self):
        world = World()
        opener, sealer = world.opener(), world.sealer()
        sent = [sealer.seal(b"x") for _ in range(8)]
        skipped = [opener.open(sent[place]).skipped for place in (2, 5, 4, 7)]
        assert skipped == [2, 2, 0, 1]
        assert opener.stats == Stats(
            accepted=4,
            messages=4,
            refused={},
            senders={
                "alice": SenderStats(
                    accepted=4, messages=4, streams=1, skipped=5, late=1, missing=2, unseen=2
                )
            },
            clock_stepped_back=0,
        )

    def test_a_bundle_is_one_envelope_and_many_messages(self):
        world = World()
        opener = world.opener()
        opener.open_bundle(world.sealer().seal_bundle([b""] * 10))
        assert (opener.stats.accepted, opener.stats.messages) == (1, 10)

    def test_a_rotated_peer_is_one_name(self):
        world = World()
        new = identity("alice, new")
        trust = TrustStore(Peer("alice", key.public, contexts=["*"]) for key in (ALICE, new))
        opener = world.opener(trust=trust)
        for who in (ALICE, new):
            opener.open(world.sealer(who).seal(b"x"))
        assert opener.stats.senders == {"alice": SenderStats(accepted=2, messages=2, streams=2)}

    def test_openers_that_share_a_memory_count_for_themselves(self):
        world = World()
        store, sealer = world.store(), world.sealer()
        one, two = world.opener(replay=store), world.opener(replay=store)
        one.open(sealer.seal(b"x"))
        sealer.seal(b"lost")
        two.open(sealer.seal(b"x"))
        assert (one.stats.accepted, two.stats.accepted) == (1, 1)
        assert one.stats.senders["alice"].missing == two.stats.senders["alice"].missing == 1

    @pytest.mark.audit("A16")
    def test_forgeries_in_the_name_of_a_known_sender_are_not_its_doing(self):
        world = World()
        opener, sealer = world.opener(), world.sealer()
        opener.open(sealer.seal(b"x"))
        with pytest.raises(RejectedError):
            opener.open(flip(sealer.seal(b"x"), -1))
        with pytest.raises(RejectedError):
            opener.open(craft(ALICE, b"x", to=[CAROL.public]))
        assert opener.stats.refused == {"bad_signature": 1, "not_addressed": 1}
        assert opener.stats.senders["alice"].refused == {}
        with pytest.raises(RejectedError):
            opener.open(craft(ALICE, b"x", to=[BOB.public], sealed=True, spoil_tag=True))
        assert opener.stats.senders["alice"].refused == {"unseal": 1}
