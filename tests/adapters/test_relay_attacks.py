"""What a peer of a relay, or a stranger, can do to the others that use it.

The relay and the programs behind it are real; the attacker is a socket of the test, with a
key that the relay knows, or none.
"""

from __future__ import annotations

import resource

import pytest
import zmq
from relays import Relay, flow, wait_until

from envelope import Node, codec
from envelope.zeromq import SecureSocket

WAIT_MS = 10_000
CONTEXT = "flow.d"


@pytest.fixture
def nodes(tmp_path):
    """The relay's, and two peers that it knows: "relay", "ann", "mallory"."""
    made = {one: Node.create(tmp_path / f"{one}.node") for one in ("relay", "ann", "mallory")}
    for name in made:
        peers = "".join(
            f'[[peer]]\nname = "{other}"\nkey = "{node.identity.public}"\ncontexts = ["flow.*"]\n'
            for other, node in made.items()
            if other != name
        )
        (tmp_path / f"{name}.node" / "peers.toml").write_text(peers)
    made["relay"].close()
    for name in ("ann", "mallory"):
        made[name].close()
        made[name] = Node.load(tmp_path / f"{name}.node")
    yield made
    for name in ("ann", "mallory"):
        made[name].close()


@pytest.fixture
def relay(tmp_path, at, nodes):
    """A relay beside a server: ``relay()``, or with limits for its process."""
    running = []

    def make() -> Relay:
        file = tmp_path / "relay.toml"
        one = flow(
            "d",
            ("DEALER", "connect", at("server")),
            ("ROUTER", "bind", at("line")),
            to=["ann", "mallory"],
        )
        file.write_text(f'node = "relay.node"\n[[flow]]\n{one}\n')
        running.append(Relay(file))
        return running[-1]

    yield make
    for one in running:
        if one.process.returncode is None:
            one.kill()


@pytest.fixture
def peer(plain, nodes, at):
    """Makes an end that talks to the relay by itself: ``peer("mallory")``."""

    def make(name: str) -> SecureSocket:
        socket = plain(zmq.DEALER)
        socket.rcvtimeo = WAIT_MS
        socket.sndhwm = socket.rcvhwm = 0
        socket.connect(at("line"))
        node = nodes[name]
        return SecureSocket(
            socket, sealer=node.sealer(CONTEXT, to=["relay"]), opener=node.opener(CONTEXT)
        )

    return make


@pytest.fixture(params=[False, True], ids=["first", "last"])
def server(plain, at, request):
    """To whom a name belongs there: who came first with it, or, as with ipykernel, last."""
    socket = plain(zmq.ROUTER)
    socket.rcvtimeo = WAIT_MS
    socket.sndhwm = socket.rcvhwm = 0
    socket.router_handover = request.param
    socket.bind(at("server"))
    return socket


@pytest.mark.audit("A4")
def test_nobody_takes_over_the_name_of_another_peers_client(relay, peer, server):
    one = relay()
    ann, mallory = peer("ann"), peer("mallory")
    ann.send_multipart([b"client", b"hello"])
    assert server.recv_multipart() == [b"client", b"hello"]
    mallory.send_multipart([b"client", b"it is me"])
    who, _ = server.recv_multipart()
    assert who != b"client"
    for name, answer in ((who, b"for mallory"), (b"client", b"for ann")):
        server.send_multipart([name, answer])
    assert ann.recv_multipart() == [b"client", b"for ann"]
    assert mallory.recv_multipart() == [b"client", b"for mallory"]
    assert one.end()["d"]["in"]["dropped"] == 0


