"""Again, late, or far ahead: A3 replays, A4 times, A17 sequences.

The attacker records everything and chooses when it arrives. No envelope here is
forged unless its story says who turned against Bob. ``Receiver`` holds every
refusal to it that nothing was delivered and no replay state has changed.
"""

from __future__ import annotations

import itertools

import pytest
from cast import BOB, KINDS, each_kind, restarted
from forge import Forgery
from simulator import DELIVERED, Network, Receiver, delay, repeat
from support import SECOND, FakeClock, World

from envelope import Policy
from envelope.wire import decode

DAY = 86_400


# --- A3: replays ------------------------------------------------------------------------


@pytest.mark.audit("A3", "R1")
@each_kind
def test_at_once_it_is_refused(world, bob, kind):
    """I deliver everything twice: step 7."""
    network = Network(world.clock, repeat)
    alice = world.sealer(**KINDS[kind])
    for number in range(3):
        network.send(alice.seal(b"%d" % number))
    assert network.deliver(bob=bob) == [DELIVERED, "replayed"] * 3
    assert bob.payloads == [b"0", b"1", b"2"]


@pytest.mark.audit("A3")
@each_kind
def test_later_it_is_refused(world, kind):
    """I wait until the window has moved on (step 7), or until all is forgotten (step 6)."""
    bob = Receiver(world.opener(policy=Policy(window=64)))
    alice = world.sealer(**KINDS[kind])
    recorded = alice.seal(b"pay")
    assert bob.offer(recorded) == DELIVERED
    for _ in range(63):
        assert bob.offer(alice.seal(b"")) == DELIVERED
    assert bob.offer(recorded) == "replayed"
    assert bob.offer(alice.seal(b"")) == DELIVERED
    assert bob.offer(recorded) == "too_old"
    world.clock.advance(30)
    assert bob.offer(recorded) == "too_old"
    world.clock.advance(0.000001)
    assert bob.offer(recorded) == "stale"


@pytest.mark.audit("A3", "R2", "R7")
def test_after_the_receivers_restart_it_is_refused(world, bob):
    """I replay at once after Bob's restart, when his memory is empty.

    Step 7 refuses what is not stamped after his start by more than ``max_future``, for
    an earlier life may have accepted it. Fresh envelopes pass from then on.
    """
    ahead = World(clock=FakeClock(world.clock() + 2 * SECOND)).sealer()
    alice = world.sealer()
    recorded = [alice.seal(b"1"), ahead.seal(b"2")]
    assert [bob.offer(data) for data in recorded] == [DELIVERED, DELIVERED]
    again = restarted(world)
    assert [again.offer(data) for data in recorded] == ["before_start", "before_start"]
    world.clock.advance(2)
    assert again.offer(alice.seal(b"at the cold start")) == "before_start"
    world.clock.advance(0.000001)
    assert again.offer(alice.seal(b"after it")) == DELIVERED
    assert [again.offer(data) for data in recorded] == ["before_start", "before_start"]


@pytest.mark.audit("A3", "R2")
def test_after_the_senders_restart_it_is_refused(world, bob):
    """I replay Alice's old stream into her new one, whose sequences begin at 0 again.

    Streams are told apart by an id that is signed: step 7.
    """
    recorded = [world.sealer().seal(b"%d" % number) for number in range(3)]
    assert [bob.offer(data) for data in recorded] == [DELIVERED] * 3
    alice = world.sealer()
    for _ in range(3):
        assert bob.offer(alice.seal(b"new")) == DELIVERED
        assert [bob.offer(data) for data in recorded] == ["replayed"] * 3


@pytest.mark.audit("A3", "R2")
def test_after_the_restart_of_both_it_is_refused(world, bob):
    """I replay when neither end remembers anything: step 7, by the cold start."""
    recorded = world.sealer().seal(b"pay")
    assert bob.offer(recorded) == DELIVERED
    world.clock.advance(1)
    alice, bob = world.sealer(), restarted(world)
    assert bob.offer(recorded) == "before_start"
    world.clock.advance(2.1)
    assert bob.offer(alice.seal(b"new")) == DELIVERED
    assert bob.offer(recorded) == "before_start"
    assert bob.payloads == [b"new"]


@pytest.mark.audit("A3", "R2")
def test_a_longer_max_age_in_the_next_life_opens_nothing(world, bob):
    """I kept what went stale, and wait until the operator grants more age after a restart.

    The cold start has no lower end: step 7.
    """
    recorded = world.sealer().seal(b"pay")
    assert bob.offer(recorded) == DELIVERED
    world.clock.advance(3600)
    assert bob.offer(recorded) == "stale"
    patient = restarted(world, policy=Policy(max_age=DAY))
    assert patient.offer(recorded) == "before_start"


