"""The parent: brings everybody together, watches, and compares at the end.

Rules of this file: the order of a run is that of ``_play``, and every step of it is
bounded in time, except following a log. It makes the keys and hands each child its
own; it takes part in nothing.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from envelope import Identity, clock
from envelope.demo import cast, picture
from envelope.demo.channel import FINISH, GO
from envelope.demo.children import Company, DemoError
from envelope.demo.events import Parser, find_logs, load
from envelope.demo.verdict import Verdict, judge
from envelope.errors import UsageError

EVENTS: Final = 4000
"""Enough for a hundred of most attacks."""
_RATE: Final = 500
"""Events in a second of both publishers: eye speed, and no strain on a slow machine."""
_LONGEST: Final = 25
"""Seconds in which a longer log is published, if the machine can."""
DEADLINE: Final = 55 * clock.SECOND
"""For a whole run; when following a log, for its beginning and its end each."""

_PROXY: Final = "proxy"
ROLES: Final = {
    _PROXY: "proxy",
    **dict.fromkeys(cast.SUBSCRIBERS, "subscriber"),
    **dict.fromkeys(cast.PUBLISHERS, "publisher"),
}


Wait = Callable[[Callable[[], bool], str], None]
"""Waits until something is the case; the text says what."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one publisher publishes."""

    log: Path
    follow: bool
    first: int
    step: int
    count: int | None
    rate: int


