"""What is lost, set back or put back: the rows of SECURITY.md that no other story tells.

The attacker recorded everything, and is there when somebody loses something. Where a
story ends in a second delivery it shows a limit that SECURITY.md names: who closes it
has to say so there.
"""

from __future__ import annotations

import dataclasses

import pytest
from cast import ALICE, restarted, write_trust
from life import copy
from simulator import DELIVERED, Receiver
from support import World

from envelope import Peer, TrustStore
from envelope.replay import SQLiteReplayStore


def opened(world, path):
    """Return Bob with his memory in this file."""
    store = SQLiteReplayStore(path, first_life=True, clock=world.clock)
    return Receiver(world.opener(replay=store))


@pytest.mark.audit("A3", "R2")
def test_a_copy_that_is_restored_forgets_what_came_after_it(world, tmp_path):
    """I make Bob's operator restore a backup of the replay store. It cannot be noticed.

    What was accepted since then is accepted again, until it is stale.
    """
    alice = world.sealer()
    before, after, late = (alice.seal(payload) for payload in (b"before", b"after", b"late"))
    bob = opened(world, tmp_path / "replay.db")
    assert bob.offer(before) == DELIVERED
    bob.opener.replay.close()
    for backup in ("at_once.db", "too_late.db"):
        copy(tmp_path / "replay.db", tmp_path / backup)

    bob = opened(world, tmp_path / "replay.db")
    assert [bob.offer(data) for data in (after, late)] == [DELIVERED] * 2
    bob.opener.replay.close()

    bob = opened(world, tmp_path / "at_once.db")
    assert [bob.offer(data) for data in (before, after)] == ["replayed", DELIVERED]
    bob.opener.replay.close()
    world.clock.advance(30.000001)
    bob = opened(world, tmp_path / "too_late.db")
    assert bob.offer(late) == "stale"
    bob.opener.replay.close()


@pytest.mark.audit("A3", "A19", "R2")
@pytest.mark.parametrize("is_durable", [False, True], ids=["memory", "file"])
def test_a_clock_set_back_between_two_lives_deceives_memory_and_no_file(
    world, tmp_path, is_durable
):
    """I set Bob's clock back while he is down, so that he begins before what I recorded.

    A memory alone reasons from its start, and takes it when its time comes; a file knows.
    """

    def life():
        return opened(world, tmp_path / "replay.db") if is_durable else restarted(world)

    world.clock.advance(10)
    recorded = world.sealer().seal(b"pay")
    bob = opened(world, tmp_path / "replay.db") if is_durable else Receiver(world.opener())
    assert bob.offer(recorded) == DELIVERED
    bob.opener.replay.close()
    world.clock.advance(-10)
    bob = life()
    assert bob.offer(recorded) == "future"
    world.clock.advance(8)
    assert bob.offer(recorded) == ("replayed" if is_durable else DELIVERED)
    bob.opener.replay.close()


@pytest.mark.audit("A19", "R2", "R7")
@pytest.mark.parametrize("is_accepted", [False, True], ids=["as it is", "accepted"])
def test_while_the_receivers_clock_is_behind_what_is_new_is_future(world, bob, is_accepted):
    """I set Bob's clock back: he refuses what is new until it is right, and repeats nothing."""
    alice_world = World()
    alice = alice_world.sealer()
    recorded = alice.seal(b"before")
    assert bob.offer(recorded) == DELIVERED
    world.clock.advance(-3600)
    if is_accepted:
        bob.opener.reset_clock()
    alice_world.clock.advance(2.000001)
    held = alice.seal(b"meanwhile")
    assert bob.offer(held) == "future"
    assert bob.offer(recorded) == ("future" if is_accepted else "replayed")
    world.clock.advance(3600 + 2.000001)
    assert [bob.offer(held), bob.offer(recorded)] == [DELIVERED, "replayed"]


@pytest.mark.audit("A13", "R3")
def test_an_older_trust_file_that_is_put_back_revives_a_peer_and_no_message(world, tmp_path):
    """I have Alice's seed and make the operator restore the list from before her revocation.

    What the file says is believed. The memory is another one: it forgot nothing.
    """
    file = tmp_path / "peers.toml"
    peer = Peer("alice", ALICE, contexts=["orders"])

    def install(peer):
        write_trust(tmp_path / "new", peer)
        (tmp_path / "new").rename(file)
        world.clock.advance(1)

    install(peer)
    bob = Receiver(world.opener(trust=TrustStore.load(file)))
    alice = world.sealer()
    recorded = alice.seal(b"0")
    assert bob.offer(recorded) == DELIVERED
    install(dataclasses.replace(peer, revoked=True))
    assert bob.offer(recorded) == "not_trusted"
    install(peer)
    assert [bob.offer(recorded), bob.offer(alice.seal(b"1"))] == ["replayed", DELIVERED]


@pytest.mark.audit("A3", "R6")
@pytest.mark.parametrize("domain", [None, "orders of plant 7"], ids=["by default", "named"])
def test_a_new_identity_delivers_again_unless_its_domain_is_named(world, domain):
    """I wait until Bob has lost his seed and made another, with the memory that he had."""
    recorded = world.sealer().seal(b"for everyone in the context")
    store = world.store()
    verdicts = [
        Receiver(world.opener(who, replay=store, domain=domain)).offer(recorded)
        for who in (world.bob, world.carol)
    ]
    assert verdicts == [DELIVERED, DELIVERED if domain is None else "replayed"]
