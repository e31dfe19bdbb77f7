"""A second implementation of SPEC 18.1 to 18.7, and the vectors that it writes (session.json).

Rules of this file: those of reference.py. Noise is written from its revision 34, for the one
pattern that is used. Secrets lie in the open: this is for tests and for reading.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from nacl import bindings as sodium
from vectors.reference import H, Identity, context_hash, number, u32, u64
from vectors.world import ALICE, BOB, CAROL, NOW, Json, noise, to_json

INITIATION, RESPONSE, DATA, HINT = 3, 4, 5, 6
REPLY, CONTROL = 2, 4
NAME = b"Noise_IK_25519_ChaChaPoly_BLAKE2b"
encrypt = sodium.crypto_aead_chacha20poly1305_ietf_encrypt
decrypt = sodium.crypto_aead_chacha20poly1305_ietf_decrypt

# --- 18.1: Noise IK --------------------------------------------------------------------------


def blake2b(data: bytes) -> bytes:
    return hashlib.blake2b(data).digest()


def hkdf(chain: bytes, data: bytes) -> tuple[bytes, bytes]:
    key = hmac.digest(chain, data, "blake2b")
    one = hmac.digest(key, b"\x01", "blake2b")
    return one, hmac.digest(key, one + b"\x02", "blake2b")


def nonce(counter: int) -> bytes:
    return bytes(4) + counter.to_bytes(8, "little")


class Noise:
    """One end of a handshake; what an end does not know yet is empty."""

    def __init__(self, own: Identity, ephemeral: bytes, prologue: bytes, responder: bytes) -> None:
        self.s, self.e = own.x_secret, ephemeral
        self.h = self.ck = NAME + bytes(64 - len(NAME))
        self.k, self.n = b"", 0
        for known in (prologue, responder):
            self.h = blake2b(self.h + known)

    def mix_key(self, secret: bytes, public: bytes) -> None:
        self.ck, key = hkdf(self.ck, sodium.crypto_scalarmult(secret, public))
        self.k, self.n = key[:32], 0

    def take(self, public: bytes) -> bytes:
        self.h = blake2b(self.h + public)
        return public

    def encrypt(self, text: bytes) -> bytes:
        data = encrypt(text, self.h, nonce(self.n), self.k)
        self.n += 1
        return self.take(data)

    def decrypt(self, data: bytes) -> bytes:
        text = decrypt(data, self.h, nonce(self.n), self.k)
        self.n += 1
        self.take(data)
        return text

    def write_first(self, responder: bytes, payload: bytes) -> bytes:
        """Return -> e, es, s, ss, and the payload."""
        message = self.take(sodium.crypto_scalarmult_base(self.e))
        self.mix_key(self.e, responder)
        message += self.encrypt(sodium.crypto_scalarmult_base(self.s))
        self.mix_key(self.s, responder)
        return message + self.encrypt(payload)

    def read_first(self, message: bytes) -> tuple[bytes, bytes, bytes]:
        """Return the initiator's ephemeral and static keys, and the payload."""
        ephemeral = self.take(message[:32])
        self.mix_key(self.s, ephemeral)
        static = self.decrypt(message[32:80])
        self.mix_key(self.s, static)
        return ephemeral, static, self.decrypt(message[80:])

    def write_second(self, ephemeral: bytes, static: bytes, payload: bytes) -> bytes:
        """Return <- e, ee, se, and the payload."""
        message = self.take(sodium.crypto_scalarmult_base(self.e))
        self.mix_key(self.e, ephemeral)
        self.mix_key(self.e, static)
        return message + self.encrypt(payload)

    def read_second(self, message: bytes) -> bytes:
        """Return the payload."""
        ephemeral = self.take(message[:32])
        self.mix_key(self.e, ephemeral)
        self.mix_key(self.s, ephemeral)
        return self.decrypt(message[32:])

    def split(self) -> tuple[bytes, bytes]:
        """Return the initiator's key to send by, and the responder's."""
        one, two = hkdf(self.ck, b"")
        return one[:32], two[:32]


# --- 18.3 to 18.7 ----------------------------------------------------------------------------


def start(kind: int, flags: int = 0) -> bytes:
    return b"ENV\x01" + bytes([kind, flags])


def prologue(ctx: bytes, initiator: bytes, responder: bytes, head: bytes) -> bytes:
    """18.4."""
    return H(64, "env1-session", ctx, initiator, responder, head)


