"""The demonstration of sessions: what the book notices, and whole runs with kills and lies.

Whole runs are few and short; what can be told without processes is told to the book.
"""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from envelope import Identity, Peer, RejectedError, TrustStore, UsageError
from envelope.clock import SECOND
from envelope.demo.monkey import picture, run, speech, stage
from envelope.demo.monkey.book import LIMIT, Book
from envelope.demo.monkey.lies import Act, Liar
from envelope.session import SessionManager

SEED = 11
CLIENT, SERVER = speech.ENDS


# --- the book ------------------------------------------------------------------------------


def say(book, author, count=1, life=1):
    number = speech.number(author, life, count)
    book.say(author, number, speech.digest(speech.payload_of(number)))
    return number


def hear(book, number, at=0, name=None, life=1, digest=None):
    name = name or speech.OTHER[speech.author_of(number)]
    digest = digest or speech.digest(speech.payload_of(number))
    book.hear(name, life, number, digest, at)


@pytest.fixture
def book():
    """A book of two ends that began, and heard each other."""
    book = Book()
    for name in speech.ENDS:
        assert book.begin(name) == 1
        hear(book, say(book, name, 0))
    assert book.problems() == []
    return book


def test_a_number_says_who_wrote_it_in_which_life_and_a_payload_begins_with_it():
    number = speech.number(CLIENT, 3, 14)
    assert (speech.author_of(number), speech.life_of(number)) == (CLIENT, 3)
    assert speech.number_of(speech.payload_of(number)) == number
    assert speech.life_of("no number") == speech.life_of("client/x/1") == 0
    assert speech.number_of(b"\xff ") == "\N{REPLACEMENT CHARACTER}"


def test_a_message_that_is_delivered_twice_is_a_problem(book):
    number = say(book, CLIENT)
    hear(book, number)
    hear(book, number)
    assert book.problems() == ["client/1/1 was delivered 2 times"]


def test_a_message_that_nobody_sent_is_a_problem(book):
    hear(book, speech.number(CLIENT, 1, 77))
    assert book.problems() == ["client/1/77 was delivered to the server, and nobody sent it"]


def test_a_message_that_comes_back_to_its_author_is_a_problem(book):
    hear(book, say(book, CLIENT), name=CLIENT)
    assert book.problems() == ["client/1/1 was delivered to the client, who had sent it"]


def test_a_message_that_was_changed_is_a_problem(book):
    hear(book, say(book, SERVER), digest="00")
    assert book.problems() == ["server/1/1 was delivered, and is not what was sent"]


def test_a_number_that_is_used_twice_or_by_another_is_a_problem(book):
    say(book, CLIENT)
    say(book, CLIENT)
    book.say(SERVER, "client/1/2", "")
    assert [problem.split()[0] for problem in book.problems()] == ["client/1/1", "client/1/2"]


def test_an_end_that_heard_nothing_at_all_is_a_problem():
    book = Book()
    hear(book, say(book, CLIENT))
    assert book.problems() == ["nothing was delivered to the client"]


def test_what_was_not_delivered_is_lost_and_no_problem(book):
    say(book, CLIENT)
    hear(book, say(book, CLIENT, 2))
    assert (book.lost[CLIENT], book.lost[SERVER]) == (1, 0)
    assert book.problems() == []


def restarted(book, *names, at=0):
    restart = book.strike(names)
    for name in names:
        book.begin(name)
    restart.ready_at = at
    return restart


def test_a_restart_has_recovered_when_messages_of_the_new_lives_went_both_ways(book):
    restart = restarted(book, CLIENT, at=1 * SECOND)
    hear(book, say(book, CLIENT, 1), 2 * SECOND)  # Of the life before, which is over.
    hear(book, say(book, SERVER, 1), 2 * SECOND)  # Heard in the life before.
    assert (restart.first, restart.both) == (None, None)
    hear(book, say(book, CLIENT, life=2), 3 * SECOND)
    assert (restart.first, restart.both) == (2.0, None)
    assert book.problems() == ["after restart 1 messages did not go both ways in time"]
    hear(book, say(book, SERVER, 2), 4 * SECOND, life=2)
    hear(book, say(book, SERVER, 3), 5 * SECOND, life=2)
    assert (restart.first, restart.both) == (2.0, 3.0)
    assert book.problems() == []


@pytest.mark.parametrize("late", [0, 1])
def test_a_restart_that_recovers_too_late_is_a_problem(book, late):
    restarted(book, *speech.ENDS, at=SECOND)
    for name in speech.ENDS:
        hear(book, say(book, name, life=2), SECOND + LIMIT + late, life=2)
    assert len(book.problems()) == late


