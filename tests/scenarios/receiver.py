"""A receiver that is killed: opens what a file holds, and tells each delivery.

Run as: receiver.py FOLDER RECORD OFFSET [REDIS_URL]. It opens for the node in FOLDER
whatever is in RECORD, also what is appended, by a clock that is OFFSET microseconds
ahead, and writes each delivered payload to stdout at once. With a URL it shares its
memory with others there, and offers again what the store could not answer.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from envelope import Node, Opener, Policy, RejectedError, clock
from envelope.replay import RedisReplayStore, SQLiteReplayStore

MAX_FUTURE = 0.05
"""Seconds: a server that lost its memory refuses for twice as long."""
BATCH = 64


def read(file):
    """Yield the frames of a file that grows, and None where there is none yet."""
    at = 0
    while True:
        file.seek(at)
        size = int.from_bytes(file.read(4), "big")
        data = file.read(size)
        if not size or len(data) < size:
            yield None  # Not whole yet.
        else:
            at += 4 + size
            yield data


def connect(url):
    """Return the shared store, whenever its server is there."""
    while True:
        try:
            return RedisReplayStore(url, max_future=MAX_FUTURE, timeout=0.5)
        except RejectedError as error:
            if error.code != "store_unavailable":
                raise


def tell(messages):
    """Write what was delivered."""
    for message in messages:
        # A write to a pipe of so few bytes happens whole or not at all.
        os.write(1, message.payload + b"\n")


def open_one_by_one(opener, frames):
    """Deliver what the store of this process alone lets through."""
    for data in frames:
        if data is not None:
            try:
                tell([opener.open(data)])
            except RejectedError as error:
                if error.code == "store_unavailable":
                    raise


def open_in_batches(opener, frames):
    """Deliver what the shared store lets through; lose nothing in an outage."""
    batch = []
    for data in frames:
        if data is not None:
            batch.append([data])
        if batch and (data is None or len(batch) == BATCH):
            results = opener.open_each(batch)
            again = []
            for one, result in zip(batch, results, strict=True):
                if not isinstance(result, RejectedError):
                    tell(result)
                elif result.code == "store_unavailable":
                    again.append(one)
            batch = again


def main() -> None:
    """Open for ever."""
    folder, record, offset = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    is_shared = len(sys.argv) > 4

    def now() -> int:
        return clock.wall() + offset

    node = Node.load(folder)
    opener = Opener(
        node.trust,
        context="orders",
        identity=node.identity,
        replay=connect(sys.argv[4])
        if is_shared
        else SQLiteReplayStore(folder / "replay.db", clock=now),
        policy=Policy(
            max_age=86_400, max_streams=1024, max_future=MAX_FUTURE if is_shared else 2.0
        ),
        clock=now,
    )
    os.write(1, b"ready\n")
    with record.open("rb", buffering=0) as file:
        (open_in_batches if is_shared else open_one_by_one)(opener, read(file))


if __name__ == "__main__":
    main()
