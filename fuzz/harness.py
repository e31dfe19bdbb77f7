"""What a harness is, and where its corpus lies.

Rules of this file: it finds harnesses by their files, so a new one needs no list.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

Change = Callable[[bytes, int], bytes]
"""Change bytes somehow, up to a size: libFuzzer's own way, or ``mutations.any_change``."""
Mutate = Callable[[bytes, int, Random, Change], bytes]

FOLDER: Final = Path(__file__).parent
CORPUS: Final = FOLDER / "corpus"
MAX_SIZE: Final = 6000
"""Bytes of an input: an envelope for the most recipients, and a key file that is too large.
What is longer repeats what is shorter, more slowly."""


@dataclass(frozen=True)
class Harness:
    """One harness.

    Attributes:
        name: of its file.
        invariant: the first line of its docstring.
        check: raises if the invariant does not hold for these bytes.
        mutate: makes new inputs from old ones: data, size at most, randomness, change. What
            is longer is cut. None: bytes are changed, and nothing is known of them.
        seeds: what a corpus begins with.
        covers: the modules that it is about.
        size: bytes of an input at most.
        share: of the time, beside the 1 that most have. Those of whole stories have more,
            since what they look for is far, and each step to it takes long; the fastest
            have, since it costs little to be nearly sure of them.
    """

    name: str
    invariant: str
    check: Callable[[bytes], None]
    mutate: Mutate | None
    seeds: Iterable[bytes]
    covers: tuple[str, ...]
    size: int
    share: int

    @property
    def corpus(self) -> list[bytes]:
        """The inputs that are committed, in the order of their names."""
        return [path.read_bytes() for path in sorted((CORPUS / self.name).glob("*"))]


def names() -> list[str]:
    """Return the names of all harnesses."""
    found = (path.stem for path in (FOLDER / "harnesses").glob("*.py"))
    return sorted(name for name in found if name != "__init__")


def load(name: str) -> Harness:
    """Import a harness."""
    module = importlib.import_module(f"fuzz.harnesses.{name}")
    return Harness(
        name=name,
        invariant=(module.__doc__ or "").partition("\n")[0],
        check=module.check,
        mutate=getattr(module, "mutate", None),
        seeds=module.SEEDS,
        covers=module.COVERS,
        size=getattr(module, "SIZE", MAX_SIZE),
        share=getattr(module, "SHARE", 1),
    )
