"""A Redis or Valkey server of one's own: a socket in a folder, no port, no disk.

For benchmarks and tests. It lives while its ``with`` does.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self


def find() -> str:
    """Return the path of the server's program.

    Raises:
        FileNotFoundError: there is none.
    """
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            return found
    raise FileNotFoundError(
        "neither redis-server nor valkey-server is installed; `bash .ci/redis` does it on Debian"
    )


class LocalRedis:
    """A server, started at once.

    Attributes:
        path: of its socket.
        url: as ``RedisReplayStore`` takes it.
        process: for whoever wants to kill it.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        """Start it; ``options`` follow those that keep it small and private."""
        self.path = folder / "redis.sock"
        self.url = f"unix://{self.path}"
        self._command = [
            *(find(), "--port", "0", "--unixsocket", str(self.path), "--unixsocketperm", "700"),
            *("--save", "", "--appendonly", "no", "--dir", str(folder), "--loglevel", "warning"),
            *options,
        ]
        self.start()

    def start(self) -> None:
        """Start it, again if it was stopped, and wait until it answers."""
        self.path.unlink(missing_ok=True)
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)  # noqa: S603 (a fixed command)
        deadline = time.monotonic() + 20
        while not self._listens():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the server did not start")
            time.sleep(0.005)

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.path)) == 0

    def kill(self) -> None:
        """Give it no chance to clean up."""
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Self:
        """Return this."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        self.kill()
