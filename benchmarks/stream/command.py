"""The command line: measure, tell, and exit with 1 if a bar is missed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from document import write

from stream import bars, measure, tell
from stream.figures import HALF
from stream.results import Record
from stream.run import Sizes
from stream.ways import BY_NAME, WAYS

RATES = (0.1, 0.25, HALF, 0.75, 0.9, 1.0)


def main() -> int:
    """Measure what the command line asks for; return 1 if a bar is missed."""
    options = _parser().parse_args()
    try:
        ways = [BY_NAME[name] for name in options.only] if options.only else WAYS
    except KeyError as error:
        print(f"no way named {error}; there are {', '.join(BY_NAME)}", file=sys.stderr)
        return 2
    if options.read is not None:
        record = Record.load(options.read)
    else:
        shares = RATES if options.rates else (HALF,)
        sizes = Sizes(options.events, options.seconds, shares)
        record = measure.run(
            measure.Order(ways, options.subscribers, options.rounds, sizes, options.encoding)
        )
    if options.json is not None:
        record.save(options.json)
    lines = tell.document(record)
    print("\n".join(lines))
    if options.write is not None:
        write(options.write, "stream", lines)
    return int(any(one.holds is False for one in bars.judge(record.results)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stream", description="How many events go through a proxy, and what they cost."
    )
    add = parser.add_argument
    add("--rounds", type=int, default=3)
    add("--events", type=int, default=600_000, help="of a phase, at most")
    add("--seconds", type=float, default=1.0, help="that a phase takes, about")
    add("--only", type=_names, metavar="WAYS", help=", ".join(BY_NAME))
    add("--subscribers", type=_numbers, default=[1, 4, 16], metavar="1,4,16")
    add("--encoding", choices=("msgpack", "json"), default="msgpack", help="of the events")
    add("--rates", action="store_true", help="latency at rising rates, not only at half")
    add("--json", type=Path, metavar="FILE", help="write all that was measured")
    add("--read", type=Path, metavar="FILE", help="tell what --json wrote; measure nothing")
    add("--write", type=Path, metavar="DOCUMENT")
    return parser


def _names(text: str) -> list[str]:
    return text.split(",")


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]
