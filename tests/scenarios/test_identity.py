"""Who says so, and to whom: A6, A7, A8, A10, A11, A12.

Here the attacker has keys: her own, a fellow recipient's, or a stolen one. Each
story forges with exactly those (``forge``). ``Receiver`` holds every refusal to it
that nothing was delivered and no replay state has changed.
"""

from __future__ import annotations

import dataclasses

import pytest
from cast import ALICE, BOB, CAROL, KINDS, each_cache, each_kind, write_trust
from forge import CONTENT_KEY, STREAM, Forgery, content_key, key_block
from parallel import in_child
from simulator import DELIVERED, Network, Receiver, reroute
from support import identity

from envelope import Peer, Policy, TrustFileError, TrustStore, UsageError
from envelope.primitives import H

# --- A6: reflection ---------------------------------------------------------------------


@pytest.mark.audit("A6", "C4")
@each_kind
def test_an_envelope_reflected_to_its_sender_is_refused(world, bob, kind):
    """I send Alice's own words back to her, to have her take them for Bob's: step 4."""
    alice = Receiver(world.opener(world.alice))
    network = Network(world.clock, reroute("alice"))
    network.send(world.sealer(**KINDS[kind]).seal(b"pay me"))
    assert network.deliver(alice=alice, bob=bob) == ["reflected"]


@pytest.mark.audit("A6")
def test_even_a_receiver_that_accepts_its_own_refuses_this_very_process(world):
    """I reflect to Alice where her processes listen to each other.

    What a living stream of this process sent is refused at step 4; what another process
    with her identity sent is what she listens for.
    """
    accepts_own = Policy(accept_own=True)
    listener = Receiver(world.opener(world.alice, policy=accepts_own))
    sealer = world.sealer()
    assert listener.offer(sealer.seal(b"mine")) == "reflected"
    data = in_child(lambda: world.sealer().seal(b"my other process's"))
    assert listener.offer(data) == DELIVERED
    assert listener.offer(data) == "replayed"
    assert Receiver(world.opener(world.alice)).offer(data) == "reflected"


# --- A7: forwarding ---------------------------------------------------------------------


@pytest.mark.audit("A7", "C4")
@pytest.mark.parametrize("kind", ["addressed", "sealed"])
def test_forwarded_as_it_is_it_is_not_addressed(world, carol, kind):
    """I am Bob, and forward to Carol what Alice wrote to me, for Carol to act on: step 5."""
    network = Network(world.clock, reroute("carol"))
    network.send(world.sealer(**KINDS[kind]).seal(b"you are fired"))
    assert network.deliver(carol=carol) == ["not_addressed"]


@pytest.mark.audit("A7", "C4")
@pytest.mark.parametrize("in_place_of", [True, False], ids=["instead of Bob", "beside Bob"])
def test_readdressed_it_is_badly_signed(world, carol, in_place_of):
    """I am Bob, and write Carol into the key block, wrapping the content key for her.

    I have the content key, so all decrypts; but the key block is signed: step 8.
    """
    data = world.sealer(to=[BOB]).seal(b"you are fired")
    stolen = content_key(data, ALICE, world.bob)
    wrapped = {CAROL: stolen} if in_place_of else {CAROL: stolen, BOB: stolen}
    forged = Forgery.of(data, world.bob, ALICE)
    forged = dataclasses.replace(
        forged,
        recipients=len(wrapped),
        key_block=key_block(ALICE, wrapped, stream=forged.stream, committed=stolen),
    )
    forged = forged.encrypted(b"you are fired", stolen)
    assert carol.offer(forged.head() + forged.body + data[-64:]) == "bad_signature"
    assert carol.offer(forged.encode()) == "bad_signature"


@pytest.mark.audit("A7", "C4")
def test_readdressed_in_ones_own_name_it_does_not_open(world, carol):
    """I am Bob, and pass Alice's ciphertext on to Carol under my own signature.

    Its AAD is Alice's BIND: step 9. (What I encrypt anew is my own message, and says so.)
    """
    data = world.sealer(to=[BOB]).seal(b"you are fired")
    stolen = content_key(data, ALICE, world.bob)
    block = key_block(BOB, {CAROL: stolen}, committed=stolen)
    forged = Forgery.of(data, world.bob, BOB, stream=STREAM, key_block=block)
    assert carol.offer(forged.encode()) == "unseal"
    assert carol.offer(forged.encrypted(b"Alice says...", stolen).encode()) == DELIVERED
    assert carol.delivered[0].sender.name == "bob"


