"""What a sealer puts on the wire, and when its stream ends (SPEC 6.2, 6.5, 6.6)."""

from __future__ import annotations

import contextlib
import copy
import itertools
import os
import pickle
import random
import threading

import pytest
from parallel import at_once, held_by_another_thread, in_child, raw_fork
from support import START, World, identity, seeded

from envelope import Peer, Sealer, UsageError
from envelope import clock as clocks
from envelope import sealer as sealers
from envelope.stream import began_here
from envelope.wire import SEALED, SIGNED, decode

ALICE, BOB, CAROL = identity("alice"), identity("bob"), identity("carol")
LAST = 2**48 - 1


@pytest.fixture
def world():
    return World()


@pytest.fixture(params=["signed", "addressed", "sealed"])
def each(request, world):
    """A sealer of each kind."""
    options = {
        "signed": {},
        "addressed": {"to": [BOB.public], "sealed": False},
        "sealed": {"to": [BOB.public]},
    }
    return world.sealer(**options[request.param])


def key_block(data):
    header = decode(data)
    return data[header.key_block : header.body]


def end_of_stream(sealer, at=LAST):
    """Set the sequence to come."""
    sealer._epoch.stream.take = itertools.count(at).__next__


class TestOnTheWire:
    def test_signed_for_everyone(self, world):
        data = world.sealer().seal(b"payload")
        header = decode(data)
        assert data[:8] == b"ENV\x01\x01\x00\x00\x00"
        assert header.kind == SIGNED
        assert header.sender == ALICE.key_id
        assert data[80:-64] == b"payload"
        assert len(data) == 144 + 7

    def test_signed_and_addressed(self, world):
        data = world.sealer(to=[CAROL.public, BOB.public], sealed=False).seal(b"payload")
        header = decode(data)
        assert (header.kind, header.flags, header.recipients) == (SIGNED, 0, 2)
        assert key_block(data) == b"".join(sorted((BOB.key_id, CAROL.key_id)))
        assert data[header.body : -64] == b"payload"
        assert len(data) == 144 + 2 * 16 + 7

    def test_sealed(self, world):
        data = world.sealer(to=[CAROL.public, BOB.public]).seal(b"payload")
        header = decode(data)
        assert (header.kind, header.flags, header.recipients) == (SEALED, 0, 2)
        ids = [key_block(data)[at : at + 16] for at in (64, 128)]
        assert ids == sorted((BOB.key_id, CAROL.key_id))
        assert b"payload" not in data
        assert len(data) == 288 + 64 + 7

    def test_a_reply_names_its_request_and_costs_32_bytes(self, each):
        plain, reply = each.seal(b"x"), each.seal(b"x", in_reply_to=b"r" * 32)
        assert decode(plain).in_reply_to is None
        assert decode(reply).in_reply_to == b"r" * 32
        assert len(reply) == len(plain) + 32

    def test_flags_are_of_the_envelope_alone(self, each):
        envelopes = [
            each.seal(b"x"),
            each.seal_bundle([b"x"]),
            each.seal(b"x", in_reply_to=bytes(32)),
            each.seal_bundle([b"x"], in_reply_to=bytes(32)),
            each.seal(b"x"),
        ]
        assert [decode(data).flags for data in envelopes] == [0, 1, 2, 3, 0]

    def test_a_recipient_named_twice_stands_once(self, world):
        peers = [BOB.public, Peer("bob", BOB.public, contexts=["*"]), BOB.public]
        assert decode(world.sealer(to=peers).seal(b"")).recipients == 1

    def test_sent_at_is_the_clock_and_the_stream_names_its_start(self, world, each):
        world.clock.advance(12.5)
        header = decode(each.seal(b""))
        assert header.sent_at == START + 12_500_000
        assert int.from_bytes(header.stream[:8], "big") == START
        assert each.stream == header.stream

    def test_bound_frames_are_not_carried(self, each):
        data = each.seal(b"x", bound=[b"a topic", b"a frame"])
        assert b"a topic" not in data
        assert len(data) == len(each.seal(b"x"))

    @pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
    def test_a_payload_may_be_any_bytes_also_none(self, world, wrap):
        assert world.sealer().seal(wrap(b"payload"))[80:-64] == b"payload"
        assert world.sealer().seal(wrap(b""))[80:-64] == b""

    def test_it_tells_who_seals_where_and_no_secret(self, world):
        sealer = world.sealer(to=[BOB.public])
        assert (sealer.identity, sealer.context) == (ALICE.public, "orders")
        assert (sealer.sealed, sealer.addressed) == (True, True)
        assert repr(sealer) == f"<Sealer {ALICE.key_id.hex()} in 'orders'>"
        addressed = world.sealer(to=[BOB.public], sealed=False)
        assert (addressed.sealed, addressed.addressed) == (False, True)
        signed = world.sealer()
        assert (signed.sealed, signed.addressed) == (False, False)

    def test_one_that_is_half_made_can_be_printed(self):
        """A traceback may show it."""
        assert repr(Sealer.__new__(Sealer)) == "<Sealer of nobody in ''>"

    def test_real_time_and_randomness_are_the_defaults(self):
        before = clocks.wall()
        first, second = (Sealer(ALICE, context="c").seal(b"") for _ in range(2))
        assert before <= decode(first).sent_at <= clocks.wall()
        assert first[56:80] != second[56:80]


