"""Threads that open and seal while signals come, whose handler opens and seals too.

Rules of this file: what ends a run is counted, never timed. Real signals come where they
like; ``test_interruptions`` has every place in turn.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HALL = Path(__file__).with_name("hall.py")


@pytest.mark.audit("A3", "A18", "C6", "R1")
@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_threads_and_handlers_deliver_each_envelope_once_and_count_it(tmp_path, store):
    # Coverage would trace the child, and its lock is not made for handlers.
    plain = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    plain["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-bb", "-W", "error", HALL, store, tmp_path],
        env=plain,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.stdout, ended.stderr, ended.returncode) == ("all delivered once\n", "", 0)
