"""``envelope relay``: signals, log lines and figures around a Relay.

Rules of this file: figures go to stdout, everything else to stderr.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import signal
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from envelope.cli import parties, streams
from envelope.errors import UsageError
from envelope.zeromq import relayfile
from envelope.zeromq.relay import Relay

_MAX_EVERY = 86_400.0
_ENDS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def run(file: Path, *, every: float | None, as_json: bool, passphrase_file: Path | None) -> None:
    """Relay until a signal, then print the figures.

    Raises:
        UsageError: the file, or something that it names.
        KeyFileError, StoreFileError: the node.
    """
    if every is not None and not 0.1 <= every <= _MAX_EVERY:
        raise UsageError(f"--stats takes seconds from 0.1 to {_MAX_EVERY:.0f}")
    plan = relayfile.read(file)
    party = parties.load_party(
        identity=None, trust=None, node=plan.node, passphrase_file=passphrase_file
    )
    assert party.node is not None
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", level=logging.WARNING)
    with party.node as node, Relay(plan, node) as relay:

        def stop(number: int, _: object) -> None:
            if relay.is_stopping:  # The second one ends it at once, whichever it is.
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)
            relay.stop()

        def report() -> None:
            # Nobody reads the figures any more: no reason to stop what they are about.
            with contextlib.suppress(OSError):
                _print(relay.figures(), as_json=as_json)

        # A signal between a look at the flag and the wait would otherwise be slept over.
        signal.set_wakeup_fd(relay.wake_fd, warn_on_full_buffer=False)
        for number in _ENDS:
            if signal.getsignal(number) != signal.SIG_IGN:  # As nohup has it.
                signal.signal(number, stop)
        streams.say(f"envelope relay: {len(plan.flows)} flows as {node.identity.key_id.hex()}")
        try:
            relay.run(every=every, report=report)
        finally:
            signal.set_wakeup_fd(-1)
        figures = relay.figures()
    _print(figures, as_json=as_json)


def _print(figures: dict[str, dict[str, Any]], *, as_json: bool) -> None:
    streams.write_text(json.dumps(figures) if as_json else _table(figures))


def _table(figures: dict[str, dict[str, Any]]) -> str:
    table = Table(box=None, pad_edge=False)
    table.add_column("flow")
    for column in ("out", "bytes", "in", "bytes", "dropped", "refused", "lost"):
        table.add_column(column, justify="right")
    for name, row in figures.items():
        refused = ", ".join(f"{code} {count}" for code, count in sorted(row["refused"].items()))
        table.add_row(
            Text(name),
            f"{row['out']['messages']}",
            f"{row['out']['bytes']}",
            f"{row['in']['messages']}",
            f"{row['in']['bytes']}",
            f"{row['out']['dropped'] + row['in']['dropped']}",
            refused or "0",
            f"{row['lost'] + row['missing']}",
        )
    console = Console(file=io.StringIO(), width=120, no_color=True)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())
