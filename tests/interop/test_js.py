"""Live exchanges with interop/js, an implementation that was written from SPEC.md alone."""

import contextlib
import re
import subprocess

import pytest
import zmq

from envelope import Identity, Opener, Peer, Policy, RejectedError, Sealer, TrustStore, message_id
from envelope.errors import NotAddressedError
from envelope.replay import MemoryReplayStore
from envelope.zeromq import SecureSocket

CONTEXT = "plant7.valves"
TOPIC = b"valves/3"
ALICE, BOB, CAROL = (Identity.generate() for _ in range(3))
NAMES = {"alice": ALICE, "bob": BOB, "carol": CAROL}
TRUST = TrustStore([Peer(name, each.public, contexts=["plant7.*"]) for name, each in NAMES.items()])
PEERS = [
    {"name": name, "key": str(each.public), "contexts": ["plant7.*"]}
    for name, each in NAMES.items()
]


@pytest.fixture
def sockets():
    """Sockets of this end, bound on loopback: a type gives the socket and its address."""
    context, bound = zmq.Context(), []

    def bind(kind):
        socket = context.socket(kind)
        bound.append(socket)  # the context alone would let it go, unclosed
        socket.linger, socket.rcvtimeo, socket.sndtimeo = 0, 20_000, 20_000
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        return socket, f"tcp://127.0.0.1:{port}"

    yield bind
    context.destroy(linger=0)


def opener(identity, **policy):
    store = MemoryReplayStore(first_life=True)
    rules = Policy(**policy)
    return Opener(TRUST, context=CONTEXT, identity=identity, replay=store, policy=rules)


def sealer(identity, to=(), **options):
    return Sealer(identity, context=CONTEXT, to=[each.public for each in to], **options)


def js(identity, socket, address, to=None, **more):
    """What an end in JavaScript is made of."""
    texts = [str(each.public) for each in to] if to else None
    basis = {"identity": identity.export(), "peers": PEERS, "context": CONTEXT, "to": texts}
    return {**basis, "socket": socket, "connect": address, **more}


def verdict(receive):
    """The code of what a receiver of this end says."""
    try:
        receive()
    except RejectedError as error:
        return error.code
    return "ok"


