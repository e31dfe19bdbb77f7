"""SECURITY.md and the tests are in step: ids, the tests that it names, and that these run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from typing import NamedTuple

import pytest
from evidence import ROOT, all_tests, ids_by_test
from specification import SPEC, cited, numbers_of_spec

ID = r"(?:[AKCPREM]\d+)"
TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
NUMBERS = numbers_of_spec(SPEC.read_text(encoding="utf-8"))

ANSWERED_WITHOUT_A_TEST = {
    "M3": "how releases are made is a habit",
    "M4": "what is not promised",
}


class Piece(NamedTuple):
    """A row, an item or a paragraph of SECURITY.md."""

    text: str
    ids: tuple[str, ...]
    """The id that it answers; none where it answers none."""
    tests: tuple[str, ...]


def pieces(text: str) -> list[Piece]:
    """Cut a document at its rows, items and empty lines."""
    found = []
    for part in re.split(r"\n(?=\||- |\d+\. |#)|\n\n+", text):
        head = re.match(rf"(?:- )?\*\*({ID})\.\*\*|\| ({ID}) \|", part)
        ids = () if head is None else (head[1] or head[2],)
        found.append(Piece(part, ids, tuple(re.findall(r"`(tests/[^`]*::[^`]*)`", part))))
    return found


PIECES = pieces(TEXT)
ATTACKS = {piece.ids[0]: piece for piece in PIECES if piece.text.startswith("| A")}


def ids_in_security() -> set[str]:
    return {one for piece in PIECES for one in piece.ids}


def ids_in_tests() -> set[str]:
    return set().union(*all_tests().values())


# --- Ids -----------------------------------------------------------------------------------


def test_every_id_of_security_has_a_test():
    missing = ids_in_security() - ids_in_tests() - set(ANSWERED_WITHOUT_A_TEST)
    assert not missing, sorted(missing)


def test_every_id_that_a_test_carries_stands_in_security():
    unknown = ids_in_tests() - ids_in_security()
    assert not unknown, sorted(unknown)


def test_what_has_no_test_is_in_security_and_really_has_none():
    assert set(ANSWERED_WITHOUT_A_TEST) <= ids_in_security()
    assert not set(ANSWERED_WITHOUT_A_TEST) & ids_in_tests()


def test_all_questions_and_attacks_are_answered_once():
    expected = [f"A{n}" for n in range(1, 25)]
    for family, count in {"K": 7, "C": 10, "P": 5, "R": 8, "E": 3, "M": 4}.items():
        expected += [f"{family}{n}" for n in range(1, count + 1)]
    assert sorted(one for piece in PIECES for one in piece.ids) == sorted(expected)


# --- The tests that SECURITY.md names ------------------------------------------------------


def test_every_test_that_is_named_exists():
    named = {test for piece in PIECES for test in piece.tests}
    assert len(named) > 40
    assert not named - set(all_tests()), sorted(named - set(all_tests()))


def test_a_test_carries_the_id_beside_which_it_is_named():
    for piece in PIECES:
        for test in piece.tests:
            carried = all_tests()[test]
            assert set(piece.ids) <= carried, (piece.ids, test)
            assert carried, f"{test} is named as evidence and carries no id"


def test_every_attack_and_every_question_names_a_test():
    silent = {one for piece in PIECES if not piece.tests for one in piece.ids}
    assert silent == set(ANSWERED_WITHOUT_A_TEST)


def test_every_file_that_is_named_exists():
    files = re.findall(r"`((?:tests|docs|envelope|benchmarks|requirements)/[\w/.-]*)`", TEXT)
    assert files
    assert not [name for name in files if not (ROOT / name).exists()]


# --- The steps that stop an attack ---------------------------------------------------------


@pytest.mark.parametrize("attack", sorted(ATTACKS, key=lambda one: int(one[1:])))
def test_an_attack_is_stopped_by_a_step_or_a_section_of_the_specification(attack):
    _, _, told, stopped, tests, _ = ATTACKS[attack].text.split("|")
    places = re.sub(r"\b(steps? \d)", r"SPEC 7.2 \1", stopped)
    assert cited(places, NUMBERS)
    assert cited(places, NUMBERS) <= NUMBERS
    assert told.strip()
    assert tests.strip()


# --- Tests that carry an id run ------------------------------------------------------------


SMALL = """
import pytest

@pytest.fixture
def server():
    pytest.skip("no server here")