@pytest.mark.audit("A4")
def test_what_is_for_one_peer_is_readable_to_no_other(relay, plain, nodes, server, at):
    # Who carries messages gives Mallory what is on its way to Ann.
    relay()
    line, to_relay = plain(zmq.ROUTER), plain(zmq.DEALER)
    line.rcvtimeo = to_relay.rcvtimeo = WAIT_MS
    line.bind(at("between"))
    to_relay.connect(at("line"))
    ends = {}
    for name in ("ann", "mallory"):
        socket = plain(zmq.DEALER)
        socket.rcvtimeo = WAIT_MS
        socket.routing_id = name.encode()
        socket.connect(at("between"))
        node = nodes[name]
        ends[name] = SecureSocket(
            socket, sealer=node.sealer(CONTEXT, to=["relay"]), opener=node.opener(CONTEXT)
        )
    for name, end in ends.items():
        end.send_multipart([name.encode(), b"hello"])
        to_relay.send_multipart(line.recv_multipart())
        assert server.recv_multipart() == [name.encode(), b"hello"]
    server.send_multipart([b"ann", b"for ann"])
    who, *frames = to_relay.recv_multipart()
    assert who == b"ann"
    line.send_multipart([b"mallory", *frames])
    line.send_multipart([b"ann", *frames])
    assert ends["ann"].recv_multipart() == [b"ann", b"for ann"]
    assert not ends["mallory"].poll(50) or not ends["mallory"].stats.accepted
    with pytest.raises(zmq.Again):
        ends["mallory"].recv(zmq.NOBLOCK)
    assert ends["mallory"].stats.refused == {"not_addressed": 1}


@pytest.mark.audit("A16")
def test_a_peer_with_very_many_clients_crowds_out_no_other(relay, peer, server):
    one = relay()
    ann, mallory = peer("ann"), peer("mallory")
    ann.send_multipart([b"client", b"hello"])
    assert server.recv_multipart() == [b"client", b"hello"]
    for number in range(1500):
        mallory.send(codec.encode_frames([b"m%d" % number, b"it is me"]))
        assert server.recv_multipart()[1] == b"it is me"
    server.send_multipart([b"client", b"for ann"])
    assert ann.recv_multipart() == [b"client", b"for ann"]
    assert one.end()["d"]["in"] == {"messages": 1501, "bytes": 12005, "dropped": 0}


@pytest.mark.audit("A16")
def test_a_relay_that_may_open_few_files_goes_on(relay, peer, server):
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    one = relay()
    resource.prlimit(one.process.pid, resource.RLIMIT_NOFILE, (120, limits[1]))
    mallory = peer("mallory")
    for number in range(300):
        mallory.send_multipart([b"m%d" % number, b"it is me"])
    mallory.send_multipart([b"m0", b"again"])
    wait_until(lambda: server.poll(0))
    while server.recv_multipart()[0] != b"m0":
        pass
    figures = one.end()["d"]["in"]
    assert figures["dropped"] > 0
    assert figures["messages"] + figures["dropped"] == 301


@pytest.mark.parametrize(
    "frames",
    [
        [b""],
        [b"", b""],
        [b"x"],
        [b"", b"x" * 10],
        [b"a"] * 300,
        [b"", *[b"a"] * 300],
        [b"a", b"b", b"", b"envelope/v1/challenge", b"x" * 300],
        [b"", b"envelope/v1/sync", b"ENV\x01" + bytes(300)],
        [b"\x01all", b""],
    ],
    ids=str,
)
def test_what_a_stranger_says_moves_nothing(relay, plain, at, peer, server, frames):
    one = relay()
    stranger = plain(zmq.DEALER)
    stranger.connect(at("line"))
    for _ in range(10):
        stranger.send_multipart(frames)
    ann = peer("ann")
    ann.send_multipart([b"client", b"hello"])
    assert server.recv_multipart() == [b"client", b"hello"]
    wait_until(lambda: one.process.poll() is None)
    figures = one.end()["d"]
    assert figures["in"]["messages"] == 1
    assert sum(figures["refused"].values()) <= 10


@pytest.mark.parametrize("name", [b"", b"\x00zero", b"x" * 256, b"x" * 70_000], ids=len)
def test_a_client_may_have_any_name(relay, peer, server, name):
    relay()
    ann = peer("ann")
    ann.send_multipart([name, b"hello"])
    given, _ = server.recv_multipart()
    server.send_multipart([given, b"to you"])
    assert ann.recv_multipart() == [name, b"to you"]
