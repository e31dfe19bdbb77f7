"""All pictures; here those of the event stream: rates, processor time, and latency.

Rules of this file: it draws what stands in ``docs/pictures/data``, and measures nothing;
the same data give the same bytes. Colours are those of Okabe and Ito, which everybody can
tell apart, and no colour says anything alone. Names stand beside what they name.

Run: ``make plots``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator
from plots_peers import draw as draw_peers
from stream import figures
from stream.results import ROLES, Record, Result
from stream.ways import BY_NAME, WAYS

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
DATA = PICTURES / "data"
WIDTH, DOTS = 8.0, 100
"""Inches, and dots of each: 800 pixels."""
GREY = "#555555"
STACKED = 4
"""Subscribers, in the picture of processor time."""
STEEP = 40.0
"""Microseconds for an event that would leave no room for the others."""


class Mark(NamedTuple):
    """How something is drawn."""

    colour: str
    shape: str


MARKS = {1: Mark("#0072B2", "o"), 4: Mark("#E69F00", "s"), 16: Mark("#009E73", "^")}
SHADES = {"publisher": "#0072B2", "proxy": "#E69F00", "subscriber": "#9BD4C0"}
LINES = {
    "plain": Mark(GREY, "x"),
    "curve": Mark("#E69F00", "s"),
    "stunnel": Mark("#D55E00", "D"),
    "dtls": Mark("#CC79A7", "v"),
    "relay": Mark("#56B4E9", "P"),
    "sealed": Mark("#000000", "*"),
    "signed-bundled": Mark("#009E73", "^"),
    "sealed-bundled": Mark("#0072B2", "o"),
}


def main() -> int:
    """Draw all pictures."""
    mpl.use("Agg")
    mpl.rcParams.update(
        {
            "svg.hashsalt": "envelope",
            "font.family": "DejaVu Sans",
            "font.size": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": GREY,
        }
    )
    results = Record.load(DATA / "stream.json").results
    save(draw_rates(results), "stream-rates")
    save(draw_processors(results), "stream-processors")
    save(draw_peers(DATA / "peers.json", WIDTH), "peers")
    save(draw_latency(Record.load(DATA / "stream-latency.json").results), "stream-latency")
    return 0


def save(figure: Any, name: str) -> None:
    """Write a picture, with nothing in it that another day would change."""
    figure.savefig(PICTURES / f"{name}.svg", metadata={"Date": None, "Creator": None})
    figure.savefig(PICTURES / f"{name}.png", dpi=DOTS, metadata={"Software": None})
    plt.close(figure)


def label(way: str) -> str:
    """Return a way's name, without what only a document can show."""
    return BY_NAME[way].label.replace("`", "")


def known(results: Sequence[Result], many: Iterable[int]) -> list[str]:
    """Return the ways that were measured with all these numbers of subscribers."""
    numbers = list(many)
    return [
        way.name
        for way in WAYS
        if all(figures.find(results, way.name, number) for number in numbers)
    ]


def middle(results: Sequence[Result], way: str, many: int, of: figures.Of) -> float:
    """Return the median of what ``known`` says was measured."""
    found = figures.median(results, way, many, of)
    assert found is not None
    return found


def draw_rates(results: Sequence[Result]) -> Any:
    """Draw events a second, a row for each way and a mark for each number of subscribers."""
    numbers = sorted({one.subscribers for one in results} & MARKS.keys())
    ways = known(results, numbers)
    ways.sort(key=lambda way: middle(results, way, numbers[0], figures.rate))
    figure, axes = plt.subplots(figsize=(WIDTH, 1.3 + 0.34 * len(ways)), layout="constrained")
    for row, way in enumerate(ways):
        rates = [middle(results, way, many, figures.rate) for many in numbers]
        axes.plot([min(rates), max(rates)], [row, row], color="#CCCCCC", zorder=1)
        for many, rate in zip(numbers, rates, strict=True):
            colour, shape = MARKS[many]
            axes.scatter(rate, row, color=colour, marker=shape, s=48, zorder=2)
        axes.annotate(
            thousands(rates[0]), (rates[0], row), (8, 0), textcoords="offset points", va="center"
        )
    for many in numbers:
        place = (middle(results, ways[-1], many, figures.rate), len(ways) - 0.7)
        text = "1 subscriber" if many == 1 else f"{many}"
        axes.annotate(
            text,
            place,
            (0, 3),
            textcoords="offset points",
            ha="center",
            color=MARKS[many].colour,
            weight="bold",
        )
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.set_xlim(low, high * 1.6)
    name_rows(axes, ways)
    axes.set_ylim(-0.6, len(ways) + 0.2)
    axes.set_xlabel("events a second at saturation")
    tidy(axes.xaxis)
    return figure


