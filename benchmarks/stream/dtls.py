"""DTLS 1.2 over memory buffers: each record travels as one ZeroMQ message.

Rules of this file: OpenSSL sees no socket, as the developers of 2011 wanted it. Records go
over a PAIR, one for each hop, so that none is lost; the proxy ends one hop and begins the
next, which takes its key. Both ends of a hop show certificates. pyOpenSSL is imported
when it is needed: it need not be there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import trustme
import zmq

_VERSION: Final = 0xFEFD
"""DTLS 1.2, as it is on the wire."""
_MTU: Final = 1500
"""An event goes in one record of this size."""
_MOST: Final = 65_536


class Channel:
    """One end of a hop, once hands were shaken."""

    def __init__(self, connection: Any) -> None:
        self._send, self._recv = connection.send, connection.recv
        self._bio_read, self._bio_write = connection.bio_read, connection.bio_write

    def wrap(self, payload: bytes) -> bytes:
        """Return the record of a payload."""
        self._send(payload)
        record: bytes = self._bio_read(_MOST)
        return record

    def unwrap(self, record: bytes) -> bytes:
        """Return the payload of a record."""
        self._bio_write(record)
        payload: bytes = self._recv(_MOST)
        return payload


def write_certificates(folder: Path) -> None:
    """Make an authority and one certificate, for all ends."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "authority.pem")
    certificate = authority.issue_cert("bench.test")
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "own.pem")


def connect(folder: Path, socket: zmq.Socket[Any]) -> Channel:
    """Shake hands as the client."""
    connection = _connection(folder)
    connection.set_connect_state()
    return _shake_hands(connection, socket)


def accept(folder: Path, socket: zmq.Socket[Any]) -> Channel:
    """Shake hands as the server."""
    connection = _connection(folder)
    connection.set_accept_state()
    return _shake_hands(connection, socket)


def _connection(folder: Path) -> Any:
    from OpenSSL import SSL  # noqa: PLC0415 (it need not be there)

    context = SSL.Context(SSL.DTLS_METHOD)
    context.set_min_proto_version(_VERSION)
    context.set_max_proto_version(_VERSION)
    context.use_certificate_chain_file(str(folder / "own.pem"))
    context.use_privatekey_file(str(folder / "own.pem"))
    context.load_verify_locations(str(folder / "authority.pem"))
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, None)
    connection = SSL.Connection(context, None)
    connection.set_ciphertext_mtu(_MTU)
    return connection


def _shake_hands(connection: Any, socket: zmq.Socket[Any]) -> Channel:
    from OpenSSL import SSL  # noqa: PLC0415 (it need not be there)

    while True:
        is_done = True
        try:
            connection.do_handshake()
        except SSL.WantReadError:
            is_done = False
        _pass_on(connection, socket, SSL.WantReadError)
        if is_done:
            return Channel(connection)
        connection.bio_write(socket.recv())


def _pass_on(connection: Any, socket: zmq.Socket[Any], nothing: type[Exception]) -> None:
    """Send what OpenSSL has to say, if it has."""
    try:
        socket.send(connection.bio_read(_MOST))
    except nothing:
        return


def forward(
    source: tuple[zmq.Socket[Any], Channel],
    targets: Sequence[tuple[zmq.Socket[Any], Channel]],
) -> None:
    """Be the proxy: open each record, and make one for each subscriber. Never returns."""
    front, inward = source
    outward = [(socket.send, channel.wrap) for socket, channel in targets]
    while True:
        payload = inward.unwrap(front.recv())
        for send, wrap in outward:
            send(wrap(payload))
