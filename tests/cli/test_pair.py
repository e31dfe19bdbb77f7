"""envelope pair and fingerprint: two people at two terminals, and what they may do wrong.

Each end is a process with a terminal of its own. Where an end has to misbehave it is
played by the test, with the real exchange.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pexpect
import pytest
from support import identity

from envelope import Node, TrustStore, clock
from envelope.errors import PairingError
from envelope.pairing import codes, exchange
from envelope.pairing.exchange import Connector, Listener, State
from envelope.zeromq.pairing import Line

ROOT = Path(__file__).parents[2]
ASKED_OF_ANNA = "--name bert --contexts orders"
ASKED_OF_BERT = "--name anna --contexts orders.* --contexts news"
BURNED = "this code is burned, and nothing was added here; nor there"
NOT_KNOWN = "whether the other side has added you is not known: ask, or pair again"


class End:
    """A process at a terminal."""

    def __init__(self, process: pexpect.spawn) -> None:
        self.process = process

    def sees(self, text: str) -> re.Match[str]:
        """Wait for a pattern on the terminal."""
        self.process.expect(text)
        return self.process.match

    def types(self, text: str) -> None:
        self.process.sendline(text)

    def interrupts(self) -> None:
        self.process.sendintr()

    def ends(self, status: int) -> str:
        """Wait for the end; return what was shown since the last wait."""
        self.process.expect(pexpect.EOF)
        shown = self.process.before
        self.process.close()
        assert self.process.exitstatus == status, shown
        assert "Traceback" not in shown
        return shown


@pytest.fixture
def start(desk, shell):
    ends: list[End] = []
    for name in ("anna", "bert"):
        Node.create(desk / f"{name}.node").close()

    def start(line: str) -> End:
        ends.append(End(shell.at_terminal(line)))
        return ends[-1]

    yield start
    for end in ends:
        end.process.close(force=True)


def listens(start, more: str = ASKED_OF_ANNA) -> tuple[End, str, str]:
    """Start Anna's end; return it, its endpoint and its code."""
    anna = start(f"envelope pair --listen tcp://127.0.0.1:* --node anna.node {more}")
    endpoint = anna.sees(r"listening at (\S+);")[1]
    code = anna.sees(r"code: (\S+)")[1]
    anna.sees("good for one try")
    return anna, endpoint, code


def connects(start, endpoint: str, more: str = ASKED_OF_BERT) -> End:
    """Start Bert's end, up to the question for the code."""
    bert = start(f"envelope pair --connect {endpoint} --node bert.node {more}")
    bert.sees("code: ")
    return bert


def peers(desk, name: str) -> dict[str, tuple[str, ...]]:
    trust = TrustStore.load(desk / f"{name}.node" / "peers.toml")
    return {peer.name: tuple(peer.contexts) for peer in trust}


def node_identity(desk, name: str):
    with Node.load(desk / f"{name}.node") as node:
        return node.identity


# --- Two people ---------------------------------------------------------------------------


def test_two_people_meet_compare_and_send(start, desk, shell):
    anna = start("envelope pair --listen tcp://127.0.0.1:* --node anna.node")
    anna.sees("name for the other side: ")
    anna.types("bert")
    anna.sees("contexts it may send in")
    anna.types("orders, news.*")
    endpoint = anna.sees(r"listening at (\S+);")[1]
    code = anna.sees(r"code: (\S+)")[1]
    assert codes.parse(code) == code

    bert = connects(start, endpoint)
    bert.types(code.upper().replace("-", " "))
    prints = [end.sees(r"fingerprint of you both: ([\d ]+)")[1].strip() for end in (anna, bert)]
    assert prints[0] == prints[1]
    anna.sees(r"add 'bert' with contexts \[orders, news\.\*\] to anna.node/peers.toml\? \[y/N\]")
    bert.sees(r"add 'anna' with contexts \[orders\.\*, news\]")
    bert.types("yes")
    anna.types("y")
    assert str(node_identity(desk, "bert").public) in anna.ends(0)
    assert str(node_identity(desk, "anna").public) in bert.ends(0)
    assert peers(desk, "anna") == {"bert": ("orders", "news.*")}
    assert peers(desk, "bert") == {"anna": ("orders.*", "news")}

    compared = [
        shell(f"envelope fingerprint --node {one}.node {other}").text.strip()
        for one, other in (("anna", "bert"), ("bert", "anna"))
    ]
    assert compared == prints
    sent = shell("envelope seal --node anna.node --context news --to bert", b"hello")
    opened = shell("envelope open --node bert.node --context news --require sealed", sent.out)
    assert opened.out == b"hello"


