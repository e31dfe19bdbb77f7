"""Tokens: Fernet, itsdangerous and PASETO.

Rules of this file: those of the package. A token says how long it is good for, and where a
library has a place for what a token is for, topic and recipient stand there and are asked
for by the receiver. What a topic is bound by, and the key of a sender by name, stand in
``used_as``.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator, Mapping
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
NOBODY = "no key of this name"
PLAIN = "nothing is encrypted"


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


SUBJECTS: tuple[type[Subject], ...] = (Fernet, TimestampSigner, PasetoPublic, PasetoLocal)
