"""The demonstration without processes: the liar, its attacks, and the comparison.

Rehearsed hand to hand: the publishers' topics, the liar, the openers and the diaries,
on a clock that stands still. The comparison must be able to fail: it is given false
reports.
"""

from __future__ import annotations

import io
import json
import random
from collections import Counter

import pytest
from rich.console import Console
from support import FakeClock, identity

from envelope import Opener, Peer, RejectedError, Sealer, TrustStore
from envelope.demo import cast, picture
from envelope.demo.attacks import Act, Forger, flip, garbage
from envelope.demo.liar import Liar
from envelope.demo.subscriber import Diary
from envelope.demo.verdict import judge
from envelope.replay import MemoryReplayStore

EVENTS = 300
SEED = 5


# --- a rehearsal: no sockets, one process, a clock that stands still ----------------------


class Rehearsal:
    """Publishers, liar and subscribers, hand to hand."""

    def __init__(self, seed, events=EVENTS, order=0):
        clock = FakeClock()
        keys = {name: identity(name) for name in (*cast.PUBLISHERS, *cast.SUBSCRIBERS)}
        names = {keys[name].key_id: name for name in cast.PUBLISHERS}
        trust = TrustStore(
            Peer(name, keys[name].public, contexts=[cast.CONTEXT]) for name in cast.PUBLISHERS
        )
        self.forger = Forger({name: keys[name].public for name in cast.SUBSCRIBERS}, clock=clock)
        self.liar = Liar(names, self.forger, seed=seed)
        self.diaries = {name: Diary(name, names) for name in cast.SUBSCRIBERS}
        self._trust, self._names = trust, names
        self._sealers = {}
        self._keys, self._clock = keys, clock
        self._stores = {
            name: MemoryReplayStore(first_life=True, clock=clock) for name in cast.SUBSCRIBERS
        }
        self.openers = {name: self._opener(name) for name in cast.SUBSCRIBERS}
        self._frames = {name: [] for name in cast.PUBLISHERS}
        self._published = {name: {} for name in cast.PUBLISHERS}
        for name in cast.PUBLISHERS:
            self._publish(name, events // len(cast.PUBLISHERS))
        self._interleave(random.Random(order))

    def _opener(self, name):
        return Opener(
            self._trust,
            context=cast.CONTEXT,
            identity=self._keys[name],
            policy=cast.POLICY,
            replay=self._stores[name],
            clock=self._clock,
        )

    def _restart(self, name):
        """A new opener and a new diary go on with the old memory and the old pages."""
        before = self.diaries[name].report(self.openers[name].stats) | self.diaries[name].pages()
        self.diaries[name] = Diary(name, self._names, json.loads(json.dumps(before)))
        self.openers[name] = self._opener(name)
        self.deliver(self.liar.replay_all(name, 100))

    def _publish(self, name, count):
        for number in range(count):
            prefix = {3: "desk", 7: "archive"}.get(number % 10, "all")
            kind = ("conn", "dns")[number % 7 == 0]
            self._send(name, f"{prefix}/{kind}", b'{"n":%d}' % number)
        counts = {topic: len(digests) for topic, digests in self._published[name].items()}
        self._send(name, f"end/{name}", json.dumps(counts).encode())
        for topic in counts:
            self._send(name, topic, b"closing")

    def _send(self, name, topic, payload):
        if (name, topic) not in self._sealers:
            to = [self._keys[one].public for one in cast.audience(topic)]
            self._sealers[name, topic] = Sealer(
                self._keys[name], context=cast.CONTEXT, to=to, clock=self._clock
            )
        data = self._sealers[name, topic].seal(payload, bound=(topic.encode(),))
        self._frames[name].append([topic.encode(), data])
        self._published[name].setdefault(topic, []).append(cast.digest(payload))

    def _interleave(self, dice):
        queues = {name: iter(frames) for name, frames in self._frames.items()}
        left = sum(map(len, self._frames.values())) // 2
        while queues:
            left -= 1
            if not left:
                self._restart(cast.RESTARTED)
            name = dice.choice(sorted(queues))
            frames = next(queues[name], None)
            if frames is None:
                del queues[name]
            else:
                self.deliver(self.liar.take(frames))

    def deliver(self, messages):
        for topic, data in messages:
            for name in cast.audience(topic.decode()):
                try:
                    found = self.openers[name].open_bundle(data, bound=(topic,))
                except RejectedError as error:
                    self.diaries[name].refuse(error)
                else:
                    for message in found:
                        self.diaries[name].deliver(message)

    def reports(self):
        """What the three kinds of processes would send, through JSON as they do."""
        publishers = {
            name: {"published": topics, "markers": len(topics), "sent": EVENTS // 2}
            for name, topics in self._published.items()
        }
        proxy = {"counts": self.liar.counts, **self.liar.report()}
        subscribers = {
            name: diary.report(self.openers[name].stats) | diary.pages()
            for name, diary in self.diaries.items()
        }
        return json.loads(json.dumps((publishers, proxy, subscribers)))


@pytest.fixture(scope="module")
def rehearsal():
    return Rehearsal(SEED)


@pytest.fixture
def reports(rehearsal):
    return rehearsal.reports()


@pytest.mark.parametrize("seed", range(6))
def test_every_lie_of_the_proxy_is_accounted_for(seed):
    rehearsed = Rehearsal(seed)
    verdict = judge(*rehearsed.reports())
    assert verdict.problems == []
    assert verdict.is_good
    assert all(diary.is_complete for diary in rehearsed.diaries.values())
    assert all(row.done for row in verdict.rows), "an act that never happens proves nothing"


def test_one_seed_makes_one_set_of_counts_however_the_publishers_interleave():
    first, other = Rehearsal(1, order=1), Rehearsal(1, order=2)
    assert first.liar.counts == other.liar.counts
    assert Counter(first.liar.stopped) == Counter(other.liar.stopped)
    assert first.liar.counts != Rehearsal(2, order=1).liar.counts


def test_what_is_held_back_leaves_before_the_end_of_its_sender(rehearsal):
    done = rehearsal.liar.counts[Act.REORDER]
    passed = {e.event for entries in rehearsal.liar.ledger.values() for e in entries if e.event}
    stopped = {event for _, event in rehearsal.liar.stopped}
    assert done > 0
    assert rehearsal.liar.release() == []
    assert len(passed) + len(stopped) == EVENTS + 14  # each topic of each, and two ends
    assert not passed & stopped


def test_held_back_messages_leave_when_the_log_pauses():
    rehearsed = Rehearsal(SEED, events=0)
    alice = identity("a visitor")
    liar = Liar({alice.key_id: "visitor"}, rehearsed.forger, seed=1)
    sealer = Sealer(alice, context=cast.CONTEXT, to=[identity("desk").public])
    took = 0
    while not liar.counts[Act.REORDER]:
        liar.take([b"desk/conn", sealer.seal(b"", bound=(b"desk/conn",))])
        took += 1
    ((topic, data),) = liar.release()
    assert (topic, liar.ledger["desk"][-1].act) == (b"desk/conn", Act.REORDER)
    assert liar.ledger["desk"][-1].event == f"visitor/desk/conn/{took - 1}"
    assert data.startswith(b"ENV")


@pytest.mark.parametrize(
    "frames",
    [
        [b"all/conn"],
        [b"all/conn", b"garbage"],
        [b"\xff", b""],
        [b"all/conn", Sealer(identity("x"), context="x").seal(b"")],
        [b"elsewhere", Sealer(identity("north"), context="x").seal(b"")],
    ],
)
def test_the_proxy_passes_over_what_no_publisher_sent(rehearsal, frames):
    before = rehearsal.liar.counts.copy()
    assert rehearsal.liar.take(frames) == []
    assert rehearsal.liar.counts == before


# --- attacks ------------------------------------------------------------------------------


@pytest.mark.audit("A1")
@pytest.mark.parametrize("recipients", [1, 2])
def test_a_flipped_bit_is_refused_with_the_code_that_its_place_foretells(recipients):
    clock = FakeClock()
    alice, bob, carol = (identity(name) for name in ("alice", "bob", "carol"))
    sealer = Sealer(alice, context="x", to=[bob.public, carol.public][:recipients], clock=clock)
    opener = Opener(
        TrustStore([Peer("alice", alice.public, contexts=["x"])]),
        context="x",
        identity=bob,
        policy=cast.POLICY,
        replay=MemoryReplayStore(first_life=True, clock=clock),
        clock=clock,
    )
    opener.open(sealer.seal(b"first"))
    dice = random.Random(recipients)
    seen = Counter()
    for number in range(600):
        changed, code = flip(sealer.seal(b"payload %d" % number), dice)
        with pytest.raises(RejectedError) as refused:
            opener.open_bundle(changed)
        assert refused.value.code == code
        seen[code] += 1
    assert seen.keys() == {
        "malformed", "version", "unknown_sender", "stale", "future", "bad_signature"
    }  # fmt: skip


def test_garbage_never_begins_like_an_envelope():
    class Loaded(random.Random):
        def randbytes(self, n):
            return b"ENV"[:n] + bytes(max(0, n - 3))

    assert garbage(Loaded(1))[:3] == b"?NV"
    assert {len(garbage(random.Random(n))) > 144 for n in range(40)} == {True, False}


# --- the comparison can fail --------------------------------------------------------------


def _delivered(report):
    return [index for index, one in enumerate(report["arrivals"]) if not isinstance(one, str)]


def _problems(reports):
    verdict = judge(*reports)
    assert not verdict.is_good
    return verdict, " | ".join(verdict.problems)


def test_a_missing_event_is_flagged(reports):
    desk = reports[2]["desk"]
    event, _ = desk["arrivals"].pop(_delivered(desk)[10])
    verdict, problems = _problems(reports)
    assert f"{event} was let through, and delivered 0 times" in problems
    assert [row.act for row in verdict.rows if not row.is_accounted] == [Act.PASS]


def test_an_event_delivered_twice_is_flagged(reports):
    desk = reports[2]["desk"]
    twice = desk["arrivals"][_delivered(desk)[10]]
    desk["arrivals"].append(twice)
    assert f"{twice[0]} was let through, and delivered 2 times" in _problems(reports)[1]


def test_an_event_that_was_changed_is_flagged(reports):
    archive = reports[2]["archive"]
    one = archive["arrivals"][_delivered(archive)[3]]
    one[1] = "00" * 16
    verdict, problems = _problems(reports)
    assert f"{one[0]} was delivered, and is not what was published" in problems
    assert not verdict.rows[0].is_accounted


def test_an_event_that_nobody_published_is_flagged(reports):
    reports[2]["desk"]["arrivals"].append(["north/all/conn/999999", "00" * 16])
    assert "north/all/conn/999999 was delivered, and nobody published it" in _problems(reports)[1]


def test_an_event_for_somebody_else_is_flagged(reports):
    digest = reports[0]["north"]["published"]["archive/conn"][0]
    reports[2]["desk"]["arrivals"].append(["north/archive/conn/0", digest])
    assert "north/archive/conn/0 was delivered, and nobody published" in _problems(reports)[1]


@pytest.mark.parametrize("act", [Act.DROP, Act.FLIP, Act.RETOPIC])
def test_an_event_that_was_stopped_and_came_all_the_same_is_flagged(reports, act):
    publishers, proxy, subscribers = reports
    event = next(e for done, e in proxy["stopped"] if done == act and "/all/" in e)
    topic, _, number = event.partition("/")[2].rpartition("/")
    digest = publishers[cast.sender_of(event)]["published"][topic][int(number)]
    subscribers["desk"]["arrivals"].append([event, digest])
    assert f"{event} was delivered, and was not let through" in _problems(reports)[1]


def test_an_attack_that_was_delivered_is_flagged_and_nothing_else_is(reports):
    arrivals = reports[2]["desk"]["arrivals"]
    replayed = arrivals.index("replayed")
    arrivals[replayed] = next(one for one in arrivals if not isinstance(one, str))
    verdict, problems = _problems(reports)
    act = next(entry[0] for entry in reports[1]["ledger"]["desk"] if entry[1] == "replayed")
    assert f"{act}: due to be refused as replayed, was not refused" in problems
    assert f"{arrivals[replayed][0]} was let through, and delivered 2 times" in problems
    assert [row.act for row in verdict.rows if not row.is_accounted] == [Act.PASS, act]


@pytest.mark.parametrize("code", ["replayed", "not_addressed", "unknown_sender", "malformed"])
def test_an_attack_that_left_no_trace_is_flagged(reports, code):
    arrivals = reports[2]["desk"]["arrivals"]
    last = len(arrivals) - 1 - arrivals[::-1].index(code)
    del arrivals[last:]
    problems = _problems(reports)[1]
    assert "was not refused" in problems
    assert f"{last} arrived" in problems


def test_an_attack_refused_with_another_code_is_flagged(reports):
    arrivals = reports[2]["archive"]["arrivals"]
    arrivals[arrivals.index("not_addressed")] = "bad_signature"
    verdict, problems = _problems(reports)
    assert f"archive: {Act.MISDIRECT}: due to be refused as not_addressed" in problems
    assert [row.act for row in verdict.rows if not row.is_accounted] == [Act.MISDIRECT]


def test_a_refusal_without_an_attack_is_flagged(reports):
    reports[2]["desk"]["arrivals"].append("stale")
    assert "refused as stale what the proxy did nothing to" in _problems(reports)[1]


def test_counters_of_the_library_that_differ_are_flagged(reports):
    reports[2]["desk"]["refused"]["replayed"] += 1
    assert "desk: the counters of refusals differ" in _problems(reports)[1]


@pytest.mark.parametrize("figure", ["lost", "late", "delivered"])
def test_gap_figures_that_differ_are_flagged(reports, figure):
    figures = reports[2]["desk"]["senders"]["south"]
    figures[figure] -= 1
    verdict, problems = _problems(reports)
    assert f"{figures[figure]} {figure} of south counted, {figures[figure] + 1} due" in problems
    dropped = next(row for row in verdict.rows if row.act is Act.DROP)
    assert dropped.is_accounted == (figure != "lost")


def test_an_event_that_the_proxy_hides_is_flagged(reports):
    act, event = reports[1]["stopped"].pop(0)
    problems = _problems(reports)[1]
    assert f"{event} is in the proxy's books twice, or not at all" in problems
    assert f"messages {act}, and names" in problems


def test_a_stopped_event_that_nobody_published_is_flagged(reports):
    reports[1]["stopped"].append([Act.DROP, "north/all/conn/999999"])
    assert "north/all/conn/999999 was dropped, and nobody published it" in _problems(reports)[1]


def test_many_problems_are_shown_in_part(reports):
    reports[2]["desk"]["arrivals"].clear()
    publishers, proxy, subscribers = reports
    scene = picture.Scene(seed=1, reports={**publishers, "proxy": proxy, **subscribers})
    scene.verdict = judge(*reports)
    console = Console(file=io.StringIO(), width=100)
    console.print(picture.draw(scene))
    assert f"and {len(scene.verdict.problems) - 8} more" in console.file.getvalue()
    assert "0/" in console.file.getvalue()
