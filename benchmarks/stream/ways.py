"""What is compared: the ways to bring events from a publisher to its subscribers.

Rules of this file: a way is data. How it is done is in ``ends`` for the three roles, in
``tunnel``, ``dtls`` and ``sidecar`` for what stands beside them.
"""

from __future__ import annotations

import importlib.util
from enum import StrEnum
from typing import NamedTuple

from stream import tunnel


class Carrier(StrEnum):
    """Who sees to security between two hops, if anybody does."""

    PLAIN = "plain"
    CURVE = "curve"
    STUNNEL = "stunnel"
    DTLS = "dtls"
    RELAY = "relay"


class Way(NamedTuple):
    """One way."""

    name: str
    """For the command line and the data."""
    label: str
    """For people."""
    carrier: Carrier = Carrier.PLAIN
    is_signed: bool = False
    """Whether each event is in an envelope of ours."""
    is_sealed: bool = False
    """Whether that envelope is encrypted, too."""
    is_bundled: bool = False
    """Whether events of one topic share envelopes: ``bundling=Bundling()``."""
    is_large: bool = False
    """Whether bundles may be larger and wait longer than they do by default."""
    takes_bundles: bool = False
    """Whether subscribers call ``recv_bundle()`` and not ``recv()``."""
    is_one_frame: bool = False
    """Whether the topic is the beginning of the payload's frame, and has none of its own."""


_SIGNED = Way("", "", is_signed=True)
_SEALED = _SIGNED._replace(is_sealed=True)


WAYS = (
    Way("plain", "plain ZeroMQ"),
    Way("plain-one", "plain ZeroMQ, one frame", is_one_frame=True),
    Way("curve", "CURVE", Carrier.CURVE),
    Way("curve-one", "CURVE, one frame", Carrier.CURVE, is_one_frame=True),
    Way("stunnel", "stunnel", Carrier.STUNNEL),
    Way("stunnel-one", "stunnel, one frame", Carrier.STUNNEL, is_one_frame=True),
    Way("dtls", "DTLS", Carrier.DTLS, is_one_frame=True),
    Way("relay", "relays beside plain programs", Carrier.RELAY),
    _SIGNED._replace(name="signed", label="signed, one by one"),
    _SEALED._replace(name="sealed", label="sealed, one by one"),
    _SIGNED._replace(
        name="signed-bundled", label="signed, bundled", is_bundled=True, takes_bundles=True
    ),
    _SEALED._replace(
        name="sealed-bundled", label="sealed, bundled", is_bundled=True, takes_bundles=True
    ),
    _SIGNED._replace(name="signed-recv", label="signed, bundled, `recv()`", is_bundled=True),
    _SEALED._replace(name="sealed-recv", label="sealed, bundled, `recv()`", is_bundled=True),
    _SEALED._replace(
        name="sealed-large",
        label="sealed, large bundles",
        is_bundled=True,
        is_large=True,
        takes_bundles=True,
    ),
)
BY_NAME = {way.name: way for way in WAYS}


def obstacle(way: Way) -> str | None:
    """Return why a way cannot be measured here, or None."""
    if way.carrier is Carrier.STUNNEL and tunnel.find() is None:
        return "stunnel is not installed; `bash .ci/stunnel` does it on Debian"
    if way.carrier is Carrier.DTLS and importlib.util.find_spec("OpenSSL") is None:
        return "pyOpenSSL is not installed; requirements/plots.txt has it"
    return None