def plan(log: Path | None, *, follow: bool, events: int | None) -> dict[str, Part]:
    """Return what each publisher publishes, and say what is passed over.

    Raises:
        UsageError: options that do not fit, or a log without JSON objects.
        OSError: a log cannot be read.
    """
    if events is not None and events < 1:
        raise UsageError("--events is at least 1")
    if follow and log is None:
        raise UsageError("--follow needs a log that grows: --log FILE")
    if log is not None:
        log.open("rb").close()  # An OSError says why it cannot be read.
        if not log.is_file():
            raise UsageError(f"{log} is not a regular file, and is read more than once")
    # With one log the publishers take turns; the two that come along have one each.
    logs = find_logs() if log is None else [log.absolute()] * len(cast.PUBLISHERS)
    step = 1 if log is None else len(cast.PUBLISHERS)
    count = events
    if not follow:
        found = sum(_survey(path) for path in dict.fromkeys(logs))
        count = events or max(EVENTS, found)
    parts = {}
    for number, name in enumerate(cast.PUBLISHERS):
        share = None if count is None else len(range(number, count, len(cast.PUBLISHERS)))
        rate = max(_RATE, (count or 0) // _LONGEST) // len(cast.PUBLISHERS)
        first = 0 if log is None else number
        parts[name] = Part(logs[number], follow, first, step, share, rate)
    return parts


def _survey(path: Path) -> int:
    """Return how many events a log has."""
    parser = Parser(path)
    count = len(load(path, parser))
    if not count:
        raise UsageError(
            f"{path} has no line that is a JSON object; Zeek writes them with LogAscii::use_json=T"
        )
    if parser.skipped:
        _say(
            f"{path.name}: lines passed over, since they are no JSON objects: "
            f"{parser.skipped}, the first is line {parser.first_skipped}"
        )
    return count


def run(*, log: Path | None, follow: bool, seed: int, events: int | None, svg: Path | None) -> int:
    """See ``envelope.demo.run``."""
    parts = plan(log, follow=follow, events=events)
    console = picture.make_console()
    scene = picture.Scene(seed=seed, reports={})
    try:
        with tempfile.TemporaryDirectory() as folder, Company(ROLES) as company:
            scene.reports = company.reports
            with picture.live(console, scene) as watch:
                scene.verdict = _play(company, parts, seed, Path(folder), watch)
    except DemoError as error:
        _say(str(error))
        return 1
    console.print(picture.draw(scene))
    if svg is not None:
        svg.write_text(picture.to_svg(scene), encoding="utf-8")
    return 0 if scene.verdict.is_good else 1


def _play(
    company: Company, parts: dict[str, Part], seed: int, folder: Path, watch: Callable[[], None]
) -> Verdict:
    """Run from the first connection to the verdict.

    Raises:
        DemoError: it did not come to its end.
        KeyboardInterrupt: Ctrl-C, except the first one while following a log.
    """
    follow = any(part.follow for part in parts.values())
    until = clock.monotonic() + DEADLINE
    reports = company.reports

    def wait(is_over: Callable[[], bool], what: str) -> None:
        company.wait(is_over, what, until=until, watch=watch)

    settings = _connect(company, parts, seed, folder, wait)
    company.tell(cast.PUBLISHERS, GO)
    if not follow:
        _restart(company, settings[cast.RESTARTED], wait)
    if follow:
        with _one_interrupt(company):
            _say("following the log; Ctrl-C ends it, and compares")
            company.wait(
                lambda: all("published" in reports[name] for name in cast.PUBLISHERS),
                "the log",
                until=None,
                watch=watch,
            )
        until = clock.monotonic() + DEADLINE
    wait(
        lambda: all("published" in reports[name] for name in cast.PUBLISHERS),
        "the publishers; --events N takes fewer events",
    )
    _warn_of_skipped(company, follow=follow)
    wait(
        lambda: all(reports[name].get("complete") for name in cast.SUBSCRIBERS),
        "the subscribers to get all that was sent",
    )
    company.tell((_PROXY, *cast.SUBSCRIBERS), FINISH)
    wait(
        lambda: (
            "ledger" in reports[_PROXY]
            and all("arrivals" in reports[name] for name in cast.SUBSCRIBERS)
        ),
        "the last reports",
    )
    return judge(
        {name: reports[name] for name in cast.PUBLISHERS},
        reports[_PROXY],
        {name: reports[name] for name in cast.SUBSCRIBERS},
    )


def _connect(
    company: Company,
    parts: dict[str, Part],
    seed: int,
    folder: Path,
    wait: Wait,
) -> dict[str, dict[str, Any]]:
    """Hand out keys and addresses, and wait until everybody hears everybody.

    Returns:
        What each subscriber was told.
    """
    keys = {name: Identity.generate() for name in (*cast.PUBLISHERS, *cast.SUBSCRIBERS)}
    public = {name: str(key.public) for name, key in keys.items()}
    publishers = {name: public[name] for name in cast.PUBLISHERS}
    subscribers = {name: public[name] for name in cast.SUBSCRIBERS}
    proxy = company.reports[_PROXY]
    company.tell(
        (_PROXY,),
        {
            "publishers": publishers,
            "subscribers": subscribers,
            "seed": seed,
            "patient": any(part.follow for part in parts.values()),
            "hold_after": _middle(parts),
        },
    )
    wait(lambda: "front" in proxy, "the proxy to listen")
    settings = {
        name: {
            "name": name,
            "secret": keys[name].export(),
            "publishers": publishers,
            "endpoint": proxy["front"],
            "memory": str(folder / f"{name}.db"),
            "before": None,
        }
        for name in cast.SUBSCRIBERS
    }
    for name, setting in settings.items():
        company.tell((name,), setting)
    for name, part in parts.items():
        company.tell(
            (name,),
            {
                "name": name,
                "secret": keys[name].export(),
                "subscribers": subscribers,
                "endpoint": proxy["back"],
                "log": str(part.log),
                "follow": part.follow,
                "first": part.first,
                "step": part.step,
                "count": part.count,
                "rate": part.rate,
            },
        )
    subscriptions = sum(len(cast.prefixes(name)) for name in cast.SUBSCRIBERS)
    wait(
        lambda: (
            set(proxy.get("heard", ())) >= set(cast.PUBLISHERS)
            and proxy["subscriptions"] >= subscriptions
        ),
        "everybody to connect",
    )
    return settings


def _middle(parts: dict[str, Part]) -> int | None:
    """Return after how many messages a subscriber begins anew; a log that grows has no middle."""
    if any(part.follow for part in parts.values()):
        return None
    return max(1, sum(part.count or 0 for part in parts.values()) // 2)


def _restart(company: Company, setting: dict[str, Any], wait: Wait) -> None:
    """Have a subscriber end in mid-stream, and a new process of it go on.

    The proxy waits meanwhile, since a SUB socket that is not there misses what is sent,
    and no loss that the proxy did not make is to blur the books.
    """
    name, proxy = cast.RESTARTED, company.reports[_PROXY]
    wait(lambda: proxy["held"] is not None, "the middle of the stream")
    due, subscriptions = proxy["held"][name], proxy["subscriptions"]
    wait(lambda: company.reports[name].get("arrived") == due, f"{name} to get what it was sent")
    company.tell((name,), FINISH)
    wait(lambda: "arrivals" in company.reports[name], f"{name} to end")
    before = company.replace(name)
    company.tell((name,), {**setting, "before": before})
    wait(
        lambda: proxy["subscriptions"] >= subscriptions + len(cast.prefixes(name)),
        f"{name} to begin anew",
    )
    company.tell((_PROXY,), GO)


@contextmanager
def _one_interrupt(company: Company) -> Iterator[None]:
    """Take the first Ctrl-C as the end of the log."""
    try:
        yield
    except KeyboardInterrupt:
        company.tell(cast.PUBLISHERS, FINISH)


def _warn_of_skipped(company: Company, *, follow: bool) -> None:
    # Both read one log; without --follow it was said at the beginning.
    report = company.reports[cast.PUBLISHERS[0]]
    if follow and report["skipped"]:
        _say(
            f"lines passed over, since they are no JSON objects: {report['skipped']}, "
            f"the first was line {report['first_skipped']}"
        )


def _say(line: str) -> None:
    print(f"envelope demo: {line}", file=sys.stderr, flush=True)  # noqa: T201 (a command speaks)
