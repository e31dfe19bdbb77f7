"""This library: signed to Bob, and sealed to Bob.

Rules of this file: a receiver is a ``Node`` with its file of replay memory; the limits
are the defaults. What dishonest members make comes from the tests' forge, which is
written from SPEC.md and calls no sealer.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from peers.ways import need

from attacks.generic import TWO
from attacks.subject import (
    MEMBERS,
    OBJECTS,
    STRANGER,
    Doubled,
    Heard,
    Note,
    Page,
    Reader,
    Subject,
    Wire,
    Writer,
)
from envelope import Identity, Node, Policy, PublicIdentity, Sealer, clock
from envelope.codec import decode_object, encode_object

CONTEXT = "plant7.valves"
SECOND = 1_000_000


class Signed(Subject):
    """Signed and addressed, not sealed."""

    name = "envelope signed"
    used_as = "addressed; the topic bound; a `Node` with its replay file; `Policy(addressed=True)`"
    pages = (Page("SPEC", "SPEC.md"),)
    absent: ClassVar[Mapping[str, str]] = {TWO: "nothing is encrypted"}
    decoder = staticmethod(decode_object)
    is_ours = True
    sealed = False

    def __init__(self, stack: ExitStack) -> None:
        """Make nodes that know each other."""
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self.identities = {STRANGER: Identity.generate()}
        peers = []
        for name in MEMBERS:
            with Node.create(folder / name) as node:
                self.identities[name] = node.identity
            key = node.identity.public
            peers.append(f'[[peer]]\nname = "{name}"\nkey = "{key}"\ncontexts = ["{CONTEXT}"]\n')
        for name in MEMBERS:
            (folder / name / "peers.toml").write_text("\n".join(peers), encoding="utf-8")
        self.keys = {"folder": str(folder), "sealed": self.sealed}

    def public(self, name: str) -> PublicIdentity:
        """Return what anyone may know."""
        return self.identities[name].public

    def writer(self, who: str) -> Writer:
        """Return a sealer's work if it is Alice's, and a forge's for whoever may lie."""
        sealers: dict[tuple[str, int], Sealer] = {}
        numbers = itertools.count()

        def write(note: Note) -> Wire:
            topic, payload = note.topic.encode(), note.payload
            if note.nested:
                payload = b"\x91" * note.nested + b"\xc0"
            elif note.topic.startswith(OBJECTS):
                payload = encode_object(note.payload)
            if who != "alice":
                return Wire(topic, [self.forged(who, note, payload, next(numbers))])
            if (sealer := sealers.get((note.to, note.age))) is None:
                sealer = sealers[note.to, note.age] = Sealer(
                    self.identities[who],
                    context=CONTEXT,
                    to=[self.public(note.to)],
                    sealed=self.sealed,
                    clock=lambda: clock.wall() - note.age * SECOND,
                )
            return Wire(topic, [sealer.seal(payload, bound=[topic])])

        return write

    def forged(self, who: str, note: Note, payload: bytes, sequence: int) -> bytes:
        """Return what somebody signs under the name of the note."""
        forge = need("forge")
        claims, to = self.public(note.sender), self.public(note.to)
        made = forge.Forgery(
            self.identities[who],
            claims=claims,
            context=CONTEXT,
            bound=(note.topic.encode(),),
            recipients=1,
            sequence=sequence,
            sent_at=clock.wall(),
        )
        if not self.sealed:
            return bytes(replace(made, key_block=to.key_id, body=payload).encode())
        block = forge.key_block(claims, {to: forge.CONTENT_KEY})
        return bytes(replace(made, kind=2, key_block=block).encrypted(payload).encode())

    @staticmethod
    @contextmanager
    def reader(keys: Any, who: str) -> Iterator[Reader]:
        """Take up the node."""
        with Node.load(Path(keys["folder"]) / who) as node:
            policy = Policy(require="sealed" if keys["sealed"] else "signed", addressed=True)
            opener = node.opener(CONTEXT, policy=policy)

            def read(wire: Wire) -> Heard:
                message = opener.open(wire.frames[0], bound=[wire.topic])
                is_object = wire.topic.startswith(OBJECTS.encode())
                payload = message.object() if is_object else message.payload
                return Heard(payload, message.sender.name, message.skipped)

            yield read

    def weaker(self) -> Mapping[str, Wire]:
        """Return other versions and kinds, and what has no signature."""
        wire = self.writer("alice")(Note())
        data = wire.frames[0]
        changed = {
            "version 0": data[:3] + b"\0" + data[4:],
            "version 2": data[:3] + b"\2" + data[4:],
            "the other kind": data[:4] + bytes([3 - data[4]]) + data[5:],
            "no recipients": data[:6] + bytes(2) + data[8:],
            "no signature": data[:-64],
            "a signature of zeros": data[:-64] + bytes(64),
        }
        return {name: wire._replace(frames=[each]) for name, each in changed.items()}


class Sealed(Signed):
    """Signed and sealed."""

    name = "envelope sealed"
    used_as = 'sealed to its recipients; the rest as above, and `require="sealed"`'
    absent: ClassVar[Mapping[str, str]] = {}
    sealed = True

    def weaker(self) -> Mapping[str, Wire]:
        """Return, besides, what Alice only signed: the policy is the receiver's."""
        topic = Note().topic.encode()
        signed = Sealer(
            self.identities["alice"], context=CONTEXT, to=[self.public("bob")], sealed=False
        )
        data = signed.seal(Note().payload, bound=[topic])
        return {**super().weaker(), "Alice's signature alone": Wire(topic, [data])}

    def doubled(self) -> Doubled:
        """Return a key block that wraps another content key for each."""
        forge = need("forge")
        bob, carol = self.public("bob"), self.public("carol")
        content = {bob: forge.CONTENT_KEY, carol: bytes(range(1, 33))}
        topic = b"valves/3"
        made = forge.Forgery(
            self.identities["alice"],
            context=CONTEXT,
            bound=(topic,),
            kind=2,
            recipients=2,
            sent_at=clock.wall(),
            key_block=forge.key_block(self.public("alice"), content),
        )
        return Doubled(
            keys=(forge.aead_key(content[bob]), forge.aead_key(content[carol])),
            nonce=made.nonce,
            aad=made.bind(),
            finish=lambda body: Wire(topic, [replace(made, body=body).encode()]),
        )


SUBJECTS: tuple[type[Subject], ...] = (Signed, Sealed)