def streams(handshake_hash: bytes) -> tuple[bytes, bytes]:
    """18.5."""
    both = H(32, "env1-streams", handshake_hash)
    return both[:16], both[16:]


def frames(bound: Sequence[bytes]) -> bytes:
    """18.6, FRAMES."""
    return u32(len(bound)) + b"".join(u64(len(f)) + f for f in bound) if bound else b""


def seal(
    key: bytes, session_id: bytes, counter: int, bound: Sequence[bytes], flags: int, text: bytes
) -> bytes:
    """18.6."""
    head = start(DATA, flags) + counter.to_bytes(6, "big") + session_id
    return head + encrypt(text, head + frames(bound), nonce(counter), key)


def unseal(key: bytes, data: bytes, bound: Sequence[bytes]) -> bytes:
    """18.6."""
    return decrypt(data[20:], data[:20] + frames(bound), nonce(number(data[6:12])), key)


def message_id(stream: bytes, counter: int) -> bytes:
    """18.6."""
    return H(32, "env1-message", stream, u64(counter))


def hint(own: Identity, ctx: bytes, data: bytes) -> bytes:
    """18.7."""
    head = start(HINT) + own.key_id + data[:20]
    signed = b"envelope/v1/hint" + H(64, "env1-hint", own.pub, ctx, head)
    return head + sodium.crypto_sign(signed, own.ed_secret)[:64]


# --- What stands in session.json -------------------------------------------------------------

SAID = (
    ("initiator", 0, (), 0, b"first"),
    ("responder", 0, (), CONTROL, b""),
    ("initiator", 1, (b"topic",), 0, b""),
    ("responder", 1, (b"", b"topic"), REPLY, noise("request", 32) + b"reply"),
    ("initiator", 2**32, (b"",) * 64, 0, bytes(300)),
    ("responder", 2**40 - 1, (), REPLY, noise("request", 32)),
)


def session(i: Identity, r: Identity, context: str, sequence: int, sent_at: int) -> Json:
    """Return one session from both seeds to data and a hint."""
    ctx = context_hash(context, ())
    head = start(INITIATION) + i.key_id + r.key_id
    e_i, e_r, id_i, id_r = (noise(f"{context} {n}", 32) for n in ("e i", "e r", "id i", "id r"))
    id_i, id_r = id_i[:8], id_r[:8]
    stream_i, stream_r = noise("stream i", 16), noise("stream r", 16)
    both = prologue(ctx, i.pub, r.pub, head)
    one, two = Noise(i, e_i, both, r.pub[32:]), Noise(r, e_r, both, r.pub[32:])
    offer = id_i + stream_i + u64(sequence) + u64(sent_at)
    initiation = head + one.write_first(r.pub[32:], offer)
    ephemeral, static, _ = two.read_first(initiation[38:])
    response = start(RESPONSE) + id_i
    response += two.write_second(ephemeral, static, id_r + u64(sent_at) + stream_r)
    one.read_second(response[14:])
    keys = dict(zip(("initiator", "responder"), one.split(), strict=True))
    names = dict(zip(("initiator", "responder"), streams(one.h), strict=True))
    messages = []
    for who, counter, bound, flags, text in SAID:
        data = seal(keys[who], id_r if who == "initiator" else id_i, counter, bound, flags, text)
        message = {"from": who, "counter": counter, "bound": list(bound), "flags": flags}
        named = {"plaintext": text, "data": data, "id": message_id(names[who], counter)}
        messages.append(message | named)
    row = {"initiator": i.seed, "responder": r.seed, "context": context, "ctx": ctx}
    row |= {"initiator_ephemeral": e_i, "responder_ephemeral": e_r, "prologue": both}
    row |= {"initiator_session": id_i, "responder_session": id_r, "sequence": sequence}
    row |= {"initiator_stream": stream_i, "responder_stream": stream_r, "sent_at": sent_at}
    row |= {"initiation": initiation, "response": response, "handshake_hash": one.h}
    row |= {"keys": keys, "streams": names, "messages": messages}
    built: Json = to_json(row | {"hint": hint(r, ctx, messages[0]["data"])})
    return built


def build() -> Json:
    """Return the content of session.json."""
    return {
        "sessions": [
            session(ALICE, BOB, "orders", 0, NOW),
            session(BOB, ALICE, "\u00fcber.\u6ce8\u6587", 2**48 - 1, 2**53 - 1),
            session(CAROL, BOB, "c" * 255, 2**32, 0),
        ]
    }
