"""The header, refusal by refusal: each limit of SPEC 4.3 and 4.4 at its edge.

``Fields`` builds envelopes by the table of SPEC 4.1, independently of ``wire``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from envelope import wire
from envelope.errors import MalformedError, VersionError
from envelope.session.wire import DATA, HINT, INITIATION, RESPONSE

SENDER = bytes(range(100, 116))
STREAM = bytes(range(16))
NONCE = bytes(range(200, 224))
REQUEST = bytes(range(32))
SIGNATURE = b"s" * 64
TOO_MANY = "sealed to none, or to too many recipients"


def be(number: int, size: int) -> bytes:
    return number.to_bytes(size, "big")


def key_ids(n: int) -> list[bytes]:
    """Return n key ids in ascending order."""
    return [be(1000 + 7 * i, 16) for i in range(n)]


@dataclass
class Fields:
    """An envelope, field by field; ``data()`` is its bytes."""

    magic: bytes = b"ENV"
    version: int = 1
    kind: int = 1
    flags: int = 0
    n: int | None = None
    sequence: int = 0
    sent_at: int = 0
    in_reply_to: bytes = b""
    recipients: tuple[bytes, ...] = ()
    body: bytes = b""

    def key_block(self) -> bytes:
        if self.kind != 2:
            return b"".join(self.recipients)
        return b"e" * 32 + b"c" * 32 + b"".join(key_id + b"w" * 48 for key_id in self.recipients)

    def data(self) -> bytes:
        n = len(self.recipients) if self.n is None else self.n
        return b"".join(
            (
                self.magic,
                bytes((self.version, self.kind, self.flags)),
                be(n, 2),
                SENDER,
                STREAM,
                be(self.sequence, 8),
                be(self.sent_at, 8),
                NONCE,
                self.in_reply_to,
                self.key_block(),
                self.body,
                SIGNATURE,
            )
        )


SIGNED = Fields()
SEALED = Fields(kind=2, recipients=tuple(key_ids(1)), body=b"t" * 16)
REPLY = Fields(flags=2, in_reply_to=REQUEST)


def test_the_sizes_are_those_of_spec_4():
    assert (wire.MAGIC, wire.VERSION) == (b"ENV", 1)
    assert (wire.SIGNED, wire.SEALED, wire.BUNDLE, wire.REPLY) == (1, 2, 1, 2)
    assert (wire.FIXED_SIZE, wire.MIN_SIZE, wire.NONCE_AT) == (80, 144, 56)
    assert (wire.KEY_ID_SIZE, wire.STREAM_SIZE, wire.NONCE_SIZE, wire.ID_SIZE) == (16, 16, 24, 32)
    assert (wire.SIGNATURE_SIZE, wire.TAG_SIZE, wire.WRAP_SIZE) == (64, 16, 48)
    assert (wire.EPHEMERAL_SIZE, wire.COMMITMENT_SIZE) == (32, 32)
    assert (wire.KEYS_SIZE, wire.ENTRY_SIZE) == (64, 64)
    assert (wire.MAX_RECIPIENTS, wire.MAX_SEQUENCE, wire.MAX_SENT_AT) == (256, 2**48, 2**53)


@pytest.mark.audit("C1", "P1")
def test_every_field_of_a_signed_envelope_is_read():
    fields = replace(SIGNED, flags=1, sequence=2**40 + 3, sent_at=2**50 + 5, body=b"payload")
    assert wire.decode(fields.data()) == wire.Header(
        kind=1,
        flags=1,
        recipients=0,
        sender=SENDER,
        stream=STREAM,
        sequence=2**40 + 3,
        sent_at=2**50 + 5,
        in_reply_to=None,
        key_block=80,
        body=80,
    )


@pytest.mark.parametrize("n", [1, 2, 256])
@pytest.mark.parametrize(("flags", "start"), [(0, 80), (1, 80), (2, 112), (3, 112)])
@pytest.mark.parametrize(("kind", "fixed", "each"), [(1, 0, 16), (2, 64, 64)])
def test_the_offsets_lie_where_spec_4_2_puts_them(n, flags, start, kind, fixed, each):
    reply = REQUEST if flags & 2 else b""
    fields = Fields(
        kind=kind,
        flags=flags,
        in_reply_to=reply,
        recipients=tuple(key_ids(n)),
        body=b"b" * 20,
    )
    header = wire.decode(fields.data())
    assert (header.kind, header.flags, header.recipients) == (kind, flags, n)
    assert header.in_reply_to == (REQUEST if flags & 2 else None)
    assert (header.key_block, header.body) == (start, start + fixed + n * each)
    assert fields.data()[header.body : -64] == b"b" * 20


def refused(data: bytes) -> str:
    with pytest.raises(MalformedError) as raised:
        wire.decode(data)
    assert raised.value.claimed_sender is None
    return raised.value.detail


@pytest.mark.audit("A2", "P2")
@pytest.mark.parametrize("size", [1, 3, 4, 79, 80, 143])
def test_less_than_144_bytes_are_no_envelope(size):
    data = SIGNED.data()
    assert len(data) == 144
    assert wire.decode(data)
    assert refused(data[:size]) == "shorter than the shortest envelope"


def test_nothing_at_all_is_told_from_little():
    # It is what a REP sends that refused, and nobody else.
    assert refused(b"") == "empty, and so shorter than the shortest envelope"


@pytest.mark.parametrize("magic", [b"\0\0\0", b"env", b"ENX", b"XNV", b"EXV", b"NEV"])
@pytest.mark.parametrize("version", [1, 2])
def test_another_magic_is_malformed_whatever_the_version(magic, version):
    data = replace(SIGNED, magic=magic, version=version).data()
    assert refused(data) == "does not begin with ENV"


@pytest.mark.audit("A14", "C8")
@pytest.mark.parametrize("version", [0, 2, 3, 255])
def test_another_version_is_refused_whatever_follows_it(version):
    for fields in (SIGNED, Fields(kind=9, flags=255, n=65535, sequence=2**64 - 1)):
        with pytest.raises(VersionError) as raised:
            wire.decode(replace(fields, version=version).data())
        assert raised.value.detail == f"version {version}; this receiver speaks 1"


@pytest.mark.parametrize("version", [0, 1, 2])
def test_another_version_that_is_too_short_is_malformed(version):
    assert refused(replace(SIGNED, version=version).data()[:143])


@pytest.mark.audit("A14", "P2")
@pytest.mark.parametrize("kind", [0, 7, 255])
def test_another_kind_is_refused(kind):
    assert refused(replace(SIGNED, kind=kind, n=0).data()) == "unknown kind"


@pytest.mark.parametrize("kind", [INITIATION, RESPONSE, DATA, HINT])
def test_a_message_of_a_session_is_refused_as_such(kind):
    says = "a message of a session, and this end opens envelopes; give both ends session=..."
    assert refused(replace(SIGNED, kind=kind, n=0).data()) == says
    # Where an envelope has its sequence, a session's message has something at random.
    assert refused(replace(SIGNED, kind=kind, sequence=2**64 - 1).data()) == says


@pytest.mark.audit("A14", "P2")
@pytest.mark.parametrize("flags", [4, 5, 7, 8, 16, 32, 64, 128, 255])
def test_a_reserved_flag_is_refused(flags):
    fields = replace(SIGNED, flags=flags, in_reply_to=REQUEST)
    assert refused(fields.data()) == "reserved flag bits are set"


@pytest.mark.audit("A17")
@pytest.mark.parametrize(("field", "limit"), [("sequence", 2**48), ("sent_at", 2**53)])
@pytest.mark.parametrize("fields", [SIGNED, SEALED])
def test_numbers_end_just_below_their_limit(fields, field, limit):
    assert getattr(wire.decode(replace(fields, **{field: limit - 1}).data()), field) == limit - 1
    for beyond in (limit, limit + 1, 2**64 - 1):
        detail = refused(replace(fields, **{field: beyond}).data())
        assert detail == "sequence or sent_at beyond its width"


@pytest.mark.audit("P3")
@pytest.mark.parametrize("fields", [SIGNED, SEALED])
def test_there_are_at_most_256_recipients(fields):
    most = replace(fields, recipients=tuple(key_ids(256)))
    assert wire.decode(most.data()).recipients == 256
    assert refused(replace(fields, recipients=tuple(key_ids(257))).data()) == TOO_MANY
    # A count alone is refused too, before anything is read by it.
    assert refused(replace(fields, n=65535).data()) == TOO_MANY


@pytest.mark.audit("C9")
def test_nothing_is_sealed_to_nobody():
    assert refused(replace(SEALED, recipients=(), body=b"t" * 90).data()) == TOO_MANY


@pytest.mark.audit("A2", "P2")
@pytest.mark.parametrize(
    "fields",
    [
        replace(SIGNED, recipients=tuple(key_ids(1))),
        replace(SIGNED, recipients=tuple(key_ids(3))),
        REPLY,
        replace(REPLY, recipients=tuple(key_ids(2))),
        SEALED,
        replace(SEALED, recipients=tuple(key_ids(4))),
        replace(SEALED, flags=2, in_reply_to=REQUEST),
    ],
)
def test_one_byte_less_than_the_header_announces_is_refused(fields):
    # The body is empty, or holds the tag alone.
    data = fields.data()
    header = wire.decode(data)
    assert header.body == len(data) - 64 - len(fields.body)
    assert refused(data[:-1]) == "shorter than its header says"
    assert wire.decode(data + b"x").body == header.body


@pytest.mark.parametrize("kind", [1, 2])
@pytest.mark.parametrize("n", [2, 3, 256])
@pytest.mark.parametrize("place", [0, -2])
def test_key_ids_that_do_not_ascend_are_refused(kind, n, place):
    ids = key_ids(n)
    at = range(n)[place]
    body = b"t" * 16
    ids[at], ids[at + 1] = ids[at + 1], ids[at]
    fields = Fields(kind=kind, recipients=tuple(ids), body=body)
    assert refused(fields.data()) == "key ids are not strictly ascending"
    ids[at] = ids[at + 1]
    fields = Fields(kind=kind, recipients=tuple(ids), body=body)
    assert refused(fields.data()) == "key ids are not strictly ascending"


@pytest.mark.parametrize("kind", [1, 2])
def test_key_ids_are_compared_as_byte_strings(kind):
    ids = (bytes(16), bytes(15) + b"\1", b"\x7f" * 16, b"\x80" + bytes(15), b"\xff" * 16)
    fields = Fields(kind=kind, recipients=ids, body=b"t" * 16)
    assert wire.decode(fields.data()).recipients == 5


@pytest.mark.parametrize("kind", [1, 2])
def test_a_single_key_id_may_be_all_zeros(kind):
    assert wire.decode(Fields(kind=kind, recipients=(bytes(16),), body=b"t" * 16).data())


def test_what_lies_between_the_key_ids_is_not_compared():
    # Descending wraps beside ascending key ids.
    data = bytearray(replace(SEALED, recipients=tuple(key_ids(2))).data())
    data[144 + 16 : 144 + 64] = b"\xff" * 48
    data[208 + 16 : 208 + 64] = bytes(48)
    assert wire.decode(bytes(data)).recipients == 2


# --- find_entry ------------------------------------------------------------------------

ME = b"0123456789abcdef"
OTHER = b"-" * 16
START = 144


def block(*entries: bytes, after: bytes = b"") -> tuple[bytes, int, int]:
    """Return an envelope's bytes, and the start and end of its entries."""
    joined = b"".join(entries)
    return b"h" * START + joined + after, START, START + len(joined)


