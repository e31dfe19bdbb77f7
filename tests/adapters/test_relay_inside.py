"""A relay in this process: what no other process can bring about.

Rules of this file: the relay runs in a thread, the plain ends and the line are sockets of
the test. So a store can fail, and files run out, when the test says so.
"""

from __future__ import annotations

import errno
import threading
from types import SimpleNamespace

import pytest
import zmq
from relays import flow, wait_until

from envelope import Node
from envelope.errors import StoreUnavailableError, UsageError
from envelope.replay import sqlite
from envelope.zeromq import SecureSocket, clients, relay, relayfile


class Running:
    """One relay and its thread."""

    def __init__(self, file, node, **how) -> None:
        self.relay = relay.Relay(relayfile.read(file), node)
        self.thread = threading.Thread(target=self.relay.run, kwargs=how)
        self.thread.start()

    def end(self) -> dict:
        """Let it come to its end, and return its figures."""
        self.relay.stop()
        self.thread.join(20)
        assert not self.thread.is_alive()
        figures = self.relay.figures()
        self.relay.close()
        return figures


@pytest.fixture
def place(tmp_path):
    """Returns an ipc endpoint by name."""
    return lambda name: f"ipc://{tmp_path}/{name}"


@pytest.fixture
def nodes(tmp_path):
    """Two nodes that believe each other, by name."""
    names = ("left", "right")
    made = {name: Node.create(tmp_path / f"{name}.node") for name in names}
    peers = "".join(
        f'[[peer]]\nname = "{name}"\nkey = "{node.identity.public}"\ncontexts = ["flow.*"]\n'
        for name, node in made.items()
    )
    for name, node in made.items():
        node.close()
        (tmp_path / f"{name}.node" / "peers.toml").write_text(peers)
    loaded = {name: Node.load(tmp_path / f"{name}.node") for name in names}
    yield loaded
    for node in loaded.values():
        node.close()


@pytest.fixture
def start(tmp_path, nodes):
    """Starts a relay: ``start("left", [flow, ...])``, flows as TOML."""
    running = []

    def make(name: str, *flows: str, **how) -> Running:
        file = tmp_path / f"{name}.toml"
        text = "".join(f"[[flow]]\n{one}\n" for one in flows)
        file.write_text(f'node = "{name}.node"\nlinger = 1\n{text}')
        running.append(Running(file, nodes[name], **how))
        return running[-1]

    yield make
    for one in running:
        if one.thread.is_alive():
            one.end()


class TestFlows:
    def test_what_a_publisher_says_on_several_topics_keeps_its_order(self, start, plain, place):
        start(
            "left",
            flow("s", ("SUB", "connect", place("a")), ("PUB", "bind", place("x")), to=["right"]),
        )
        start("right", flow("s", ("PUB", "bind", place("b")), ("SUB", "connect", place("x"))))
        pub, sub = plain(zmq.PUB), plain(zmq.SUB)
        pub.bind(place("a"))
        sub.connect(place("b"))

        def heard() -> bool:
            pub.send(b"hello")
            return bool(sub.poll(20))

        wait_until(heard)
        sent = [[b"%d" % (number % 3), b"%d" % number] for number in range(200)]
        for frames in sent:
            pub.send_multipart(frames)
        got = []
        while len(got) < len(sent):
            frames = sub.recv_multipart()
            if frames != [b"hello"]:
                got.append(frames)
        assert got == sent

    def test_a_subscriber_may_say_only_what_it_subscribes_to(self, start, plain, place):
        start(
            "left",
            flow("s", ("XSUB", "connect", place("a")), ("XPUB", "bind", place("x")), to=["right"]),
        )
        program, line = plain(zmq.XPUB), plain(zmq.XSUB)
        program.bind(place("a"))
        line.connect(place("x"))
        line.send(b"\x02 obey")
        line.send(b"")
        line.send(b"\x01news")
        assert program.recv() == b"\x01news"
        line.send(b"\x00news")
        assert program.recv() == b"\x00news"


class TestRoom:
    def test_a_receiver_that_takes_nothing_holds_its_sender_and_loses_nothing(
        self, start, plain, place
    ):
        start("left", flow("p", ("PULL", "bind", place("a")), ("PUSH", "connect", place("x")),
                           to=["right"], hwm=2))  # fmt: skip
        start("right", flow("p", ("PUSH", "bind", place("b")), ("PULL", "bind", place("x")),
                            hwm=2))  # fmt: skip
        push = plain(zmq.PUSH)
        push.sndtimeo = 200
        push.connect(place("a"))
        sent = 0

        def fill() -> None:
            nonlocal sent
            while True:
                push.send(b"%06d" % sent + b"x" * 20_000)
                sent += 1

        with pytest.raises(zmq.Again):
            fill()
        pull = plain(zmq.PULL)
        pull.connect(place("b"))
        assert [int(pull.recv()[:6]) for _ in range(sent)] == list(range(sent))

    def test_a_store_that_cannot_answer_loses_nothing(
        self, start, plain, place, nodes, monkeypatch
    ):
        is_out, asked = threading.Event(), threading.Event()
        mark = sqlite.DurableGuard.mark

        def ask(*args, **options):
            if is_out.is_set():
                asked.set()
                raise StoreUnavailableError("the store cannot answer")
            return mark(*args, **options)

        monkeypatch.setattr(sqlite.DurableGuard, "mark", ask)
        right = start(
            "right", flow("p", ("PUSH", "bind", place("b")), ("PULL", "bind", place("x")))
        )
        pull, socket = plain(zmq.PULL), plain(zmq.PUSH)
        pull.connect(place("b"))
        socket.connect(place("x"))
        is_out.set()
        with SecureSocket(socket, sealer=nodes["left"].sealer("flow.p", to=["right"])) as line:
            line.send_multipart([b"kept"])
            assert asked.wait(10)
            # Also when it is told to end now.
            right.relay.stop()
            is_out.clear()
            assert pull.recv() == b"kept"
        assert right.end()["p"]["in"]["messages"] == 1


