"""Tokens: Fernet, itsdangerous, PASETO, JWS and JWE.

Rules of this file: those of the package. A token says how long it is good for, and where a
library has a place for what a token is for, topic and recipient stand there and are asked
for by the receiver. What a topic is bound by, and the key of a sender by name, stand in
``used_as``.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Any, ClassVar

from nacl.utils import random
from peers.ways import need

from attacks.generic import BOMB, RECIPIENT, TWO
from attacks.subject import (
    MAX_AGE,
    MEMBERS,
    STRANGER,
    Heard,
    Note,
    Page,
    Reader,
    RefusedError,
    Subject,
    Wire,
    Writer,
    nested_json,
)

ONE_KEY = "one key for all who read, so there are no recipients"
ONE_READING = "one key opens it, and the receiver has no other"
BYTES = "it hands out bytes and decodes nothing"
NO_STRANGER = "whoever has the public key may write, so nobody is a stranger"
NOBODY = "no key of this name"
PLAIN = "nothing is encrypted"


def base64url(data: bytes) -> bytes:
    """Encode as tokens do, without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def claims_of(note: Note, expiry: Any) -> dict[str, Any]:
    """Return the claims of a message."""
    data = note.payload.decode()
    return {"iss": note.sender, "aud": note.to, "exp": expiry, "topic": note.topic, "data": data}


def nested_claims(claims: dict[str, Any], depth: int) -> bytes:
    """Return claims as text, with lists in lists for the data; no encoder would write it."""
    return json.dumps({**claims, "data": "@"}).replace('"@"', nested_json(depth)).encode()


def payload_of(claims: Mapping[str, Any]) -> Any:
    """Return what claims carry."""
    data = claims["data"]
    return data.encode() if isinstance(data, str) else data


class Fernet(Subject):
    """One key, and an age that the receiver asks for."""

    name = "Fernet"
    used_as = "`decrypt(token, ttl=...)`; one key for the group"
    pages = (Page("Fernet", "https://cryptography.io/en/latest/fernet/"),)
    absent: ClassVar[Mapping[str, str]] = {RECIPIENT: ONE_KEY, TWO: ONE_READING, BOMB: BYTES}

    def __init__(self, stack: ExitStack) -> None:
        """Make the key."""
        del stack
        self.keys = need("cryptography.fernet").Fernet.generate_key()

    def writer(self, who: str) -> Writer:
        """Return how a member encrypts, at the time that the note is of."""
        del who
        fernet = need("cryptography.fernet").Fernet(self.keys)

        def write(note: Note) -> Wire:
            text = json.dumps([note.sender, note.payload.decode()]).encode()
            token = fernet.encrypt_at_time(text, int(time.time()) - note.age)
            return Wire(note.topic.encode(), [token])

        return write

    @staticmethod
    @contextmanager
    def reader(keys: Any, who: str) -> Iterator[Reader]:
        """Decrypt."""
        del who
        fernet = need("cryptography.fernet").Fernet(keys)

        def read(wire: Wire) -> Heard:
            sender, payload = json.loads(fernet.decrypt(wire.frames[0], ttl=MAX_AGE))
            return Heard(payload.encode(), sender)

        yield read

    def weaker(self) -> Mapping[str, Wire]:
        """Return another version, and the text without encryption."""
        note = Note()
        wire = self.writer("alice")(note)
        raw = base64.urlsafe_b64decode(wire.frames[0])
        text = json.dumps([note.sender, note.payload.decode()]).encode()
        return {
            "another version": wire._replace(frames=[base64.urlsafe_b64encode(b"\x81" + raw[1:])]),
            "no encryption": wire._replace(frames=[base64.urlsafe_b64encode(text)]),
        }


class TimestampSigner(Subject):
    """One key; the salt keeps topics apart."""

    name = "itsdangerous TimestampSigner"
    used_as = "`unsign(..., max_age=...)`; the salt is the topic; one key for the group"
    pages = (
        Page("timestamps", "https://itsdangerous.palletsprojects.com/en/stable/timed/"),
        Page("salt", "https://itsdangerous.palletsprojects.com/en/stable/concepts/#the-salt"),
    )
    absent: ClassVar[Mapping[str, str]] = {RECIPIENT: ONE_KEY, TWO: PLAIN, BOMB: BYTES}

    def __init__(self, stack: ExitStack) -> None:
        """Make the key."""
        del stack
        self.keys = random(32)

    def writer(self, who: str) -> Writer:
        """Return how a member signs; ``get_timestamp`` may be overridden, and says when."""
        del who
        base = need("itsdangerous").TimestampSigner

        def write(note: Note) -> Wire:
            signer = base(self.keys, salt=note.topic.encode())
            signer.get_timestamp = lambda: int(time.time()) - note.age
            return Wire(note.topic.encode(), [signer.sign(self.text(note))])

        return write

    @staticmethod
    def text(note: Note) -> bytes:
        """Return what is signed."""
        return json.dumps([note.sender, note.payload.decode()]).encode()

    @staticmethod
    @contextmanager
    def reader(keys: Any, who: str) -> Iterator[Reader]:
        """Verify under the salt of the topic that it came on."""
        del who
        base = need("itsdangerous").TimestampSigner

        def read(wire: Wire) -> Heard:
            signer = base(keys, salt=wire.topic)
            sender, payload = json.loads(signer.unsign(wire.frames[0], max_age=MAX_AGE))
            return Heard(payload.encode(), sender)

        yield read

    def weaker(self) -> Mapping[str, Wire]:
        """Return the text alone, and with an empty signature."""
        wire = self.writer("alice")(Note())
        signed = wire.frames[0].rpartition(b".")[0]
        return {
            "no signature": wire._replace(frames=[self.text(Note())]),
            "an empty signature": wire._replace(frames=[signed + b"."]),
        }


