"""A fleet, its members, and who may say of a key that it is new."""

from __future__ import annotations

import base64
import copy
import errno
import json
import os
import pickle
import socket
import stat
import threading
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parallel import at_once, in_child, raw_fork
from support import FakeClock, seeded

from envelope import (
    Fleet,
    Identity,
    KeyFileError,
    Member,
    Peer,
    Policy,
    TrustFileError,
    UsageError,
)
from envelope import fleet as fleets
from envelope import member as members
from envelope.errors import (
    BeforeStartError,
    NotTrustedError,
    ReflectedError,
    ReplayedError,
    StoreUnavailableError,
)
from envelope.primitives import H
from envelope.replay import MemoryReplayStore, SQLiteReplayStore

NAMES = ["router", "worker-0", "worker-1"]
CONTEXT = "pool.v1"


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def fleet(clock):
    return Fleet.generate(NAMES, contexts=[CONTEXT], clock=clock)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "pool"


def accepts_at_once(member, sender):
    """Tell whether a member takes what was sealed just now."""
    return takes(member, sender.sealer(CONTEXT, to=[member.name]).seal(b"task"))


def takes(member, data):
    try:
        return member.opener(CONTEXT).open(data).payload == b"task"
    except BeforeStartError:
        return False


def as_text(document, *, body=None):
    """Return a text with a right checksum around any document."""
    body = json.dumps(document, separators=(",", ":")) if body is None else body
    check = base64.b32encode(H(10, b"env1-text", b"envmember1", body.encode())).decode().lower()
    return "envmember1" + check + body


def document_of(text):
    return json.loads(text[26:])


def secret_of(text):
    return document_of(text)[1]


class TestGenerate:
    def test_everyone_knows_everyone_and_itself(self, fleet):
        assert list(fleet) == NAMES
        assert len(fleet) == 3
        for name in NAMES:
            member = fleet[name]
            assert member.name == name
            assert member.trust[name].public == member.identity.public
            assert [peer.name for peer in member.trust] == NAMES

    def test_each_identity_is_fresh(self, fleet, clock):
        other = Fleet.generate(NAMES, contexts=[CONTEXT], clock=clock)
        keys = {one[name].identity.key_id for one in (fleet, other) for name in NAMES}
        assert len(keys) == 6

    def test_randomness_is_handed_in(self):
        one, two = (Fleet.generate(NAMES, contexts=["*"], random=seeded(3)) for _ in range(2))
        assert one["router"].identity.key_id == two["router"].identity.key_id

    def test_members_send_to_each_other_by_name(self, fleet):
        data = fleet["router"].sealer(CONTEXT, to=["worker-0"]).seal(b"task")
        message = fleet["worker-0"].opener(CONTEXT).open(data)
        assert (message.payload, message.sender.name) == (b"task", "router")

    def test_a_recipient_may_be_an_identity_and_an_envelope_be_signed_only(self, fleet):
        public = fleet["worker-0"].identity.public
        sealer = fleet["router"].sealer(CONTEXT, to=[public], sealed=False)
        assert not sealer.sealed
        assert fleet["worker-0"].opener(CONTEXT).open(sealer.seal(b"task")).payload == b"task"

    def test_contexts_can_differ_by_name(self, clock):
        contexts = {"router": ["tasks"], "worker": ["results"]}
        fleet = Fleet.generate(["router", "worker"], contexts=contexts, clock=clock)
        task = fleet["router"].sealer("tasks").seal(b"1")
        assert fleet["worker"].opener("tasks").open(task).payload == b"1"
        forbidden = fleet["worker"].sealer("tasks").seal(b"1")
        with pytest.raises(NotTrustedError):
            fleet["router"].opener("tasks").open(forbidden)

    @pytest.mark.audit("A6")
    def test_what_comes_back_to_a_member_is_reflected(self, fleet):
        router = fleet["router"]
        with pytest.raises(ReflectedError):
            router.opener(CONTEXT).open(router.sealer(CONTEXT).seal(b"task"))

    def test_two_processes_of_one_member_hear_each_other_if_the_policy_says_so(self, fleet):
        router = fleet["router"]
        data = in_child(lambda: router.sealer(CONTEXT).seal(b"task"))
        opener = router.opener(CONTEXT, policy=Policy(accept_own=True))
        assert opener.open(data).payload == b"task"

    @pytest.mark.parametrize(
        "names",
        [
            [],
            "router",
            {"router"},
            ["a", "a"],
            ["a/b"],
            [".."],
            [""],
            [1],
            ["a\n"],
            ["ä"],
            ["-a"],
            ["a" * 101],
        ],
    )
    def test_names_are_unique_and_name_files(self, names):
        with pytest.raises(UsageError):
            Fleet.generate(names, contexts=[CONTEXT])

    @pytest.mark.parametrize(
        "contexts", ["pool", [], ["a*"], {"a": ["x"]}, {"a": ["x"], "b": ["x"], "c": ["x"]}, None]
    )
    def test_contexts_are_those_of_a_peer(self, contexts):
        with pytest.raises(UsageError):
            Fleet.generate(["a", "b"], contexts=contexts)

    @pytest.mark.parametrize("name", ["worker-2", 0, None, ["router"]])
    def test_a_name_that_is_not_there_is_a_usage_error(self, fleet, name):
        for use in (fleet.__getitem__, fleet.hand_out):
            with pytest.raises(UsageError, match="no member"):
                use(name)

    @pytest.mark.parametrize("to", ["worker-0", ["worker-2"], [1]])
    def test_recipients_are_a_list_of_who_is_there(self, fleet, to):
        with pytest.raises(UsageError):
            fleet["router"].sealer(CONTEXT, to=to)


