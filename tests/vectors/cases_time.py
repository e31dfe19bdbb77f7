"""When it was sent: freshness and the cold start (7.2 steps 6 and 7; 8.7)."""

from __future__ import annotations

from collections.abc import Iterator

from vectors.cases_replay import REQUEST, at
from vectors.world import (
    ALICE,
    BOB,
    CAROL,
    NOW,
    SECOND,
    Case,
    Opening,
    case,
    craft,
    sealed,
    stream,
)


def cases() -> Iterator[Case]:
    yield from freshness()
    yield from cold_start()


def freshness() -> Iterator[Case]:
    old, ahead = NOW - 30 * SECOND - 1, NOW + 2 * SECOND + 1
    for kind, make in (("signed", craft), ("sealed", sealed)):
        yield case(f"{kind}_by_1_us", "one past max_age", make(sent_at=old), "stale")
        yield case(f"{kind}_by_1_us", "one past max_future", make(sent_at=ahead), "future")
    yield case("sent_at_0", "the oldest time there is", craft(sent_at=0), "stale")
    yield case(
        "sent_at_last",
        "the last time there is, which would outlive every window",
        craft(sent_at=2**53 - 1),
        "future",
    )
    yield case(
        "shorter_max_age",
        "the receiver's policy decides",
        craft(sent_at=NOW - SECOND - 1),
        "stale",
        policy={"max_age": SECOND},
    )
    yield case(
        "no_future_at_all",
        "max_future may be zero",
        craft(sent_at=NOW + 1),
        "future",
        policy={"max_future": 0},
    )
    yield case(
        "clock_set_back",
        "what was too old stays too old: the highest reading is in force (7.6)",
        at(1, sent_at=NOW + 9 * SECOND),
        "stale",
        before=[Opening(at(0, sent_at=NOW + 40 * SECOND), now=NOW + 40 * SECOND)],
    )
    yield case(
        "clock_set_back_and_the_future",
        "by the highest reading, this is no future",
        at(1, sent_at=NOW + 41 * SECOND),
        before=[Opening(at(0, sent_at=NOW + 40 * SECOND), now=NOW + 40 * SECOND)],
    )
    yield case(
        "replay_after_max_age",
        "freshness is judged before the replay memory (order of 7.2)",
        craft(),
        "stale",
        before=[Opening(craft())],
        now=NOW + 30 * SECOND + 1,
    )
    for result, sent_at in (("stale", old), ("future", ahead)):
        yield case(
            "before_the_signature",
            "forged as well: freshness is judged first (order of 7.2)",
            craft(by=CAROL, sender=ALICE.key_id, sent_at=sent_at),
            result,
        )


def cold_start() -> Iterator[Case]:
    own = stream("of this process")
    for name, sent_at in {"at_cold": NOW, "before_cold": NOW - 1}.items():
        yield case(
            name,
            "an earlier life may have accepted it",
            craft(sent_at=sent_at),
            "before_start",
            cold=NOW,
        )
    yield case("after_cold", "later than all that was", craft(sent_at=NOW + 1), cold=NOW)
    yield case(
        "reply_after_cold_start",
        "the expected reply is exempt: its request was made in this life (8.7)",
        craft(in_reply_to=REQUEST),
        cold=NOW,
        in_reply_to=REQUEST,
    )
    yield case(
        "reply_after_cold_start_twice",
        "exempt from cold alone",
        craft(in_reply_to=REQUEST),
        "replayed",
        cold=NOW,
        in_reply_to=REQUEST,
        before=[Opening(craft(in_reply_to=REQUEST), in_reply_to=REQUEST)],
    )
    yield case(
        "own_stream_after_cold_start",
        "a stream that this process began after its store cannot have been seen before (8.7)",
        craft(stream=own),
        cold=NOW,
        own_streams=[own],
    )
    yield case(
        "other_stream_beside_an_own_one",
        "only the own stream is exempt",
        craft(),
        "before_start",
        cold=NOW,
        own_streams=[own],
    )
    yield case(
        "accepted_own_after_cold_start",
        "accept_own exempts nothing: another process may have sent it in an earlier life",
        craft(by=BOB),
        "before_start",
        policy={"accept_own": True},
        cold=NOW,
    )
    yield case(
        "before_the_signature",
        "forged as well: the peek comes first (order of 7.2)",
        craft(by=CAROL, sender=ALICE.key_id),
        "before_start",
        cold=NOW,
    )
    yield case(
        "before_the_window",
        "behind the window as well: cold is judged first (8.4)",
        at(0, sent_at=NOW),
        "before_start",
        policy={"window": 64},
        before=[Opening(at(64, sent_at=NOW + 1))],
        cold=NOW,
    )
    yield case(
        "after_freshness",
        "too old for max_age as well: freshness comes first (order of 7.2)",
        craft(sent_at=NOW - 31 * SECOND),
        "stale",
        cold=NOW,
    )
