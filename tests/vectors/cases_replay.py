"""What was accepted before, or may have been: windows and floors (7.2 steps 7 and 11; 8).

No case has two streams with the same ``newest`` when one of them must go.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vectors.reference import pack_bundle
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
    noise,
    sealed,
    stream,
)

SMALL: dict[str, Any] = {"window": 64, "max_streams": 2}
LAST = 2**48 - 1
REQUEST = noise("request id", 32)


def cases() -> Iterator[Case]:
    yield from windows()
    yield from floors()
    yield from replays()


def at(sequence: int, **options: Any) -> bytes:
    """Return a signed envelope of Alice's first stream, unless told otherwise."""
    return craft(b"%d" % sequence, sequence=sequence, **options)


def of(name: str, second: int, sequence: int = 0) -> bytes:
    """Return an envelope of a named stream, stamped so many seconds after NOW."""
    return at(sequence, stream=stream(name), sent_at=NOW + second * SECOND)


def history(name: str, comment: str, *openings: tuple[bytes, str], now: int = NOW) -> Case:
    """Return a case whose receiver has a small memory and a clock that stands still."""
    steps = [Opening(envelope, result, now=now) for envelope, result in openings]
    return Case(name, comment, steps, policy=SMALL)


def windows() -> Iterator[Case]:
    yield history(
        "out_of_order",
        "reordered within the window; skipped counts what a newer one passed over",
        (at(0), "ok"),
        (at(3), "ok"),
        (at(1), "ok"),
        (at(2), "ok"),
    )
    yield history("late_joiner", "the first of a stream skips all before it", (at(7), "ok"))
    yield history("far_edge", "1 + 64 > 64", (at(64), "ok"), (at(1), "ok"))
    yield history("far_edge", "0 + 64 <= 64", (at(64), "ok"), (at(0), "too_old"))
    yield history(
        "far_edge",
        "1 was accepted and is still in the window",
        (at(1), "ok"),
        (at(64), "ok"),
        (at(1), "replayed"),
    )
    yield history(
        "replay_behind_the_window",
        "0 was accepted, and the window has forgotten it",
        (at(0), "ok"),
        (at(64), "ok"),
        (at(0), "too_old"),
    )
    yield history(
        "fast_forward",
        "a jump of any size is accepted and costs constant time",
        (at(0), "ok"),
        (at(LAST), "ok"),
    )
    yield history(
        "after_a_fast_forward",
        "the window moved whole",
        (at(LAST), "ok"),
        (at(LAST - 63), "ok"),
    )
    yield history(
        "after_a_fast_forward",
        "behind the moved window",
        (at(LAST), "ok"),
        (at(LAST - 64), "too_old"),
    )
    yield history(
        "start_after_a_fast_forward",
        "the start of the stream is far behind",
        (at(0), "ok"),
        (at(LAST), "ok"),
        (at(0), "too_old"),
    )
    yield history(
        "last_twice", "at the end of the numbers", (at(LAST), "ok"), (at(LAST), "replayed")
    )
    for distance in (63, 64, 65, 71, 72, 127, 128):
        yield history(
            f"no_echo_at_{distance}",
            "what left a ring of bits leaves no mark in its place",
            (at(10), "ok"),
            (at(10 + distance + 20), "ok"),
            (at(10 + distance), "ok"),
        )
    steps = [(at(number), "ok") for number in range(0, 140, 7)]
    echoes = [number for number in range(76, 139) if number % 7 in {1, 2}]
    yield history(
        "many_steps",
        "the window slides byte by byte; the places that a ring of 64, 72 or 128 bits has used "
        "before are free again",
        *steps,
        (at(139), "ok"),
        *[(at(number), "ok") for number in echoes],
    )
    yield history(
        "many_steps", "and nothing is forgotten that is still in it", *steps, (at(77), "replayed")
    )


