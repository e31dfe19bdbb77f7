"""Whoever can reach a relay, from the inside or the outside, tries to stop it or to cheat.

The relays are processes of the command line. What a stranger does is done by plain
sockets, what an authorised sender does by envelopes that no relay would make.
"""

from __future__ import annotations

import datetime as dt
import json
import signal
import subprocess
import sys
import threading

import pytest
import zmq
from relays import ROOT, Relay, flow, wait_until

from envelope import Node, codec
from envelope.clock import SECOND, monotonic
from envelope.zeromq import SecureSocket

WAIT_MS = 10_000
NAMES = ("left", "right", "mallory")


class House:
    """Three nodes that believe each other, and a relay for each that is asked for."""

    def __init__(self, folder) -> None:
        self.folder = folder
        self.running: list[Relay] = []
        for name in NAMES:
            Node.create(folder / f"{name}.node").close()
        self.know("")

    def know(self, more: str) -> None:
        """Write the peers anew, each with more lines."""
        keys = {name: Node.load(self.folder / f"{name}.node").identity.public for name in NAMES}
        peers = "".join(
            f'[[peer]]\nname = "{name}"\nkey = "{key}"\ncontexts = ["flow.*"]\n{more}\n'
            for name, key in keys.items()
        )
        for name in NAMES:
            (self.folder / f"{name}.node" / "peers.toml").write_text(peers)

    def at(self, name: str) -> str:
        return f"ipc://{self.folder}/{name}"

    def file(self, name: str, *flows: str, top: str = ""):
        file = self.folder / f"{name}.toml"
        text = "".join(f"[[flow]]\n{one}\n" for one in flows)
        file.write_text(f'node = "{name}.node"\n{top}\n{text}')
        return file

    def relay(self, name: str, *flows: str, top: str = "", files: int | None = None) -> Relay:
        self.running.append(Relay(self.file(name, *flows, top=top), files=files))
        return self.running[-1]

    def dialogue(self, name: str = "left", place: str = "a") -> Relay:
        """Return a relay for clients."""
        return self.relay(
            name,
            flow(
                "d",
                ("ROUTER", "bind", self.at(place)),
                ("DEALER", "connect", self.at("x")),
                to=["right"],
            ),
        )

    def answers(self, *, files: int | None = None, **more) -> Relay:
        """Return the relay beside the server."""
        return self.relay(
            "right",
            flow(
                "d",
                ("DEALER", "connect", self.at("b")),
                ("ROUTER", "bind", self.at("x")),
                to=["left", "mallory"],
                **more,
            ),
            files=files,
        )


@pytest.fixture
def house(tmp_path):
    made = House(tmp_path)
    yield made
    for relay in made.running:
        if relay.process.returncode is None:
            relay.kill()


def told(file) -> tuple[int, bytes]:
    """Return the status and the words of a relay that cannot begin."""
    done = subprocess.run(
        [sys.executable, "-m", "envelope.cli", "relay", str(file)],
        capture_output=True,
        cwd=ROOT,
        timeout=20,
        check=False,
    )
    return done.returncode, done.stderr


class TestClients:
    def ask(self, house, plain, reply, number: int) -> None:
        request = plain(zmq.REQ)
        request.connect(house.at("a"))
        request.send(b"%d" % number)
        assert reply.recv() == b"%d" % number
        reply.send(b"done")
        assert request.recv() == b"done"
        request.close()

    def test_clients_that_come_and_go_do_not_use_a_relay_up(self, house, plain):
        house.dialogue()
        house.answers(files=200)
        reply = plain(zmq.REP)
        reply.bind(house.at("b"))
        # Each has an id of its own, as a program has that makes a REQ for each request.
        for number in range(150):
            self.ask(house, plain, reply, number)

    def test_a_sender_whom_the_server_would_not_hear_stops_no_other(self, house, plain):
        house.dialogue()
        house.dialogue("mallory", "m")
        right = house.answers(hwm=5)
        server = plain(zmq.ROUTER)
        server.rcvhwm = 5
        server.bind(house.at("b"))
        for place in ("a", "m"):
            client = plain(zmq.DEALER)
            client.sndtimeo = 500
            client.routing_id = b"ann"
            client.connect(house.at(place))
            client.send(b"hello")
            # The second of these is one too many for a server that goes by names.
            wait_until(lambda: server.poll(500))
            server.recv_multipart()
        for _ in range(300):
            client.send(b"x" * 5000)
        while server.poll(1000):
            server.recv_multipart()
        ben = plain(zmq.DEALER)
        ben.routing_id = b"ben"
        ben.connect(house.at("a"))
        ben.send(b"and I?")
        assert server.recv_multipart() == [b"ben", b"and I?"]
        assert right.process.poll() is None


