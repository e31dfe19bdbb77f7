"""Replay memory in a file: closes, crashes, faults and foreign files (SPEC 8.10)."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from life import SENDER, STREAM, Life, copy
from parallel import in_child
from support import SECOND, START

from envelope import StoreFileError, UsageError
from envelope.errors import BeforeStartError, ReplayedError, StoreUnavailableError
from envelope.replay import SQLiteReplayStore
from envelope.replay import sqlite as module
from envelope.replay.zones import AHEAD, BEHIND, MAX_DEAD, MAX_ZONES, Zone, around, bury
from envelope.stream import Stream

ROOT = Path(__file__).parents[2]


def give_digests(database):
    """Give each row the digest that it should have."""
    for (table,) in database.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table'"
    ).fetchall():
        rows = database.execute(f"SELECT * FROM {table}").fetchall()
        database.execute(f"DELETE FROM {table}")
        for row in rows:
            marks = ", ".join("?" * len(row))
            digest = module._row(*row[:-1])[-1]
            if table == "stream":
                with contextlib.suppress(ValueError, TypeError):
                    digest = module._stream_digest(row[:-1])
            database.execute(f"INSERT INTO {table} VALUES ({marks})", (*row[:-1], digest))


class Faulty:
    """A connection that fails at a statement, before or after running it.

    ``at`` is the statement's number, or its text.
    """

    def __init__(self, database, at, *, after=False, notice=lambda: None):
        self._database = database
        self._at = at
        self._after = after
        self._notice = notice
        self.count = 0

    def execute(self, *arguments):
        return self._run(self._database.execute, *arguments)

    def executemany(self, *arguments):
        return self._run(self._database.executemany, *arguments)

    def _run(self, work, *arguments):
        self.count += 1
        fails = self._at in {self.count, arguments[0]}
        if fails and not self._after:
            self._notice()
            raise sqlite3.OperationalError("database or disk is full")
        result = work(*arguments)
        if fails:
            self._notice()
            raise sqlite3.OperationalError("disk I/O error")
        return result

    def __getattr__(self, name):
        return getattr(self._database, name)


def announce_too_much(path):
    """Let the file say of a row of its schema that it has 4 GiB.

    SQLite has no memory for them, which Python raises as MemoryError. The counters are what
    tells an open connection to read the schema again.
    """
    content = bytearray(path.read_bytes())
    row = content.index(b"tablestreamstream") - 10
    content[row : row + 5] = b"\x8f\xff\xff\xff\x7f"
    for counter in (27, 43):
        content[counter] ^= 0x55
    with path.open("r+b") as file:
        file.write(content)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "replay.db"


@pytest.fixture
def life(path):
    return Life(path)


def commits(life):
    """Count the transactions from here on."""
    statements = []
    life.store._database.set_trace_callback(statements.append)
    return lambda: statements.count("COMMIT")


class TestCleanClose:
    @pytest.mark.audit("A3", "R2")
    def test_the_next_life_goes_on_exactly(self, life):
        for sequence in (0, 1, 5):
            assert life.mark(sequence) is None
        before, gaps = life.store.state(), life.guard.gaps()
        again = life.after_close()
        assert again.store.state() == before
        assert again.guard.gaps() == gaps
        assert [again.mark(n) for n in range(7)] == [
            "replayed", "replayed", None, None, None, "replayed", None
        ]  # fmt: skip

    def test_a_message_of_the_moment_of_the_close_is_still_welcome(self, life):
        life.mark(0)
        assert life.after_close().mark(1) is None

    def test_floors_survive(self, life):
        for number in range(4):  # The table holds three.
            life.mark(0, START + number, stream=bytes([number]) * 16)
        again = life.after_close()
        assert again.mark(0, START, stream=b"\0" * 16) == "too_old"
        assert again.mark(1, START + 1, stream=b"n" * 16) == "too_old"

    def test_a_stream_that_may_be_forgotten_is_and_stays_too_old(self, life):
        life.mark(0)
        life.mark(0, START + 1, stream=b"n" * 16, forget=START)
        again = life.after_close()
        assert again.guard.gaps().streams == 1
        assert again.mark(1, START) == "too_old"

    def test_places_that_are_met_after_a_restart_take_nothing_from_those_before(self, life):
        def mark(store, context):
            guard = store.guard("home", SENDER, context)
            guard.mark(STREAM, 0, START, full_at=3, window=64, expected=False, forget_before=-1)

        for contexts in ("ab", "cd", "ef"):
            for context in contexts:
                mark(life.store, context)
            life = life.after_close()
        for context in "abcdef":
            with pytest.raises(ReplayedError):
                mark(life.store, context)

    def test_a_dropped_stream_leaves_no_row(self, life):
        for number in range(9):
            life.clock.advance(4)
            life.mark(0, stream=bytes([number]) * 16)
        life.store.close()
        with sqlite3.connect(life.store.path) as database:
            assert database.execute("SELECT count(*) FROM stream").fetchone() == (3,)
        database.close()

    def test_closing_twice_is_closing_once_and_what_comes_later_is_refused(self, life):
        with life.store as store:
            life.mark(0)
        store.close()
        assert life.mark(1) == "store_unavailable"
        with pytest.raises(StoreUnavailableError, match="was closed"):
            store.check_usable()

    def test_a_normal_end_of_the_program_is_a_clean_close(self, path):
        script = f"""
            from envelope.replay import SQLiteReplayStore
            store = SQLiteReplayStore({str(path)!r}, first_life=True, clock=lambda: {START})
            store.guard("home", {SENDER!r}, "orders").mark(
                {STREAM!r}, 0, {START}, full_at=3, window=64, expected=False, forget_before=-1
            )
        """
        subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, cwd=ROOT)
        life = Life(path)
        assert life.store.dead == ()
        assert (life.mark(0), life.mark(1)) == ("replayed", None)

    def test_what_runs_at_the_end_closes_every_store(self, life, path):
        other = Life(path.with_name("other.db"))
        lives = (life, other)
        assert [one.mark(0) for one in lives] == [None, None]
        module._close_all()
        again = [Life(one.store.path) for one in lives]
        assert [(one.mark(0), one.mark(1)) for one in again] == [("replayed", None)] * 2

    def test_a_signal_handler_that_marks_within_a_close_is_refused(self, life):
        whole = life.store._database
        answers = []

        class Interrupted(Faulty):
            def executemany(self, *arguments):
                answers.append(life.mark(7))
                return whole.executemany(*arguments)

        life.mark(0)
        life.store._database = Interrupted(whole, None)
        life.store.close()
        assert set(answers) == {"store_unavailable"}
        again = Life(life.store.path)
        assert (again.mark(0), again.mark(7)) == ("replayed", None)

    def test_a_disk_that_fails_at_the_close_makes_it_a_crash(self, life, caplog):
        life.mark(0)
        life.store._database = Faulty(life.store._database, 1)
        life.store.close()
        assert [one.name for one in caplog.records] == ["envelope.replay"]
        why = f"closing: cannot write {life.store.path}: database or disk is full"
        assert f"{why}; the next start will be as after a crash" in caplog.text
        assert Life(life.store.path).mark(1) == "before_start"


class TestCrash:
    @pytest.mark.audit("A3", "A23", "R2")
    def test_nothing_accepted_is_accepted_again(self, life):
        sent = []
        for sequence in range(200):
            life.clock.advance(0.1)
            assert life.mark(sequence) is None
            sent.append((sequence, life.clock()))
            if not sequence % 20:
                again = life.after_crash(f"after-{sequence}")
                assert all(again.mark(*one) for one in sent), sequence
                again.store.close()

    @pytest.mark.audit("R8")
    def test_only_what_is_stamped_around_the_last_commit_is_lost(self, life):
        life.mark(0)  # The commit is here: START.
        again = life.after_crash()
        assert again.mark(1, START - BEHIND) is None
        assert again.mark(2, START - BEHIND + 1) == "before_start"
        assert again.mark(3, START + AHEAD) == "before_start"
        assert again.mark(4, START + AHEAD + 1) is None

    def test_a_crash_between_the_commit_and_the_mark_only_loses(self, life, monkeypatch):
        class Killed(BaseException):
            pass

        def die(*_arguments, **_options):
            raise Killed

        with monkeypatch.context() as patched:
            patched.setattr(type(life.guard._memory), "mark", die)
            with pytest.raises(Killed):
                life.mark(0)
        assert life.after_crash().mark(0) == "before_start"
        assert life.mark(0) is None

    def test_a_second_crash_does_not_revive_the_zone_of_the_first(self, life):
        life.mark(0)
        again = life.after_crash("one")
        again.clock.advance(10)
        again.mark(1)
        third = again.after_crash("two")
        assert third.store.dead == (
            Zone(START - BEHIND, START + AHEAD),
            Zone(START + 10 * SECOND - BEHIND, START + 10 * SECOND + AHEAD),
        )
        assert third.mark(0, START) == "before_start"

    def test_dead_zones_outlive_clean_closes(self, life):
        life.mark(0)
        again = life.after_crash().after_close()
        assert again.mark(0, START) == "before_start"

    def test_very_many_crashes_raise_the_cold_start_instead(self):
        zones = [Zone(10 * n, 10 * n + 3) for n in range(MAX_DEAD + 2)]
        dead, cold = bury(zones, -1)
        assert len(dead) == MAX_DEAD
        assert cold == zones[1].until
        assert bury([Zone(0, 5), Zone(3, 9), Zone(9, 12)], 2) == ([Zone(0, 12)], 2)
        assert bury([Zone(0, 5)], 5) == ([], 5)

    def test_a_stream_that_this_process_began_later_is_not_held_up(self, life):
        life.mark(0)
        again = life.after_crash()
        young = Stream(
            __import__("hashlib").blake2b(), now=START, ns=START * 1000, random=os.urandom
        )
        again.guard.check(young.id, 0, START, full_at=3, expected=False)
        # The first of these opens a zone, in which the others lie.
        assert again.mark(0, START, stream=b"x" * 16, expected=True) is None
        assert again.mark(0, START, stream=young.id) is None
        assert again.mark(1, START, stream=young.id) is None
        assert again.mark(1, START, stream=b"x" * 16) == "before_start"
        assert again.mark(1, START, stream=b"x" * 16, expected=True) is None

    @pytest.mark.audit("A19")
    @pytest.mark.parametrize("step", [-3600, -5, 5, 3600])
    def test_a_clock_step_between_the_lives_permits_nothing(self, life, step):
        sent = []
        for sequence in range(20):
            life.clock.advance(0.3)
            life.mark(sequence)
            sent.append((sequence, life.clock()))
        life.clock.advance(step)
        again = life.after_crash()
        assert all(again.mark(*one) for one in sent)


class TestZones:
    def test_about_one_commit_a_second(self, life):
        count = commits(life)
        for sequence in range(1000):
            life.clock.advance(0.01)
            life.mark(sequence)
        assert count() <= 11

    @pytest.mark.audit("A23")
    @pytest.mark.parametrize(
        ("sent_at", "more"),
        [
            (START - BEHIND, 1),
            (START - BEHIND + 1, 0),
            (START + AHEAD, 0),
            (START + AHEAD + 1, 1),
        ],
    )
    def test_a_zone_holds_its_end_and_not_its_beginning(self, life, sent_at, more):
        life.mark(0)
        count = commits(life)
        assert life.mark(1, sent_at) is None
        assert count() == more
        assert life.after_crash().mark(1, sent_at) == "before_start"

    @pytest.mark.parametrize(("now", "more"), [(0.4, 1), (0.6, 0)])
    def test_a_commit_for_one_that_lags_renews_the_zone_of_now_if_that_ends_soon(
        self, life, now, more
    ):
        life.mark(0)
        life.clock.advance(now)
        life.mark(1, START - 20 * SECOND)
        count = commits(life)
        life.clock.advance(0.9)
        assert life.mark(2) is None
        assert count() == more

    @pytest.mark.parametrize("later", [0, 1])
    def test_a_zone_that_nobody_used_for_two_seconds_is_closed(self, life, later):
        life.mark(0, START - 20 * SECOND)
        life.mark(1, START - 10 * SECOND)
        life.mark(2)
        now = life.clock.now = START + 2 * SECOND + later
        life.mark(3, START - 20 * SECOND)
        life.mark(4)
        lagging = [around(START - 20 * SECOND), around(START - 10 * SECOND)]
        open_now = [lagging[0], *lagging[1 : 2 - later], Zone(START - BEHIND, now + AHEAD)]
        assert list(life.after_crash().store.dead) == open_now

    def test_a_zone_that_is_used_until_now_stays_open(self, life):
        life.mark(0)
        life.clock.advance(2.5)
        life.mark(1, START + SECOND)
        life.mark(2)
        count = commits(life)
        assert life.mark(3, START + SECOND) is None
        assert count() == 0

    @pytest.mark.parametrize(("later", "after"), [(0, START - BEHIND), (1, START - SECOND // 2)])
    def test_zones_reach_two_seconds_below_what_came_lately(self, life, later, after):
        life.mark(0)
        life.clock.advance(1.5)
        life.mark(1, START - SECOND)
        life.mark(2)
        now = life.clock.now = START + round(3.5 * SECOND) + later
        life.mark(3, START + 2 * SECOND)
        life.mark(4)
        assert list(life.after_crash().store.dead) == [Zone(after, now + AHEAD)]

    def test_senders_that_lag_cost_a_commit_a_second_each_at_most(self, life):
        count = commits(life)
        for sequence, lag in zip(range(900), itertools.cycle((0, 7, 20)), strict=False):
            life.clock.advance(0.01)
            assert (
                life.mark(sequence, life.clock() - lag * SECOND, stream=bytes([lag]) * 16) is None
            )
        assert count() <= 3 * 10

    @pytest.mark.parametrize("lags", [(0, 5, 10, 15), tuple(range(0, 28, 4)), range(29)])
    @pytest.mark.parametrize("is_random", [False, True])
    def test_no_pattern_of_lags_makes_a_storm_of_commits(self, life, lags, is_random):
        count, dice = commits(life), random.Random(1)
        for n in range(3000):
            life.clock.advance(0.01)
            lag = dice.choice(lags) if is_random else lags[n % len(lags)]
            assert life.mark(n, life.clock() - lag * SECOND) is None
        assert count() <= 30 * (len(lags) + 1)
        # What a crash would lose does not grow with time.
        zones = [life.store.zone, *life.store._others]
        assert life.clock() - min(zone.after for zone in zones) < (max(lags) + 10) * SECOND

    def test_zones_are_few(self, life):
        for lag in range(0, 60, 4):
            assert life.mark(lag, START - lag * SECOND, full_at=99) is None
            assert 1 + len(life.store._others) <= MAX_ZONES

    def test_a_replay_costs_no_commit(self, life):
        for sequence in range(3):
            life.mark(sequence)
            life.clock.advance(10)
        count = commits(life)
        assert [life.mark(0, START) for _ in range(5)] == ["replayed"] * 5
        assert count() == 0

    def test_two_places_are_apart_and_both_are_kept(self, life):
        other = life.store.guard("home", SENDER, "invoices")
        assert life.store.guard("home", SENDER, "orders") is life.guard
        life.mark(0)
        other.mark(STREAM, 0, START, full_at=3, window=64, expected=False, forget_before=-1)
        before = life.store.state()
        assert len(before) == 2
        assert life.after_close().store.state() == before


class TestFaults:
    @pytest.mark.audit("A23", "A24", "R7")
    @pytest.mark.parametrize("after", [False, True])
    def test_a_commit_that_fails_anywhere_refuses_loses_nothing_and_recovers(self, path, after):
        for at in itertools.count(1):
            folder = path.parent / f"{at}"
            folder.mkdir()
            life = Life(folder / "replay.db")
            sent = [(n, START + n * SECOND) for n in range(0, 30, 3)]
            for number, (sequence, sent_at) in enumerate(sent[:-1]):
                life.clock.now = sent_at
                life.mark(sequence, stream=bytes([number % 5]) * 16)
            crashed = folder / "crashed.db"
            whole = life.store._database
            faulty = life.store._database = Faulty(
                whole,
                at,
                after=after,
                notice=lambda now=(life.store.path, crashed): copy(*now),
            )
            life.clock.now = sent[-1][1]
            before = life.store.state()
            verdict = life.mark(sent[-1][0])
            life.store._database = whole
            if faulty.count < at:
                assert verdict is None
                break
            assert verdict == "store_unavailable"
            assert life.store.state() == before
            again = Life(crashed, clock=life.clock)
            for number, (sequence, sent_at) in enumerate(sent[:-1]):
                assert again.mark(sequence, sent_at, stream=bytes([number % 5]) * 16), at
            assert life.mark(sent[-1][0]) is None
            state = life.store.state()
            assert life.after_close().store.state() == state
        assert at > 6

    def lose_the_answer_to_a_commit(self, life, *arguments, **options):
        """The commit is on the disk, and the disk says that it failed."""
        whole = life.store._database
        life.store._database = Faulty(whole, "COMMIT", after=True)
        assert life.mark(*arguments, **options) == "store_unavailable"
        life.store._database = whole

    @pytest.mark.audit("A23")
    def test_a_failed_commit_that_reached_the_disk_leaves_no_old_window(self, life):
        """A row that nobody deletes any more would be an old window."""
        life.mark(0, stream=b"a" * 16)
        life.clock.advance(5)
        self.lose_the_answer_to_a_commit(life, 0, stream=b"b" * 16)
        assert life.mark(9, START + 1, stream=b"a" * 16) is None
        for number in range(4):  # Now a is dropped.
            life.clock.advance(5)
            assert life.mark(0, stream=bytes([number]) * 16) is None
        again = life.after_close()
        assert again.mark(9, START + 1, stream=b"a" * 16) == "too_old"

    @pytest.mark.audit("A23")
    def test_a_failed_commit_that_reached_the_disk_closes_the_old_zones(self, life):
        life.mark(0)
        life.clock.advance(10)
        self.lose_the_answer_to_a_commit(life, 1)
        assert life.mark(2, START + 1) is None  # It would have been in the old zone.
        assert life.after_crash().mark(2, START + 1) in {"before_start", "replayed"}

    @pytest.mark.audit("A24")
    def test_another_writer_of_the_file_refuses_and_then_it_recovers(self, life):
        # An opener does not wait for it: it holds the store's lock.
        assert life.store._database.execute("PRAGMA busy_timeout").fetchone() == (0,)
        other = sqlite3.connect(life.store.path, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        assert life.mark(0) == "store_unavailable"
        other.execute("ROLLBACK")
        other.close()
        assert life.mark(0) is None

    @pytest.mark.audit("A24")
    def test_a_full_disk_refuses_until_there_is_room_and_loses_nothing(self, path):
        def child():
            life = Life(path)
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 4096, hard))
            verdicts = []
            for number in range(400):
                life.clock.advance(2)
                verdicts.append(life.mark(0, stream=number.to_bytes(16, "big"), full_at=999))
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            again = [
                life.mark(
                    0, START + 2 * (n + 1) * SECOND, stream=n.to_bytes(16, "big"), full_at=999
                )
                for n in range(400)
            ]
            life.store.close()
            return verdicts, again

        verdicts, again = in_child(child)
        assert set(verdicts) == {None, "store_unavailable"}
        # What was accepted is a replay now; what was refused may be offered again.
        assert [code for first, code in zip(verdicts, again, strict=True) if first is None] == (
            ["replayed"] * verdicts.count(None)
        )
        assert {code for first, code in zip(verdicts, again, strict=True) if first} == {None}

    @pytest.mark.parametrize("closes", [False, True])
    def test_a_signal_handler_does_not_get_into_a_commit(self, life, closes, caplog):
        whole = life.store._database
        answers = []

        class Interrupted(Faulty):
            def executemany(self, *arguments):
                if not answers:
                    answers.append(None)
                    answers.append(life.store.close() if closes else life.mark(7))
                return whole.executemany(*arguments)

        life.store._database = Interrupted(whole, None)
        verdict = life.mark(0)
        assert answers == [None, None if closes else "store_unavailable"]
        assert verdict is None
        assert caplog.text == ""
        # The close came after the mark, and is exact.
        again = Life(life.store.path) if closes else life.after_crash()
        assert again.mark(0) == ("replayed" if closes else "before_start")

    def test_an_interrupt_in_the_midst_leaves_no_transaction_open(self, life):
        class Interrupted:
            def __init__(self, database):
                self._database = database

            def executemany(self, *_arguments):
                raise KeyboardInterrupt

            def __getattr__(self, name):
                return getattr(self._database, name)

        whole = life.store._database
        life.store._database = Interrupted(whole)
        with pytest.raises(KeyboardInterrupt):
            life.mark(0)
        life.store._database = whole
        assert not whole.in_transaction
        assert life.mark(0) is None

    @pytest.mark.parametrize("error", [sqlite3.OperationalError("disk I/O error"), MemoryError()])
    def test_a_rollback_that_fails_hides_no_interrupt_and_is_made_up_for(self, life, error):
        class Broken(Faulty):
            def execute(self, *arguments):
                if arguments[0] == "COMMIT":
                    raise KeyboardInterrupt
                if arguments[0] == "ROLLBACK":
                    raise error
                return whole.execute(*arguments)

        whole = life.store._database
        life.store._database = Broken(whole, None)
        with pytest.raises(KeyboardInterrupt):
            life.mark(0)
        assert whole.in_transaction
        life.store._database = whole
        assert life.mark(0) is None
        assert life.after_close().mark(0) == "replayed"


class TestTheFile:
    def test_it_lasts_and_is_cold_unless_it_is_said_to_be_the_first(self, path):
        with SQLiteReplayStore(path, clock=lambda: START) as store:
            assert store.is_durable is True
            guard = store.guard("home", SENDER, "orders")
            with pytest.raises(BeforeStartError):
                guard.check(STREAM, 0, START, full_at=3, expected=False)

    def test_it_is_private_and_stands_beside_its_lock(self, life, path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert {entry.name for entry in path.parent.iterdir()} == {"replay.db", "replay.db.lock"}

    @pytest.mark.audit("R2")
    def test_a_new_file_begins_cold_and_stays_so(self, path, caplog):
        life = Life(path, first_life=False, max_future=9)
        assert f"{path} is new: what is stamped in the next 9.0 s" in caplog.text
        cold = START + 9 * SECOND
        # A reply to a request of this life; when no zone is open, and in one.
        assert life.mark(5, cold, stream=b"r" * 16, expected=True) is None
        assert life.mark(6, cold, stream=b"r" * 16, expected=True) is None
        assert (life.mark(0, cold), life.mark(0, cold + 1)) == ("before_start", None)
        again = life.after_close()
        assert again.mark(1, cold) == "before_start"

    def test_first_life_of_a_file_that_is_there_changes_nothing(self, path):
        Life(path, first_life=False).store.close()
        assert Life(path).mark(0) == "before_start"

    def test_a_file_whose_first_life_ended_at_once_is_begun_anew(self, path):
        path.touch(mode=0o600)
        assert Life(path, first_life=False).mark(0) == "before_start"

    def test_its_domains_are_those_that_something_was_asked_for(self, life, path):
        assert life.store.domains == {"home"}
        life.store.guard("away", b"s" * 16, "orders")
        assert life.store.domains == {"home", "away"}

    @pytest.mark.audit("K7", "R6")
    def test_the_holder_is_named_in_this_process_and_in_another(self, life, path):
        with pytest.raises(StoreFileError, match="open in this process already"):
            SQLiteReplayStore(path)
        assert life.mark(0) is None

        script = f"from envelope.replay import SQLiteReplayStore\nSQLiteReplayStore({str(path)!r})"
        run = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False
        )
        assert f"is in use by process {os.getpid()}" in run.stderr
        assert "end that one, or give this one a node or a store of its own" in run.stderr
        assert life.mark(1) is None
        life.after_close()

    @pytest.mark.audit("A18")
    def test_a_forked_child_neither_uses_nor_takes_nor_closes_it(self, life, path):
        life.mark(0)

        def child():
            life.store.close()
            with pytest.raises(StoreFileError, match="is in use by process"):
                SQLiteReplayStore(path)
            return life.mark(1)

        assert in_child(child) == "store_unavailable"
        assert life.mark(1) is None
        assert life.after_close().mark(1) == "replayed"

    @pytest.mark.parametrize(
        "content", [b"no database at all " * 99, b"SQLite format 3\0" + b"\xff" * 4096]
    )
    def test_a_damaged_file_says_so_and_stays_as_it_is(self, path, content):
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(StoreFileError, match=r"cannot be used: file is .* starts cold"):
            SQLiteReplayStore(path)
        assert path.read_bytes() == content

    def test_a_damaged_file_that_announces_too_much_says_so_too(self, life, path):
        life.store.close()
        announce_too_much(path)
        with pytest.raises(StoreFileError, match=r"cannot be used: MemoryError\. .* starts cold"):
            SQLiteReplayStore(path)

    def test_a_file_that_is_damaged_while_it_is_open_is_unavailable(self, life, path, caplog):
        assert life.mark(0) is None
        announce_too_much(path)
        life.clock.advance(10)
        assert life.mark(1) == life.mark(1) == "store_unavailable"
        life.store.close()
        assert "as after a crash" in caplog.text

    def test_a_database_of_something_else_is_not_touched(self, path):
        with sqlite3.connect(path) as database:
            database.execute("CREATE TABLE theirs (a)")
        database.close()
        path.chmod(0o600)
        before = path.read_bytes()
        with pytest.raises(StoreFileError, match="something else"):
            SQLiteReplayStore(path)
        assert path.read_bytes() == before

    def test_a_newer_version_is_not_guessed_at(self, life, path):
        life.store.close()
        with sqlite3.connect(path) as database:
            database.execute("PRAGMA user_version = 2")
        database.close()
        with pytest.raises(StoreFileError, match="version 2"):
            SQLiteReplayStore(path)

    @pytest.mark.parametrize(
        "damage",
        [
            "UPDATE store SET cold = -2",
            "UPDATE store SET cold = 'x'",
            f"UPDATE store SET cold = {2**54}",
            "DELETE FROM store",
            "INSERT INTO zone VALUES ('x', 1, 0, x'00')",
            "INSERT INTO zone VALUES (0, 'x', 0, x'00')",
            "UPDATE place SET floor = -2",
            "UPDATE place SET figures = '[]'",
            "UPDATE place SET figures = '{'",
            "UPDATE place SET figures = '[1, 2, 3, 4, 5, 6, 7, 8, 9.5]'",
            "UPDATE place SET context = x'00'",
            "UPDATE stream SET newest = 'x'",
            "UPDATE stream SET first = -1",
            "UPDATE stream SET ring = 'x'",
            "UPDATE stream SET id = 'aaaabbbbccccdddd'",
            "DELETE FROM place",
            "DELETE FROM stream",
            "UPDATE stream SET ring = x'00'",
            "UPDATE stream SET size = 63",
            "UPDATE stream SET top = -1",
            "UPDATE stream SET floor = 99",
            "UPDATE stream SET id = x'00'",
            "DROP TABLE stream",
        ],
    )
    @pytest.mark.parametrize("has_digest", [False, True])
    def test_what_no_store_would_write_is_refused(self, life, path, damage, has_digest):
        life.mark(0)
        life.store.close()
        with sqlite3.connect(path) as database:
            database.execute(damage)
            if has_digest:
                give_digests(database)
        database.close()
        with pytest.raises(StoreFileError, match="cannot be used"):
            SQLiteReplayStore(path)
        path.unlink()
        Life(path).store.close()

    def test_a_file_that_others_can_change_is_refused(self, life, path):
        life.store.close()
        path.chmod(0o620)
        with pytest.raises(StoreFileError, match="chmod 600"):
            SQLiteReplayStore(path)

    def test_a_file_that_others_can_only_read_is_used(self, life, path):
        life.store.close()
        path.chmod(0o755)
        assert Life(path).mark(0) is None

    @pytest.mark.parametrize(("owner", "is_used"), [(0, True), (1, False), (8, True), (9, False)])
    def test_a_file_of_another_user_is_refused_unless_he_is_root(
        self, life, path, monkeypatch, owner, is_used
    ):
        def seen(self, **options):
            mode, inode, device, links, _, *rest = real(self, **options)
            return os.stat_result((mode, inode, device, links, owner, *rest))

        life.store.close()
        real = Path.stat
        monkeypatch.setattr(module.os, "geteuid", lambda: 8)
        monkeypatch.setattr(Path, "stat", seen)
        expected = contextlib.nullcontext()
        if not is_used:
            expected = pytest.raises(StoreFileError, match="can be changed by others")
        with expected:
            Life(path).store.close()

    def test_what_is_no_file_is_refused(self, tmp_path):
        with pytest.raises(StoreFileError, match="is not a file"):
            SQLiteReplayStore(tmp_path)
        with pytest.raises(StoreFileError, match="cannot lock"):
            SQLiteReplayStore(tmp_path / "missing" / "replay.db")
        (tmp_path / "a").symlink_to("b")
        (tmp_path / "b").symlink_to("a")
        with pytest.raises(StoreFileError, match="cannot"):
            SQLiteReplayStore(tmp_path / "a")
        os.mkfifo(tmp_path / "y.db.lock")
        with pytest.raises(StoreFileError, match="cannot lock"):
            SQLiteReplayStore(tmp_path / "y.db")
        (tmp_path / "x.db.lock").mkdir()
        with pytest.raises(StoreFileError, match="cannot lock"):
            SQLiteReplayStore(tmp_path / "x.db")

    @pytest.mark.parametrize(
        "options",
        [{"path": 5}, {"path": ""}, {"path": "a\0b"}, {"first_life": 1}, {"max_future": -1}],
    )
    def test_arguments_that_cannot_be_used(self, path, options):
        with pytest.raises(UsageError):
            SQLiteReplayStore(**{"path": path, **options})

    def test_its_text_names_the_file(self, life, path):
        assert repr(life.store) == f"<SQLiteReplayStore {path.resolve()}>"
