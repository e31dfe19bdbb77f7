"""Below the signature: A9 key blocks and commitments, A15 signatures and points.

In A9 the attacker is a peer whose signature is sound, for only such a one gets as
far as step 9. Each verdict is the same with a cold and with a warm cache.
``Receiver`` holds every refusal to it that nothing was delivered and no replay state
has changed.
"""

from __future__ import annotations

import dataclasses

import nacl.bindings as sodium
import pytest
from cast import ALICE, BOB, CAROL, each_cache, write_trust
from forge import (
    CONTENT_KEY,
    STREAM,
    Forgery,
    aead_key,
    content_key,
    key_block,
    plus_order,
    sign_with_torsion,
    two_plaintexts,
)
from simulator import DELIVERED, Receiver
from support import flip

from envelope import Peer, PublicIdentity, TrustFileError, TrustStore, UsageError, text
from envelope.primitives import aead_decrypt, x25519

OTHER_KEY = bytes(range(1, 33))


def sealed(signer, wrapped, *, block=None, **fields):
    """Return a forgery that seals to these recipients, signed by its sender."""
    stream = fields.get("stream", STREAM)
    if block is None:
        block = key_block(signer.public, wrapped, stream=stream)
    return Forgery(signer, kind=2, recipients=len(wrapped), key_block=block, **fields)


# --- A9: one envelope, two plaintexts ---------------------------------------------------


@pytest.mark.audit("A9")
def test_a_forged_key_block_opens_if_all_is_right(world, bob, carol):
    """The control of all stories below: the forge makes what Bob and Carol can open."""
    forged = sealed(world.alice, {BOB: CONTENT_KEY, CAROL: CONTENT_KEY}).encrypted(b"sound")
    assert [bob.offer(forged.encode()), carol.offer(forged.encode())] == [DELIVERED, DELIVERED]
    assert content_key(forged.encode(), ALICE, world.bob) == CONTENT_KEY


@pytest.mark.audit("A9", "C5")
@each_cache
def test_one_envelope_cannot_say_two_things(world, bob, carol, is_warm):
    """I am Alice, wrap one key for Bob and another for Carol, and sign one ciphertext.

    It opens under both keys to two payloads, for XChaCha20-Poly1305 commits to neither.
    COM commits to one: step 9 refuses to whoever got the other.
    """
    block = key_block(ALICE, {BOB: CONTENT_KEY, CAROL: OTHER_KEY}, committed=CONTENT_KEY)
    forged = sealed(world.alice, {BOB: b"", CAROL: b""}, block=block)
    if is_warm:
        assert bob.offer(forged.encrypted(b"in common").encode()) == DELIVERED
        assert carol.offer(forged.encrypted(b"in common").encode()) == "unseal"
        forged = dataclasses.replace(forged, sequence=1)
    keys = aead_key(CONTENT_KEY), aead_key(OTHER_KEY)
    promises = b"Bob gets it all.", b"Carol gets it..."
    body = two_plaintexts(keys, promises, nonce=forged.nonce, aad=forged.bind())
    opened = [aead_decrypt(body, forged.bind(), forged.nonce, key) for key in keys]
    assert (opened[0][:16], opened[1][16:32]) == promises
    data = dataclasses.replace(forged, body=body).encode()
    assert [bob.offer(data), carol.offer(data)] == [DELIVERED, "unseal"]
    assert carol.refused[-1].detail == "the content key is not the one committed to"


@pytest.mark.audit("A9", "C5")
@each_cache
def test_a_wrong_commitment_is_refused_to_everyone(world, bob, is_warm):
    """I am Alice, and commit to a key that nobody gets: step 9, before the body is opened."""
    sound = sealed(world.alice, {BOB: CONTENT_KEY})
    if is_warm:
        assert bob.offer(sound.encrypted(b"sound").encode()) == DELIVERED
    for block in (
        key_block(ALICE, {BOB: CONTENT_KEY}, committed=OTHER_KEY),
        key_block(ALICE, {BOB: OTHER_KEY}, committed=CONTENT_KEY),
    ):
        forged = sealed(world.alice, {BOB: b""}, block=block, sequence=1)
        assert bob.offer(forged.encrypted(b"forged").encode()) == "unseal"
        assert bob.offer(forged.encrypted(b"forged", OTHER_KEY).encode()) == "unseal"


@pytest.mark.audit("A9")
@each_cache
def test_a_key_block_of_another_sender_is_refused(world, bob, is_warm):
    """I am Carol, know Alice's content key as her recipient, and encrypt under it to Bob.

    I sign as myself, over Alice's stream and key block, so that Bob's cache may take it
    for hers. COM holds Alice's PUB, and caches are kept for each sender: step 9.
    """
    alice = world.sealer(to=[BOB, CAROL])
    data = alice.seal(b"the first")
    if is_warm:
        assert bob.offer(data) == DELIVERED
    stolen = content_key(data, ALICE, world.carol)
    for stream in (alice.stream, STREAM):
        forged = Forgery.of(data, world.carol, CAROL, stream=stream, sequence=1)
        assert bob.offer(forged.encrypted(b"forged", stolen).encode()) == "unseal"
        assert bob.refused[-1].verified