class TestSenders:
    def test_what_no_relay_would_say_is_dropped_and_stops_nothing(self, house, plain):
        house.relay(
            "right",
            flow("p", ("PUSH", "connect", house.at("b")), ("PULL", "bind", house.at("x"))),
            flow(
                "d",
                ("DEALER", "connect", house.at("c")),
                ("ROUTER", "bind", house.at("y")),
                to=["left"],
            ),
        )
        pull, server = plain(zmq.PULL), plain(zmq.ROUTER)
        pull.bind(house.at("b"))
        server.bind(house.at("c"))
        node = Node.load(house.folder / "left.node")
        for kind, name, place in ((zmq.PUSH, "p", "x"), (zmq.DEALER, "d", "y")):
            socket = plain(kind)
            socket.connect(house.at(place))
            with SecureSocket(socket, sealer=node.sealer(f"flow.{name}", to=["right"])) as line:
                odd = codec.encode_object([b"ann", 3])
                for payload in (b"", b"junk", odd, codec.encode_frames([])):
                    line.send(payload)
                    line.send_many([payload, payload])
                # A client without a name, one with a name too long, one that ZeroMQ owns.
                for client in (b"", b"z" * 256, b"\0abc", b"z" * 10**6):
                    line.send_multipart([client, b"", b"odd"])
                line.send_multipart([b"ann", b"the end"])
                wait_until(lambda: pull.poll(0) or server.poll(0))
                got = pull if name == "p" else server
                while (frames := got.recv_multipart())[-1] != b"the end":
                    assert frames[-1] == b"odd"
        figures = house.running[0].end()
        assert [figures[name]["in"] for name in "pd"] == [
            {"messages": 5, "bytes": figures["p"]["in"]["bytes"], "dropped": 12},
            {"messages": 5, "bytes": figures["d"]["in"]["bytes"], "dropped": 12},
        ]

    def test_an_envelope_of_one_flow_cannot_be_brought_to_another(self, house):
        one, other = (
            flow(name, ("PUSH", "bind", house.at(name)), ("PULL", "bind", house.at(f"{name}-x")))
            for name in ("p", "q")
        )
        status, said = told(house.file("right", one, other.replace("flow.q", "flow.p")))
        assert (status, b"context 'flow.p'" in said) == (2, True)

    def test_a_recipient_that_expires_ends_no_other_flow(self, house, plain):
        over = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=4)
        house.know(f"not_after = {over:%Y-%m-%dT%H:%M:%SZ}")
        left = house.relay(
            "left",
            flow(
                "p",
                ("PULL", "bind", house.at("a")),
                ("PUSH", "connect", house.at("x")),
                to=["right"],
            ),
            flow(
                "s",
                ("SUB", "connect", house.at("pub")),
                ("PUB", "bind", house.at("y")),
                sign_only=True,
            ),
            top="linger = 0.2",
        )
        push, pub, sub = plain(zmq.PUSH), plain(zmq.PUB), plain(zmq.SUB)
        push.connect(house.at("a"))
        pub.bind(house.at("pub"))
        sub.connect(house.at("y"))

        def told_so() -> bool:
            push.send(b"for nobody")
            assert left.process.poll() is None
            return any(b"every recipient" in line for line in left.said)

        drain = plain(zmq.PULL)
        drain.bind(house.at("x"))
        wait_until(told_so)

        def heard() -> bool:
            pub.send(b"still here")
            return bool(sub.poll(20))

        wait_until(heard)
        assert left.end()["s"]["out"]["messages"] > 0


