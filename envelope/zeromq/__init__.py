"""ZeroMQ: sockets whose every message is sealed and opened.

``SecureSocket`` wraps a ``zmq.Socket``; ``envelope.zeromq.aio.SecureSocket`` wraps
a ``zmq.asyncio.Socket`` with the same behaviour.
"""

from envelope.zeromq.bundling import Bundling
from envelope.zeromq.requests import Request
from envelope.zeromq.socket import SecureSocket

__all__ = ["Bundling", "Request", "SecureSocket"]
