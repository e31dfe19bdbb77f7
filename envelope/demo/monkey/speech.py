"""What the two ends say to each other, and who they are.

Rules of this file: what all processes must agree on, and no more. Each message carries a
number that no other message of the run has: its author, the author's life, and a count.
"""

from __future__ import annotations

import hashlib
from typing import Final

CONTEXT: Final = "demo.sessions"
CLIENT: Final = "client"
SERVER: Final = "server"
PROXY: Final = "proxy"
ENDS: Final = (CLIENT, SERVER)
OTHER: Final = {CLIENT: SERVER, SERVER: CLIENT}

EVERY: Final = 20_000
"""Microseconds from one message of an end to its next: fifty a second each way."""
_FILLER: Final = b" and so on and so forth".ljust(200, b".")
"""A message has some 200 bytes, as an event has."""


def number(author: str, life: int, count: int) -> str:
    """Return the number of a message."""
    return f"{author}/{life}/{count}"


def author_of(number: str) -> str:
    """Return who wrote the message of this number, or says so."""
    return number.partition("/")[0]


def life_of(number: str) -> int:
    """Return in which life; 0 if there is none, for the first is 1."""
    life = number.split("/")[1:2]
    return int(life[0]) if life and life[0].isdecimal() else 0


def payload_of(number: str) -> bytes:
    """Return a message."""
    return number.encode() + _FILLER


def number_of(payload: bytes) -> str:
    """Return the number that a payload begins with, whatever it is."""
    return payload.partition(b" ")[0].decode("ascii", errors="replace")


def digest(payload: bytes) -> str:
    """Return what stands for a payload in the book: said and heard must be the same."""
    return hashlib.blake2b(payload, digest_size=16).hexdigest()
