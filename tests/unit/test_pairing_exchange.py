"""The exchange of a pairing (SPEC 19.3 to 19.8): its table, its limits, its bad inputs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pairs import CODE, OF_CONNECTOR, OTHER_CODE, Two
from support import flip, identity

from envelope.errors import PairingCodeError, PairingError, PairingTimeoutError, UsageError
from envelope.pairing import exchange, messages
from envelope.pairing.exchange import MACHINES, PEOPLE, Connector, Listener, State
from envelope.pairing.messages import BODY_SIZES, MAX_MESSAGE, Type, head

SPEC = (Path(__file__).parents[2] / "docs" / "SPEC.md").read_text(encoding="utf-8")
IDENTITY = bytes([1]) + bytes(31)
ORDER_8 = bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")
NOT_CANONICAL = (2**255 - 19 + 3).to_bytes(32, "little")
KINDS = range(1, 9)


def receiver_of(kind: int) -> str:
    return "listener" if kind in OF_CONNECTOR else "connector"


def test_a_state_ends_the_sentence_by_which_an_owner_is_told_of_it():
    assert [f"this end {state.value}" for state in State] == [
        "this end has not begun",
        "this end waits for the other side",
        "this end waits for the other side to answer",
        "this end waits for the other side to confirm the code",
        "this end waits for the proof of the other side's keys",
        "this end waits for its owner to decide",
        "this end waits for its owner to decide, as the other side did",
        "this end waits for the other side's owner to decide",
        "this end may write",
        "this end waits to hear that the other side has written",
        "this end is done",
        "this end ended without a peer",
    ]


def test_people_have_ten_minutes_and_machines_half_a_minute():
    assert (PEOPLE, MACHINES) == (600_000_000, 30_000_000)


# --- An honest run ------------------------------------------------------------------------


def test_two_ends_with_one_code_pin_each_other():
    two = Two().run()
    assert two.errors == {}
    assert two.pinned == {
        "connector": identity("bob").public.public,
        "listener": identity("alice").public.public,
    }
    assert two.connector.state is two.listener.state is State.DONE
    assert two.connector.is_pinned_there is two.listener.is_pinned_there is True


@pytest.mark.parametrize("kind", KINDS)
def test_the_messages_of_a_run_come_in_their_order_with_their_sizes(kind):
    _, message = Two().until(kind).transit[0]
    assert len(message) == 6 + BODY_SIZES[Type(kind)]


def test_nobody_is_known_before_everything_is_proven():
    two = Two().until(4)
    assert two.connector.peer is two.listener.peer is None
    two.step()
    assert two.connector.peer == identity("bob").public
    assert two.listener.peer is None
    two.step()
    assert two.listener.peer == identity("alice").public


def test_identities_are_not_in_clear():
    halves = [
        half
        for name in ("alice", "bob")
        for half in (identity(name).public.public[:32], identity(name).public.public[32:])
    ]
    two = Two()
    while two.transit:
        assert not any(half in two.transit[0][1] for half in halves)
        two.step()


def test_two_runs_with_one_code_have_nothing_in_common():
    one, other = Two(seed=1), Two(seed=2)
    for kind in KINDS:
        assert one.until(kind).transit[0][1][6:] != other.until(kind).transit[0][1][6:]


def test_a_listener_may_decide_before_the_connector_does():
    two = Two().proven()
    assert two.listener.decide(accepts=True, now=0) is None
    assert two.listener.state is State.AWAITS_DECISION
    two.listener.receive(two.connector.decide(accepts=True, now=0), 0)
    assert two.listener.state is State.AGREED


def test_a_listener_may_decide_after_the_connector_did():
    two = Two().proven()
    two.listener.receive(two.connector.decide(accepts=True, now=0), 0)
    assert two.listener.state is State.WILLING
    assert two.listener.decide(accepts=True, now=0) is None
    assert two.listener.state is State.AGREED


def test_a_listener_that_says_no_first_ends_a_connector_that_has_not_decided():
    two = Two().proven()
    refusal = two.listener.decide(accepts=False, now=0)
    with pytest.raises(PairingError, match="said no"):
        two.connector.receive(refusal, 0)
    assert two.connector.give_up() is two.listener.give_up() is None


# --- What ends a run ----------------------------------------------------------------------


@pytest.mark.audit("A1")
@pytest.mark.parametrize("kind", KINDS)
def test_a_flip_of_any_bit_of_any_message_pins_nobody_by_it(kind):
    before = Two().until(kind)
    sender, message = before.transit[0]
    pinned = set(before.pinned)
    for position in range(len(message)):
        for bit in range(8):
            two = before.fork()
            two.transit[0] = (sender, flip(message, position, 1 << bit))
            two.run()
            assert set(two.pinned) == pinned, (position, bit)
            assert two.errors.keys() == {"connector", "listener"} - (
                {"connector"} if kind == 8 else set()
            )


@pytest.mark.parametrize("kind", KINDS)
def test_any_other_message_in_its_place_ends_the_run(kind):
    before = Two().until(kind)
    name = receiver_of(kind)
    others = [head(other) + bytes(BODY_SIZES[other]) for other in Type if other != kind]
    for message in [*others, b"", b"ENV\x01", bytes(MAX_MESSAGE)]:
        two = before.fork()
        end = two.end(name)
        state = end.state
        with pytest.raises(PairingError):
            end.receive(message, 0)
        assert end.state is State.ENDED, state
        with pytest.raises(PairingError, match="over"):
            end.receive(two.transit[0][1], 0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_message_twice_ends_the_run(kind):
    two = Two().until(kind)
    message = two.transit[0][1]
    end = two.end(receiver_of(kind))
    end.receive(message, 0)
    over = end.state is State.DONE
    with pytest.raises(PairingError):
        end.receive(message, 0)
    assert end.state is (State.DONE if over else State.ENDED)


@pytest.mark.parametrize("element", [IDENTITY, ORDER_8, NOT_CANONICAL, b"\x02" + bytes(31)])
@pytest.mark.parametrize("kind", [1, 2])
def test_an_element_that_is_none_is_refused(kind, element):
    two = Two().until(kind)
    message = two.transit[0][1]
    with pytest.raises(PairingError, match="no message of a pairing"):
        two.end(receiver_of(kind)).receive(message[:6] + element + message[38:], 0)


@pytest.mark.audit("C10")
@pytest.mark.parametrize("key", [bytes(32), b"\x01" + bytes(31), b"\xff" * 32])
@pytest.mark.parametrize("kind", [1, 2])
def test_an_ephemeral_key_of_low_order_or_another_encoding_is_refused(kind, key):
    two = Two().until(kind)
    message = two.transit[0][1]
    with pytest.raises(PairingError, match="no message of a pairing"):
        two.end(receiver_of(kind)).receive(message[:38] + key, 0)


@pytest.mark.parametrize("kind", [1, 2])
def test_the_own_element_is_refused(kind):
    two = Two().until(kind)
    end = two.end(receiver_of(kind))
    message = two.transit[0][1]
    with pytest.raises(PairingError, match="came back"):
        end.receive(message[:6] + end._pake.element + message[38:], 0)


def test_another_code_ends_it_at_the_listener_first_and_shows_nothing_of_it():
    two = Two(CODE, OTHER_CODE).run()
    assert isinstance(two.errors["listener"], PairingCodeError)
    assert "burned" in str(two.errors["listener"])
    assert "gave up" in str(two.errors["connector"])
    assert two.pinned == {}
    assert two.connector.peer is two.listener.peer is None


@pytest.mark.parametrize("who", ["connector", "listener"])
def test_a_no_of_either_owner_pins_nobody_and_is_told(who):
    two = Two()
    two.says_yes[who] = False
    two.run()
    other = "listener" if who == "connector" else "connector"
    assert two.pinned == {}
    assert two.connector.is_pinned_there is two.listener.is_pinned_there is False
    assert "said no" in str(two.errors[other])
    assert two.end(who).state is State.ENDED


@pytest.mark.parametrize(
    ("who", "has_decided", "byte"),
    [
        ("connector", False, b"\1"),  # Only a no may come before this end has decided.
        ("connector", False, b"\2"),
        ("connector", True, b"\2"),
        ("listener", False, b"\2"),
        ("listener", True, b"\2"),
    ],
)
def test_a_yes_before_its_turn_or_another_byte_is_no_decision(who, has_decided, byte):
    two = Two().proven()
    sender = two.end("listener" if who == "connector" else "connector")
    if has_decided:
        two.end(who).decide(accepts=True, now=0)
    message = sender._transcript.seal(sender._DECISION, byte)
    with pytest.raises(PairingError, match="no message"):
        two.end(who).receive(message, 0)
    assert two.end(who).state is State.ENDED


# --- Time ---------------------------------------------------------------------------------

WAITS = [
    (1, "listener", PEOPLE),
    (2, "connector", MACHINES),
    (3, "listener", MACHINES),
    (4, "connector", MACHINES),
    (5, "listener", MACHINES),
    (6, "listener", PEOPLE),
    (7, "connector", PEOPLE),
    (8, "listener", MACHINES),
]


@pytest.mark.parametrize(("kind", "who", "patience"), WAITS)
def test_a_message_is_awaited_so_long_and_no_longer(kind, who, patience):
    before = Two().until(kind)
    message = before.transit[0][1]
    assert before.end(who).deadline == patience
    in_time, late = before.fork(), before.fork()
    in_time.end(who).receive(message, patience - 1)
    with pytest.raises(PairingTimeoutError, match="too late"):
        late.end(who).receive(message, patience)
    assert late.end(who).state is State.ENDED
    farewell = late.end(who).give_up()
    assert farewell == (None if kind == 1 else head(Type.END))


@pytest.mark.audit("P3")
@pytest.mark.parametrize("who", ["connector", "listener"])
def test_an_owner_has_ten_minutes(who):
    end = Two().proven().end(who)
    assert end.deadline == PEOPLE == 600_000_000
    with pytest.raises(PairingTimeoutError):
        end.decide(accepts=True, now=PEOPLE)
    assert end.give_up() == head(Type.END)


# --- Giving up ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("who", ["connector", "listener"])
def test_who_gives_up_says_so_once_and_the_other_ends_too(kind, who):
    two = Two().until(kind)
    end = two.end(who)
    was_done = end.state is State.DONE
    began = not (who == "listener" and kind == 1)
    farewell = end.give_up()
    assert farewell == (head(Type.END) if began and not was_done else None)
    assert end.give_up() is None
    assert end.state is (State.DONE if was_done else State.ENDED)
    if farewell is None:
        return
    other = two.end("listener" if who == "connector" else "connector")
    if other.state in (State.DONE, State.ENDED):
        return
    with pytest.raises(PairingError, match="gave up"):
        other.receive(farewell, 0)
    assert other.give_up() is None


@pytest.mark.parametrize("who", ["connector", "listener"])
@pytest.mark.parametrize("message", [b"", head(Type.END), head(Type.DONE) + bytes(16)])
def test_who_is_done_does_not_give_up_whatever_comes_later(who, message):
    end = Two().run().end(who)
    with pytest.raises(PairingError):
        end.receive(message, 0)
    assert end.state is State.DONE
    assert end.is_pinned_there is True
    assert end.give_up() is None


@pytest.mark.parametrize(("kind", "says"), [(2, "gave up; was the code mistyped?"), (7, "gave up")])
def test_who_is_left_before_the_proof_may_have_mistyped_the_code(kind, says):
    connector = Two().until(kind).connector
    with pytest.raises(PairingError) as caught:
        connector.receive(head(Type.END), 0)
    assert str(caught.value).endswith(f"the other side {says}")


def test_after_a_no_there_is_no_farewell():
    two = Two()
    two.says_yes["connector"] = False
    two.run()
    assert two.connector.give_up() is None
    assert two.listener.give_up() is None


# --- Wrong use ----------------------------------------------------------------------------


def test_a_code_in_another_form_is_the_callers_mistake():
    for wrong in ("417 adult consensus", "417-ADULT-consensus", "nothing"):
        with pytest.raises(UsageError):
            Connector(identity("alice"), wrong, now=0)


def test_calls_out_of_turn_are_bugs():
    connector = Connector(identity("alice"), CODE, now=0)
    for end in (connector, Listener(identity("bob"), CODE, now=0)):
        with pytest.raises(RuntimeError):
            end.decide(accepts=True, now=0)
        with pytest.raises(RuntimeError):
            end.written(0)
    connector.begin(0)
    with pytest.raises(RuntimeError):
        connector.begin(0)


@pytest.mark.audit("K5")
def test_no_secret_is_shown_or_kept():
    two = Two().until(7)
    for end in (two.connector, two.listener):
        assert repr(end) == f"<{type(end).__name__}: {end.state.value}>"
    two.run()
    for end in (two.connector, two.listener):
        assert end._transcript.key == end._transcript._ephemeral == b""


@pytest.mark.audit("K5", "K6")
def test_what_gives_the_key_of_a_recorded_run_is_dropped_once_it_was_used():
    two = Two()
    connector, listener = two.connector, two.listener
    two.until(3)
    assert connector._pake._spake is listener._pake._spake is None


@pytest.mark.audit("K5")
def test_what_gives_the_key_is_dropped_when_a_run_ends_before_it_was_used():
    for end in (Two().connector, Two().listener):
        end.give_up()
        assert end._pake._spake is None


def test_every_state_that_waits_has_a_limit():
    without = {State.IDLE, State.AGREED, State.DONE, State.ENDED}
    assert set(exchange._PATIENCE) == set(State) - without
    assert messages.VERSION == 1


def test_the_table_is_that_of_spec_19_6():
    names = {
        State.AWAITS_ANSWER: "awaits answer",
        State.AWAITS_PROOF: "awaits proof",
        State.PROVEN: "proven",
        State.AWAITS_DECISION: "awaits decision",
        State.AWAITS_HELLO: "awaits hello",
        State.AWAITS_CONFIRMATION: "awaits confirmation",
        State.AWAITS_END: "awaits end",
    }
    text = SPEC.split("\n19.6.")[1].split("\n19.7.")[0]
    rows = re.findall(r"^\| (?:\*(\w+):\* )?([\w ,]+) \| (\d)[^|]* \|", text, re.MULTILINE)
    specified: dict[str, set[tuple[str, int]]] = {"connector": set(), "listener": set()}
    role = "connector"
    for new_role, states, kind in rows:
        role = new_role or ("listener" if states.startswith("awaits hello") else role)
        specified[role] |= {(state.strip(), int(kind)) for state in states.split(",")}
    for end in (Connector, Listener):
        coded = {(names[state], int(kind)) for state, kind in end._STEPS}
        assert coded == specified[end.__name__.lower()]
