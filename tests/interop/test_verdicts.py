"""Python and JavaScript come to one verdict about whatever arrives: seeded, so repeatable."""

import hashlib
import json
import logging
import random
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from envelope import (
    Identity,
    Opener,
    Peer,
    Policy,
    PublicIdentity,
    RejectedError,
    Sealer,
    TrustStore,
)
from envelope.replay import MemoryReplayStore

VECTORS = Path(__file__).parents[1] / "vectors"
NAMES = ["alice", "bob", "carol", "mallory"]
ROWS = json.loads((VECTORS / "derive.json").read_text())["identities"]
KEYS = dict(zip(NAMES, ROWS, strict=False))
IDENTITIES = {name: Identity.parse(row["secret_text"]) for name, row in KEYS.items()}
CONTEXT = "orders"
NOW = 1_800_000_000_000_000
SECOND = 1_000_000
CASES = 400

CODES = {
    "ok",
    "bad_signature",
    "before_start",
    "future",
    "malformed",
    "not_addressed",
    "not_trusted",
    "policy",
    "reflected",
    "replayed",
    "stale",
    "too_large",
    "too_old",
    "unknown_sender",
    "unseal",
    "version",
}


def blake(label, *data, size=64):
    return hashlib.blake2b(label.ljust(128, b"\0") + b"".join(data)).digest()[:size]


def framed(data):
    return len(data).to_bytes(8) + data


def head_size(data):
    """Where the body begins, if what says so holds (SPEC 4.1, 4.2)."""
    count = int.from_bytes(data[6:8])
    return (112 if data[5] & 2 else 80) + (64 + 64 * count if data[4] == 2 else 16 * count)


def sign_again(data, sender, bound):
    """Sign what was changed, as its sender could: so it comes past step 8 of 7.2."""
    row = KEYS[sender]
    place = blake(
        b"env1-context",
        framed(CONTEXT.encode()),
        len(bound).to_bytes(4),
        *(framed(frame) for frame in bound),
    )
    head, body = data[: head_size(data)], data[head_size(data) : -64]
    bind = blake(b"env1-bind", bytes.fromhex(row["pub"]), place, head)
    signed = b"envelope/v1/sign" + bind + blake(b"env1-body", body)
    key = SigningKey(bytes.fromhex(row["ed_seed"]))
    return data[:-64] + key.sign(signed).signature


class World:
    """Envelopes of one case and what becomes of them, all of it by one seed."""

    def __init__(self, seed):
        self.draw = random.Random(seed)
        self.time = NOW
        self.sealers = [self._sealer() for _ in range(self.draw.randint(1, 5))]
        self.made = []  # (envelope, bound frames, sender, request)

    def _sealer(self):
        name = self.draw.choice(["alice"] * 9 + ["bob", "mallory"])
        to = self.draw.choice([(), (), ("bob",), ("bob",), ("bob", "carol"), ("carol",)])
        sealer = Sealer(
            IDENTITIES[name],
            context=CONTEXT,
            to=[IDENTITIES[each].public for each in to],
            sealed=bool(to) and self.draw.random() < 0.8,
            clock=lambda: self.time,
            random=self.draw.randbytes,
        )
        return name, sealer

    def make(self):
        self.time += self.draw.choice([0, 1000, SECOND])
        name, sealer = self.draw.choice(self.sealers)
        bound = self.draw.choice([[], [], [b"eu"], [b"eu", b"x"], [b"us"]])
        reply = self.draw.choice([None] * 5 + [bytes(32)])
        payloads = [self.draw.randbytes(self.draw.choice([0, 2, 300])) for _ in range(3)]
        if self.draw.random() < 0.3:
            data = sealer.seal_bundle(payloads, bound=bound, in_reply_to=reply)
        else:
            data = sealer.seal(payloads[0], bound=bound, in_reply_to=reply)
        self.made.append((data, bound, name, reply))
        return self.made[-1]

    def arrive(self):
        """One opening (SPEC 15.5): something genuine, again, or what an attacker made of it."""
        data, bound, name, request = self.make()
        if self.draw.random() < 0.25:
            data, bound, name, request = self.draw.choice(self.made)
        if self.draw.random() < 0.5:
            data = self.tamper(data, name, bound)
        if self.draw.random() < 0.05:
            bound = self.draw.choice([[b"eu"], [b"e", b"u"], [b""], [b""] * 65])
        delay = self.draw.choice([0] * 12 + [-3 * SECOND, 31 * SECOND])
        return {
            "envelope": data.hex(),
            "now": self.time + delay,
            "bound": [frame.hex() for frame in bound],
            "in_reply_to": self.draw.choice([request and request.hex()] * 18 + [None, "11" * 32]),
            "bundle": self.draw.random() < 0.9,
        }

    def tamper(self, data, name, bound):
        change = self.draw.choice([self.flip, self.edge, self.splice, self.resize])
        changed = change(data)
        whole = len(changed) >= 144 and head_size(changed) + 64 <= len(changed)
        return sign_again(changed, name, bound) if whole and self.draw.random() < 0.6 else changed

    def flip(self, data):
        at = self.draw.randrange(len(data))
        return data[:at] + bytes([data[at] ^ 1 << self.draw.randrange(8)]) + data[at + 1 :]

    def edge(self, data):
        """A field of the header at one of its edges."""
        at, size, values = self.draw.choice(
            [
                (3, 1, [0, 2]),
                (4, 1, [0, 1, 2, 3]),
                (5, 1, [0, 1, 2, 3, 4, 128]),
                (6, 2, [0, 1, 2, 256, 257]),
                (40, 8, [0, 1, 63, 64, 5000, 2**48 - 1, 2**48, 2**53 + 1]),
                (48, 8, [0, NOW - 30 * SECOND, NOW + SECOND, NOW + 99 * SECOND, 2**53]),
            ]
        )
        return data[:at] + self.draw.choice(values).to_bytes(size) + data[at + size :]

    def splice(self, data):
        other, *_ = self.draw.choice(self.made)
        begin = self.draw.choice([8, 24, 40, 56, 80, 112, 144, 160, len(data) - 64])
        end = self.draw.choice([24, 40, 56, 80, 112, 144, 208, len(data)])
        return data[:begin] + other[begin:end] + data[max(begin, end) :]

    def resize(self, data):
        size = self.draw.choice([0, 143, 144, len(data) - 1, len(data) - 16, len(data) + 1])
        return data[:size].ljust(size, b"\0")

    def case(self):
        """A case (SPEC 15.2) without results."""
        identities = self.draw.choice([["bob"]] * 4 + [["carol", "bob"], []])
        accept_own = self.draw.random() < 0.3
        openings = [self.arrive() for _ in range(8)]
        own = {data[24:40].hex() for data, *_ in self.made}  # all were begun in this process
        return {
            "keys": {name: {"seed": row["seed"], "pub": row["pub"]} for name, row in KEYS.items()},
            "trust": [self.entry(name) for name in ("alice", "bob")],
            "receiver": {
                "identities": identities,
                "context": self.draw.choice([CONTEXT] * 20 + ["order"]),
                "policy": {
                    "require": self.draw.choice(["signed"] * 9 + ["sealed"]),
                    "addressed": self.draw.random() < 0.1,
                    "accept_own": accept_own,
                    "max_age": 30 * SECOND,
                    "max_future": 2 * SECOND,
                    "max_size": self.draw.choice([16 * 2**20] * 19 + [300]),
                    "window": 64,
                    "max_streams": self.draw.choice([1, 2, 64]),
                },
                # Begun before the store, so not exempt from cold, which a case cannot say.
                "cold": None if accept_own or self.draw.random() < 0.8 else NOW + 2 * SECOND,
                "own_streams": sorted(own) if accept_own else [],
            },
            "openings": openings,
        }

    def entry(self, name):
        return {
            "name": name,
            "key": name,
            "contexts": self.draw.choice([[CONTEXT], ["*"], ["order", CONTEXT]]),
            "topics": self.draw.choice([None] * 6 + [["6575"]]),
            "not_before": None,
            "not_after": self.draw.choice([None] * 9 + [NOW + 3 * SECOND]),
            "revoked": self.draw.random() < 0.05,
        }


