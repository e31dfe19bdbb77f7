"""More than anybody can remember: A16, counted and not timed.

Whatever a stranger sends leaves every table as it was. What a peer sends fills
tables up to their bounds, which stand here once more as numbers. ``Receiver`` holds
every refusal to it that nothing was delivered and no replay state has changed.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import random
import tracemalloc
from collections import Counter

import pytest
from cast import ALICE, BOB, CAROL
from forge import Forgery
from simulator import DELIVERED, Receiver
from support import identity

from envelope import Policy, RejectedError

NOBODY = identity("nobody that Bob knows").public
MALLORY = identity("mallory")
MANY = 1500
"""Enough to run over every bound several times; what a million does, these do."""


@pytest.fixture
def bob(world):
    """Bob with small windows, so that looking at his whole state costs little."""
    return Receiver(world.opener(policy=Policy(window=64)))


def tables(opener):
    """Return the sizes of all tables that an opener fills."""
    met = opener._senders._met[1]
    return {
        "senders": len(met),
        "topics": max((len(sender.bound) for sender in met.values()), default=0),
        "keys": max((len(sender.keys) for sender in met.values()), default=0),
        "counters": len(opener._tally._senders),
        "guards": len(opener.replay._guards),
        "streams": max((g.gaps().streams for g in opener.replay._guards.values()), default=0),
    }


NOTHING = dict.fromkeys(("senders", "topics", "keys", "counters", "guards", "streams"), 0)


def garbage(chance, _):
    """Any bytes."""
    return chance.randbytes(chance.randrange(600))


def near_misses(chance, _):
    """A header that is right but for its sender, and then any bytes."""
    start = b"ENV\1" + bytes([chance.randint(1, 2), 0, 0, chance.randrange(3)])
    times = b"\0\0" + chance.randbytes(6) + b"\0\0" + chance.randbytes(6)
    return start + chance.randbytes(32) + times + chance.randbytes(chance.randrange(400))


def unknown_senders(chance, number):
    """A sound form from a new key id each time; a signature is not even looked at."""
    sound = Forgery(MALLORY, stream=chance.randbytes(16), sequence=number).encode()
    return sound[:8] + chance.randbytes(16) + sound[24:]


def forged_signatures(chance, number):
    """A peer's key id, a new stream and topic each time, and Mallory's signature."""
    claims = chance.choice([ALICE, CAROL, NOBODY])
    return Forgery(MALLORY, claims, stream=chance.randbytes(16), sequence=number).encode()


# --- From strangers ---------------------------------------------------------------------


@pytest.mark.audit("A16", "P3", "R1")
@pytest.mark.parametrize(
    ("flood", "codes"),
    [
        (garbage, {"malformed"}),
        (near_misses, {"malformed", "unknown_sender"}),
        (unknown_senders, {"unknown_sender"}),
    ],
)
def test_a_stranger_fills_no_table(world, bob, flood, codes):
    """I send garbage, or a new key id each time, to have Bob keep something for each.

    Steps 2 and 4 keep nothing at all.
    """
    chance = random.Random(4)
    verdicts = Counter(bob.offer(flood(chance, number)) for number in range(MANY))
    assert set(verdicts) == codes
    assert tables(bob.opener) == NOTHING
    assert bob.opener.stats.refused == verdicts
    assert bob.offer(world.sealer().seal(b"still here")) == DELIVERED


@pytest.mark.audit("A16", "P3", "R1", "R3")
@pytest.mark.parametrize("is_met", [False, True], ids=["before Alice", "after Alice"])
def test_forged_signatures_fill_no_table(world, bob, is_met):
    """I claim to be peers, with new streams and topics each time, and evict the real ones.

    Until step 8 passes nothing is written but one entry for each peer of the trust store.
    """
    alice = world.sealer(to=[BOB])
    recorded = alice.seal(b"0", bound=[b"t"])
    if is_met:
        assert bob.offer(recorded, bound=[b"t"]) == DELIVERED
    before = tables(bob.opener)
    chance = random.Random(5)
    for number in range(MANY):
        data = forged_signatures(chance, number)
        code = "unknown_sender" if data[8:24] == NOBODY.key_id else "bad_signature"
        assert bob.offer(data, bound=[b"topic %d" % number]) == code
    after = tables(bob.opener)
    assert after["senders"] <= len(world.trust)
    assert after["guards"] <= len(world.trust)
    for table in ("topics", "keys", "counters", "streams"):
        assert after[table] == before[table]
    # Nobody was evicted, and nobody's place was taken.
    assert bob.offer(recorded, bound=[b"t"]) == ("replayed" if is_met else DELIVERED)
    assert bob.offer(alice.seal(b"1")) == DELIVERED


@pytest.mark.audit("A16", "P3")
@pytest.mark.parametrize("flood", [garbage, near_misses, unknown_senders, forged_signatures])
def test_a_flood_twice_as_long_takes_no_more_memory(world, flood):
    """I go on and on: what is held at the end does not depend on how long."""
    opener = world.opener()
    chance = random.Random(6)
    delivered = []
    sent = [flood(chance, number) for number in range(1000)]

    def endure(part):
        for data in part:
            # pytest.raises would keep frames, which are not what is measured.
            with contextlib.suppress(RejectedError):
                opener.open(data)
                delivered.append(data)

    tracemalloc.start()
    try:
        endure(sent[:200])
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        endure(sent[200:])
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert not delivered
    assert grown < 4_000  # five bytes for each of the 800


@pytest.mark.audit("A16", "E3")
def test_a_flood_makes_a_line_for_each_code_in_a_while_and_no_more(world, bob, caplog):
    """I fill Bob's disk with log lines, and write into them what I like.

    There is one line for each code in five seconds, which says how many it stands for
    and repeats nothing of what I sent but a key id.
    """
    caplog.set_level(logging.DEBUG)
    secret = b"a payload that nobody verified"
    floods = [
        lambda _: secret,
        lambda number: Forgery(MALLORY, sequence=number, body=secret).encode(),
        lambda number: Forgery(MALLORY, ALICE, sequence=number, body=secret).encode(),
    ]
    for number in range(500):
        for flood in floods:
            assert bob.offer(flood(number), bound=[secret]) != DELIVERED
    assert len(caplog.records) == 3
    world.clock.advance(5)
    for flood in floods:
        assert bob.offer(flood(500)) != DELIVERED
    assert len(caplog.records) == 6
    assert all("499 more of this code" in line for line in caplog.messages[3:])
    assert secret.decode() not in caplog.text
    assert secret.hex() not in caplog.text


# --- From a peer ------------------------------------------------------------------------


@pytest.mark.audit("A16", "P3", "R3")
def test_a_peer_with_very_many_streams_fills_its_own_table_alone(world, bob):
    """I have Alice's seed, and begin a stream for each envelope, to push out what Bob knows.

    Alice's table holds 64 streams; each eviction raises her floor, so nothing returns.
    Carol's table is not touched.
    """
    hers = world.sealer(world.carol).seal(b"Carol's")
    assert bob.offer(hers) == DELIVERED
    sent = []
    for number in range(300):
        world.clock.advance(0.001)
        forged = Forgery(world.alice, stream=number.to_bytes(16, "big"), sent_at=world.clock())
        sent.append(forged.encode())
        assert bob.offer(sent[-1]) == DELIVERED
    assert tables(bob.opener)["streams"] == 64
    assert [bob.offer(data) for data in sent] == ["too_old"] * 236 + ["replayed"] * 64
    assert bob.offer(hers) == "replayed"


@pytest.mark.audit("A16", "P3")
def test_streams_that_are_no_newer_do_not_push_out_those_remembered(world):
    """I have Alice's seed, and flood with streams that are stamped all at one moment: step 7."""
    bob = Receiver(world.opener(policy=Policy(max_streams=8)))
    verdicts = [
        bob.offer(Forgery(world.alice, stream=number.to_bytes(16, "big")).encode())
        for number in range(100)
    ]
    assert verdicts == [DELIVERED] * 8 + ["too_old"] * 92


