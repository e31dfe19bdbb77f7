"""What a manager keeps, counts and hands on with each call (SPEC 18.6 to 18.12)."""

from __future__ import annotations

import pytest
from sides import Pair
from support import identity

from envelope.forks import process

ALICE, BOB = identity("alice"), identity("bob")


@pytest.fixture
def forked(monkeypatch):
    """Return what makes this process another, as a fork does; its parent is forgotten."""
    return lambda: monkeypatch.setattr(process, "told", process.told + 1)


# Another process.


@pytest.mark.audit("A18", "C6")
@pytest.mark.parametrize(
    "call",
    [
        lambda side, _: side.manager.send(b"x"),
        lambda side, data: side.hear(data),
        lambda side, _: side.manager.tick(),
    ],
    ids=["send", "receive", "tick"],
)
def test_whatever_is_called_first_in_another_process_nothing_of_the_parent_is_left(call, forked):
    pair = Pair().open()
    data = pair.bob.manager.send(b"to the parent")
    manager, channel = pair.alice.manager, pair.alice.current
    end, tables, outbox, lost = manager._end, manager._tables, manager.outbox, manager.lost
    outbox.append("the parent's")
    forked()
    assert not manager.is_open()
    call(pair.alice, data)
    assert channel._send_key == channel._receive_key == b""
    assert manager._tables is not tables
    assert manager._tables is manager._exchange.tables
    assert manager._channels is manager._tables.channels == {}
    assert manager._links is manager._tables.links
    assert manager.outbox is manager._exchange.outbox
    assert "the parent's" not in manager.outbox
    assert (manager.lost, manager.lost is lost) == (manager._exchange.lost, False)
    assert manager.stats.accepted == 0
    # It is the same end, which counts anew.
    assert manager._end.tally is manager._tally is not end.tally
    assert manager._end.identity is end.identity
    # And once: what it begins now stays.
    manager.outbox.clear()
    exchange = manager._exchange
    manager.send(b"y")
    manager.tick()
    assert manager._exchange is exchange
    assert manager.staged > 0
