"""Pairing as stories: a guesser, a relay, a mirror, a thief, and two people who hesitate.

What each of them gains is said in SPEC 19.10.
"""

from __future__ import annotations

import copy

import pytest
from pairs import CODE, OTHER_CODE, Two
from support import SECOND, identity

from envelope import Identity, PublicIdentity
from envelope.errors import PairingCodeError, PairingError, PairingTimeoutError
from envelope.pairing.exchange import MACHINES, PEOPLE, Connector, Listener, State
from envelope.pairing.messages import PUB, Type
from envelope.pairing.transcript import Transcript


class Careless(Transcript):
    """Mallory's: it takes any keys."""

    def take_public(self, public: bytes) -> PublicIdentity:
        return PublicIdentity(public)


def mallory_as(role: type, code: str = CODE, shown: bytes | None = None):
    """Return an end of Mallory's, who has her own secrets and may show other keys."""
    who = copy.copy(Identity.parse(identity("mallory").export()))
    if shown is not None:
        claimed = object.__new__(PublicIdentity)
        object.__setattr__(claimed, "public", shown)
        object.__setattr__(who, "public", claimed)
    end = role(who, code, now=0)
    end._transcript = Careless(who, b"m" * 32)
    return end


def against(role: type, shown: bytes) -> tuple[Two, str]:
    """Return a pairing in which Mallory plays a role, and the name of her victim's end."""
    two, mallory = Two(), mallory_as(role, shown=shown)
    if role is Listener:
        two.listener = mallory
        return two, "connector"
    two.connector = mallory
    two.transit[0] = ("connector", mallory.begin(0))
    return two, "listener"


# --- Guessing -----------------------------------------------------------------------------


@pytest.mark.audit("C3")
def test_a_guesser_at_the_listener_has_one_guess_and_is_told_of():
    listener = Listener(identity("bob"), CODE, now=0)
    guess = mallory_as(Connector, OTHER_CODE)
    confirmation = guess.receive(listener.receive(guess.begin(0), 0), 0)
    with pytest.raises(PairingCodeError, match="burned"):
        listener.receive(confirmation, 0)
    again = mallory_as(Connector, CODE)
    with pytest.raises(PairingError, match="over"):
        listener.receive(again.begin(0), 0)


@pytest.mark.audit("C3")
def test_a_guesser_in_place_of_the_listener_has_one_guess_and_is_told_of():
    connector = Connector(identity("alice"), CODE, now=0)
    guess = mallory_as(Listener, OTHER_CODE)
    confirmation = connector.receive(guess.receive(connector.begin(0), 0), 0)
    with pytest.raises(PairingCodeError):  # What the guesser sees of its wrong guess.
        guess.receive(confirmation, 0)
    forged = guess_on(guess, confirmation)
    with pytest.raises(PairingCodeError, match="burned"):
        connector.receive(forged, 0)


def guess_on(guess: Listener, confirmation: bytes) -> bytes:
    """Return what a guesser would send next, who will not be told that the guess was wrong."""
    liar = mallory_as(Listener, OTHER_CODE)
    liar._transcript.key = bytes(32)
    liar._transcript._messages = [confirmation]
    return liar._transcript.seal(Type.LISTENER_PROOF, bytes(PUB + 96), confirms=True)


@pytest.mark.audit("C3")
def test_a_guesser_between_two_has_one_guess_at_each_end():
    alice, bob = Connector(identity("alice"), CODE, now=0), Listener(identity("bob"), CODE, now=0)
    to_alice, to_bob = (
        mallory_as(Listener, OTHER_CODE),
        mallory_as(Connector, "419-adult-consensus"),
    )
    answer = to_alice.receive(alice.begin(0), 0)
    confirmation = alice.receive(answer, 0)
    with pytest.raises(PairingCodeError):
        to_alice.receive(confirmation, 0)
    wrong = to_bob.receive(bob.receive(to_bob.begin(0), 0), 0)
    with pytest.raises(PairingCodeError):
        bob.receive(wrong, 0)
    with pytest.raises(PairingTimeoutError):
        alice.check_time(MACHINES)
    assert alice.state is bob.state is State.ENDED


