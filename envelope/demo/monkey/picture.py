"""What is seen: four tables and a verdict, live on a terminal, else a line for each strike.

Rules of this file: it draws the book and decides nothing. At most 100 columns, plain
ASCII in every text.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from envelope import clock
from envelope.demo.monkey import speech
from envelope.demo.monkey.book import Book, Restart
from envelope.demo.monkey.lies import Act
from envelope.demo.picture import make_console, make_table, number

if TYPE_CHECKING:
    from envelope.demo.monkey.stage import Actor

__all__ = ["Scene", "draw", "live", "make_console"]

_SHOWN_RESTARTS: Final = 8
_SHOWN_PROBLEMS: Final = 8


@dataclass
class Scene:
    """What there is to see: changes while it runs.

    Attributes:
        seed: of the dice.
        book: what was said and heard.
        actors: the processes, once there are some.
        problems: None until the verdict.
    """

    seed: int
    book: Book
    actors: Mapping[str, Actor] = field(default_factory=dict)
    problems: list[str] | None = None
    began: int = field(default_factory=clock.monotonic)

    def report(self, name: str) -> dict[str, Any]:
        """Return the newest figures of one of them."""
        actor = self.actors.get(name)
        return actor.report if actor else {}


@contextmanager
def live(console: Console, scene: Scene) -> Iterator[Callable[[], None]]:
    """Show the scene while it changes; yield what shows it anew."""
    if not console.is_terminal:
        yield _Lines(console, scene).show
        return
    with Live(draw(scene), console=console, auto_refresh=False, transient=True) as shown:
        yield lambda: shown.update(draw(scene), refresh=True)


class _Lines:
    """A line for each restart, once it has recovered or was cut short."""

    def __init__(self, console: Console, scene: Scene) -> None:
        self._console = console
        self._scene = scene
        self._shown = 0

    def show(self) -> None:
        """Print what is new."""
        for one in self._scene.book.restarts[self._shown :]:
            if not (one.has_recovered or one.is_cut_short or self._scene.problems is not None):
                return
            self._shown += 1
            when = (one.ready_at - self._scene.began) / clock.SECOND
            self._console.print(
                f"{when:6.1f} s  {' and '.join(one.killed)} killed and begun again, {_came(one)}"
            )


def draw(scene: Scene) -> RenderableType:
    """Return the whole picture."""
    gap = Text()
    parts: list[RenderableType] = [_heading(scene), gap, _ends(scene), gap]
    parts += [_lies(scene), gap, _restarts(scene), gap, _ending(scene)]
    return Group(*parts)


def _heading(scene: Scene) -> Text:
    return Text.assemble(
        (speech.CLIENT, "bold"),
        "  <-->  ",
        ("a proxy that lies", "bold red"),
        "  <-->  ",
        (speech.SERVER, "bold"),
        f"    each a process; a monkey kills (seed {scene.seed})",
    )


def _ends(scene: Scene) -> Table:
    table = make_table("the two ends", "blue")
    for name in speech.ENDS:
        table.add_column(name, justify="right", ratio=1)
    book, lost = scene.book, scene.book.lost

    def row(what: str, figure: Callable[[str], int | str], style: str = "") -> None:
        cells = [figure(name) for name in speech.ENDS]
        table.add_row(
            Text(what, style),
            *(Text(one) if isinstance(one, str) else number(one) for one in cells),
        )

    row("lives", lambda name: book.lives[name])
    row("lives since", lambda name: _since(scene.actors.get(name)))
    row("sessions now", lambda name: scene.report(name).get("sessions", 0))
    for what, key in (("handshakes, asked for", "asked"), ("handshakes, granted", "granted")):
        row(what, lambda name, key=key: _handshakes(scene, name)[key])  # type: ignore[misc]  # a default binds it
    row("messages sent", lambda name: book.said_by[name])
    row("of these lost", lambda name: lost[name], "yellow")
    row("messages delivered to it", lambda name: book.heard_by[name], "green")
    refused = {name: actor.all_refused() for name, actor in scene.actors.items()}
    for code in sorted({code for counts in refused.values() for code in counts}):
        row(f"refused: {code}", lambda name, code=code: refused[name][code], "red")  # type: ignore[misc]  # too
    return table


def _handshakes(scene: Scene, name: str) -> Mapping[str, int]:
    actor = scene.actors.get(name)
    return {"asked": 0, "granted": 0} if actor is None else actor.all_handshakes()


def _since(actor: Actor | None) -> str:
    if actor is None or not actor.since:
        return "dead"
    return f"{(clock.monotonic() - actor.since) / clock.SECOND:.1f} s"


def _lies(scene: Scene) -> Table:
    table = make_table("what the proxy did", "blue")
    for name in speech.ENDS:
        table.add_column(f"to the {name}", justify="right", ratio=1)
    lies = scene.report(speech.PROXY).get("lies", {})
    for act in Act:
        style = "green" if act in (Act.PASS, Act.HOLD) else "red"
        cells = (number(lies.get(name, {}).get(act, 0)) for name in speech.ENDS)
        table.add_row(Text(act, style), *cells)
    return table


def _restarts(scene: Scene) -> Table:
    table = make_table("the last ones killed", "blue")
    table.add_column("at", justify="right")
    table.add_column("messages again, after it was there", justify="right", ratio=1)
    for one in scene.book.restarts[-_SHOWN_RESTARTS:]:
        at = (one.ready_at - scene.began) / clock.SECOND
        table.add_row(
            Text(" and ".join(one.killed), "bold"),
            Text(f"{at:.1f} s" if one.ready_at else ""),
            Text(_came(one)),
        )
    return table


def _came(one: Restart) -> str:
    if one.both is not None:
        return f"the first after {one.first:.3f} s, both ways after {one.both:.3f} s"
    if one.is_cut_short:
        return "killed again before that"
    return "none yet"


def _ending(scene: Scene) -> RenderableType:
    book = scene.book
    times = [one.first for one in book.restarts if one.first is not None and one.has_recovered]
    figures = f"{book.kills} killed"
    if times:
        figures += (
            f"; the first message came {statistics.median(times):.3f} s after a restart in the "
            f"median, {max(times):.3f} s at worst"
        )
    if scene.problems is None:
        return Text(figures, "dim")
    if not scene.problems:
        return Text.assemble(
            ("Nothing twice, nothing forged, and each restart recovered. ", "bold green"),
            f"{sum(book.heard_by.values()):,} messages delivered, {figures}.",
        )
    lines = [Text("NOT as it must be.", "bold red")]
    lines += [Text(f"  {problem}") for problem in scene.problems[:_SHOWN_PROBLEMS]]
    if len(scene.problems) > _SHOWN_PROBLEMS:
        lines.append(Text(f"  and {len(scene.problems) - _SHOWN_PROBLEMS} more"))
    return Group(*lines, Text(figures, "dim"))