def test_scripts_pair_without_a_question(start, desk):
    anna, endpoint, code = listens(start, f"{ASKED_OF_ANNA} --yes")
    bert = connects(start, endpoint, f"{ASKED_OF_BERT} --yes")
    bert.types(code)
    assert "the other side has you, too" in bert.ends(0)
    assert "the other side has you, too" in anna.ends(0)
    assert peers(desk, "anna") == {"bert": ("orders",)}


def test_an_identity_and_a_trust_file_pair_as_a_node_does(start, desk):
    anna, endpoint, code = listens(start, f"{ASKED_OF_ANNA} --yes")
    bert = start(
        f"envelope pair --connect {endpoint} --identity bob.key --trust peers.toml --yes "
        "--name anna --contexts orders"
    )
    bert.sees("code: ")
    bert.types(code)
    bert.ends(0)
    anna.ends(0)
    names = [peer.name for peer in TrustStore.load(desk / "peers.toml")]
    assert names == ["alice", "bob", "carol", "anna"]


# --- Wrong codes --------------------------------------------------------------------------


def test_a_wrong_code_is_told_at_the_waiting_side_and_there_is_no_second_try(start, desk):
    anna, endpoint, code = listens(start)
    bert = connects(start, endpoint)
    bert.types(f"{1099 - int(code[:3])}{code[3:]}")
    assert "a wrong code was tried: this code is burned" in anna.ends(16)
    shown = bert.ends(16)
    assert "mistyped" in shown
    assert BURNED in shown
    assert peers(desk, "anna") == peers(desk, "bert") == {}


def test_a_typing_error_that_is_no_word_costs_no_try(start, desk):
    anna, endpoint, code = listens(start, f"{ASKED_OF_ANNA} --yes")
    bert = connects(start, endpoint, f"{ASKED_OF_BERT} --yes")
    bert.types(code[:-1])
    assert "nothing was sent" in bert.ends(2)
    again = connects(start, endpoint, f"{ASKED_OF_BERT} --yes")
    again.types(code)
    again.ends(0)
    anna.ends(0)


def test_a_stranger_at_the_endpoint_burns_the_code(start, desk):
    anna, endpoint, _ = listens(start)
    with Line(endpoint, listens=False) as stranger:
        stranger.send(b"hello")
        shown = anna.ends(16)
    assert "no message of a pairing" in shown
    assert BURNED in shown


# --- No, and Ctrl-C -----------------------------------------------------------------------


@pytest.mark.parametrize("who", ["anna", "bert"])
def test_a_no_of_either_owner_pins_nobody(start, desk, who):
    anna, endpoint, code = listens(start)
    bert = connects(start, endpoint)
    bert.types(code)
    for end, name in ((anna, "anna"), (bert, "bert")):
        end.sees(r"\[y/N\] ")
        end.types("" if name == who else "y")
    shown = {"anna": anna.ends(16), "bert": bert.ends(16)}
    assert "you said no; nothing was added" in shown.pop(who)
    assert "owner said no; nothing was added" in shown.popitem()[1]
    assert peers(desk, "anna") == peers(desk, "bert") == {}


def test_an_interrupt_before_anybody_came(start, desk):
    anna, _, _ = listens(start)
    anna.interrupts()
    assert BURNED in anna.ends(130)