class TestStrangers:
    STRANGE = (
        [b""],
        [b"", b""],
        [b"x"] * 300,
        [b""] * 300,
        [b"y" * 3_000_000],
        [b"\1"],
        [b"\0" * 5],
        [b"\1" + b"z" * 1000, b"more"],
        [b"", b"envelope/v1/challenge", b"ENV1"],
    )

    @pytest.mark.audit("A3")
    def test_strange_frames_stop_nothing(self, house, plain):
        pairs = [
            ("p", "PULL", "PUSH", zmq.PUSH),
            ("s", "XSUB", "XPUB", zmq.PUB),
            ("d", "ROUTER", "DEALER", zmq.DEALER),
            ("q", "PAIR", "PAIR", zmq.PAIR),
        ]
        left = house.relay(
            "left",
            *(
                flow(
                    name,
                    (inside, "bind", house.at(f"{name}a")),
                    (outside, "bind", house.at(f"{name}x")),
                    to=["right"],
                )
                for name, inside, outside, _ in pairs
            ),
            top="linger = 0.2",
        )
        sender = {"XPUB": zmq.SUB, "DEALER": zmq.ROUTER, "PAIR": zmq.PAIR}
        for name, _, outside, kind in pairs:
            socket = plain(kind)
            socket.connect(house.at(f"{name}a"))
            lines = [socket]
            if outside in ("XPUB", "DEALER", "PAIR"):
                lines.append(plain(zmq.XSUB if outside == "XPUB" else sender[outside]))
                lines[1].connect(house.at(f"{name}x"))
            for line in lines:
                for frames in self.STRANGE:
                    with_route = line.type != zmq.ROUTER
                    line.send_multipart(frames if with_route else [b"nobody", *frames])
        wait_until(lambda: left.process.poll() is None)
        assert left.end().keys() == {"p", "s", "d", "q"}

    @pytest.mark.audit("A3")
    def test_a_flood_on_one_flow_does_not_starve_another(self, house, plain):
        """A stranger sends forged envelopes, and now and then a true one, as it was taped."""
        house.relay(
            "left",
            flow(
                "p",
                ("PULL", "bind", house.at("a")),
                ("PUSH", "connect", house.at("tap")),
                to=["right"],
            ),
            flow(
                "q",
                ("PULL", "bind", house.at("c")),
                ("PUSH", "connect", house.at("y")),
                to=["right"],
            ),
        )
        right = house.relay(
            "right",
            flow(
                "p", ("PUSH", "connect", house.at("b")), ("PULL", "bind", house.at("x")), hwm=0
            ).replace("hwm = 0", "hwm = 100000"),
            flow("q", ("PUSH", "bind", house.at("e")), ("PULL", "bind", house.at("y"))),
        )
        tap, sink, push, ping, pong = (
            plain(kind) for kind in (zmq.PULL, zmq.PULL, zmq.PUSH, zmq.PUSH, zmq.PULL)
        )
        for socket in (tap, sink, push):
            socket.sndhwm = socket.rcvhwm = 0
        tap.bind(house.at("tap"))
        sink.bind(house.at("b"))
        push.connect(house.at("a"))
        ping.connect(house.at("c"))
        pong.connect(house.at("e"))
        pong.rcvtimeo = 20_000
        ping.send(b"warm")
        pong.recv()
        taped = []
        for _ in range(80):
            push.send(b"true")
            taped.append(tap.recv())
        forged = taped[0][:-1] + bytes([taped[0][-1] ^ 1])
        line = plain(zmq.PUSH)
        line.sndhwm = 0
        line.connect(house.at("x"))
        for true in taped:
            for _ in range(300):
                line.send(forged)
            line.send(true)
        wait_until(lambda: sink.poll(0))
        begun = monotonic()
        ping.send(b"and now?")
        assert pong.recv() == b"and now?"
        took = monotonic() - begun
        figures = right.end()["p"]
        assert took < SECOND, took
        assert figures["refused"].keys() <= {"bad_signature", "replayed"}

    def test_a_frame_larger_than_any_envelope_is_not_taken_in(self, house, plain):
        right = house.relay(
            "right", flow("p", ("PUSH", "connect", house.at("b")), ("PULL", "bind", house.at("x")))
        )
        line, other = plain(zmq.PUSH), plain(zmq.PUSH)
        watch = line.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        line.connect(house.at("x"))
        line.send(b"x" * (16 * 2**20 + 1))
        assert watch.poll(WAIT_MS)
        line.disable_monitor()
        watch.close()
        other.connect(house.at("x"))
        other.send(b"garbage")
        wait_until(lambda: any(b"malformed" in one for one in right.said))
        assert right.end()["p"]["refused"] == {"malformed": 1}


