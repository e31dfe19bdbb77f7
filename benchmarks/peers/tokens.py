"""Peers that make a token or a frame with one key: PASETO, JOSE, Fernet and other MACs.

Rules of this file: those of the package. A payload is bytes, so claims such as an expiry,
which need a payload of JSON, are not used where they are not part of the token itself.
"""

from __future__ import annotations

import base64
from functools import partial
from typing import Any

from nacl.utils import random

from peers.ways import (
    AGE,
    ANYONE,
    CONTEXT,
    NO,
    OPT,
    SHARED,
    YES,
    Does,
    Ends,
    Start,
    Way,
    need,
    steady,
)

BOUND = CONTEXT.encode()
LARGEST = 4 * 2**20
"""Bytes that joserfc accepts, whose own limits are below our largest payload."""


def paseto_public() -> Start:
    """PASETO v4.public: Ed25519, with an implicit assertion."""
    pyseto = need("pyseto")
    form = need("cryptography.hazmat.primitives.serialization")
    ed25519 = need("cryptography.hazmat.primitives.asymmetric.ed25519")
    pair = ed25519.Ed25519PrivateKey.generate()
    private = pair.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    public = pair.public_key().public_bytes(
        form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo
    )
    return paseto(pyseto, pyseto.Key.new(4, "public", private), pyseto.Key.new(4, "public", public))


def paseto_local() -> Start:
    """PASETO v4.local: XChaCha20 and BLAKE2b under one key."""
    pyseto = need("pyseto")
    key = pyseto.Key.new(4, "local", random(32))
    return paseto(pyseto, key, key)


def paseto(pyseto: Any, ours: Any, theirs: Any) -> Start:
    """Return the ends of either purpose."""
    return steady(
        lambda payload: pyseto.encode(ours, payload, implicit_assertion=BOUND),
        lambda token: pyseto.decode(theirs, token, implicit_assertion=BOUND).payload,
    )


def jws() -> Start:
    """JWS, compact, with the algorithm that was EdDSA before RFC 9864."""
    jwk, jws = need("joserfc.jwk"), need("joserfc.jws")
    private = jwk.OKPKey.generate_key("Ed25519")
    public = jwk.OKPKey.import_key(private.as_dict(private=False))
    header, rules = {"alg": "Ed25519"}, jws.JWSRegistry(algorithms=["Ed25519"])
    rules.max_payload_length = LARGEST
    return steady(
        lambda payload: jws.serialize_compact(header, payload, private, registry=rules).encode(),
        lambda token: jws.deserialize_compact(token, public, registry=rules).payload,
    )


def jwe(agreement: str) -> Start:
    """JWE, compact, from an ephemeral X25519 key to one recipient."""
    jwk, jwe = need("joserfc.jwk"), need("joserfc.jwe")
    private = jwk.OKPKey.generate_key("X25519")
    public = jwk.OKPKey.import_key(private.as_dict(private=False))
    header, rules = (
        {"alg": agreement, "enc": "A256GCM"},
        jwe.JWERegistry(algorithms=[agreement, "A256GCM"]),
    )
    rules.max_ciphertext_length = LARGEST
    return steady(
        lambda payload: jwe.encrypt_compact(header, payload, public, registry=rules).encode(),
        lambda token: jwe.decrypt_compact(token, private, registry=rules).plaintext,
    )


def fernet() -> Start:
    """Fernet, which checks an age if it is told one."""
    module = need("cryptography.fernet")
    key = module.Fernet(module.Fernet.generate_key())
    return steady(key.encrypt, lambda token: key.decrypt(token, ttl=AGE))


def itsdangerous() -> Start:
    """TimestampSigner with its default digest; the salt is the context."""
    signer = need("itsdangerous").TimestampSigner(random(32), salt=BOUND)
    return steady(signer.sign, lambda token: signer.unsign(token, max_age=AGE))


def jupyter(*, in_buffer: bool) -> Start:
    """Jupyter's Session; what is no JSON goes into a buffer, or as base64 into the content."""
    module = need("jupyter_client.session")
    key = random(32)

    def start() -> Ends:
        sender, receiver = module.Session(key=key), module.Session(key=key)

        def write_buffer(payload: bytes) -> list[bytes]:
            return [*sender.serialize(sender.msg(CONTEXT)), payload]

        def write_content(payload: bytes) -> list[bytes]:
            content = {"data": base64.b64encode(payload).decode()}
            return list(sender.serialize(sender.msg(CONTEXT, content=content)))

        def message(frames: list[bytes]) -> Any:
            return receiver.deserialize(receiver.feed_identities(frames)[1])

        def read_buffer(frames: list[bytes]) -> Any:
            return message(frames)["buffers"][0]

        def read_content(frames: list[bytes]) -> bytes:
            return base64.b64decode(message(frames)["content"]["data"])

        return (write_buffer, read_buffer) if in_buffer else (write_content, read_content)

    return start


REMEMBERS = "the receiver remembers a bounded number of messages, in its memory"
ONE_KEY = Does(encrypted=YES, to="key")

WAYS = (
    Way("PASETO v4.public", Does(signed=YES, context=YES, stale=OPT), paseto_public),
    Way("PASETO v4.local", ONE_KEY._replace(context=YES, stale=OPT), paseto_local, note=SHARED),
    Way("JWS Ed25519", Does(signed=YES, context=OPT), jws),
    Way(
        "JWE ECDH-ES+A256KW",
        Does(encrypted=YES, to="1", context=OPT),
        partial(jwe, "ECDH-ES+A256KW"),
        note=ANYONE,
    ),
    Way(
        "JWE ECDH-ES",
        Does(encrypted=YES, to="1", context=OPT),
        partial(jwe, "ECDH-ES"),
        note=ANYONE,
    ),
    Way("Fernet", ONE_KEY._replace(stale=YES), fernet, note=SHARED),
    Way("itsdangerous TimestampSigner", Does(context=YES, stale=YES), itsdangerous, note=SHARED),
    Way(
        "Jupyter Session (content)",
        Does(replayed=YES),
        partial(jupyter, in_buffer=False),
        note=f"{SHARED}; {REMEMBERS}",
    ),
    Way(
        "Jupyter Session (buffer)",
        Does(replayed=YES, changed=NO),
        partial(jupyter, in_buffer=True),
        note=f"its HMAC covers header and content, and no buffer; {SHARED}; {REMEMBERS}",
    ),
)
