"""What is rightly signed and does not open: unseal (7.2 step 9).

Everything that the broken part leads to is computed from the broken part, and the
sender signs it: who leaves out that one check opens it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nacl import bindings as sodium
from vectors.reference import (
    Epoch,
    bind_hash,
    context_hash,
    encrypt,
    sealed_key_block,
    sign_envelope,
)
from vectors.reference_opener import decode
from vectors.world import (
    ALICE,
    BOB,
    CAROL,
    LOW_U,
    NOW,
    SECOND,
    STREAM,
    Case,
    Opening,
    P,
    case,
    commit,
    epoch,
    little,
    sealed,
    stream,
    wrap_entry,
)


def cases() -> Iterator[Case]:
    yield from ephemeral_keys()
    yield from key_blocks()
    yield from ciphertexts()


def closed_case(name: str, comment: str, envelope: bytes, **options: Any) -> Case:
    return case(name, comment, envelope, "unseal", **options)


def with_ephemeral(ephemeral: bytes, shared: bytes) -> bytes:
    """Seal to Bob under an ephemeral key that nobody checked; the shared secret is right."""

    class Given(Epoch):
        @property
        def ephemeral(self) -> bytes:
            return ephemeral

    keys = Given(epoch().e, epoch().ck)
    com = commit(keys)
    entry = wrap_entry(BOB, shared, ephemeral, com, keys.ck)
    return sealed(keys=keys, key_block=ephemeral + com + entry)


def ephemeral_keys() -> Iterator[Case]:
    zero = bytes(32)
    for name, key in {
        "zero": zero,
        "one": little(1),
        "minus_one": little(P - 1),
        "order_8": LOW_U[0],
        "order_8_too": LOW_U[1],
        "zero_not_canonical": little(P),
        "one_not_canonical": little(P + 1),
        "zero_with_the_top_bit": little(1 << 255),
        "order_8_with_the_top_bit": LOW_U[0][:31] + bytes([LOW_U[0][31] | 0x80]),
    }.items():
        yield closed_case(
            f"ephemeral_{name}",
            "of low order: the shared secret is zero and known to all; wrap, COM and body are "
            "right for it",
            with_ephemeral(key, zero),
        )
    true = epoch().ephemeral
    shared = sodium.crypto_scalarmult(BOB.x_secret, true)
    for name, key, agreed in (
        ("top_bit", true[:31] + bytes([true[31] | 0x80]), shared),
        ("p_plus_3", little(P + 3), sodium.crypto_scalarmult(BOB.x_secret, little(3))),
        ("p_plus_9", little(P + 9), sodium.crypto_scalarmult(BOB.x_secret, little(9))),
        ("last", b"\xff" * 32, sodium.crypto_scalarmult(BOB.x_secret, little(18))),
    ):
        yield closed_case(
            f"ephemeral_not_canonical_{name}",
            "a second encoding of a good key; wrap, COM and body are right for it",
            with_ephemeral(key, agreed),
        )


def key_blocks() -> Iterator[Case]:
    keys = epoch()
    shared = sodium.crypto_scalarmult(keys.e, BOB.pub[32:])
    for name, com in {
        "of_another_key": commit(Epoch(keys.e, bytes(32))),
        "of_another_sender": commit(keys, by=CAROL),
        "of_another_stream": commit(keys, in_stream=stream("second")),
        "of_another_ephemeral": commit(Epoch(epoch("second").e, keys.ck)),
        "zero": bytes(32),
        "last_bit": commit(keys)[:31] + bytes([commit(keys)[31] ^ 1]),
    }.items():
        entry = wrap_entry(BOB, shared, keys.ephemeral, com, keys.ck)
        yield closed_case(
            f"com_{name}",
            "one envelope, two plaintexts: the wrap opens, the body opens, COM commits to "
            "something else",
            sealed(keys=keys, key_block=keys.ephemeral + com + entry),
        )
    com = commit(keys)
    fixed = keys.ephemeral + com
    for_carol = sodium.crypto_scalarmult(keys.e, CAROL.pub[32:])
    carols = wrap_entry(CAROL, for_carol, keys.ephemeral, com, keys.ck)
    right = wrap_entry(BOB, shared, keys.ephemeral, com, keys.ck)
    for name, entry in {
        "of_another_recipient": BOB.key_id + carols[16:],
        "flipped": right[:-1] + bytes([right[-1] ^ 1]),
        "zero": BOB.key_id + bytes(48),
        "kek_for_another_pub": BOB.key_id
        + wrap_entry(CAROL, shared, keys.ephemeral, com, keys.ck)[16:],
        "kek_for_another_sender": wrap_entry(BOB, shared, keys.ephemeral, com, keys.ck, by=CAROL),
        "kek_for_another_stream": wrap_entry(
            BOB, shared, keys.ephemeral, com, keys.ck, in_stream=stream("second")
        ),
        "kek_for_another_com": wrap_entry(BOB, shared, keys.ephemeral, bytes(32), keys.ck),
        "shared_secret_as_kek": BOB.key_id + encrypt(shared, bytes(24), b"", keys.ck),
        "not_wrapped": BOB.key_id + keys.ck + bytes(16),
    }.items():
        yield closed_case(
            f"wrap_{name}",
            "the own entry does not open under KEK",
            sealed(keys=keys, key_block=fixed + entry),
        )
    theirs = sealed_key_block(CAROL.pub, STREAM, keys, [BOB.pub])
    yield closed_case(
        "key_block_of_another_sender",
        "Carol's key block under Alice's name",
        sealed(keys=keys, key_block=theirs),
    )
    other = sealed_key_block(ALICE.pub, stream("second"), keys, [BOB.pub])
    yield closed_case(
        "key_block_of_another_stream",
        "Alice's own key block, from another stream",
        sealed(keys=keys, key_block=other),
    )
    yield closed_case(
        "key_block_of_another_stream_after_it_was_kept",
        "the same after that stream's key was kept: the same verdict (7.4)",
        sealed(keys=keys, key_block=other, sequence=1),
        before=[Opening(sealed(keys=keys, stream=stream("second")))],
    )
    yield closed_case(
        "wrap_flipped_after_it_was_kept",
        "a kept key is for exactly this entry: the same verdict (7.4)",
        sealed(keys=keys, key_block=fixed + right[:-1] + bytes([right[-1] ^ 1]), sequence=1),
        before=[Opening(sealed(keys=keys))],
    )
    yield closed_case(
        "first_own_identity_decides",
        "both own keys are addressed, the first one's wrap is broken: no other is tried (7.5)",
        sealed(
            to=[BOB, CAROL],
            keys=keys,
            key_block=fixed + b"".join(sorted([BOB.key_id + bytes(48), carols])),
        ),
        identities=["bob", "carol"],
    )


def ciphertexts() -> Iterator[Case]:
    keys = epoch()
    closed = sealed(keys=keys)
    parts = decode(closed)
    body = parts.body
    bind = bind_hash(ALICE.pub, context_hash("orders", []), parts.head)
    for name, other in {
        "tag_flipped": body[:-1] + bytes([body[-1] ^ 1]),
        "text_flipped": bytes([body[0] ^ 1]) + body[1:],
        "cut": body[:-1],
        "only_a_tag": body[-16:],
        "longer": body + b"\0",
        "in_clear": b"payload" + bytes(16),
        "under_ck_itself": encrypt(keys.ck, parts.nonce, bind, b"payload"),
    }.items():
        yield closed_case(
            f"body_{name}", "signed as it is, and it does not open", sealed(keys=keys, body=other)
        )
    ctx = context_hash("orders", [b"topic"])
    for name, aad in {
        "none": b"",
        "of_other_frames": bind_hash(ALICE.pub, ctx, parts.head),
        "of_another_sender": bind_hash(CAROL.pub, context_hash("orders", []), parts.head),
        "head_itself": parts.head,
    }.items():
        yield closed_case(
            f"aad_{name}",
            "signed for this place, encrypted for another: the AAD is BIND",
            sealed(keys=keys, aad=aad),
        )
    yield closed_case(
        "nonce_exchanged_and_signed_again",
        "the sender's own ciphertext under another nonce",
        sealed(keys=keys, nonce=bytes(24), body=body),
    )
    yield from signed_again(closed)
    yield closed_case(
        "before_the_bundle",
        "no bundle inside either: unseal comes first (order of 7.2)",
        sealed(body=bytes(32), bundle=True),
        bundle=True,
    )
    yield closed_case(
        "body_flipped_after_a_kept_key",
        "the key is kept, the body is broken (7.4)",
        sealed(sequence=1, body=bytes(23)),
        before=[Opening(closed)],
    )


def signed_again(closed: bytes) -> Iterator[Case]:
    """Carol takes Alice's envelope and sends it as her own."""
    stripped = closed[:8] + CAROL.key_id + closed[24:-64]
    yield closed_case(
        "stripped_and_signed_again",
        "Alice's envelope under Carol's name and signature: the KEK holds Alice's PUB",
        sign_envelope(CAROL, context_hash("orders", []), stripped[:208], stripped[208:]),
    )
    parts = decode(sealed(to=[BOB, CAROL]))
    keys = epoch()
    yield closed_case(
        "stripped_and_wrapped_again",
        "Carol was a recipient, so she knows CK: she wraps it anew for Bob, commits to it in "
        "her own name, and keeps Alice's ciphertext. Only the AAD holds Alice's PUB",
        sealed(
            by=CAROL,
            to=[BOB],
            keys=Epoch(epoch("carol").e, keys.ck),
            nonce=parts.nonce,
            body=parts.body,
        ),
    )
    yield closed_case(
        "late_one_stamped_anew",
        "Alice's ciphertext with a new time, signed by herself: HEAD is in the AAD",
        sealed(keys=keys, sent_at=NOW + SECOND, nonce=parts.nonce, body=decode(closed).body),
    )