@pytest.mark.audit("A1")
class TestThatCarries:
    @pytest.mark.skip(reason="not today")
    def test_skipped(self): pass
    @pytest.mark.skipif(True, reason="not on this machine")
    def test_skipped_here(self): pass
    def test_skipped_inside(self): pytest.skip("no such file")
    def test_skipped_by_its_fixture(self, server): pass
    @pytest.mark.parametrize("case", [])
    def test_without_a_case(self, case): pass
    @pytest.mark.xfail(reason="known")
    def test_that_may_fail(self): assert False
    @pytest.mark.xfail(reason="known", strict=False)
    def test_that_might_have_failed(self): pass
    def test_that_may_fail_inside(self): pytest.xfail("known")
    def test_sound(self): pass

def test_without_an_id(): pytest.skip("not here")
"""
ABSENT = """
import pytest
pytest.importorskip("a_module_that_nobody_has")
"""
CARRYING = """
@pytest.mark.audit("A1")
def test_of_what_is_absent(): pass
"""


@pytest.fixture
def outcomes(tmp_path):
    """Run small modules under the conftest.py of this suite; return outcomes by name."""

    def run(**modules):
        shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
        for name, source in modules.items():
            (tmp_path / f"test_{name}.py").write_text(source, encoding="utf-8")
        command = (
            *(sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider"),
            *("--continue-on-collection-errors", "-c", str(ROOT / "pyproject.toml")),
            *("--rootdir", str(tmp_path), str(tmp_path)),
        )
        env = {**os.environ, "COLUMNS": "200"}
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, cwd=tmp_path, check=False
        )
        lines = re.findall(r"^(PASSED|FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
        by_name = {re.split(r"::|/", where)[-1].partition("[")[0]: what for what, where in lines}
        return done, by_name

    return run


def test_a_test_that_carries_an_id_fails_where_it_is_skipped_or_may_fail(outcomes):
    done, by_name = outcomes(small=SMALL)
    assert done.returncode == 1
    assert by_name == {
        "test_skipped": "ERROR",
        "test_skipped_here": "ERROR",
        "test_skipped_by_its_fixture": "ERROR",
        "test_without_a_case": "ERROR",
        "test_skipped_inside": "FAILED",
        "test_that_may_fail": "FAILED",
        "test_that_might_have_failed": "FAILED",
        "test_that_may_fail_inside": "FAILED",
        "test_sound": "PASSED",
    }
    assert "1 skipped" in done.stdout
    assert "carries an id of SECURITY.md and must run. Skipped: no such file" in done.stdout


def test_so_does_a_module_that_is_skipped_as_a_whole(outcomes):
    done, by_name = outcomes(carrying=ABSENT + CARRYING, other=ABSENT)
    assert done.returncode == 1
    assert list(by_name.values()) == ["ERROR"]
    assert "test_carrying.py carries an id of SECURITY.md and must run." in done.stdout
    assert "1 skipped, 1 error" in done.stdout


# --- How documents and tests are read ------------------------------------------------------


def test_ids_are_read_from_a_test_its_class_and_its_module():
    source = """
import pytest
pytestmark = [pytest.mark.timeout(9), pytest.mark.audit("A1")]
@pytest.mark.audit("A2", "A3")
def test_one(): pass
@pytest.mark.audit("A4")
class TestMore:
    @pytest.mark.audit("A5")
    async def test_two(self): pass
    def helper(self): pass
def helper(): pass
"""
    assert ids_by_test(source) == {
        "test_one": {"A1", "A2", "A3"},
        "TestMore::test_two": {"A1", "A4", "A5"},
    }


def test_rows_items_and_paragraphs_are_read_apart():
    text = """\
# Title
First, `tests/unit/test_a.py::test_b`,
and on.

- **K1.** An answer:
  `tests/unit/test_a.py::TestC::test_d`.
- **K2.** Another.

| A1 | does it | step 8 | `tests/unit/test_e.py::test_f`, `tests/unit/test_e.py::test_g` |
| other | row |
"""
    assert [(piece.ids, piece.tests) for piece in pieces(text)] == [
        ((), ("tests/unit/test_a.py::test_b",)),
        (("K1",), ("tests/unit/test_a.py::TestC::test_d",)),
        (("K2",), ()),
        (("A1",), ("tests/unit/test_e.py::test_f", "tests/unit/test_e.py::test_g")),
        ((), ()),
    ]
