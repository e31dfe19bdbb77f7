"""What is seen: two tables and a verdict, live on a terminal, and as SVG.

Rules of this file: it draws reports and decides nothing. At most 100 columns, plain
ASCII in every text. The SVG names no font of somebody's server, and nothing in it
changes from run to run but the figures.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from envelope import clock
from envelope.demo import cast
from envelope.demo.attacks import Act
from envelope.demo.subscriber import OTHERS
from envelope.demo.verdict import Row, Verdict
from envelope.errors import CODES

_WIDTH: Final = 100
_SHOWN_PROBLEMS: Final = 8
_ENDS_WIDTH: Final = 26

_ENDS: Final[dict[Act, str]] = {
    Act.PASS: "delivered once, unchanged",
    Act.DROP: "counted as lost",
    Act.REORDER: "delivered all the same",
    Act.FLIP: "refused, whichever bit",
    Act.RETOPIC: "bad_signature",
    Act.REPEAT: "replayed",
    Act.REPLAY: "replayed",
    Act.MISDIRECT: "not_addressed",
    Act.STRANGER: "unknown_sender",
    Act.IMPOSTOR: "bad_signature",
    Act.GARBAGE: "malformed",
    Act.RESTART: "replayed",
}

_THEME: Final = TerminalTheme(
    (24, 27, 33),
    (214, 219, 229),
    [
        (24, 27, 33),
        (240, 113, 120),
        (126, 200, 130),
        (229, 192, 110),
        (110, 168, 240),
        (198, 146, 233),
        (98, 196, 205),
        (214, 219, 229),
    ],
)
_SVG: Final = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">
<title>The hostile proxy, and what came of it</title>
<style>
.{unique_id}-matrix {{
  font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px;
  line-height: {line_height}px;
}}
.{unique_id}-title {{ font-family: sans-serif; font-size: 18px; font-weight: bold }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x} {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix" xml:space="preserve">{matrix}</g>
</g>
</svg>
"""


@dataclass
class Scene:
    """What there is to see: changes while it runs.

    Attributes:
        seed: of the proxy.
        reports: the newest reports by name.
        verdict: None until the comparison.
    """

    seed: int
    reports: dict[str, dict[str, Any]]
    verdict: Verdict | None = None
    _began: int = field(default_factory=clock.monotonic)

    def report(self, name: str) -> dict[str, Any]:
        """Return what one of them has reported so far."""
        return self.reports.get(name, {})

    @property
    def seconds(self) -> float:
        """How long it has been running."""
        return (clock.monotonic() - self._began) / clock.SECOND


def make_console() -> Console:
    """Return a console for stdout, not wider than a picture is good for."""
    console = Console(highlight=False)
    console.width = min(console.width, _WIDTH) if console.is_terminal else _WIDTH
    return console


@contextmanager
def live(console: Console, scene: Scene) -> Iterator[Callable[[], None]]:
    """Show the scene while it changes, on a terminal; yield what draws it anew."""
    if not console.is_terminal:
        yield lambda: None
        return
    with Live(draw(scene), console=console, auto_refresh=False, transient=True) as shown:
        yield lambda: shown.update(draw(scene), refresh=True)


def draw(scene: Scene) -> RenderableType:
    """Return the whole picture."""
    gap = Text()
    return Group(_heading(scene), gap, _acts(scene), gap, _subscribers(scene), gap, _ending(scene))


def to_svg(scene: Scene) -> str:
    """Return the whole picture as an SVG file."""
    console = Console(
        record=True,
        width=_WIDTH,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        highlight=False,
        legacy_windows=False,
    )
    console.print(draw(scene))
    return console.export_svg(
        title="envelope demo", theme=_THEME, code_format=_SVG, unique_id="demo"
    )


def _heading(scene: Scene) -> Text:
    north, south = cast.PUBLISHERS
    desk, archive = cast.SUBSCRIBERS
    return Text.assemble(
        (f"{north}, {south}", "bold"),
        "  -->  ",
        ("hostile proxy", "bold red"),
        f" (seed {scene.seed})  -->  ",
        (f"{desk}, {archive}", "bold"),
        ("    each a process, on TCP sockets", "dim"),
    )


