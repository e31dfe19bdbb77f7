"""Whatever arrives, the package and the reference come to one verdict (SPEC 7, 8).

Rules of this file: whatever differs between the two is a bug in one of them, or in
docs/SPEC.md.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import START, FakeClock
from vectors import reference
from vectors.reference import Identity as ReferenceIdentity
from vectors.reference import pack_bundle
from vectors.reference_opener import Policy as ReferencePolicy
from vectors.reference_opener import Receiver, Refused, decode
from vectors.world import (
    ALICE,
    BOB,
    CAROL,
    NOW,
    SECOND,
    craft,
    epoch,
    id_of,
    identity,
    sealed,
    stream,
)

from envelope import (
    Identity,
    Opener,
    Peer,
    Policy,
    PublicIdentity,
    RejectedError,
    Sealer,
    TrustStore,
    message_id,
)
from envelope.replay import MemoryReplayStore

ROWS = json.loads((Path(__file__).parent / "derive.json").read_text(encoding="utf-8"))
CROWD = [identity(f"crowd-{number}") for number in range(3)]
PEERS = {"alice": ALICE, "bob": BOB, "carol": CAROL}


def package(who: ReferenceIdentity) -> Identity:
    return Identity(who.seed)


def public(who: ReferenceIdentity) -> PublicIdentity:
    return PublicIdentity(who.pub)


def opener_for(
    clock: FakeClock, identities: tuple[ReferenceIdentity, ...], **limits: float
) -> Opener:
    """Return the package's receiver of the place that ``Both`` stands in."""
    return Opener(
        TrustStore(Peer(name, public(who), contexts=["orders"]) for name, who in PEERS.items()),
        context="orders",
        identity=[package(who) for who in identities],
        replay=MemoryReplayStore(first_life=True, clock=clock),
        policy=Policy(**limits),
        domain="both",
        clock=clock,
        monotonic=clock,
    )


class Both:
    """The package's receiver and the reference's, of the same place and policy."""

    def __init__(self, identities: tuple[ReferenceIdentity, ...] = (BOB,), **limits: int) -> None:
        self.clock = FakeClock(NOW)
        self.receiver = Receiver(
            [reference.Peer(name, who.pub, ["orders"]) for name, who in PEERS.items()],
            "orders",
            list(identities),
            ReferencePolicy(**limits),
        )
        self.opener = opener_for(self.clock, identities, **limits)

    def open(self, data: bytes, bound: list[bytes], reply: bytes | None) -> str:
        """Open with both; return the one verdict."""
        try:
            messages = self.receiver.open(
                data, clock=self.clock.now, bound=bound, in_reply_to=reply, bundle=True
            )
            expected = [(one.payload, one.id, one.skipped) for one in messages]
            verdict = "ok"
        except Refused as refused:
            expected, verdict = [], refused.code
        try:
            messages = self.opener.open_bundle(data, bound=bound, in_reply_to=reply)
            got = [(one.payload, one.id, one.skipped) for one in messages], "ok"
        except RejectedError as error:
            got = [], error.code
        assert got == (expected, verdict)
        return verdict


REQUEST = bytes(range(32))
VALID = [
    (craft(), [], None),
    (craft(to=[BOB, CAROL]), [], None),
    (sealed(), [], None),
    (sealed(to=[BOB, *CROWD]), [], None),
    (sealed(pack_bundle([b"one", b"two"]), bundle=True), [], None),
    (craft(pack_bundle([b"one", bytes(300)]), bundle=True), [], None),
    (craft(in_reply_to=REQUEST), [], REQUEST),
    (sealed(in_reply_to=REQUEST, sequence=70), [], REQUEST),
    (sealed(keys=epoch("second"), stream=stream("second")), [], None),
    (craft(by=CAROL, bound=[b"topic"]), [b"topic"], None),
    (sealed(by=CAROL, bound=[b"topic", b""]), [b"topic", b""], None),
    (craft(by=BOB), [], None),
]
MUTATIONS = {
    "flip": lambda data, at, mask, _: (
        data[:at] + bytes(byte ^ mask for byte in data[at : at + 1]) + data[at + 1 :]
    ),
    "set": lambda data, at, _, other: data[:at] + other[at : at + 8] + data[at + 8 :],
    "cut": lambda data, at, *_: data[:at],
    "grow": lambda data, at, mask, other: data[:at] + other[:mask] + data[at:],
    "drop": lambda data, at, mask, _: data[:at] + data[at + mask :],
    "splice": lambda data, at, _, other: data[:at] + other[at:],
    "readdress": lambda data, *_: data.replace(CAROL.key_id, BOB.key_id),
    "rename": lambda data, *_: data.replace(ALICE.key_id, CAROL.key_id),
}


