"""A real Jupyter kernel and a real client, with relays or plain wires between them.

Rules of this file: the kernel is a process that knows nothing of envelopes; so is the
client a library that does not. On every channel somebody is on the line. All endpoints
are ipc in the test's folder. Nothing waits without a limit, and every process ends with
the test.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
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

Frames = list[bytes]


def connection_file(path: Path, prefix: Path) -> Path:
    """Write a connection file; channel n is at ipc://PREFIX-n."""
    ports = {f"{name}_port": number for name, number in CHANNELS.items()}
    about = {"transport": "ipc", "ip": str(prefix), "key": KEY}
    path.write_text(json.dumps({**ports, **about, "signature_scheme": "hmac-sha256"}))
    return path


def environment(folder: Path) -> dict[str, str]:
    """Return an environment in which nothing of Jupyter is outside the folder."""
    outside = {**os.environ, "PYTHONWARNINGS": "ignore"}
    outside.pop("PYTHONWARNDEFAULTENCODING", None)
    outside["IPYTHONDIR"] = str(folder / "ipython")
    for kind in ("RUNTIME", "CONFIG", "DATA"):
        outside[f"JUPYTER_{kind}_DIR"] = str(folder / kind.lower())
    return outside


class Kernel:
    """ipykernel, as a notebook server would start it."""

    def __init__(self, folder: Path) -> None:
        self.prefix = folder / "kernel"
        self._file = connection_file(folder / "kernel.json", self.prefix)
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
            env=environment(self._folder),
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
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
    """Whoever is on the line of one channel: passes on, records, and sends what they like.

    Attributes:
        inward: the messages that went to the kernel, without the id of the connection.
        outward: those that went to the client.
    """

    def __init__(self, name: str, here: str, there: str) -> None:
        super().__init__()
        self._context = zmq.Context()
        self._has_routes = name != "iopub"
        types = (zmq.ROUTER, zmq.DEALER) if self._has_routes else (zmq.XPUB, zmq.XSUB)
        self._here, self._there = (self._context.socket(one) for one in types)
        if self._has_routes:
            # A kernel asks on stdin whom it knows from shell: one id on all channels.
            self._there.routing_id = b"wire"
        self._here.bind(here)
        self._there.connect(there)
        self.inward: list[Frames] = []
        self.outward: list[Frames] = []
        self._latest = b""
        self._orders: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._over = threading.Event()
        self.start()

    def run(self) -> None:
        poller = zmq.Poller()
        for socket in (self._here, self._there):
            poller.register(socket, zmq.POLLIN)
        while not self._over.is_set():
            for socket, _ in poller.poll(10):
                frames = socket.recv_multipart()
                if socket is self._there:
                    self.outward.append(frames[1:] if self._has_routes else frames)
                    self._here.send_multipart(frames)
                    continue
                if self._has_routes:
                    self._latest = frames[0]
                    self.inward.append(frames[1:])
                self._there.send_multipart(frames)
            with contextlib.suppress(queue.Empty):
                while True:
                    self._orders.get(block=False)()
        self._context.destroy(linger=0)

    def to_kernel(self, messages: list[Frames]) -> int:
        """Send messages that way, and return how many; what comes later follows them."""
        return self._send(self._there, messages)

    def to_client(self, messages: list[Frames]) -> int:
        """The other way; on the connection that there is now."""
        return self._send(self._here, messages)

    def _send(self, socket: Any, messages: list[Frames]) -> int:
        def send() -> None:
            route = [self._latest] if self._has_routes else []
            for frames in messages:
                socket.send_multipart([*route, *frames])
            done.set()

        done = threading.Event()
        self._orders.put(send)
        assert done.wait(TIMEOUT)
        return len(messages)

    def end(self) -> None:
        self._over.set()
        self.join()


class Lab:
    """A kernel, a client, and what is between them.

    Attributes:
        wires: who is on the line, by channel.
        near, far: the relays at the client and at the kernel, if there are any.
    """

    def __init__(self, folder: Path, *, is_sealed: bool) -> None:
        self.folder = folder
        self.kernel = Kernel(folder)
        self.near: Relay | None = None
        self.far: Relay | None = None
        self._clients: list[BlockingKernelClient] = []
        client = folder / "client"
        self._file = connection_file(folder / "client.json", client)
        here, there = (client, self.kernel.prefix)
        if is_sealed:
            here, there = folder / "line", folder / "far"
        self.wires = wires(here, there)
        if is_sealed:
            self._seal(folder)

    def _seal(self, folder: Path) -> None:
        make_nodes(folder, "flow.*")
        files = {name: folder / f"{name}.toml" for name in ("near", "far")}
        for name, file in files.items():
            file.write_text(f'node = "{name}.node"\n')
        for name, number in CHANNELS.items():
            client, line, back, kernel = (
                f"ipc://{folder}/{one}-{number}" for one in ("client", "line", "far", "kernel")
            )
            if name == "iopub":
                near = flow(name, ("XPUB", "bind", client), ("XSUB", "connect", line))
                far = flow(name, ("XSUB", "connect", kernel), ("XPUB", "bind", back), to=["near"])
            else:
                more = {"same_clients_as": "shell"} if name == "stdin" else {}
                near = flow(
                    name,
                    ("ROUTER", "bind", client),
                    ("DEALER", "connect", line),
                    to=["far"],
                    **more,
                )
                far = flow(
                    name,
                    ("DEALER", "connect", kernel),
                    ("ROUTER", "bind", back),
                    to=["near"],
                    **more,
                )
            for who, text in (("near", near), ("far", far)):
                with files[who].open("a") as file:
                    file.write(f"[[flow]]\n{text}\n")
        self.far, self.near = Relay(files["far"]), Relay(files["near"])

    def connect(self) -> BlockingKernelClient:
        """Return a client that has heard nothing yet."""
        client = BlockingKernelClient()
        client.load_connection_file(str(self._file))
        client.start_channels()
        self._clients.append(client)
        return client

    def client(self) -> BlockingKernelClient:
        """Return a client that has heard the kernel.

        A relay that was killed refuses what is stamped in the seconds around (SPEC 8.10);
        a client takes a heart that does not beat for a second for dead, and tries again.
        """
        for _ in range(10):
            client = self.connect()
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


def wires(here: Path, there: Path) -> dict[str, Wire]:
    """Put somebody on the line of each channel."""
    return {
        name: Wire(name, f"ipc://{here}-{number}", f"ipc://{there}-{number}")
        for name, number in CHANNELS.items()
    }


def make_nodes(folder: Path, contexts: str) -> None:
    """Make near.node and far.node, who know each other."""
    keys = {one: Node.create(folder / f"{one}.node").identity.public for one in ("near", "far")}
    peers = "".join(
        f'[[peer]]\nname = "{name}"\nkey = "{key}"\ncontexts = ["{contexts}"]\n'
        for name, key in keys.items()
    )
    for name in keys:
        (folder / f"{name}.node" / "peers.toml").write_text(peers)


@pytest.fixture(name="environment")
def fixture_environment():
    return environment


@pytest.fixture(name="make_nodes")
def fixture_make_nodes():
    return make_nodes


@pytest.fixture
def make_wires():
    return wires


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
