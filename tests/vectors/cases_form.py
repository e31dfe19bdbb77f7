"""What falls at size and form: too_large, malformed, version (7.2 steps 1, 2 and 10).

Every rule of 4.3 is broken alone. Wherever the rest can still be valid it is:
the signature is made after the mutation, and clock and policy would let it pass.
"""

from __future__ import annotations

from collections.abc import Iterator

from vectors.reference import Epoch, Identity, pack_bundle, sealed_key_block, u16, u32
from vectors.world import (
    ALICE,
    BOB,
    CAROL,
    NOW,
    SECOND,
    STREAM,
    Case,
    case,
    craft,
    epoch,
    identity,
    noise,
    sealed,
)


def cases() -> Iterator[Case]:
    yield from too_large()
    yield from other_versions()
    yield from lengths()
    yield from fields()
    yield from key_blocks()
    yield from bundles()


def too_large() -> Iterator[Case]:
    size = len(craft())
    yield case("envelope", "one byte too many", craft(), "too_large", policy={"max_size": size - 1})
    yield case(
        "bound_frames_count_too",
        "the bound frames are what is too much",
        craft(bound=[b"to", b"pic"]),
        "too_large",
        bound=[b"to", b"pic"],
        policy={"max_size": size + 4},
    )
    many = [b""] * 65
    yield case("65_bound_frames", "one frame too many", craft(bound=many), "too_large", bound=many)
    for name, data in {
        "garbage": noise("garbage", 200),
        "another_version": craft(bytes(56), version=2),
    }.items():
        yield case(
            f"before_decoding_{name}",
            "size is judged before anything is read (order of 7.2)",
            data,
            "too_large",
            policy={"max_size": 199},
        )


def other_versions() -> Iterator[Case]:
    for version in (0, 2, 255):
        yield case(
            f"version_{version}",
            "all else is a valid version 1, signed with this byte: no downgrade, no guess",
            craft(version=version),
            "version",
        )
    yield case("shortest", "144 bytes", b"ENV\x02" + noise("rest", 140), "version")
    yield case(
        "with_an_unknown_kind_and_flags",
        "what follows another version is not looked at (4.4)",
        b"ENV\x02" + b"\xff" * 300,
        "version",
    )
    yield case("version_of_the_sealed", "the same for a sealed one", sealed(version=3), "version")


def lengths() -> Iterator[Case]:
    whole = craft(b"")
    for size in (0, 1, 3, 4, 80, 143):
        yield case(f"length_{size}", "shorter than 144", whole[:size], "malformed")
    yield case(
        "short_and_of_another_version",
        "the length comes first (4.4)",
        craft(b"", version=2)[:143],
        "malformed",
    )
    addressed, closed = craft(b"", to=[BOB]), sealed(b"")
    reply = craft(b"", in_reply_to=bytes(32))
    for name, data in {"addressed": addressed, "sealed": closed, "reply": reply}.items():
        yield case(
            f"{name}_one_byte_short",
            "shorter than its header says",
            data[:-1],
            "malformed",
            in_reply_to=bytes(32) if name == "reply" else None,
        )
    yield case(
        "body_shorter_than_a_tag",
        "sealed with a body of 15 bytes, rightly signed",
        sealed(body=bytes(15)),
        "malformed",
    )
    yield case(
        "sealed_without_a_body", "the tag is missing, rightly signed", sealed(body=b""), "malformed"
    )
    yield case(
        "announces_256_recipients",
        "a count that the bytes cannot hold, rightly signed",
        craft(recipients=256),
        "malformed",
    )
    yield case(
        "sealed_announces_one_more",
        "the second entry is the tag and the signature",
        sealed(b"", recipients=2),
        "malformed",
    )


def fields() -> Iterator[Case]:
    for name, magic in {
        "lower_case": b"env",
        "zero": bytes(3),
        "last_letter": b"ENW",
        "turned": b"VNE",
    }.items():
        yield case(f"magic_{name}", "another magic, signed", craft(magic=magic), "malformed")
    yield case(
        "magic_and_version",
        "both are other ones: the magic decides (4.4)",
        craft(magic=b"ENX", version=2),
        "malformed",
    )
    for kind in (0, 3, 4, 5, 129, 255):
        comment = "reserved or unknown, signed; the rest is that of a signed one"
        yield case(f"kind_{kind}", comment, craft(kind=kind), "malformed")
        comment = "the same with the rest of a sealed one"
        yield case(f"kind_{kind}_of_the_sealed", comment, sealed(kind=kind), "malformed")
    for bit in range(2, 8):
        comment = "a reserved flag bit, signed"
        yield case(f"flag_bit_{bit}", comment, craft(flags=1 << bit), "malformed")
        yield case(f"flag_bit_{bit}_of_the_sealed", comment, sealed(flags=1 << bit), "malformed")
    yield case(
        "flag_bit_2_with_both_flags",
        "valid bits do not excuse another",
        craft(pack_bundle([b"a"]), flags=7, in_reply_to=bytes(32)),
        "malformed",
        in_reply_to=bytes(32),
        bundle=True,
    )
    for value in (2**48, 2**63, 2**64 - 1):
        comment = "the sequence is 2^48 or more, signed"
        yield case(f"sequence_{value:x}", comment, craft(sequence=value), "malformed")
    yield case(
        "sent_at_2_53",
        "the clock is near enough, so that only the width is wrong",
        craft(sent_at=2**53),
        "malformed",
        now=2**53 - 1,
    )
    yield case(
        "sent_at_2_64_1",
        "beyond the width and beyond the future: the width is judged first",
        craft(sent_at=2**64 - 1),
        "malformed",
    )


