"""Changed on the way: A1 bits, A2 pieces, A5 places, A14 kinds and versions.

The attacker owns the network and no key. ``Receiver`` holds every refusal to it
that nothing was delivered and no replay state has changed.
"""

from __future__ import annotations

import dataclasses

import pytest
from cast import BOB, KINDS, each_cache, each_kind
from forge import CONTENT_KEY, Forgery, key_block
from simulator import DELIVERED, Network, Receiver, flip, retopic, splice
from support import SECOND

from envelope import Policy, UsageError

HEAD_SIZES = {"signed": 80, "addressed": 96, "sealed": 208}
"""Header and key block for at most one recipient (SPEC 4.1, 4.2)."""
PAYLOAD = bytes(40)


# --- A1: bits ---------------------------------------------------------------------------


def read(data, start, end):
    return int.from_bytes(data[start:end], "big")


def verdict_on(kind, data, at, now, accepted):
    """Return what SPEC 7.2 says to an envelope whose byte ``at`` was changed."""
    if at == 3:
        return "version"
    if at < 5:
        return "malformed"
    if at == 5:
        return "policy" if data[5] < 4 else "malformed"
    if at < 8:
        # Either the key block no longer fits, or its key ids do not ascend; but one
        # recipient more may be read out of the payload, and one less is for everyone.
        fits = {"signed": {1: "not_addressed"}, "addressed": {0: "bad_signature"}, "sealed": {}}
        return fits[kind].get(read(data, 6, 8), "malformed")
    if at < 24:
        return "unknown_sender"
    if 40 <= at < 48:
        sequence = read(data, 40, 48)
        if sequence >= 2**48:
            return "malformed"
        return "replayed" if sequence in accepted else "bad_signature"
    if 48 <= at < 56:
        return verdict_on_time(read(data, 48, 56), now)
    key_id = {"addressed": range(80, 96), "sealed": range(144, 160)}.get(kind, ())
    return "not_addressed" if at in key_id else "bad_signature"


def verdict_on_time(sent_at, now):
    if sent_at >= 2**53:
        return "malformed"
    if sent_at < now - 30 * SECOND:
        return "stale"
    return "future" if sent_at > now + 2 * SECOND else "bad_signature"


@pytest.mark.audit("A1", "C1", "C2")
@each_cache
@each_kind
def test_every_single_bit_counts(world, bob, kind, is_warm):
    """I flip one bit, each one in turn, hoping for one that nothing covers.

    Each falls at the step that owns its field; whatever has no step of its own falls
    at 8, the signature.
    """
    alice = world.sealer(**KINDS[kind])
    data = alice.seal(PAYLOAD)
    accepted = set()
    if is_warm:
        assert bob.offer(data) == DELIVERED
        accepted, data = {0}, alice.seal(PAYLOAD)
    for at in range(len(data)):
        for bit in range(8):
            changed = data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
            expected = verdict_on(kind, changed, at, world.clock(), accepted)
            assert bob.offer(changed) == expected, f"byte {at}, bit {bit}"
    assert bob.offer(data) == DELIVERED


@pytest.mark.audit("A1", "C2")
@each_kind
def test_every_bit_of_a_bound_frame_counts(world, bob, kind):
    """I flip one bit of the topic beside the envelope; step 8 hashes the frames too."""
    data = world.sealer(**KINDS[kind]).seal(PAYLOAD, bound=[b"topic", b"part"])
    for frame in range(2):
        for bit in range(8):
            bound = [b"topic", b"part"]
            bound[frame] = bytes([bound[frame][0] ^ 1 << bit]) + bound[frame][1:]
            assert bob.offer(data, bound=bound) == "bad_signature"
    assert bob.offer(data, bound=[b"topic", b"part"]) == DELIVERED


@pytest.mark.audit("A1")
def test_a_noisy_network_delivers_nothing_changed(world, bob):
    """I flip a bit in everything that passes; only what I let alone arrives."""
    network = Network(world.clock, flip, seed=1)
    alice = world.sealer(to=[BOB])
    for number in range(50):
        network.send(alice.seal(b"%d" % number))
    assert DELIVERED not in network.deliver(bob=bob)
    network.attacks = ()
    network.send(alice.seal(b"untouched"))
    assert network.deliver(bob=bob) == [DELIVERED]
    assert bob.payloads == [b"untouched"]
    assert bob.delivered[0].skipped == 50


