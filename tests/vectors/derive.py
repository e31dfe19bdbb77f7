"""Vectors of derivations: what makes an envelope, one step at a time (derive.json)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nacl import bindings as sodium
from vectors.reference import (
    Epoch,
    H,
    Identity,
    aead_key,
    base32,
    commitment,
    context_hash,
    decrypt,
    generate,
    is_sound_pub,
    key_encryption_key,
    locked_text,
    matches,
    new_epoch,
    new_stream,
    pack_bundle,
    public_text,
    sealed_key_block,
    sealed_nonce,
    secret_text,
)
from vectors.world import (
    ALICE,
    BOB,
    CAROL,
    LOW_U,
    NOW,
    ORDER_8,
    STREAM,
    Json,
    P,
    epoch,
    identity,
    little,
    noise,
    to_json,
)

KEYED = (
    "env1-ed25519",
    "env1-x25519",
    "env1-hedge",
    "env1-epoch",
    "env1-commit",
    "env1-aead",
    "env1-kek",
    "env1-nonce",
    "env1-stream",
    "env1-pair-code",
    "env1-pair-key",
    "env1-pair-proof",
    "env1-pair-dh",
)
UNKEYED = (
    "env1-keyid",
    "env1-context",
    "env1-bind",
    "env1-body",
    "env1-id",
    "env1-text",
    "env1-session",
    "env1-streams",
    "env1-message",
    "env1-hint",
    "env1-pair-run",
    "env1-pair-print",
)


def build() -> Json:
    """Return the content of derive.json."""
    sections: Json = {
        "hashes": hashes(),
        "identities": identities(),
        "public_keys": public_keys(),
        "patterns": patterns(),
        "contexts": contexts(),
        "streams": streams(),
        "epochs": epochs(),
        "wraps": wraps(),
        "nonces": nonces(),
        "envelopes": envelopes(),
        "locked": locked(),
        "bad_texts": bad_texts(),
    }
    built: Json = to_json({name: list(rows) for name, rows in sections.items()})
    return built


def hashes() -> Iterator[Json]:
    for label in KEYED + UNKEYED:
        key = noise(f"key of {label}", 32) if label in KEYED else b""
        for data in (b"", b"data", bytes(range(256))):
            yield {"label": label, "key": key, "data": data, "hash": H(64, label, data, key=key)}


def identities() -> Iterator[Json]:
    seeds = [ALICE.seed, BOB.seed, CAROL.seed, bytes(32), b"\xff" * 32, bytes(range(32))]
    for given in map(Identity, seeds):
        yield {
            "seed": given.seed,
            "ed_seed": given.ed_seed,
            "x_secret": given.x_secret,
            "hedge": given.hedge,
            "pub": given.pub,
            "key_id": given.key_id,
            "public_text": public_text(given.pub),
            "secret_text": secret_text(given.seed),
        }


def public_keys() -> Iterator[Json]:
    ed, x = ALICE.pub[:32], ALICE.pub[32:]
    mixed = sodium.crypto_core_ed25519_add(ed, ORDER_8)
    # A libsodium with CVE-2025-69277 takes this one for sound, and refuses all the others.
    half = sodium.crypto_core_ed25519_add(ed, little(P - 1))
    for comment, pub, is_sound in (
        ("sound", ed + x, True),
        ("another X25519 key on the twist", ed + little(3), True),
        ("Ed25519: the neutral point", little(1) + x, False),
        ("Ed25519: the neutral point with a sign", little(1 | 1 << 255) + x, False),
        ("Ed25519: the neutral point, not canonical", little(P + 1) + x, False),
        ("Ed25519: order 2", little(P - 1) + x, False),
        ("Ed25519: order 4", little(0) + x, False),
        ("Ed25519: order 4, with a sign", little(1 << 255) + x, False),
        ("Ed25519: order 8", ORDER_8 + x, False),
        ("Ed25519: a part of order 8", mixed + x, False),
        ("Ed25519: a part of order 2", half + x, False),
        ("Ed25519: no point of the curve", little(no_point()) + x, False),
        ("Ed25519: all ones", b"\xff" * 32 + x, False),
        ("X25519: zero", ed + little(0), False),
        ("X25519: one", ed + little(1), False),
        ("X25519: minus one", ed + little(P - 1), False),
        ("X25519: order 8", ed + LOW_U[0], False),
        ("X25519: order 8, the other one", ed + LOW_U[1], False),
        ("X25519: zero, not canonical", ed + little(P), False),
        ("X25519: one, not canonical", ed + little(P + 1), False),
        ("X25519: nine, not canonical", ed + little(P + 9), False),
        ("X25519: a good key with the top bit", ed + x[:31] + bytes([x[31] | 128]), False),
        ("X25519: all ones", ed + b"\xff" * 32, False),
        ("too short", (ed + x)[:-1], False),
        ("too long", ed + x + b"\0", False),
    ):
        assert is_sound_pub(pub) is is_sound, comment
        yield {"comment": comment, "pub": pub, "sound": is_sound}


def no_point() -> int:
    """Return the smallest y of no point of the curve (RFC 8032, 5.1.3)."""
    d = -121665 * pow(121666, -1, P) % P
    for y in range(2, 100):
        square = (y * y - 1) * pow(d * y * y + 1, -1, P) % P
        if pow(square, (P - 1) // 2, P) == P - 1:
            return y
    raise AssertionError


def patterns() -> Iterator[Json]:
    for pattern, context in (
        ("orders", "orders"),
        ("orders", "order"),
        ("orders", "orders.new"),
        ("orders.*", "orders"),
        ("orders.*", "orders."),
        ("orders.*", "orders.n"),
        ("orders.*", "orders.new.today"),
        ("orders.*", "orders.*"),
        ("orders.*", "ordersxnew"),
        ("orders.*", "my.orders.new"),
        ("*", "orders"),
        ("*", "*"),
    ):
        yield {"pattern": pattern, "context": context, "matches": matches(pattern, context)}
    for pattern in ("", ".*", "**", "*.orders", "ord*rs", "orders*", "orders.**", "*.*"):
        yield {"pattern": pattern, "context": None, "matches": None}


def contexts() -> Iterator[Json]:
    for context, bound in (
        ("orders", []),
        ("orders", [b""]),
        ("orders", [b"", b""]),
        ("orders", [b"ab"]),
        ("orders", [b"a", b"b"]),
        ("orders", [b"", b"ab"]),
        ("orders", [b"ab", b""]),
        ("order", [b"s"]),
        ("o", []),
        ("é", []),
        ("e\u0301", []),
        ("x" * 255, [bytes(300)]),
        ("orders", [b"%d" % number for number in range(64)]),
    ):
        yield {"context": context, "bound": bound, "ctx": context_hash(context, bound)}


def streams() -> Iterator[Json]:
    for start, process, ns in ((NOW, 4711, NOW * 1000 + 7), (0, 0, 0), (2**63, 2**32, 2**63)):
        random = noise(f"stream {start}", 32)
        yield {
            "seed": ALICE.seed,
            "start": start,
            "random": random,
            "process": process,
            "ns": ns,
            "stream": new_stream(ALICE, start, random, process, ns),
        }


def epochs() -> Iterator[Json]:
    for label, now in (("one", NOW), ("two", 0)):
        random = noise(f"epoch {label}", 64)
        made = new_epoch(ALICE, STREAM, random, now)
        yield {
            "seed": ALICE.seed,
            "stream": STREAM,
            "random": random,
            "now": now,
            "e": made.e,
            "ck": made.ck,
            "ephemeral": made.ephemeral,
            "com": commitment(made.ck, made.ephemeral, ALICE.pub, STREAM),
            "aead_key": aead_key(made.ck),
        }


def wraps() -> Iterator[Json]:
    made = epoch()
    for recipient in (BOB, CAROL, ALICE):
        shared = sodium.crypto_scalarmult(made.e, recipient.pub[32:])
        com = commitment(made.ck, made.ephemeral, ALICE.pub, STREAM)
        kek = key_encryption_key(shared, made.ephemeral, recipient.pub, ALICE.pub, STREAM, com)
        entry = sealed_key_block(ALICE.pub, STREAM, made, [recipient.pub])[64:]
        assert decrypt(kek, bytes(24), b"", entry[16:]) == made.ck
        yield {
            "e": made.e,
            "ck": made.ck,
            "sender": ALICE.pub,
            "recipient": recipient.pub,
            "stream": STREAM,
            "shared": shared,
            "com": com,
            "kek": kek,
            "wrap": entry[16:],
        }


def nonces() -> Iterator[Json]:
    random = noise("nonce", 32)
    for payload in (b"", b"payload", bytes(1024), bytes(1025)):
        ctx = context_hash("orders", [b"topic"])
        yield {
            "seed": ALICE.seed,
            "random": random,
            "stream": STREAM,
            "sequence": 7,
            "sent_at": NOW,
            "ctx": ctx,
            "payload": payload,
            "nonce": sealed_nonce(ALICE, random, STREAM, 7, NOW, ctx, payload),
        }


def envelopes() -> Iterator[Json]:
    """Whole envelopes from what enters them, fresh randomness included."""
    made = new_epoch(ALICE, STREAM, noise("epoch one", 64), NOW)
    bundle = pack_bundle([b"one", b"two"])
    both = [BOB.pub, CAROL.pub]
    for comment, payload, options in (
        ("signed", b"payload", {}),
        ("signed and addressed", b"payload", {"recipients": both}),
        ("sealed", b"payload", {"recipients": both, "epoch": made}),
        ("sealed, long", bytes(1025), {"recipients": [BOB.pub], "epoch": made}),
        ("bundle", bundle, {"bundle": True, "bound": [b"topic"]}),
        ("reply", b"payload", {"in_reply_to": noise("request id", 32)}),
        (
            "all at once",
            bundle,
            {
                "recipients": both,
                "epoch": made,
                "bundle": True,
                "bound": [b"a", b""],
                "in_reply_to": noise("request id", 32),
            },
        ),
    ):
        chosen: dict[str, Any] = {
            "stream": STREAM,
            "sequence": 7,
            "sent_at": NOW,
            "random": noise(f"fresh {comment}", 32 if "epoch" in options else 24),
            "bound": [],
            "recipients": [],
            "bundle": False,
            "in_reply_to": b"",
        } | options
        keys: Epoch | None = chosen.get("epoch")
        shown = {name: value for name, value in chosen.items() if name != "epoch"}
        yield {
            "comment": comment,
            "seed": ALICE.seed,
            "context": "orders",
            "payload": payload,
            **shown,
            "e": None if keys is None else keys.e,
            "ck": None if keys is None else keys.ck,
            "envelope": generate(ALICE, "orders", payload, **chosen),
        }


def locked() -> Iterator[Json]:
    for passphrase, passes, memory_kib in (
        ("correct horse", 1, 8),
        ("correct horse", 3, 64),
        ("é", 1, 8),
        ("e\u0301", 1, 8),
    ):
        salt, nonce = noise(f"salt {passes}", 16), noise(f"lock {passes}", 24)
        yield {
            "seed": BOB.seed,
            "passphrase": passphrase,
            "salt": salt,
            "passes": passes,
            "memory_kib": memory_kib,
            "nonce": nonce,
            "text": locked_text(
                BOB.seed, passphrase, salt=salt, nonce=nonce, passes=passes, memory_kib=memory_kib
            ),
        }


def bad_texts() -> Iterator[Json]:
    public, secret = public_text(BOB.pub), secret_text(identity("throwaway").seed)
    other = "a" if public[20] != "a" else "b"
    for comment, text in (
        ("empty", ""),
        ("prefix only", "envpub1"),
        ("upper case", public.upper()),
        ("one upper case letter", public[:-1] + public[-1].upper() + "A"),
        ("prefix in upper case", "ENVPUB1" + public[7:]),
        ("cut", public[:-1]),
        ("cut by a whole group", public[:-8]),
        ("longer", public + "a"),
        ("longer by a whole group", public + "aaaaaaaa"),
        ("one letter", public[:20] + other + public[21:]),
        ("two letters exchanged", public[:8] + public[9] + public[8] + public[10:]),
        ("not of the alphabet", public[:-1] + "1"),
        ("padded", public[:-1] + "="),
        ("blank before", " " + public),
        ("line end behind", public + "\n"),
        ("secret with the prefix of a public key", "envpub1" + secret[7:]),
        ("public with the prefix of a secret", "envsec1" + public[7:]),
        (
            "checksum of another prefix",
            "envsec1" + base32(bytes(32) + H(8, "env1-text", b"envpub1", bytes(32))),
        ),
        ("checksum missing", "envsec1" + base32(bytes(40))),
        ("a key that is not sound", public_text(bytes(64))),
    ):
        yield {"comment": comment, "text": text}