class TestStream:
    """SPEC 6.2."""

    def test_sequences_rise_by_one_from_zero(self, each):
        envelopes = [each.seal(b""), each.seal_bundle([b"", b""]), each.seal(b"", bound=[b"t"])]
        headers = [decode(data) for data in envelopes]
        assert [header.sequence for header in headers] == [0, 1, 2]
        assert len({header.stream for header in headers}) == 1

    @pytest.mark.audit("A18")
    def test_two_sealers_have_two_streams(self, world):
        assert world.sealer().stream != world.sealer().stream

    @pytest.mark.audit("A19")
    def test_a_clock_that_stepped_back_begins_another(self, world, each):
        world.clock.advance(10)
        first = decode(each.seal(b""))
        world.clock.now -= 1
        second = decode(each.seal(b""))
        assert (second.sequence, second.sent_at) == (0, first.sent_at - 1)
        assert second.stream != first.stream
        assert int.from_bytes(second.stream[:8], "big") == second.sent_at
        world.clock.now += 1
        third = decode(each.seal(b""))
        assert (third.stream, third.sequence) == (second.stream, 1)

    def test_a_clock_that_stands_still_or_leaps_ahead_does_not(self, world, each):
        stream = each.stream
        for seconds in (0, 0, 1, 86_400 * 365):
            world.clock.advance(seconds)
            assert decode(each.seal(b"")).stream == stream

    def test_a_step_back_before_the_first_envelope_begins_another(self, world, each):
        stream = each.stream
        world.clock.now -= 1
        assert decode(each.seal(b"")).stream != stream

    @pytest.mark.audit("A17")
    def test_the_last_sequence_is_used_and_then_another_begins(self, each):
        stream = each.stream
        end_of_stream(each)
        last, first = decode(each.seal(b"")), decode(each.seal(b""))
        assert (last.stream, last.sequence) == (stream, LAST)
        assert first.stream != stream
        assert first.sequence == 0

    def test_a_new_stream_has_a_new_key_block(self, world):
        sealer = world.sealer(to=[BOB.public])
        world.clock.advance(1)
        first = sealer.seal(b"")
        world.clock.now -= 1
        assert key_block(first) != key_block(sealer.seal(b""))
        block = key_block(sealer.seal(b""))
        end_of_stream(sealer, LAST + 1)
        assert key_block(sealer.seal(b"")) != block

    @pytest.mark.audit("A18", "C6")
    @pytest.mark.parametrize("fork", [os.fork, raw_fork])
    def test_a_forked_child_begins_another_and_the_parent_goes_on(self, each, fork):
        first = decode(each.seal(b""))
        child = decode(in_child(lambda: each.seal(b"payload of the child"), fork=fork))
        second = decode(each.seal(b""))
        assert (second.stream, second.sequence) == (first.stream, 1)
        assert child.sequence == 0
        assert child.stream != first.stream

    @pytest.mark.audit("A18", "C6")
    def test_a_forked_child_has_another_key_and_nonce_though_random_bytes_repeat(self, world):
        sealer = world.sealer(to=[BOB.public], random=seeded())
        before = sealer.seal(b"")

        def seal():
            return sealer.seal(b"")

        child, parent = in_child(seal), seal()
        assert child[56:80] != parent[56:80]
        assert key_block(child) != key_block(before) == key_block(parent)

    def test_a_child_seals_though_a_thread_held_the_lock_at_the_fork(self, each):
        with held_by_another_thread(each._lock):
            assert decode(in_child(lambda: each.seal(b""), seconds=5)).sequence == 0

    def test_this_process_knows_it_for_its_own_also_when_its_sealer_is_gone(self, world):
        stream = decode(world.sealer().seal(b"")).stream
        assert began_here(stream) is not None
        assert in_child(lambda: began_here(stream)) is None

    def test_a_sibling_has_the_same_settings_and_another_stream(self, each):
        each.seal(b"")
        sibling = each.sibling()
        ours, theirs = decode(each.seal(b"x")), decode(sibling.seal(b"x"))
        assert theirs.stream != ours.stream
        assert theirs.sequence == 0
        assert (theirs.kind, theirs.recipients) == (ours.kind, ours.recipients)
        assert (theirs.sender, theirs.sent_at) == (ours.sender, ours.sent_at)
        assert sibling.context == each.context
        if each.addressed and not each.sealed:
            assert key_block(sibling.seal(b"")) == key_block(each.seal(b""))

    def test_a_sibling_may_be_for_others_and_seals_if_its_model_does(self, each):
        sibling = each.sibling(to=[CAROL.public, ALICE.public])
        assert sibling.audience == (CAROL.public, ALICE.public)
        assert (sibling.sealed, sibling.addressed) == (each.sealed, True)
        assert decode(sibling.seal(b"")).recipients == 2

    def test_a_sibling_for_nobody_cannot_seal(self, world):
        assert world.sealer(to=[BOB.public], sealed=False).sibling(to=()).audience == ()
        with pytest.raises(UsageError, match="recipients"):
            world.sealer(to=[BOB.public]).sibling(to=())

    def test_a_sibling_keeps_size_and_randomness(self, world):
        sealer = world.sealer(max_size=200, random=lambda n: b"\x07" * n).sibling()
        assert sealer.seal(bytes(56))[56:80] == b"\x07" * 24
        with pytest.raises(UsageError, match="200"):
            sealer.seal(bytes(57))

    @pytest.mark.parametrize(
        "spread", [copy.copy, copy.deepcopy, pickle.dumps], ids=["copy", "deepcopy", "pickle"]
    )
    def test_a_sealer_is_not_copied_since_a_copy_would_repeat_sequences(self, each, spread):
        with pytest.raises(TypeError, match="sibling"):
            spread(each)


