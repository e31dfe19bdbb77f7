"""Relay files: TOML to flows, with the flow of every mistake (SPEC 17).

Rules of this file: it knows the keys and what fits together, and opens no socket. A key
that is not in the specification is an error: a misspelt one would otherwise do nothing.
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from envelope.errors import UsageError
from envelope.policy import Policy

_TOP: Final = {"node", "flow", "linger"}
_FLOW: Final = {
    "context",
    "hwm",
    "max_age",
    "name",
    "plain",
    "plain_on_the_network",
    "same_clients_as",
    "sealed",
    "sign_only",
    "subscribe",
    "to",
    "topic",
}
_END: Final = {"type", "bind", "connect"}
_ALIASES: Final = {"REP": "ROUTER", "REQ": "DEALER"}
"""What a REQ sends, a DEALER can carry; its empty frame is a frame like others."""
PAIRS: Final = {
    ("SUB", "PUB"),
    ("SUB", "XPUB"),
    ("XSUB", "PUB"),
    ("XSUB", "XPUB"),
    ("PUB", "SUB"),
    ("PUB", "XSUB"),
    ("XPUB", "SUB"),
    ("XPUB", "XSUB"),
    ("PULL", "PUSH"),
    ("PUSH", "PULL"),
    ("PAIR", "PAIR"),
    ("ROUTER", "DEALER"),
    ("DEALER", "ROUTER"),
}
"""(plain, sealed): the plain end is the counterpart of the program's, the sealed one that
of the other relay's."""
_HAVE_CLIENTS: Final = {"ROUTER", "DEALER"}
_RECEIVES_ONLY: Final = {"SUB", "XSUB", "PULL"}
_MAX_FILE: Final = 2**20
_MAX_TOPIC_BYTES: Final = 255
_MAX_PORT: Final = 65_535
DEFAULT_LINGER: Final = 2.0


@dataclass(frozen=True, slots=True)
class End:
    """One side of a flow: a type of socket and where it is."""

    type: str
    bind: tuple[str, ...]
    connect: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Flow:
    """One ``[[flow]]``: a plain end, a sealed end, and what goes between them.

    Attributes:
        name: for figures and log lines; unique in the file.
        context: of all its envelopes.
        plain: on the inside.
        sealed: on the outside.
        to: names of the peers that it seals to.
        sign_only: whether it signs and does not encrypt, and accepts the same.
        topic: bytes of the first frame that go in clear; None: all of it.
        subscribe: prefixes, where no subscriber decides.
        max_age: seconds.
        hwm: messages that each socket queues, or None for ZeroMQ's default.
        same_clients_as: the name of another flow that has the same clients, who are
            announced here, or expected; or None.
    """

    name: str
    context: str
    plain: End
    sealed: End
    to: tuple[str, ...]
    sign_only: bool
    topic: int | None
    subscribe: tuple[bytes, ...]
    max_age: float
    hwm: int | None
    same_clients_as: str | None


@dataclass(frozen=True, slots=True)
class RelayFile:
    """A whole file.

    Attributes:
        node: the folder of the node that the relay speaks for.
        flows: at least one.
        linger: seconds for what is on its way when the relay ends.
    """

    node: Path
    flows: tuple[Flow, ...]
    linger: float


def read(path: str | os.PathLike[str]) -> RelayFile:
    """Read a relay file.

    Raises:
        UsageError: missing, unreadable, no TOML, or something in it that cannot work; the
            text says where and what.
    """
    file = Path(path).absolute()
    document = _parse(file)
    _check_keys(f"{file}", document, _TOP)
    node = document.get("node")
    if not isinstance(node, str) or not node:
        _fail(f"{file}", 'node is the folder of a node: node = "relay.node"')
    tables = document.get("flow")
    if not isinstance(tables, list) or not tables:
        _fail(f"{file}", "a relay has at least one [[flow]]")
    flows = tuple(_flow(file, number, table) for number, table in enumerate(tables, 1))
    _check_apart(file, flows)
    kinds = {flow.name: flow.plain.type for flow in flows}
    for flow in flows:
        like = flow.same_clients_as
        if like is not None and (like == flow.name or kinds.get(like) != flow.plain.type):
            _fail(
                f"{file}, flow {flow.name!r}",
                f"same_clients_as names no other flow with a plain {flow.plain.type}: {like!r}",
            )
    linger = document.get("linger", DEFAULT_LINGER)
    if type(linger) not in (int, float) or not 0 <= linger <= 3600:
        _fail(f"{file}", "linger is a number of seconds from 0 to 3600")
    return RelayFile(file.parent / node, flows, float(linger))


def _check_apart(file: Path, flows: tuple[Flow, ...]) -> None:
    """Check that no two flows are one to somebody else."""
    ends = [end for flow in flows for end in (flow.plain, flow.sealed)]
    bound = [place for end in ends for place in end.bind if not place.endswith("*")]
    for what, ones in (
        ("have the name", [flow.name for flow in flows]),
        # Whoever carries the envelopes could bring those of one flow to the other.
        ("have the context", [flow.context for flow in flows]),
        # ZeroMQ lets the second one take an ipc place away from the first.
        ("or ends bind", bound),
    ):
        for one in ones:
            if ones.count(one) > 1:
                _fail(f"{file}", f"two flows {what} {one!r}")