def test_its_own_tests_pass(javascript):
    """All vectors among them: SPEC 15."""
    ran = subprocess.run(
        ["npm", "test", "--silent"], cwd=javascript, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout
    files, lists = 17, 12
    assert int(re.search(r"^# pass (\d+)$", ran.stdout, re.MULTILINE)[1]) >= files + lists


@pytest.mark.parametrize("to", [(), (BOB,), (BOB, CAROL)], ids=["signed", "sealed", "sealed to 2"])
def test_python_seals_and_javascript_opens(sockets, make_end, to):
    push, address = sockets(zmq.PUSH)
    end = make_end(**js(BOB, "pull", address))
    sender = SecureSocket(push, sealer=sealer(ALICE, to))
    for sequence, topic in enumerate([None, TOPIC]):
        sender.send(b"open valve 3", topic=topic)
        got = end("receive")
        assert got["result"] == "ok"
        assert got["sender"] == "alice"
        assert got["payloads"] == [b"open valve 3".hex()]
        assert (got["sealed"], got["sequence"], got["skipped"]) == (bool(to), sequence, 0)


@pytest.mark.parametrize("to", [(), (BOB,)], ids=["signed", "sealed"])
def test_python_bundles_and_javascript_opens(sockets, make_end, to):
    push, address = sockets(zmq.PUSH)
    end = make_end(**js(BOB, "pull", address))
    payloads = [b"", b"one", b"2" * 70_000]
    data = sealer(ALICE, to).seal_bundle(payloads, bound=[TOPIC])
    push.send_multipart([TOPIC, data])
    got = end("receive")
    assert got["payloads"] == [payload.hex() for payload in payloads]
    here = opener(BOB).open_bundle(data, bound=[TOPIC])
    assert got["ids"] == [message.id.hex() for message in here]


@pytest.mark.parametrize("to", [(), (BOB,), (BOB, CAROL)], ids=["signed", "sealed", "sealed to 2"])
def test_javascript_seals_and_python_opens(sockets, make_end, to):
    pull, address = sockets(zmq.PULL)
    end = make_end(**js(ALICE, "push", address, to))
    receiver = SecureSocket(pull, opener=opener(BOB))
    for sequence, topic in enumerate([None, TOPIC]):
        sent = end("send", payload=b"open valve 3".hex(), topic=topic and topic.hex())
        message = receiver.recv(strict=True)
        assert message.payload == b"open valve 3"
        assert (message.sender.name, message.sealed, message.topic) == ("alice", bool(to), topic)
        assert (message.sequence, message.skipped) == (sequence, 0)
        assert message.id.hex() == sent["id"]
        *bound, data = map(bytes.fromhex, sent["frames"])
        if CAROL in to:
            assert opener(CAROL).open(data, bound=bound).payload == b"open valve 3"
        elif to:
            carols = opener(CAROL)
            with pytest.raises(NotAddressedError):
                carols.open(data, bound=bound)


@pytest.mark.parametrize("to", [(), (BOB,)], ids=["signed", "sealed"])
def test_javascript_bundles_and_python_opens(sockets, make_end, to):
    pull, address = sockets(zmq.PULL)
    end = make_end(**js(ALICE, "push", address, to))
    payloads = [b"", b"one", b"2" * 70_000, *(bytes([count]) for count in range(20))]
    end("sendBundle", payloads=[payload.hex() for payload in payloads], topic=TOPIC.hex())
    messages = SecureSocket(pull, opener=opener(BOB)).recv_bundle()
    assert [message.payload for message in messages] == payloads


def test_a_topic_in_clear_reaches_subscribers_of_both(sockets, make_end):
    xpub, address = sockets(zmq.XPUB)
    subscriber = make_end(**js(BOB, "sub", address))
    assert xpub.recv() == b"\x01"
    SecureSocket(xpub, sealer=sealer(ALICE)).send(b"to javascript", topic=TOPIC)
    assert subscriber("receive")["payloads"] == [b"to javascript".hex()]

    sub, address = sockets(zmq.SUB)
    sub.subscribe(b"valves/")
    publisher = make_end(**js(ALICE, "xpub", address))
    # All three at once: a SUB tells its subscription while it waits, not before.
    publisher.start("subscribed")
    publisher.start("send", payload=b"filtered".hex(), topic=b"pumps/1".hex())
    publisher.start("send", payload=b"to python".hex(), topic=TOPIC.hex())
    assert SecureSocket(sub, opener=opener(BOB)).recv(strict=True).payload == b"to python"
    assert [publisher.finish()["result"] for _ in range(3)] == ["ok"] * 3


@pytest.mark.parametrize(
    ("server", "kind"), [("router", zmq.DEALER), ("rep", zmq.DEALER), ("rep", zmq.REQ)]
)
@pytest.mark.parametrize("topic", [None, TOPIC])
def test_python_asks_and_javascript_answers(sockets, make_end, server, kind, topic):
    socket, address = sockets(kind)
    end = make_end(**js(BOB, server, address))
    client = SecureSocket(socket, sealer=sealer(ALICE, [BOB]), opener=opener(ALICE))
    for question in (b"valve 3?", b"valve 4?"):
        asked = client.send_request(question, topic=topic)
        got = end("receive")
        assert got["payloads"] == [question.hex()]
        assert got["sealed"]
        sent = end("reply", payload=question.upper().hex(), topic=topic and topic.hex())
        reply = client.wait(asked, timeout=20_000)
        assert reply.payload == question.upper()
        assert reply.id.hex() == sent["id"]
        assert reply.in_reply_to.hex() == got["ids"][0]


@pytest.mark.parametrize(
    ("client", "kind"), [("dealer", zmq.ROUTER), ("req", zmq.REP), ("req", zmq.ROUTER)]
)
def test_javascript_asks_and_python_answers(sockets, make_end, client, kind):
    socket, address = sockets(kind)
    end = make_end(**js(ALICE, client, address, [BOB]))
    server = SecureSocket(socket, sealer=sealer(BOB, [ALICE]), opener=opener(BOB))
    for question in (b"valve 3?", b"valve 4?"):
        end.start("request", payload=question.hex(), topic=TOPIC.hex())
        message = server.recv(strict=True)
        assert (message.payload, message.topic) == (question, TOPIC)
        server.reply(message, question.upper())
        got = end.finish()
        assert got["result"] == "ok"
        assert got["payloads"] == [question.upper().hex()]
        assert got["in_reply_to"] == message.id.hex()


@pytest.mark.audit("A22")
def test_what_answers_another_request_or_comes_from_who_was_not_asked_is_refused_alike(
    sockets, make_end
):
    router, address = sockets(zmq.ROUTER)
    end = make_end(**js(ALICE, "dealer", address, [BOB]))
    here = opener(ALICE)

    def answer(identity, find_request, asked):
        end.start("request", payload=b"valve 3?".hex())
        *route, request = router.recv_multipart()
        reply = sealer(identity, [ALICE]).seal(b"open", in_reply_to=find_request(request))
        router.send_multipart([*route, reply])
        expected = {"in_reply_to": message_id(request)} if asked else {}
        return end.finish()["result"], verdict(lambda: here.open(reply, **expected))

    def other(request):
        return bytes(32)

    assert answer(BOB, message_id, asked=True) == ("ok", "ok")
    assert answer(BOB, other, asked=True) == ("policy", "policy")
    assert answer(BOB, lambda request: None, asked=True) == ("policy", "policy")
    assert answer(CAROL, message_id, asked=True)[0] == "policy"


def flip(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


#: What becomes of (topic, envelope) on its way, in this order, and what both ends say to it.
#: The flips come first: behind what was accepted they would be replayed (7.2 step 7).
JOURNEY = [
    (lambda topic, data: [topic, flip(data, 0)], "malformed"),
    (lambda topic, data: [topic, flip(data, 3)], "version"),
    (lambda topic, data: [topic, flip(data, 8)], "unknown_sender"),
    (lambda topic, data: [topic, flip(data, 60)], "bad_signature"),
    (lambda topic, data: [topic, flip(data, len(data) - 70)], "bad_signature"),
    (lambda topic, data: [topic, flip(data, len(data) - 1)], "bad_signature"),
    (lambda topic, data: [topic, data[:-1]], "bad_signature"),
    (lambda topic, data: [topic, data + b"\0"], "bad_signature"),
    (lambda topic, data: [topic, data[:143]], "malformed"),
    (lambda topic, data: [b"valves/4", data], "bad_signature"),
    (lambda topic, data: [b"pumps/1", data], "not_trusted"),
    (lambda topic, data: [data], "not_trusted"),
    (lambda topic, data: [topic, b"", data], "bad_signature"),
    (lambda topic, data: [topic, data], "ok"),
    (lambda topic, data: [topic, data], "replayed"),
    (lambda topic, data: [topic, flip(data, 60)], "replayed"),
]


@pytest.mark.audit("A1", "A2", "A3", "A5")
@pytest.mark.parametrize("to", [(), (BOB,)], ids=["signed", "sealed"])
@pytest.mark.parametrize("origin", ["python", "javascript"])
def test_what_was_tampered_with_is_refused_by_both_with_one_code(sockets, make_end, origin, to):
    narrow = TrustStore([Peer("alice", ALICE.public, contexts=[CONTEXT], topics=["valves/"])])
    peers = [{**PEERS[0], "topics": ["valves/"]}]
    pull, address = sockets(zmq.PULL)
    if origin == "python":
        frames = [TOPIC, sealer(ALICE, to).seal(b"open valve 3", bound=[TOPIC])]
    else:
        sender = make_end(**js(ALICE, "push", address, to))
        sender("send", payload=b"open valve 3".hex(), topic=TOPIC.hex())
        frames = pull.recv_multipart()

    push, there = sockets(zmq.PUSH)
    end = make_end(**{**js(BOB, "pull", there), "peers": peers})
    here = Opener(narrow, context=CONTEXT, identity=BOB, replay=MemoryReplayStore(first_life=True))
    receiver = SecureSocket(pull, opener=here)
    with contextlib.closing(pull.context.socket(zmq.PUSH)) as attacker:
        attacker.linger = 0
        attacker.connect(address)
        for change, code in JOURNEY:
            arrives = change(*frames)
            push.send_multipart(arrives)
            attacker.send_multipart(arrives)
            said = end("receive")["result"], verdict(lambda: receiver.recv(strict=True))
            assert said == (code, code)
