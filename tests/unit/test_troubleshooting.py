"""The troubleshooting guide has every code, and quotes what the log says."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
from crafting import craft
from support import World, identity

from envelope import Opener, Peer, Policy, TrustStore
from envelope.errors import CODES, RejectedError, RequestError, StoreUnavailableError
from envelope.session import SessionManager

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "troubleshooting.md"
SECTION = re.compile(r"^## `(\w+)`\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
ALICE, BOB, CAROL = (identity(name).public for name in ("alice", "bob", "carol"))


class Kept(logging.Handler):
    """Keeps what is logged."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


def too_large(world):
    return world.opener(policy=Policy(max_size=1000)), world.sealer().seal(bytes(2000)), ()


def malformed(world):
    return world.opener(), b"hello, is anybody there? " * 10, ()


def version(world):
    data = bytearray(world.sealer().seal(b""))
    data[3] = 2
    return world.opener(), bytes(data), ()


def policy(world):
    return world.opener(policy=Policy(require="sealed")), world.sealer().seal(b""), ()


def unknown_sender(world):
    return world.opener(), world.sealer(world.mallory).seal(b""), ()


def reflected(world):
    return world.opener(world.alice), world.sealer().seal(b""), ()


def not_trusted(world):
    trust = TrustStore([Peer("alice", ALICE, contexts=["invoices"])])
    return world.opener(trust=trust), world.sealer().seal(b""), ()


def not_addressed(world):
    return world.opener(), world.sealer(to=[CAROL]).seal(b""), ()


def stale(world):
    data = world.sealer().seal(b"")
    world.clock.advance(61.5)
    return world.opener(), data, ()


def future(world):
    opener = world.opener()
    world.clock.advance(7.25)
    data = world.sealer().seal(b"")
    world.clock.advance(-7.25)
    return opener, data, ()


def before_start(world):
    data = world.sealer().seal(b"")
    return world.opener(replay=world.store(first_life=False)), data, ()


def too_old(world):
    opener = world.opener(policy=Policy(window=64))
    sealer = world.sealer()
    first = sealer.seal(b"")
    for _ in range(64):
        opener.open(sealer.seal(b""))
    return opener, first, ()


def replayed(world):
    opener = world.opener()
    data = world.sealer().seal(b"")
    opener.open(data)
    return opener, data, ()


def bad_signature(world):
    return world.opener(), world.sealer().seal(b"", bound=[b"eu"]), [b"us"]


def unseal(world):
    return world.opener(), craft(world.alice, b"", to=[BOB], sealed=True, spoil_tag=True), ()


def store_unavailable(world):
    opener = world.opener()

    class Gone:
        def check(self, *_, **__):
            raise StoreUnavailableError

    opener._senders.find(opener.trust.snapshot, ALICE.key_id).guard = Gone()
    return opener, world.sealer().seal(b""), ()


def unknown_session(world):
    ends = [
        SessionManager(one, world.trust, context="orders", clock=world.clock)
        for one in (world.alice, world.bob, world.bob)
    ]
    asking, first, restarted = ends
    asking.send(b"", to=BOB)
    first.receive(asking.outbox.popleft().data)
    asking.receive(first.outbox.popleft().data)
    return restarted, asking.outbox.popleft().data, ()


def line_of(code):
    """Return what the log says when an opener, or a session, refuses with a code."""
    world = World()
    opener, data, bound = globals()[code](world)
    receive = opener.open if isinstance(opener, Opener) else opener.receive
    handler = Kept()
    log = logging.getLogger("envelope.opener")
    log.addHandler(handler)
    try:
        with pytest.raises(RejectedError) as told:
            receive(data, bound=bound)
    finally:
        log.removeHandler(handler)
    assert told.value.code == code
    (line,) = handler.lines
    return line


def test_there_is_one_section_for_each_code_in_their_order():
    headings = re.findall(r"^#+ .*$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)
    others = ["# Troubleshooting", "## What requests say"]
    assert headings == [others[0], *(f"## `{code}`" for code in CODES), others[1]]


@pytest.mark.parametrize("code", CODES)
def test_a_section_quotes_the_line_and_says_what_to_do(code):
    text = dict(SECTION.findall(GUIDE.read_text(encoding="utf-8")))[code]
    quoted = " ".join(line.strip() for line in text.splitlines() if line.startswith("    "))
    assert quoted == line_of(code)
    told = re.findall(r"^\*\*(.*?)\.\*\* \S", text, re.MULTILINE)
    assert told == ["Cause", "How to tell", "What to do"]


def test_there_is_an_account_of_each_error_of_a_request():
    last = GUIDE.read_text(encoding="utf-8").split("## What requests say")[1]
    for error in RequestError.__subclasses__():
        assert f"`{error.__name__}`: " in last


@pytest.mark.parametrize("code", CODES)
def test_a_line_fits_on_a_screen_and_is_one_line(code):
    line = line_of(code)
    assert line.isprintable()
    assert len(line) < 400