def test_an_interrupt_at_the_code(start, desk):
    anna, endpoint, _ = listens(start)
    bert = connects(start, endpoint)
    bert.interrupts()
    bert.ends(130)
    anna.interrupts()
    anna.ends(130)
    assert peers(desk, "anna") == peers(desk, "bert") == {}


@pytest.mark.parametrize("who", ["anna", "bert"])
@pytest.mark.parametrize("has_decided", [False, True])
def test_an_interrupt_at_the_question_or_after_the_answer(start, desk, who, has_decided):
    anna, endpoint, code = listens(start)
    bert = connects(start, endpoint)
    bert.types(code)
    ends = {"anna": anna, "bert": bert}
    for end in ends.values():
        end.sees(r"\[y/N\] ")
    interrupted = ends.pop(who)
    other = ends.popitem()[1]
    if has_decided:
        interrupted.types("y")
        interrupted.sees("waiting for the other side's owner")
    interrupted.interrupts()
    shown = interrupted.ends(130)
    # A connector that said yes cannot know what its word did: who gives up does not prove it.
    assert (NOT_KNOWN if who == "bert" and has_decided else BURNED) in shown
    other.types("y")
    shown = other.ends(16)
    assert "the other side gave up\r\n" in shown
    if who == "bert" and has_decided and "is in anna.node" in shown:
        # Anna took Bert at his word, and is told that she does not know the rest.
        assert NOT_KNOWN in shown
        assert peers(desk, "anna") == {"bert": ("orders",)}
    else:
        assert (BURNED if who == "bert" else NOT_KNOWN) in shown
        assert peers(desk, "anna") == {}
    assert peers(desk, "bert") == {}


# --- Ends that the test plays -------------------------------------------------------------


def play(line: Line, end: Connector | Listener, *states: State) -> None:
    """Exchange messages until one of these states; owners say yes."""
    while end.state not in states:
        message = line.receive(clock.monotonic() + 60 * clock.SECOND)
        assert message is not None
        answer = end.receive(message, clock.monotonic())
        if answer is not None:
            line.send(answer)
        if end.state in {State.PROVEN, State.WILLING}:
            decision = end.decide(accepts=True, now=clock.monotonic())
            if decision is not None:
                line.send(decision)


def test_a_listener_that_does_not_hear_the_last_message_says_what_it_knows(start, desk):
    anna, endpoint, code = listens(start, f"{ASKED_OF_ANNA} --yes")
    bert = Connector(identity("bob"), code, now=clock.monotonic())
    with Line(endpoint, listens=False) as line:
        line.send(bert.begin(clock.monotonic()))
        play(line, bert, State.AGREED)
        line.send(bert.give_up())
        shown = anna.ends(16)
    assert f"'bert' is in anna.node/peers.toml; {NOT_KNOWN}" in shown
    assert peers(desk, "anna") == {"bert": ("orders",)}

    # Pairing again makes it whole, and changes nothing here.
    before = (desk / "anna.node" / "peers.toml").read_bytes()
    anna, endpoint, code = listens(start, "--name bert --contexts other")
    bert = Connector(identity("bob"), code, now=clock.monotonic())
    with Line(endpoint, listens=False) as line:
        line.send(bert.begin(clock.monotonic()))
        play(line, bert, State.AWAITS_DECISION)
        anna.sees(r"with this key; it stays as it is\s+go on\? \[y/N\] ")
        anna.types("y")
        play(line, bert, State.AGREED)
        line.send(bert.written(clock.monotonic()))
        assert "was in anna.node/peers.toml already" in anna.ends(0)
    assert (desk / "anna.node" / "peers.toml").read_bytes() == before


def test_a_connector_that_cannot_write_says_that_the_other_side_has(start, desk):
    with Line("tcp://127.0.0.1:*", listens=True) as line:
        code = codes.generate()
        anna = Listener(identity("alice"), code, now=clock.monotonic())
        bert = connects(start, line.endpoint)
        bert.types(code)
        play(line, anna, State.AWAITS_DECISION)
        bert.sees(r"\[y/N\] ")
        file = desk / "bert.node" / "peers.toml"
        inline = f'peer = [{{name = "x", key = "{identity("carol").public}", contexts = ["*"]}}]\n'
        file.write_text(inline, encoding="utf-8")
        bert.types("y")
        play(line, anna, State.AGREED)
        line.send(anna.written(clock.monotonic()))
        shown = bert.ends(2)
    assert "nothing was added here; the other side has added you" in shown
    assert "add it by hand" in shown
    assert file.read_text(encoding="utf-8") == inline


