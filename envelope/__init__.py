"""End-to-end authenticity around every message: seal before send, open after receive.

To use it: a ``Node`` has keys, peers and memory of one program; its ``sealer`` and ``opener``
go into an ``envelope.zeromq.SecureSocket``, for asyncio ``envelope.zeromq.aio.SecureSocket``,
or seal and open bytes. ``envelope.session`` is for two ends that want forward secrecy. Every
exception is in ``envelope.errors``. README.md and docs/guides show how.

To read it, in this order: ``docs/SPEC.md``, ``wire``, ``sealer``, ``opener``, ``replay.guard``.
"""

from envelope.errors import (
    EnvelopeError,
    KeyFileError,
    RejectedError,
    RequestError,
    StoreFileError,
    TrustFileError,
    UsageError,
)
from envelope.fleet import Fleet
from envelope.identity import Identity, PublicIdentity
from envelope.member import Member
from envelope.message import Bundle, Message, message_id, recipients_of
from envelope.node import Node
from envelope.opener import Opener
from envelope.policy import Policy
from envelope.sealer import Sealer
from envelope.stats import SenderStats, Stats
from envelope.trust import Peer, TrustStore

__version__ = "0.1.0"

__all__ = [
    "Bundle",
    "EnvelopeError",
    "Fleet",
    "Identity",
    "KeyFileError",
    "Member",
    "Message",
    "Node",
    "Opener",
    "Peer",
    "Policy",
    "PublicIdentity",
    "RejectedError",
    "RequestError",
    "Sealer",
    "SenderStats",
    "Stats",
    "StoreFileError",
    "TrustFileError",
    "TrustStore",
    "UsageError",
    "message_id",
    "recipients_of",
]
