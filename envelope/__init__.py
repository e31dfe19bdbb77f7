"""End-to-end authenticity around every message: seal before send, open after receive.

The order of reading: ``docs/SPEC.md``, then ``wire``, ``sealer``, ``opener``,
``replay.guard``. Every exception is in ``envelope.errors``.
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
