"""The four messages of sessions: each size, flag, version and kind (SPEC 18.3)."""

from __future__ import annotations

import pytest

from envelope.errors import MalformedError, VersionError
from envelope.session import wire
from envelope.session.wire import Grant, Offer

SIZES = {3: 174, 4: 94, 6: 106}
COUNTER = 0x0102_03040506


def message(kind, size, flags=0, version=1, magic=b"ENV"):
    return (magic + bytes((version, kind, flags))).ljust(size, b"\xaa")


def data_message(flags=0, size=36):
    high, low = divmod(COUNTER, 2**32)
    head = wire.data_head(wire.start(wire.DATA, flags), high, low, b"s" * 8)
    return head.ljust(size, b"\0")


@pytest.mark.parametrize(("kind", "size"), SIZES.items())
def test_each_kind_has_one_size(kind, size):
    assert wire.kind_of(message(kind, size)) == kind
    for other in {36, size - 1, size + 1, *SIZES.values()} - {size}:
        with pytest.raises(MalformedError):
            wire.kind_of(message(kind, other))


@pytest.mark.parametrize("size", [36, 37, 100, 70_000])
def test_data_may_have_any_size_from_36_on(size):
    assert wire.kind_of(message(wire.DATA, size, flags=255)) == wire.DATA


@pytest.mark.parametrize("size", range(36))
def test_what_is_shorter_than_36_bytes_is_malformed(size):
    for kind in range(8):
        with pytest.raises(MalformedError, match="shorter"):
            wire.kind_of(message(kind, 36)[:size])


@pytest.mark.audit("P2")
@pytest.mark.parametrize("kind", sorted(set(range(256)) - set(SIZES) - {wire.DATA}))
def test_other_kinds_are_malformed(kind):
    for size in (36, *SIZES.values()):
        with pytest.raises(MalformedError):
            wire.kind_of(message(kind, size))


@pytest.mark.parametrize("size", [36, 144, *SIZES.values()])
def test_an_envelope_is_told_as_such(size):
    for kind in (1, 2):
        with pytest.raises(MalformedError, match="an envelope, and this end has a session"):
            wire.kind_of(message(kind, size))
    for kind in (0, 3, 7):
        with pytest.raises(MalformedError, match="no message of a session has this kind and size"):
            wire.kind_of(message(kind, size + 1))


@pytest.mark.parametrize("kind", [*SIZES, wire.DATA])
@pytest.mark.parametrize("version", [0, 2, 255])
def test_other_versions_are_refused_by_that_name(kind, version):
    with pytest.raises(VersionError, match=f"version {version};"):
        wire.kind_of(message(kind, SIZES.get(kind, 36), version=version))


@pytest.mark.parametrize("magic", [b"env", b"\0NV", b"ENW", b"NEV"])
def test_other_magic_is_malformed_whatever_follows(magic):
    with pytest.raises(MalformedError, match="ENV"):
        wire.kind_of(message(3, 174, version=9, magic=magic))


@pytest.mark.audit("P2")
@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize("flags", [1, 2, 4, 8, 16, 32, 64, 128, 255])
def test_handshakes_and_hints_have_no_flags(kind, flags):
    with pytest.raises(MalformedError, match="flag"):
        wire.kind_of(message(kind, SIZES[kind], flags=flags))


@pytest.mark.parametrize("flags", range(256))
def test_data_has_no_flag_or_one_of_two(flags):
    least = {0: 36, wire.REPLY: 68}.get(flags)
    if least is not None:
        wire.check_flags(flags, least)
        wire.check_flags(flags, 10_000)
    if flags == wire.CONTROL:
        wire.check_flags(flags, 36)
    elif flags not in (0, wire.REPLY):
        for size in (36, 68, 100):
            with pytest.raises(MalformedError):
                wire.check_flags(flags, size)


@pytest.mark.parametrize("size", [36, 50, 67])
def test_a_reply_holds_the_id_that_it_answers(size):
    with pytest.raises(MalformedError):
        wire.check_flags(wire.REPLY, size)


@pytest.mark.parametrize("size", [37, 68, 4096])
def test_a_control_message_has_no_payload(size):
    with pytest.raises(MalformedError):
        wire.check_flags(wire.CONTROL, size)


@pytest.mark.parametrize("flags", [0, wire.REPLY, wire.CONTROL])
def test_the_head_of_data_is_twenty_bytes_as_specified(flags):
    data = data_message(flags)
    assert data[:20] == b"ENV\x01\x05" + bytes([flags]) + COUNTER.to_bytes(6, "big") + b"s" * 8
    assert wire.read_data(data) == (flags, COUNTER >> 32, COUNTER & 0xFFFF_FFFF, b"s" * 8)
    assert data.startswith(wire.DATA_START)


