"""One session's data messages: bytes, window, counters, ids (SPEC 18.5, 18.6)."""

from __future__ import annotations

import itertools

import pytest
from support import flip

from envelope.errors import ReplayedError, TooOldError, UnsealError
from envelope.primitives import CryptoError, H, chacha_encrypt
from envelope.session import Timing, wire
from envelope.session.channel import Channel, ExhaustedError, frames_of, message_id
from envelope.session.noise import Keys
from envelope.session.timing import REJECT_AFTER, Times

ONE, TWO, HASH = b"1" * 32, b"2" * 32, b"h" * 64
TIMES = Times.of(Timing())


def channel(*, is_initiator=True, window=64, born=7):
    keys = Keys(ONE, TWO, HASH) if is_initiator else Keys(TWO, ONE, HASH)
    ids = (b"i" * 8, b"r" * 8) if is_initiator else (b"r" * 8, b"i" * 8)
    return Channel(
        keys,
        our_id=ids[0],
        their_id=ids[1],
        is_initiator=is_initiator,
        born=born,
        times=TIMES,
        began_at=5,
        window=window,
    )


def ends(**options):
    return channel(**options), channel(is_initiator=False, **options)


def test_a_data_message_has_the_bytes_of_the_specification():
    sender, receiver = ends()
    sender._take = itertools.count(0x1_0000_0002).__next__
    data = sender.seal(b"payload", b"FRAMES", wire.REPLY)
    head = b"ENV\x01\x05\x02" + (0x1_0000_0002).to_bytes(6, "big") + b"r" * 8
    nonce = bytes(4) + (0x1_0000_0002).to_bytes(8, "little")
    assert data == head + chacha_encrypt(b"payload", head + b"FRAMES", nonce, ONE)
    assert len(data) == wire.OVERHEAD + 7
    assert receiver.open(data, 0x1_0000_0002, b"FRAMES") == (b"payload", 0x1_0000_0002)


def test_frames_are_encoded_with_count_and_lengths():
    assert frames_of(()) == b""
    assert frames_of((b"",)) == b"\0\0\0\1" + bytes(8)
    assert frames_of((b"ab", b"c")) == b"\0\0\0\2" + bytes(7) + b"\2ab" + bytes(7) + b"\1c"


@pytest.mark.audit("C1")
def test_frames_that_differ_have_encodings_that_differ():
    lists = [(), (b"",), (b"", b""), (b"ab",), (b"a", b"b"), (b"", b"ab"), (b"ab", b"")]
    assert len({frames_of(frames) for frames in lists}) == len(lists)


def test_stream_ids_are_the_halves_of_one_hash_by_who_began():
    one, two = ends()
    both = H(32, b"env1-streams", HASH)
    assert (one.our_stream, one.their_stream) == (both[:16], both[16:])
    assert (two.our_stream, two.their_stream) == (both[16:], both[:16])


def test_a_session_keeps_what_the_handshake_left():
    one, two = ends()
    assert (one.is_initiator, two.is_initiator) == (True, False)
    assert (one.our_id, one.their_id) == (two.their_id, two.our_id) == (b"i" * 8, b"r" * 8)
    assert one.began_at == two.began_at == 5


def test_message_ids_are_the_same_at_both_ends():
    one, two = ends()
    data = one.seal(b"x")
    sealed = one.sealed(data)
    assert sealed.data is data
    assert sealed.id == H(32, b"env1-message", one.our_stream, bytes(8))
    assert sealed.id == message_id(two.their_stream, 0)
    assert sealed.stream == two.their_stream
    assert len({message_id(one.our_stream, n) for n in range(100)}) == 100


def test_counters_begin_at_0_and_rise_by_one_in_each_direction():
    one, two = ends()
    for end in (one, two, one):
        for count in range(end.sent, end.sent + 3):
            assert wire.read_data(end.seal(b""))[1:3] == (0, count)
            assert end.sent == count + 1


def test_ages_count_from_birth_and_the_responder_asks_later():
    one, two = ends(born=7)
    assert (one.rekey_at, two.rekey_at) == (120_000_007, 135_000_007)
    assert one.ends_at == two.ends_at == 180_000_007


@pytest.mark.audit("A1", "C2")
def test_a_bit_flip_anywhere_is_refused_and_changes_nothing():
    sender, receiver = ends()
    data = sender.seal(b"payload", b"FRAMES")
    for at in range(len(data)):
        with pytest.raises(UnsealError):
            receiver.open(flip(data, at, 0x80), 0, b"FRAMES")
    for frames in (b"", b"FRAMET", b"FRAMES\0"):
        with pytest.raises(UnsealError):
            receiver.open(data, 0, frames)
    with pytest.raises(UnsealError):
        receiver.open(data, 1, b"FRAMES")
    assert (receiver.window.top, receiver.accepted) == (-1, 0)
    assert receiver.open(data, 0, b"FRAMES") == (b"payload", 0)


@pytest.mark.audit("A6")
def test_what_an_end_sent_does_not_open_at_that_end():
    sender, _ = ends()
    with pytest.raises(UnsealError):
        sender.open(sender.seal(b""), 0)


@pytest.mark.audit("A3", "R1")
def test_the_window_accepts_each_once_in_any_order():
    sender, receiver = ends()
    sent = [sender.seal(bytes([n])) for n in range(100)]
    for n, skipped in ((5, 5), (7, 1), (6, 0), (0, 0), (8, 0), (71, 62)):
        assert receiver.open(sent[n], n) == (bytes([n]), skipped)
        with pytest.raises(ReplayedError):
            receiver.open(sent[n], n)
    for n in (0, 3, 7):  # Whether they came or not: 71 - 64 is 7.
        with pytest.raises(TooOldError):
            receiver.open(sent[n], n)
    with pytest.raises(ReplayedError):
        receiver.open(sent[8], 8)
    assert receiver.open(sent[9], 9) == (b"\t", 0)
    assert (receiver.accepted, receiver.late, receiver.skipped) == (7, 3, 68)


@pytest.mark.audit("A17")
def test_a_forged_counter_far_ahead_does_not_move_the_window():
    sender, receiver = ends()
    sender.seal(b"")
    with pytest.raises(UnsealError):
        receiver.open(sender.seal(b""), REJECT_AFTER - 1)
    assert receiver.window.top == -1


@pytest.mark.audit("C6")
def test_the_last_counter_ends_the_session_and_none_is_used_after_it():
    sender, receiver = ends()
    sender._take = itertools.count(REJECT_AFTER - 2).__next__
    sender.seal(b"")
    assert sender.ends_at > sender.born
    data = sender.seal(b"last")
    assert receiver.open(data, REJECT_AFTER - 1)[0] == b"last"
    assert sender.sent == REJECT_AFTER
    assert sender.ends_at == sender.born
    for _ in range(3):
        with pytest.raises(ExhaustedError):
            sender.seal(b"")


@pytest.mark.audit("K6")
def test_a_session_that_was_forgotten_neither_seals_nor_opens():
    sender, receiver = ends()
    data = sender.seal(b"")
    for end in (sender, receiver):
        end.forget()
    assert {sender._send_key, receiver._receive_key} == {b""}
    with pytest.raises(CryptoError):
        sender.seal(b"")
    with pytest.raises(UnsealError):
        receiver.open(data, 0)


@pytest.mark.audit("K5")
def test_printing_a_session_shows_no_key():
    assert repr(channel()) == f"<Channel {(b'i' * 8).hex()}, 0 sent, 0 accepted>"