@pytest.mark.audit("K5")
class TestSecrets:
    def test_nothing_prints_a_secret(self, fleet):
        text = fleet.hand_out("router")
        assert repr(fleet) == "<Fleet of 3 members>"
        key_id = fleet["router"].identity.key_id.hex()
        assert repr(fleet["router"]) == str(fleet["router"]) == f"<Member router {key_id}>"
        assert secret_of(text) == fleet["router"].identity.export()

    def test_neither_is_pickled_or_copied_and_the_error_says_what_to_do(self, fleet):
        for one in (fleet, fleet["router"]):
            for spread in (pickle.dumps, copy.copy, copy.deepcopy):
                with pytest.raises(TypeError, match="hand_out"):
                    spread(one)


class TestHandOut:
    def test_a_text_makes_the_same_member(self, fleet, clock):
        member = Member.parse(fleet.hand_out("worker-0"), clock=clock)
        assert member.name == "worker-0"
        assert member.identity.key_id == fleet["worker-0"].identity.key_id
        assert list(member.trust) == list(fleet["worker-0"].trust)

    def test_a_text_is_one_line_of_ascii_whatever_the_contexts(self):
        contexts = ["höhe\n", "\N{SNAKE}.*"]
        text = Fleet.generate(["a"], contexts=contexts).hand_out("a")
        assert text.isascii()
        assert text.isprintable()
        assert list(Member.parse(text).trust["a"].contexts) == contexts

    def test_a_fleet_that_is_too_large_for_a_text_says_so(self, fleet, monkeypatch):
        monkeypatch.setattr(fleets, "MAX_TEXT", 100)
        with pytest.raises(UsageError, match="folder"):
            fleet.hand_out("router")


def bad_texts():
    """Texts that are wrong in one way each; those with a right checksum are somebody's own."""
    clock = FakeClock()
    fleet = Fleet.generate(["a", "b"], contexts=[CONTEXT], clock=clock, random=seeded(1))
    text = fleet.hand_out("a")
    name, key, until, rows = document_of(text)
    other = fleet["b"].identity.export()
    good = [name, key, until, rows]
    yield "empty", ""
    yield "another kind", key
    yield "no str", text.encode()
    yield "a character changed", text[:-3] + "x" + text[-2:]
    yield "cut short", text[:-1]
    yield "prefix alone", "envmember1"
    yield "a line feed", text + "\n"
    yield "not ASCII", text + "ä"
    yield "too long", text + " " * 2**20
    yield "checksum in capitals", text[:10] + text[10:26].upper() + text[26:]
    yield "no JSON", as_text(None, body="{")
    yield "nested deeply", as_text(None, body="[" * 100_000)
    yield "a number of thousands of digits", as_text(None, body="9" * 5000)
    yield "another JSON", as_text(None, body=json.dumps(good))
    yield "null", as_text(None)
    yield "a dict", as_text(dict.fromkeys("abcd"))
    yield "too few", as_text(good[:3])
    yield "too many", as_text([*good, 1])
    yield "until is a bool", as_text([name, key, True, rows])
    yield "until is a float", as_text([name, key, 1.5, rows])
    yield "peers are a dict", as_text([name, key, until, {}])
    yield "no peers", as_text([name, key, until, []])
    yield "a peer without contexts", as_text([name, key, until, [rows[0][:2]]])
    yield "contexts are a str", as_text([name, key, until, [[*rows[0][:2], "x"]]])
    yield "contexts are numbers", as_text([name, key, until, [[*rows[0][:2], [1]]]])
    yield "a peer's key is a secret one", as_text([name, key, until, [[name, key, ["x"]]]])
    yield "a peer twice", as_text([name, key, until, rows + rows])
    yield "the name of nobody", as_text(["c", key, until, rows])
    yield "the key of another", as_text([name, other, until, rows])
    yield "a key with a typing error", as_text([name, key[:-1] + "x", until, rows])
    yield "a public key", as_text([name, rows[0][1], until, rows])
    # Whose name or context is a secret is told so without it.
    yield "a key for a name", as_text([key, key, until, rows])
    yield "a key for the name of two", as_text([name, key, until, [[key, *rows[0][1:]]] * 2])
    yield "a key for a pattern", as_text([name, key, until, [[*rows[0][:2], [f"*{key}"]]]])


