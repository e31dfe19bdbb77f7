"""JOSE: a JWT that is signed, and one that is encrypted.

Rules of this file: those of ``tokens``. Whatever is asked of the claims is asked by
joserfc's own registry.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

from peers.ways import need

from attacks.generic import BOMB, TWO
from attacks.subject import (
    MAX_AGE,
    MEMBERS,
    STRANGER,
    Heard,
    Note,
    Page,
    Reader,
    Subject,
    Wire,
    Writer,
    nested_json,
)
from attacks.tokens import ONE_READING, PLAIN, claims_of, nested_claims, payload_of

NO_STRANGER = "whoever has the public key may write, so nobody is a stranger"
JOSE = (
    Page("joserfc: JWT", "https://jose.authlib.org/en/guide/jwt/"),
    Page("RFC 8725", "https://www.rfc-editor.org/rfc/rfc8725"),
)


def base64url(data: bytes) -> bytes:
    """Encode as tokens do, without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")


class Jws(Subject):
    """A JWT that is signed. The header names the key."""

    name = "JWS (JWT, Ed25519)"
    used_as = "`exp`, `aud`, a claim for the topic, all asked for; a key for each sender, by `kid`"
    pages = JOSE
    absent: ClassVar[Mapping[str, str]] = {TWO: PLAIN}
    decoder = staticmethod(json.loads)

    def __init__(self, stack: ExitStack) -> None:
        """Make a pair for each."""
        del stack
        jwk = need("joserfc.jwk")
        pairs = {
            name: jwk.OKPKey.generate_key("Ed25519", {"kid": name}) for name in (*MEMBERS, STRANGER)
        }
        self.secrets = {name: pair.as_dict(private=True) for name, pair in pairs.items()}
        self.keys = {"keys": [pairs[name].as_dict(private=False) for name in MEMBERS]}

    def writer(self, who: str) -> Writer:
        """Return how a member signs."""
        jwt, jws = need("joserfc.jwt"), need("joserfc.jws")
        # The key goes by the name that the note is written under, true or not.
        secret = {name: value for name, value in self.secrets[who].items() if name != "kid"}
        key = need("joserfc.jwk").OKPKey.import_key(secret)

        def write(note: Note) -> Wire:
            claims = claims_of(note, int(time.time()) - note.age + MAX_AGE)
            header = {"alg": "Ed25519", "kid": note.sender}
            if note.nested:
                text = nested_claims(claims, note.nested)
                token = jws.serialize_compact(header, text, key, ["Ed25519"])
            else:
                token = jwt.encode(header, claims, key, ["Ed25519"])
            return Wire(note.topic.encode(), [token.encode()])

        return write

    @staticmethod
    @contextmanager
    def reader(keys: Any, who: str) -> Iterator[Reader]:
        """Verify by the key of the header's name, then validate the claims."""
        jwt = need("joserfc.jwt")
        known = need("joserfc.jwk").KeySet.import_key_set(keys)

        def read(wire: Wire) -> Heard:
            token = jwt.decode(wire.frames[0], known, algorithms=["Ed25519"])
            validate(token.claims, wire, who)
            return Heard(payload_of(token.claims), token.header["kid"])

        yield read

    def bombs(self, who: str, depth: int) -> Sequence[Wire]:
        """Return besides one whose header is a bomb."""
        wires = list(super().bombs(who, depth))
        header = f'{{"alg": "Ed25519", "kid": "alice", "x": {nested_json(depth)}}}'
        rest = wires[0].frames[0].split(b".", 1)[1]
        return [*wires, wires[0]._replace(frames=[base64url(header.encode()) + b"." + rest])]

    def weaker(self) -> Mapping[str, Wire]:
        """Return "none", and a MAC whose key is the public key (RFC 8725, 2.1)."""
        note = Note()
        jwt, jwk = need("joserfc.jwt"), need("joserfc.jwk")
        wire = self.writer("alice")(note)
        body = wire.frames[0].split(b".")[1]
        header = base64url(json.dumps({"alg": "none", "kid": "alice"}).encode())
        public = next(key["x"] for key in self.keys["keys"] if key["kid"] == "alice")
        secret = jwk.OctKey.import_key(base64.urlsafe_b64decode(public + "="))
        claims = claims_of(note, int(time.time()) + MAX_AGE)
        mac = jwt.encode({"alg": "HS256", "kid": "alice"}, claims, secret, ["HS256"])
        return {
            "alg none": wire._replace(frames=[header + b"." + body + b"."]),
            "HS256 under the public key": wire._replace(frames=[mac.encode()]),
        }