# --- A2: pieces -------------------------------------------------------------------------


@pytest.mark.audit("A2", "P2")
@each_kind
def test_cut_off_anywhere_it_is_refused(world, bob, kind):
    """I cut off the end and hope that the rest passes as a shorter payload.

    Step 2 refuses what is too short for its header; what is not falls at step 8.
    """
    data = world.sealer(**KINDS[kind]).seal(PAYLOAD)
    shortest = HEAD_SIZES[kind] + (16 if kind == "sealed" else 0) + 64
    for size in range(len(data)):
        expected = "malformed" if size < shortest else "bad_signature"
        assert bob.offer(data[:size]) == expected, size
    assert bob.offer(data) == DELIVERED


@pytest.mark.audit("A2", "P2")
@each_kind
@pytest.mark.parametrize("more", [1, 16, 64, 1000])
def test_with_bytes_more_it_is_refused(world, bob, kind, more):
    """I append or prepend bytes that a lax parser would pass over: steps 8 and 2."""
    data = world.sealer(**KINDS[kind]).seal(PAYLOAD)
    at = HEAD_SIZES[kind]
    assert bob.offer(data + bytes(more)) == "bad_signature"
    assert bob.offer(data[:at] + bytes(more) + data[at:]) == "bad_signature"
    assert bob.offer(bytes(more) + data) == "malformed"
    assert bob.offer(data + data) == "bad_signature"


@pytest.mark.audit("A2", "C1")
@each_kind
def test_two_envelopes_cannot_be_spliced(world, bob, kind):
    """I join the front of one to the end of another of the same stream, at each cut.

    Both are genuine, yet one signature covers front and end: step 8.
    """
    alice = world.sealer(**KINDS[kind])
    one, other = alice.seal(b"pay 1 to Bob "), alice.seal(b"pay 99 to Mal")
    spliced = {one[:cut] + other[cut:] for cut in range(len(one))} - {one, other}
    assert len(spliced) > 64
    for data in spliced:
        assert bob.offer(data) == "bad_signature"
    assert [bob.offer(one), bob.offer(other)] == [DELIVERED, DELIVERED]


@pytest.mark.audit("A2")
@pytest.mark.parametrize("part", ["body", "signature", "key block"])
def test_parts_cannot_be_exchanged(world, bob, part):
    """I give one sealed envelope the body, signature or key block of another: step 8."""
    one = world.sealer(to=[BOB]).seal(b"one")
    other = world.sealer(to=[BOB]).seal(b"two")
    start, end = {"body": (208, -64), "signature": (-64, None), "key block": (80, 208)}[part]
    mixed = bytearray(one)
    mixed[start:end] = other[start:end]
    assert bob.offer(bytes(mixed)) == "bad_signature"


@pytest.mark.audit("A2")
def test_splices_at_random_between_all_kinds_deliver_nothing_new(world, bob):
    """I splice whatever I recorded, of every kind and stream; what passes is genuine."""
    network = Network(world.clock, splice, seed=2)
    alices = [world.sealer(**options) for options in KINDS.values()]
    for number in range(300):
        network.send(alices[number % 3].seal(b"%d" % number))
    genuine = {packet.data for packet in network.recorded}
    for packet in network.arrivals():
        verdict = bob.offer(packet.data)
        if packet.data in genuine:
            assert verdict in (DELIVERED, "replayed")
        else:
            assert verdict != DELIVERED
    assert bob.payloads
    assert len(set(bob.payloads)) == len(bob.payloads)


# --- A5: places -------------------------------------------------------------------------


