"""Who takes part in the demonstration, on which topics, and for whom.

Rules of this file: what all processes must agree on, and no more. A topic is
``audience/kind``: ``all/dns`` is sealed to both subscribers, ``desk/dns`` to the desk
alone, ``archive/dns`` to the archive alone. ``end/north`` is north's signed word that
its log has ended.
"""

from __future__ import annotations

import hashlib
from typing import Final

from envelope.policy import Policy

CONTEXT: Final = "demo.events"
PUBLISHERS: Final = ("north", "south")
SUBSCRIBERS: Final = ("desk", "archive")
RESTARTED: Final = "archive"
"""The subscriber that ends in mid-stream and begins again, with its replay memory."""

ALL: Final = "all"
END: Final = "end"
AUDIENCES: Final[dict[str, tuple[str, ...]]] = {
    ALL: SUBSCRIBERS,
    END: SUBSCRIBERS,
    **{name: (name,) for name in SUBSCRIBERS},
}
"""The first part of a topic, and who subscribes to it and can read it."""

PROBE: Final = b"probe"
"""What a publisher calls until the proxy hears it; it has no envelope and goes no further."""

POLICY: Final = Policy(require="sealed", max_age=300.0, max_streams=256)
"""Ten times the usual age, for machines that are slow; a stream for each topic."""


def prefixes(subscriber: str) -> list[str]:
    """Return the first parts of the topics that a subscriber subscribes to."""
    return [prefix for prefix, names in AUDIENCES.items() if subscriber in names]


def audience(topic: str) -> tuple[str, ...]:
    """Return who gets what is sent on a topic."""
    return AUDIENCES[topic.partition("/")[0]]


def event_id(sender: str, topic: str, sequence: int) -> str:
    """Return the name of an event that all processes agree on."""
    return f"{sender}/{topic}/{sequence}"


def digest(payload: bytes) -> str:
    """Return what stands for a payload in the reports: published and delivered must be the same."""
    return hashlib.blake2b(payload, digest_size=16).hexdigest()


def topic_of(event: str) -> str:
    """Return the topic in an ``event_id``."""
    return event.partition("/")[2].rpartition("/")[0]


def sender_of(event: str) -> str:
    """Return the sender in an ``event_id``."""
    return event.partition("/")[0]
