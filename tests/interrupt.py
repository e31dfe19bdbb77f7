"""A signal handler at each point at which CPython would run one, in turn.

Rules of this file: the points are those of the interpreter, which looks for signals when
a function begins, after a call and at the end of a loop's turn; ``Signal`` counts them in
the modules of the library. Real signals come at a few of them, by chance.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from types import FrameType
from typing import Any, Self

import envelope

PACKAGE = Path(envelope.__file__).parent
LOOKS = ("RESUME", "CALL", "PRECALL", "JUMP_BACKWARD")
"""After these the interpreter looks; their names begin so."""


class Signal:
    """Runs a handler, once, at the n-th point that is reached in the library.

    Attributes:
        came: whether it did.
    """

    def __init__(
        self, number: int, handler: Callable[[], object], modules: Collection[str]
    ) -> None:
        """Take the number, what to do then, and the names of the modules that are counted."""
        self._left = number
        self._handler = handler
        self._modules = modules
        self._last: dict[FrameType, str] = {}
        self.came = False

    def __enter__(self) -> Self:
        self._before = sys.gettrace()
        sys.settrace(self._call)
        return self

    def __exit__(self, *error: object) -> None:
        sys.settrace(self._before)
        self._last.clear()

    def _call(self, frame: FrameType, event: str, argument: Any) -> Any:
        path = Path(frame.f_code.co_filename)
        if path.stem not in self._modules or PACKAGE not in path.parents:
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self._opcode

    def _opcode(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event != "opcode" or self.came:
            return self._opcode
        last = self._last.get(frame, "")
        self._last[frame] = dis.opname[frame.f_code.co_code[frame.f_lasti]]
        if last.startswith(LOOKS):
            self._left -= 1
            if self._left == 0:
                self.came = True
                sys.settrace(None)
                self._handler()
        return self._opcode
