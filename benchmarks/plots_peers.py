"""The picture of the peers: what a message costs with each, beside what each does.

Rules of this file: it draws what ``make bench-peers`` wrote, and every way that was measured
at this size has its row. Who costs the same does not do the same, so both stand in one row.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter, NullLocator

SIZE = 256
DOES = {
    "signed": "signature",
    "encrypted": "encrypted",
    "context": "context",
    "replayed": "replay",
    "stale": "late",
    "permission": "permission",
    "lost": "loss",
}
"""What is asked of each, and how it is called in the tables."""
WRITE, READ = ("#0072B2", "o"), ("#E69F00", "s")
GREY = "#555555"
MARKS = {"yes": (GREY, GREY), "opt": ("white", GREY)}
"""Filling and edge of what is done, and of what is left to the caller."""


def draw(file: Path, width: float) -> Any:
    """Return the picture of what stands in a file.

    Args:
        file: what the benchmark wrote.
        width: inches.
    """
    rows = [
        row
        for row in json.loads(file.read_text(encoding="utf-8"))["rows"]
        if row["payload"] == SIZE and "write" in row
    ]
    rows.sort(key=lambda row: -(_middle(row, "write") + _middle(row, "read")))
    figure, (costs, does) = plt.subplots(
        1,
        2,
        figsize=(width, 1.4 + 0.25 * len(rows)),
        sharey=True,
        width_ratios=(3, 1),
        layout="constrained",
    )
    for number, row in enumerate(rows):
        _draw_costs(costs, number, row)
        _draw_does(does, number, row)
    _finish(costs, does, rows)
    return figure


def _middle(row: dict[str, Any], side: str) -> float:
    times: list[float] = row[side]
    return statistics.median(times) * 1e6


def _draw_costs(axes: Any, number: int, row: dict[str, Any]) -> None:
    for side, (colour, shape) in (("write", WRITE), ("read", READ)):
        least, most = min(row[side]) * 1e6, max(row[side]) * 1e6
        axes.plot([least, most], [number, number], color=colour, linewidth=1, alpha=0.5, zorder=1)
        axes.scatter(_middle(row, side), number, color=colour, marker=shape, s=26, zorder=2)


def _draw_does(axes: Any, number: int, row: dict[str, Any]) -> None:
    for place, name in enumerate(DOES):
        if mark := MARKS.get(row["does"][name]):
            filling, edge = mark
            axes.scatter(place, number, color=filling, edgecolor=edge, marker="s", s=26)


def _finish(costs: Any, does: Any, rows: list[dict[str, Any]]) -> None:
    """Name rows and columns; what is ours is bold."""
    costs.set_xscale("log")
    costs.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    costs.xaxis.set_minor_locator(NullLocator())
    costs.grid(axis="x", color="#E5E5E5", zorder=0)
    costs.set_xlabel(f"microseconds of the processor for each message of {SIZE} bytes")
    costs.set_yticks(range(len(rows)), [row["name"] for row in rows], fontsize=8)
    for text, row in zip(costs.get_yticklabels(), rows, strict=True):
        if row["kind"] == "ours":
            text.set_weight("bold")
    costs.tick_params(axis="y", length=0)
    costs.set_ylim(-0.7, len(rows) + 0.4)
    for side, (colour, _) in (("write", WRITE), ("read", READ)):
        place = (_middle(rows[-1], side), len(rows) - 1)
        costs.annotate(
            side,
            place,
            (0, 7),
            textcoords="offset points",
            ha="right" if side == "write" else "left",
            color=colour,
            weight="bold",
        )
    does.set_xticks(range(len(DOES)), DOES.values(), rotation=90, fontsize=8)
    does.set_xlim(-0.6, len(DOES) - 0.4)
    does.set_xlabel("by itself (filled)\nor if asked to", fontsize=8)
    does.tick_params(axis="both", length=0)
    does.spines[:].set_visible(False)
