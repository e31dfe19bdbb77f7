"""Every encoding of the format, over inputs that Hypothesis makes up.

Two rules are behind each property. What was encoded decodes to the same value.
And any bytes at all either decode to something that encodes to these very bytes,
or are refused with the one error that is meant for it.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import struct
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from support import identity

from envelope import Peer, TrustFileError, UsageError, text, trustfile, wire
from envelope.binding import context_digest
from envelope.codec import decode_bundle, decode_object, encode_bundle, encode_object
from envelope.errors import MalformedError, VersionError

# --- Objects and bundles ---------------------------------------------------------------

INTEGERS = st.integers(-(2**63), 2**64 - 1) | st.sampled_from(
    [
        sign * 2**bits + off
        for bits in (5, 7, 8, 15, 16, 31, 32, 63)
        for off in (-1, 0, 1)
        for sign in (1, -1)
        if sign * 2**bits + off >= -(2**63)
    ]
)
STRINGS = st.text(st.characters(codec="utf-8"), max_size=40)
SCALARS = st.none() | st.booleans() | INTEGERS | st.floats() | STRINGS | st.binary(max_size=40)
OBJECTS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=18) | st.dictionaries(STRINGS, inner, max_size=18),
    max_leaves=40,
)


def same(one, two):
    """Compare values with their types, and floats by their bits."""
    if type(one) is not type(two):
        return False
    if isinstance(one, float):
        return struct.pack(">d", one) == struct.pack(">d", two)
    if isinstance(one, list):
        return len(one) == len(two) and all(map(same, one, two))
    if isinstance(one, dict):
        return list(one) == list(two) and all(map(same, one.values(), two.values()))
    return one == two


@st.composite
def damaged(draw, packed):
    """Return bytes near those of a valid encoding, or any bytes."""
    data = bytearray(draw(packed))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(["flip", "insert", "delete", "cut", "splice"])):
            case "flip" if at < len(data):
                data[at] ^= draw(st.integers(1, 255))
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=3))
            case "delete":
                del data[at : at + draw(st.integers(1, 3))]
            case "cut":
                del data[at:]
            case "splice":
                data[at:] = draw(packed)
    return bytes(data)


@pytest.mark.audit("P5")
@given(OBJECTS)
@example(math.nan)
def test_an_object_comes_back_as_it_was(value):
    packed = encode_object(value)
    assert same(decode_object(packed), value)
    assert encode_object(decode_object(packed)) == packed


@pytest.mark.audit("P4", "P5", "A20")
@given(damaged(OBJECTS.map(encode_object)) | st.binary(max_size=80))
def test_any_bytes_are_one_object_in_its_one_encoding_or_malformed(packed):
    try:
        value = decode_object(packed)
    except MalformedError:
        return
    assert encode_object(value) == packed


PAYLOADS = st.lists(st.binary(max_size=300), min_size=1, max_size=40)


@given(PAYLOADS)
def test_a_bundle_comes_back_as_it_was(payloads):
    packed = encode_bundle(payloads)
    assert decode_bundle(packed) == payloads
    # And a bundle is an object as any other: an array of bin.
    assert decode_object(packed) == payloads


@pytest.mark.audit("P4", "P5", "A20")
@given(damaged(PAYLOADS.map(encode_bundle)) | damaged(OBJECTS.map(encode_object)))
def test_any_bytes_are_one_bundle_in_its_one_encoding_or_malformed(packed):
    try:
        payloads = decode_bundle(packed)
    except MalformedError:
        return
    assert encode_bundle(payloads) == packed
    assert {type(payload) for payload in payloads} == {bytes}


# --- Headers ---------------------------------------------------------------------------


@st.composite
def envelopes(draw):
    """Return the bytes of an envelope and its fields, by the tables of SPEC 4."""
    kind = draw(st.sampled_from([1, 2]))
    flags = draw(st.integers(0, 3))
    ids = draw(st.sets(st.binary(min_size=16, max_size=16), min_size=kind - 1, max_size=6))
    sender, stream = (
        draw(st.binary(min_size=16, max_size=16)),
        draw(st.binary(min_size=16, max_size=16)),
    )
    sequence = draw(st.integers(0, 2**48 - 1))
    sent_at = draw(st.integers(0, 2**53 - 1))
    nonce = draw(st.binary(min_size=24, max_size=24))
    reply = draw(st.binary(min_size=32, max_size=32)) if flags & 2 else b""
    body = draw(st.binary(min_size=16 if kind == 2 else 0, max_size=60))
    wraps = {one: draw(st.binary(min_size=48, max_size=48)) if kind == 2 else b"" for one in ids}
    keys = draw(st.binary(min_size=64, max_size=64)) if kind == 2 else b""
    block = keys + b"".join(one + wraps[one] for one in sorted(ids))
    start = 80 + len(reply)
    data = b"".join(
        (
            b"ENV\1",
            bytes((kind, flags)),
            len(ids).to_bytes(2, "big"),
            sender,
            stream,
            sequence.to_bytes(8, "big"),
            sent_at.to_bytes(8, "big"),
            nonce,
            reply,
            block,
            body,
            draw(st.binary(min_size=64, max_size=64)),
        )
    )
    return data, wire.Header(
        kind,
        flags,
        len(ids),
        sender,
        stream,
        sequence,
        sent_at,
        reply or None,
        start,
        start + len(block),
    )


def encoded(header, data):
    """Encode the fields again; what is no field is taken from the bytes."""
    reply = header.in_reply_to or b""
    prefix = wire.encode_prefix(
        kind=header.kind,
        flags=header.flags,
        recipients=header.recipients,
        sender=header.sender,
        stream=header.stream,
    )
    times = wire.pack_times(header.sequence, header.sent_at)
    return prefix + times + data[56:80] + reply + data[header.key_block :]


@pytest.mark.audit("C1", "P2")
@given(envelopes())
def test_a_header_decodes_to_its_fields_which_encode_to_it(made):
    data, fields = made
    assert wire.decode(data) == fields
    assert encoded(fields, data) == data


@pytest.mark.audit("P1", "P2", "P4", "A1", "A2")
@given(
    damaged(envelopes().map(lambda made: made[0]))
    | st.binary(max_size=200)
    | st.binary(min_size=140, max_size=300).map(lambda rest: b"ENV\1" + rest)
    | st.builds(
        lambda kind, flags, n, rest: b"ENV\1" + bytes((kind, flags, 0, n)) + rest,
        st.integers(0, 3),
        st.integers(0, 4),
        st.integers(0, 3),
        st.binary(min_size=32, max_size=32)
        .map(lambda ids: ids + bytes(16))
        .flatmap(
            lambda start: st.binary(min_size=100, max_size=400).map(lambda rest: start + rest)
        ),
    )
)
def test_any_bytes_are_an_envelope_in_its_one_encoding_or_refused(data):
    try:
        header = wire.decode(data)
    except VersionError:
        assert data[:3] == b"ENV"
        assert data[3] != 1
        assert len(data) >= 144
        return
    except MalformedError:
        return
    assert encoded(header, data) == data
    assert 80 <= header.key_block <= header.body <= len(data) - 64
    step = 64 if header.kind == 2 else 16
    start = header.key_block + (64 if header.kind == 2 else 0)
    ids = [data[at : at + 16] for at in range(start, header.body, step)]
    assert len(ids) == header.recipients
    assert ids == sorted(set(ids))


LETTERS = st.sampled_from([b"a", b"b"])


@st.composite
def blocks(draw):
    """Return entries of few letters, in which a key id stands nearly everywhere."""
    key_id = b"".join(draw(st.lists(LETTERS, min_size=16, max_size=16)))
    key_id = draw(st.sampled_from([key_id, b"a" * 16, b"ab" * 8, b"a" * 15 + b"b"]))
    step = draw(st.sampled_from([16, 64]))
    size = step * draw(st.integers(1, 6))
    data = bytearray(b"".join(draw(st.lists(LETTERS, min_size=size, max_size=size))))
    for at in draw(st.lists(st.integers(0, size - 16), max_size=6)):
        data[at : at + 16] = key_id
    before = draw(st.sampled_from([b"", key_id[1:], b"h" * 144]))
    after = draw(st.sampled_from([b"", key_id]))
    return before + bytes(data) + after, len(before), len(before) + size, step, key_id


@given(blocks())
def test_an_entry_is_found_where_a_plain_search_finds_it(made):
    data, start, end, step, key_id = made
    places = [at for at in range(start, end, step) if data[at : at + 16] == key_id]
    assert wire.find_entry(data, start, end, step, key_id) == (places or [-1])[0]


# --- Context and bound frames ----------------------------------------------------------

SMALL = st.sampled_from([b"", b"\0", b"a", b"\0" * 8, bytes(7) + b"\1", bytes(3) + b"\1"])
CONTEXTS = st.binary(min_size=1, max_size=40) | st.builds(lambda a, b: b"c" + a + b, SMALL, SMALL)
PLACES = st.tuples(CONTEXTS, st.lists(st.binary(max_size=20) | SMALL, max_size=5).map(tuple))


def preimage(context, bound):
    """Return what CTX hashes after its label, by SPEC 5.1."""
    frames = b"".join(len(frame).to_bytes(8, "big") + frame for frame in bound)
    return len(context).to_bytes(8, "big") + context + len(bound).to_bytes(4, "big") + frames


def parsed(encoding):
    """Read context and frames out of a preimage: the proof that it is injective."""

    def take(size):
        nonlocal encoding
        taken, encoding = encoding[:size], encoding[size:]
        assert len(taken) == size
        return taken

    context = take(int.from_bytes(take(8), "big"))
    count = int.from_bytes(take(4), "big")
    bound = tuple(take(int.from_bytes(take(8), "big")) for _ in range(count))
    assert encoding == b""
    return context, bound


@pytest.mark.audit("C1")
@given(PLACES)
def test_a_place_can_be_read_back_from_what_is_hashed(place):
    encoding = preimage(*place)
    assert parsed(encoding) == place
    label = b"env1-context".ljust(128, b"\0")
    assert context_digest(*place) == hashlib.blake2b(label + encoding).digest()


@st.composite
def split(draw, joined):
    """Return the same bytes as a context and frames, cut somewhere."""
    cuts = sorted(draw(st.lists(st.integers(1, len(joined)), max_size=5)))
    edges = [0, *cuts, len(joined)]
    context, *bound = (joined[a:b] for a, b in itertools.pairwise(edges))
    return context, tuple(bound)


@pytest.mark.audit("C1", "C4", "A5")
@given(
    st.tuples(PLACES, PLACES)
    | st.binary(min_size=1, max_size=30).flatmap(lambda one: st.tuples(split(one), split(one)))
    | PLACES.flatmap(lambda one: st.tuples(st.just(one), split(preimage(*one)[8:])))
)
def test_two_places_have_one_digest_only_if_they_are_one(places):
    one, two = places
    assume(one[0] and two[0])
    assert (preimage(*one) == preimage(*two)) == (one == two)
    assert (context_digest(*one) == context_digest(*two)) == (one == two)


# --- Texts, patterns, dates, trust files -----------------------------------------------

KINDS = {text.PUBLIC: 64, text.SECRET: 32, text.LOCKED: 96}
TEXTS = st.sampled_from(list(KINDS)).flatmap(
    lambda kind: st.binary(min_size=KINDS[kind], max_size=KINDS[kind]).map(
        lambda data: (kind, data)
    )
)


@given(TEXTS)
def test_a_text_reads_back(made):
    kind, data = made
    assert text.decode(kind, text.encode(kind, data)) == data


@pytest.mark.audit("K3", "P4")
@given(
    TEXTS,
    st.integers(0, 200),
    st.text(st.characters(), max_size=2) | st.sampled_from(["=", "A", "7", "\u0131"]),
    st.integers(0, 2),
)
def test_any_text_is_the_one_text_of_a_key_or_a_usage_error(made, at, put, out):
    kind, data = made
    good = text.encode(kind, data)
    changed = good[:at] + put + good[at + out :]
    try:
        read = text.decode(kind, changed)
    except UsageError:
        assert changed != good
        return
    assert text.encode(kind, read) == changed


NAMES = st.text("ab.", min_size=1, max_size=5)


@pytest.mark.audit("A13")
@given(st.lists(NAMES | NAMES.map(lambda name: f"{name}.*"), min_size=1, max_size=3), NAMES)
def test_patterns_allow_what_spec_3_5_says(patterns, context):
    def allows(pattern):
        if pattern.endswith(".*"):
            stem = pattern.removesuffix("*")
            return context[: len(stem)] == stem and context[len(stem) :] != ""
        return pattern == context

    peer = Peer("alice", identity("alice").public, contexts=patterns)
    assert peer.allows_context(context) == any(map(allows, patterns))


ZONES = st.integers(-24 * 60 + 1, 24 * 60 - 1).map(lambda n: timezone(timedelta(minutes=n)))


@pytest.mark.audit("A13")
@given(st.datetimes(timezones=ZONES | st.just(UTC)))
def test_a_date_is_exact_and_never_before_1970(date):
    exact = (date - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assume(exact > 0)
    peer = Peer("alice", identity("alice").public, contexts=["*"], not_after=date)
    assert peer.ends == exact
    assert peer.is_valid(min(exact, 2**53) - 1)
    assert not peer.is_valid(exact)


TOML = st.text(st.sampled_from(list("[]{}=\"'#.,\n\r\t 019azZ:-+_\\\u2028")), max_size=40)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("trust") / "peers.toml"


@pytest.mark.audit("P4")
@given(
    st.lists(
        TOML
        | st.sampled_from(
            ["[[peer]]", 'name = "a"', 'key = "k"', "contexts = []", "peer = ", "revoked = true"]
        ),
        max_size=8,
    ).map("\n".join)
    | st.binary(max_size=60)
)
def test_any_file_is_a_list_of_peers_or_a_trust_file_error(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    try:
        tables = trustfile.read(path)
    except TrustFileError:
        return
    for table in tables:
        assert {"name", "contexts"} <= table.fields.keys()
