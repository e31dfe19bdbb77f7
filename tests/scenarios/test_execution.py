"""A server that is killed while it executes: never twice, and the client is told.

Rules of this file: real processes, ``kill -9``, real clocks. What was executed is read
from a file that outlives every life of the server.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
import zmq

from envelope import Node
from envelope.errors import RequestError, RequestRefusedError
from envelope.zeromq import SecureSocket

CONTEXT = "orders"
SCRIPT = Path(__file__).with_name("executor.py")
SLOW = "30"


class Place:
    """Two nodes that know each other, and the lives of the server."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.endpoint = f"ipc://{path}/line"
        self.log = path / "executed"
        self.client, server = (Node.create(path / name) for name in ("client", "server"))
        for node, name, other in (
            (self.client, "server", server),
            (server, "client", self.client),
        ):
            (node.path / "peers.toml").write_text(
                f'[[peer]]\nname = "{name}"\nkey = "{other.identity.public}"\n'
                f'contexts = ["{CONTEXT}"]\n'
            )
        self.client = Node.load(path / "client")
        server.close()
        self.lives: list[subprocess.Popen] = []

    def start(self) -> None:
        command = [sys.executable, SCRIPT, self.path / "server", self.log, self.endpoint, SLOW]
        life = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.lives.append(life)
        assert life.stdout.readline() == "ready\n"

    def kill(self) -> None:
        self.lives[-1].kill()
        self.lives[-1].wait()
        self.lives[-1].stdout.close()

    @property
    def executed(self) -> list[str]:
        return [line.split()[1] for line in self.log.read_text().splitlines()]

    def wait_until_executed(self, payload: str) -> None:
        for _ in range(500):
            if self.log.exists() and payload in self.executed:
                return
            threading.Event().wait(0.01)
        raise AssertionError(f"{payload} was never executed")


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path)
    yield place
    for life in place.lives:
        if life.returncode is None:
            place.kill()
    place.client.close()


@pytest.fixture
def client(place):
    with zmq.Context() as context:
        socket = context.socket(zmq.DEALER)
        socket.linger = 0
        socket.reconnect_ivl = 10
        socket.connect(place.endpoint)
        with SecureSocket(
            socket,
            sealer=place.client.sealer(CONTEXT, to=["server"]),
            opener=place.client.opener(CONTEXT),
        ) as secure:
            yield secure


@pytest.mark.audit("A3", "A22", "A23")
def test_what_was_begun_is_not_executed_by_the_next_life(place, client):
    place.start()
    assert client.request(b"before", timeout=10_000, retry=50).payload == b"re: before"
    request = client.send_request(b"slow", "slow")
    place.wait_until_executed("slow")
    place.kill()
    place.start()
    with pytest.raises(RequestRefusedError):
        client.wait(request, timeout=10_000, retry=50)
    assert client.request(b"after", timeout=10_000, retry=50).payload == b"re: after"
    assert place.executed == ["before", "slow", "after"]


@pytest.mark.audit("A3", "A23")
def test_under_many_kills_every_request_has_an_end(place, client):
    place.start()
    outcomes = Counter()
    for number in range(3):
        requests = [client.send_request(b"%d.%d" % (number, one)) for one in range(10)]
        requests.append(client.send_request(b"%d.slow" % number, "slow"))
        place.wait_until_executed(f"{number}.slow")
        place.kill()
        place.start()
        for request in requests:
            try:
                reply = client.wait(request, timeout=5000, retry=50)
            except RequestError as error:
                outcomes[type(error).__name__] += 1
            else:
                assert reply.payload == b"re: " + request.payload
                outcomes["reply"] += 1
    assert outcomes.total() == 33
    assert outcomes["RequestTimeoutError"] == 0
    executed = Counter(place.executed)
    assert set(executed.values()) == {1}