class Paseto(Subject):
    """What both purposes share. The footer names the key; the topic is the implicit assertion."""

    pages = (
        Page("PySETO", "https://pyseto.readthedocs.io/en/stable/paseto_usage.html"),
        Page("PASETO", "https://github.com/paseto-standard/paseto-spec"),
    )
    decoder = staticmethod(json.loads)
    purpose: ClassVar[str]

    def encode(self, who: str, kid: str, topic: str, claims: Any) -> Wire:
        """Return a token under somebody's key."""
        key = need("pyseto").Key.new(4, self.purpose, self.secrets[who])
        token = need("pyseto").encode(key, claims, footer=json.dumps(kid), implicit_assertion=topic)
        return Wire(topic.encode(), [token])

    secrets: Mapping[str, bytes]

    def writer(self, who: str) -> Writer:
        """Return how a member writes."""

        def write(note: Note) -> Wire:
            when = datetime.fromtimestamp(int(time.time()) - note.age + MAX_AGE, UTC)
            claims: Any = claims_of(note, when.isoformat())
            if note.nested:
                claims = nested_claims(claims, note.nested)
            return self.encode(who, note.sender, note.topic, claims)

        return write

    @staticmethod
    @contextmanager
    def reader(keys: Any, who: str) -> Iterator[Reader]:
        """Find the key by the footer, and decode with claims."""
        pyseto = need("pyseto")
        names = {json.dumps(name).encode(): name for name in MEMBERS}
        known = {
            name: pyseto.Key.new(4, keys["purpose"], key) for name, key in keys["known"].items()
        }

        def read(wire: Wire) -> Heard:
            token = wire.frames[0]
            # Compared, not parsed: nothing has been authenticated yet.
            if (sender := names.get(pyseto.Token.new(token).footer)) is None:
                raise RefusedError(NOBODY)
            found = pyseto.decode(
                known[sender], token, implicit_assertion=wire.topic, deserializer=json, aud=who
            )
            return Heard(payload_of(found.payload), sender)

        yield read

    def weaker(self) -> Mapping[str, Wire]:
        """Return tokens that claim another version or purpose."""
        wire = self.writer("alice")(Note())
        rest = wire.frames[0].split(b".", 2)[2]
        headers = {b"v1.public", b"v2.public", b"v3.public", b"v4.public", b"v2.local", b"v4.local"}
        headers.discard(f"v4.{self.purpose}".encode())
        return {
            header.decode(): wire._replace(frames=[header + b"." + rest])
            for header in sorted(headers)
        }


class PasetoPublic(Paseto):
    """Ed25519."""

    name = "PASETO v4.public"
    used_as = "`exp`, `aud`; the implicit assertion is the topic; a key for each sender, by footer"
    absent: ClassVar[Mapping[str, str]] = {TWO: PLAIN}
    purpose = "public"

    def __init__(self, stack: ExitStack) -> None:
        """Make a pair for each."""
        del stack
        form = need("cryptography.hazmat.primitives.serialization")
        ed25519 = need("cryptography.hazmat.primitives.asymmetric.ed25519")
        pem, secrets, known = form.Encoding.PEM, {}, {}
        for name in (*MEMBERS, STRANGER):
            pair = ed25519.Ed25519PrivateKey.generate()
            secrets[name] = pair.private_bytes(pem, form.PrivateFormat.PKCS8, form.NoEncryption())
            known[name] = pair.public_key().public_bytes(
                pem, form.PublicFormat.SubjectPublicKeyInfo
            )
        del known[STRANGER]
        self.secrets = secrets
        self.keys = {"purpose": self.purpose, "known": known}


class PasetoLocal(Paseto):
    """XChaCha20 and BLAKE2b."""

    name = "PASETO v4.local"
    used_as = "`exp`, `aud`; the implicit assertion is the topic; one key for the group"
    absent: ClassVar[Mapping[str, str]] = {TWO: ONE_READING}
    purpose = "local"

    def __init__(self, stack: ExitStack) -> None:
        """Make the key, and a stranger's own."""
        del stack
        key = random(32)
        known = dict.fromkeys(MEMBERS, key)
        self.secrets = {**known, STRANGER: random(32)}
        self.keys = {"purpose": self.purpose, "known": known}


JOSE = (
    Page("joserfc: JWT", "https://jose.authlib.org/en/guide/jwt/"),
    Page("RFC 8725", "https://www.rfc-editor.org/rfc/rfc8725"),
)


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
    used_as = "`exp`, `aud`, a claim for the topic, all asked for; a key for each recipient"
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


SUBJECTS: tuple[type[Subject], ...] = (Fernet, TimestampSigner, PasetoPublic, PasetoLocal, Jws, Jwe)