def _acts(scene: Scene) -> Table:
    table = make_table("what the proxy did", "blue")
    table.add_column("times", justify="right")
    table.add_column("must end as", ratio=1, overflow="fold")
    for name in cast.SUBSCRIBERS:
        table.add_column(f"at {name}", justify="right", no_wrap=True)
    table.add_column("accounted", justify="center")
    counts = scene.report("proxy").get("counts", {})
    rows = {row.act: row for row in scene.verdict.rows} if scene.verdict else {}
    for act in Act:
        row = rows.get(act)
        style = "green" if act in (Act.PASS, Act.REORDER) else "red"
        table.add_row(
            Text(act, style),
            number(counts.get(act, 0)),
            Text(_ends(row) if row else _ENDS[act], "dim" if act is Act.FLIP and row else ""),
            *(_cell(row, name) for name in cast.SUBSCRIBERS),
            _accounted(row),
        )
    return table


def _ends(row: Row) -> str:
    if len(row.outcomes) < 2:
        return _ENDS[row.act]
    lines = [""]
    for code, count in sorted(row.outcomes.items(), key=lambda item: -item[1]):
        part = f"{code} {count}, "
        if len(lines[-1] + part) > _ENDS_WIDTH + 1:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines).removesuffix(", ")


def _cell(row: Row | None, name: str) -> Text:
    if row is None:
        return Text("")
    right, due = row.cells[name]
    return Text(f"{right:,}/{due:,}", "" if right == due else "bold red")


def _accounted(row: Row | None) -> Text:
    if row is None:
        return Text("")
    return Text("yes", "green") if row.is_accounted else Text("NO", "bold red")


def _subscribers(scene: Scene) -> Table:
    table = make_table("what the subscribers saw", "blue")
    sources = (*cast.PUBLISHERS, OTHERS)
    columns = [(name, source) for name in cast.SUBSCRIBERS for source in sources]
    for name, source in columns:
        table.add_column(f"{name}\n{source}", justify="right", ratio=1)
    for figure, style in (("delivered", "green"), ("late", ""), ("lost", "yellow")):
        cells = [
            scene.report(name).get("senders", {}).get(source, {}).get(figure, 0)
            for name, source in columns
        ]
        table.add_row(Text(figure, style), *map(number, cells))
    claimed = [scene.report(name).get("claimed", {}).get(source, {}) for name, source in columns]
    for code in CODES:
        cells = [one.get(code, 0) for one in claimed]
        if any(cells):
            table.add_row(Text(f"refused: {code}", "red"), *map(number, cells))
    return table


def _ending(scene: Scene) -> RenderableType:
    published = sum(scene.report(name).get("sent", 0) for name in cast.PUBLISHERS)
    markers = sum(scene.report(name).get("markers", 0) for name in cast.PUBLISHERS)
    verdict = scene.verdict
    if verdict is None:
        return Text(f"{published:,} events published in {scene.seconds:.0f} s", "dim")
    if verdict.is_good:
        return Text.assemble(
            ("All accounted for. ", "bold green"),
            f"{published:,} events and {markers} closing messages: every lie was refused or "
            "counted, all that was let through was delivered exactly once and unchanged.",
        )
    lines = [Text("NOT all accounted for.", "bold red")]
    lines += [Text(f"  {problem}") for problem in verdict.problems[:_SHOWN_PROBLEMS]]
    if len(verdict.problems) > _SHOWN_PROBLEMS:
        lines.append(Text(f"  and {len(verdict.problems) - _SHOWN_PROBLEMS} more"))
    return Group(*lines)


def make_table(title: str, style: str) -> Table:
    """Return a table that is as wide as the picture, with its first column."""
    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        expand=True,
        header_style="bold",
    )
    table.add_column(title, no_wrap=True, header_style=f"bold {style}")
    return table


def number(value: int) -> Text:
    """Return a figure as it stands in a table."""
    return Text(f"{value:,}") if value else Text("-", "dim")