BAD = dict(bad_texts())
GOOD = Fleet.generate(["a"], contexts=["x"], random=seeded(5)).hand_out("a")


def chain(error):
    """Return an exception and all that hangs on it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


class TestParse:
    @pytest.mark.parametrize("text", BAD.values(), ids=BAD)
    def test_what_is_no_member_is_a_usage_error_that_repeats_nothing(self, text):
        with pytest.raises(UsageError) as caught:
            Member.parse(text, clock=FakeClock())
        for error in chain(caught.value):
            assert "envsec1" not in repr(error).replace("begins with envsec1", "").replace(
                "envsec1...", ""
            )
            assert not hasattr(error, "doc")

    @settings(max_examples=60)
    @given(st.data())
    def test_no_character_can_be_changed(self, data):
        text = GOOD
        at = data.draw(st.integers(0, len(text) - 1))
        other = data.draw(st.characters(codec="ascii").filter(lambda one: one != text[at]))
        with pytest.raises(UsageError):
            Member.parse(text[:at] + other + text[at + 1 :])

    def test_the_text_that_these_are_changed_from_is_good(self):
        assert Member.parse(GOOD).name == "a"


class TestFirstLife:
    def test_a_member_of_its_own_process_accepts_at_once(self, fleet):
        assert accepts_at_once(fleet["worker-0"], fleet["router"])

    def test_a_handed_out_member_accepts_at_once_in_its_process(self, fleet, clock):
        text = fleet.hand_out("worker-0")
        data = fleet["router"].sealer(CONTEXT).seal(b"task")
        assert in_child(lambda: takes(Member.parse(text, clock=clock), data))

    @pytest.mark.audit("A3", "R2")
    def test_the_second_text_of_a_member_begins_cold(self, fleet, clock):
        data = fleet["router"].sealer(CONTEXT, to=["worker-0"]).seal(b"task")
        texts = [fleet.hand_out("worker-0") for _ in range(3)]

        def work(text):
            return takes(Member.parse(text, clock=clock), data)

        verdicts = [in_child(lambda text=text: work(text)) for text in texts]
        assert verdicts == [True, False, False]

    def test_a_cold_member_accepts_what_is_stamped_later(self, fleet, clock):
        fleet.hand_out("worker-0")
        late = Member.parse(fleet.hand_out("worker-0"), clock=clock)
        assert not accepts_at_once(late, fleet["router"])
        clock.advance(2.1)
        assert accepts_at_once(late, fleet["router"])

    def test_a_member_that_was_handed_out_begins_cold_here(self, fleet):
        member = fleet["worker-0"]
        fleet.hand_out("worker-0")
        assert not accepts_at_once(member, fleet["router"])

    def test_a_member_that_opens_here_is_handed_out_cold(self, fleet, clock):
        assert accepts_at_once(fleet["worker-0"], fleet["router"])
        text = fleet.hand_out("worker-0")
        data = fleet["router"].sealer(CONTEXT).seal(b"task")
        assert not in_child(lambda: takes(Member.parse(text, clock=clock), data))

    def test_a_text_parsed_twice_in_one_process_begins_cold_the_second_time(self, fleet, clock):
        text = fleet.hand_out("worker-0")
        data = fleet["router"].sealer(CONTEXT).seal(b"task")

        def work():
            return [takes(Member.parse(text, clock=clock), data) for _ in range(2)]

        assert in_child(work) == [True, False]

    @pytest.mark.audit("A3", "R2")
    @pytest.mark.parametrize(("seconds", "verdict"), [(60, True), (60.1, False), (-0.1, False)])
    def test_a_text_is_new_for_a_minute(self, fleet, clock, seconds, verdict):
        text = fleet.hand_out("worker-0")
        clock.advance(seconds)
        data = fleet["router"].sealer(CONTEXT).seal(b"task")
        assert in_child(lambda: takes(Member.parse(text, clock=clock), data)) is verdict

    @pytest.mark.audit("A18")
    @pytest.mark.parametrize("fork", [os.fork, raw_fork], ids=["os.fork", "a C library's fork"])
    def test_a_forked_child_begins_cold_with_a_member_of_its_parent(self, fleet, clock, fork):
        data = fleet["router"].sealer(CONTEXT).seal(b"task")
        member = fleet["worker-0"]
        assert not in_child(lambda: takes(member, data), fork=fork)
        assert not in_child(lambda: takes(fleet["worker-1"], data), fork=fork)
        text = in_child(lambda: fleet.hand_out("worker-1"), fork=fork)
        assert document_of(text)[2] == 0
        # What children did takes nothing from the parent.
        assert takes(member, data)

    @pytest.mark.audit("A18")
    def test_a_forked_child_of_a_member_that_opens_begins_anew_and_cold(self, fleet, clock):
        router, member = fleet["router"].sealer(CONTEXT), fleet["worker-0"]
        opener = member.opener(CONTEXT)
        assert opener.open(router.seal(b"before")).payload == b"before"
        data = router.seal(b"task")

        def work():
            with pytest.raises(StoreUnavailableError):
                opener.open(data)
            return takes(member, data)

        assert not in_child(work)

    def test_openers_of_one_member_share_one_memory(self, fleet):
        data = fleet["router"].sealer(CONTEXT).seal(b"task")
        worker = fleet["worker-0"]
        assert worker.opener(CONTEXT).open(data).payload == b"task"
        with pytest.raises(ReplayedError):
            worker.opener(CONTEXT).open(data)
        assert worker.opener("another").replay is worker.replay

    def test_threads_get_one_member_and_one_memory(self, fleet):
        found = at_once(8, lambda _: (fleet["worker-0"], fleet["worker-0"].replay))
        assert len(set(found)) == 1

    def test_only_one_of_many_texts_made_at_once_is_new(self, fleet):
        texts = at_once(8, lambda _: fleet.hand_out("worker-0"))
        assert sorted(document_of(text)[2] > 0 for text in texts) == [False] * 7 + [True]

    @pytest.mark.audit("A3", "A23")
    def test_a_durable_store_needs_no_first_life_and_ends_it(self, fleet, tmp_path, clock):
        data = fleet["router"].sealer(CONTEXT).seal(b"task")
        worker = fleet["worker-0"]
        path = tmp_path / "replay.db"
        with SQLiteReplayStore(path, first_life=True, clock=clock) as store:
            opened = worker.opener(CONTEXT, replay=store, domain="pool")
            assert (opened.open(data).payload, opened.domain) == (b"task", "pool")
        with SQLiteReplayStore(path, clock=clock) as store, pytest.raises(ReplayedError):
            worker.opener(CONTEXT, replay=store, domain="pool").open(data)
        with pytest.raises(BeforeStartError):
            worker.opener(CONTEXT).open(data)
        assert document_of(fleet.hand_out("worker-0"))[2] == 0

    def test_a_larger_max_future_needs_a_store_that_covers_it(self, fleet, clock):
        worker, policy = fleet["worker-0"], Policy(max_future=10)
        with pytest.raises(UsageError, match="max_future"):
            worker.opener(CONTEXT, policy=policy)
        store = MemoryReplayStore(max_future=10, clock=clock)
        assert worker.opener(CONTEXT, policy=policy, replay=store).replay is store

    def test_the_register_of_first_lives_is_bounded(self, monkeypatch):
        monkeypatch.setattr(members, "_MAX_SPENT", 2)
        lives = members._FirstLives()
        life = lives._life
        assert [lives.take(bytes([one]), life) for one in (1, 1, 2, 3)] == [True, False, True, True]
        assert list(lives._spent) == [b"\2", b"\3"]


def read_end(content):
    """Return a descriptor from which this can be read, to its end."""
    reader, writer = os.pipe()
    os.write(writer, content)
    os.close(writer)
    return reader


def is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


class TestFromEnv:
    def test_it_reads_a_variable_leaves_it_set_and_begins_cold(self, monkeypatch):
        fleet = Fleet.generate(NAMES, contexts=[CONTEXT])
        text = fleet.hand_out("worker-0")
        monkeypatch.setenv("ENVELOPE_MEMBER", text)
        assert document_of(text)[2] > 0
        data = fleet["router"].sealer(CONTEXT).seal(b"task")
        assert not in_child(lambda: takes(Member.from_env(), data))
        assert os.environ["ENVELOPE_MEMBER"] == text

    def test_the_variable_can_be_named(self, fleet, monkeypatch):
        monkeypatch.setenv("POOL", fleet.hand_out("worker-0"))
        assert Member.from_env("POOL").name == "worker-0"

    @pytest.mark.parametrize("value", [None, "", "envmember1"])
    def test_what_it_cannot_use_is_a_key_file_error(self, value, monkeypatch):
        monkeypatch.delenv("ENVELOPE_MEMBER", raising=False)
        if value is not None:
            monkeypatch.setenv("ENVELOPE_MEMBER", value)
        with pytest.raises(KeyFileError, match="ENVELOPE_MEMBER"):
            Member.from_env()


class TestFromFd:
    @pytest.fixture
    def fleet(self):
        return Fleet.generate(NAMES, contexts=[CONTEXT])

    @pytest.mark.parametrize("ending", [b"", b"\n"])
    def test_it_reads_a_pipe_and_closes_it(self, fleet, ending):
        fd = read_end(fleet.hand_out("worker-0").encode() + ending)
        assert Member.from_fd(fd).name == "worker-0"
        assert not is_open(fd)

    def test_a_text_that_is_larger_than_a_pipe_is_read_to_its_end(self):
        names = [f"rank-{number}" for number in range(500)]
        content = Fleet.generate(names, contexts=[CONTEXT]).hand_out("rank-7").encode()
        assert len(content) > 65_536
        reader, writer = os.pipe()

        def write():
            with os.fdopen(writer, "wb") as pipe:
                pipe.write(content)

        thread = threading.Thread(target=write)
        thread.start()
        assert len(Member.from_fd(reader).trust) == 500
        thread.join()

    def test_a_pipe_or_a_socket_begins_at_once_and_a_file_cold(self, fleet, tmp_path):
        texts = [fleet.hand_out(name).encode() for name in NAMES]
        ours, theirs = socket.socketpair()
        with ours:
            ours.sendall(texts[1])
        path = tmp_path / "text"
        path.write_bytes(texts[2])
        fds = [read_end(texts[0]), theirs.detach(), os.open(path, os.O_RDONLY)]
        sender = Fleet.generate(["x"], contexts=["*"])["x"]
        data = sender.sealer(CONTEXT).seal(b"task")

        def work(fd):
            member = Member.from_fd(fd)
            member.trust.replace(sender.trust)
            return takes(member, data)

        assert in_child(lambda: [work(fd) for fd in fds]) == [True, True, False]
        for fd in fds:
            os.close(fd)

    def test_the_pipe_of_a_fleet_hands_a_member_on_and_is_closed(self, fleet):
        with fleet.pipe("worker-0") as fd:
            assert not os.get_inheritable(fd)
            child = in_child(lambda: Member.from_fd(fd).name)
        assert child == "worker-0"
        assert not is_open(fd)

    def test_a_fleet_that_is_too_large_for_a_pipe_says_so(self):
        names = [f"rank-{number}" for number in range(500)]
        fleet = Fleet.generate(names, contexts=[CONTEXT])
        before = [is_open(fd) for fd in range(100)]
        with pytest.raises(UsageError, match="folder"), fleet.pipe("rank-0"):
            pass
        assert [is_open(fd) for fd in range(100)] == before

    @pytest.mark.parametrize("read", [Member.from_fd, Identity.from_fd])
    class TestBoth:
        @pytest.mark.parametrize(
            "content", [b"", b"envsec1", b"\xff", b"x" * 4097, b"two\nlines\n"], ids=range(5)
        )
        def test_what_it_cannot_use_is_a_key_file_error_and_closed(self, read, content):
            fd = read_end(content)
            with pytest.raises(KeyFileError, match=f"file descriptor {fd}"):
                read(fd)
            assert not is_open(fd)

        def test_what_never_ends_is_read_to_a_bound(self, read):
            fd = os.open("/dev/zero", os.O_RDONLY)
            with pytest.raises(KeyFileError, match="something else"):
                read(fd)

        @pytest.mark.parametrize("fd", [-1, True, "3", None, 2**31, 2**70])
        def test_what_is_no_descriptor_is_a_usage_error(self, read, fd):
            with pytest.raises(UsageError, match="descriptor"):
                read(fd)

        def test_a_descriptor_that_is_not_open_is_a_key_file_error(self, read):
            fd = read_end(b"")
            os.close(fd)
            with pytest.raises(KeyFileError, match="Bad file descriptor"):
                read(fd)

        def test_a_folder_is_a_key_file_error(self, read, tmp_path):
            fd = os.open(tmp_path, os.O_RDONLY)
            with pytest.raises(KeyFileError, match="directory"):
                read(fd)
            assert not is_open(fd)

    @pytest.mark.parametrize("ending", ["", "\n"])
    def test_an_identity_is_read_from_a_pipe(self, ending):
        identity = Identity.generate()
        fd = read_end((identity.export() + ending).encode())
        assert Identity.from_fd(fd).key_id == identity.key_id
        assert not is_open(fd)

    def test_standard_input_stays_open(self):
        identity = Identity.generate()
        fd = read_end(identity.export().encode())

        def work():
            os.dup2(fd, 0)
            return Identity.from_fd(0).key_id, is_open(0)

        assert in_child(work) == (identity.key_id, True)
        os.close(fd)

    @pytest.mark.audit("K5")
    def test_no_error_holds_what_was_read(self):
        secret = Identity.generate().export()
        with pytest.raises(KeyFileError) as caught:
            Identity.from_fd(read_end(f"{secret}\xe4".encode()))
        for error in chain(caught.value):
            assert secret not in f"{error!r} {vars(error)} {getattr(error, 'object', '')}"


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


class TestFolder:
    @pytest.fixture(params=[0, 0o077])
    def any_umask(self, request):
        """The most careless and the most careful umask that a shell can have."""
        old = os.umask(request.param)
        yield
        os.umask(old)

    @pytest.mark.audit("K7")
    @pytest.mark.usefixtures("any_umask")
    def test_keys_are_private_and_the_peers_are_written_by_us_alone(self, fleet, folder):
        fleet.save(folder)
        found = {path.name: mode(path) for path in folder.iterdir()}
        keys = {f"{name}.key": 0o600 for name in NAMES}
        assert found == {**keys, "peers.toml": 0o644}
        assert mode(folder) == 0o700

    def test_each_is_loaded_by_its_name_and_they_understand_each_other(self, fleet, folder, clock):
        fleet.save(str(folder))
        router, worker = (Member.load(folder, name) for name in ("router", "worker-0"))
        assert worker.identity.key_id == fleet["worker-0"].identity.key_id
        assert {peer.name: peer.public for peer in worker.trust} == {
            peer.name: peer.public for peer in fleet["router"].trust
        }
        with MemoryReplayStore(first_life=True) as store:
            data = router.sealer(CONTEXT, to=["worker-0"]).seal(b"task")
            assert worker.opener(CONTEXT, replay=store).open(data).payload == b"task"

    @pytest.mark.audit("A3", "R2")
    def test_what_comes_from_a_folder_begins_cold(self, fleet, folder):
        fleet.save(folder)
        data = Member.load(folder, "router").sealer(CONTEXT).seal(b"task")
        assert not takes(Member.load(folder, "worker-0"), data)

    @pytest.mark.audit("A3", "R2")
    def test_what_was_saved_begins_cold_everywhere(self, fleet, folder):
        fleet.save(folder)
        assert document_of(fleet.hand_out("worker-1"))[2] == 0
        assert not accepts_at_once(fleet["worker-0"], fleet["router"])

    def test_a_loaded_member_follows_its_peers(self, fleet, folder):
        fleet.save(folder)
        worker = Member.load(folder, "worker-0")
        peers = folder / "peers.toml"
        peers.write_text(peers.read_text().replace("contexts", "revoked = true\ncontexts", 1))
        worker.trust.reload()
        assert [peer.name for peer in worker.trust if peer.revoked] == ["router"]

    def test_the_keys_of_others_need_not_be_there(self, fleet, folder):
        fleet.save(folder)
        (folder / "router.key").unlink()
        assert Member.load(folder, "worker-0").name == "worker-0"
        with pytest.raises(KeyFileError, match="does not exist"):
            Member.load(folder, "router")

    def test_key_files_may_be_links_to_private_files(self, fleet, folder, tmp_path):
        # As orchestrators mount secrets: NAME -> ..data/NAME -> a folder that changes.
        fleet.save(folder / "..1")
        (folder / "..data").symlink_to("..1")
        for name in ("worker-0.key", "peers.toml"):
            (folder / name).symlink_to(f"..data/{name}")
        assert Member.load(folder, "worker-0").name == "worker-0"

    @pytest.mark.audit("K7")
    @pytest.mark.parametrize("bits", [0o440, 0o444, 0o644])
    def test_a_key_that_others_may_read_is_refused(self, fleet, folder, bits):
        fleet.save(folder)
        (folder / "worker-0.key").chmod(bits)
        with pytest.raises(KeyFileError, match="chmod 600"):
            Member.load(folder, "worker-0")

    def test_peers_that_others_may_write_are_refused(self, fleet, folder):
        fleet.save(folder)
        (folder / "peers.toml").chmod(0o666)
        with pytest.raises(TrustFileError, match="written by others"):
            Member.load(folder, "worker-0")

    def test_a_key_and_peers_that_do_not_match_are_refused(self, fleet, folder, tmp_path):
        fleet.save(folder)
        Fleet.generate(NAMES, contexts=["*"]).save(tmp_path / "other")
        (tmp_path / "other" / "peers.toml").rename(folder / "peers.toml")
        with pytest.raises(KeyFileError, match="do not match"):
            Member.load(folder, "worker-0")

    @pytest.mark.parametrize("name", ["../router", "", "a/b", None, "a\0"])
    def test_a_name_leads_to_no_other_folder(self, folder, name):
        with pytest.raises(UsageError, match="names a file"):
            Member.load(folder, name)

    @pytest.mark.parametrize("folder", ["a\0b", 3, None, b"pool"])
    def test_a_folder_is_a_path(self, fleet, folder):
        for use in (fleet.save, lambda folder: Member.load(folder, "router")):
            with pytest.raises(UsageError, match="folder"):
                use(folder)

    @pytest.mark.parametrize("taken", ["worker-1.key", "peers.toml"])
    def test_nothing_is_replaced_and_nothing_is_left_behind(self, fleet, folder, taken):
        folder.mkdir()
        (folder / taken).write_text("mine")
        with pytest.raises(KeyFileError, match=rf"{taken} exists already"):
            fleet.save(folder)
        assert [path.name for path in folder.iterdir()] == [taken]
        assert (folder / taken).read_text() == "mine"

    def test_a_file_is_no_folder(self, fleet, folder):
        folder.write_text("mine")
        with pytest.raises(KeyFileError, match="exists already"):
            fleet.save(folder)
        with pytest.raises(KeyFileError, match="cannot write"):
            fleet.save(folder / "pool")

    def test_a_disk_that_fails_last_of_all_leaves_nothing(self, fleet, folder, monkeypatch):
        def fail(path):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

        monkeypatch.setattr(fleets, "sync_folder", fail)
        with pytest.raises(KeyFileError, match="Input/output error"):
            fleet.save(folder)
        assert list(folder.iterdir()) == []

    @settings(max_examples=60)
    @given(
        st.lists(
            st.text(min_size=1, max_size=40)
            .filter(lambda text: "*" not in text and len(text.encode("utf-8", "replace")) < 200)
            .filter(lambda text: not any("\ud800" <= one <= "\udfff" for one in text)),
            min_size=1,
        )
    )
    def test_any_context_is_the_same_in_a_trust_file(self, contexts):
        public = Identity(b"1" * 32).public
        peer = Peer("a", public, contexts)
        (table,) = tomllib.loads(fleets._table(peer))["peer"]
        assert table == {"name": "a", "key": str(public), "contexts": contexts}
