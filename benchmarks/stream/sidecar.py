"""Relays beside programs that have plain sockets: what ``envelope relay`` runs.

Rules of this file: each relay is a process and a node of its own, with a durable replay
memory, as the guide has it. The plain ends are sockets in a folder that is the user's alone.
"""

from __future__ import annotations

from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from envelope import Node
from envelope.zeromq import relayfile
from envelope.zeromq.relay import Relay
from stream.plan import CONTEXT, Plan

_FILE: Final = """node = "relay.node"

[[flow]]
name = "events"
context = "{context}"
hwm = {hwm}
plain = {{ type = "{plain}", bind = "{inside}" }}
sealed = {{ type = "{sealed}", connect = "{outside}" }}
"""
_TO: Final = "to = [{names}]\n"
_PEER: Final = '[[peer]]\nname = "{name}"\nkey = "{key}"\ncontexts = ["{context}"]\n\n'


def write(plan: Plan, front: str, backs: list[str]) -> tuple[str, list[str]]:
    """Make the nodes and write the files; return where the programs connect."""
    left = plan.folder / "left"
    rights = [plan.folder / f"right{number}" for number in range(plan.subscribers)]
    keys = {}
    for place in (left, *rights):
        place.mkdir()
        with Node.create(place / "relay.node") as node:
            keys[place] = node.identity.public
    _believe(left, {place.name: str(keys[place]) for place in rights})
    names = ", ".join(f'"{place.name}"' for place in rights)
    _write(left, ("XSUB", "XPUB"), front, plan, more=_TO.format(names=names))
    for right, back in zip(rights, backs, strict=True):
        _believe(right, {"left": str(keys[left])})
        _write(right, ("XPUB", "XSUB"), back, plan)
    return _inside(left), [_inside(right) for right in rights]


def _inside(place: Path) -> str:
    return f"ipc://{place / 'plain'}"


def _believe(place: Path, peers: dict[str, str]) -> None:
    text = "".join(_PEER.format(name=name, key=key, context=CONTEXT) for name, key in peers.items())
    (place / "relay.node" / "peers.toml").write_text(text, encoding="utf-8")


def _write(place: Path, kinds: tuple[str, str], outside: str, plan: Plan, more: str = "") -> None:
    text = _FILE.format(
        context=CONTEXT,
        hwm=4 * plan.window,
        plain=kinds[0],
        sealed=kinds[1],
        inside=_inside(place),
        outside=outside,
    )
    (place / "relay.toml").write_text(text + more, encoding="utf-8")


def relay(place: Path, parent: Connection) -> None:
    """Be a relay, until killed."""
    file = relayfile.read(place / "relay.toml")
    with Node.load(file.node) as node, Relay(file, node) as one:
        parent.send(None)
        one.run()
