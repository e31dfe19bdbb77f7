import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def javascript():
    """The folder of the JavaScript implementation, with what it needs in place."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    target = "interop/js/node_modules/.stamp"
    subprocess.run(["make", "--silent", target], cwd=ROOT, env=ours, check=True)
    return ROOT / "interop" / "js"


class End:
    """A process of interop/js/end.js: one answer to each order."""

    def __init__(self, folder, **made_of):
        self._process = subprocess.Popen(
            ["node", "end.js"], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._tell(**made_of)
        assert self._hear() == {}

    def __call__(self, order, **arguments):
        self.start(order, **arguments)
        return self._hear()

    def start(self, order, **arguments):
        """Give an order whose answer waits for something: `finish` is to follow."""
        self._tell(do=order, **arguments)

    def finish(self):
        return self._hear()

    def close(self):
        with self._process as process:
            process.stdin.close()
            assert process.wait(timeout=30) == 0

    def _tell(self, **order):
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def _hear(self):
        line = self._process.stdout.readline()
        assert line, f"node ended with {self._process.wait(timeout=30)}"
        return json.loads(line)


@pytest.fixture
def make_end(javascript):
    ends = []

    def make(**made_of):
        ends.append(End(javascript, **made_of))
        return ends[-1]

    yield make
    for end in ends:
        end.close()