class Closable:
    """Stands for a DEALER."""

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


class TestClients:
    def find(self, known, sender: str, name: bytes):
        return known.find(name, SimpleNamespace(name=sender))[0].socket

    def test_the_oldest_of_the_sender_with_most_makes_way(self):
        known = clients.Clients(Closable, 3)
        ann = self.find(known, "left", b"ann")
        flood = [self.find(known, "mallory", b"%d" % number) for number in range(50)]
        assert not ann.is_closed
        assert [one.is_closed for one in flood] == [True] * 48 + [False] * 2

    def test_who_spoke_lately_stays(self):
        known = clients.Clients(Closable, 2)
        ann, ben = (self.find(known, "left", name) for name in (b"ann", b"ben"))
        assert self.find(known, "left", b"ann") is ann
        self.find(known, "left", b"eve")
        assert (ann.is_closed, ben.is_closed) == (False, True)

    def test_a_name_is_that_of_the_first_sender_until_its_client_is_gone(self):
        known = clients.Clients(Closable, 2)
        assert self.find(known, "left", b"ann").name == b"ann"
        assert self.find(known, "right", b"ann").name == b""
        self.find(known, "left", b"ben")
        self.find(known, "left", b"eve")
        assert self.find(known, "third", b"ann").name == b"ann"

    def test_a_client_for_whom_there_is_no_file_left_is_dropped(
        self, start, plain, place, nodes, monkeypatch
    ):
        right = start(
            "right",
            flow("d", ("DEALER", "connect", place("b")), ("ROUTER", "bind", place("x")),
                 to=["left"]),
        )  # fmt: skip
        make = relay.Relay._make_dealer

        def fail(self, flow, client):
            if client == b"one too many":
                raise zmq.ZMQError(errno.EMFILE)
            return make(self, flow, client)

        monkeypatch.setattr(relay.Relay, "_make_dealer", fail)
        server, socket = plain(zmq.ROUTER), plain(zmq.DEALER)
        server.bind(place("b"))
        socket.connect(place("x"))
        with SecureSocket(socket, sealer=nodes["left"].sealer("flow.d", to=["right"])) as line:
            line.send_multipart([b"one too many", b"hello"])
            line.send_multipart([b"ann", b"hello"])
            assert server.recv_multipart() == [b"ann", b"hello"]
        assert right.end()["d"]["in"] == {"messages": 1, "bytes": 5, "dropped": 1}


class TestMaking:
    def test_a_relay_that_cannot_be_made_leaves_nothing_open(self, tmp_path, nodes, place):
        file = tmp_path / "left.toml"
        good = flow("p", ("PULL", "bind", place("a")), ("PUSH", "bind", place("x")), to=["right"])
        bad = flow("q", ("PULL", "bind", "ipc:///nowhere/at/all"), ("PUSH", "bind", place("y")),
                   to=["right"])  # fmt: skip
        file.write_text(f'node = "left.node"\n[[flow]]\n{good}\n[[flow]]\n{bad}\n')
        with pytest.raises(UsageError, match="flow 'q': ipc:///nowhere/at/all"):
            relay.Relay(relayfile.read(file), nodes["left"])
        file.write_text(f'node = "left.node"\n[[flow]]\n{good}\n')
        with relay.Relay(relayfile.read(file), nodes["left"]) as made:
            assert made.figures()["p"]["out"]["messages"] == 0

    def test_figures_are_reported_every_so_often(self, start, place):
        reported = threading.Event()
        left = start(
            "left",
            flow("p", ("PULL", "bind", place("a")), ("PUSH", "bind", place("x")), to=["right"]),
            every=0.1,
            report=reported.set,
        )
        assert reported.wait(10)
        left.end()
        left.relay.stop()  # Once more, after all is closed.

    @pytest.mark.parametrize(
        ("files", "flows", "most"),
        [(1024, 1, 298), (1024, 4, 74), (64, 1, 1), (10**6, 1, clients.MAX_CLIENTS),
         (-1, 1, clients.MAX_CLIENTS), (64, 0, clients.MAX_CLIENTS)],
    )  # fmt: skip
    def test_clients_are_bounded_by_the_files_that_may_be_open(
        self, monkeypatch, files, flows, most
    ):
        monkeypatch.setattr(relay.resource, "getrlimit", lambda _: (files, files))
        one = SimpleNamespace(plain=SimpleNamespace(type="DEALER"))
        assert relay._max_clients(SimpleNamespace(flows=[one] * flows)) == most