# --- A8: stripped and signed again ------------------------------------------------------


@pytest.mark.audit("A8", "C3", "C4")
@each_cache
@pytest.mark.parametrize("to", [[BOB], [BOB, CAROL]], ids=["an outsider", "a fellow recipient"])
def test_stripped_and_signed_again_it_does_not_open(world, bob, to, is_warm):
    """I am Carol, strip Alice's signature from what I cannot (or can) read, and sign it.

    COM, wraps and AAD hold the first sender: step 9, also while Bob has Alice's key in
    his cache.
    """
    alice = world.sealer(to=to)
    if is_warm:
        assert bob.offer(alice.seal(b"the first")) == DELIVERED
    data = alice.seal(b"my invention")
    for changes in ({}, {"stream": STREAM}):
        forged = Forgery.of(data, world.carol, CAROL, **changes)
        assert bob.offer(forged.encode()) == "unseal"
    assert bob.offer(data) == DELIVERED


@pytest.mark.audit("A8", "C4", "A10")
@each_cache
def test_a_fellow_recipient_that_rebuilds_the_key_block_fails_at_the_aead(world, bob, is_warm):
    """I am Carol, hold the content key, and make a sound key block of mine around Alice's body.

    Everything of step 9 passes but the last: the body's AAD is Alice's BIND.
    """
    alice = world.sealer(to=[BOB, CAROL])
    data = alice.seal(b"my invention")
    if is_warm:
        assert bob.offer(alice.seal(b"the next")) == DELIVERED
    stolen = content_key(data, ALICE, world.carol)
    forged = Forgery.of(data, world.carol, CAROL)
    block = key_block(CAROL, {BOB: stolen}, stream=forged.stream, committed=stolen)
    forged = dataclasses.replace(forged, recipients=1, key_block=block)
    assert bob.offer(forged.encode()) == "unseal"
    assert bob.refused[-1].detail == "the ciphertext does not open"


@pytest.mark.audit("A8")
def test_what_is_signed_only_can_be_repeated_by_others_in_their_own_name(world, bob):
    """I am Carol, and sign Alice's clear payload as mine: that is a message of Carol's."""
    data = world.sealer().seal(b"my invention")
    assert bob.offer(Forgery.of(data, world.carol, CAROL).encode()) == DELIVERED
    assert bob.delivered[0].sender.name == "carol"
    assert bob.offer(Forgery.of(data, world.carol, ALICE).encode()) == "bad_signature"


# --- A10: the fellow recipient ----------------------------------------------------------


@pytest.mark.audit("A10", "C3")
@each_cache
def test_a_fellow_recipient_cannot_forge(world, bob, is_warm):
    """I am Carol, hold Alice's content key, and encrypt to Bob in Alice's name.

    Key block and ciphertext are perfect; only the signature is mine, or an old one:
    step 8.
    """
    alice = world.sealer(to=[BOB, CAROL])
    data = alice.seal(b"pay Carol 1")
    if is_warm:
        assert bob.offer(data) == DELIVERED
    stolen = content_key(data, ALICE, world.carol)
    forged = Forgery.of(data, world.carol, ALICE, sequence=7).encrypted(b"pay Carol 1000", stolen)
    assert bob.offer(forged.encode()) == "bad_signature"
    assert bob.offer(forged.head() + forged.body + data[-64:]) == "bad_signature"
    # All but the signature is sound: signed by Alice it would open.
    assert bob.offer(dataclasses.replace(forged, signer=world.alice).encode()) == DELIVERED


# --- A11: the stolen recipient key ------------------------------------------------------


@pytest.mark.audit("A11", "C3")
@pytest.mark.parametrize("victim", ["bob", "carol"])
@pytest.mark.parametrize("kind", ["signed", "sealed"])
def test_a_stolen_recipient_key_impersonates_nobody_else(world, victim, kind):
    """I stole Bob's seed, and write to him (or to Carol) in Alice's name.

    Where a shared Diffie-Hellman key authenticates, this works. Here Alice must have
    signed: step 8.
    """
    receiver = Receiver(world.opener(identity(victim)))
    to = identity(victim).public
    forged = Forgery(world.bob, ALICE, body=b"pay Mallory")
    if kind == "sealed":
        block = key_block(ALICE, {to: CONTENT_KEY})
        forged = dataclasses.replace(forged, kind=2, recipients=1, key_block=block)
        forged = forged.encrypted(b"pay Mallory")
    assert receiver.offer(forged.encode()) == "bad_signature"
    assert receiver.offer(dataclasses.replace(forged, signer=world.alice).encode()) == DELIVERED