@st.composite
def mutated(draw):
    """A valid envelope after one to three mutations, and how its receiver opens it."""
    data, bound, reply = draw(st.sampled_from(VALID))
    for _ in range(draw(st.integers(1, 3))):
        mutate = MUTATIONS[draw(st.sampled_from(sorted(MUTATIONS)))]
        # Most decisions are made on the header, most failures are in what follows.
        at = draw(st.one_of(st.integers(0, 80), st.integers(81, 300)))
        other, *_ = draw(st.sampled_from(VALID))
        data = mutate(data, at, draw(st.integers(1, 255)), other)
    if draw(st.booleans()):
        data = signed_again(data, bound)
    return data, bound, reply


def signed_again(data: bytes, bound: list[bytes]) -> bytes:
    """Return the envelope with a valid signature, as far as it is one with a sender."""
    try:
        parts = decode(data)
        by = next(who for who in PEERS.values() if who.key_id == parts.sender)
    except (Refused, StopIteration):
        return data
    return reference.sign_envelope(
        by, reference.context_hash("orders", bound), parts.head, parts.body
    )


BOUNDS = st.sampled_from([[], [b"topic"], [b"a"] * 64, [b"a"] * 65])


@pytest.mark.audit("A1", "A2", "M2", "P4")
@given(opening=mutated(), both_identities=st.booleans())
def test_a_mutated_envelope_gets_one_verdict(opening, both_identities):
    Both((BOB, CAROL) if both_identities else (BOB,)).open(*opening)


@pytest.mark.audit("P4")
@given(data=st.binary(max_size=400), bound=BOUNDS)
def test_garbage_gets_one_verdict(data, bound):
    both = Both()
    both.open(data, bound, None)
    both.open(b"ENV\1" + data, bound, None)


@st.composite
def strange_fields(draw):
    """Fields of a header, each right or at some edge."""
    fields = {}
    for name, values in {
        "version": [0, 1, 2],
        "kind": [0, 1, 2, 3],
        "flags": [0, 1, 2, 3, 4, 128],
        "recipients": [0, 1, 2, 256, 257],
        "sender": [BOB.key_id, CAROL.key_id, bytes(16)],
        "sequence": [1, 2**48 - 1, 2**48],
        "sent_at": [
            0,
            NOW - 30 * SECOND - 1,
            NOW - 30 * SECOND,
            NOW + 2 * SECOND,
            NOW + 2 * SECOND + 1,
            2**53,
        ],
        "stream": [bytes(16), stream("second")],
        "nonce": [bytes(24)],
        "in_reply_to": [b"", REQUEST],
        "key_block": [b"", BOB.key_id, CAROL.key_id * 2, sealed()[80:208], bytes(128)],
        "body": [b"", bytes(15), bytes(16), b"\x91\xc4\0", b"\x90"],
        "context": ["else"],
        "bound": [[b"topic"]],
    }.items():
        if draw(st.integers(0, 6)) == 0:
            fields[name] = draw(st.sampled_from(values))
    return fields


@pytest.mark.audit("A14", "A17", "P2", "M2")
@given(fields=strange_fields(), to_bob=st.booleans(), is_sealed=st.booleans())
def test_a_strange_envelope_that_is_rightly_signed_gets_one_verdict(fields, to_bob, is_sealed):
    options = {"to": [BOB, CAROL] if to_bob else [CAROL]} if is_sealed or to_bob else {}
    if is_sealed:
        options["keys"] = epoch()
    reply = fields.get("in_reply_to") or None
    Both().open(craft(**options, **fields), [], reply)


