"""Messages of a pairing: types, sizes, one encoding (SPEC 19.3)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support import flip

from envelope.errors import PairingError
from envelope.pairing import messages
from envelope.pairing.messages import BODY_SIZES, MAX_MESSAGE, Type, decode, head

SPEC = (Path(__file__).parents[2] / "docs" / "SPEC.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", list(Type))
def test_a_message_begins_with_magic_version_and_type(kind):
    assert head(kind) == b"\x45\x4e\x56\x50\x01" + bytes((kind,))


def test_the_types_are_those_of_spec_19_3():
    names = "END HELLO ANSWER CONFIRMATION LISTENER_PROOF CONNECTOR_PROOF"
    names += " CONNECTOR_DECISION LISTENER_DECISION DONE"
    assert [(kind.name, kind.value) for kind in Type] == [
        (name, n) for n, name in enumerate(names.split())
    ]


def test_what_bodies_are_made_of_has_the_sizes_of_spec_19_3():
    assert (messages.ELEMENT, messages.EPHEMERAL, messages.CODE_TAG) == (32, 32, 32)
    assert (messages.AEAD_TAG, messages.PUB, messages.PROOF) == (16, 64, 96)
    assert MAX_MESSAGE == 256


def test_what_is_no_message_is_called_so():
    with pytest.raises(PairingError) as caught:
        decode(b"")
    assert messages.STRANGE in str(caught.value)
    assert messages.STRANGE == "the other side sent something that is no message of a pairing"


def test_the_sizes_are_those_of_spec_19_3():
    rows = re.findall(
        r"^\| (\d) \| (?:connector|listener|either) \|.*\| (\d+) \|$", SPEC, re.MULTILINE
    )
    assert {int(kind): int(size) for kind, size in rows} == {
        kind: 6 + size for kind, size in BODY_SIZES.items()
    }
    assert max(BODY_SIZES.values()) + 6 <= MAX_MESSAGE


@pytest.mark.parametrize("kind", list(Type))
def test_a_message_of_another_size_is_none(kind):
    whole = head(kind) + bytes(BODY_SIZES[kind])
    assert decode(whole) == (kind, bytes(BODY_SIZES[kind]))
    for size in {*range(len(whole)), len(whole) + 1, 10_000} - {len(whole)}:
        with pytest.raises(PairingError, match="no message of a pairing"):
            decode(whole[:size].ljust(size, b"\0"))


def test_another_magic_version_or_type_is_no_message():
    whole = head(Type.END)
    for position in range(5):
        for bit in range(8):
            with pytest.raises(PairingError):
                decode(flip(whole, position, 1 << bit))
    for kind in range(9, 256):
        with pytest.raises(PairingError):
            decode(whole[:5] + bytes((kind,)))