@pytest.mark.audit("A3", "R3")
def test_after_eviction_and_the_return_of_the_stream_it_is_refused(world):
    """I have Bob forget a stream by the noise of others, replay it, then have it return.

    Eviction raises the floor to all that the stream had accepted, and the stream that
    returns keeps that floor: step 7 each time.
    """
    bob = Receiver(world.opener(policy=Policy(max_streams=2)))
    first = world.sealer()
    recorded = [first.seal(b"0"), first.seal(b"1")]
    held_back = first.seal(b"2")
    assert [bob.offer(data) for data in recorded] == [DELIVERED] * 2
    for _ in range(2):
        world.clock.advance(1)
        assert bob.offer(world.sealer().seal(b"noise")) == DELIVERED
    assert [bob.offer(data) for data in [*recorded, held_back]] == ["too_old"] * 3
    world.clock.advance(1)
    assert bob.offer(first.seal(b"3")) == DELIVERED
    # Its entry is new and empty: only the floor knows what the old one had.
    assert [bob.offer(data) for data in [*recorded, held_back]] == ["too_old"] * 3
    assert bob.payloads == [b"0", b"1", b"noise", b"noise", b"3"]


@pytest.mark.audit("A3", "R3")
def test_an_old_stream_cannot_push_out_a_newer_one(world):
    """I offer streams that are older than all remembered ones, to have those evicted: step 7."""
    bob = Receiver(world.opener(policy=Policy(max_streams=2)))
    held_back = [world.sealer().seal(b"old") for _ in range(3)]
    world.clock.advance(1)
    for _ in range(2):
        assert bob.offer(world.sealer().seal(b"new")) == DELIVERED
    assert [bob.offer(data) for data in held_back] == ["too_old"] * 3


@pytest.mark.audit("A3", "R2", "R3")
def test_after_expiry_under_a_shorter_max_age_it_is_refused(world):
    """I replay to a patient opener what an impatient one, on the same memory, expired.

    Expiry raises the floor like eviction: step 7, where step 6 would let it through.
    """
    store = world.store()
    patient = Receiver(world.opener(replay=store, policy=Policy(max_age=DAY)))
    impatient = Receiver(world.opener(replay=store))
    first = world.sealer()
    recorded = first.seal(b"pay")
    assert patient.offer(recorded) == DELIVERED
    world.clock.advance(2 * DAY)
    assert impatient.offer(world.sealer().seal(b"new")) == DELIVERED
    assert [entry[0] for entry in next(iter(store.state().values()))[1]] != [first.stream]
    # The patient one's clock was set back: to it, the old envelope is fresh.
    world.clock.advance(-2 * DAY)
    patient.opener.reset_clock()
    assert patient.offer(recorded) == "too_old"


@pytest.mark.audit("A3", "R3")
def test_a_floor_outlives_the_senders_removal(world):
    """I replay after the operator removed Alice from the trust store and put her back."""
    bob = Receiver(world.opener(policy=Policy(max_streams=1)))
    recorded = world.sealer().seal(b"pay")
    assert bob.offer(recorded) == DELIVERED
    world.clock.advance(1)
    assert bob.offer(world.sealer().seal(b"")) == DELIVERED
    peers = list(world.trust)
    world.trust.replace([peer for peer in peers if peer.name != "alice"])
    assert bob.offer(recorded) == "unknown_sender"
    world.trust.replace(peers)
    assert bob.offer(recorded) == "too_old"


@pytest.mark.audit("A3", "R6")
@each_kind
def test_a_second_receiver_on_the_same_memory_refuses_it(world, kind):
    """I replay to Bob's other process, which shares his identity and memory: step 7."""
    store = world.store()
    one, other = (Receiver(world.opener(replay=store)) for _ in range(2))
    alice = world.sealer(**KINDS[kind])
    first, second = alice.seal(b"1"), alice.seal(b"2")
    assert [one.offer(first), other.offer(first)] == [DELIVERED, "replayed"]
    assert [other.offer(second), one.offer(second)] == [DELIVERED, "replayed"]


@pytest.mark.audit("A3", "R6", "R8")
def test_receivers_with_separate_memories_each_deliver_once(world):
    """I replay to Bob's other process, which has a memory of its own.

    That is another replay domain, and SPEC 8.1 promises no more: once in each. An
    envelope for one place only is addressed to an identity that stands there alone.
    """
    one, other = (Receiver(world.opener()) for _ in range(2))
    data = world.sealer(to=[BOB]).seal(b"pay")
    assert [one.offer(data), other.offer(data)] == [DELIVERED, DELIVERED]
    assert [one.offer(data), other.offer(data)] == ["replayed", "replayed"]


