r"""The main job, to watch: real events through a hostile proxy, every lie of it named.

Two publishers, a proxy and two subscribers, each a process of its own, on TCP
sockets of this machine::

    north --\                       /--> desk
             >-- the hostile proxy <
    south --/                       \--> archive

The order of reading: ``cast`` (who takes part), ``publisher``, ``subscriber``,
``attacks`` and ``liar`` (what the proxy does, without sockets), ``proxy``,
``verdict`` (what was done against what came of it), ``stage`` (the parent).

Rules of this package: the publishers and subscribers use the library as any
program would; the proxy has no key but its own. What the proxy did is compared
with what the subscribers saw, and one event too few or too many fails the run.
"""

from __future__ import annotations

from pathlib import Path


def run(
    log: Path | None = None,
    follow: bool = False,  # noqa: FBT001, FBT002 (the command line's options, as they are)
    seed: int = 7,
    events: int | None = None,
    svg: Path | None = None,
) -> int:
    """Run the demonstration, and show what came of it on stdout.

    Args:
        log: a file of JSON lines; by default the Zeek logs that come with the package.
        follow: keep reading the log as it grows, until Ctrl-C.
        seed: of the proxy's attacks; the same seed gives the same counts.
        events: how many to publish; a shorter log is repeated.
        svg: where to draw the final picture.

    Returns:
        0 if all is accounted for; 1 if not, or if the demonstration did not end.

    Raises:
        UsageError: options that do not fit, or a log without JSON objects.
        OSError: a file cannot be read or written.
        KeyboardInterrupt: Ctrl-C; with ``follow`` only the second one.
    """
    # Late: the child processes import this package too, and draw nothing.
    from envelope.demo import stage  # noqa: PLC0415 (see above)

    return stage.run(log=log, follow=follow, seed=seed, events=events, svg=svg)
