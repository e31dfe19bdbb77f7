"""A receiver that is killed: opens what a file holds, and tells each delivery.

Run as: receiver.py FOLDER RECORD OFFSET. It opens for the node in FOLDER whatever is
in RECORD, also what is appended, by a clock that is OFFSET microseconds ahead, and
writes each delivered payload to stdout at once.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from envelope import Node, Opener, Policy, RejectedError, clock
from envelope.replay import SQLiteReplayStore


def main() -> None:
    """Open for ever."""
    folder, record, offset = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])

    def now() -> int:
        return clock.wall() + offset

    node = Node.load(folder)
    opener = Opener(
        node.trust,
        context="orders",
        identity=node.identity,
        replay=SQLiteReplayStore(folder / "replay.db", clock=now),
        policy=Policy(max_age=86_400, max_streams=1024),
        clock=now,
    )
    os.write(1, b"ready\n")
    with record.open("rb", buffering=0) as file:
        at = 0
        while True:
            file.seek(at)
            size = int.from_bytes(file.read(4), "big")
            data = file.read(size)
            if not size or len(data) < size:
                continue  # Not whole yet.
            at += 4 + size
            try:
                message = opener.open(data)
            except RejectedError as error:
                if error.code == "store_unavailable":
                    raise
                continue
            # A write to a pipe of so few bytes happens whole or not at all.
            os.write(1, message.payload + b"\n")


if __name__ == "__main__":
    main()
