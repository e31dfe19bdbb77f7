"""Peers whose ends agree on a key: HPKE, once for each message or once for all, and Megolm.

Rules of this file: those of the package. A way that agrees once makes its context or its
session when its ends are made, which is outside the clock, as are our key epochs.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from peers.ways import ANYONE, CONTEXT, OPT, STOPS, YES, Does, Ends, Start, Way, need, steady

INFO = CONTEXT.encode()
ENCAPSULATED = 32


def suite() -> tuple[Any, Any, Any]:
    """Return pyhpke's cipher suite, and the keys of sender and recipient."""
    pyhpke = need("pyhpke")
    x25519 = need("cryptography.hazmat.primitives.asymmetric.x25519")
    made = pyhpke.CipherSuite.new(
        pyhpke.KEMId.DHKEM_X25519_HKDF_SHA256,
        pyhpke.KDFId.HKDF_SHA256,
        pyhpke.AEADId.CHACHA20_POLY1305,
    )

    def pair() -> tuple[Any, Any]:
        key = x25519.X25519PrivateKey.generate()
        convert = pyhpke.KEMKey.from_pyca_cryptography_key
        return convert(key), convert(key.public_key())

    return made, pair(), pair()


def hpke(*, auth: bool, once: bool) -> Start:
    """HPKE by pyhpke, in mode base or auth."""
    made, (my_secret, my_public), (secret, public) = suite()
    sender = {"sks": my_secret} if auth else {}
    receiver = {"pks": my_public} if auth else {}

    def start() -> Ends:
        encapsulated, there = made.create_sender_context(public, info=INFO, **sender)
        here = made.create_recipient_context(encapsulated, secret, info=INFO, **receiver)
        return there.seal, here.open

    def write(payload: bytes) -> bytes:
        encapsulated, context = made.create_sender_context(public, info=INFO, **sender)
        return bytes(encapsulated + context.seal(payload))

    def read(data: bytes) -> bytes:
        context = made.create_recipient_context(data[:ENCAPSULATED], secret, info=INFO, **receiver)
        return bytes(context.open(data[ENCAPSULATED:]))

    return start if once else steady(write, read)


def hpke_cryptography() -> Start:
    """HPKE by cryptography, which has mode base for one message at a time."""
    module = need("cryptography.hazmat.primitives.hpke")
    x25519 = need("cryptography.hazmat.primitives.asymmetric.x25519")
    made = module.Suite(module.KEM.X25519, module.KDF.HKDF_SHA256, module.AEAD.CHACHA20_POLY1305)
    secret = x25519.X25519PrivateKey.generate()
    public = secret.public_key()
    return steady(
        lambda payload: made.encrypt(payload, public, info=INFO),
        lambda data: made.decrypt(data, secret, info=INFO),
    )


def megolm() -> Start:
    """A Megolm group session of vodozemac."""
    vodozemac = need("vodozemac")
    parse = vodozemac.MegolmMessage.from_bytes

    def start() -> Ends:
        sender = vodozemac.GroupSession()
        receiver = vodozemac.InboundGroupSession(sender.session_key)
        return (
            lambda payload: sender.encrypt(payload).to_bytes(),
            lambda data: receiver.decrypt(parse(data)).plaintext,
        )

    return start


ONE = Does(encrypted=YES, to="1", context=YES)
KNOWN = "it knows its sender by a public key, which proves nothing to others"
ORDERED = "messages open in the order they were written in, and after a lost one none opens"

WAYS = (
    Way("HPKE base", ONE, partial(hpke, auth=False, once=False), note=ANYONE),
    Way("HPKE base (cryptography)", ONE, hpke_cryptography, note=ANYONE),
    Way("HPKE auth", ONE, partial(hpke, auth=True, once=False), note=KNOWN),
    Way(
        "HPKE base in a context",
        ONE._replace(replayed=YES, lost=STOPS),
        partial(hpke, auth=False, once=True),
        note=f"{ANYONE}; {ORDERED}",
    ),
    Way(
        "HPKE auth in a context",
        ONE._replace(replayed=YES, lost=STOPS),
        partial(hpke, auth=True, once=True),
        note=f"{KNOWN}; {ORDERED}",
    ),
    Way(
        "Megolm",
        Does(signed=YES, encrypted=YES, to="group", replayed=OPT, lost=OPT),
        megolm,
        note="its signing key belongs to one session, and reaches the receivers by other means",
    ),
)
