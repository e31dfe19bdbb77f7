"""The vectors, through the package and through the reference (SPEC 15).

Rules of this file: the package is asked by its public face alone, with clock and
replay memory handed in. The one exception is a stream that a vector says this
process began: it is registered under the vector's id.
"""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support import FakeClock
from vectors import example, generate
from vectors.world import Json, describe, open_by_reference, reference_receiver, unhex

from envelope import (
    Identity,
    Opener,
    Peer,
    Policy,
    PublicIdentity,
    RejectedError,
    TrustStore,
    clock,
)
from envelope.errors import CODES
from envelope.replay import MemoryReplayStore
from envelope.stream import Stream

HERE = Path(__file__).parent
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FILES = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted(HERE.glob("*.json"))
    if path.stem not in ("derive", "session")
}
CASES = [
    pytest.param(file["keys"], case, id=f"{outcome}:{case['name']}")
    for outcome, file in FILES.items()
    for case in file["cases"]
]


class FixedHalf:
    """Stands for the hash of SPEC 6.2, so that a stream gets the id of a vector."""

    def __init__(self, half: bytes) -> None:
        self.half = half

    def copy(self) -> FixedHalf:
        return self

    def update(self, data: bytes) -> None:
        pass

    def digest(self) -> bytes:
        return self.half


class Player:
    """The package's receiver of one case."""

    def __init__(self, keys: Json, case: Json) -> None:
        place = case["receiver"]
        self.clock = FakeClock(case["openings"][0]["now"])
        limits = dict(place["policy"])
        store_start = 0 if place["cold"] is None else place["cold"] - limits["max_future"]
        for name in ("max_age", "max_future"):
            limits[name] /= clock.SECOND
        replay = MemoryReplayStore(first_life=place["cold"] is None, clock=lambda: store_start)
        self.streams = [begin_stream(one) for one in unhex(place["own_streams"])]
        self.opener = Opener(
            TrustStore(peer(keys, one) for one in case["trust"]),
            context=place["context"],
            identity=[Identity(bytes.fromhex(keys[name]["seed"])) for name in place["identities"]]
            or None,
            replay=replay,
            policy=Policy(**limits),
            domain="vectors",
            clock=self.clock,
            monotonic=self.clock,
        )

    def open(self, opening: Json) -> Json:
        """Return ``result`` and, if it is ok, ``message``."""
        self.clock.now = opening["now"]
        reply = opening["in_reply_to"]
        options: dict[str, Any] = {
            "bound": unhex(opening["bound"]),
            "in_reply_to": None if reply is None else bytes.fromhex(reply),
        }
        data = bytes.fromhex(opening["envelope"])
        try:
            if opening["bundle"]:
                messages = self.opener.open_bundle(data, **options)
            else:
                messages = [self.opener.open(data, **options)]
        except RejectedError as error:
            return {"result": error.code}
        assert all(message.in_reply_to == options["in_reply_to"] for message in messages)
        return {"result": "ok", "message": describe(messages, messages[0].sender.name)}


def begin_stream(stream_id: bytes) -> Stream:
    start = int.from_bytes(stream_id[:8], "big")
    stream = Stream(FixedHalf(stream_id[8:]), now=start, ns=0, random=bytes)
    assert stream.id == stream_id
    return stream


def peer(keys: Json, one: Json) -> Peer:
    return Peer(
        one["name"],
        PublicIdentity(bytes.fromhex(keys[one["key"]]["pub"])),
        contexts=one["contexts"],
        topics=None if one["topics"] is None else unhex(one["topics"]),
        not_before=date(one["not_before"]),
        not_after=date(one["not_after"]),
        revoked=one["revoked"],
    )


def date(unix_us: int | None) -> datetime | None:
    return None if unix_us is None else EPOCH + timedelta(microseconds=unix_us)


def verdicts(case: Json) -> list[Json]:
    return [
        {key: opening[key] for key in ("result", "message") if key in opening}
        for opening in case["openings"]
    ]


@pytest.mark.audit("M2")
@pytest.mark.parametrize(("keys", "case"), CASES)
def test_the_package_gives_the_outcome_of_the_case(keys, case):
    player = Player(keys, case)
    assert [player.open(opening) for opening in case["openings"]] == verdicts(case)


@pytest.mark.audit("M2")
@pytest.mark.parametrize("outcome", FILES)
def test_the_reference_gives_the_outcome_of_every_case(outcome):
    for case in FILES[outcome]["cases"]:
        receiver = reference_receiver(case)
        got = [open_by_reference(receiver, opening) for opening in case["openings"]]
        assert got == verdicts(case), case["name"]


@pytest.mark.audit("R1")
@pytest.mark.parametrize("outcome", FILES)
def test_a_refusal_changes_no_replay_state(outcome):
    for case in FILES[outcome]["cases"]:
        player = Player(FILES[outcome]["keys"], case)
        for opening in case["openings"]:
            before = player.opener.replay.state()
            is_accepted = player.open(opening)["result"] == "ok"
            assert (player.opener.replay.state() != before) is is_accepted, case["name"]


@pytest.mark.audit("M2")
def test_there_is_a_file_for_each_code_that_an_envelope_can_cause():
    assert set(FILES) == {*CODES, "ok"} - {"store_unavailable", "unknown_session"}
    for outcome, file in FILES.items():
        assert file["outcome"] == outcome
        assert file["cases"]
        assert all(case["openings"][-1]["result"] == outcome for case in file["cases"])


def test_the_files_are_what_the_generator_writes():
    done = subprocess.run(
        [sys.executable, HERE / "generate.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_generator_tells_which_file_differs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(generate, "HERE", tmp_path)
    monkeypatch.setattr(generate, "build", lambda: {"one.json": "1\n", "two.json": "2\n"})
    (tmp_path / "older.json").write_text("0\n", encoding="utf-8")
    assert generate.main(["--check"]) == 1
    assert capsys.readouterr().err.split()[::6] == ["older.json", "one.json", "two.json"]
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.json", "two.json"]
    (tmp_path / "two.json").write_text("3\n", encoding="utf-8")
    assert generate.main(["--check"]) == 1
    assert capsys.readouterr().err == "two.json is not what generate.py writes\n"
    assert generate.main(["--chekc"]) == 2


def test_the_vectors_stay_small():
    assert sum(path.stat().st_size for path in HERE.glob("*.json")) < 1_500_000


def test_the_example_of_the_specification_is_what_the_reference_computes():
    spec = generate.SPEC.read_text(encoding="utf-8")
    assert example.put_into(spec) == spec


def test_the_reference_imports_nothing_of_the_package():
    probe = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from vectors import generate\n"
        "assert not [name for name in sys.modules if name.split('.')[0] == 'envelope']"
    )
    subprocess.run([sys.executable, "-c", probe, HERE.parent], check=True)