def key_blocks() -> Iterator[Case]:
    both = sorted([BOB.key_id, CAROL.key_id])
    keys = epoch()
    block = sealed(b"", to=[BOB, CAROL])[80:272]
    entries = [block[64:128], block[128:]]
    for name, order in {
        "descending": (1, 0),
        "twice_the_same": (0, 0),
        "twice_last": (1, 1),
    }.items():
        yield case(
            f"key_ids_{name}",
            "not strictly ascending, signed",
            craft(recipients=2, key_block=b"".join(both[index] for index in order)),
            "malformed",
        )
        mixed = block[:64] + b"".join(entries[index] for index in order)
        yield case(
            f"key_ids_{name}_in_a_sealed_one",
            "not strictly ascending, every wrap valid, signed",
            sealed(to=[BOB, CAROL], key_block=mixed, keys=keys),
            "malformed",
        )
    three = sorted([ALICE.key_id, *both])
    swapped = [three[0], three[2], three[1]]
    yield case(
        "key_ids_the_last_two_swapped",
        "an order is judged to its end",
        craft(recipients=3, key_block=b"".join(swapped)),
        "malformed",
    )
    crowd: list[Identity] = [BOB, *(identity(f"crowd-{number}") for number in range(256))]
    yield case("signed_to_257", "one recipient too many, signed", craft(to=crowd), "malformed")
    yield case("sealed_to_257", "one recipient too many, signed", sealed(to=crowd), "malformed")
    yield case("sealed_to_none", "nobody could open it, signed", sealed(to=[]), "malformed")
    yield case(
        "sealed_to_none_with_an_entry",
        "the entry is there and not counted",
        sealed(recipients=0, key_block=one_entry(keys)),
        "malformed",
    )
    yield case(
        "signed_to_65535",
        "a count far beyond the limit",
        craft(recipients=65_535),
        "malformed",
    )


def one_entry(keys: Epoch) -> bytes:
    return sealed_key_block(ALICE.pub, STREAM, keys, [BOB.pub])


def bundles() -> Iterator[Case]:
    sixteen = b"\xc4\x00" * 16
    forms = {
        "nothing": b"",
        "none": b"\x90",
        "none_as_array16": b"\xdc" + u16(0),
        "of_4097": pack_bundle([b""] * 4097),
        "15_as_array16": b"\xdc" + u16(15) + b"\xc4\x00" * 15,
        "1_as_array32": b"\xdd" + u32(1) + b"\xc4\x00",
        "16_as_array32": b"\xdd" + u32(16) + sixteen,
        "header_cut": b"\xdc\x00",
        "short_bin16": b"\x91\xc5" + u16(1) + b"a",
        "short_bin16_255": b"\x91\xc5" + u16(255) + bytes(255),
        "short_bin32": b"\x91\xc6" + u32(1) + b"a",
        "short_bin32_256": b"\x91\xc6" + u32(256) + bytes(256),
        "empty_bin16": b"\x91\xc5" + u16(0),
        "element_missing": b"\x92\xc4\x01a",
        "element_too_many": b"\x91\xc4\x01a\xc4\x01b",
        "element_cut": b"\x91\xc4\x02a",
        "element_header_cut": b"\x91\xc5\x00",
        "trailing_byte": b"\x91\xc4\x01a\x00",
        "trailing_nil": b"\x91\xc4\x01a\xc0",
        "announces_65535": b"\xdc\xff\xff\xc4\x01a",
        "announces_4_gib": b"\x91\xc6\xff\xff\xff\xff" + b"a",
        "array32_announces_all": b"\xdd\xff\xff\xff\xff\xc4\x01a",
        "fixstr": b"\x91\xa1a",
        "str8": b"\x91\xd9\x01a",
        "empty_fixstr": b"\x91\xa0",
        "nil": b"\x91\xc0",
        "bool": b"\x91\xc3",
        "integer": b"\x91\x01",
        "float": b"\x91\xcb" + bytes(8),
        "extension": b"\x91\xd4\x01a",
        "never_used_c1": b"\x91\xc1",
        "nested": b"\x91\x91\xc4\x01a",
        "nested_empty": b"\x92\xc4\x01a\x90",
        "deep": b"\x91" * 2000,
        "map": b"\x81\xc4\x01a\xc4\x01b",
        "bare_bin": b"\xc4\x01a",
        "second_is_str": b"\x92\xc4\x01a\xa1b",
        "text": b"payload",
    }
    for name, packed in forms.items():
        yield case(
            f"bundle_{name}",
            "not a bundle in its one encoding; all else is valid, so it falls at step 10",
            craft(packed, bundle=True),
            "malformed",
            bundle=True,
        )
    yield case(
        "bundle_sealed",
        "the same inside a ciphertext",
        sealed(forms["short_bin16"], bundle=True),
        "malformed",
        bundle=True,
    )
    yield case(
        "before_policy_and_freshness",
        "an unknown kind where sealed is required, and late: form comes first (order of 7.2)",
        sealed(kind=3, sent_at=NOW - 60 * SECOND),
        "malformed",
        policy={"require": "sealed"},
    )
