"""Sessions: key exchange for two ends that can both speak (SPEC 18)."""

from envelope.session.end import Pace
from envelope.session.exchange import Datagram
from envelope.session.manager import SessionManager
from envelope.session.timing import Timing

__all__ = ["Datagram", "Pace", "SessionManager", "Timing"]
