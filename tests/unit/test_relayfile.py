"""Every mistake in a relay file is told, with its place."""

from __future__ import annotations

import itertools
import os

import pytest

from envelope.errors import UsageError
from envelope.zeromq import relayfile

NODE = 'node = "a.node"\n'
GOOD = {
    "name": '"p"',
    "context": '"flow.p"',
    "plain": '{ type = "PULL", bind = "tcp://127.0.0.1:5001" }',
    "sealed": '{ type = "PUSH", connect = "tcp://198.51.100.7:6001" }',
    "to": '["other"]',
}

PULLS = {
    "plain": '{ type = "PUSH", bind = "ipc://a" }',
    "sealed": '{ type = "PULL", bind = "ipc://b" }',
}
ASKS = {
    "plain": '{ type = "ROUTER", bind = "ipc://a" }',
    "sealed": '{ type = "DEALER", bind = "ipc://b" }',
}


def flow(**changes) -> str:
    table = {**GOOD, **changes}
    return "[[flow]]\n" + "".join(f"{key} = {value}\n" for key, value in table.items() if value)


@pytest.fixture
def read(tmp_path):
    def make(text: str | bytes):
        file = tmp_path / "relay.toml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return relayfile.read(file)

    return make


def test_a_file_says_what_it_says(read, tmp_path):
    more = flow(
        name='"s"',
        context='"flow.s"',
        plain='{ type = "XSUB", connect = ["ipc://a", "tcp://[::1]:1", "tcp://localhost:2"] }',
        sealed='{ type = "XPUB", bind = "tcp://0.0.0.0:6002" }',
        topic="3",
        hwm="7",
        max_age="5.5",
        sign_only="true",
        to=None,
        subscribe='["a", "b"]',
    )
    plan = read(NODE + "linger = 0.5\n" + flow() + more)
    assert (plan.node, plan.linger) == (tmp_path / "a.node", 0.5)
    first, second = plan.flows
    assert first == relayfile.Flow(
        name="p",
        context="flow.p",
        plain=relayfile.End("PULL", ("tcp://127.0.0.1:5001",), ()),
        sealed=relayfile.End("PUSH", (), ("tcp://198.51.100.7:6001",)),
        to=("other",),
        sign_only=False,
        topic=None,
        subscribe=(b"",),
        max_age=30.0,
        hwm=None,
        same_clients_as=None,
    )
    assert second.plain.connect == ("ipc://a", "tcp://[::1]:1", "tcp://localhost:2")
    assert (second.topic, second.hwm, second.max_age) == (3, 7, 5.5)
    assert (second.sign_only, second.to, second.subscribe) == (True, (), (b"a", b"b"))


def test_req_and_rep_are_carried_as_dealer_and_router(read):
    plan = read(
        NODE
        + flow(
            plain='{ type = "REP", bind = "ipc://a" }', sealed='{ type = "REQ", bind = "ipc://b" }'
        )
    )
    assert (plan.flows[0].plain.type, plan.flows[0].sealed.type) == ("ROUTER", "DEALER")


@pytest.mark.parametrize(
    "place",
    [
        "tcp://0.0.0.0:1",
        "tcp://*:1",
        "tcp://192.0.2.1:1",
        "tcp://example.org:1",
        "tcp://127.0.0.1.example.org:1",
        "tcp://eth0:1",
        "tcp://[2001:db8::1]:1",
        "udp://127.0.0.1:1",
        "pgm://127.0.0.1:1",
        "127.0.0.1:1",
        "tcp://192.0.2.1:1;127.0.0.1.example.org:1",
    ],
)
def test_a_plain_end_stays_on_this_machine_unless_told_otherwise(read, place):
    plain = f'{{ type = "PULL", bind = "{place}" }}'
    with pytest.raises(UsageError, match="plain_on_the_network = true"):
        read(NODE + flow(plain=plain))
    assert read(NODE + flow(plain=plain, plain_on_the_network="true")).flows


@pytest.mark.parametrize(
    "place", ["tcp://127.0.0.1:1", "tcp://127.9.9.9:*", "ipc:///a", "inproc://a"]
)
def test_these_are_on_this_machine(read, place):
    assert read(NODE + flow(plain=f'{{ type = "PULL", bind = "{place}" }}')).flows


KINDS = ["PUB", "SUB", "XPUB", "XSUB", "PUSH", "PULL", "PAIR", "DEALER", "ROUTER", "STREAM", "?"]


