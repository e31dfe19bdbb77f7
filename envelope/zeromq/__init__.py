"""ZeroMQ: sockets whose every message is sealed and opened.

``SecureSocket`` wraps a ``zmq.Socket``; ``envelope.zeromq.aio.SecureSocket`` wraps
a ``zmq.asyncio.Socket`` with the same behaviour.
"""

from envelope.zeromq.socket import SecureSocket

__all__ = ["SecureSocket"]