@pytest.mark.audit("A16", "P3")
def test_a_peer_with_very_many_topics_and_key_epochs_fills_bounded_caches(world, bob):
    """I have Alice's seed, and use a new topic and a new key block for each envelope.

    The caches end at 256 topics and 128 keys for each sender; verdicts do not change.
    """
    recorded = []
    sealer = world.sealer(to=[BOB])
    for number in range(600):
        world.clock.advance(0.001)
        if number % 2:
            sealer = world.sealer(to=[BOB])
        bound = [b"topic %d" % number]
        recorded.append((sealer.seal(b"", bound=bound), bound))
        assert bob.offer(recorded[-1][0], bound=bound) == DELIVERED
        assert tables(bob.opener)["topics"] <= 256
        assert tables(bob.opener)["keys"] <= 128
    assert tables(bob.opener)["streams"] == 64
    for data, bound in recorded:
        assert bob.offer(data, bound=bound) in ("replayed", "too_old")


@pytest.mark.audit("A16", "P3")
def test_long_bound_frames_are_not_kept(world, bob):
    """I have Alice's seed, and bind every envelope to a megabyte: nothing of it is cached."""
    sealer = world.sealer()
    for number in range(3):
        bound = [bytes([number]) * 2**20]
        assert bob.offer(sealer.seal(b"", bound=bound), bound=bound) == DELIVERED
    assert tables(bob.opener)["topics"] == 0


@pytest.mark.audit("A16", "P3")
def test_claiming_every_peer_costs_one_entry_for_each_peer(bob):
    """I claim to be each of Bob's peers in turn: his tables are as long as his trust store."""
    for _ in range(3):
        for claims in (ALICE, CAROL):
            assert bob.offer(Forgery(MALLORY, claims).encode()) == "bad_signature"
    assert tables(bob.opener) == NOTHING | {"senders": 2, "guards": 2}