def make_peer(entry):
    public = PublicIdentity.parse(KEYS[entry["key"]]["public_text"])
    until = entry["not_after"] and datetime(1970, 1, 1, tzinfo=UTC) + timedelta(
        microseconds=entry["not_after"]
    )
    return Peer(
        entry["name"],
        public,
        contexts=entry["contexts"],
        topics=entry["topics"] and [bytes.fromhex(topic) for topic in entry["topics"]],
        not_after=until,
        revoked=entry["revoked"],
    )


def in_python(case):
    """What this implementation says to each opening: as `interop/js/verdicts.js` does."""
    receiver = case["receiver"]
    clock = {"now": case["openings"][0]["now"]}
    rules = dict(receiver["policy"])
    rules |= {name: rules[name] / SECOND for name in ("max_age", "max_future")}
    store = MemoryReplayStore(first_life=receiver["cold"] is None, clock=lambda: NOW)
    opener = Opener(
        TrustStore([make_peer(entry) for entry in case["trust"]]),
        context=receiver["context"],
        identity=[IDENTITIES[name] for name in receiver["identities"]],
        replay=store,
        policy=Policy(**rules),
        domain="here",
        clock=lambda: clock["now"],
    )
    verdicts = []
    for opening in case["openings"]:
        clock["now"] = opening["now"]
        verdicts.append(verdict_of(opener, opening))
    return verdicts


def verdict_of(opener, opening):
    data = bytes.fromhex(opening["envelope"])
    bound = [bytes.fromhex(frame) for frame in opening["bound"]]
    request = opening["in_reply_to"] and bytes.fromhex(opening["in_reply_to"])
    take = opener.open_bundle if opening["bundle"] else opener.open
    try:
        came = take(data, bound=bound, in_reply_to=request)
    except RejectedError as error:
        return {"result": error.code}
    messages = list(came) if opening["bundle"] else [came]
    first = messages[0]
    return {
        "result": "ok",
        "message": {
            "sender": first.sender.name,
            "sealed": first.sealed,
            "stream": first.stream.hex(),
            "sequence": first.sequence,
            "sent_at": first.sent_at,
            "skipped": first.skipped,
            "payloads": [message.payload.hex() for message in messages],
            "ids": {str(message.index): message.id.hex() for message in messages},
        },
    }


@pytest.mark.audit("A1", "A2", "M2")
def test_both_come_to_one_verdict(javascript, caplog):
    caplog.set_level(logging.CRITICAL, "envelope")  # thousands of refusals, each a line
    cases = [World(seed).case() for seed in range(CASES)]
    ran = subprocess.run(
        ["node", "verdicts.js"],
        cwd=javascript,
        input="".join(json.dumps(case) + "\n" for case in cases),
        capture_output=True,
        text=True,
        check=True,
    )
    theirs = [json.loads(line) for line in ran.stdout.splitlines()]
    ours = [in_python(case) for case in cases]
    for seed, (case, here, there) in enumerate(zip(cases, ours, theirs, strict=True)):
        assert here == there, (seed, case)
    assert {each["result"] for verdicts in ours for each in verdicts} == CODES
