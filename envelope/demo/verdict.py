"""What the proxy did, against what came of it: every lie named, every event in place.

Rules of this file: it judges reports, and touches nothing else. The publishers
say what they sent, the proxy says what it did with that and what it added, the
subscribers say what they saw. Whatever does not fit together is a problem, and one
problem fails the run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from envelope.demo import cast
from envelope.demo.attacks import DELIVERED, STOPPED, Act

Report = Mapping[str, Any]
LOST = "lost"
"""What must come of a message that was dropped: the gap figures have it."""


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of act, and what came of it.

    Attributes:
        act: the kind.
        done: how often the proxy did it.
        outcomes: what had to come of it, and how often, over all subscribers.
        cells: by subscriber, how many of how many ended so.
    """

    act: Act
    done: int
    outcomes: Mapping[str, int]
    cells: Mapping[str, tuple[int, int]]

    @property
    def is_accounted(self) -> bool:
        """Whether everything ended as it had to."""
        return all(right == due for right, due in self.cells.values())


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of the comparison.

    Attributes:
        rows: one for each kind of act.
        problems: what does not fit; empty if all is well.
    """

    rows: Sequence[Row]
    problems: Sequence[str]

    @property
    def is_good(self) -> bool:
        """Whether every attack and every event is accounted for."""
        return not self.problems and all(row.is_accounted for row in self.rows)


def judge(
    publishers: Mapping[str, Report], proxy: Report, subscribers: Mapping[str, Report]
) -> Verdict:
    """Compare the final reports of all who took part, by name."""
    published = {
        cast.event_id(name, topic, sequence): digest
        for name, report in publishers.items()
        for topic, digests in report["published"].items()
        for sequence, digest in enumerate(digests)
    }
    stopped = {event: Act(act) for act, event in proxy["stopped"]}
    sides = [
        _Side(name, report, proxy["ledger"][name], published, stopped)
        for name, report in subscribers.items()
    ]
    for side in sides:
        side.judge()
    counts = {Act(act): count for act, count in proxy["counts"].items()}
    rows = [
        Row(
            act,
            counts.get(act, 0),
            sum((side.outcomes[act] for side in sides), Counter[str]()),
            {side.name: (max(0, side.right[act]), side.due[act]) for side in sides},
        )
        for act in Act
    ]
    problems = [f"{side.name}: {problem}" for side in sides for problem in side.problems]
    done = Counter(stopped.values())
    problems += [
        f"the proxy counts {counts.get(act, 0)} messages {act}, and names {done[act]}"
        for act in STOPPED
        if counts.get(act, 0) != done[act]
    ]
    return Verdict(rows, problems)


class _Side:
    """One subscriber's account."""

    def __init__(
        self,
        name: str,
        report: Report,
        ledger: Sequence[tuple[Act, str, str | None]],
        published: Mapping[str, str],
        stopped: Mapping[str, Act],
    ) -> None:
        self.name = name
        self.due: Counter[Act] = Counter()
        self.right: Counter[Act] = Counter()
        self.outcomes: dict[Act, Counter[str]] = {act: Counter() for act in Act}
        self.problems: list[str] = []
        self._report = report
        self._ledger = ledger
        self._published = {e: d for e, d in published.items() if self._is_for_me(e)}
        self._stopped = {e: act for e, act in stopped.items() if self._is_for_me(e)}
        self._refusals = [(Act(act), code) for act, code, event in ledger if event is None]
        self._passed = {event: Act(act) for act, _, event in ledger if event is not None}
        self._delivered = [tuple(one) for one in report["arrivals"] if not isinstance(one, str)]

    def _is_for_me(self, event: str) -> bool:
        return self.name in cast.audience(cast.topic_of(event))

    def judge(self) -> None:
        """Fill the counters and the problems."""
        self._judge_refusals()
        self._judge_deliveries()
        self._judge_the_stopped()
        self._judge_figures()

    def _count(self, act: Act, outcome: str, *, right: bool) -> None:
        self.due[act] += 1
        self.right[act] += right
        self.outcomes[act][outcome] += 1

    def _judge_refusals(self) -> None:
        """Each lie was refused with its code; all comes in the order of the ledger."""
        for due, code in zip_longest(self._refusals, self._came_of_them()):
            if due is None:
                self.problems.append(f"refused as {code} what the proxy did nothing to")
                continue
            act, outcome = due
            self._count(act, outcome, right=code == outcome)
            if code != outcome:
                refused = code not in (None, DELIVERED)
                came = f"was refused as {code}" if refused else "was not refused"
                self.problems.append(f"{act}: due to be refused as {outcome}, {came}")

    def _came_of_them(self) -> Sequence[str]:
        """Return what came of the proxy's lies, in order."""
        arrivals = self._report["arrivals"]
        if len(arrivals) == len(self._ledger):
            return [
                one if isinstance(one, str) else DELIVERED
                for (_, _, event), one in zip(self._ledger, arrivals, strict=True)
                if event is None
            ]
        self.problems.append(f"{len(self._ledger)} messages were sent, {len(arrivals)} arrived")
        return [one for one in arrivals if isinstance(one, str)]

    def _judge_deliveries(self) -> None:
        """Each event that was let through was delivered once and unchanged."""
        seen = Counter(event for event, _ in self._delivered)
        changed = {e for e, digest in self._delivered if self._published.get(e) != digest}
        for event, act in self._passed.items():
            right = seen[event] == 1 and event not in changed
            self._count(act, DELIVERED, right=right)
            if seen[event] != 1:
                self.problems.append(f"{event} was let through, and delivered {seen[event]} times")
        for event in seen:
            if event not in self._published:
                self.problems.append(f"{event} was delivered, and nobody published it for here")
            elif event in changed:
                self.problems.append(f"{event} was delivered, and is not what was published")
            elif event not in self._passed:
                self.problems.append(f"{event} was delivered, and was not let through")

    def _judge_the_stopped(self) -> None:
        """Each event that was published is either let through or stopped."""
        for event, act in self._stopped.items():
            if act is Act.DROP:
                self._count(act, LOST, right=True)
            if event not in self._published:
                self.problems.append(f"{event} was {act}, and nobody published it")
        for event in self._published:
            if (event in self._passed) == (event in self._stopped):
                self.problems.append(f"{event} is in the proxy's books twice, or not at all")

    def _judge_figures(self) -> None:
        """The library's own counters say the same."""
        if Counter(self._report["refused"]) != Counter(code for _, code in self._refusals):
            self.problems.append("the counters of refusals differ from what the proxy did")
        lost = Counter(map(cast.sender_of, self._stopped))
        late = self._late()
        delivered = Counter(map(cast.sender_of, self._passed))
        senders = self._report["senders"]
        for name in {*lost, *delivered, *senders}:
            figures = senders.get(name, {})
            for figure, due in (("lost", lost), ("late", late), ("delivered", delivered)):
                if figures.get(figure, 0) != due[name]:
                    self.problems.append(
                        f"{figures.get(figure, 0)} {figure} of {name} counted, {due[name]} due"
                    )
            # A dropped message leaves no trace but its gap.
            self.right[Act.DROP] -= abs(figures.get("lost", 0) - lost[name])

    def _late(self) -> Counter[str]:
        """Return how many events of each sender came behind a newer one of their topic."""
        newest: dict[str, int] = {}
        late: Counter[str] = Counter()
        for event in self._passed:
            topic, _, number = event.rpartition("/")
            if int(number) < newest.get(topic, -1):
                late[cast.sender_of(event)] += 1
            newest[topic] = max(newest.get(topic, -1), int(number))
        return late
