"""Corpora made small, without atheris.

Rules of this file: seeds stay, for each is about something. Of the others one stays if it
takes a step in the library that no seed and no shorter one takes. That is a function of the
inputs, so a corpus is minimised to the same files by everybody.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

import envelope
from fuzz.harness import CORPUS, Harness

_LIBRARY: Final = str(Path(envelope.__file__).parent)
Step = tuple[CodeType, int, int]


def steps(found: Harness, data: bytes) -> set[Step]:
    """Return the steps that a check takes in the library.

    From instruction to instruction in the modules that the harness covers, for a line may
    have several conditions; from line to line elsewhere.
    """
    taken: set[Step] = set()
    covered = {sys.modules[name].__file__ for name in found.covers}

    def trace_call(frame: FrameType, *_: Any) -> Any:
        code = frame.f_code
        if not code.co_filename.startswith(_LIBRARY):
            return None
        last = 0
        frame.f_trace_opcodes = is_exact = code.co_filename in covered

        def trace_step(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal last
            if is_exact == (event == "opcode"):
                at = frame.f_lasti if is_exact else frame.f_lineno
                taken.add((code, last, at))
                last = at
            return trace_step

        return trace_step

    before = sys.gettrace()
    sys.settrace(trace_call)
    try:
        found.check(data)
    finally:
        sys.settrace(before)
    return taken


def minimise(found: Harness, more: Iterable[bytes]) -> list[bytes]:
    """Return the seeds of a harness, and of what else there is what reaches more than they."""
    seeds = sorted(set(found.seeds))
    others = {data for data in (*found.corpus, *more) if len(data) <= found.size} - set(seeds)
    kept, reached = [], set[Step]()
    for data in (*seeds, *sorted(others, key=lambda one: (len(one), one))):
        taken = steps(found, data)
        if data in seeds or taken - reached:
            kept.append(data)
            reached |= taken
    return kept


def store(name: str, inputs: Iterable[bytes]) -> None:
    """Let the corpus of a harness be these inputs."""
    folder = CORPUS / name
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for data in inputs:
        (folder / hashlib.blake2b(data, digest_size=8).hexdigest()).write_bytes(data)
