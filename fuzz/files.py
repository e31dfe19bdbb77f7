"""A file in memory, for parsers that read files.

Rules of this file: one for each harness, written anew each time; nothing is on a disk.
"""

from __future__ import annotations

import os
from pathlib import Path


class Sheet:
    """A private file without a folder, whose path any reader can open."""

    def __init__(self) -> None:
        self._handle = os.memfd_create("fuzz")
        os.fchmod(self._handle, 0o600)
        self.path = Path(f"/proc/{os.getpid()}/fd/{self._handle}")

    def write(self, data: bytes) -> Path:
        """Let the file hold this and nothing else; return its path."""
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, data, 0)
        return self.path

    def close(self) -> None:
        """Forget it."""
        os.close(self._handle)
