"""The attacks, each written once.

Rules of this file: an attack knows no subject. It takes what a subject put on the wire,
does what an attacker can do to that, and reports what the receiver made of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt
from peers.ways import need

from attacks.receivers import Answer, elsewhere, here, watching
from attacks.subject import MAX_AGE, OBJECTS, STRANGER, Note, Subject, Wire

REFUSED, THROUGH = "refused", "got through"
NOTICED, UNNOTICED = "noticed", "not noticed"
ABSENT = "not applicable"
HARMLESS = frozenset({REFUSED, NOTICED, ABSENT})

DEPTH = 20_000
"""Levels of a bomb: far more than anything honest has, and little for an interpreter's heap."""
LATE = 120 * MAX_AGE


class Cell(NamedTuple):
    """What came of an attack on a subject."""

    outcome: str
    detail: str = ""
    """What the code said, or why there is nothing to attack."""


class Attack(NamedTuple):
    """One attack."""

    name: str
    story: str
    """What the attacker does, in one sentence."""
    run: Callable[[Subject], Cell]


class BrokenSubjectError(Exception):
    """A subject does not do its job even if nobody attacks it."""


def honest(answered: Answer, note: Note) -> None:
    """Check that a message without any attack was believed.

    Raises:
        BrokenSubjectError: it was not, or as something else.
    """
    heard = answered.heard
    if heard is None:
        raise BrokenSubjectError(f"an honest message is refused: {answered.reason}")
    if heard.payload != note.payload or heard.sender not in {note.sender, None}:
        raise BrokenSubjectError(f"{note} was read as {heard}")


def judged(answers: Sequence[tuple[str, Answer]]) -> Cell:
    """Return what became of several tries, each with a name; one that gets through counts."""
    through = [name for name, answered in answers if answered.heard is not None]
    if through:
        return Cell(THROUGH, ", ".join(filter(None, through)))
    return Cell(REFUSED, ", ".join(dict.fromkeys(answered.reason for _, answered in answers)))


def replay_now(subject: Subject) -> Cell:
    """Send it twice."""
    note = Note()
    wire = subject.writer("alice")(note)
    with here(subject, "bob") as bob:
        honest(bob(wire), note)
        return judged([("", bob(wire))])


def replay_after_restart(subject: Subject) -> Cell:
    """Send it again to the process that comes after the one which read it."""
    note, alice = Note(), subject.writer("alice")
    wire = alice(note)
    with elsewhere(subject, "bob") as bob:
        honest(bob(wire), note)
    with elsewhere(subject, "bob") as bob:
        again = bob(wire)
        honest(bob(alice(note)), note)
    return judged([("", again)])


def another_topic(subject: Subject) -> Cell:
    """Change the topic that stands beside it."""
    note, alice = Note(topic="valves/3"), subject.writer("alice")
    with here(subject, "bob") as bob:
        honest(bob(alice(note)), note)
        return judged([("", bob(alice(note)._replace(topic=b"valves/4")))])


def another_recipient(subject: Subject) -> Cell:
    """Bring Carol what was written to Bob."""
    note, alice = Note(to="carol"), subject.writer("alice")
    with here(subject, "carol") as carol:
        honest(carol(alice(note)), note)
        return judged([("", carol(alice(Note(to="bob"))))])


def another_name(subject: Subject) -> Cell:
    """Write as Alice with all that Carol has."""
    note, carol = Note(sender="carol"), subject.writer("carol")
    with here(subject, "bob") as bob:
        honest(bob(carol(note)), note)
        answered = bob(carol(Note(sender="alice")))
    if answered.heard is not None and answered.heard.sender == "carol":
        return Cell(REFUSED, "read as Carol's")
    return judged([("", answered)])


def stale(subject: Subject) -> Cell:
    """Bring long afterwards what was never brought."""
    note, alice = Note(), subject.writer("alice")
    with here(subject, "bob") as bob:
        honest(bob(alice(note)), note)
        return judged([("", bob(alice(Note(age=LATE))))])