@pytest.mark.parametrize("kinds", list(itertools.product(KINDS, KINDS)), ids="-".join)
def test_only_counterparts_go_together(read, kinds):
    plain, sealed = kinds
    text = NODE + flow(
        plain=f'{{ type = "{plain}", connect = "ipc://a" }}',
        sealed=f'{{ type = "{sealed}", connect = "ipc://b" }}',
        to=None if sealed in ("SUB", "XSUB", "PULL") else '["other"]',
    )
    if kinds in relayfile.PAIRS:
        assert read(text).flows
    else:
        with pytest.raises(UsageError, match="does not go with a sealed"):
            read(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"\xff", "not UTF-8"),
        ("node = ]", "line 1"),
        ("n = " + "9" * 5000, "digits"),
        ("n = " + "[" * 10_000, "nested too deeply"),
        ("#" * (2**20 + 1), "larger than any relay file"),
        ("", "node is the folder"),
        ("node = 3\n" + flow(), "node is the folder"),
        ('node = ""\n' + flow(), "node is the folder"),
        (NODE, "at least one"),
        (NODE + "flow = 3", "at least one"),
        (NODE + "flow = [3]", "flow 1: is not a table"),
        (NODE + "flows = 3\n" + flow(), "unknown key 'flows'"),
        (NODE + "linger = -1\n" + flow(), "linger"),
        (NODE + "linger = true\n" + flow(), "linger"),
        (NODE + flow() + flow(), "two flows have the name 'p'"),
        (NODE + flow() + flow(name='"q"'), "two flows have the context 'flow.p'"),
        (
            NODE + flow() + flow(name='"q"', context='"flow.q"'),
            "ends bind 'tcp://127.0.0.1:5001'",
        ),
        (NODE + flow(plain='{ type = "PULL", bind = "ipc://a\\u0000b" }'), "bind is an endpoint"),
        (
            NODE + flow(plain='{ type = "PULL", bind = "tcp://0.0.0.0:1\\u0000;127.0.0.1:1" }'),
            "bind is an endpoint",
        ),
        (NODE + flow(plain='{ type = "PULL", bind = "tcp://127.0.0.1:65536" }'), "up to 65535"),
        (NODE + flow(sealed='{ type = "PUSH", connect = "tcp://a:0" }'), "up to 65535"),
        (NODE + flow(name=None), "flow 1: name is a text"),
        (NODE + flow(name='"a\\nb"'), "flow 1: name is a text"),
        (NODE + flow(context=None), "flow 'p': context is a text"),
        (NODE + flow(nam='"p"'), "unknown key 'nam'"),
        (NODE + flow(plain=None), "flow 'p', plain: is a table"),
        (NODE + flow(sealed='"tcp://a:1"'), "flow 'p', sealed: is a table"),
        (NODE + flow(plain='{ type = "PULL", at = "ipc://a" }'), "unknown key 'at'"),
        (NODE + flow(plain='{ type = "PULL" }'), "neither bind nor connect"),
        (NODE + flow(plain='{ bind = "ipc://a" }'), "plain: type is a text"),
        (NODE + flow(plain='{ type = "PULL", bind = [""] }'), "bind is an endpoint"),
        (NODE + flow(plain='{ type = "PULL", connect = 3 }'), "connect is an endpoint"),
        (NODE + flow(to=None), "whom is it sealed to"),
        (NODE + flow(to='"other"'), "to is a list of texts"),
        (NODE + flow(**PULLS), "sends nothing, so it has no to"),
        (NODE + flow(sign_only='"yes"'), "sign_only is true or false"),
        (NODE + flow(plain_on_the_network="1"), "plain_on_the_network is true or false"),
        (NODE + flow(hwm="0"), "hwm is a number"),
        (NODE + flow(hwm="true"), "hwm is a number"),
        (NODE + flow(max_age="0"), "max_age"),
        (NODE + flow(max_age='"old"'), "max_age"),
        (NODE + flow(topic='"second-frame"'), "topic is"),
        (NODE + flow(topic="256"), "topic is"),
        (NODE + flow(topic="true"), "topic is"),
        (NODE + flow(subscribe="[1]"), "subscribe is a list of texts"),
        (NODE + flow(same_clients_as='"q"'), "is for a plain ROUTER or DEALER"),
        (
            NODE + flow(**ASKS, same_clients_as='"q"'),
            "names no other flow with a plain ROUTER: 'q'",
        ),
        (NODE + flow(**ASKS, name='"q"', same_clients_as='"q"'), "names no other flow"),
        (
            NODE
            + flow(
                plain='{ type = "DEALER", bind = "ipc://a" }',
                sealed='{ type = "ROUTER", bind = "ipc://b" }',
            ),
            "a plain DEALER connects",
        ),
    ],
)
def test_a_mistake_is_told(read, text, reason):
    with pytest.raises(UsageError, match=reason) as told:
        read(text)
    assert "relay.toml" in str(told.value)


def test_a_file_that_cannot_be_read_is_told(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="is not a file"):
        relayfile.read(tmp_path / "nothing")
    with pytest.raises(UsageError, match="is not a file"):
        relayfile.read(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UsageError, match="is not a file"):
        relayfile.read(tmp_path / "fifo")
    with pytest.raises(UsageError, match=r"names no file|is not a file"):
        relayfile.read(str(tmp_path / "a\0b"))
    file = tmp_path / "secret"
    file.touch()

    def fail(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(relayfile.Path, "open", fail)
    with pytest.raises(UsageError, match="Permission denied"):
        relayfile.read(file)
