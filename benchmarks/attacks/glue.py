"""What one writes by hand: HMAC around pickle, sign and Box, one content key for a group.

Rules of this file: the steps are those of the pages named, with no check left out that
they ask for, and none added that they do not speak of.
"""

from __future__ import annotations

import hashlib
import hmac
import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

import nacl.bindings as sodium
from nacl.public import Box, PrivateKey, PublicKey
from nacl.signing import SigningKey, VerifyKey
from nacl.utils import random

from attacks.generic import BOMB, RECIPIENT, TWO
from attacks.subject import (
    MEMBERS,
    STRANGER,
    Doubled,
    Heard,
    Note,
    Page,
    Reader,
    RefusedError,
    Subject,
    Wire,
    Writer,
)
from attacks.tokens import BYTES, NOBODY, ONE_KEY, ONE_READING, PLAIN

DIGEST = "sha256"
MAC_SIZE = hashlib.sha256().digest_size


class HmacPickle(Subject):
    """A MAC before a pickle, compared before it is loaded."""

    name = "HMAC + pickle by hand"
    used_as = "HMAC-SHA256 by `compare_digest` before `pickle.loads`; one key for the group"
    pages = (
        Page("hmac", "https://docs.python.org/3/library/hmac.html"),
        Page("pickle", "https://docs.python.org/3/library/pickle.html"),
    )
    absent: ClassVar[Mapping[str, str]] = {RECIPIENT: ONE_KEY, TWO: PLAIN}
    decoder: ClassVar[Callable[..., Any] | None] = staticmethod(pickle.loads)

    def __init__(self, stack: ExitStack) -> None:
        """Make the key, and a stranger's own."""
        del stack
        self.keys = random(32)
        self.strange = random(32)

    def writer(self, who: str) -> Writer:
        """Return how a member pickles and signs."""
        key = self.strange if who == STRANGER else self.keys

        def write(note: Note) -> Wire:
            data = pickle.dumps([note.sender, note.payload])
            if note.nested:
                # By hand, for no pickler goes so deep: each "]" begins a list, each "a" appends.
                lists = b"]" * note.nested + b"a" * (note.nested - 1)
                data = b"\x80\x04]X\5\0\0\0alicea" + lists + b"a."
            mac = hmac.digest(key, data, DIGEST)
            return Wire(note.topic.encode(), [mac + data])

        return write

    @staticmethod
    @contextmanager
    def reader(keys: Any, who: str) -> Iterator[Reader]:
        """Compare, then load."""
        del who

        def read(wire: Wire) -> Heard:
            mac, data = wire.frames[0][:MAC_SIZE], wire.frames[0][MAC_SIZE:]
            if not hmac.compare_digest(mac, hmac.digest(keys, data, DIGEST)):
                raise RefusedError("the MAC is another one")
            sender, payload = pickle.loads(data)  # noqa: S301 (the peer's way)
            return Heard(payload, sender)

        yield read

    def weaker(self) -> Mapping[str, Wire]:
        """Return it without a MAC, and with zeros for one."""
        wire = self.writer("alice")(Note())
        data = wire.frames[0][MAC_SIZE:]
        return {
            "no MAC": wire._replace(frames=[data]),
            "zeros for a MAC": wire._replace(frames=[bytes(MAC_SIZE) + data]),
        }


PYNACL = (
    Page("PyNaCl: signing", "https://pynacl.readthedocs.io/en/latest/signing/"),
    Page("PyNaCl: Box", "https://pynacl.readthedocs.io/en/latest/public/"),
)


def pairs() -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Return a key to sign and one for a Box, for each."""
    names = (*MEMBERS, STRANGER)
    return (
        {name: bytes(SigningKey.generate()) for name in names},
        {name: bytes(PrivateKey.generate()) for name in names},
    )


def public_halves(signing: Mapping[str, bytes], boxes: Mapping[str, bytes]) -> dict[str, Any]:
    """Return what all members know of each other, and the secrets for Boxes."""
    return {
        "verify": {name: bytes(SigningKey(signing[name]).verify_key) for name in MEMBERS},
        "public": {name: bytes(PrivateKey(boxes[name]).public_key) for name in MEMBERS},
        "secret": {name: boxes[name] for name in MEMBERS},
    }


class SignBox(Subject):
    """Signed, and that in a Box to the recipient. The sender's name stands beside it."""

    name = "PyNaCl sign + Box by hand"
    used_as = "`SigningKey.sign`, then `Box.encrypt` to the recipient"
    pages = PYNACL
    absent: ClassVar[Mapping[str, str]] = {TWO: ONE_READING, BOMB: BYTES}

    def __init__(self, stack: ExitStack) -> None:
        """Make keys for each."""
        del stack
        self.signing, self.boxes = pairs()
        self.keys = public_halves(self.signing, self.boxes)

    def writer(self, who: str) -> Writer:
        """Return how a member signs and encrypts."""
        signing, secret = SigningKey(self.signing[who]), PrivateKey(self.boxes[who])

        def write(note: Note) -> Wire:
            box = Box(secret, PublicKey(self.keys["public"][note.to]))
            data = bytes(box.encrypt(signing.sign(note.payload)))
            return Wire(note.topic.encode(), [note.sender.encode() + b":" + data])

        return write

    @staticmethod
    @contextmanager
    def reader(keys: Any, who: str) -> Iterator[Reader]:
        """Decrypt with the Box of the one named, and verify by the key of the one named."""
        secret = PrivateKey(keys["secret"][who])

        def read(wire: Wire) -> Heard:
            name, _, data = wire.frames[0].partition(b":")
            if (sender := name.decode(errors="replace")) not in keys["verify"]:
                raise RefusedError(NOBODY)
            box = Box(secret, PublicKey(keys["public"][sender]))
            return Heard(VerifyKey(keys["verify"][sender]).verify(box.decrypt(data)), sender)

        yield read

    def weaker(self) -> Mapping[str, Wire]:
        """Return what is signed and not in a Box, and what is neither."""
        note = Note()
        topic, name = note.topic.encode(), note.sender.encode() + b":"
        signed = bytes(SigningKey(self.signing["alice"]).sign(note.payload))
        return {
            "no Box": Wire(topic, [name + signed]),
            "no Box and no signature": Wire(topic, [name + note.payload]),
        }