@pytest.mark.audit("R6")
def test_two_domains_in_one_memory_do_not_mix(world):
    """I hope that what Carol accepted is refused to Bob, or the other way round."""
    store = world.store()
    bob = Receiver(world.opener(replay=store))
    carol = Receiver(world.opener(world.carol, replay=store))
    data = world.sealer().seal(b"to all")
    assert [bob.offer(data), carol.offer(data)] == [DELIVERED, DELIVERED]
    assert [bob.offer(data), carol.offer(data)] == ["replayed", "replayed"]


# --- A4: too late, too early ------------------------------------------------------------


@pytest.mark.audit("A4")
@each_kind
def test_what_is_held_back_for_longer_than_max_age_is_stale(world, bob, kind):
    """I hold an order back until it suits me: step 6, exactly from max_age on."""
    network = Network(world.clock, delay(30))
    alice = world.sealer(**KINDS[kind])
    network.send(alice.seal(b"in time"))
    world.clock.advance(30)
    assert network.deliver(bob=bob) == [DELIVERED]
    network.attacks = (delay(30.000001),)
    network.send(alice.seal(b"too late"))
    world.clock.advance(30.000001)
    assert network.deliver(bob=bob) == ["stale"]


@pytest.mark.audit("A4")
@each_kind
def test_what_is_stamped_beyond_max_future_waits_for_its_time(world, bob, kind):
    """I am Alice, and stamp ahead so that my order stays fresh for longer: step 6.

    The refusal changes nothing, so the same envelope passes when its time has come.
    """
    clock = FakeClock(world.clock() + 2 * SECOND)
    alice = World(clock=clock).sealer(**KINDS[kind])
    assert bob.offer(alice.seal(b"at the edge")) == DELIVERED
    clock.advance(0.000001)
    early = alice.seal(b"beyond it")
    assert bob.offer(early) == "future"
    world.clock.advance(0.000001)
    assert bob.offer(early) == DELIVERED
    assert bob.offer(early) == "replayed"


# --- A17: fast forward ------------------------------------------------------------------


@pytest.mark.audit("A17", "R4")
def test_a_leap_to_the_last_sequence_costs_its_sender_alone(world, bob):
    """I stole Alice's seed and leap to 2^48 - 1, to burn Bob's time or shut others out.

    The leap is reported as a gap and costs one window; only its stream is spent.
    """
    honest, hers = world.sealer(), world.sealer(world.carol)
    assert bob.offer(honest.seal(b"0")) == DELIVERED
    assert bob.offer(hers.seal(b"0")) == DELIVERED
    leap = Forgery(world.alice, stream=honest.stream, sequence=2**48 - 1)
    assert bob.offer(leap.encode()) == DELIVERED
    assert bob.delivered[-1].skipped == 2**48 - 2
    assert bob.offer(honest.seal(b"1")) == "too_old"
    assert bob.offer(leap.encode()) == "replayed"
    assert bob.offer(hers.seal(b"1")) == DELIVERED
    assert bob.offer(world.sealer().seal(b"a new stream")) == DELIVERED
    stats = bob.opener.stats.senders["alice"]
    assert stats.missing == 4095
    assert stats.missing + stats.lost == 2**48 - 2


@pytest.mark.audit("A17", "P2")
@pytest.mark.parametrize(
    "fields",
    [
        {"sequence": 2**48},
        {"sequence": 2**64 - 1},
        {"sent_at": 2**53},
        {"sent_at": 2**64 - 1},
    ],
)
def test_numbers_beyond_their_widths_are_refused_even_from_their_sender(world, bob, fields):
    """I am Alice, and sign a number that wraps or loses bits in somebody's code: step 2."""
    assert bob.offer(Forgery(world.alice, **fields).encode()) == "malformed"


@pytest.mark.audit("A17")
@each_kind
def test_at_the_last_sequence_an_honest_sender_begins_another_stream(world, bob, kind):
    """I wait for the counter to wrap round to sequences that I have on record."""
    alice = world.sealer(**KINDS[kind])
    alice._epoch.stream.take = itertools.count(2**48 - 2).__next__
    sent = [alice.seal(b"%d" % number) for number in range(4)]
    assert [bob.offer(data) for data in sent] == [DELIVERED] * 4
    assert [decode(data).sequence for data in sent] == [2**48 - 2, 2**48 - 1, 0, 1]
    assert len({decode(data).stream for data in sent}) == 2