@pytest.mark.parametrize("step", [16, 64])
@pytest.mark.parametrize("place", [0, 1, 5])
def test_an_entry_is_found_where_it_begins(step, place):
    entries = [OTHER.ljust(step, b"w")] * 6
    entries[place] = ME.ljust(step, b"w")
    data, start, end = block(*entries)
    assert wire.find_entry(data, start, end, step, ME) == START + place * step


@pytest.mark.parametrize("step", [16, 64])
def test_an_absent_key_id_is_not_found(step):
    data, start, end = block(OTHER.ljust(step, b"w"), after=ME)
    assert wire.find_entry(data, start, end, step, ME) == -1
    assert wire.find_entry(ME + data, start + 16, end + 16, step, ME) == -1


@pytest.mark.parametrize("inside", [1, 15, 16, 17, 32, 47])
def test_a_key_id_inside_a_wrapped_key_is_passed_over(inside):
    decoy = (OTHER + b"w" * 48)[:inside] + ME
    decoy = decoy.ljust(64, b"w")[:64]
    data, start, end = block(decoy, decoy, ME.ljust(64, b"w"), decoy)
    assert wire.find_entry(data, start, end, 64, ME) == START + 128
    data, start, end = block(decoy, decoy)
    assert wire.find_entry(data, start, end, 64, ME) == -1


