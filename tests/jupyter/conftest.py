"""A real Jupyter kernel and a real client, with relays or plain wires between them.

Rules of this file: the kernel is a process that knows nothing of envelopes; so is the
client a library that does not. All endpoints are ipc in the test's folder. Nothing waits
without a limit, and every process ends with the test.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zmq
from relays import Relay, flow

from envelope import Node

os.environ["JUPYTER_PLATFORM_DIRS"] = "1"  # Without it an import warns.
from jupyter_client.blocking import BlockingKernelClient

CHANNELS = {"shell": 1, "iopub": 2, "stdin": 3, "control": 4, "hb": 5}
KEY = "of every connection file in this test"
TIMEOUT = 30


def connection_file(path: Path, prefix: Path) -> Path:
    """Write a connection file; channel n is at ipc://PREFIX-n."""
    ports = {f"{name}_port": number for name, number in CHANNELS.items()}
    about = {"transport": "ipc", "ip": str(prefix), "key": KEY}
    path.write_text(json.dumps({**ports, **about, "signature_scheme": "hmac-sha256"}))
    return path


class Kernel:
    """ipykernel, as a notebook server would start it."""

    def __init__(self, folder: Path) -> None:
        self.prefix = folder / "kernel"
        self._file = connection_file(folder / "kernel.json", self.prefix)
        self._environment = {
            **os.environ,
            "IPYTHONDIR": str(folder / "ipython"),
            "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
            "JUPYTER_CONFIG_DIR": str(folder / "config"),
            "PYTHONWARNINGS": "ignore",
        }
        self._environment.pop("PYTHONWARNDEFAULTENCODING", None)
        self._folder = folder
        self.begin()

    def begin(self) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "ipykernel_launcher",
                "-f",
                str(self._file),
                "--HistoryManager.enabled=False",
            ],
            env=self._environment,
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # It interrupts its whole group.
        )

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(timeout=10)

    def restart(self) -> None:
        """The same connection file, a new process: what a notebook's restart does."""
        self.kill()
        self.begin()


class Wire(threading.Thread):
    """A ROUTER here, a DEALER there, and whoever is in between: it records, and repeats."""

    def __init__(self, here: str, there: str) -> None:
        super().__init__()
        self._context = zmq.Context()
        self._here, self._there = (self._context.socket(one) for one in (zmq.ROUTER, zmq.DEALER))
        self._here.bind(here)
        self._there.connect(there)
        self.recorded: list[list[bytes]] = []
        self._again: list[list[bytes]] = []
        self._over = threading.Event()
        self.start()

    def run(self) -> None:
        poller = zmq.Poller()
        for socket in (self._here, self._there):
            poller.register(socket, zmq.POLLIN)
        while not self._over.is_set():
            for socket, _ in poller.poll(10):
                frames = socket.recv_multipart()
                if socket is self._here:
                    self.recorded.append(frames)
                    self._there.send_multipart(frames)
                else:
                    self._here.send_multipart(frames)
            while self._again:
                self._there.send_multipart(self._again.pop(0))
        self._context.destroy(linger=0)

    def repeat(self) -> None:
        """Send everything again that went to the kernel."""
        self._again.extend(list(self.recorded))

    def end(self) -> None:
        self._over.set()
        self.join()


class Lab:
    """A kernel, a client, and what is between them.

    Attributes:
        wires: by channel, where somebody is on the line.
        near, far: the relays at the client and at the kernel, if there are any.
    """

    def __init__(self, folder: Path, *, is_sealed: bool) -> None:
        self.folder = folder
        self.kernel = Kernel(folder)
        self.wires: dict[str, Wire] = {}
        self.near: Relay | None = None
        self.far: Relay | None = None
        self._clients: list[BlockingKernelClient] = []
        client = folder / "client"
        self._file = connection_file(folder / "client.json", client)
        if is_sealed:
            self._seal(folder, client)
        else:
            for name in ("shell", "control"):
                number = CHANNELS[name]
                place = f"ipc://{client}-{number}"
                self.wires[name] = Wire(place, f"ipc://{self.kernel.prefix}-{number}")
            for name in ("iopub", "stdin", "hb"):
                # Straight to the kernel.
                number = CHANNELS[name]
                Path(f"{client}-{number}").symlink_to(f"{self.kernel.prefix}-{number}")

    def _seal(self, folder: Path, client: Path) -> None:
        keys = {one: Node.create(folder / f"{one}.node").identity.public for one in ("near", "far")}
        peers = "".join(
            f'[[peer]]\nname = "{name}"\nkey = "{key}"\ncontexts = ["flow.*"]\n'
            for name, key in keys.items()
        )
        files = {}
        for name in keys:
            (folder / f"{name}.node" / "peers.toml").write_text(peers)
            files[name] = folder / f"{name}.toml"
            files[name].write_text(f'node = "{name}.node"\n')
        for name, number in CHANNELS.items():
            out, back = f"ipc://{folder}/line-{number}", f"ipc://{folder}/line-{number}"
            if name in ("shell", "control"):
                back = f"ipc://{folder}/far-{number}"
                self.wires[name] = Wire(out, back)
            here, there = f"ipc://{client}-{number}", f"ipc://{self.kernel.prefix}-{number}"
            if name == "iopub":
                near = flow(name, ("XPUB", "bind", here), ("XSUB", "connect", out))
                far = flow(name, ("XSUB", "connect", there), ("XPUB", "bind", back), to=["near"])
            else:
                more = {"same_clients_as": "shell"} if name == "stdin" else {}
                near = flow(
                    name, ("ROUTER", "bind", here), ("DEALER", "connect", out), to=["far"], **more
                )
                far = flow(
                    name, ("DEALER", "connect", there), ("ROUTER", "bind", back), to=["near"]
                )
            for who, text in (("near", near), ("far", far)):
                with files[who].open("a") as file:
                    file.write(f"[[flow]]\n{text}\n")
        self.far, self.near = Relay(files["far"]), Relay(files["near"])

    def client(self) -> BlockingKernelClient:
        """Return a client that has heard the kernel.

        A relay that was killed refuses what is stamped in the seconds around (SPEC 8.10);
        a client takes a heart that does not beat for a second for dead, and tries again.
        """
        for _ in range(10):
            client = BlockingKernelClient()
            client.load_connection_file(str(self._file))
            client.start_channels()
            self._clients.append(client)
            with contextlib.suppress(RuntimeError):
                client.wait_for_ready(timeout=TIMEOUT)
                return client
            client.stop_channels()
        raise AssertionError

    def run(self, client: BlockingKernelClient, code: str, **how: Any) -> list[dict[str, Any]]:
        """Run code to its end; return what it said on iopub."""
        said: list[dict[str, Any]] = []
        hook: Callable[[dict[str, Any]], None] = said.append
        reply = client.execute_interactive(code, output_hook=hook, timeout=TIMEOUT, **how)
        assert reply["content"]["status"] == "ok", reply["content"]
        return said

    def end(self) -> None:
        for client in self._clients:
            client.stop_channels()
            client.context.destroy(linger=0)
        self.kernel.kill()
        for wire in self.wires.values():
            wire.end()
        for relay in (self.near, self.far):
            if relay is not None and relay.process.returncode is None:
                relay.kill()


@pytest.fixture
def lab(tmp_path):
    """Makes a lab: ``lab(is_sealed=True)``."""
    labs: list[Lab] = []

    def make(*, is_sealed: bool) -> Lab:
        labs.append(Lab(tmp_path, is_sealed=is_sealed))
        return labs[-1]

    yield make
    for one in labs:
        one.end()
