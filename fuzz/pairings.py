"""The ends of a pairing, quickly begun, and Mallory, who lies at one of them.

Rules of this file: what is computed here is what the library computes; only what SPAKE2's
package computes from the same numbers again and again is remembered.
"""

from __future__ import annotations

import copy
import functools
from types import SimpleNamespace
from typing import Any

from pairs import pake_twin, twin
from support import identity, seeded

from envelope.errors import PairingError
from envelope.pairing import messages
from envelope.pairing.exchange import Connector, Listener
from envelope.pairing.messages import ELEMENT, Type
from envelope.pairing.pake import Pake
from envelope.pairing.transcript import Transcript
from fuzz.mutations import flip

PEOPLE = {who: identity(who) for who in ("alice", "bob", "carol", "mallory")}
PUBS = {who: one.public.public for who, one in PEOPLE.items()}
_MALLORY = PEOPLE["mallory"]
_PROOF = 96


def begin(who: str, code: str, *, is_connector: bool) -> Connector | Listener:
    """Return an end at the beginning of a run, at the time 0."""
    end: Connector | Listener = twin(_begun(who, code, is_connector=is_connector))
    return end


@functools.cache
def _begun(who: str, code: str, *, is_connector: bool) -> Any:
    """Return an end at the beginning of a run; to be copied."""
    role = Connector if is_connector else Listener
    end = role(PEOPLE[who], code, now=0, random=seeded(_number(who, code)))
    return _with_memory(end, end._pake)  # noqa: SLF001 (made faster)


@functools.cache
def _pake(code: str, *, is_connector: bool) -> Any:
    """Return Mallory's SPAKE2 at its beginning; to be copied."""
    random = seeded(_number("mallory", code))
    pake = Pake(code.encode(), is_connector=is_connector, random=random)
    return _with_memory(pake, pake)


def _with_memory(one: Any, pake: Any) -> Any:
    """Let the package compute once what it computes for this side and an element."""
    package = pake._spake  # noqa: SLF001 (made faster)
    finish = functools.lru_cache(256)(lambda element: copy.copy(package).finish(element))
    pake._spake = SimpleNamespace(finish=finish)  # noqa: SLF001 (the same)
    return one


def _number(*parts: str) -> int:
    """Return a number that is the same in every process."""
    return int.from_bytes("\0".join(parts).encode())


class Liar:
    """Mallory at the other end of a run, by its code or by a guess."""

    def __init__(self, code: str, to: bytes, *, is_connector: bool, knows: bool) -> None:
        """Take a code, the keys of the other end, Mallory's role, and whether it is the code."""
        self.knows = knows
        self._to = to
        self._pake: Pake = pake_twin(_pake(code, is_connector=is_connector))
        self._keys = Transcript(_MALLORY, seeded(_number("liar", code))(32))
        self.learned: list[bytes] = []

    def hear(self, data: bytes) -> None:
        """Take what the other end said, and open it if that can be done."""
        kind, body = messages.decode(data)
        if kind in {Type.HELLO, Type.ANSWER}:
            self._keys.log(data)
            self._keys.take_ephemeral(body[ELEMENT:])
            self._keys.key = self._pake.finish(body[:ELEMENT])
        elif kind is not Type.END:
            try:
                self.learned.append(self._keys.open(kind, data, confirms=kind in {3, 4}))
            except PairingError:
                return
            assert self.knows
            if kind <= Type.CONNECTOR_PROOF:
                self._keys.log(data)

    def speak(self, kind: Type, shown: bytes, borrowed: bytes | None, changes: bytes) -> bytes:
        """Return a message of a type: under keys of his choice, with what he borrowed."""
        head = messages.head(kind)
        if kind in {Type.HELLO, Type.ANSWER}:
            ephemeral = self._keys.ephemeral if borrowed is None else borrowed[-32:]
            return self._keys.log(head + flip(self._pake.element + ephemeral, changes))
        plaintext = flip(self._plaintext(kind, shown, borrowed), changes)
        data = self._keys.seal(kind, plaintext, confirms=kind in {3, 4})
        return self._keys.log(data) if kind <= Type.CONNECTOR_PROOF else data

    def _plaintext(self, kind: Type, shown: bytes, borrowed: bytes | None) -> bytes:
        match kind:
            case Type.CONFIRMATION:
                return shown
            case Type.LISTENER_PROOF:
                return shown + self._proof(kind, shown, borrowed)
            case Type.CONNECTOR_PROOF:
                return self._proof(kind, shown, borrowed)
            case Type.CONNECTOR_DECISION | Type.LISTENER_DECISION:
                return b"\1"
        return b""

    def _proof(self, kind: Type, shown: bytes, borrowed: bytes | None) -> bytes:
        """Return the best proof that he has: his own secrets stand for whose he has not."""
        if borrowed is not None:
            return borrowed[-_PROOF:].ljust(_PROOF, b"\0")
        if not self._keys.key:
            return bytes(_PROOF)
        mask: Any = SimpleNamespace(
            public=SimpleNamespace(public=shown),
            _sign_secret=_MALLORY._sign_secret,  # noqa: SLF001 (his own)
            _x_secret=_MALLORY._x_secret,  # noqa: SLF001 (his own)
        )
        self._keys._identity = mask  # noqa: SLF001 (a liar)
        to: Any = SimpleNamespace(public=self._to)
        return self._keys.prove(kind, to)