@pytest.mark.parametrize("counter", [0, 2**31, 2**32 - 1, 2**47, 2**48 - 1])
def test_counters_of_all_sizes_are_written_and_read(counter):
    data = wire.data_head(wire.start(wire.DATA), counter >> 32, counter & 0xFFFF_FFFF, b"s" * 8)
    assert data[6:12] == counter.to_bytes(6, "big")
    assert wire.read_data(data) == (0, counter >> 32, counter & 0xFFFF_FFFF, b"s" * 8)


def test_every_flags_byte_is_read_as_it_stands():
    assert wire.read_data(data_message(255))[0] == 255


def test_the_numbers_are_those_of_the_specification():
    assert (wire.REPLY, wire.CONTROL) == (2, 4)
    assert wire.OVERHEAD == wire.DATA_HEAD + wire.TAG_SIZE == 20 + 16
    assert max(SIZES.values()) == wire.LARGEST


@pytest.mark.parametrize("kind", [*SIZES, wire.DATA])
def test_whether_a_message_is_an_initiation_is_told_by_its_kind(kind):
    # Its flags are not looked at, though they may have that value.
    assert wire.is_initiation(message(kind, 36, flags=3)) is (kind == 3)


@pytest.mark.parametrize("kind", [*SIZES, wire.DATA])
@pytest.mark.parametrize("flags", [0, wire.REPLY, wire.CONTROL, wire.DATA])
def test_what_is_for_the_peer_is_data_that_is_not_control(kind, flags):
    # What follows the flags has the value of control, and says nothing of it.
    data = message(kind, 6, flags) + b"\4" * 30
    assert wire.is_for_peer(data) is (kind == wire.DATA and flags != wire.CONTROL)


def test_an_initiation_begins_with_its_two_parties():
    data = wire.start(wire.INITIATION) + b"i" * 16 + b"r" * 16 + bytes(136)
    assert wire.kind_of(data) == wire.INITIATION
    assert wire.parties(data) == (b"i" * 16, b"r" * 16)


def test_a_response_begins_with_what_it_answers():
    data = wire.start(wire.RESPONSE) + b"s" * 8 + bytes(80)
    assert wire.kind_of(data) == wire.RESPONSE
    assert wire.answered(data) == b"s" * 8


def test_a_hint_holds_the_head_of_what_it_is_about():
    data = wire.start(wire.HINT) + b"k" * 16 + data_message(wire.REPLY)[:20] + bytes(64)
    assert wire.kind_of(data) == wire.HINT
    assert wire.hint_of(data) == (b"k" * 16, COUNTER, b"s" * 8)


@pytest.mark.parametrize("at", range(22, 27))
@pytest.mark.parametrize("mask", [1, 128])
def test_a_hint_about_anything_but_data_is_malformed(at, mask):
    changed = bytearray(wire.start(wire.HINT) + b"k" * 16 + data_message()[:20] + bytes(64))
    changed[at] ^= mask
    with pytest.raises(MalformedError, match="about no data"):
        wire.hint_of(bytes(changed))


@pytest.mark.parametrize("flags", [1, 6, 8, 255])
def test_a_hint_about_data_with_other_flags_is_malformed(flags):
    about = b"ENV\x01\x05" + bytes([flags]) + bytes(14)
    with pytest.raises(MalformedError, match="about no data"):
        wire.hint_of(wire.start(wire.HINT) + b"k" * 16 + about + bytes(64))


EDGES = [0, 1, 2**32, 2**48 - 1]


@pytest.mark.parametrize("sequence", EDGES)
@pytest.mark.parametrize("sent_at", [0, 2**53 - 1])
def test_an_offer_is_forty_bytes_and_comes_back(sequence, sent_at):
    offer = Offer(b"s" * 8, b"t" * 16, sequence, sent_at)
    encoded = b"s" * 8 + b"t" * 16 + sequence.to_bytes(8, "big") + sent_at.to_bytes(8, "big")
    assert offer.encode() == encoded
    assert wire.decode_offer(encoded) == offer


@pytest.mark.parametrize("sent_at", [0, 2**53 - 1])
def test_a_grant_is_thirty_two_bytes_and_comes_back(sent_at):
    grant = Grant(b"s" * 8, sent_at, b"t" * 16)
    assert grant.encode() == b"s" * 8 + sent_at.to_bytes(8, "big") + b"t" * 16
    assert wire.decode_grant(grant.encode()) == grant


@pytest.mark.audit("A17")
@pytest.mark.parametrize(
    ("sequence", "sent_at"), [(2**48, 0), (2**64 - 1, 0), (0, 2**53), (0, 2**64 - 1)]
)
def test_numbers_beyond_their_widths_are_malformed(sequence, sent_at):
    with pytest.raises(MalformedError, match="width"):
        wire.decode_offer(Offer(b"s" * 8, b"t" * 16, sequence, sent_at).encode())
    if sent_at:
        with pytest.raises(MalformedError, match="width"):
            wire.decode_grant(Grant(b"s" * 8, sent_at, b"t" * 16).encode())
