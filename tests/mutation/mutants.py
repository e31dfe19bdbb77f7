"""Every small change that is tried on a module, one at a time.

Rules of this file: the operators are mutmut's (numbers, operators, comparisons,
arguments taken away, values that become None); what is added here is where they are
applied. mutmut alone passes over module-level code, properties and whatever is
decorated; here only what ``_passed_over`` and ``_is_text`` name is left out.
"""

from __future__ import annotations

import difflib
import re
import textwrap
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import libcst as cst
from libcst import matchers as m
from libcst.metadata import MetadataWrapper, ParentNodeProvider, PositionProvider
from mutmut.mutation.mutators import mutation_operators

_STRINGS = cst.SimpleString | cst.FormattedString | cst.ConcatenatedString
_IN_ANY_CASE = re.compile(
    r'"(utf-8|ascii|(BEGIN|COMMIT|DELETE|INSERT|PRAGMA|ROLLBACK|SELECT)( [^\'"]+)?)"'
)
"""Encodings, and SQL without text in it."""


@dataclass(frozen=True)
class Mutant:
    """One changed module.

    Attributes:
        module: its dotted name.
        place: the qualified name of the function or class; "" at module level.
        before: the changed lines as they stand, stripped and joined.
        after: what they become.
        nth: which of several equal ones in one place, from 1.
        lines: the lines of the statement; tests that ran one of them are tried.
        at_import: the statement runs when the module is imported.
        source: the whole changed module.
    """

    module: str
    place: str
    before: str
    after: str
    lines: range
    at_import: bool
    source: str
    nth: int = 1

    @property
    def key(self) -> tuple[str, str, str, str, int]:
        """What a survivor is known by; line numbers would change too often."""
        return self.module, self.place, self.before, self.after, self.nth


def mutants(module: str, path: Path) -> list[Mutant]:
    """Return every mutant of a module, in the order of its lines."""
    text = path.read_text(encoding="utf-8")
    wrapper = MetadataWrapper(cst.parse_module(text))
    finder = _Finder()
    wrapper.visit(finder)
    lines = text.splitlines(keepends=True)
    seen: Counter[tuple[str, str, str, str, int]] = Counter()
    made = []
    for found in finder.found:
        old = wrapper.module.code_for_node(found.statement)
        new = wrapper.module.code_for_node(found.statement.deep_replace(found.node, found.mutated))
        before, after = _difference(old, new)
        if before == after:
            continue
        first, end = found.span.start, found.span.stop
        indent = lines[first - 1][: len(lines[first - 1]) - len(lines[first - 1].lstrip())]
        changed = textwrap.indent(new, indent)
        mutant = Mutant(
            module=module,
            place=found.place,
            before=before,
            after=after,
            lines=found.lines,
            at_import=found.at_import,
            source="".join([*lines[: first - 1], changed, *lines[end - 1 :]]),
        )
        seen[mutant.key] += 1
        made.append(replace(mutant, nth=seen[mutant.key]))
    return made


def _difference(old: str, new: str) -> tuple[str, str]:
    lines = list(difflib.ndiff(old.splitlines(), new.splitlines()))
    before = " ".join(line[2:].strip() for line in lines if line.startswith("- "))
    after = " ".join(line[2:].strip() for line in lines if line.startswith("+ "))
    return before, after


@dataclass(frozen=True)
class _Found:
    node: cst.CSTNode
    mutated: cst.CSTNode
    statement: cst.CSTNode
    """The one to render anew, without what stands above it."""
    span: range
    place: str
    lines: range
    at_import: bool


