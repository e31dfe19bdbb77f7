"""Documents are executed: every example in README.md and docs/guides runs as shown."""

from __future__ import annotations

import doctest
import logging
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MORE = [ROOT / name for name in ("SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md")]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_the_examples_of_a_document_run_as_shown(path, caplog):
    caplog.set_level(logging.CRITICAL)
    text = path.read_text(encoding="utf-8").replace("```", "")
    test = doctest.DocTestParser().get_doctest(text, {}, path.name, str(path), 0)
    results = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test)
    assert results.failed == 0


def test_the_large_bundles_of_the_stream_are_those_that_are_told():
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    (told,) = re.findall(r"`(Bundling\(max_count[^`]*\))`", text)
    (used,) = re.findall(
        r"^LARGE = (.*)$",
        (ROOT / "benchmarks/stream/ends.py").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert told == used


FIGURES = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "docs/guides").glob("*.md")]
BLOCK = r"<!-- (\w+):begin -->\n.*?<!-- \1:end -->"
MEASURED = (
    r"\d (?:us|µs|microseconds|(?:messages|events|envelopes|executions) a second|x [A-Z]\w*)\b"
)


def test_every_block_of_figures_is_written_by_a_command():
    folders = ("benchmarks", "fuzz", "tests/mutation", "tests/vectors")
    writers = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    code = "\n".join(path.read_text(encoding="utf-8") for path in writers)
    named = set()
    for path in FIGURES:
        text = path.read_text(encoding="utf-8")
        names = re.findall(BLOCK, text, re.DOTALL)
        assert len(names) == text.count(":begin -->") == text.count(":end -->"), path.name
        assert not named & set(names), "a block stands twice"
        named |= set(names)
    assert len(named) > 10
    assert not [
        name for name in named if not re.search(rf'write\([^)]*"{name}"|"<!-- {name}:begin', code)
    ]


@pytest.mark.parametrize("path", FIGURES, ids=lambda path: path.name)
def test_no_measured_figure_stands_outside_a_block(path):
    text = path.read_text(encoding="utf-8")
    assert re.findall(MEASURED, re.sub(BLOCK, "", text, flags=re.DOTALL)) == []


def test_the_readme_has_examples():
    assert (ROOT / "README.md").read_text(encoding="utf-8").count(">>> ") > 20


def anchors(text: str) -> set[str]:
    """Return what links may name behind a hash: the headings, as GitHub and others spell them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


@pytest.mark.parametrize("path", [*DOCUMENTS, *MORE], ids=lambda path: path.name)
def test_every_relative_link_of_a_document_leads_somewhere(path):
    text = path.read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", text):
        there = path.parent / target if target else path
        assert there.exists(), target
        if anchor:
            assert anchor in anchors(there.read_text(encoding="utf-8")), f"{target}#{anchor}"


def test_a_heading_is_linked_to_by_its_words():
    text = "# What `open()` does\n\n## Operator's check-list\n"
    assert anchors(text) == {"what-open-does", "operators-check-list"}
