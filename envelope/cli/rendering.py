"""A described envelope as a table, as plain lines, or as JSON.

Rules of this file: each form says that nothing was verified.
"""

from __future__ import annotations

import json

from rich.console import Console
from rich.table import Table

from envelope.cli.fields import Description


def to_json(envelope: Description) -> str:
    """Return one JSON object."""
    return json.dumps(
        {
            "verified": False,
            "size": envelope.size,
            "body_size": envelope.body_size,
            "payload_size": envelope.payload_size,
            "overhead": envelope.overhead,
            "message_id": envelope.message_id,
            "fields": [field._asdict() for field in envelope.fields],
            "key_block": [field._asdict() for field in envelope.key_block],
        },
        indent=2,
    )


def to_lines(envelope: Description) -> str:
    """Return plain lines, one for each field, that do not depend on any terminal."""
    lines = [*_summary(envelope), f"offset  size  {'field':11}  {'value':32}  meaning"]
    for offset, size, name, value, meaning in envelope.rows:
        lines.append(f"{offset:6}  {size:4}  {name:11}  {_shown(value):32}  {meaning}")
    return "\n".join(lines)


def to_table(envelope: Description, console: Console) -> str:
    """Return a table for a terminal."""
    table = Table()
    table.add_column("offset", justify="right")
    table.add_column("size", justify="right")
    table.add_column("field", style="bold", no_wrap=True)
    table.add_column("value", overflow="fold")
    table.add_column("meaning", overflow="fold")
    for offset, size, name, value, meaning in envelope.rows:
        table.add_row(str(offset), str(size), name, _shown(value), meaning)
    with console.capture() as capture:
        for line in _summary(envelope):
            console.print(line, highlight=False)
        console.print(table)
    return capture.get().rstrip("\n")


def _summary(envelope: Description) -> list[str]:
    return [
        "Nothing was verified: all of this is what the envelope claims.",
        f"{envelope.size} bytes: payload {envelope.payload_size}, overhead {envelope.overhead}",
        f"message id {envelope.message_id}",
    ]


def _shown(value: str | int | None) -> str:
    return "" if value is None else str(value)
