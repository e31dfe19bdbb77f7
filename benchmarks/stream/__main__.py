"""``python benchmarks/stream``: as the other benchmarks have it, with their folder on the path."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])

from stream.command import main  # noqa: E402 (it was not on the path)

if __name__ == "__main__":
    sys.exit(main())