class _Finder(cst.CSTVisitor):
    """Applies every operator to every node that is not passed over."""

    METADATA_DEPENDENCIES = (PositionProvider, ParentNodeProvider)

    def __init__(self) -> None:
        super().__init__()
        self.found: list[_Found] = []
        self._names: list[str] = []
        self._bodies = 0

    def on_visit(self, node: cst.CSTNode) -> bool:
        parent = self._parent(node)
        if self._is_passed_over(node):
            return False
        if isinstance(node, (cst.FunctionDef, cst.ClassDef)):
            self._names.append(node.name.value)
        if isinstance(parent, cst.FunctionDef) and node is parent.body:
            self._bodies += 1
        changes = list(_mutations(node))
        if changes:
            statement, lines = self._statement(node)
            outer, span = self._to_render(statement)
            self.found.extend(
                _Found(
                    node=node,
                    mutated=mutated,
                    statement=outer,
                    span=span,
                    place=".".join(self._names),
                    lines=lines,
                    at_import=not self._bodies,
                )
                for mutated in changes
            )
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if self._is_passed_over(original_node):
            return
        parent = self._parent(original_node)
        if isinstance(original_node, (cst.FunctionDef, cst.ClassDef)):
            self._names.pop()
        if isinstance(parent, cst.FunctionDef) and original_node is parent.body:
            self._bodies -= 1

    def _parent(self, node: cst.CSTNode) -> cst.CSTNode | None:
        return self.get_metadata(ParentNodeProvider, node, None)

    def _is_passed_over(self, node: cst.CSTNode) -> bool:
        parent = self._parent(node)
        if isinstance(node, _STRINGS) and isinstance(parent, cst.Arg):
            return _speaks(self._parent(parent))
        return _has_no_behaviour(node, parent)

    def _statement(self, node: cst.CSTNode) -> tuple[cst.CSTNode, range]:
        """Return the statement of a node and its lines, down to where its body begins."""
        while not isinstance(node, (cst.BaseStatement, cst.ExceptHandler)):
            node = self.get_metadata(ParentNodeProvider, node)
        span = self.get_metadata(PositionProvider, node)
        body = getattr(node, "body", None)
        if isinstance(body, cst.IndentedBlock):
            first = self.get_metadata(PositionProvider, body.body[0]).start.line
            return node, range(span.start.line, max(first, span.start.line + 1))
        return node, range(span.start.line, span.end.line + 1)

    def _to_render(self, node: cst.CSTNode) -> tuple[cst.CSTNode, range]:
        """Return the statement that can be rendered alone: an ``elif`` cannot."""
        parent = self._parent(node)
        while isinstance(node, cst.ExceptHandler) or isinstance(parent, cst.If):
            assert parent is not None
            node, parent = parent, self._parent(parent)
        span = self.get_metadata(PositionProvider, node)
        return node.with_changes(leading_lines=()), range(span.start.line, span.end.line + 1)


def _mutations(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    for kind, operator in mutation_operators:
        if isinstance(node, kind):
            for mutated in operator(node):
                lost = isinstance(node, cst.Call) and _is_lost_in(node, mutated)
                if not lost and not _is_same(node, mutated):
                    yield mutated


def _is_same(node: cst.CSTNode, mutated: cst.CSTNode) -> bool:
    """Tell what means the same: an encoding or SQL in another case, None for False.

    A False becomes True as well, which does tell. The ``strict=True`` of a zip becomes
    False, which is as good as None or nothing.
    """
    if isinstance(node, cst.SimpleString) and isinstance(mutated, cst.SimpleString):
        is_alike = mutated.value.lower() == node.value.lower()
        return is_alike and _IN_ANY_CASE.fullmatch(node.value) is not None
    false = m.Name("False")
    if isinstance(node, (cst.Assign, cst.AnnAssign)):
        return node.value is not None and m.matches(node.value, false)
    if isinstance(node, cst.Call) and isinstance(mutated, cst.Call):
        pairs = zip(node.args, [*mutated.args, None], strict=False)
        changed = next((one for one, other in pairs if one is not other), None)
        if changed is None:
            return False
        strict = m.Arg(keyword=m.Name("strict"))
        if m.matches(node.func, m.Name("zip")) and m.matches(changed, strict):
            return True
        return len(node.args) == len(mutated.args) and m.matches(changed.value, false)
    return False


def _is_lost_in(call: cst.Call, mutated: cst.CSTNode) -> bool:
    """Tell whether a call lost an argument that is text, or that it cannot be without."""
    if not isinstance(mutated, cst.Call) or mutated.func is not call.func:
        return False
    if m.matches(call.func, m.Name("len") | m.Name("isinstance")):
        return True
    kept = [*mutated.args, None]
    lost = next(arg for arg, other in zip(call.args, kept, strict=False) if arg is not other)
    constant = m.Name(m.MatchRegex(r"[A-Z_]+"))
    is_text = isinstance(lost.value, _STRINGS) or m.matches(
        lost.value, constant | m.Attribute(attr=constant)
    )
    return _speaks(call) and is_text


def _speaks(call: cst.CSTNode | None) -> bool:
    """Tell whether a call makes an error, or writes a log line: its text is for people."""
    error = m.MatchRegex(r"\w+(Error|Exit)")
    log = m.Attribute(value=m.Name("_log"))
    return m.matches(call, m.Call(func=m.Name(error) | m.Attribute(attr=m.Name(error)) | log))


def _has_no_behaviour(node: cst.CSTNode, parent: cst.CSTNode | None) -> bool:
    """Tell what is passed over: types, imports, docstrings, decorators."""
    if isinstance(node, (cst.Annotation, cst.Decorator, cst.Import, cst.ImportFrom)):
        return True
    if isinstance(node, _STRINGS) and isinstance(parent, cst.Expr):
        return True
    typing = m.Name("cast") | m.Name("TypeVar") | m.Name("NewType")
    if m.matches(node, m.If(test=m.Name("TYPE_CHECKING")) | m.Call(func=typing)):
        return True
    # A name for a type: annotations are not evaluated.
    alias = m.Subscript() | m.BinaryOperation(operator=m.BitOr())
    name = m.Name(m.MatchRegex(r"_?[A-Z][a-z]\w*"))
    return m.matches(node, m.Assign(targets=[m.AssignTarget(target=name)], value=alias))
