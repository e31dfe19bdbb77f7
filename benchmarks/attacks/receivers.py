"""Receivers: in this process, or each life in a process of its own.

Rules of this file: any exception of a reader is a refusal and is told by the name that
its code gives it. A message is told as far as it is the same in each run.
"""

from __future__ import annotations

import logging
import multiprocessing
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any, NamedTuple

from attacks.subject import Heard, Reader, Subject, Wire

PATIENCE = 60
"""Seconds for a new process to begin and to answer."""


class Answer(NamedTuple):
    """What came of a message: what was heard, or why it was refused."""

    heard: Heard | None
    reason: str = ""
    decoded: bool = False
    """Whether the decoder was given at least as many bytes as was asked for."""


Offer = Callable[[Wire], Answer]


def reason_of(error: Exception) -> str:
    """Return what the code says of a refusal, without what changes from run to run."""
    if code := getattr(error, "code", None):
        return str(code)
    # Whole words, up to the first quotation or number.
    words = re.match(r"(?:[A-Za-z-]+(?:[ ,.:;]+|$))*", str(error))
    said = words[0].strip(" ,.:;") if words else ""
    # Some modules call theirs just Error; what that is, its base says.
    name = next(kind.__name__ for kind in type(error).__mro__ if kind.__name__ != "Error")
    return f"{name}: {said}" if " " in said and len(said) < 60 else name


def answer(read: Reader, wire: Wire) -> Answer:
    """Let a receiver read."""
    try:
        return Answer(read(wire))
    except Exception as error:  # noqa: BLE001 (each subject has its own)
        return Answer(None, reason_of(error))


@contextmanager
def here(subject: Subject, who: str) -> Iterator[Offer]:
    """Begin a receiver in this process."""
    with subject.reader(subject.keys, who) as read:
        subject.arrived()
        yield lambda wire: answer(read, subject.deliver(wire))


@contextmanager
def watching(subject: Subject, who: str, least: int) -> Iterator[Offer]:
    """Begin a receiver in this process, and see whether it decodes so many bytes."""
    with here(subject, who) as offer:

        def offer_watched(wire: Wire) -> Answer:
            seen: list[bool] = []
            with _profile(subject.decoder, least, seen):
                answered = offer(wire)
            return answered._replace(decoded=bool(seen))

        yield offer_watched


@contextmanager
def _profile(decoder: Any, least: int, seen: list[bool]) -> Iterator[None]:
    """Note each call of the decoder."""
    code = getattr(decoder, "__code__", None)

    def look(frame: FrameType, event: str, called: Any) -> None:
        if event == "call" and code is not None and frame.f_code is code:
            size = len(frame.f_locals[code.co_varnames[0]])
            if size >= least:
                seen.append(True)
        elif event == "c_call" and called is decoder:
            seen.append(True)  # What a function in C is given cannot be seen.

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        yield
    finally:
        sys.setprofile(before)


@contextmanager
def elsewhere(subject: Subject, who: str) -> Iterator[Offer]:
    """Begin a receiver in a new process; at the end the process has ended, too."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=serve, args=(type(subject).reader, subject.keys, who, theirs))
    process.start()
    theirs.close()

    def told() -> Any:
        if not ours.poll(PATIENCE):
            raise SystemExit(f"{subject.name}: a receiver in its own process does not answer")
        return ours.recv()

    def offer(wire: Wire) -> Answer:
        ours.send(subject.deliver(wire))
        found: Answer = told()
        return found

    try:
        told()
        subject.arrived()
        yield offer
    finally:
        ours.send(None)
        process.join(PATIENCE)
        process.kill()
        process.join()
        process.close()
        ours.close()


def serve(
    reader: Callable[[Any, str], AbstractContextManager[Reader]],
    keys: Any,
    who: str,
    pipe: Connection[Any, Any],
) -> None:
    """Be a receiver until None comes."""
    logging.disable(logging.CRITICAL)
    with pipe, reader(keys, who) as read:
        pipe.send("begun")
        while (wire := pipe.recv()) is not None:
            pipe.send(answer(read, wire))
