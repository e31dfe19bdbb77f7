"""What docs/SPEC.md numbers, and who cites which number.

Rules of this file: a citation is "SPEC 7.2", "SPEC 8.3, 8.4 and 8.9", "SPEC 8.3 to 8.6",
"SPEC 8.4.2", "SPEC 7.2 step 9" or "SPEC 7.2 steps 7 and 11", also across the lines of a
docstring or a comment. A number without the word is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import envelope

ROOT = Path(__file__).parent.parent
PACKAGE = Path(envelope.__file__).parent
SPEC = ROOT / "docs" / "SPEC.md"

AND = r"(?:, and |, | and )"
STEPS = rf" (?:steps \d+(?!\.\d)(?:{AND}\d+(?!\.\d))*|step \d+)"
PLACE = rf"\d+(?:\.\d+){{0,2}}(?:{STEPS})?"
CITATION = re.compile(rf"\bSPEC (?P<places>{PLACE}(?:(?:{AND}| to ){PLACE})*)")
FOLD = re.compile(r"\s*\n\s*(?:(?:#|--) *)?")


def numbers_of_spec(text: str) -> set[str]:
    """Return "7", "7.2" and "7.2.9" for each section, paragraph and numbered item of one."""
    found = set()
    place, items = "", 0
    for line in text.splitlines():
        if heading := re.match(r"## (\d+)\. ", line) or re.match(r"(\d+\.\d+)\. ", line):
            place, items = heading[1], 0
            found.add(place)
        # A number that a line happens to begin with is no item: items count from 1.
        elif line.startswith(f"{items + 1}. "):
            items += 1
            found.add(f"{place}.{items}")
    return found


def cited(text: str, known: set[str]) -> set[str]:
    """Return the numbers that a text cites, a range as all that it spans."""
    found = set()
    for citation in CITATION.finditer(FOLD.sub(" ", text)):
        places = citation["places"]
        for place in re.findall(PLACE, places):
            number, *steps = re.findall(r"\d+(?:\.\d+)*", place)
            found.add(number)
            found.update(f"{number}.{step}" for step in steps)
        for first, last in re.findall(r"(\d+(?:\.\d+)*) to (\d+(?:\.\d+)*)", places):
            found.update(one for one in known if key(first) <= key(one) <= key(last))
    return found


def key(number: str) -> tuple[int, ...]:
    return tuple(int(part) for part in number.split("."))


def sources_of_the_package() -> Iterator[Path]:
    yield from sorted(path for path in PACKAGE.rglob("*") if path.suffix in {".py", ".lua"})
