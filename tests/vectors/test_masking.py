"""Each case falls at its own check: without that check the envelope would open.

A case that would be refused anyway, one step later, proves nothing about the check
it is named after. Cases about the order of the checks are meant to break two rules,
and say so in their comments.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nacl import bindings as sodium
from vectors import reference_opener, world
from vectors.reference_opener import Receiver

HERE = Path(__file__).parent
BREAKS_TWO_RULES = "(order of 7.2)"


def pass_by(*_: Any, **__: Any) -> None:
    """Stand for a check that somebody left out."""


class NoGuard:
    def __init__(self, *_: Any) -> None:
        pass

    check = staticmethod(pass_by)

    def mark(self, *_: Any, **__: Any) -> int:
        return 0


class Receivers:
    """Receivers in which one check is left out, by the outcome that it would give."""

    class TooLarge(Receiver):
        check_size = pass_by

    class AnyPolicy(Receiver):
        check_policy = pass_by

    class AnySender(Receiver):
        def check_trust(self, envelope: Any, *_: Any) -> Any:
            return next(
                peer for peer in self.trust if reference_opener.key_id(peer.pub) == envelope.sender
            )

    class AnyTime(Receiver):
        check_freshness = pass_by

    class AnySignature(Receiver):
        check_signature = pass_by

    class AnyBundle(Receiver):
        @staticmethod
        def unpack(payload: bytes) -> list[bytes]:
            return [payload]

    class NoMemory(Receiver):
        def __post_init__(self) -> None:
            super().__post_init__()
            self.guard = NoGuard()


def last_result(receiver: type[Receiver], case: world.Json, monkeypatch: Any) -> str:
    monkeypatch.setattr(world, "Receiver", receiver)
    opened = world.reference_receiver(case)
    return [world.open_by_reference(opened, one)["result"] for one in case["openings"]][-1]


def cases_of(outcome: str, *, select: Callable[[world.Json], bool] = lambda _: True) -> list[Any]:
    text = (HERE / f"{outcome}.json").read_text(encoding="utf-8")
    return [
        case
        for case in json.loads(text)["cases"]
        if BREAKS_TWO_RULES not in case["comment"] and select(case)
    ]


def is_signed(case: world.Json) -> bool:
    """Tell whether nothing but the signature guards it: a sealed one has its AAD too."""
    return case["openings"][-1]["envelope"][8:10] == "01"


@pytest.mark.parametrize(
    ("outcome", "receiver", "select"),
    [
        ("too_large", Receivers.TooLarge, None),
        ("policy", Receivers.AnyPolicy, None),
        ("reflected", Receivers.AnySender, None),
        ("not_trusted", Receivers.AnySender, None),
        ("stale", Receivers.AnyTime, None),
        ("future", Receivers.AnyTime, None),
        ("before_start", Receivers.NoMemory, None),
        ("too_old", Receivers.NoMemory, None),
        ("replayed", Receivers.NoMemory, None),
        ("bad_signature", Receivers.AnySignature, is_signed),
        ("malformed", Receivers.AnyBundle, lambda case: case["name"].startswith("bundle_")),
    ],
)
def test_without_its_check_the_envelope_would_open(outcome, receiver, select, monkeypatch):
    cases = cases_of(outcome, select=select or (lambda _: True))
    assert len(cases) > 2
    for case in cases:
        assert last_result(receiver, case, monkeypatch) == "ok", case["name"]


@pytest.mark.audit("C10", "M2")
def test_without_its_check_an_ephemeral_key_would_be_good_enough(monkeypatch):
    def lax_scalarmult(secret: bytes, public: bytes) -> bytes:
        try:
            return scalarmult(secret, public)
        except RuntimeError:
            return bytes(32)

    scalarmult = sodium.crypto_scalarmult
    cases = cases_of("unseal", select=lambda case: case["name"].startswith("ephemeral_"))
    assert len(cases) > 10
    for case in cases:
        with monkeypatch.context() as patch:
            patch.setattr(reference_opener, "is_sound_x25519", lambda _: True)
            patch.setattr(sodium, "crypto_scalarmult", lax_scalarmult)
            assert last_result(Receiver, case, patch) == "ok", case["name"]


@pytest.mark.audit("C5", "A9", "M2")
def test_without_the_commitment_one_envelope_would_have_two_plaintexts(monkeypatch):
    cases = cases_of("unseal", select=lambda case: case["name"].startswith("com_"))
    assert len(cases) > 3
    for case in cases:
        com = bytes.fromhex(case["openings"][-1]["envelope"])[112:144]
        monkeypatch.setattr(reference_opener, "commitment", lambda *_, com=com: com)
        assert last_result(Receiver, case, monkeypatch) == "ok", case["name"]