def draw_processors(results: Sequence[Result]) -> Any:
    """Draw the processor time of an event: publisher, proxy and one subscriber."""

    def total(way: str) -> float:
        return sum(middle(results, way, STACKED, figures.cpu_of(role)) for role in ROLES)

    ways = sorted(known(results, [STACKED]), key=total, reverse=True)
    steep = [way for way in ways if total(way) > STEEP]
    ways = [way for way in ways if way not in steep]
    figure, axes = plt.subplots(figsize=(WIDTH, 1.5 + 0.34 * len(ways)), layout="constrained")
    for row, way in enumerate(ways):
        left = 0.0
        for role in ROLES:
            width = middle(results, way, STACKED, figures.cpu_of(role))
            axes.barh(row, width, left=left, color=SHADES[role], edgecolor="white", linewidth=1.2)
            if row == 0:
                axes.annotate(
                    "one subscriber" if role == "subscriber" else role,
                    (left + width / 2, -0.45),
                    (0, -4),
                    textcoords="offset points",
                    ha="center",
                    va="top",
                )
            left += width
        axes.annotate(f"{left:.1f}", (left, row), (5, 0), textcoords="offset points", va="center")
    name_rows(axes, ways)
    axes.set_ylim(-1.3, len(ways) - 0.4)
    off = "; ".join(f"{label(way)}: {total(way):.0f}" for way in steep)
    axes.set_xlabel(
        f"microseconds of the processor for each event, to {STACKED} subscribers"
        + (f"\nfar to the right of this picture: {off}" if off else "")
    )
    return figure


def draw_latency(results: Sequence[Result]) -> Any:
    """Draw latency against rate, the median and the slowest hundredth."""
    figure, panels = plt.subplots(1, 2, figsize=(WIDTH, 5.6), sharey=True, layout="constrained")
    ways = [way for way in known(results, [1]) if way in LINES]
    for index, (axes, title) in enumerate(
        zip(panels, ("median latency", "latency of the slowest hundredth, at least"), strict=True)
    ):
        for way in ways:
            rates, times = curve(results, way, index)
            colour, shape = LINES[way]
            axes.plot(rates, times, color=colour, marker=shape, markersize=5, linewidth=1.6)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_title(title, loc="left", fontsize=10)
        tidy(axes.xaxis)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} ms"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.grid(axis="y", color="#E5E5E5")
    figure.supxlabel("events a second, to one subscriber", fontsize=10, x=0.4)
    ends = {way: tuple(part[-1] for part in curve(results, way, 1)) for way in ways}
    figure.canvas.draw()
    name_lines(panels[1], ends)
    return figure


def curve(results: Sequence[Result], way: str, index: int) -> tuple[list[float], list[float]]:
    """Return the rates of a way, and a percentile at each, milliseconds."""
    runs = list(figures.find(results, way, 1).values())
    steps = list(zip(*(one.steps for one in runs), strict=True))
    rates = [figures.spread([one.rate for one in step]).middle for step in steps]
    times = [figures.spread([one.percentiles[index] for one in step]).middle for step in steps]
    return rates, [time / 1000 for time in times]


def name_lines(axes: Any, ends: dict[str, tuple[float, ...]]) -> None:
    """Write each line's name at the right, none over another, with a thread to its end."""
    heights = {
        way: axes.transAxes.inverted().transform(axes.transData.transform(end))[1]
        for way, end in ends.items()
    }
    free = -1.0
    for way in sorted(heights, key=lambda way: heights[way]):
        free = max(heights[way], free + 0.05)
        axes.annotate(
            label(way),
            ends[way],
            (1.06, free),
            textcoords="axes fraction",
            va="center",
            color=LINES[way].colour,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": LINES[way].colour, "linewidth": 0.6},
        )


def name_rows(axes: Any, ways: Sequence[str]) -> None:
    """Write the names of the rows; those of envelopes are bold."""
    axes.set_yticks(range(len(ways)), [label(way) for way in ways])
    for text, way in zip(axes.get_yticklabels(), ways, strict=True):
        if BY_NAME[way].is_signed:
            text.set_weight("bold")
    axes.tick_params(axis="y", length=0)


def tidy(axis: Any) -> None:
    """Write thousands as people do."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: thousands(value)))
    axis.set_minor_locator(NullLocator())


def thousands(value: float) -> str:
    """Return a number of events, short."""
    if value >= 1e6:
        return f"{value / 1e6:.3g} M"
    return f"{value / 1e3:.3g} k" if value >= 1e3 else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main())