def test_a_strike_before_the_last_one_recovered_takes_its_place(book):
    first = restarted(book, CLIENT)
    second = restarted(book, CLIENT, SERVER)
    assert (first.is_cut_short, second.is_cut_short) == (True, False)
    assert book.kills == 3
    assert book.problems() == ["after restart 2 messages did not go both ways in time"]


# --- the proxy's lies ----------------------------------------------------------------------


def test_the_proxy_does_everything_that_it_can_and_nothing_of_it_is_accepted_twice():
    bob, alice = Identity.generate(), Identity.generate()
    managers = {
        one: SessionManager(
            one,
            TrustStore([Peer("other", other.public, contexts=["*"])]),
            context=speech.CONTEXT,
            to=other.public,
        )
        for one, other in ((alice, bob), (bob, alice))
    }
    liar = Liar(bob.public, seed="everything")
    heard = []

    def deliver(manager, messages):
        for frames in messages:
            try:
                message = manager.receive(frames[-1])
            except RejectedError:
                continue
            heard.extend([message.payload] if message else [])

    said = [speech.payload_of(speech.number(CLIENT, 1, count)) for count in range(3000)]
    for payload in said:
        data = managers[alice].send(payload)
        out = [one.data for one in managers[alice].outbox] + ([data] if data else [])
        managers[alice].outbox.clear()
        for one in out:
            deliver(managers[bob], liar.take([b"route", b"", one]))
        deliver(managers[alice], [[one.data] for one in managers[bob].outbox])
        managers[bob].outbox.clear()
    deliver(managers[bob], liar.release())
    assert set(liar.counts) == set(Act)
    assert len(heard) == len(set(heard)) > 2000
    assert set(heard) <= set(said)
    assert liar.release() == []


# --- whole runs ----------------------------------------------------------------------------


def test_a_run_with_kills_and_lies_ends_well(capsys):
    assert run(seed=SEED, seconds=4) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "Nothing twice, nothing forged, and each restart recovered." in out
    assert re.search(r"killed and begun again, the first after \d+\.\d{3} s", out)
    assert max(map(len, out.splitlines())) <= 100
    delivered = re.search(r"^messages delivered to it +(\d+) +(\d+)", out, re.MULTILINE)
    assert all(int(one) for one in delivered.groups())


def test_a_delivery_that_is_told_twice_fails_the_run(monkeypatch, capsys):
    hear, told = Book.hear, []

    def lie(book, name, life, number, digest, at):
        hear(book, name, life, number, digest, at)
        if not told:
            told.append(number)
            hear(book, name, life, number, digest, at)

    monkeypatch.setattr(Book, "hear", lie)
    assert run(seed=SEED, seconds=0.1) == 1
    out = capsys.readouterr().out
    assert "NOT as it must be." in out
    assert f"{told[0]} was delivered 2 times" in out


def test_a_process_that_does_not_begin_is_named(monkeypatch, capsys):
    monkeypatch.setattr(stage, "_DEADLINE", 0)
    assert run(seed=SEED, seconds=1) == 1
    assert "it takes too long: still waiting for the proxy" in capsys.readouterr().err


def test_a_process_that_ends_by_itself_is_named(monkeypatch, capsys):
    monkeypatch.setattr(Identity, "export", lambda _: "no key")
    assert run(seed=SEED, seconds=1) == 1
    err = capsys.readouterr().err
    assert "ended too early" in err
    assert "KeyFileError" in err or "UsageError" in err


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), 4000])
def test_a_time_that_is_none_is_refused(seconds):
    with pytest.raises(UsageError, match="--seconds"):
        run(seconds=seconds)


def test_a_terminal_sees_the_figures_while_they_change(book):
    console = Console(file=io.StringIO(), force_terminal=True, width=100, height=60)
    scene = picture.Scene(seed=1, book=book)
    with picture.live(console, scene) as watch:
        for count in range(1, 1235):
            say(book, CLIENT, count)
        restarted(book, CLIENT, at=scene.began)
        restarted(book, *speech.ENDS)
        watch()
    shown = console.file.getvalue()
    assert "1,235" in shown
    assert "killed again before that" in shown
    assert "none yet" in shown


def test_many_problems_are_counted(book):
    for count in range(12):
        hear(book, speech.number(CLIENT, 1, 100 + count))
    console = Console(file=io.StringIO(), width=100)
    console.print(picture.draw(picture.Scene(seed=1, book=book, problems=book.problems())))
    assert "and 4 more" in console.file.getvalue()