class TestEnds:
    def jobs(self, house, number: int = 0, **more) -> str:
        return flow(
            f"p{number}",
            ("PULL", "bind", house.at(f"a{number}")),
            ("PUSH", "connect", house.at("x")),
            to=["right"],
            **more,
        )

    def test_the_linger_is_one_for_all_flows(self, house, plain):
        left = house.relay(
            "left", *(self.jobs(house, number, hwm=2) for number in range(6)), top="linger = 0.5"
        )

        def fill(push) -> None:
            for _ in range(5000):
                push.send(b"x" * 5000)

        for number in range(6):
            push = plain(zmq.PUSH)
            push.sndtimeo, push.sndhwm = 50, 2
            push.connect(house.at(f"a{number}"))
            with pytest.raises(zmq.Again):
                fill(push)
        begun = monotonic()
        left.end()
        assert monotonic() - begun < 3 * SECOND

    def test_what_is_in_the_buffers_of_the_machine_has_arrived(self, house, plain):
        left = house.relay("left", self.jobs(house, hwm=3))
        house.relay(
            "right", flow("p0", ("PUSH", "bind", house.at("b")), ("PULL", "bind", house.at("x")))
        )
        push, pull = plain(zmq.PUSH), plain(zmq.PULL)
        pull.rcvhwm = 0
        push.connect(house.at("a0"))
        pull.connect(house.at("b"))
        for number in range(5000):
            push.send(b"%d" % number)
        # The socket of the test has given all away when it can be closed.
        watch = threading.Event()
        watch.wait(0.05)
        left.end()
        got = []
        while pull.poll(1000):
            got.append(int(pull.recv()))
        assert got == list(range(5000))

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
    def test_each_of_these_signals_ends_in_order(self, house, number):
        left = house.relay("left", self.jobs(house))
        left.process.send_signal(number)
        assert left.process.stdout is not None
        assert json.loads(left.process.stdout.read()).keys() == {"p0"}
        assert left.process.wait(timeout=10) == 0
        left._close()
        assert left.said == []

    @pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
    def test_a_second_signal_of_either_kind_ends_at_once(self, house, plain, second):
        left = house.relay("left", self.jobs(house, hwm=1), top="linger = 3600")
        push = plain(zmq.PUSH)
        push.sndtimeo = 50
        push.connect(house.at("a0"))

        def fill() -> None:
            for _ in range(5000):
                push.send(b"x" * 5000)

        with pytest.raises(zmq.Again):
            fill()
        left.process.terminate()
        threading.Event().wait(0.3)
        assert left.process.poll() is None
        left.process.send_signal(second)
        assert left.process.wait(timeout=10) == -second
        left._close()

    def test_a_reader_of_figures_that_goes_away_ends_nothing(self, house, plain):
        file = house.file("left", self.jobs(house))
        process = subprocess.Popen(
            [sys.executable, "-m", "envelope.cli", "relay", str(file), "--stats", "0.1"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
        )
        pull, push = plain(zmq.PULL), plain(zmq.PUSH)
        pull.bind(house.at("x"))
        push.connect(house.at("a0"))
        with process:
            assert process.stdout is not None
            process.stdout.readline()
            process.stdout.close()
            threading.Event().wait(0.4)
            push.send(b"still relayed")
            assert pull.recv()
            process.kill()


class TestFiles:
    @pytest.mark.parametrize(
        "place", ["ipc://" + "/x" * 100, "tcp://127.0.0.1:", "tcp://127.0.0.1:99999"]
    )
    def test_a_place_for_clients_that_cannot_be_is_told_at_the_start(self, house, place):
        file = house.file(
            "right",
            flow("d", ("DEALER", "connect", place), ("ROUTER", "bind", house.at("x")), to=["left"]),
        )
        status, said = told(file)
        assert (status, said.count(b"\n")) == (2, 1)
        assert said.startswith(b"envelope: ")
        assert place.encode() in said

    def test_a_place_may_be_ipv6(self, house, plain):
        left = house.relay(
            "left",
            flow(
                "p",
                ("PULL", "bind", "tcp://[::1]:*"),
                ("PUSH", "bind", "tcp://[::1]:*"),
                to=["right"],
            ),
        )
        assert left.end().keys() == {"p"}

    def test_a_flow_may_be_called_anything_printable(self, house):
        left = house.relay(
            "left",
            flow(
                "[/] [bold]",
                ("PULL", "bind", house.at("a")),
                ("PUSH", "bind", house.at("x")),
                to=["right"],
            ).replace("flow.[/] [bold]", "flow.p"),
        )
        left.kill()
        process = subprocess.Popen(
            [sys.executable, "-m", "envelope.cli", "relay", str(left.file), "--stats", "0.1"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
        )
        with process:
            assert process.stdout is not None
            process.stdout.readline()
            assert process.stdout.readline().startswith(b"[/] [bold] ")
            process.terminate()
            process.stdout.read()
        assert process.returncode == 0