@pytest.mark.audit("A5", "C1", "C4")
@pytest.mark.parametrize(
    ("sent", "arrived"),
    [
        ([b"bid"], [b"ask"]),
        ([b"bid"], [b"bid2"]),
        ([b"bid"], []),
        ([], [b"bid"]),
        ([], [b""]),
        ([b"ab"], [b"a", b"b"]),
        ([b"ab", b"c"], [b"a", b"bc"]),
        ([b"a", b"b"], [b"b", b"a"]),
        ([b"ab"], [b"", b"ab"]),
        ([b"ab"], [b"ab", b""]),
    ],
)
@each_kind
def test_another_topic_is_refused(world, bob, kind, sent, arrived):
    """I deliver an envelope beside another topic, or the same bytes cut differently.

    Bound frames stand in CTX with their count and lengths: step 8.
    """
    network = Network(world.clock, retopic(*arrived))
    network.send(world.sealer(**KINDS[kind]).seal(PAYLOAD, bound=sent), bound=sent)
    assert network.deliver(bob=bob) == ["bad_signature"]
    assert bob.offer(network.recorded[0].data, bound=sent) == DELIVERED


@pytest.mark.audit("A5", "C1", "C4")
@each_kind
def test_another_context_is_refused(world, kind):
    """I carry an envelope from one flow to another where the sender may speak too.

    The context is signed and not carried, so nothing can be rewritten: step 8.
    """
    peers = [dataclasses.replace(peer, contexts=["*"]) for peer in world.trust]
    world.trust.replace(peers)
    data = world.sealer(**KINDS[kind]).seal(PAYLOAD)
    for context in ("billing", "orders.eu", "order", "Orders"):
        assert Receiver(world.opener(context=context)).offer(data) == "bad_signature"
    assert Receiver(world.opener()).offer(data) == DELIVERED


@pytest.mark.audit("A5", "C1")
@pytest.mark.parametrize(
    ("context", "bound"),
    [
        ("orders", [b"eux"]),
        ("orders", [b"eu", b"x"]),
        ("orders", [b"x"]),
        ("orderseux", []),
        # What the encoding of a frame looks like, spelt out as a context.
        ("orderseu\0\0\0\1\0\0\0\0\0\0\0\5x", []),
    ],
)
def test_no_byte_moves_between_context_and_frame(world, context, bound):
    """I take from the context's end and give to the first frame, or the other way round.

    Every length stands before its data, so CTX differs: step 8.
    """
    world.trust.replace([dataclasses.replace(world.trust["alice"], contexts=["*"])])
    sent = [b"x\0\0\0\0"] if "\0" in context else [b"x"]
    data = world.sealer(context="orderseu").seal(PAYLOAD, bound=sent)
    receiver = Receiver(world.opener(context=context))
    assert receiver.offer(data, bound=bound) == "bad_signature"
    assert Receiver(world.opener(context="orderseu")).offer(data, bound=sent) == DELIVERED


# --- A14: kinds, versions, flags --------------------------------------------------------


@pytest.mark.audit("A14", "C9")
def test_sealed_cannot_be_turned_into_signed(world, bob):
    """I relabel a sealed envelope as signed, so that Bob takes ciphertext for a payload.

    The kind is in HEAD: step 8. Where sealed is required, step 3 refuses before.
    """
    data = world.sealer(to=[BOB]).seal(PAYLOAD)
    entry = data[144:160]
    relabelled = [
        data[:4] + b"\1" + data[5:],  # the key block becomes addressee and payload
        data[:4] + b"\1" + data[5:80] + entry + data[80:],
        data[:4] + b"\1\0\0\0" + data[8:],  # for everyone
    ]
    strict = Receiver(world.opener(policy=Policy(require="sealed")))
    codes = ["not_addressed", "bad_signature", "bad_signature"]
    assert [bob.offer(changed) for changed in relabelled] == codes
    assert [strict.offer(changed) for changed in relabelled] == ["policy"] * 3


@pytest.mark.audit("A14", "C9")
def test_signed_cannot_be_turned_into_sealed(world, bob):
    """I wrap a signed envelope in a key block of my own, so that it looks secret: step 8."""
    data = world.sealer().seal(PAYLOAD)
    alice = world.alice.public
    forged = Forgery.of(data, world.mallory, alice, kind=2, recipients=1)
    block = key_block(alice, {BOB: CONTENT_KEY}, stream=forged.stream)
    forged = dataclasses.replace(forged, key_block=block).encrypted(PAYLOAD)
    assert bob.offer(forged.head() + forged.body + data[-64:]) == "bad_signature"
    assert bob.offer(forged.encode()) == "bad_signature"


