"""One piece of work on many items, by several threads, in order.

Rules of this file: a thread lives no longer than the call, so nothing has to be closed, and
a fork leaves nothing behind. What the work raises first, the call raises.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_PORTION: Final = 8
"""Items that a thread takes at once: enough that taking costs nothing, few enough that all
end together."""


def work_off(
    work: Callable[[_Item], _Result], items: Sequence[_Item], threads: int
) -> list[_Result]:
    """Return what the work makes of each item, in their order.

    Args:
        work: releases the GIL for most of its time, or nothing is gained. Called from
            several threads at once.
        items: all of them are done, unless one raises.
        threads: how many at most, the caller's own among them.

    Raises:
        BaseException: what the work raised first.
    """
    threads = min(threads, -(-len(items) // _PORTION))
    if threads <= 1:
        return list(map(work, items))
    results: list[Any] = [None] * len(items)
    starts = iter(range(0, len(items), _PORTION))
    lock = threading.Lock()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            while not failures:
                with lock:
                    start = next(starts, None)
                if start is None:
                    return
                end = start + _PORTION
                results[start:end] = map(work, items[start:end])
        except BaseException as error:  # noqa: BLE001 (raised again below)
            failures.append(error)

    started: list[threading.Thread] = []
    try:
        for _ in range(threads - 1):
            one = threading.Thread(target=run)
            # Where no more threads can be had, those that there are do it.
            with contextlib.suppress(RuntimeError):
                one.start()
                started.append(one)
        run()
        for one in started:
            one.join()
    except BaseException as error:  # A signal handler's: the others shall end soon, too.
        failures.append(error)
        raise
    if failures:
        raise failures[0]
    return results