def cuts(wire: Wire) -> Iterator[tuple[str, Wire]]:
    """Yield a message with something cut off."""
    count = len(wire.frames)
    for index, frame in enumerate(wire.frames):
        where = "the last frame" if index + 1 == count else f"frame {index + 1}"
        for what, left in (("the last byte", len(frame) - 1), ("half", len(frame) // 2)):
            shorter = [frame[:left] if at == index else each for at, each in enumerate(wire.frames)]
            yield f"{what} of {where}", wire._replace(frames=shorter)
    if count > 1:
        yield "the last frame", wire._replace(frames=wire.frames[:-1])


def truncated(subject: Subject) -> Cell:
    """Cut something off."""
    note, alice = Note(), subject.writer("alice")
    found = []
    with here(subject, "bob") as bob:
        honest(bob(alice(note)), note)
        for index in range(len(list(cuts(alice(note))))):
            name, wire = list(cuts(alice(note)))[index]  # Each time of a new message.
            found.append((name, bob(wire)))
    return judged(found)


def dropped(subject: Subject) -> Cell:
    """Keep the second of three."""
    notes, alice = [Note(payload=b"%d" % n) for n in range(3)], subject.writer("alice")
    wires = [alice(note) for note in notes]
    with here(subject, "bob") as bob:
        honest(bob(wires[0]), notes[0])
        last = bob(wires[2])
        if last.heard is None:
            return Cell(NOTICED, last.reason)
        honest(last, notes[2])
    if last.heard.skipped:
        return Cell(NOTICED, f"{last.heard.skipped} missing")
    return Cell(UNNOTICED)


def two_plaintexts(subject: Subject) -> Cell:
    """Make one ciphertext that opens under two keys, and give Bob the one, Carol the other.

    Published: Len, Grubbs, Ristenpart, "Partitioning Oracle Attacks" (2021); Albertini et
    al., "How to Abuse and Fix Authenticated Encryption Without Key Commitment" (2020).
    """
    promises = b"Bob gets it all.", b"Carol gets it..."
    made = subject.doubled()
    body = need("forge").two_plaintexts(made.keys, promises, nonce=made.nonce, aad=made.aad)
    for key in made.keys:
        crypto_aead_xchacha20poly1305_ietf_decrypt(body, made.aad, made.nonce, key)  # it opens
    wire = made.finish(body)
    with here(subject, "bob") as bob, here(subject, "carol") as carol:
        to_bob, to_carol = bob(wire), carol(wire)
    if to_bob.heard is None:
        raise BrokenSubjectError(f"not even Bob believes it: {to_bob.reason}")
    if to_carol.heard is None:
        return Cell(REFUSED, f"to Carol: {to_carol.reason}")
    if to_bob.heard.payload == to_carol.heard.payload:
        raise BrokenSubjectError("one ciphertext was read the same under two keys")
    return Cell(THROUGH)


def downgrade(subject: Subject) -> Cell:
    """Send what asks for less."""
    note, alice = Note(), subject.writer("alice")
    with here(subject, "bob") as bob:
        honest(bob(alice(note)), note)
        lost = Answer(None, "it reaches nobody")
        return judged(
            [(name, bob(wire) if wire else lost) for name, wire in subject.weaker().items()]
        )


def bomb(subject: Subject) -> Cell:
    """Send lists in lists, once as a stranger and once as a member."""
    note, alice = Note(topic=f"{OBJECTS}1"), subject.writer("alice")
    with watching(subject, "bob", 0) as bob:
        control = bob(alice(note))
        honest(control, note)
        if not control.decoded:
            raise BrokenSubjectError("what it decodes with was not seen at work")
    with watching(subject, "bob", DEPTH) as bob:
        strange = [bob(wire) for wire in subject.bombs(STRANGER, DEPTH)]
        member = [bob(wire) for wire in subject.bombs("alice", DEPTH)]
    reached = any(each.decoded for each in strange)
    of_stranger, of_member = (judged([("", each) for each in tries]) for tries in (strange, member))
    detail = f"a stranger's {'is' if reached else 'is not'} decoded ({said(of_stranger)})"
    detail += f", a member's: {said(of_member)}"
    harmless = of_stranger.outcome == of_member.outcome == REFUSED and not reached
    return Cell(REFUSED if harmless else THROUGH, detail)


def said(cell: Cell) -> str:
    """Return an outcome in a sentence."""
    return cell.detail if cell.outcome == REFUSED else "built whole"


def tried(attack: Attack, kind: type[Subject]) -> Cell:
    """Run an attack on a new subject, if there is something to attack.

    Raises:
        BrokenSubjectError: it does not do its job.
    """
    if why := kind.absent.get(attack.name):
        return Cell(ABSENT, why)
    with ExitStack() as stack:
        try:
            return attack.run(kind(stack))
        except BrokenSubjectError as error:
            raise BrokenSubjectError(f"{kind.name}, {attack.name}: {error}") from error


REPLAY, RESTART, TOPIC = "replay now", "replay after a restart", "another topic"
RECIPIENT, NAME, STALE = "another recipient", "another's name", "stale"
TRUNCATED, DROPPED = "truncated", "dropped"
TWO, DOWNGRADE, BOMB = "two plaintexts", "downgrade", "bomb"

ATTACKS = (
    Attack(REPLAY, "I send again what was just accepted.", replay_now),
    Attack(
        RESTART,
        "I send again what was accepted, to the process that came after the receiver's end.",
        replay_after_restart,
    ),
    Attack(TOPIC, "I change the topic that stands in clear beside a message.", another_topic),
    Attack(RECIPIENT, "I bring Carol a message that was written to Bob.", another_recipient),
    Attack(
        NAME,
        "I am Carol, a member of the group, and write to Bob as Alice with all that I hold.",
        another_name,
    ),
    Attack(STALE, "I keep a message back, and bring it long after it was written.", stale),
    Attack(TRUNCATED, "I cut a byte, a half or a whole frame off.", truncated),
    Attack(DROPPED, "I keep one message of three, and hope that nobody notices.", dropped),
    Attack(
        TWO,
        "I am Alice, and write one message to Bob and Carol that tells each something else.",
        two_plaintexts,
    ),
    Attack(DOWNGRADE, "I send what asks for less: no or another protection.", downgrade),
    Attack(
        BOMB,
        "I send lists nested thousands deep, first as a stranger, then as a member, and look "
        "whether they are decoded before the sender is known, and whether they are built.",
        bomb,
    ),
)
