"""What tests/mutation/survivors.toml explains is still there to be explained."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest

import envelope

ROOT = Path(__file__).parents[2]
PLAN = tomllib.loads((ROOT / "tests/mutation/plan.toml").read_text(encoding="utf-8"))
SURVIVORS = tomllib.loads((ROOT / "tests/mutation/survivors.toml").read_text(encoding="utf-8"))

EXPLAINED = Counter(one["module"] for one in SURVIVORS["survivor"])
ROW = re.compile(r"^\| `(.+?)` \| (\d+) \| (\d+) \| \d+ \| (\d+) \|", re.MULTILINE)
TABLE = ROW.findall((ROOT / "docs/mutation.md").read_text(encoding="utf-8"))


def source(module):
    """Return a module's text with every run of blanks as one."""
    path = Path(envelope.__file__).parent / (module.replace(".", "/") + ".py")
    return " ".join(path.read_text(encoding="utf-8").split())


@pytest.mark.parametrize("one", SURVIVORS["survivor"], ids=lambda one: one["after"])
def test_the_line_of_a_survivor_stands_in_its_module_and_has_a_reason(one):
    assert one["module"] in PLAN["modules"]
    assert " ".join(one["before"].split()) in source(one["module"])
    assert len(one["why"]) > 20


@pytest.mark.parametrize("module", PLAN["modules"])
def test_every_file_of_tests_in_the_plan_is_there(module):
    assert all((ROOT / path).is_file() for path in PLAN["modules"][module])
    assert source(module)


@pytest.mark.parametrize(("module", "made", "killed", "survived"), TABLE)
def test_each_survivor_of_the_table_is_explained(module, made, killed, survived):
    assert module in PLAN["modules"]
    assert int(killed) + int(survived) == int(made)
    assert EXPLAINED[module] == int(survived)


def test_what_is_explained_stands_in_the_table_once():
    modules = [row[0] for row in TABLE]
    assert len(modules) == len(set(modules))
    assert set(EXPLAINED) <= set(modules)