def _parse(file: Path) -> dict[str, Any]:
    try:
        is_file = file.is_file()
        raw = b""
        if is_file:
            with file.open("rb") as handle:
                raw = handle.read(_MAX_FILE + 1)
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from None
    except ValueError:
        raise UsageError(f"{str(file)!r} names no file") from None
    if not is_file:
        _fail(f"{file}", "is not a file")
    if len(raw) > _MAX_FILE:
        _fail(f"{file}", "is larger than any relay file")
    try:
        return tomllib.loads(raw.decode())
    except UnicodeDecodeError:
        raise UsageError(f"{file} is not UTF-8") from None
    except RecursionError:
        raise UsageError(f"{file}: nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError is one.
        raise UsageError(f"{file}: {error}") from None


def _fail(where: str, reason: str) -> NoReturn:
    raise UsageError(f"{where}: {reason}")


def _check_keys(where: str, table: Any, known: set[str]) -> None:
    if not isinstance(table, dict):
        _fail(where, "is not a table")
    for key in table:
        if key not in known:
            _fail(where, f"unknown key {key!r}; expected one of {', '.join(sorted(known))}")


def _flow(file: Path, number: int, table: Any) -> Flow:
    where = f"{file}, flow {number}"
    _check_keys(where, table, _FLOW)
    name = _text(where, table, "name")
    where = f"{file}, flow {name!r}"
    plain = _end(where, table, "plain")
    sealed = _end(where, table, "sealed")
    if (plain.type, sealed.type) not in PAIRS:
        _fail(where, f"a plain {plain.type} does not go with a sealed {sealed.type}")
    _check_inside(where, plain, table)
    to = tuple(_texts(where, table, "to"))
    sign_only = _bool(where, table, "sign_only")
    sends = sealed.type not in _RECEIVES_ONLY
    if sends and not to and not sign_only:
        _fail(where, "whom is it sealed to? Give to = [...], or sign_only = true: all can read it")
    if not sends and to:
        _fail(where, f"a sealed {sealed.type} sends nothing, so it has no to")
    like = _text(where, table, "same_clients_as") if "same_clients_as" in table else None
    if like is not None and plain.type not in _HAVE_CLIENTS:
        _fail(where, "same_clients_as is for a plain ROUTER or DEALER: others have no clients")
    hwm = table.get("hwm")
    if hwm is not None and (type(hwm) is not int or not 1 <= hwm <= 2**31 - 1):
        _fail(where, "hwm is a number of messages, at least 1")
    max_age = table.get("max_age", Policy().max_age)
    try:
        Policy(max_age=max_age)
    except UsageError as error:
        _fail(where, str(error))
    return Flow(
        name=name,
        context=_text(where, table, "context"),
        plain=plain,
        sealed=sealed,
        to=to,
        sign_only=sign_only,
        topic=_topic(where, table),
        subscribe=tuple(one.encode() for one in _texts(where, table, "subscribe")) or (b"",),
        max_age=max_age,
        hwm=hwm,
        same_clients_as=like,
    )


def _text(where: str, table: dict[str, Any], key: str) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value or not value.isprintable():
        _fail(where, f"{key} is a text")
    return value


def _texts(where: str, table: dict[str, Any], key: str) -> list[str]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        _fail(where, f"{key} is a list of texts")
    return value


def _bool(where: str, table: dict[str, Any], key: str) -> bool:
    value = table.get(key, False)
    if type(value) is not bool:
        _fail(where, f"{key} is true or false")
    return value


def _topic(where: str, table: dict[str, Any]) -> int | None:
    value = table.get("topic", "first-frame")
    if value == "first-frame":
        return None
    if value == "none":
        return 0
    if type(value) is int and 1 <= value <= _MAX_TOPIC_BYTES:
        return value
    _fail(where, f'topic is "first-frame", "none", or a number of bytes up to {_MAX_TOPIC_BYTES}')


def _end(where: str, table: dict[str, Any], key: str) -> End:
    value = table.get(key)
    inside = f"{where}, {key}"
    if not isinstance(value, dict):
        _fail(inside, 'is a table: { type = "SUB", connect = "tcp://127.0.0.1:5001" }')
    _check_keys(inside, value, _END)
    kind = _text(inside, value, "type")
    places = {}
    for how in ("bind", "connect"):
        given = value.get(how, [])
        given = [given] if isinstance(given, str) else given
        if not isinstance(given, list) or not all(isinstance(one, str) and one for one in given):
            _fail(inside, f"{how} is an endpoint, or a list of them")
        for place in given:
            _check_place(inside, how, place)
        places[how] = tuple(given)
    if not places["bind"] and not places["connect"]:
        _fail(inside, "has neither bind nor connect")
    return End(_ALIASES.get(kind, kind), places["bind"], places["connect"])


def _check_place(where: str, how: str, place: str) -> None:
    """Check what ZeroMQ would read otherwise than it stands there."""
    if not place.isprintable():  # It ends at a zero byte.
        _fail(where, f"{how} is an endpoint, or a list of them")
    port = place.rpartition(":")[2]
    if place.startswith("tcp://") and port.isdecimal() and not 0 < int(port[:9]) <= _MAX_PORT:
        _fail(where, f"{place}: a port is a number up to {_MAX_PORT}")


def _check_inside(where: str, plain: End, table: dict[str, Any]) -> None:
    """Check that the plain end stays on this machine, unless told otherwise."""
    is_told = _bool(where, table, "plain_on_the_network")
    if plain.type == "DEALER" and plain.bind:
        _fail(where, "a plain DEALER connects: there is one for each client at the other end")
    for place in (*plain.bind, *plain.connect):
        if not is_told and not _is_local(place):
            _fail(
                where,
                f"the plain end {place} is not on this machine, and nothing protects it there; if "
                "that is meant, say plain_on_the_network = true",
            )


def _is_local(place: str) -> bool:
    scheme, _, rest = place.partition("://")
    if scheme in ("ipc", "inproc"):
        return True
    if scheme != "tcp":
        return False
    host = rest.rpartition(":")[0].rpartition(";")[2].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
