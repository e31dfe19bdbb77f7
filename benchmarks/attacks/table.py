"""What came out, as tables and sentences.

Rules of this file: every word of an outcome comes from a run. What got through, and what
went unnoticed, stands out, whoever's it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attacks.generic import (
    ABSENT,
    ATTACKS,
    HARMLESS,
    NOTICED,
    REFUSED,
    THROUGH,
    UNNOTICED,
    Attack,
    Cell,
)
from attacks.subject import Subject

Cells = Mapping[tuple[str, str], Cell]
"""By the names of subject and attack."""

WORDS = {ABSENT: "-", THROUGH: f"**{THROUGH}**", UNNOTICED: f"**{UNNOTICED}**"}
NAME, USED_AS = "what protects a message", "used as"


def columns(attacks: Sequence[Attack] = ATTACKS) -> list[str]:
    """Return the heads of the table."""
    return [NAME, *(attack.name for attack in attacks), USED_AS]


def row(line: Sequence[str]) -> str:
    """Return a line of a table."""
    return f"| {' | '.join(line)} |"


def matrix(
    subjects: Sequence[type[Subject]], cells: Cells, attacks: Sequence[Attack] = ATTACKS
) -> list[str]:
    """Return the table: a line for each subject, a column for each attack."""
    heads = columns(attacks)
    lines = [row(heads), "|" + "---|" * len(heads)]
    for kind in subjects:
        found = [cells[kind.name, attack.name].outcome for attack in attacks]
        words = [WORDS.get(outcome, outcome) for outcome in found]
        lines.append(row([kind.name, *words, kind.used_as]))
    return lines


def told(attack: Attack, subjects: Sequence[type[Subject]], cells: Cells) -> list[str]:
    """Return an attack's story, and what the code of each subject said."""
    lines = [f"**{attack.name}**: {attack.story}", ""]
    for outcome in (REFUSED, NOTICED, THROUGH, UNNOTICED, ABSENT):
        # What was said in the same words is told once.
        groups: dict[str, list[str]] = {}
        for kind in subjects:
            cell = cells[kind.name, attack.name]
            if cell.outcome == outcome:
                groups.setdefault(cell.detail, []).append(kind.name)
        if groups:
            parts = [
                ", ".join(names) + (f" ({detail})" if detail else "")
                for detail, names in groups.items()
            ]
            lines.append(f"- {outcome}: {'; '.join(parts)}.")
    return [*lines, ""]


def pages(subjects: Sequence[type[Subject]]) -> list[str]:
    """Return where each subject's use is documented."""
    lines = ["**Where their use is documented**", ""]
    for kind in subjects:
        links = ", ".join(f"[{page.title}]({page.address})" for page in kind.pages)
        lines.append(f"- {kind.name}: {links}.")
    return lines


def harm(subjects: Sequence[type[Subject]], cells: Cells) -> list[str]:
    """Return what got through against this library, a line each."""
    return [
        f"{name}, {attack}: {cell.outcome} {cell.detail}".rstrip()
        for (name, attack), cell in cells.items()
        if cell.outcome not in HARMLESS
        and any(kind.name == name and kind.is_ours for kind in subjects)
    ]


def report(subjects: Sequence[type[Subject]], cells: Cells, head: str) -> list[str]:
    """Return the block of the document."""
    lines = [f"{head}.", "", *matrix(subjects, cells), ""]
    lines += ["**The attacks, and what the code said**", ""]
    for attack in ATTACKS:
        lines += told(attack, subjects, cells)
    return lines + pages(subjects)
