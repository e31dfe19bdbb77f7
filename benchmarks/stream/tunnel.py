"""stunnel, TLS 1.3, on both hops: the processes that stand beside the three roles.

Rules of this file: one process at the publisher, one at the proxy for all, one at each
subscriber; both ends of a hop show certificates. What an operator would set is set:
no delay for small segments. All else is as stunnel has it.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

_TOP: Final = """foreground = yes
pid =
syslog = no
debug = notice
output = {log}
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1
sslVersionMin = TLSv1.3
cert = {folder}/own.pem
CAfile = {folder}/authority.pem
verifyChain = yes
"""
_SERVICE: Final = """
[{name}]
client = {client}
accept = {accept}
connect = {connect}
"""


class Service(NamedTuple):
    """One port that is forwarded."""

    name: str
    is_client: bool
    accept: str
    connect: str


def find() -> str | None:
    """Return the path of the program."""
    return shutil.which("stunnel4") or shutil.which("stunnel")


def free_places(count: int) -> list[str]:
    """Return ports that nobody uses now, as stunnel writes them."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    places = [f"127.0.0.1:{probe.getsockname()[1]}" for probe in probes]
    for probe in probes:
        probe.close()
    return places


@contextmanager
def running(folder: Path, name: str, services: Sequence[Service]) -> Iterator[int]:
    """Run a stunnel; give its process id.

    Raises:
        FileNotFoundError: it is not installed.
    """
    program = find()
    if program is None:
        raise FileNotFoundError("stunnel is not installed")
    file = folder / f"{name}.conf"
    text = _TOP.format(folder=folder, log=folder / f"{name}.log")
    for service in services:
        text += _SERVICE.format(
            name=service.name,
            client="yes" if service.is_client else "no",
            accept=service.accept,
            connect=service.connect,
        )
    file.write_text(text, encoding="utf-8")
    process = subprocess.Popen(  # noqa: S603 (found on the path, a file of our own)
        [program, str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()
