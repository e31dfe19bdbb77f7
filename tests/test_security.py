"""SECURITY.md and the tests are in step: every id stands in both, or says why not."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
ID = r"(?:[AKCPREM]\d+)"

ANSWERED_WITHOUT_A_TEST = {
    "K6": "nothing is claimed",
    "M3": "how releases are made is a habit",
    "M4": "what is not promised",
}


def ids_in_security() -> set[str]:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    return set(re.findall(rf"^(?:- )?\*\*({ID})\.\*\*", text, re.MULTILINE)) | set(
        re.findall(rf"^\| ({ID}) \|", text, re.MULTILINE)
    )


def ids_in_tests() -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        for arguments in re.findall(r"mark\.audit\(([^)]*)\)", text):
            for audit_id in re.findall(rf'"({ID})"', arguments):
                found.setdefault(audit_id, []).append(path)
    return found


def test_every_id_of_security_has_a_test():
    missing = ids_in_security() - set(ids_in_tests()) - set(ANSWERED_WITHOUT_A_TEST)
    assert not missing, sorted(missing)


def test_every_id_that_a_test_carries_stands_in_security():
    unknown = set(ids_in_tests()) - ids_in_security()
    assert not unknown, sorted(unknown)


def test_what_has_no_test_is_in_security_and_really_has_none():
    assert set(ANSWERED_WITHOUT_A_TEST) <= ids_in_security()
    assert not set(ANSWERED_WITHOUT_A_TEST) & set(ids_in_tests())


def test_all_questions_and_attacks_are_answered():
    expected = {f"A{n}" for n in range(1, 25)}
    for family, count in {"K": 7, "C": 10, "P": 5, "R": 8, "E": 3, "M": 4}.items():
        expected |= {f"{family}{n}" for n in range(1, count + 1)}
    assert ids_in_security() == expected