@pytest.mark.audit("A9")
@each_cache
def test_a_key_block_of_another_stream_is_refused(world, bob, is_warm):
    """I am Alice, and use one key block in a second stream, where nonces may repeat: step 9."""
    sound = sealed(world.alice, {BOB: CONTENT_KEY})
    if is_warm:
        assert bob.offer(sound.encrypted(b"sound").encode()) == DELIVERED
    forged = dataclasses.replace(sound, stream=b"another stream!!").encrypted(b"forged")
    assert bob.offer(forged.encode()) == "unseal"


@pytest.mark.audit("A9", "C5")
@each_cache
@pytest.mark.parametrize("at", [0, 32, 80, 127], ids=["ephemeral key", "COM", "wrap", "tag"])
def test_a_changed_key_block_is_refused_though_the_rest_is_cached(world, bob, at, is_warm):
    """I am Alice, and spoil one part after Bob cached the key: the cache must not notice less.

    All parts stand in the key of the cache, so a changed one is looked at anew: step 9.
    """
    sound = sealed(world.alice, {BOB: CONTENT_KEY})
    if is_warm:
        assert bob.offer(sound.encrypted(b"sound").encode()) == DELIVERED
    forged = dataclasses.replace(sound, key_block=flip(sound.key_block, at), sequence=1)
    assert bob.offer(forged.encrypted(b"forged").encode()) == "unseal"
    again = dataclasses.replace(sound, sequence=1).encrypted(b"sound")
    assert bob.offer(again.encode()) == DELIVERED


@pytest.mark.audit("A9", "C4")
@each_cache
def test_a_wrap_cannot_be_given_to_another(world, bob, carol, is_warm):
    """I am Alice, and put Carol's wrap under Bob's key id: each KEK holds its recipient."""
    wrapped = {BOB: CONTENT_KEY, CAROL: CONTENT_KEY}
    block = key_block(ALICE, wrapped)
    if is_warm:
        sound = sealed(world.alice, wrapped).encrypted(b"sound")
        assert [bob.offer(sound.encode()), carol.offer(sound.encode())] == [DELIVERED] * 2
    first, second = block[64:128], block[128:192]
    swapped = block[:64] + first[:16] + second[16:] + second[:16] + first[16:]
    forged = sealed(world.alice, wrapped, block=swapped, sequence=1).encrypted(b"forged")
    assert [bob.offer(forged.encode()), carol.offer(forged.encode())] == ["unseal", "unseal"]


@pytest.mark.audit("A9")
@each_cache
@pytest.mark.parametrize("at", [0, 5, -1], ids=["first byte", "payload", "tag"])
def test_a_changed_ciphertext_does_not_open_even_if_signed(world, bob, at, is_warm):
    """I am Alice, and sign a ciphertext that I spoilt: step 9, and nothing is marked."""
    sound = sealed(world.alice, {BOB: CONTENT_KEY})
    if is_warm:
        assert bob.offer(sound.encrypted(b"sound").encode()) == DELIVERED
    forged = dataclasses.replace(sound, sequence=1).encrypted(b"forged")
    spoilt = dataclasses.replace(forged, body=flip(forged.body, at))
    assert bob.offer(spoilt.encode()) == "unseal"
    assert bob.offer(forged.encode()) == DELIVERED


LOW_ORDER_U = [
    0,
    1,
    2**255 - 20,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
]
"""The u of every point of low order, on the curve and its twist (RFC 7748, section 6.1)."""


@pytest.mark.audit("A9", "C10")
@pytest.mark.parametrize("u", LOW_ORDER_U)
def test_an_ephemeral_key_of_low_order_is_refused(world, bob, u):
    """I am Alice, and choose an ephemeral key with which everybody agrees on zero.

    So all the world could read what I seal, or Bob's X25519 could raise something else
    than a refusal: step 9.
    """
    block = key_block(
        ALICE,
        {BOB: CONTENT_KEY},
        ephemeral=u.to_bytes(32, "little"),
        agree=lambda _: bytes(32),
    )
    forged = sealed(world.alice, {BOB: b""}, block=block).encrypted(b"not secret")
    assert bob.offer(forged.encode()) == "unseal"
    assert bob.refused[-1].detail == "the ephemeral key is not canonical, or of low order"


@pytest.mark.audit("A9", "C10")
@pytest.mark.parametrize("u", [9 + 2**255 - 19, 9 + 2**255, 2**256 - 10], ids=hex)
def test_an_ephemeral_key_in_another_encoding_is_refused(world, bob, u):
    """I am Alice, and write one ephemeral key in a second way, which X25519 reads the same.

    It would open, and one envelope would have two encodings: step 9.
    """
    ephemeral = u.to_bytes(32, "little")
    agreed = x25519(world.bob._x_secret, ephemeral)
    reduced = (u % 2**255 % (2**255 - 19)).to_bytes(32, "little")
    assert x25519(world.bob._x_secret, reduced) == agreed
    for used, expected in ((ephemeral, "unseal"), (reduced, DELIVERED)):
        block = key_block(ALICE, {BOB: CONTENT_KEY}, ephemeral=used, agree=lambda _: agreed)
        forged = sealed(world.alice, {BOB: b""}, block=block)
        assert bob.offer(forged.encrypted(b"payload").encode()) == expected