def test_a_key_id_that_overlaps_its_own_decoy_is_found():
    # The decoy ends with the first 15 bytes of the true entry.
    me = b"a" * 16
    data, start, end = block(OTHER + b"w" * 47 + b"a", me + b"a" * 48)
    assert wire.find_entry(data, start, end, 64, me) == START + 64


def test_a_key_id_across_two_entries_or_beyond_the_end_is_no_entry():
    data, start, end = block(OTHER + b"w" * 40 + ME[:8], ME[8:] + b"w" * 56)
    assert wire.find_entry(data, start, end, 64, ME) == -1
    data, start, end = block(OTHER + b"w" * 48, ME[:8], after=ME[8:])
    assert wire.find_entry(data, start, end, 64, ME) == -1


def test_a_key_id_in_the_body_is_no_entry_even_where_one_could_begin():
    # The decoy inside the wrap has the search go on, which ends with the key block too.
    decoy = OTHER + ME + b"w" * 32
    data, start, end = block(decoy, after=ME + b"w" * 48)
    assert wire.find_entry(data, start, end, 64, ME) == -1


# --- Encoding --------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [SIGNED, SEALED, REPLY, replace(SEALED, flags=3)])
def test_the_prefix_and_the_times_are_the_first_56_bytes(fields):
    fields = replace(fields, sequence=2**48 - 1, sent_at=2**53 - 1)
    prefix = wire.encode_prefix(
        kind=fields.kind,
        flags=fields.flags,
        recipients=len(fields.recipients),
        sender=SENDER,
        stream=STREAM,
    )
    assert len(prefix) == 40
    assert prefix + wire.pack_times(2**48 - 1, 2**53 - 1) == fields.data()[:56]
