"""A relay file gives flows that can work and stay on this machine, or is a UsageError.

SPEC 17. A plain end on the network is allowed only where the file says so.
"""

from __future__ import annotations

import re
from random import Random

from envelope.errors import UsageError
from envelope.policy import Policy
from envelope.zeromq import relayfile
from envelope.zeromq.frames import PATTERNS
from fuzz.files import Sheet
from fuzz.harness import Change
from fuzz.toml import change_lines

COVERS = ("envelope.zeromq.relayfile",)

_TYPES = (b"SUB", b"XSUB", b"PUB", b"XPUB", b"PULL", b"PUSH", b"PAIR", b"ROUTER", b"DEALER", b"REP")
_PLACES = (
    b'bind = "tcp://127.0.0.1:5001"',
    b'connect = "ipc:///run/x"',
    b'bind = ["tcp://*:5", "inproc://a"]',
    b'connect = "tcp://[::1]:5"',
    b'connect = "tcp://localhost:0"',
    b'connect = "tcp://host:99999"',
    b'bind = "tcp://lo;127.0.0.1:70000"',
)
_ENDS = [
    end + b' = { type = "' + kind + b'", ' + place + b" }"
    for end in (b"plain", b"sealed")
    for kind in _TYPES
    for place in _PLACES
]
_WORDS = (
    *_ENDS,
    b"[[flow]]",
    *(b'name = "a"', b'name = "b"', b'context = "a"', b'context = "b"', b'node = "x.node"'),
    b'plain = { type = "SUB", connect = "tcp://10.0.0.1:5001" }',
    *(b'to = ["bob"]', b"sign_only = true", b"plain_on_the_network = true"),
    *(b'topic = "none"', b"topic = 3", b'subscribe = ["a"]', b"max_age = 60", b"hwm = 5"),
    *(b'same_clients_as = "a"', b'same_clients_as = "b"', b"linger = 1.5"),
    *(
        b"name",
        b"context",
        b"plain",
        b"sealed",
        b"to",
        b"topic",
        b"hwm",
        b"linger",
        b"node",
        b"else",
    ),
)


def _flow(name: bytes, plain: bytes, sealed: bytes, *more: bytes) -> bytes:
    lines = [
        b"[[flow]]",
        b'name = "' + name + b'"',
        b'context = "' + name + b'"',
        b'plain = { type = "' + plain + b'", connect = "ipc:///run/' + name + b'" }',
        b'sealed = { type = "' + sealed + b'", bind = "tcp://0.0.0.0:5001" }',
        *more,
    ]
    return b"\n".join(lines) + b"\n"


_NODE = b'node = "relay.node"\n'
SEEDS = (
    _NODE + _flow(b"a", b"SUB", b"PUB", b'to = ["bob"]'),
    _NODE
    + _flow(b"a", b"SUB", b"PUB", b'to = ["bob"]').replace(b"ipc:///run/a", b"tcp://10.0.0.1:5"),
    _NODE + _flow(b"a", b"PUSH", b"PULL", b"sign_only = true"),
    _NODE
    + _flow(b"a", b"DEALER", b"ROUTER", b'to = ["bob"]')
    + _flow(b"b", b"REQ", b"ROUTER", b'to = ["bob"]', b'same_clients_as = "a"').replace(
        b"5001", b"5002"
    ),
)
_HERE = re.compile(
    r"(ipc|inproc)://.*|tcp://(.*;)?(localhost|\[*(127(\.\d{1,3}){3}|[0:]*:0*1)\]*):[^:]*",
    re.DOTALL,
)
"""A place on this machine."""
_sheet = Sheet()


def check(data: bytes) -> None:
    """Read it, and look at what came of it."""
    path = _sheet.write(data)
    try:
        file = relayfile.read(path)
    except UsageError as error:
        assert str(path) in str(error)
        return
    assert 0 <= file.linger <= 3600
    assert file.flows
    flows = {flow.name: flow for flow in file.flows}
    assert len(flows) == len(file.flows) == len({flow.context for flow in file.flows})
    kinds = {kind.name for kind in PATTERNS}  # type: ignore[attr-defined]  # zmq.SocketType
    for flow in file.flows:
        assert (flow.plain.type, flow.sealed.type) in relayfile.PAIRS
        assert {flow.plain.type, flow.sealed.type} <= kinds
        assert all(end.bind or end.connect for end in (flow.plain, flow.sealed))
        Policy(max_age=flow.max_age)
        if b"plain_on_the_network" not in data:
            for place in (*flow.plain.bind, *flow.plain.connect):
                assert _HERE.fullmatch(place), place
        if flow.same_clients_as is not None:
            assert flows[flow.same_clients_as].plain.type == flow.plain.type


def mutate(data: bytes, max_size: int, random: Random, change: Change) -> bytes:
    """Change lines, and what stands in them."""
    return change_lines(data, max_size, random, change, _WORDS)