@pytest.mark.parametrize("kind", [2, 3, 4, 5])
def test_a_run_that_is_left_is_a_try_that_is_used_up(kind):
    two = Two().until(kind)  # Mallory answers no more from here on.
    for end in (two.connector, two.listener):
        if end.deadline is not None:
            with pytest.raises(PairingTimeoutError):
                end.check_time(max(end.deadline, PEOPLE))
        assert end.state is State.ENDED
        with pytest.raises(PairingError, match="over"):
            end.receive(Two().transit[0][1], PEOPLE + SECOND)
    assert two.pinned == {}


@pytest.mark.audit("A16")
def test_anything_at_all_that_comes_first_burns_the_code():
    for stray in (b"", b"hello", b"ENVP\x01\x00", bytes(70), b"GET / HTTP/1.1"):
        listener = Listener(identity("bob"), CODE, now=0)
        with pytest.raises(PairingError):
            listener.receive(stray, 0)
        with pytest.raises(PairingError, match="over"):
            listener.receive(Two().transit[0][1], 0)


@pytest.mark.audit("A3")
def test_a_recorded_run_and_the_code_open_nothing_later():
    # Who has the code afterwards can play neither end: the fresh secrets are gone.
    recorded: list[bytes] = []
    Two(seed=1).run(lambda _, message: [recorded.append(message) or message])
    later = Connector(identity("mallory"), CODE, now=0)
    later.begin(0)
    later.receive(recorded[1], 0)
    assert later._transcript.seal(Type.CONFIRMATION, b"", confirms=True)[6:38] != recorded[2][6:38]
    with pytest.raises(PairingCodeError):
        later.receive(recorded[3], 0)


# --- Mirrors, relays, swaps ---------------------------------------------------------------


@pytest.mark.audit("A6")
@pytest.mark.parametrize("kind", range(1, 9))
def test_what_is_sent_back_to_its_sender_ends_the_run(kind):
    two = Two().until(kind)
    sender, message = two.transit[0]
    end = two.end(sender)
    if end.state is State.DONE:
        return
    with pytest.raises(PairingError, match="out of its turn"):
        end.receive(message, 0)


@pytest.mark.audit("A6")
def test_a_mirror_that_rewrites_types_is_refused():
    two = Two()
    hello = two.transit[0][1]
    mirrored = hello[:5] + bytes((Type.ANSWER,)) + hello[6:]
    with pytest.raises(PairingError, match="came back"):
        two.connector.receive(mirrored, 0)


def test_two_listeners_or_two_connectors_do_not_pair():
    hellos = [Connector(identity(name), CODE, now=0) for name in ("alice", "bob")]
    messages = [end.begin(0) for end in hellos]
    for end, message in zip(hellos, reversed(messages), strict=True):
        with pytest.raises(PairingError, match="out of its turn"):
            end.receive(message, 0)


def test_substituted_roles_give_another_key():
    # Mallory passes Alice's hello on to another connector as an answer.
    alice, other = (Connector(identity(name), CODE, now=0) for name in ("alice", "bob"))
    first, second = alice.begin(0), other.begin(0)
    as_answer = second[:5] + bytes((Type.ANSWER,)) + second[6:]
    confirmation = alice.receive(as_answer, 0)
    other.receive(first[:5] + bytes((Type.ANSWER,)) + first[6:], 0)
    assert alice._transcript.key != other._transcript.key
    with pytest.raises(PairingError):
        other.receive(confirmation[:5] + bytes((Type.LISTENER_PROOF,)) + confirmation[6:], 0)


@pytest.mark.audit("A3")
def test_messages_of_one_run_are_nothing_in_another_with_the_same_code():
    for kind in range(2, 9):
        one, other = Two(seed=1).until(kind), Two(seed=2).until(kind)
        one.transit[0] = other.transit[0]
        pinned = set(one.pinned)
        one.run()
        assert set(one.pinned) == pinned


