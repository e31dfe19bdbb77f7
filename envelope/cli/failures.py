"""An exception to an exit status and one or two lines for a person.

Rules of this file: the only place that does so. What happened, then what to do.
No traceback, nothing of a refused payload, no secret.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

import typer

from envelope.cli.status import OF_CODE, Status
from envelope.errors import EnvelopeError, PairingError, RejectedError

TyperError: Final[type[Exception]] = next(
    base for base in reversed(typer.BadParameter.__mro__) if hasattr(base, "format_message")
)
"""The root of what Typer raises for wrong options; its name is not the same in all versions."""

_REMEDIES: Final = {
    "malformed": "did all of it arrive, as binary? `envelope inspect` shows what is there",
    "version": "a newer version of this program may speak it",
    "policy": "--bundle opens a bundle; what --require asks for, only the sender can give",
    "not_trusted": "the trust file says who may send where, and when",
    "not_addressed": "open it as a recipient, with --identity or --node",
    "stale": "--max-age S takes older ones",
    "bad_signature": "are --context and each --bound the same as the sender's?",
}
"""What to do, where the refusal itself does not say it."""


class Failure(NamedTuple):
    """How a command ends that did not do what it was asked for."""

    status: int
    lines: tuple[str, ...] = ()


def explain(error: BaseException) -> Failure:
    """Return the status and the lines for an exception."""
    match error:
        case typer.Exit():
            return Failure(error.exit_code)
        case KeyboardInterrupt():
            return Failure(Status.INTERRUPTED)
        case BrokenPipeError():
            return Failure(Status.BROKEN_PIPE)
        case RejectedError():
            return _refused(error)
        case PairingError():
            return Failure(Status.PAIRING, (f"envelope: {error}",))
        case EnvelopeError():
            return Failure(Status.USAGE, (f"envelope: {error}",))
        case OSError():
            where = f"{error.filename}: " if error.filename else ""
            return Failure(Status.ENVIRONMENT, (f"envelope: {where}{error.strerror or error}",))
        case MemoryError():
            return Failure(Status.ENVIRONMENT, ("envelope: out of memory",))
    if isinstance(error, TyperError):
        return _misused(error)
    return _bug(error)


def _refused(error: RejectedError) -> Failure:
    advice = []
    if error.claimed_sender is not None:
        who = "signed by" if error.verified else "claimed sender"
        advice.append(f"{who} {error.claimed_sender.hex()}")
    if error.code in _REMEDIES:
        advice.append(_REMEDIES[error.code])
    second = ("  " + "; ".join(advice),) if advice else ()
    return Failure(OF_CODE[error.code], (f"envelope refused, {error}", *second))


def _misused(error: Exception) -> Failure:
    """Say in one line what Typer would say in five."""
    message = " ".join(error.format_message().split())  # type: ignore[attr-defined]  # Click's own
    context = getattr(error, "ctx", None)
    command = "envelope" if context is None else context.command_path
    return Failure(Status.USAGE, (f"envelope: {message}", f"  see: {command} --help"))


def _bug(error: BaseException) -> Failure:
    """Say where it is, without the exception's text, which may hold anything."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = "" if trace is None else f" at {_place(trace.tb_frame.f_code.co_filename)}"
    line = "" if trace is None else f":{trace.tb_lineno}"
    return Failure(
        Status.ENVIRONMENT,
        (f"envelope: a bug, {type(error).__name__}{where}{line}; please report it",),
    )


def _place(filename: str) -> str:
    return "/".join(Path(filename).parts[-2:])
