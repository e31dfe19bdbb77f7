"""Run one harness under atheris: ``python -m fuzz.driver NAME [libFuzzer's arguments]``.

Rules of this file: the only importer of atheris. What is instrumented, while it is
imported, is what guides the search.
"""

from __future__ import annotations

import logging
import sys
from random import Random

import atheris

from fuzz import harness

_INSTRUMENTED = ["envelope", "vectors", "tomllib", "fuzz.harnesses"]


def main() -> None:
    """Search until libFuzzer's arguments say that it is enough."""
    logging.disable(logging.CRITICAL)
    with atheris.instrument_imports(include=_INSTRUMENTED):
        found = harness.load(sys.argv.pop(1))
    mutate = found.mutate
    if mutate is None:
        atheris.Setup(sys.argv, found.check)
    else:

        def mutator(data: bytes, max_size: int, seed: int) -> bytes:
            return mutate(bytes(data), max_size, Random(seed), atheris.Mutate)[:max_size]

        atheris.Setup(sys.argv, found.check, custom_mutator=mutator)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