@pytest.mark.parametrize(
    ("name", "key", "reason"),
    [
        ("bert", "carol", "there is a 'bert' already, with another key"),
        ("carol", "bob", "this key is there already, as 'carol'"),
    ],
)
def test_a_peer_of_the_same_name_or_key_is_never_written_over(start, desk, name, key, reason):
    file = desk / "anna.node" / "peers.toml"
    table = f'[[peer]]\nname = "{name}"\nkey = "{identity(key).public}"\ncontexts = ["*"]\n'
    file.write_text(table, encoding="utf-8")
    anna, endpoint, code = listens(start)
    bert = Connector(identity("bob"), code, now=clock.monotonic())
    with Line(endpoint, listens=False) as line:
        line.send(bert.begin(clock.monotonic()))
        play(line, bert, State.AWAITS_DECISION)
        shown = anna.ends(2)
    assert reason in shown
    assert BURNED in shown
    assert file.read_text(encoding="utf-8") == table


class Loop:
    """A line whose other end is in the same place, and whose owner says yes."""

    endpoint = "here"

    def __init__(self, other: Listener) -> None:
        self.other = other
        self.waiting: list[bytes] = []

    def send(self, message: bytes) -> None:
        now = clock.monotonic()
        try:
            answers = [self.other.receive(message, now)]
        except PairingError:
            return
        if self.other.state is State.PROVEN:
            answers.append(self.other.decide(accepts=True, now=now))
        if self.other.state is State.AGREED:
            answers.append(self.other.written(now))
        self.waiting += filter(None, answers)

    def receive(self, _: int) -> bytes | None:
        return self.waiting.pop(0) if self.waiting else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@pytest.fixture
def loop(monkeypatch):
    code = codes.generate()
    line = Loop(Listener(identity("alice"), code, now=clock.monotonic()))
    monkeypatch.setattr("envelope.cli.pairing.Line", lambda *_, **__: line)
    line.code = code
    return line


PAIR_AS_BOB = (
    *("pair", "--connect", "x", "--identity", "bob.key", "--trust", "believed.toml"),
    *("--name", "anna", "--contexts", "orders", "--yes"),
)


def test_an_end_that_is_stopped_after_writing_says_that_both_have_written(
    run, loop, desk, monkeypatch
):
    def stop(*_):
        raise OSError(5, "the line is gone")

    (desk / "believed.toml").touch()
    monkeypatch.setattr(Connector, "written", stop)
    ended = run(*PAIR_AS_BOB, stdin=loop.code.encode(), diagnosed=False)
    assert ended.status == 1
    assert "'anna' is in believed.toml; the other side has added you" in ended.err
    assert [peer.name for peer in TrustStore.load(desk / "believed.toml")] == ["anna"]


def test_a_trust_file_that_went_away_is_told_and_nothing_is_said_to_be_in_it(
    run, loop, desk, monkeypatch
):
    file = desk / "believed.toml"
    file.touch()
    decide = Connector.decide

    def vanish(*arguments, **named):
        file.unlink()
        return decide(*arguments, **named)

    monkeypatch.setattr(Connector, "decide", vanish)
    ended = run(*PAIR_AS_BOB, stdin=loop.code.encode(), diagnosed=False)
    assert ended.status == 2
    assert "nothing was added here; the other side has added you" in ended.err
    assert "does not exist" in ended.err


