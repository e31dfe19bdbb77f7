"""Keys as text: one text for each key, and nothing else reads (SPEC 13.1)."""

from __future__ import annotations

import base64
import hashlib

import pytest

from envelope import UsageError, text

KINDS = {"envpub1": (64, 6, 112), "envsec1": (32, 8, 64), "envkey1": (96, 9, 168)}


def made_by_hand(kind: str, data: bytes, check: int) -> str:
    """Return the text as SPEC 13.1 describes it."""
    digest = hashlib.blake2b(b"env1-text".ljust(128, b"\0") + kind.encode() + data).digest()
    return kind + base64.b32encode(data + digest[:check]).decode().lower()


def data_of(size: int) -> bytes:
    return bytes(7 * i % 256 for i in range(size))


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def good(kind):
    return text.encode(kind, data_of(KINDS[kind][0]))


@pytest.mark.audit("K3")
def test_the_kinds_are_these():
    assert {text.PUBLIC, text.SECRET, text.LOCKED} == set(KINDS)


@pytest.mark.audit("K3")
def test_a_text_is_kind_base32_and_checksum(kind, good):
    size, check, length = KINDS[kind]
    assert good == made_by_hand(kind, data_of(size), check)
    assert len(good) == len(kind) + length
    assert text.decode(kind, good) == data_of(size)


@pytest.mark.audit("K1")
def test_a_cut_or_longer_text_is_refused_as_such(kind, good):
    for wrong in (*(good[:n] for n in range(len(kind), len(good))), good + "a", good + "\n"):
        with pytest.raises(UsageError) as raised:
            text.decode(kind, wrong)
        assert str(raised.value) == f"this {kind}... text is cut short or too long"


@pytest.mark.audit("K3")
def test_a_text_of_another_kind_is_refused_as_such(kind, good):
    for wrong in (*(set(KINDS) - {kind}), "", kind[:-1], kind.upper(), " " + kind):
        with pytest.raises(UsageError) as raised:
            text.decode(kind, wrong + good[len(kind) :])
        said = str(raised.value)
        assert said.partition(";")[0] == f"expected a text that begins with {kind}"
    for wrong in (None, 7, good.encode(), [good]):
        with pytest.raises(UsageError, match="expected a text that begins with"):
            text.decode(kind, wrong)


@pytest.mark.audit("K3")
@pytest.mark.parametrize(
    ("expected", "came", "note"),
    [
        (text.PUBLIC, text.SECRET, "this one is a secret: keep it"),
        (text.PUBLIC, text.LOCKED, "this one is a secret: keep it"),
        (text.SECRET, text.PUBLIC, "this one is public"),
        (text.LOCKED, text.PUBLIC, None),
        (text.LOCKED, text.SECRET, None),
    ],
)
def test_the_other_half_is_told_as_such_and_never_repeated(expected, came, note):
    with pytest.raises(UsageError) as raised:
        text.decode(expected, came + "abcdefgh" * 8)
    first, _, rest = str(raised.value).partition("; ")
    assert first == f"expected a text that begins with {expected}"
    assert rest.startswith(note) if note else not rest
    assert "abcdefgh" not in str(raised.value)


@pytest.mark.audit("K3")
def test_one_wrong_letter_anywhere_is_a_typing_error(kind, good):
    for at in range(len(kind), len(good)):
        for letter in "a7z2":
            if good[at] == letter:
                continue
            with pytest.raises(UsageError, match="typing error: the checksum does not match"):
                text.decode(kind, good[:at] + letter + good[at + 1 :])


def test_two_letters_changed_places_are_a_typing_error(kind, good):
    at = next(i for i in range(len(kind), len(good)) if good[i] != good[i + 1])
    swapped = good[:at] + good[at + 1] + good[at] + good[at + 2 :]
    with pytest.raises(UsageError, match="typing error"):
        text.decode(kind, swapped)


@pytest.mark.parametrize("letter", ["0", "1", "8", "9", "-", " ", "\0", "é", "ß", "\ud800", "ŉ"])
def test_a_character_outside_base32_is_refused_as_such(kind, good, letter):
    for at in (len(kind), len(good) - 1):
        with pytest.raises(UsageError) as raised:
            text.decode(kind, good[:at] + letter + good[at + 1 :])
        assert str(raised.value) == f"this {kind}... text has a character that is not base32"


def test_upper_case_and_its_lookalikes_are_refused(kind, good):
    upper = kind + good[len(kind) :].upper()
    # Dotless i and long s have upper cases within base32.
    dotless = good[: len(kind)] + "\u0131" + good[len(kind) + 1 :]
    long_s = good[:-1] + "\u017f"
    one = good[:-1] + good[-1].upper()
    for wrong in (upper, dotless, long_s, *({one} - {good})):
        with pytest.raises(UsageError, match="typing error"):
            text.decode(kind, wrong)


@pytest.mark.parametrize("pads", [1, 3, 4, 6, 8])
def test_padding_is_refused(kind, good, pads):
    with pytest.raises(UsageError):
        text.decode(kind, good[:-pads] + "=" * pads)


@pytest.mark.audit("K5")
def test_no_error_repeats_the_text(kind, good):
    body = good[len(kind) :]
    for wrong in (good[:-1], good + "a", good[:-1] + "!", good[:-1] + "=", "x" + good):
        with pytest.raises(UsageError) as raised:
            text.decode(kind, wrong)
        assert body[:10] not in str(raised.value)
        assert raised.value.__cause__ is None
        assert raised.value.__suppress_context__ or raised.value.__context__ is None


def test_the_checksum_of_one_kind_is_not_that_of_another():
    data = data_of(32)
    secret = text.encode("envsec1", data)
    digest = base64.b32decode(secret.removeprefix("envsec1").upper())[32:]
    other = hashlib.blake2b(b"env1-text".ljust(128, b"\0") + b"envpub1" + data).digest()[:8]
    assert digest != other
