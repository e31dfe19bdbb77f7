"""docs/SPEC.md and whoever cites it are in step: every number exists, and has its code."""

from __future__ import annotations

import re

import pytest
from specification import ROOT, SPEC, cited, key, numbers_of_spec, sources_of_the_package

NUMBERS = numbers_of_spec(SPEC.read_text(encoding="utf-8"))
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
TESTS = sorted((ROOT / "tests").rglob("*.py"))

PROSE = {"14": "a worked example", "15": "how vectors are written"}
"""Sections that no code carries out."""
WITHOUT_CODE = {
    "1.1": "conventions of the document",
    "1.4": "a word",
    "2.4": "why H has its form",
}
"""Paragraphs that no code carries out, and why."""


def paragraphs() -> set[str]:
    """Return "7.2" for each paragraph that code or a test has to cite."""
    return {one for one in NUMBERS if one.count(".") == 1 and one.split(".")[0] not in PROSE}


def paragraphs_cited() -> set[str]:
    everything = set()
    for path in (*sources_of_the_package(), *TESTS):
        everything |= cited(path.read_text(encoding="utf-8"), NUMBERS)
    return {".".join(one.split(".")[:2]) for one in everything}


def test_what_is_cited_stands_in_the_specification():
    unknown = {
        (str(path), number)
        for path in (*DOCUMENTS, *sources_of_the_package(), *TESTS)
        for number in cited(path.read_text(encoding="utf-8"), NUMBERS) - NUMBERS
    }
    assert not unknown, sorted(unknown)


def test_every_paragraph_is_cited_by_code_or_by_a_test():
    missing = paragraphs() - paragraphs_cited() - set(WITHOUT_CODE)
    assert not missing, sorted(missing, key=key)


def test_what_needs_no_citation_is_there_and_really_has_none():
    assert set(PROSE) | set(WITHOUT_CODE) <= NUMBERS
    assert not paragraphs_cited() & set(WITHOUT_CODE)


def test_the_specification_refers_to_what_it_has():
    text = SPEC.read_text(encoding="utf-8")
    references = set(re.findall(r"\((\d+\.\d+)\b", text))
    assert len(references) > 40
    assert not references - NUMBERS, sorted(references - NUMBERS)


def test_sections_follow_each_other_without_a_gap():
    places = [tuple(map(int, one.split("."))) for one in NUMBERS]
    for place in places:
        *above, last = place
        assert last == 1 or (*above, last - 1) in places, place


# --- How citations are read ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("(SPEC 7.2).", {"7.2"}),
        ("SPEC 8.3, 8.4 and 8.9: as", {"8.3", "8.4", "8.9"}),
        ("SPEC 8.3, 8.4, and 9", {"8.3", "8.4", "9"}),
        ("SPEC 9.1 to 9.3", {"9.1", "9.2", "9.3"}),
        ("SPEC 8.4.2.", {"8.4.2"}),
        ("SPEC 7.2 step 9", {"7.2", "7.2.9"}),
        ("SPEC 7.2 step 6, 7.6", {"7.2", "7.2.6", "7.6"}),
        ("SPEC 6.5 step 1, 11", {"6.5", "6.5.1", "11"}),
        ("SPEC 7.2 steps 7 and 11", {"7.2", "7.2.7", "7.2.11"}),
        ("SPEC 7.2 steps 7, 11, 8.5", {"7.2", "7.2.7", "7.2.11", "8.5"}),
        ("SPEC\n    8.4", {"8.4"}),
        ("# as SPEC\n    # 8.4, 8.5", {"8.4", "8.5"}),
        ("-- SPEC\n-- 8.11 says", {"8.11"}),
        ("SPEC 8, for 3 of them", {"8"}),
        ("SPEC.md has 8.4, and H has 128 bytes", set()),
    ],
)
def test_a_citation_is_read_as_it_is_meant(text, numbers):
    assert cited(text, NUMBERS) == numbers


def test_numbers_are_those_of_headings_paragraphs_and_items_in_order():
    text = (
        "## 7. Opening\n\n7.2. It\n64. bits\n\n1. Size.\n2. **Decode**.\n4. no\n\n7.3. It\n1. x\n"
    )
    assert numbers_of_spec(text) == {"7", "7.2", "7.2.1", "7.2.2", "7.3", "7.3.1"}