@pytest.mark.audit("A18", "C6")
@pytest.mark.parametrize("to", [(), (BOB.public,)], ids=["signed", "sealed"])
def test_threads_never_repeat_and_never_skip_a_sequence(monkeypatch, to):
    monkeypatch.setattr(sealers, "EPOCH_ENVELOPES", 40)  # The epoch changes amid them.
    sealer = Sealer(ALICE, context="orders", to=to, max_size=500)

    def run(seed):
        draw = random.Random(seed)
        headers = []
        for _ in range(40):
            if draw.random() < 0.2:
                with pytest.raises(UsageError):
                    sealer.seal(bytes(500))
            headers.append(decode(sealer.seal(b"", bound=[bytes([draw.randrange(8)])])))
        return headers

    headers = [header for row in at_once(16, run) for header in row]
    # Real time runs in this test and may step back: each stream is whole by itself.
    for stream in {header.stream for header in headers}:
        mine = sorted(header.sequence for header in headers if header.stream == stream)
        assert mine == list(range(len(mine)))
    assert len(headers) == 640


@pytest.mark.audit("A18")
def test_two_threads_that_find_a_stream_ended_begin_one(world):
    both = threading.Barrier(2)
    begun = []

    def meet(size):
        """Return bytes; whoever begins a stream waits for another that does so too."""
        if size == 32:
            begun.append(size)
            with contextlib.suppress(threading.BrokenBarrierError):
                both.wait(0.2 * (len(begun) > 1))
        return bytes(size)

    sealer = world.sealer(random=meet)
    end_of_stream(sealer, LAST + 1)
    headers = at_once(2, lambda _: decode(sealer.seal(b"")))
    assert len(begun) == 2  # One when it was made, and one now.
    assert {header.stream for header in headers} == {sealer.stream}
    assert {header.sequence for header in headers} == {0, 1}


@pytest.mark.audit("A18")
def test_threads_that_meet_the_end_of_a_stream_lose_nothing(world):
    sealer = world.sealer()
    old = sealer.stream
    end_of_stream(sealer, LAST - 99)
    rows = at_once(16, lambda _: [decode(sealer.seal(b"")) for _ in range(20)])
    by_stream = {}
    for header in (header for row in rows for header in row):
        by_stream.setdefault(header.stream, []).append(header.sequence)
    assert sorted(by_stream.pop(old)) == list(range(LAST - 99, LAST + 1))
    [rest] = by_stream.values()
    assert sorted(rest) == list(range(220))
