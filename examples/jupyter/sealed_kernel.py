"""A Jupyter kernel on another machine, behind a pair of relays, started by a kernel.json.

Run by the ``argv`` of kernel.json beside it, on the machine of the notebook server:

    sealed_kernel.py near {connection_file} --node near.node --peer far
        --line tcp://198.51.100.7:600{n} -- COMMAND

COMMAND starts the other end on the kernel's machine, by ssh for example, and carries its
standard input there:

    sealed_kernel.py far --node far.node --peer near --line tcp://0.0.0.0:600{n}

``{n}`` is 1 to 5, a number for each channel. The near end listens where the connection
file says, so a notebook server finds what it expects. Only the HMAC key of that file goes
to the far end, by standard input, whose end is the end of the kernel. Whichever part ends
first, the others follow: then the notebook server sees that its kernel is gone. A node is
one relay's at a time, so each kernel that runs at once needs a pair of nodes of its own;
after a restart, the new one waits until the old one is gone.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHANNELS = {"shell": 1, "iopub": 2, "stdin": 3, "control": 4, "hb": 5}
CONTEXT = "jupyter"
PATIENCE = 4
"""Seconds that a part has to end. A notebook server gives the whole five, by default."""
LOCK_PATIENCE = 15
"""Seconds that the one before may still need to end."""


def flows(side: str, plain: dict[str, str], line: str, peer: str) -> str:
    """Return the flows of one end as TOML; ``plain`` says where each channel is here."""
    text = ""
    for name, number in CHANNELS.items():
        if name == "iopub":
            kinds = ("XPUB", "XSUB") if side == "near" else ("XSUB", "XPUB")
        else:
            kinds = ("ROUTER", "DEALER") if side == "near" else ("DEALER", "ROUTER")
        inside, outside = ("bind", "connect") if side == "near" else ("connect", "bind")
        place = json.dumps(line.replace("{n}", str(number)))
        text += f'[[flow]]\nname = "{name}"\ncontext = "{CONTEXT}.{name}"\n'
        text += f'plain = {{ type = "{kinds[0]}", {inside} = {json.dumps(plain[name])} }}\n'
        text += f'sealed = {{ type = "{kinds[1]}", {outside} = {place} }}\n'
        if kinds[1] != "XSUB":
            text += f"to = [{json.dumps(peer)}]\n"
        if name == "stdin":
            # There the kernel speaks first.
            text += 'same_clients_as = "shell"\n'
    return text


def places(about: dict[str, Any]) -> dict[str, str]:
    """Return the endpoint of each channel that a connection file names."""
    between = "-" if about["transport"] == "ipc" else ":"
    return {
        name: f"{about['transport']}://{about['ip']}{between}{about[f'{name}_port']}"
        for name in CHANNELS
    }


@contextlib.contextmanager
def running(command: list[str], **how: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command, and end it on leaving."""
    process = subprocess.Popen(command, **how)  # noqa: S603 (the caller's own)
    try:
        yield process
    finally:
        if process.stdin is not None:
            process.stdin.close()
        else:
            process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def alone(node: Path) -> Iterator[int]:
    """Wait until nobody else uses this node; yield what to pass on to a relay.

    The lock lasts as long as this process or that relay, whichever ends last.
    """
    handle = os.open(node, os.O_RDONLY)
    try:
        end = time.monotonic() + LOCK_PATIENCE
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    sys.exit(f"{node} is in use: a kernel that runs has it")
                time.sleep(0.05)
        yield handle
    finally:
        os.close(handle)


def relay(options: argparse.Namespace, folder: Path, plain: dict[str, str]) -> list[str]:
    """Write the relay's file, and return the command that runs it."""
    file = folder / "relay.toml"
    text = f"node = {json.dumps(str(options.node.absolute()))}\nlinger = 1\n"
    file.write_text(text + flows(options.side, plain, options.line, options.peer))
    return [sys.executable, "-m", "envelope.cli", "relay", str(file)]


def near(options: argparse.Namespace, folder: Path, lock: int) -> None:
    """Be what the notebook server takes for its kernel."""
    about = json.loads(options.connection_file.read_text())
    secret = {key: about[key] for key in ("key", "signature_scheme")}
    with (
        running(relay(options, folder, places(about)), pass_fds=(lock,)) as wires,
        running(options.command, stdin=subprocess.PIPE, bufsize=0) as other,
    ):
        assert other.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # It ended, and has said why.
            other.stdin.write(json.dumps(secret).encode() + b"\n")
        while wires.poll() is None and other.poll() is None:
            select.select([], [], [], 0.1)


def far(options: argparse.Namespace, folder: Path, lock: int) -> None:
    """Run the kernel, on endpoints that this user alone can reach."""
    about = {**json.loads(sys.stdin.readline()), "transport": "ipc", "ip": str(folder / "k")}
    about |= {f"{name}_port": number for name, number in CHANNELS.items()}
    file = folder / "kernel.json"
    file.write_text(json.dumps(about))
    kernel = options.command or [sys.executable, "-m", "ipykernel_launcher"]
    with (
        running(
            [*kernel, "-f", str(file)],
            stdin=subprocess.DEVNULL,
            # Its own group is what it interrupts; and it ends with this process.
            start_new_session=True,
            env={**os.environ, "JPY_PARENT_PID": str(os.getpid())},
        ) as program,
        running(
            relay(options, folder, places(about)), stdin=subprocess.DEVNULL, pass_fds=(lock,)
        ) as wires,
    ):
        while program.poll() is None and wires.poll() is None:
            # Nothing more is ever said here: what can be read is the end.
            if select.select([sys.stdin], [], [], 0.1)[0]:
                return


def main() -> None:
    """Read the arguments, and be one of the two ends."""
    own = sys.argv[1:]
    at = own.index("--") if "--" in own else len(own)
    parser = argparse.ArgumentParser()
    sides = parser.add_subparsers(dest="side", required=True)
    for name in ("near", "far"):
        side = sides.add_parser(name)
        if name == "near":
            side.add_argument("connection_file", type=Path)
        side.add_argument("--node", type=Path, required=True)
        side.add_argument("--peer", required=True)
        side.add_argument("--line", required=True)
    options = parser.parse_args(own[:at], argparse.Namespace(command=own[at + 1 :]))
    # As if by Ctrl-C: what was begun is ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with (
        contextlib.suppress(KeyboardInterrupt),
        alone(options.node) as lock,
        tempfile.TemporaryDirectory(prefix="sealed-") as folder,
    ):
        (near if options.side == "near" else far)(options, Path(folder), lock)


if __name__ == "__main__":
    main()
