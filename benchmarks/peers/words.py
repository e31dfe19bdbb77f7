"""The same in sentences: what is slower than what, and what each peer does not do.

Rules of this file: every number and every name in a sentence comes from the results, and
the sentence is true whatever they are. This library's ways are held against every peer,
also against one that does less; the last list says what that is.
"""

from __future__ import annotations

from collections.abc import Sequence

from peers.figures import SIDES, listed, median, multiple, ratio, rounded, size_name
from peers.ours import BUNDLE, SEALED, SESSION, SIGNED
from peers.run import Results
from peers.tables import main_size
from peers.ways import NO, OPT, QUESTIONS, YES, Way


def sentences(ways: Sequence[Way], results: Results, sizes: Sequence[int]) -> list[str]:
    """Return all paragraphs and lists."""
    peers = [way for way in ways if way.kind == "peer"]
    size = main_size(sizes)
    lines = ["**What is slower than what**", ""]
    lines += [f"- {order(ways, results, size, side)}" for side in SIDES]
    lines += ["", "**Where this library is slower than a peer**", ""]
    for name in (SIGNED, SEALED, BUNDLE, SESSION):
        lines += [f"- {slower(name, peers, results, sizes, side)}" for side in SIDES]
    lines += ["", "**What each peer does not do**", ""]
    lines += [f"- {beside(way, results, size)}" for way in peers]
    lines += [f"- {nobody(peers)}"]
    return lines


def order(ways: Sequence[Way], results: Results, size: int, side: str) -> str:
    """Return all ways, from the cheapest to the dearest."""
    found = [
        (seconds, way.name)
        for way in ways
        if (seconds := median(results, way.name, size, side)) is not None
    ]
    names = ", ".join(f"{name} ({rounded(seconds * 1e6)})" for seconds, name in sorted(found))
    what = f"To {side} {size_name(size)}"
    if not found:
        return f"{what}: nothing was measured."
    return f"{what}, in microseconds, from the cheapest to the dearest: {names}."


def slower(
    ours: str, peers: Sequence[Way], results: Results, sizes: Sequence[int], side: str
) -> str:
    """Return which peers cost less than one of our ways, and where."""
    compared, parts = 0, []
    for way in peers:
        found = {size: ratio(results, ours, way.name, size, side) for size in sizes}
        compared += sum(value is not None for value in found.values())
        dearer = {size: value for size, value in found.items() if value is not None and value > 1}
        if dearer:
            worst = multiple(max(dearer.values()))
            where, most = listed([size_name(size) for size in dearer]), f"up to {worst}"
            if len(dearer) == 1:
                most = worst
            elif len(dearer) == len(sizes):
                where = "every size"
            parts.append((max(dearer.values()), f"{way.name} at {where} ({most})"))
    begin = f"To {side}, {ours}"
    if not compared:
        return f"{begin}: not measured beside a peer."
    if not parts:
        return f"{begin} costs less than every peer at every size that both were measured at."
    parts.sort(reverse=True)
    named = "; ".join(text for _, text in parts)
    return f"{begin} costs more than {named}. Beside all others measured it costs no more."


def beside(way: Way, results: Results, size: int) -> str:
    """Return what a peer costs beside ours, and what it does not do."""
    ours = SEALED if way.does.encrypted == YES else SIGNED
    costs = {side: ratio(results, way.name, ours, size, side) for side in SIDES}
    found = [f"{multiple(cost)} to {side}" for side, cost in costs.items() if cost]
    text = f"{way.name}"
    if not found:
        text += f": not measured at {size_name(size)}."
    else:
        text += f" costs {listed(found)} {size_name(size)}, in multiples of {ours}."
    does = way.does._asdict()
    missing = [what for field, what in QUESTIONS.items() if does[field] == NO]
    left = [what for field, what in QUESTIONS.items() if does[field] == OPT]
    if missing:
        text += f" It does not {listed(missing, 'or')}."
    if left:
        text += f" It leaves it to the caller to {listed(left)}."
    if way.note:
        text += f" {way.note[0].upper()}{way.note[1:]}."
    return text


def nobody(peers: Sequence[Way]) -> str:
    """Return what no peer does."""
    answers = [way.does._asdict() for way in peers]
    missing = [
        what
        for field, what in QUESTIONS.items()
        if all(each[field] in {NO, OPT} for each in answers)
    ]
    if not missing:
        return "Each of these is done by some peer."
    return f"No peer in this run will by itself {listed(missing, 'or')}."