@pytest.mark.audit("A11", "C3")
def test_a_stolen_key_reads_what_was_sent_to_it_and_plays_its_owner(world, carol):
    """I stole Bob's seed: I read his mail and write as Bob, until he is revoked (step 4)."""
    data = world.sealer(to=[BOB]).seal(b"for Bob alone")
    thief = Receiver(world.opener(world.bob))
    assert thief.offer(data) == DELIVERED
    as_bob = world.sealer(world.bob, to=[CAROL])
    assert carol.offer(as_bob.seal(b"pay Mallory")) == DELIVERED
    bobs = dataclasses.replace(world.trust["bob"], revoked=True)
    world.trust.replace([world.trust["alice"], bobs])
    assert carol.offer(as_bob.seal(b"pay Mallory")) == "not_trusted"


# --- A12: key ids -----------------------------------------------------------------------


@pytest.mark.audit("A12")
@each_kind
def test_an_unknown_key_id_is_refused(world, bob, kind):
    """I am Mallory, whom Bob does not know, and sign properly as myself: step 4."""
    data = world.sealer(world.mallory, **KINDS[kind]).seal(b"hello")
    assert bob.offer(data) == "unknown_sender"
    assert bob.refused[0].claimed_sender == world.mallory.key_id
    assert not bob.refused[0].verified


@pytest.mark.audit("A12", "C3")
@each_kind
def test_anothers_key_id_is_refused(world, bob, kind):
    """I am Mallory, and write Alice's key id over mine, before or after signing: step 8."""
    data = world.sealer(world.mallory, **KINDS[kind]).seal(b"hello")
    assert bob.offer(data[:8] + ALICE.key_id + data[24:]) == "bad_signature"
    assert bob.offer(Forgery.of(data, world.mallory, ALICE).encode()) == "bad_signature"


@pytest.fixture
def twins(monkeypatch):
    """Two identities with one key id: the hash is cut to 8 bits, so that they exist."""

    def weak(n, label, *data, key=b""):
        digest = H(n, label, *data, key=key)
        return digest[:1] + bytes(n - 1) if label == b"env1-keyid" else digest

    monkeypatch.setattr("envelope.identity.H", weak)
    seen = {}
    for number in range(1000):
        one = identity(f"twin {number}")
        other = seen.setdefault(one.key_id, one)
        if other is not one:
            return other, one
    raise AssertionError("no collision")


@pytest.mark.audit("A12")
def test_a_colliding_key_id_is_no_key(twins, world):
    """I am Mallory, and found keys with Alice's id: Alice's PUB is what is verified, step 8."""
    alice, mallory = twins
    trust = TrustStore([Peer("alice", alice.public, contexts=["orders"])])
    bob = Receiver(world.opener(trust=trust))
    assert bob.offer(Forgery(mallory).encode()) == "bad_signature"
    assert bob.offer(Forgery(mallory, alice.public).encode()) == "bad_signature"
    assert bob.offer(Forgery(alice).encode()) == DELIVERED


@pytest.mark.audit("A12")
def test_colliding_key_ids_are_refused_at_load(twins, tmp_path):
    """I got my colliding key into Bob's trust store; it is refused before it is used.

    A running receiver keeps the peers that it has.
    """
    names = zip("ab", twins, strict=True)
    one, other = (Peer(name, twin.public, contexts=["orders"]) for name, twin in names)
    with pytest.raises(UsageError, match="one key id"):
        TrustStore([one, other])
    with pytest.raises(UsageError, match="one key id"):
        TrustStore([one, dataclasses.replace(other, name="a")])  # nor as a rotation
    running = TrustStore([one])
    with pytest.raises(UsageError, match="one key id"):
        running.replace([one, other])
    assert [peer.name for peer in running] == ["a"]
    file = tmp_path / "peers.toml"
    write_trust(file, one)
    loaded = TrustStore.load(file)
    write_trust(file, one, other)
    with pytest.raises(TrustFileError, match="one key id"):
        loaded.reload()
    assert [peer.name for peer in loaded] == ["a"]
    assert loaded.stale_since is not None
