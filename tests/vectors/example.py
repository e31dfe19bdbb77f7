"""The worked example of SPEC 14: one small sealed envelope, byte for byte.

Rules of this file: every value in the text is computed by the reference, so the
two cannot differ. `generate.py --spec` puts the text between the two markers.
"""

from __future__ import annotations

from nacl import bindings as sodium
from vectors.reference import (
    Epoch,
    Identity,
    aead_key,
    bind_hash,
    body_hash,
    commitment,
    context_hash,
    generate,
    key_encryption_key,
    message_id,
    new_epoch,
    new_stream,
    public_text,
    secret_text,
)
from vectors.reference_opener import decode
from vectors.world import ALICE, BOB, NOW, SECOND

BEGIN, END = "<!-- example:begin -->", "<!-- example:end -->"
CONTEXT, TOPIC, PAYLOAD = "orders", b"eu", b"hi"
START, PROCESS, NS = NOW - 5 * SECOND, 4711, (NOW - 5 * SECOND) * 1000 + 123
SEQUENCE = 3
FOR_STREAM, FOR_EPOCH, FOR_NONCE = bytes(range(32)), bytes(range(64)), bytes(range(32, 64))
WIDTH = 32
"""Bytes on one line."""

TEXT = """
Alice seals the two bytes `hi` to Bob, in the context `orders`, under the topic
`eu`. It is the envelope with sequence {sequence} of a stream that began five seconds
before, and the first of a key epoch. Where random bytes are asked for, she
counts: 00 01 02 and so on. All values are hexadecimal, {width} bytes on a line.

14.1. **Identities** (3, 13.1). Everybody knows these seeds: never use them.

{identities}

14.2. **Place** (5.1). After its label, the input of CTX is `u64 6`, `orders`,
`u32 1`, `u64 2`, `eu`: 28 bytes.

{place}

14.3. **Stream** (6.2). It began at {start} Unix us, by a clock that
showed {ns} ns, in process {process}; the random bytes are 00 to
1f.

{stream}

14.4. **Key epoch** (6.3, 5.6, 5.7). It begins at {now} Unix us with the
random bytes 00 to 3f. `shared` is X25519(e, X25519 half of Bob's PUB), the key
of KEK. The wrap is CK encrypted: 32 bytes and a tag of 16.

{epoch}

14.5. **Nonce** (6.4), with the random bytes 20 to 3f.

{nonce}

14.6. **HEAD** (4.1, 4.2): 208 bytes, a row for each field.

{head}

14.7. **Body and signature** (5.2 to 5.6). The body is `hi` encrypted under the
AEAD key, with the nonce above and BIND as AAD: two bytes and a tag of 16. The
signature is over `envelope/v1/sign`, BIND and BODY: 144 bytes.

{body}

14.8. **The envelope** is HEAD, body and signature: 290 bytes, which are 288 and
the payload's two (4.6). Its message id (5.5) is that of index 0.

{envelope}
"""


def put_into(spec: str) -> str:
    """Return the text of the specification with the example between its markers."""
    before, rest = spec.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{render()}\n{END}{after}"


def render() -> str:
    """Return the example in Markdown."""
    stream = new_stream(ALICE, START, FOR_STREAM, PROCESS, NS)
    keys = new_epoch(ALICE, stream, FOR_EPOCH, NOW)
    envelope = generate(
        ALICE,
        CONTEXT,
        PAYLOAD,
        stream=stream,
        sequence=SEQUENCE,
        sent_at=NOW,
        random=FOR_NONCE,
        bound=[TOPIC],
        recipients=[BOB.pub],
        epoch=keys,
    )
    parts = decode(envelope)
    assert (len(parts.head), len(envelope)) == (208, 290)
    ctx = context_hash(CONTEXT, [TOPIC])
    return TEXT.format(
        sequence=SEQUENCE,
        width=WIDTH,
        start=START,
        ns=NS,
        process=PROCESS,
        now=NOW,
        identities=block(*identity_rows("Alice", ALICE), *identity_rows("Bob", BOB)),
        place=block(("CTX", ctx)),
        stream=block(("stream", stream)),
        epoch=block(*epoch_rows(keys, stream, parts.key_block)),
        nonce=block(("nonce", parts.nonce)),
        head=table(parts.head),
        body=block(
            ("BIND", bind_hash(ALICE.pub, ctx, parts.head)),
            ("body", parts.body),
            ("BODY", body_hash(parts.body)),
            ("signature", parts.signature),
        ),
        envelope=block(
            ("envelope", envelope), ("message id", message_id(parts.head, parts.body, 0))
        ),
    )


def identity_rows(name: str, who: Identity) -> list[tuple[str, bytes | str]]:
    return [
        (f"{name}'s seed", who.seed),
        ("  ed_seed", who.ed_seed),
        ("  x_secret", who.x_secret),
        ("  hedge", who.hedge),
        ("  PUB", who.pub),
        ("  key id", who.key_id),
        ("  as text", public_text(who.pub)),
        ("  secret", secret_text(who.seed)),
    ]


def epoch_rows(keys: Epoch, stream: bytes, key_block: bytes) -> list[tuple[str, bytes | str]]:
    com = commitment(keys.ck, keys.ephemeral, ALICE.pub, stream)
    shared = sodium.crypto_scalarmult(keys.e, BOB.pub[32:])
    kek = key_encryption_key(shared, keys.ephemeral, BOB.pub, ALICE.pub, stream, com)
    return [
        ("e", keys.e),
        ("CK", keys.ck),
        ("ephemeral", keys.ephemeral),
        ("COM", com),
        ("shared", shared),
        ("KEK", kek),
        ("wrap", key_block[80:]),
        ("AEAD key", aead_key(keys.ck)),
    ]


def pieces(text: str) -> list[str]:
    return [text[at : at + 2 * WIDTH] for at in range(0, len(text), 2 * WIDTH)]


def block(*rows: tuple[str, bytes | str]) -> str:
    """Return an indented block: a name, and its value on as many lines as it needs."""
    lines = []
    for name, value in rows:
        first, *rest = pieces(value if isinstance(value, str) else value.hex())
        lines += [f"    {name:<12} {first}", *(f"    {'':<12} {piece}" for piece in rest)]
    return "\n".join(lines)


def table(head: bytes) -> str:
    """Return HEAD field by field: offset, bytes, meaning."""
    rows = ["| offset | bytes | meaning |", "|---|---|---|"]
    at = 0
    for size, meaning in (
        (3, "magic `ENV`"),
        (1, "version 1"),
        (1, "kind 2: sealed"),
        (1, "flags: neither bundle nor reply"),
        (2, "one recipient"),
        (16, "key id of Alice"),
        (8, f"stream: its start, {START}"),
        (8, "stream: its random half"),
        (8, f"sequence {SEQUENCE}"),
        (8, f"sent_at {NOW}"),
        (24, "nonce"),
        (32, "key block: ephemeral key"),
        (32, "key block: COM"),
        (16, "key block: key id of Bob"),
        (48, "key block: wrap for Bob"),
    ):
        value = " ".join(f"`{piece}`" for piece in pieces(head[at : at + size].hex()))
        rows.append(f"| {at} | {value} | {meaning} |")
        at += size
    assert at == len(head)
    return "\n".join(rows)
