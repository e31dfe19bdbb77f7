"""The tree of exceptions, its codes, and the names that are public.

The tree is drawn in the module's docstring, the codes stand in SPEC 7.2 and 12:
these tests read both documents, so that neither can drift from the classes.
"""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from pathlib import Path

import pytest

import envelope
from envelope import errors
from envelope.errors import (
    CODES,
    REJECTIONS,
    EnvelopeError,
    RejectedError,
    UnknownSessionError,
    UnsealError,
)

SPEC = (Path(__file__).parents[2] / "docs" / "SPEC.md").read_text(encoding="utf-8")
DRAWN = re.compile(r"^    ([| ]*)(?:\+-- )?(\w+Error)(?: +(.*))?$", re.MULTILINE)


def section(title: str) -> str:
    """Return the text of one numbered section of the specification."""
    return SPEC.split(f"\n## {title}")[1].split("\n## ")[0]


def drawn_tree() -> dict[str, tuple[str | None, str]]:
    """Return for each drawn class its parent and the note beside it."""
    tree: dict[str, tuple[str | None, str]] = {}
    branch: list[str] = []
    for match in DRAWN.finditer(errors.__doc__ or ""):
        depth = (match.start(2) - match.start() - 4) // 4
        branch[depth:] = [match[2]]
        tree[match[2]] = (branch[depth - 1] if depth else None, match[3] or "")
    return tree


def classes() -> dict[str, type[BaseException]]:
    """Return every exception class that the module defines."""
    return {
        name: found
        for name, found in inspect.getmembers(errors, inspect.isclass)
        if issubclass(found, BaseException)
    }


def test_the_drawn_tree_is_the_tree_of_the_classes():
    assert {name: parent for name, (parent, _) in drawn_tree().items()} == {
        name: None if found is EnvelopeError else found.__bases__[0].__name__
        for name, found in classes().items()
    }


def test_the_drawn_tree_names_every_code_and_only_usage_errors_are_value_errors():
    notes = {name: note for name, (_, note) in drawn_tree().items()}
    assert [notes[error.__name__] for error in REJECTIONS] == list(CODES)
    assert "also a ValueError" in notes["UsageError"]
    assert {name for name, found in classes().items() if issubclass(found, ValueError)} == {
        "UsageError",
        "TrustFileError",
        "NoRoomError",
    }
    assert EnvelopeError.__bases__ == (Exception,)


@pytest.mark.audit("P4")
def test_the_codes_and_their_steps_are_those_of_spec_12():
    rows = re.findall(r"^\| `(\w+)` \| ([\d, .]+) \|", section("12."), re.MULTILINE)
    assert rows
    assert [code for code, _ in rows] == list(CODES)
    assert rows[-1] == ("unknown_session", "18.8")
    assert (UnknownSessionError.__doc__ or "").startswith("SPEC 18.8: ")
    for error, (_, steps) in zip(REJECTIONS[:-1], rows[:-1], strict=True):
        cited = (error.__doc__ or "").split(".")[1]
        assert cited.startswith("2 step"), error
        assert re.findall(r"\d+", cited)[1:] == steps.split(", "), error


def test_the_codes_stand_in_the_order_of_the_checks_of_spec_7_2():
    checks = section("7.").split("\n7.2.")[1].split("\n7.3.")[0]
    met = dict.fromkeys(name for name in re.findall(r"`(\w+)`", checks) if name in CODES)
    # Step 7 names the guard's three in the order of 8.4, as the tuple does.
    # The last is of sessions, which are opened by 18.8.
    assert list(met) == list(CODES)[:-1]


def test_the_codes_of_sessions_are_among_those_of_spec_18_8():
    checks = section("18.").split("\n18.8.")[1].split("\n18.9.")[0]
    met = set(re.findall(r"`(\w+)`", checks))
    assert met - {"cold"} <= set(CODES)
    assert "unknown_session" in met


def test_every_way_to_refuse_is_listed_once():
    subclasses = {found for found in classes().values() if issubclass(found, RejectedError)}
    assert set(REJECTIONS) == subclasses - {RejectedError}
    assert len(set(CODES)) == len(CODES) == len(REJECTIONS) == 17
    assert RejectedError.code == "rejected"


def test_every_class_has_a_code_and_a_summary_of_its_own():
    for error in REJECTIONS:
        assert {"code", "summary"} <= vars(error).keys()
        assert re.fullmatch(r"[a-z_]+", error.code)
        assert re.fullmatch(r"[a-z][^\n]+[a-z)]", error.summary)
    assert len({error.summary for error in REJECTIONS}) == len(REJECTIONS)


@pytest.mark.parametrize("error", [RejectedError, *REJECTIONS])
def test_a_refusal_says_its_code_and_a_sentence(error):
    assert str(error()) == f"{error.code}: {error.summary}"
    assert str(error("in detail")) == f"{error.code}: in detail"
    assert error("in detail").detail == "in detail"
    assert error("").detail == ""  # an empty sentence is the caller's, not a missing one


@pytest.mark.parametrize("error", [RejectedError, *REJECTIONS])
def test_a_refusal_claims_no_sender_and_is_unverified_unless_it_comes_after_the_signature(error):
    assert error().claimed_sender is None
    assert error().verified is (error is UnsealError)


def test_only_the_first_two_checks_and_a_session_come_without_an_envelopes_header():
    assert [error.code for error in REJECTIONS if not error.has_header] == [
        "too_large",
        "malformed",
        "version",
        "unknown_session",
    ]
    assert RejectedError.has_header is True


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))]
)
@pytest.mark.parametrize("error", REJECTIONS)
def test_a_refusal_survives_pickle_and_copy(error, copied):
    for given in (error(), error("in detail")):
        given.claimed_sender = bytes(range(16))
        given.verified = True
        twin = copied(given)
        assert type(twin) is error
        assert str(twin) == str(given)
        assert (twin.claimed_sender, twin.verified) == (given.claimed_sender, True)


def test_the_two_families_are_apart():
    assert not issubclass(errors.UsageError, RejectedError)
    assert not issubclass(errors.KeyFileError, (RejectedError, ValueError))
    assert not issubclass(errors.StoreFileError, (RejectedError, ValueError))
    assert issubclass(errors.TrustFileError, errors.UsageError)


def test_the_exported_names_are_these():
    assert sorted(envelope.__all__) == envelope.__all__
    assert set(envelope.__all__) == {
        "Bundle",
        "EnvelopeError",
        "Fleet",
        "Identity",
        "KeyFileError",
        "Member",
        "Message",
        "Node",
        "Opener",
        "Peer",
        "Policy",
        "PublicIdentity",
        "RejectedError",
        "RequestError",
        "Sealer",
        "SenderStats",
        "Stats",
        "StoreFileError",
        "TrustFileError",
        "TrustStore",
        "UsageError",
        "message_id",
        "recipients_of",
    }
    for name in envelope.__all__:
        assert getattr(envelope, name).__module__.startswith("envelope.")