@pytest.mark.audit("A8")
def test_proofs_that_are_relayed_from_another_pairing_are_refused():
    # Mallory pairs with Alice by one code, and shows Bob, by another, what Alice proved.
    with_alice = Two(OTHER_CODE, OTHER_CODE, seed=1)
    with_alice.listener = Listener(identity("mallory"), OTHER_CODE, now=0)
    proof = with_alice.until(5).transit[0][1]
    alices = with_alice.listener._transcript.open(Type.CONNECTOR_PROOF, proof)

    bob = Listener(identity("bob"), CODE, now=0)
    mallory = mallory_as(Connector, shown=identity("alice").public.public)
    bobs = bob.receive(mallory.receive(bob.receive(mallory.begin(0), 0), 0), 0)
    mallory._transcript.log(bobs)
    with pytest.raises(PairingError, match="does not have the signing key"):
        bob.receive(mallory._transcript.seal(Type.CONNECTOR_PROOF, alices), 0)
    assert bob.peer is None


@pytest.mark.audit("A12")
@pytest.mark.parametrize("role", [Connector, Listener])
@pytest.mark.parametrize(
    ("signing", "encryption", "reason"),
    [
        ("alice", "alice", "signing key"),
        ("alice", "mallory", "signing key"),
        ("mallory", "alice", "encryption key"),
        ("mallory", "mallory", None),
    ],
)
def test_who_shows_keys_of_others_has_to_have_both_secrets(role, signing, encryption, reason):
    names = {"alice": "alice" if role is Connector else "bob", "mallory": "mallory"}
    halves = (identity(names[signing]).public.public, identity(names[encryption]).public.public)
    shown = halves[0][:32] + halves[1][32:]
    two, victim = against(role, shown)
    two.run()
    if reason is None:
        assert two.pinned[victim] == shown
    else:
        assert two.pinned == {}
        assert reason in str(two.errors[victim])


@pytest.mark.parametrize("half", [slice(0, 32), slice(32, 64), slice(0, 64)])
@pytest.mark.parametrize("role", [Connector, Listener])
def test_who_shows_the_victims_own_keys_is_refused(role, half):
    shown = bytearray(identity("mallory").public.public)
    shown[half] = identity("bob" if role is Connector else "alice").public.public[half]
    two, victim = against(role, bytes(shown))
    two.run()
    assert two.pinned == {}
    assert "own keys" in str(two.errors[victim])


@pytest.mark.audit("A15", "C10")
@pytest.mark.parametrize("role", [Connector, Listener])
def test_who_shows_keys_that_are_not_sound_is_refused(role):
    two, victim = against(role, bytes(64))
    two.run()
    assert two.pinned == {}
    assert "not sound" in str(two.errors[victim])


# --- The last message ---------------------------------------------------------------------


@pytest.mark.audit("R8")
@pytest.mark.parametrize(
    ("kind", "pinned", "who_is_told", "there"),
    [
        (5, set(), {"connector", "listener"}, (None, False)),
        (6, set(), {"connector", "listener"}, (None, False)),
        (7, {"listener"}, {"connector", "listener"}, (None, None)),
        (8, {"listener", "connector"}, {"listener"}, (True, None)),
    ],
)
def test_what_is_known_when_a_message_of_the_end_is_lost(kind, pinned, who_is_told, there):
    two = Two().until(kind)
    two.transit.clear()
    two.run()
    assert set(two.pinned) == pinned
    assert set(two.errors) == who_is_told
    assert (two.connector.is_pinned_there, two.listener.is_pinned_there) == there
    # What was pinned was proven.
    known = {"connector": identity("bob"), "listener": identity("alice")}
    assert all(two.pinned[name] == known[name].public.public for name in two.pinned)


@pytest.mark.parametrize("kind", range(1, 9))
@pytest.mark.parametrize("who", ["connector", "listener"])
def test_interrupted_at_each_step_nobody_pins_who_was_not_proven(kind, who):
    before = Two().until(kind)
    two = before.fork()
    farewell = two.end(who).give_up()
    if farewell is not None:
        two.transit.append((who, farewell))
    two.run()
    # Who decided before can be taken at that word; the driver's connector does so after 4.
    if kind <= (6 if who == "listener" else 4):
        assert two.pinned == {}
    for name, other in (("connector", "bob"), ("listener", "alice")):
        assert two.pinned.get(name) in (None, identity(other).public.public)