def floors() -> Iterator[Case]:
    first_two = (of("a", -9), "ok"), (of("b", -8), "ok")
    yield history("two_streams", "a restart of the sender is a new stream", *first_two)
    yield history(
        "older_stream_while_there_is_room",
        "no floor yet: an older stream may still come",
        (of("b", -8), "ok"),
        (of("a", -9), "ok"),
    )
    yield history(
        "full_table",
        "unknown, and not later than the lowest newest of a full table",
        *first_two,
        (of("c", -9), "too_old"),
    )
    yield history(
        "third_stream",
        "later than the lowest newest: that stream gives way",
        *first_two,
        (of("c", -7), "ok"),
    )
    yield history(
        "evicted",
        "the window was dropped, and the floor refuses what it accepted",
        *first_two,
        (of("c", -7), "ok"),
        (of("a", -9), "too_old"),
    )
    yield history(
        "evicted_not_seen",
        "never accepted, and not to be told from what was",
        *first_two,
        (of("c", -7), "ok"),
        (of("a", -9, 1), "too_old"),
    )
    back = (*first_two, (of("c", -7), "ok"), (of("a", -6, 5), "ok"))
    yield history("return", "an evicted stream comes back later; skipped starts anew", *back)
    yield history(
        "replay_after_the_return",
        "known again, and at or before its stream floor",
        *back,
        (of("a", -9), "too_old"),
    )
    yield history(
        "stream_floor",
        "stamped exactly at the stream floor, which b left behind",
        *back,
        (of("a", -8, 4), "too_old"),
    )
    yield history("above_the_stream_floor", "stamped later", *back, (of("a", -7, 4), "ok"))
    yield history(
        "lowest_newest_goes",
        "not the oldest entry goes, but the one with the lowest newest; the other remembers",
        (of("a", -5), "ok"),
        (of("b", -8), "ok"),
        (of("c", -4), "ok"),
        (of("a", -5), "replayed"),
    )
    yield history(
        "newest_is_the_highest",
        "a late envelope does not lower newest: b goes",
        (of("a", -5, 1), "ok"),
        (of("a", -9, 0), "ok"),
        (of("b", -8), "ok"),
        (of("c", -4), "ok"),
        (of("a", -9, 0), "replayed"),
    )
    yield history(
        "floor_of_another_sender",
        "floors are kept for each sender",
        *first_two,
        (of("c", -7), "ok"),
        (at(0, by=CAROL, stream=stream("a"), sent_at=NOW - 9 * SECOND), "ok"),
    )
    yield Case(
        "one_stream_only",
        "the smallest table",
        [
            Opening(of("a", -9)),
            Opening(of("b", -8)),
            Opening(of("a", -9), "too_old"),
        ],
        policy={"max_streams": 1},
    )


def replays() -> Iterator[Case]:
    for kind, make in (("signed", craft), ("sealed", sealed)):
        yield history(f"{kind}_at_once", "the same again", (make(), "ok"), (make(), "replayed"))
        yield history(
            f"{kind}_later",
            "the same after others",
            (make(), "ok"),
            (make(sequence=1), "ok"),
            (make(sequence=2), "ok"),
            (make(), "replayed"),
        )
        yield history(
            f"{kind}_other_content",
            "a sender that signs two with one sequence: one is delivered",
            (make(b"one"), "ok"),
            (make(b"two"), "replayed"),
        )
    yield history(
        "late_one_twice",
        "also one that came out of order",
        (at(5), "ok"),
        (at(3), "ok"),
        (at(3), "replayed"),
    )
    bundle = craft(pack_bundle([b"a", b"b"]), bundle=True)
    yield case(
        "bundle",
        "a bundle is one envelope",
        bundle,
        "replayed",
        before=[Opening(bundle, bundle=True)],
        bundle=True,
    )
    reply = craft(in_reply_to=REQUEST)
    yield case(
        "reply",
        "the right reply, twice",
        reply,
        "replayed",
        before=[Opening(reply, in_reply_to=REQUEST)],
        in_reply_to=REQUEST,
    )
    yield case(
        "before_the_signature",
        "a sequence accepted before, forged: the peek comes first (order of 7.2)",
        craft(b"forged", by=CAROL, sender=ALICE.key_id),
        "replayed",
        before=[Opening(craft())],
    )
    yield case(
        "under_another_topic",
        "the same, beside another frame: the peek comes first (order of 7.2)",
        craft(bound=[b"one"]),
        "replayed",
        before=[Opening(craft(bound=[b"one"]), bound=[b"one"])],
        bound=[b"two"],
    )
    yield case(
        "clock_set_back",
        "no clock decides what is a duplicate (8.2)",
        craft(),
        "replayed",
        before=[Opening(craft())],
        now=NOW - 3600 * SECOND,
    )
    yield case(
        "at_the_second_identity",
        "one replay domain for all identities of a receiver",
        sealed(to=[BOB, CAROL]),
        "replayed",
        identities=["carol", "bob"],
        before=[Opening(sealed(to=[BOB, CAROL]))],
    )