class GroupByHand(Subject):
    """A content key in a Box for each, and the payload once, by XChaCha20-Poly1305."""

    name = "content key for a group by hand"
    used_as = "XChaCha20-Poly1305 under a content key, that in a Box for each recipient; all signed"
    pages = (
        *PYNACL,
        Page("libsodium: AEAD", "https://doc.libsodium.org/secret-key_cryptography/aead"),
    )
    absent: ClassVar[Mapping[str, str]] = {BOMB: BYTES}

    def __init__(self, stack: ExitStack) -> None:
        """Make keys for each."""
        del stack
        self.signing, self.boxes = pairs()
        self.keys = public_halves(self.signing, self.boxes)

    def wrapped(self, who: str, content: Mapping[str, bytes]) -> list[bytes]:
        """Return a frame for each recipient: its name, and a content key in a Box."""
        secret = PrivateKey(self.boxes[who])
        return [
            name.encode()
            + b":"
            + bytes(Box(secret, PublicKey(self.keys["public"][name])).encrypt(key))
            for name, key in content.items()
        ]

    def finish(self, who: str, note: Note, nonce: bytes, body: bytes, keys: list[bytes]) -> Wire:
        """Return a message, signed."""
        text = b"".join([note.sender.encode(), *keys, nonce, body])
        signature = SigningKey(self.signing[who]).sign(text).signature
        frames = [note.sender.encode(), signature, nonce, body, *keys]
        return Wire(note.topic.encode(), frames)

    def writer(self, who: str) -> Writer:
        """Return how a member encrypts for a recipient, and signs."""

        def write(note: Note) -> Wire:
            key, nonce = random(32), random(24)
            body = sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(note.payload, b"", nonce, key)
            return self.finish(who, note, nonce, body, self.wrapped(who, {note.to: key}))

        return write

    @staticmethod
    @contextmanager
    def reader(keys: Any, who: str) -> Iterator[Reader]:
        """Verify, find one's own content key, decrypt."""
        secret = PrivateKey(keys["secret"][who])

        def read(wire: Wire) -> Heard:
            name, signature, nonce, body, *wrapped = wire.frames
            if (sender := name.decode(errors="replace")) not in keys["verify"]:
                raise RefusedError(NOBODY)
            text = b"".join([name, *wrapped, nonce, body])
            VerifyKey(keys["verify"][sender]).verify(text, signature)
            found = dict(entry.split(b":", 1) for entry in wrapped)
            if who.encode() not in found:
                raise RefusedError("no content key for this recipient")
            box = Box(secret, PublicKey(keys["public"][sender]))
            key = box.decrypt(found[who.encode()])
            payload = sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(body, b"", nonce, key)
            return Heard(payload, sender)

        yield read

    def weaker(self) -> Mapping[str, Wire]:
        """Return it without a signature, and with zeros for one."""
        wire = self.writer("alice")(Note())
        name, signature, *rest = wire.frames
        return {
            "no signature": wire._replace(frames=[name, b"", *rest]),
            "zeros for a signature": wire._replace(frames=[name, bytes(len(signature)), *rest]),
        }

    def doubled(self) -> Doubled:
        """Return another content key for each."""
        keys, nonce = (random(32), random(32)), random(24)
        wrapped = self.wrapped("alice", dict(zip(("bob", "carol"), keys, strict=True)))
        return Doubled(
            keys=keys,
            nonce=nonce,
            aad=b"",
            finish=lambda body: self.finish("alice", Note(), nonce, body, wrapped),
        )


SUBJECTS: tuple[type[Subject], ...] = (HmacPickle, SignBox, GroupByHand)
