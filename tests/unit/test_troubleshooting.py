"""The troubleshooting guide has every code, and quotes what the log says."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
from crafting import craft
from support import World, identity

from envelope import Opener, Peer, Policy, TrustStore
from envelope.errors import CODES, RejectedError, StoreUnavailableError
from envelope.reasons import REMEDIES

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "troubleshooting.md"
SECTION = re.compile(r"^## `(\w+)`\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
ALICE, BOB, CAROL = (identity(name).public for name in ("alice", "bob", "carol"))


class Silent(logging.Handler):
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


def line_of(code):
    """Return what the log says when an opener refuses with a code."""
    world = World()
    opener, data, bound = globals()[code](world)
    assert isinstance(opener, Opener)
    handler = Silent()
    log = logging.getLogger("envelope.opener")
    log.addHandler(handler)
    try:
        with pytest.raises(RejectedError) as told:
            opener.open(data, bound=bound)
    finally:
        log.removeHandler(handler)
    assert told.value.code == code
    (line,) = handler.lines
    return line


def test_there_is_a_section_for_each_code_in_their_order():
    sections = SECTION.findall(GUIDE.read_text(encoding="utf-8"))
    assert tuple(code for code, _ in sections) == CODES


@pytest.mark.parametrize("code", CODES)
def test_a_section_quotes_the_line_and_says_what_to_do(code):
    text = dict(SECTION.findall(GUIDE.read_text(encoding="utf-8")))[code]
    quoted = " ".join(line.strip() for line in text.splitlines() if line.startswith("    "))
    assert quoted == line_of(code)
    for word in ("**Cause.**", "**What to do.**"):
        assert word in text


def test_a_remedy_is_for_a_code_that_exists():
    assert set(REMEDIES) <= set(CODES)


@pytest.mark.parametrize("code", CODES)
def test_a_line_fits_on_a_screen_and_is_one_line(code):
    line = line_of(code)
    assert line.isprintable()
    assert len(line) < 300
