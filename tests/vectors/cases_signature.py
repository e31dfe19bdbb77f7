"""What is not signed by the one it claims, for this place: bad_signature (7.2 step 8)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

from nacl import bindings as sodium
from vectors.reference import (
    Identity,
    bind_hash,
    body_hash,
    pack_bundle,
    signature_input,
    u16,
    u64,
)
from vectors.world import (
    ALICE,
    BOB,
    CAROL,
    MALLORY,
    ORDER_8,
    Case,
    Opening,
    P,
    case,
    craft,
    identity,
    little,
    noise,
    sealed,
)

ORDER = 2**252 + 27742317777372353535851937790883648493
PACKED = pack_bundle([b"a"])


def cases() -> Iterator[Case]:
    yield from other_signers()
    yield from crooked_signatures()
    yield from other_places()
    yield from changed_bytes()


def forged(name: str, comment: str, envelope: bytes, **options: Any) -> Case:
    return case(name, comment, envelope, "bad_signature", **options)


def other_signers() -> Iterator[Case]:
    def as_alice(signer: Identity) -> Callable[[Identity, bytes, bytes, bytes], bytes]:
        """Sign with another key over the BIND that Alice would sign."""

        def finish(by: Identity, ctx: bytes, head: bytes, body: bytes) -> bytes:
            signed = signature_input(bind_hash(by.pub, ctx, head), body)
            return head + body + sodium.crypto_sign(signed, signer.ed_secret)[:64]

        return finish

    for name, signer in {"outsider": MALLORY, "another_peer": CAROL, "recipient": BOB}.items():
        yield forged(
            f"by_{name}", "signed by another key", craft(to=[BOB], finish=as_alice(signer))
        )
        yield forged(
            f"sealed_by_{name}",
            "whoever knows the content key still has no signing key",
            sealed(finish=as_alice(signer)),
        )
    yield forged(
        "key_id_of_another",
        "Carol's envelope, rightly signed, with Alice's key id in it",
        craft(by=CAROL, sender=ALICE.key_id),
    )
    yield forged(
        "older_key_of_a_rotation",
        "a key id stands for one key, not for a name",
        craft(by=identity("alice-2027"), sender=ALICE.key_id),
    )


def crooked_signatures() -> Iterator[Case]:
    right = craft()
    r, s = right[-64:-32], int.from_bytes(right[-32:], "little")
    for name, signature in {
        "zero": bytes(64),
        "ones": b"\xff" * 64,
        "halves_exchanged": little(s) + r,
        "r_flipped": bytes([r[0] ^ 1]) + r[1:] + little(s),
        "s_flipped": r + little(s ^ 1),
        "s_plus_the_order": r + little(s + ORDER),
        "s_plus_twice_the_order": r + little(s + 2 * ORDER),
        "s_top_bit": r + little(s | 1 << 255),
        "s_negative": r + little(ORDER - s),
        "r_sign_flipped": r[:31] + bytes([r[31] ^ 0x80]) + little(s),
    }.items():
        comment = "malleability: one message has one signature"
        yield forged(f"signature_{name}", comment, right[:-64] + signature)

    for name, small in {
        "r_neutral": little(1),
        "r_neutral_with_sign": little(1 | 1 << 255),
        "r_neutral_not_canonical": little(P + 1),
        "r_of_order_2": little(P - 1),
        "r_of_order_4": little(0),
        "r_of_order_8": ORDER_8,
    }.items():
        yield forged(
            f"signature_{name}",
            "made with the right key so that s B = h A: R has a small order, and a verifier "
            "with cofactor or without that check says yes",
            craft(finish=with_r(small, 0)),
        )
    nonce = int.from_bytes(noise("r", 32), "little") % ORDER
    base = sodium.crypto_scalarmult_ed25519_base_noclamp(little(nonce))
    yield forged(
        "signature_r_of_mixed_order",
        "made with the right key, R has a part of order 8: only a verifier with cofactor says yes",
        craft(finish=with_r(sodium.crypto_core_ed25519_add(base, ORDER_8), nonce)),
    )
    assert craft(finish=with_r(base, nonce))[:-64] == right[:-64]
    for name, signed in {
        "no_label": lambda bind, body: bind + body_hash(body),
        "another_label": lambda bind, body: b"envelope/v2/sign" + bind + body_hash(body),
        "no_bind": lambda _, body: b"envelope/v1/sign" + body_hash(body),
        "body_not_hashed": lambda bind, body: b"envelope/v1/sign" + bind + body,
        "order": lambda bind, body: b"envelope/v1/sign" + body_hash(body) + bind,
    }.items():
        yield forged(
            f"signed_{name}", "the right key over something else", craft(finish=over(signed))
        )
    yield forged(
        "signed_as_ed25519ctx",
        "the right key, and another scheme of RFC 8032 with the same curve",
        craft(finish=ed25519ctx),
    )


def secret_scalar(by: Identity) -> int:
    half = bytearray(hashlib.sha512(by.ed_seed).digest()[:32])
    half[0] &= 248
    half[31] = half[31] & 127 | 64
    return int.from_bytes(half, "little")


def with_r(r: bytes, nonce: int) -> Callable[[Identity, bytes, bytes, bytes], bytes]:
    """Sign with a given R; s is right for the nonce."""

    def finish(by: Identity, ctx: bytes, head: bytes, body: bytes) -> bytes:
        signed = signature_input(bind_hash(by.pub, ctx, head), body)
        digest = hashlib.sha512(r + by.pub[:32] + signed).digest()
        s = nonce + int.from_bytes(digest, "little") * secret_scalar(by)
        return head + body + r + little(s % ORDER)

    return finish


def over(
    signed: Callable[[bytes, bytes], bytes],
) -> Callable[[Identity, bytes, bytes, bytes], bytes]:
    """Sign something made of BIND and body."""

    def finish(by: Identity, ctx: bytes, head: bytes, body: bytes) -> bytes:
        message = signed(bind_hash(by.pub, ctx, head), body)
        return head + body + sodium.crypto_sign(message, by.ed_secret)[:64]

    return finish


def ed25519ctx(by: Identity, ctx: bytes, head: bytes, body: bytes) -> bytes:
    message = signature_input(bind_hash(by.pub, ctx, head), body)
    domain = b"SigEd25519 no Ed25519 collisions" + bytes([0, 8]) + b"envelope"
    nonce = int.from_bytes(noise("ed25519ctx", 32), "little") % ORDER
    r = sodium.crypto_scalarmult_ed25519_base_noclamp(little(nonce))
    digest = hashlib.sha512(domain + r + by.pub[:32] + message).digest()
    s = nonce + int.from_bytes(digest, "little") * secret_scalar(by)
    return head + body + r + little(s % ORDER)


def other_places() -> Iterator[Case]:
    for kind, make in (("signed", craft), ("sealed", sealed)):
        for name, made, opened in (
            ("missing", [b"topic"], []),
            ("added", [], [b"topic"]),
            ("added_empty", [], [b""]),
            ("other", [b"topic"], [b"Topic"]),
            ("order", [b"a", b"b"], [b"b", b"a"]),
            ("joined", [b"a", b"b"], [b"ab"]),
            ("split", [b"ab"], [b"a", b"b"]),
            ("split_elsewhere", [b"ab", b"c"], [b"a", b"bc"]),
            ("empty_first", [b"ab"], [b"", b"ab"]),
            ("encoded", [b"a", b"b"], [b"a" + u64(1) + b"b"]),
        ):
            yield forged(
                f"{kind}_bound_{name}",
                "redirected: other bound frames than it was signed for",
                make(bound=made),
                bound=opened,
            )
        yield forged(
            f"{kind}_context", "redirected: signed for another context", make(context="invoices")
        )
    yield forged(
        "context_runs_into_the_frame",
        "context and frames together are the same bytes",
        craft(context="order", bound=[b"s"]),
        context="orders",
        bound=[b""],
    )


def changed_bytes() -> Iterator[Case]:
    for kind, envelope in (("signed", craft(to=[BOB, CAROL])), ("sealed", sealed(to=[BOB, CAROL]))):
        after = {"first_wrap": 160, "last_wrap": 271} if kind == "sealed" else {}
        tail = {"ephemeral": 80, "com": 112} if kind == "sealed" else {}
        for name, position in {
            "stream": 39,
            "sequence": 47,
            "sent_at": 55,
            "nonce": 56,
            **tail,
            **after,
            "body": -65,
        }.items():
            changed = bytearray(envelope)
            changed[position] ^= 1
            yield forged(f"{kind}_{name}_flipped", "one bit on the way", bytes(changed))
        yield forged(f"{kind}_cut", "the body's end is cut", envelope[:-65] + envelope[-64:])
        yield forged(f"{kind}_longer", "something stands behind", envelope + b"\0")
        yield forged(
            f"{kind}_body_longer", "something is put in", envelope[:-64] + b"\0" + envelope[-64:]
        )
        yield forged(
            f"{kind}_flag_reply",
            "what follows the header read as in_reply_to",
            envelope[:5] + b"\2" + envelope[6:80] + bytes(32) + envelope[80:],
            in_reply_to=bytes(32),
        )
    reply = craft(in_reply_to=bytes(32))
    yield forged(
        "another_request",
        "the reply to one request is made the reply to another",
        reply[:80] + b"\1" * 32 + reply[112:],
        in_reply_to=b"\1" * 32,
    )
    for kind, single in (("signed", craft(PACKED)), ("sealed", sealed(PACKED))):
        yield forged(
            f"{kind}_flag_bundle_added",
            "a single one made a bundle; its payload looks like one",
            single[:5] + b"\1" + single[6:],
            bundle=True,
        )
    unflagged = craft(PACKED, bundle=True)
    yield forged(
        "flag_bundle_removed", "a bundle made a single one", unflagged[:5] + b"\0" + unflagged[6:]
    )
    closed = sealed()
    yield forged(
        "sealed_made_signed",
        "a downgrade: the same bytes read as signed for everyone",
        closed[:4] + b"\1\0" + u16(0) + closed[8:],
    )
    first = CAROL.key_id + closed[96:144]
    yield forged(
        "signed_made_sealed",
        "the payload read as a key block",
        craft(sealed()[80:]).replace(b"ENV\1\1\0" + u16(0), b"ENV\1\2\0" + u16(1), 1),
    )
    yield forged(
        "recipient_exchanged",
        "addressed to Carol, and readdressed",
        craft(to=[CAROL]).replace(CAROL.key_id, BOB.key_id),
    )
    yield forged(
        "recipient_added",
        "a wrap for one more",
        closed[:6]
        + u16(2)
        + closed[8:144]
        + b"".join(sorted([closed[144:208], first]))
        + closed[208:],
    )
    one, two = craft(b"one"), craft(b"two", sequence=1)
    yield forged("spliced_head", "HEAD of one, the rest of another", one[:80] + two[80:])
    yield forged("spliced_signature", "the signature of another", one[:-64] + two[-64:])
    yield forged(
        "before_unseal",
        "the ciphertext does not open either: the signature is judged first (order of 7.2)",
        closed[:208] + bytes(23) + closed[-64:-1] + b"\0",
    )
    yield forged(
        "after_a_kept_key",
        "a kept content key makes no signature valid (7.4)",
        sealed(sequence=1)[:-64] + bytes(64),
        before=[Opening(closed)],
    )