# --- A15: signatures and points ---------------------------------------------------------

P = 2**255 - 19
ORDER_8 = (
    0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
    0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD83D3D706A17C7,
)
"""The y of the four points of order 8."""
SMALL = [1, P - 1, 0, 2**255, *ORDER_8, *(y + 2**255 for y in ORDER_8)]
"""All points of small order in their one encoding: of order 1, 2, 4, 4 and 8."""
NON_CANONICAL = [P, P + 1, P + 2**255, P + 1 + 2**255, 1 + 2**255, P - 1 + 2**255]
"""Other ways to write some of them."""


def point(y):
    return y.to_bytes(32, "little")


@pytest.mark.audit("A15")
@pytest.mark.parametrize("kind", ["signed", "sealed"])
def test_a_malleable_signature_is_refused(world, bob, kind):
    """I own the network, and add the group's order to S: the same signature in other bytes.

    Step 8 takes the one canonical S. (Even if it did not, the replay memory knows stream
    and sequence, and no signatures.)
    """
    data = world.sealer(to=[BOB] if kind == "sealed" else []).seal(b"pay")
    malleable = plus_order(data)
    assert malleable != data
    assert bob.offer(malleable) == "bad_signature"
    assert bob.offer(data) == DELIVERED
    assert bob.offer(malleable) == "replayed"


@pytest.mark.audit("A15")
@pytest.mark.parametrize("high_bits", [0x20, 0x40, 0x80, 0xE0])
def test_the_high_bits_of_s_count(world, bob, high_bits):
    """I own the network, and set bits of S that lax code masks off: step 8."""
    data = world.sealer().seal(b"pay")
    assert bob.offer(flip(data, -1, high_bits)) == "bad_signature"
    assert bob.offer(data) == DELIVERED


@pytest.mark.audit("A15")
def test_a_mixed_order_r_is_refused(world, bob):
    """I am Alice, and sign so that Bob's software accepts what Carol's refuses.

    With a point of small order added to R, verifiers disagree by their cofactor. Ours
    has none (SPEC 2.1): step 8.
    """
    forged = Forgery(world.alice, body=b"pay")
    for y in SMALL[1:]:
        assert bob.offer(sign_with_torsion(forged, point(y))) == "bad_signature"
    # The control: without torsion the same arithmetic is a good signature.
    assert bob.offer(sign_with_torsion(forged, point(1))) == DELIVERED


@pytest.mark.audit("A15", "C10")
@pytest.mark.parametrize("y", SMALL + NON_CANONICAL, ids=hex)
def test_a_small_order_key_is_not_loaded(y, tmp_path):
    """I have Bob pin a key under which one signature fits every message.

    It is refused wherever a key is read, so step 8 never meets it.
    """
    public = point(y) + ALICE.public[32:]
    with pytest.raises(UsageError):
        PublicIdentity(public)
    written = text.encode(text.PUBLIC, public)
    with pytest.raises(UsageError):
        PublicIdentity.parse(written)
    file = tmp_path / "peers.toml"
    write_trust(file, Peer("alice", ALICE, contexts=["orders"]))
    TrustStore.load(file)
    file.write_text(file.read_text(encoding="utf-8").replace(str(ALICE), written), encoding="utf-8")
    with pytest.raises(TrustFileError, match="Ed25519"):
        TrustStore.load(file)


@pytest.mark.audit("A15", "C10")
@pytest.mark.parametrize("y", SMALL[1:], ids=hex)
def test_a_mixed_order_key_is_not_loaded(y):
    """I have Bob pin Alice's key plus a point of small order, which eight verifiers may mix up."""
    mixed = sodium.crypto_core_ed25519_add(ALICE.public[:32], point(y))
    with pytest.raises(UsageError):
        PublicIdentity(mixed + ALICE.public[32:])


@pytest.mark.audit("A15", "C10")
@pytest.mark.parametrize("u", [*LOW_ORDER_U, 9 + P, 9 + 2**255], ids=hex)
def test_an_unsound_x25519_key_is_not_loaded(u):
    """I have Alice seal to a key with which everybody agrees on zero, or to a second spelling."""
    with pytest.raises(UsageError):
        PublicIdentity(ALICE.public[:32] + u.to_bytes(32, "little"))


@pytest.mark.audit("A15")
def test_halves_of_two_identities_are_not_one_of_them(world):
    """I had Bob pin Alice's signing key with my X25519 key: it is another identity.

    Its key id differs, and PUB, not half of it, stands in BIND: steps 4 and 8.
    """
    mixed = PublicIdentity(ALICE.public[:32] + world.mallory.public.public[32:])
    bob = Receiver(world.opener(trust=TrustStore([Peer("x", mixed, contexts=["orders"])])))
    data = world.sealer().seal(b"pay")
    assert bob.offer(data) == "unknown_sender"
    assert bob.offer(data[:8] + mixed.key_id + data[24:]) == "bad_signature"
