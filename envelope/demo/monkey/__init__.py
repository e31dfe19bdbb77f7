r"""Sessions, to watch: two processes, and a chaos monkey that kills either.

A client and a server, each a process of its own, on TCP sockets of this machine, and
between them a proxy that lies::

    client (DEALER) <--> the proxy <--> server (ROUTER)

The order of reading: ``speech`` (what is said), ``lies`` (what the proxy does, without
sockets), ``ends``, ``proxy``, ``book`` (what was said against what was heard),
``stage`` (the parent, who kills).

Rules of this package: the ends use the library as any program would, and keep nothing but
their keys over a restart. What they say and hear goes into the parent's book, each message
by its number: one that is delivered twice, or that nobody sent, fails the run.
"""

from __future__ import annotations

SECONDS = 30.0
"""How long the monkey goes about by default."""


def run(seed: int = 7, seconds: float = SECONDS) -> int:
    """Run the demonstration, and show what came of it on stdout.

    Args:
        seed: of the monkey's and the proxy's dice.
        seconds: how long the monkey goes about; it takes some more to begin and to end.

    Returns:
        0 if nothing was delivered twice, nothing that nobody sent was accepted, and every
        restart was followed by messages both ways; 1 if not, or if it did not end.

    Raises:
        UsageError: no number of seconds.
        KeyboardInterrupt: Ctrl-C.
    """
    # Late: the child processes import this package too, and draw nothing.
    from envelope.demo.monkey import stage  # noqa: PLC0415 (see above)

    return stage.run(seed=seed, seconds=seconds)