@pytest.mark.audit("A14", "C8", "C9")
def test_what_the_policy_requires_no_sender_can_weaken(world):
    """I am Alice, and send in the clear, or to everyone, where Bob asks for more: step 3."""
    sealed = Receiver(world.opener(policy=Policy(require="sealed")))
    addressed = Receiver(world.opener(policy=Policy(addressed=True)))
    sent = {name: world.sealer(**options).seal(PAYLOAD) for name, options in KINDS.items()}
    assert [sealed.offer(sent[name]) for name in KINDS] == ["policy", "policy", DELIVERED]
    assert [addressed.offer(sent[name]) for name in KINDS] == ["policy", DELIVERED, DELIVERED]


@pytest.mark.audit("A14", "C8")
@pytest.mark.parametrize("weakest", ["none", "", "unsigned", None, False])
def test_there_is_no_policy_under_which_nothing_is_required(weakest):
    """I get at the configuration and look for the off switch; there is none."""
    with pytest.raises(UsageError):
        Policy(require=weakest)


@pytest.mark.audit("A14", "C8")
def test_another_version_is_refused_even_from_its_sender(world, bob):
    """I am Alice, and sign a version of which Bob knows nothing: step 2, before all else."""
    for version in {*range(256)} - {1}:
        assert bob.offer(Forgery(world.alice, version=version).encode()) == "version"
    assert bob.offer(Forgery(world.alice, version=1).encode()) == DELIVERED


@pytest.mark.audit("A14", "C8", "P2")
def test_another_kind_is_refused_even_from_its_sender(world, bob):
    """I am Alice, and sign a kind that is reserved or unknown: step 2."""
    for kind in {*range(256)} - {1, 2}:
        assert bob.offer(Forgery(world.alice, kind=kind).encode()) == "malformed"


@pytest.mark.audit("A14", "P2")
def test_reserved_flags_are_refused_even_from_their_sender(world, bob):
    """I am Alice, and set a bit that a later version may give a meaning: step 2."""
    for flags in range(4, 256):
        forged = Forgery(world.alice, flags=flags, body=bytes(32))
        assert bob.offer(forged.encode()) == "malformed"


@pytest.mark.audit("A14", "C2")
def test_a_bundle_and_a_payload_cannot_pass_for_each_other(world, bob):
    """I set or clear the bundle flag, so that Bob reads the payload by other rules.

    The flag is in HEAD: step 8. Where no bundle is expected, step 3 refuses before.
    """
    alice = world.sealer()
    bundle = alice.seal_bundle([b"1", b"2"])
    single = alice.seal(b"\x92\xc4\x011\xc4\x012")
    assert bundle[80:-64] == single[80:-64]
    assert bob.offer(bundle) == "policy"
    for data in (bundle, single):
        changed = data[:5] + bytes([data[5] ^ 1]) + data[6:]
        assert bob.offer_bundle(changed) == "bad_signature"
    assert bob.offer_bundle(bundle) == DELIVERED
    assert bob.offer_bundle(single) == DELIVERED
    assert bob.payloads == [b"1", b"2", b"\x92\xc4\x011\xc4\x012"]


@pytest.mark.audit("A14", "P2", "P3")
def test_recipients_out_of_order_twice_or_too_many_are_refused(world, bob):
    """I am Alice, and encode one set of recipients in more than one way: step 2."""
    ids = sorted([world.bob.key_id, world.carol.key_id])
    many = sorted([world.bob.key_id, *(number.to_bytes(16, "big") for number in range(256))])
    for key_ids, expected in [
        (ids[::-1], "malformed"),
        ([ids[0], ids[0]], "malformed"),
        (many, "malformed"),
        (many[1:], DELIVERED),
        (ids, DELIVERED),
    ]:
        forged = Forgery(
            world.alice,
            recipients=len(key_ids),
            key_block=b"".join(key_ids),
            sequence=len(bob.delivered),
        )
        assert bob.offer(forged.encode()) == expected
