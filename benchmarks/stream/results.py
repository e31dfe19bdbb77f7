"""What was measured, as data, and as a file of JSON that has all of it.

Rules of this file: plain values, no clocks and no processes: whoever draws or tells reads
a file that somebody else has measured.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

ROLES: Final = ("publisher", "proxy", "subscriber")
PERCENTILES: Final = (50.0, 99.0, 99.9)


@dataclass(frozen=True)
class End:
    """What one role needed; of several subscribers, one on average, and the most memory."""

    cpu: float
    """Microseconds of the processor for each event."""
    busiest: float
    """The same of the thread that computed most."""
    peak: int
    """Bytes of memory."""


@dataclass(frozen=True)
class Step:
    """What it was like at one rate."""

    share: float
    """Of the rate at saturation."""
    rate: float
    """Events a second that were asked for."""
    achieved: float
    """Events a second that went through."""
    count: int
    percentiles: tuple[float, ...]
    """Microseconds from when an event was due, in the order of ``PERCENTILES``."""
    ends: dict[str, End]


@dataclass(frozen=True)
class Result:
    """What one run gave."""

    way: str
    subscribers: int
    round: int
    window: int
    count: int
    """Events in the phase of saturation."""
    rate: float
    """Events a second at saturation."""
    ends: dict[str, End]
    steps: list[Step] = field(default_factory=list)

    def cpu(self) -> float:
        """Return what all processes computed for an event, microseconds."""
        return whole(self.ends, self.subscribers)


@dataclass
class Record:
    """All of a benchmark."""

    machine: str
    cores: int
    events: str
    rounds: int
    results: list[Result] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """What was not measured, and why."""

    def save(self, file: Path) -> None:
        """Write all as JSON."""
        file.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, file: Path) -> Record:
        """Read what ``save`` wrote."""
        found = json.loads(file.read_text(encoding="utf-8"))
        found["results"] = [_result(one) for one in found["results"]]
        return cls(**found)


def whole(ends: dict[str, End], subscribers: int) -> float:
    """Return what all ends together computed for an event, microseconds."""
    return sum(end.cpu * (subscribers if role == "subscriber" else 1) for role, end in ends.items())


def _result(found: dict[str, Any]) -> Result:
    steps = [
        Step(**one | {"percentiles": tuple(one["percentiles"]), "ends": _ends(one["ends"])})
        for one in found["steps"]
    ]
    return Result(**found | {"steps": steps, "ends": _ends(found["ends"])})


def _ends(found: dict[str, Any]) -> dict[str, End]:
    return {role: End(**end) for role, end in found.items()}
