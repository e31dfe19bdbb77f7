"""Programs that know nothing of envelopes talk through a pair of relays.

The relays are processes of the command line. The plain ends are sockets of the test;
between the relays is a line that anybody can reach.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import zmq
from relays import Relay, flow, wait_until

from envelope import Node

WAIT_MS = 10_000
INNER, OUTER = "left", "right"


@pytest.fixture
def relays(tmp_path):
    """Makes relays that know each other: ``relays("left", [flow, ...])``, flows as TOML."""
    for name in (INNER, OUTER):
        Node.create(tmp_path / f"{name}.node").close()
    keys = {name: Node.load(tmp_path / f"{name}.node").identity.public for name in (INNER, OUTER)}
    peers = "".join(
        f'[[peer]]\nname = "{name}"\nkey = "{key}"\ncontexts = ["flow.*"]\n'
        for name, key in keys.items()
    )
    for name in keys:
        (tmp_path / f"{name}.node" / "peers.toml").write_text(peers)
    running: list[Relay] = []

    def make(name: str, *flows: str) -> Relay:
        file = tmp_path / f"{name}.toml"
        file.write_text(f'node = "{name}.node"\n' + "".join(f"[[flow]]\n{one}\n" for one in flows))
        running.append(Relay(file))
        return running[-1]

    yield make
    for relay in running:
        if relay.process.returncode is None:
            relay.kill()


class TestPatterns:
    def test_a_pipeline(self, relays, plain, at):
        relays(
            INNER, flow("p", ("PULL", "bind", at("a")), ("PUSH", "connect", at("x")), to=[OUTER])
        )
        relays(OUTER, flow("p", ("PUSH", "bind", at("b")), ("PULL", "bind", at("x"))))
        push, pull = plain(zmq.PUSH), plain(zmq.PULL)
        pull.rcvtimeo = WAIT_MS
        push.connect(at("a"))
        pull.connect(at("b"))
        sent = [[b"%d" % number, b"", b"x" * number] for number in range(1000)]
        for frames in sent:
            push.send_multipart(frames)
        assert [pull.recv_multipart() for _ in sent] == sent

    @pytest.mark.parametrize(
        "kinds", [("XSUB", "XPUB", "XSUB", "XPUB"), ("SUB", "PUB", "SUB", "PUB")]
    )
    @pytest.mark.parametrize("topic", ["first-frame", "none", 2])
    def test_subscriptions_work_from_end_to_end(self, relays, plain, at, kinds, topic):
        plain_in, sealed_out, sealed_in, plain_out = kinds
        relays(
            INNER,
            flow(
                "s",
                (plain_in, "connect", at("a")),
                (sealed_out, "bind", at("x")),
                to=[OUTER],
                topic=topic,
            ),
        )
        relays(
            OUTER,
            flow("s", (plain_out, "bind", at("b")), (sealed_in, "connect", at("x")), topic=topic),
        )
        pub, sub = plain(zmq.PUB), plain(zmq.SUB)
        pub.bind(at("a"))
        sub.unsubscribe(b"")
        sub.subscribe(b"news/")
        sub.connect(at("b"))
        numbers = iter(range(10**6))

        def heard() -> bool:
            pub.send_multipart([b"noise", b"never"])
            pub.send_multipart([b"news/1", b"%d" % next(numbers), b"last"])
            return bool(sub.poll(20))

        wait_until(heard)
        got = sub.recv_multipart()
        assert (got[0], got[2]) == (b"news/1", b"last")
        # A message of one frame is its own topic.
        while sub.poll(100):
            sub.recv_multipart()
        pub.send(b"news/alone")
        sub.rcvtimeo = WAIT_MS
        assert sub.recv_multipart() == [b"news/alone"]

    def test_a_pair(self, relays, plain, at):
        relays(INNER, flow("q", ("PAIR", "bind", at("a")), ("PAIR", "bind", at("x")), to=[OUTER]))
        relays(
            OUTER, flow("q", ("PAIR", "bind", at("b")), ("PAIR", "connect", at("x")), to=[INNER])
        )
        one, other = plain(zmq.PAIR), plain(zmq.PAIR)
        one.rcvtimeo = other.rcvtimeo = WAIT_MS
        one.connect(at("a"))
        other.connect(at("b"))
        for number in range(50):
            one.send_multipart([b"there", b"%d" % number])
            other.send_multipart([b"back", b"%d" % number])
        for number in range(50):
            assert other.recv_multipart() == [b"there", b"%d" % number]
            assert one.recv_multipart() == [b"back", b"%d" % number]

    def dialogue(self, relays, at):
        left = relays(
            INNER,
            flow("d", ("ROUTER", "bind", at("a")), ("DEALER", "connect", at("x")), to=[OUTER]),
        )
        right = relays(
            OUTER,
            flow("d", ("DEALER", "connect", at("b")), ("ROUTER", "bind", at("x")), to=[INNER]),
        )
        return left, right

    def test_a_server_sees_its_clients_by_their_own_names(self, relays, plain, at):
        self.dialogue(relays, at)
        server = plain(zmq.ROUTER)
        server.rcvtimeo = WAIT_MS
        server.bind(at("b"))
        clients = {}
        for name in (b"ann", b"ben"):
            clients[name] = plain(zmq.DEALER)
            clients[name].rcvtimeo = WAIT_MS
            clients[name].routing_id = name
            clients[name].connect(at("a"))
            clients[name].send_multipart([b"hello from", name])
        for _ in clients:
            who, hello, name = server.recv_multipart()
            assert (hello, who) == (b"hello from", name)
            server.send_multipart([who, b"", b"hello", who])
        for name, client in clients.items():
            assert client.recv_multipart() == [b"", b"hello", name]
        # And the server speaks first, too.
        server.send_multipart([b"ben", b"psst"])
        assert clients[b"ben"].recv_multipart() == [b"psst"]

    def test_requests_and_replies(self, relays, plain, at):
        self.dialogue(relays, at)
        reply = plain(zmq.REP)
        reply.rcvtimeo = WAIT_MS
        reply.bind(at("b"))
        # Without names, ZeroMQ gives them ids that nobody else may set.
        for number in range(3):
            request = plain(zmq.REQ)
            request.rcvtimeo = WAIT_MS
            request.connect(at("a"))
            request.send_multipart([b"what", b"%d" % number])
            assert reply.recv_multipart() == [b"what", b"%d" % number]
            reply.send(b"this")
            assert request.recv() == b"this"

    def test_a_server_can_ask_a_client_on_another_flow_at_once(self, relays, plain, at):
        # Between relays of Jupyter's shell and stdin: what a ROUTER sends to a name that it
        # does not know is lost, and whoever asked waits for ever.
        for side, inside, outside in (
            (INNER, ("ROUTER", "bind"), ("DEALER", "connect")),
            (OUTER, ("DEALER", "connect"), ("ROUTER", "bind")),
        ):
            peer = OUTER if side == INNER else INNER
            relays(
                side,
                *(
                    flow(
                        name,
                        (*inside, at(f"{side}-{name}")),
                        (*outside, at(f"line-{name}")),
                        to=[peer],
                        **more,
                    )
                    for name, more in (("tell", {}), ("ask", {"same_clients_as": "tell"}))
                ),
            )
        told, asks = plain(zmq.ROUTER), plain(zmq.ROUTER)
        asks.router_mandatory = True
        for server, name in ((told, "tell"), (asks, "ask")):
            server.rcvtimeo = WAIT_MS
            server.bind(at(f"{OUTER}-{name}"))
        for number in range(20):
            client = {name: plain(zmq.DEALER) for name in ("tell", "ask")}
            for name, socket in client.items():
                socket.rcvtimeo = WAIT_MS
                socket.routing_id = b"client %d" % number
                socket.connect(at(f"{INNER}-{name}"))
            client["tell"].send(b"hello")
            who, _ = told.recv_multipart()
            asks.send_multipart([who, b"which?"])  # It raises if it does not know the name.
            assert client["ask"].recv() == b"which?"
            client["ask"].send(b"this")
            assert asks.recv_multipart() == [who, b"this"]

    def test_what_is_for_a_client_that_left_is_counted(self, relays, plain, at):
        left, right = self.dialogue(relays, at)
        server, stays = plain(zmq.ROUTER), plain(zmq.DEALER)
        for socket in (server, stays):
            socket.rcvtimeo = WAIT_MS
        server.bind(at("b"))
        with zmq.Context() as context, context.socket(zmq.DEALER) as goes:
            for client in (stays, goes):
                client.connect(at("a"))
                client.send(b"hello")
            ids = [server.recv_multipart()[0] for _ in range(2)]
        stays.send(b"again")
        here = server.recv_multipart()[0]
        (gone,) = set(ids) - {here}
        for who in (gone, here):
            server.send_multipart([who, b"welcome"])
        assert stays.recv() == b"welcome"
        right.end()
        assert left.end()["d"]["in"] == {"messages": 1, "bytes": 12, "dropped": 1}

    def test_a_flow_does_not_wait_for_ever_for_a_server_that_is_not_there(self, relays, plain, at):
        relays(
            INNER,
            flow("tell", ("ROUTER", "bind", at("a")), ("DEALER", "connect", at("x")), to=[OUTER]),
        )
        relays(
            OUTER,
            flow("tell", ("DEALER", "connect", at("b")), ("ROUTER", "bind", at("x")), to=[INNER]),
            flow(
                "ask",
                ("DEALER", "connect", at("nobody")),
                ("ROUTER", "bind", at("y")),
                to=[INNER],
                same_clients_as="tell",
            ),
        )
        server, client = plain(zmq.ROUTER), plain(zmq.DEALER)
        server.rcvtimeo = WAIT_MS
        server.bind(at("b"))
        client.connect(at("a"))
        for number in range(3):
            client.send(b"%d" % number)
        assert [server.recv_multipart()[1] for _ in range(3)] == [b"0", b"1", b"2"]


class TestManners:
    def test_sigterm_lets_go_on_what_has_arrived(self, relays, plain, at):
        left = relays(
            INNER, flow("p", ("PULL", "bind", at("a")), ("PUSH", "connect", at("x")), to=[OUTER])
        )
        right = relays(OUTER, flow("p", ("PUSH", "bind", at("b")), ("PULL", "bind", at("x"))))
        push, pull = plain(zmq.PUSH), plain(zmq.PULL)
        pull.rcvtimeo = WAIT_MS
        push.connect(at("a"))
        pull.connect(at("b"))
        push.send(b"first")
        assert pull.recv() == b"first"
        for number in range(2000):
            push.send(b"%d" % number)
        # Once the last is here, ending the first relay loses nothing of the others.
        got = [pull.recv() for _ in range(1000)]
        figures = left.end()
        got += [pull.recv() for _ in range(figures["p"]["out"]["messages"] - 1 - len(got))]
        assert got == [b"%d" % number for number in range(len(got))]
        assert figures["p"]["out"]["dropped"] == 0
        there = right.end()["p"]
        assert there["in"]["messages"] == figures["p"]["out"]["messages"]
        assert (there["refused"], there["lost"], there["missing"]) == ({}, 0, 0)

    @pytest.mark.parametrize("victim", [0, 1])
    def test_a_killed_relay_comes_back(self, relays, plain, at, victim):
        pair = TestPatterns().dialogue(relays, at)
        server, client = plain(zmq.ROUTER), plain(zmq.DEALER)
        server.bind(at("b"))
        client.connect(at("a"))
        numbers = iter(range(10**6))
        heard: list[bytes] = []

        def answered() -> bool:
            client.send(b"%d" % next(numbers))
            while server.poll(20):
                who, *frames = server.recv_multipart()
                heard.extend(frames)
                server.send_multipart([who, *frames])
            return bool(client.poll(20))

        wait_until(answered)
        pair[victim].kill()
        pair[victim].begin()
        while client.poll(200):
            client.recv()
        wait_until(answered)
        assert len(set(heard)) == len(heard)

    @pytest.mark.audit("A3", "A12")
    def test_a_stranger_on_the_line_gets_nothing_through(self, relays, plain, at):
        tap = plain(zmq.PULL)
        tap.rcvtimeo = WAIT_MS
        tap.bind(at("tap"))
        relays(
            INNER, flow("p", ("PULL", "bind", at("a")), ("PUSH", "connect", at("tap")), to=[OUTER])
        )
        right = relays(OUTER, flow("p", ("PUSH", "bind", at("b")), ("PULL", "bind", at("x"))))
        push, pull, line = plain(zmq.PUSH), plain(zmq.PULL), plain(zmq.PUSH)
        pull.rcvtimeo = WAIT_MS
        push.connect(at("a"))
        pull.connect(at("b"))
        line.connect(at("x"))
        push.send_multipart([b"open", b"valve 3"])
        recorded = tap.recv_multipart()
        assert b"valve" not in b"".join(recorded)
        line.send(b"garbage")
        line.send_multipart(recorded)
        line.send_multipart(recorded)
        line.send_multipart([b"another topic", *recorded])
        push.send_multipart([b"close", b"valve 3"])
        line.send_multipart(tap.recv_multipart())
        assert pull.recv_multipart() == [b"open", b"valve 3"]
        assert pull.recv_multipart() == [b"close", b"valve 3"]
        right.kill()
        right.begin()
        line.send_multipart(recorded)
        assert not pull.poll(300)
        refused = right.end()["p"]["refused"]
        assert sum(refused.values()) == 1
        assert set(refused) <= {"replayed", "before_start", "too_old"}

    def test_one_flow_that_is_stuck_stops_no_other(self, relays, plain, at):
        relays(
            INNER,
            flow("p", ("PULL", "bind", at("a")), ("PUSH", "connect", at("x")), to=[OUTER], hwm=5),
            flow(
                "n", ("PULL", "bind", at("c")), ("PUSH", "connect", at("nobody")), to=[OUTER], hwm=5
            ),
        )
        relays(OUTER, flow("p", ("PUSH", "bind", at("b")), ("PULL", "bind", at("x"))))
        stuck, push, pull = plain(zmq.PUSH), plain(zmq.PUSH), plain(zmq.PULL)
        pull.rcvtimeo = WAIT_MS
        stuck.sndtimeo, stuck.sndhwm = 100, 5
        stuck.connect(at("c"))

        def fill():
            for _ in range(10_000):
                stuck.send(b"x" * 1000)

        with pytest.raises(zmq.Again):
            fill()
        push.connect(at("a"))
        pull.connect(at("b"))
        push.send(b"through")
        assert pull.recv() == b"through"

    def test_what_cannot_be_sealed_is_dropped_and_told(self, relays, plain, at):
        left = relays(
            INNER,
            flow("s", ("SUB", "connect", at("a")), ("PUB", "bind", at("x")), sign_only=True),
        )
        pub, sub = plain(zmq.PUB), plain(zmq.SUB)
        pub.bind(at("a"))
        sub.connect(at("x"))

        def heard() -> bool:
            pub.send(b"fine")
            return bool(sub.poll(20))

        wait_until(heard)
        pub.send_multipart([b"envelope/v1/done", b"reserved"])
        pub.send(b"the end")
        while sub.recv_multipart()[0] != b"the end":
            pass
        assert left.end()["s"]["out"]["dropped"] == 1
        assert any(b"reserved" in line for line in left.said)

    def test_a_table_of_figures(self, relays, at):
        left = relays(
            INNER, flow("p", ("PULL", "bind", at("a")), ("PUSH", "connect", at("x")), to=[OUTER])
        )
        left.kill()
        process = subprocess.Popen(
            [sys.executable, "-m", "envelope.cli", "relay", str(left.file), "--stats", "0.1"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        with process:
            assert process.stdout is not None
            assert process.stdout.readline().split()[0] == b"flow"
            assert process.stdout.readline().split()[0] == b"p"
            os.kill(process.pid, signal.SIGINT)
            assert process.stdout.read()
        assert process.returncode == 0