class Jwe(Subject):
    """A JWT that is encrypted to its recipient, by ECDH with an ephemeral key."""

    name = "JWE (JWT, ECDH-ES)"
    used_as = "as the JWS, but encrypted to its recipient's key, with no signature inside"
    pages = JOSE
    absent: ClassVar[Mapping[str, str]] = {TWO: ONE_READING, BOMB: NO_STRANGER}
    algorithms = ("ECDH-ES+A256KW", "A256GCM")

    def __init__(self, stack: ExitStack) -> None:
        """Make a pair for each."""
        del stack
        jwk = need("joserfc.jwk")
        pairs = {name: jwk.OKPKey.generate_key("X25519") for name in MEMBERS}
        self.public = {name: pair.as_dict(private=False) for name, pair in pairs.items()}
        self.keys = {name: pair.as_dict(private=True) for name, pair in pairs.items()}

    def writer(self, who: str) -> Writer:
        """Return how anyone encrypts: whoever has a public key can."""
        del who
        jwt, jwe, jwk = need("joserfc.jwt"), need("joserfc.jwe"), need("joserfc.jwk")
        registry = jwe.JWERegistry(algorithms=list(self.algorithms))
        header = dict(zip(("alg", "enc"), self.algorithms, strict=True))

        def write(note: Note) -> Wire:
            key = jwk.OKPKey.import_key(self.public[note.to])
            claims = claims_of(note, int(time.time()) - note.age + MAX_AGE)
            token = jwt.encode(header, claims, key, registry=registry)
            return Wire(note.topic.encode(), [token.encode()])

        return write

    @staticmethod
    @contextmanager
    def reader(keys: Any, who: str) -> Iterator[Reader]:
        """Decrypt with one's own key, then validate the claims."""
        jwt = need("joserfc.jwt")
        key = need("joserfc.jwk").OKPKey.import_key(keys[who])
        registry = need("joserfc.jwe").JWERegistry(algorithms=list(Jwe.algorithms))

        def read(wire: Wire) -> Heard:
            token = jwt.decode(wire.frames[0], key, registry=registry)
            validate(token.claims, wire, who)
            return Heard(payload_of(token.claims), token.claims["iss"])

        yield read

    def weaker(self) -> Mapping[str, Wire]:
        """Return what is not encrypted, and another algorithm."""
        wire = self.writer("alice")(Note())
        claims = json.dumps(claims_of(Note(), int(time.time()) + MAX_AGE)).encode()
        none = base64url(b'{"alg": "none"}') + b"." + base64url(claims) + b"."
        rest = wire.frames[0].split(b".", 1)[1]
        dir_ = base64url(b'{"alg": "dir", "enc": "A256GCM"}') + b"." + rest
        return {"alg none": wire._replace(frames=[none]), "dir": wire._replace(frames=[dir_])}


def validate(claims: Any, wire: Wire, who: str) -> None:
    """Ask for expiry, audience and topic, as joserfc's guide does."""
    registry = need("joserfc.jwt").JWTClaimsRegistry(
        exp={"essential": True},
        aud={"essential": True, "value": who},
        topic={"essential": True, "value": wire.topic.decode()},
    )
    registry.validate(claims)


SUBJECTS: tuple[type[Subject], ...] = (Jws, Jwe)
