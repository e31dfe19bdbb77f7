"""The corpora of fuzz/ are replayed, and its mutators go on from there for a moment.

Rules of this file: no atheris is needed. What a campaign found stays found, since the
inputs that reach the most are kept.
"""

from __future__ import annotations

import logging
import sys
from random import Random

import pytest

from envelope import codec, keyfile, reasons, text, trustfile, wire
from envelope.pairing import transcript
from envelope.pairing.exchange import Connector, Listener
from envelope.pairing.transcript import Transcript
from envelope.replay import zones
from envelope.replay.guard import Guard
from envelope.replay.window import Window
from envelope.session import wire as session_wire
from envelope.zeromq import relayfile
from fuzz import harness
from fuzz.mutations import any_change
from fuzz.replay import minimise

ROUNDS = 25
HARNESSES = {name: harness.load(name) for name in harness.names()}


@pytest.fixture(autouse=True)
def _in_silence():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.audit("P4")
@pytest.mark.parametrize("found", HARNESSES.values(), ids=HARNESSES)
def test_every_input_of_a_corpus_keeps_the_invariant(found):
    assert found.corpus
    for data in found.corpus:
        found.check(data)


@pytest.mark.audit("P4")
@pytest.mark.parametrize("found", HARNESSES.values(), ids=HARNESSES)
def test_what_a_mutator_makes_of_a_corpus_keeps_the_invariant(found):
    random = Random(found.name)
    change = any_change(random)
    pool = found.corpus
    for _ in range(ROUNDS):
        data = random.choice(pool)
        for _ in range(random.randrange(1, 4)):
            if found.mutate is None:
                data = change(data, found.size)
            else:
                data = found.mutate(data, found.size, random, change)[: found.size]
        found.check(data)


@pytest.mark.parametrize("found", HARNESSES.values(), ids=HARNESSES)
def test_a_harness_says_what_holds_and_its_corpus_is_small(found):
    assert found.invariant.endswith(".")
    assert found.covers
    assert len(found.corpus) <= 200
    assert max(map(len, found.corpus)) <= found.size


def test_no_corpus_is_without_a_harness():
    assert sorted(folder.name for folder in harness.CORPUS.iterdir()) == harness.names()


def test_atheris_is_not_needed():
    assert "atheris" not in sys.modules


# Whatever is weakened here, some input of the corpus tells.
WEAKER = {
    "a time beyond its width": ("headers", wire, "MAX_SENT_AT", 2**64),
    "a sequence beyond its width": ("headers", wire, "MAX_SEQUENCE", 2**64),
    "many recipients": ("headers", wire, "MAX_RECIPIENTS", 65_535),
    "key ids in any order": ("headers", wire, "_check_ascending", lambda *_: None),
    "payloads without number": ("bundle", codec, "_unpack", lambda packed: [packed]),
    "deep nesting": ("objects", codec, "MAX_DEPTH", 40),
    "no look before decoding": ("objects", codec, "_scan", lambda _: None),
    "any checksum": ("text", text, "H", lambda n, *_: bytes(n)),
    "no locked key file": ("keyfile", keyfile, "_MAX_PASSES", 0),
    "unknown keys": ("trustfile", trustfile, "_OPTIONAL", ("else",)),
    "a plain end on the network": ("relayfile", relayfile, "_is_local", lambda _: True),
    "a window that forgets": ("window", Window, "has", lambda *_: False),
    "dead zones that are forgotten": ("storefile", zones, "bury", lambda _, cold: ([], cold)),
    "a guard that forgets": ("guard", Guard, "_drop", lambda self, one: self._entries.pop(one)),
    "a session that forgets": ("session", Window, "has", lambda *_: False),
    "flags that nobody checks": ("session_wire", session_wire, "check_flags", lambda *_: None),
    "keys that nobody proves": ("pairing", Transcript, "check_proof", lambda *_: None),
    "proofs of another run": (
        "pairing",
        Transcript,
        "_statement",
        lambda _, kind, prover, other: bytes((kind,)) + prover.public + other.public,
    ),
    "a run that waits for ever": ("pairing", Listener, "check_time", lambda *_: None),
    "an encryption key that nobody proves": ("pairing", transcript, "equal", lambda *_: True),
    "a code for many guesses": ("pairing", Listener, "_end", lambda _: None),
    "a yes that nobody says": ("pairing", Connector, "_hear", lambda *_: None),
    "reasons that raise": ("opener", reasons, "policy", lambda *_: 1 // 0),
}


@pytest.mark.parametrize(("name", "where", "what", "weaker"), WEAKER.values(), ids=WEAKER)
def test_a_corpus_tells_when_a_parser_is_another(monkeypatch, name, where, what, weaker):
    found = HARNESSES[name]
    monkeypatch.setattr(where, what, weaker)
    assert any(fails(found.check, data) for data in found.corpus)


def fails(check, data) -> bool:
    try:
        check(data)
    except Exception:  # noqa: BLE001 (whatever a fuzzer would stop at)
        return True
    return False


def test_a_corpus_is_minimal():
    found = HARNESSES["headers"]
    assert set(minimise(found, [])) == set(found.corpus)
