"""SPAKE2, by the package that magic-wormhole uses, and nothing of it besides (SPEC 19.3).

Rules of this file:

- The only importer of ``spake2``. Its symmetric form, which accepts its own message, is
  not used; nor are its side bytes sent: the type of a message says who sent it.
- It checks by asserts, which ``python -O`` drops, and reads other encodings than the
  canonical one. So what arrives is checked here first.
- Whatever it raises becomes a ``PairingError``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from envelope.errors import PairingError
from envelope.pairing.messages import STRANGE
from envelope.primitives import is_ed25519_public

try:
    from spake2 import SPAKE2_A, SPAKE2_B, SPAKEError
    from spake2.ed25519_basic import NotOnCurve
except ImportError:
    raise ImportError(
        "pairing needs its extra: pip install 'signed-envelope[pair]'", name="spake2"
    ) from None

_CONNECTOR: Final = b"envelope/v1/pair/connect"
_LISTENER: Final = b"envelope/v1/pair/listen"


class Pake:
    """One side of one SPAKE2. Not thread-safe.

    Attributes:
        element: 32 bytes for the other side.
    """

    __slots__ = ("_other_side", "_spake", "element")

    def __init__(self, code: bytes, *, is_connector: bool, random: Callable[[int], bytes]) -> None:
        """Take the code, the role, and a source of randomness."""
        side, self._other_side = (SPAKE2_A, b"B") if is_connector else (SPAKE2_B, b"A")
        self._spake = side(code, idA=_CONNECTOR, idB=_LISTENER, entropy_f=random)
        self.element: bytes = self._spake.start()[1:]

    def finish(self, element: bytes) -> bytes:
        """Return K, 32 bytes: the same at the other side if it has the same code.

        Args:
            element: 32 bytes that came from the other side. Called once.

        Raises:
            PairingError: no element of the group, not in its one encoding, or our own.
        """
        if not is_ed25519_public(element):
            raise PairingError(STRANGE)
        try:
            key: bytes = self._spake.finish(self._other_side + element)
        except (SPAKEError, AssertionError, ValueError, NotOnCurve):
            raise PairingError("our own message came back in place of the other side's") from None
        self.forget()
        return key

    def forget(self) -> None:
        """Drop the fresh secret and the code; with a recording they give K."""
        self._spake = None