def test_a_silent_other_side_ends_it_in_time(run, loop, desk, monkeypatch):
    (desk / "believed.toml").touch()
    monkeypatch.setitem(exchange._PATIENCE, State.AWAITS_ANSWER, -1)
    ended = run(*PAIR_AS_BOB, stdin=loop.code.encode(), diagnosed=False)
    assert ended.status == 16
    assert "too late: this end waits for the other side to answer" in ended.err
    assert BURNED in ended.err
    assert (desk / "believed.toml").read_bytes() == b""


# --- Options ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("--node anna.node", "--listen ENDPOINT"),
        ("--node anna.node --listen tcp://127.0.0.1:* --connect tcp://x:1", "--listen ENDPOINT"),
        ("--listen tcp://127.0.0.1:*", "who pairs?"),
        ("--identity alice.key --listen tcp://127.0.0.1:*", "who pairs?"),
        ("--trust peers.toml --listen tcp://127.0.0.1:*", "who pairs?"),
        ("--node anna.node --listen tcp://127.0.0.1:* --yes --name x", "needs --name and"),
        ("--node anna.node --listen nowhere --name x --contexts y", "cannot listen at"),
        ("--node anna.node --listen tcp://127.0.0.1:* --name x --contexts y*z", "a * stands"),
        ("--node anna.node --listen tcp://127.0.0.1:*", "no answer on stdin"),
        ("--node anna.node --connect tcp://127.0.0.1:9 --name x --contexts y", "no answer"),
    ],
)
def test_options_that_do_not_fit_end_before_anything_is_sent(run, desk, options, reason):
    Node.create(desk / "anna.node").close()
    refused = run("pair", *options.split(), diagnosed=False)
    assert refused.status == 2
    assert reason in refused.err
    assert refused.out == b""


def test_without_the_extra_the_command_says_what_to_install(run, monkeypatch):
    for name in [
        name
        for name in sys.modules
        if name.startswith(("envelope.pairing", "envelope.cli.pairing", "spake2"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("envelope.cli.pairing", raising=False)
    monkeypatch.setitem(sys.modules, "spake2", None)
    refused = run("pair", "--listen", "tcp://127.0.0.1:*")
    assert refused.status == 2
    assert "pip install 'signed-envelope[pair]'" in refused.err


def test_another_import_that_fails_is_a_bug_and_not_a_missing_extra(run, monkeypatch):
    monkeypatch.delitem(sys.modules, "envelope.cli.pairing", raising=False)
    monkeypatch.delattr("envelope.cli.pairing", raising=False)
    monkeypatch.setitem(sys.modules, "envelope.zeromq.pairing", None)
    assert "a bug" in run("pair", "--listen", "tcp://127.0.0.1:*").err


def test_a_fingerprint_is_shown_for_a_name_and_for_a_text(run):
    text = run("fingerprint", "--identity", "alice.key", str(identity("bob").public)).text
    named = run("fingerprint", "--identity", "bob.key", "--trust", "peers.toml", "alice").text
    assert text == named
    assert re.fullmatch(r"(\d{5} ){9}\d{5}\n", text)
    refused = run("fingerprint", "--trust", "peers.toml", "alice")
    assert (refused.status, "whose?" in refused.err) == (2, True)


def test_the_guide_pairs_as_it_says(start, desk, shell):
    guide = (ROOT / "docs" / "guides" / "pairing.md").read_text(encoding="utf-8")
    listen, connect, fingerprint = re.findall(r"^    \$ (envelope .*)$", guide, re.MULTILINE)
    anna = start(listen.replace("*:7000", "127.0.0.1:*"))
    endpoint = anna.sees(r"listening at (\S+);")[1]
    code = anna.sees(r"code: (\S+)")[1]
    bert = start(connect.replace("tcp://anna.example:7000", endpoint))
    bert.sees("code: ")
    bert.types(code.replace("-", " "))
    for end in (anna, bert):
        end.sees(r"\[y/N\] ")
        end.types("y")
    anna.ends(0)
    bert.ends(0)
    assert peers(desk, "anna") == {"bert": ("orders",)}
    assert peers(desk, "bert") == {"anna": ("orders.*",)}
    assert re.fullmatch(r"(\d{5} ){9}\d{5}\n", shell(fingerprint).text)
