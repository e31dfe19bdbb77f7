"""``python -m envelope.cli``: the same as the console script ``envelope``."""

from envelope.cli import main

main()