BIN = st.binary(max_size=5).map(lambda data: b"\xc4" + bytes([len(data)]) + data)
ELEMENTS = st.one_of(
    BIN, BIN, BIN, st.sampled_from([b"\xc0", b"\xa1a", b"\xc5\0\1a", b"\x90", b"\xc4", b""])
)
HEADERS = st.sampled_from([b"\x90", b"\x91", b"\x9f", b"\xdc\0\2", b"\xdc\0\x10", b""])


@pytest.mark.audit("A20", "P5", "M2")
@given(header=st.none() | HEADERS, elements=st.lists(BIN) | st.lists(ELEMENTS, max_size=17))
def test_a_strange_bundle_that_is_rightly_signed_gets_one_verdict(header, elements):
    if header is None:
        header = pack_bundle([b""] * len(elements))[: 1 if len(elements) < 16 else 3]
    verdict = Both().open(craft(header + b"".join(elements), bundle=True), [], None)
    assert verdict in ("ok", "malformed")


STEPS = st.tuples(
    st.sampled_from(["a", "b", "c", "d"]),
    st.one_of(st.integers(0, 8), st.integers(60, 75), st.just(2**48 - 1)),
    st.integers(0, 12),
)


@pytest.mark.audit("R3", "R4", "A3")
@given(steps=st.lists(STEPS, max_size=25), max_streams=st.integers(1, 3))
def test_a_history_gets_the_same_verdicts_and_the_same_gaps(steps, max_streams):
    # Times are apart by stream, for which of two streams with one newest goes is open.
    both = Both(window=64, max_streams=max_streams)
    for name, sequence, time in steps:
        sent_at = NOW - 1000 + 4 * time + "abcd".index(name)
        data = craft(sequence=sequence, sent_at=sent_at, stream=stream(name))
        both.open(data, [], None)


@pytest.mark.audit("A22")
def test_a_reply_of_the_package_answers_a_request_of_the_reference():
    request = craft(by=BOB)
    assert message_id(request) == id_of(request)
    sealer = Sealer(package(ALICE), context="orders", clock=FakeClock(START))
    reply = sealer.seal(b"yes", in_reply_to=message_id(request))
    assert Both().open(reply, [], id_of(request)) == "ok"


@pytest.mark.audit("A4")
@pytest.mark.parametrize("max_age_us", [1_001_000, 4_097_000, 129_611_000])
def test_a_policy_in_fractions_of_a_second_is_exact_to_the_microsecond(max_age_us):
    data = craft(sent_at=NOW - max_age_us)
    both = Both()
    both.receiver.policy.max_age = max_age_us
    both.opener = opener_for(both.clock, (BOB,), max_age=max_age_us / SECOND)
    assert both.open(data, [], None) == "ok"


@pytest.mark.audit("R2", "A19")
def test_what_is_refused_before_the_sender_is_looked_up_reads_no_clock():
    both = Both()
    both.clock.now = NOW + 60 * SECOND
    assert both.open(b"no envelope", [], None) == "malformed"
    assert both.open(craft(in_reply_to=REQUEST), [], None) == "policy"
    both.clock.now = NOW
    assert both.open(craft(), [], None) == "ok"


@pytest.mark.audit("M2")
@pytest.mark.parametrize("row", ROWS["envelopes"], ids=lambda row: row["comment"])
def test_the_envelopes_of_derive_json_open_in_the_package(row):
    # The package cannot be told a stream and a sequence, so it opens what it would write.
    data = bytes.fromhex(row["envelope"])
    options = {"bound": [bytes.fromhex(frame) for frame in row["bound"]]}
    if row["in_reply_to"]:
        options["in_reply_to"] = bytes.fromhex(row["in_reply_to"])
    payload = bytes.fromhex(row["payload"])
    expected = reference.unpack_bundle(payload) if row["bundle"] else [payload]
    messages = Both().opener.open_bundle(data, **options)
    assert [message.payload for message in messages] == expected
    assert (messages[0].sequence, messages[0].sent_at) == (row["sequence"], row["sent_at"])
