"""A child process of the demonstration: ``python -m envelope.demo.child ROLE``.

Rules of this file: it ends when its parent does. Only reports go to stdout.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from typing import Any, Final

from envelope.demo import proxy, publisher, subscriber
from envelope.demo.channel import Channel, ParentGoneError
from envelope.demo.monkey import ends as monkey_ends
from envelope.demo.monkey import proxy as monkey_proxy

ROLES: Final[dict[str, Callable[[Channel, Any], None]]] = {
    "publisher": publisher.main,
    "subscriber": subscriber.main,
    "proxy": proxy.main,
    "monkey-end": monkey_ends.main,
    "monkey-proxy": monkey_proxy.main,
}


def main() -> None:
    """Play the role that the command line names."""
    # The parent's table says what is refused; the library's log would say it again.
    logging.getLogger("envelope").addHandler(logging.NullHandler())
    channel = Channel(sys.stdin.fileno(), sys.stdout.buffer)
    try:
        ROLES[sys.argv[1]](channel, channel.setting())
        while True:  # The sockets are closed; the parent says when to go.
            channel.command(60_000_000)
    except ParentGoneError:
        # What stdout still holds nobody reads: no complaint at the exit.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


if __name__ == "__main__":
    main()
