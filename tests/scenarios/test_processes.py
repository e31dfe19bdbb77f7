"""More than one process: A18, forks, siblings and clones.

The attacker owns the network, and the machine's operator multiplies Alice or Bob.
``Receiver`` holds every refusal to it that nothing was delivered and no replay state
has changed.
"""

from __future__ import annotations

import itertools

import pytest
from cast import BOB, KINDS, each_kind
from parallel import in_child, raw_fork
from simulator import DELIVERED
from support import seeded

from envelope.wire import decode

each_fork = pytest.mark.parametrize("fork", [None, raw_fork], ids=["os.fork", "a C library's fork"])


def place(data):
    """Return what may be delivered once only: stream and sequence."""
    header = decode(data)
    return header.stream, header.sequence


def places(receiver):
    return [(message.stream, message.sequence) for message in receiver.delivered]


@pytest.mark.audit("A18", "C6")
@each_fork
@each_kind
def test_parent_and_child_share_nothing_after_a_fork(world, bob, kind, fork):
    """I wait for a fork, after which two processes would count on from one number.

    The child begins a stream (and a key epoch) of its own: all is delivered, and no
    key meets a nonce twice.
    """
    alice = world.sealer(**KINDS[kind])
    assert bob.offer(alice.seal(b"before")) == DELIVERED
    options = {} if fork is None else {"fork": fork}
    child = in_child(lambda: [alice.seal(b"child") for _ in range(3)], **options)
    parent = [alice.seal(b"parent") for _ in range(3)]
    verdicts = [bob.offer(data) for pair in zip(child, parent, strict=True) for data in pair]
    assert verdicts == [DELIVERED] * 6
    assert len(set(places(bob))) == 7
    nonces = {data[56:80] for data in child + parent}
    assert len(nonces) == 6
    if kind == "sealed":
        assert child[0][80:112] != parent[0][80:112]


@pytest.mark.audit("A18", "R6")
@each_fork
@pytest.mark.parametrize("is_met", [False, True], ids=["a stranger", "a known sender"])
def test_a_forked_receiver_delivers_nothing_with_its_parents_memory(world, bob, fork, is_met):
    """I offer one envelope to parent and child, each of which remembers only its own.

    The child's copy of the memory refuses at step 11; the parent goes on.
    """
    alice = world.sealer(to=[BOB])
    if is_met:
        assert bob.offer(alice.seal(b"before")) == DELIVERED
    data = alice.seal(b"pay")
    options = {} if fork is None else {"fork": fork}
    assert in_child(lambda: bob.offer(data), **options) == "store_unavailable"
    assert bob.offer(data) == DELIVERED


@pytest.mark.audit("A18", "C6")
@each_kind
def test_two_processes_with_one_identity_do_not_collide(world, bob, kind, monkeypatch):
    """I find two processes of Alice with one seed, one clock and one broken random source.

    Their streams differ by the process id; nothing is lost and nothing repeats.
    """
    monkeypatch.setattr("envelope.clock.wall_ns", lambda: 1)

    def run():
        alice = world.sealer(random=seeded(1), **KINDS[kind])
        return [alice.seal(b"the same") for _ in range(3)]

    sent = [*in_child(run), *in_child(run)]
    assert [bob.offer(data) for data in sent] == [DELIVERED] * 6
    assert len(set(places(bob))) == 6


@pytest.mark.audit("A18", "C6", "R2", "R8")
@each_kind
@pytest.mark.parametrize("order", list(itertools.permutations(range(4))), ids=str)
def test_the_clone_of_a_running_machine_loses_and_never_doubles(
    world, bob, kind, order, monkeypatch
):
    """I run a snapshot of Alice's machine beside it: one stream, one counter, one randomness.

    Of two envelopes with one sequence Bob takes the first (step 7 refuses the other), and
    the hedged nonce keeps two payloads from meeting under one key and nonce.
    """
    monkeypatch.setattr("envelope.clock.wall_ns", lambda: 1)
    machine, clone = (world.sealer(random=seeded(1), **KINDS[kind]) for _ in range(2))
    sent = [machine.seal(b"buy 0"), machine.seal(b"buy 1"), clone.seal(b"sell 0")]
    sent.append(clone.seal(b"sell 1"))
    assert [place(data) for data in sent[:2]] == [place(data) for data in sent[2:]]
    verdicts = [bob.offer(sent[number]) for number in order]
    assert sorted(verdicts) == [DELIVERED, DELIVERED, "replayed", "replayed"]
    assert len(set(places(bob))) == 2
    if kind == "sealed":
        assert sent[0][80:208] == sent[2][80:208]  # one key, so the nonces must differ
        assert len({data[56:80] for data in sent}) == 4
