"""The command line: ``envelope``, also ``python -m envelope.cli``.

Rules of this package: it is thin. It reads options, files and streams, calls the
library, and says what came of it; no cryptography and no rule of the format is
here. ``status`` has the exit codes, ``failures`` the one place where an exception
becomes a line for a person.
"""

from __future__ import annotations

import logging
import sys

_EXTRA = ("typer", "rich")


def main() -> None:
    """Run the command line and exit with its status; never returns."""
    try:
        # Late, so that a library without the extra can still say what is missing.
        from envelope.cli.app import app  # noqa: PLC0415 (see above)
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        sys.exit(_without_extra())
    # The command line says itself why it refuses; the library's log would say it twice.
    logging.getLogger("envelope").addHandler(logging.NullHandler())
    app()


def _without_extra() -> int:
    # print(file=None) would write to stdout.
    if sys.stderr is not None:
        print(  # noqa: T201 (a command line prints)
            "envelope: the command line needs its extra: pip install 'signed-envelope[cli]'",
            file=sys.stderr,
        )
    return 2
