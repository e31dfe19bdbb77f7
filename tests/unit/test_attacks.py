"""benchmarks/attacks: what `make attacks` does, against this library, with no peer installed."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest
from attacks import generic, glue, ours, receivers, table
from attacks.generic import (
    ABSENT,
    ATTACKS,
    HARMLESS,
    NOTICED,
    REFUSED,
    THROUGH,
    UNNOTICED,
    BrokenSubjectError,
    Cell,
    tried,
)
from attacks.receivers import Answer
from attacks.subject import Heard, Note, Wire
from naked import Naked

from envelope import Policy

entry = import_module("attacks.__main__")

DOCUMENT = Path(__file__).parents[2] / "docs" / "comparison.md"

BY_NAME = {attack.name: attack for attack in ATTACKS}
AUDITED = {
    generic.REPLAY: pytest.mark.audit("A3"),
    generic.RESTART: pytest.mark.audit("A3", "R2"),
    generic.TOPIC: pytest.mark.audit("A5"),
    generic.RECIPIENT: pytest.mark.audit("A7"),
    generic.NAME: pytest.mark.audit("A12", "C3"),
    generic.STALE: pytest.mark.audit("A4"),
    generic.TRUNCATED: pytest.mark.audit("A2"),
    generic.DROPPED: pytest.mark.audit("A21"),
    generic.TWO: pytest.mark.audit("A9", "C5"),
    generic.DOWNGRADE: pytest.mark.audit("A14", "C9"),
    generic.BOMB: pytest.mark.audit("A20", "P5"),
}
each_attack = pytest.mark.parametrize(
    "attack", [pytest.param(BY_NAME[name], id=name, marks=mark) for name, mark in AUDITED.items()]
)


def committed():
    """Return the cells of the committed table, as written, by subject and column."""
    block = DOCUMENT.read_text(encoding="utf-8").split("<!-- attacks:begin -->")[1]
    rows = [re.split(r" ?\| ?", line)[1:-1] for line in block.splitlines() if line[:1] == "|"]
    heads, _, *lines = rows
    return {line[0]: dict(zip(heads, line, strict=True)) for line in lines}


# This library.


def test_every_attack_is_tried_here():
    assert set(AUDITED) == set(BY_NAME)
    assert len(BY_NAME) == len(ATTACKS)


@pytest.mark.parametrize("kind", ours.SUBJECTS, ids=lambda kind: kind.name)
@each_attack
def test_nothing_gets_through_here_and_the_committed_table_says_the_same(kind, attack):
    cell = tried(attack, kind)
    assert cell.outcome in HARMLESS
    assert committed()[kind.name][attack.name] == table.WORDS.get(cell.outcome, cell.outcome)


def test_only_what_is_not_encrypted_has_an_attack_that_there_is_nothing_for():
    absent = {(kind.name, attack) for kind in ours.SUBJECTS for attack in kind.absent}
    assert absent == {(ours.Signed.name, generic.TWO)}


# The attacks bite.


@pytest.mark.parametrize(
    "attack",
    [attack for attack in ATTACKS if attack.name != generic.TWO],
    ids=lambda attack: attack.name,
)
def test_an_attack_gets_through_where_there_is_no_protection(attack):
    outcome = UNNOTICED if attack.name == generic.DROPPED else THROUGH
    assert tried(attack, Naked).outcome == outcome


def test_one_ciphertext_is_two_plaintexts_where_no_commitment_is():
    assert tried(BY_NAME[generic.TWO], glue.GroupByHand) == Cell(THROUGH)


@pytest.mark.parametrize(
    ("check", "instead", "attack", "kind"),
    [
        ("keyblock.equal", lambda a, b: True, generic.TWO, ours.Sealed),
        ("opener.verify", lambda data, key: data[64:], generic.TOPIC, ours.Signed),
        ("opener.verify", lambda data, key: data[64:], generic.NAME, ours.Signed),
        ("opener.verify", lambda data, key: data[64:], generic.TRUNCATED, ours.Signed),
    ],
)
def test_without_its_check_an_attack_gets_through_here_too(
    check, instead, attack, kind, monkeypatch
):
    monkeypatch.setattr(f"envelope.{check}", instead)
    assert tried(BY_NAME[attack], kind).outcome == THROUGH


@pytest.mark.parametrize(
    ("policy", "attack", "kind"),
    [
        (Policy(max_age=86_400, addressed=True), generic.STALE, ours.Signed),
        (Policy(), generic.DOWNGRADE, ours.Sealed),
    ],
)
def test_under_a_weaker_policy_an_attack_gets_through_here_too(policy, attack, kind, monkeypatch):
    monkeypatch.setattr(ours, "Policy", lambda **_: policy)
    assert tried(BY_NAME[attack], kind).outcome == THROUGH


def test_an_attack_on_what_does_not_work_is_an_error():
    class Deaf(ours.Signed):
        name = "deaf"

        def writer(self, who):
            write = super().writer(who)
            return lambda note: write(note._replace(age=3600))

    with pytest.raises(BrokenSubjectError, match=r"deaf, replay now: .* refused: stale"):
        tried(BY_NAME[generic.REPLAY], Deaf)


def test_a_subject_that_reads_something_else_is_an_error():
    with pytest.raises(BrokenSubjectError):
        generic.honest(Answer(Heard(b"close valve 3", "alice")), Note())
    with pytest.raises(BrokenSubjectError):
        generic.honest(Answer(Heard(Note().payload, "carol")), Note())
    generic.honest(Answer(Heard(Note().payload)), Note())


def test_a_decoder_that_cannot_be_seen_at_work_is_an_error():
    class Unseen(Naked):
        decoder = staticmethod(len)

    with pytest.raises(BrokenSubjectError, match="not seen at work"):
        tried(BY_NAME[generic.BOMB], Unseen)


def test_one_try_of_several_that_gets_through_counts():
    refused, heard = Answer(None, "too short"), Answer(Heard(b""))
    assert generic.judged([("a", refused), ("b", refused)]) == Cell(REFUSED, "too short")
    assert generic.judged([("a", refused), ("b", heard)]) == Cell(THROUGH, "b")


def test_a_message_is_cut_at_every_frame():
    found = dict(generic.cuts(Wire(b"t", [b"abcd", b"ef"])))
    assert found["half of frame 1"].frames == [b"ab", b"ef"]
    assert found["the last byte of the last frame"].frames == [b"abcd", b"e"]
    assert found["the last frame"].frames == [b"abcd"]
    assert len(found) == 5


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("Duplicate Signature: b'1f'"), "ValueError: Duplicate Signature"),
        (ValueError("Signature b'1f' does not match"), "ValueError"),
        (TimeoutError(), "TimeoutError"),
        (type("Error", (ValueError,), {})("of 12 bytes"), "ValueError"),
    ],
)
def test_a_reason_is_the_same_in_each_run(error, text):
    assert receivers.reason_of(error) == text


# What comes of it.


def test_the_committed_table_has_the_rows_and_columns_of_the_code():
    found = committed()
    assert list(found) == [kind.name for kind in entry.SUBJECTS]
    for kind in entry.SUBJECTS:
        assert list(found[kind.name]) == table.columns()
        assert found[kind.name][table.USED_AS] == kind.used_as


def test_what_has_no_attack_says_so_in_the_committed_table():
    found = committed()
    for kind in entry.SUBJECTS:
        assert set(kind.absent) <= set(BY_NAME)
        for attack in ATTACKS:
            is_absent = found[kind.name][attack.name] == table.WORDS[ABSENT]
            assert is_absent == (attack.name in kind.absent)


def test_every_peer_names_its_documentation():
    assert all(kind.pages for kind in entry.SUBJECTS)


def test_what_gets_through_here_fails_the_command_and_what_gets_through_elsewhere_does_not():
    cells = {
        (ours.Signed.name, "a"): Cell(REFUSED, "stale"),
        (ours.Signed.name, "b"): Cell(NOTICED),
        (Naked.name, "a"): Cell(THROUGH),
    }
    subjects = [ours.Signed, Naked]
    assert table.harm(subjects, cells) == []
    cells[ours.Signed.name, "a"] = Cell(THROUGH, "half")
    cells[ours.Signed.name, "b"] = Cell(UNNOTICED)
    assert table.harm(subjects, cells) == [
        "envelope signed, a: got through half",
        "envelope signed, b: not noticed",
    ]


def test_what_is_said_in_the_same_words_is_told_once():
    attack = BY_NAME[generic.REPLAY]
    cells = {
        (ours.Signed.name, attack.name): Cell(REFUSED, "replayed"),
        (ours.Sealed.name, attack.name): Cell(REFUSED, "replayed"),
        (Naked.name, attack.name): Cell(THROUGH),
    }
    lines = table.told(attack, [*ours.SUBJECTS, Naked], cells)
    assert lines[2:] == [
        "- refused: envelope signed, envelope sealed (replayed).",
        "- got through: nothing.",
        "",
    ]


def test_the_command_fails_if_anything_gets_through_here(monkeypatch, capsys, tmp_path):
    class Leaky(Naked):
        name = "leaky"
        is_ours = True
        absent = dict.fromkeys(set(BY_NAME) - {generic.TOPIC}, "of no interest")

    document = tmp_path / "comparison.md"
    document.write_text("<!-- attacks:begin --><!-- attacks:end -->", encoding="utf-8")
    monkeypatch.setattr(entry, "SUBJECTS", [Leaky])
    monkeypatch.setattr(entry.logging, "disable", lambda _: None)
    assert entry.main(["--write", str(document)]) == 1
    assert "NOT REFUSED: leaky, another topic: got through" in capsys.readouterr().err
    assert "| leaky |" in document.read_text(encoding="utf-8")


def test_a_part_of_the_run_is_not_written(monkeypatch, capsys, tmp_path):
    class Small(Naked):
        absent = dict.fromkeys(set(BY_NAME) - {generic.TOPIC}, "of no interest")

    document = tmp_path / "comparison.md"
    monkeypatch.setattr(entry, "SUBJECTS", [Small])
    monkeypatch.setattr(entry.logging, "disable", lambda _: None)
    assert entry.main(["--only", "nothing", "--write", str(document)]) == 0
    assert "stays as it is" in capsys.readouterr().err
    assert not document.exists()
