"""Run the tests against every mutant, in children of one process.

Rules of this file: pytest collects the tests once and runs none of them there. Each
mutant gets a forked child, which puts the changed code under the functions that exist
already and runs the tests that ran the changed statement; the first failure kills it.
What a test file makes while it is collected is thus made by the true code.

What runs when a module is imported gets a child that has imported nothing of the
library yet, and imports the changed module in place of the true one.

Each child leads a group of processes, which ends with it: a server that a test started
stays with nobody. What it leaves in the folder for temporary files goes too.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib.machinery
import importlib.util
import os
import pickle
import resource
import select
import signal
import sys
import tempfile
import time
import types
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import coverage
import msgpack  # noqa: F401 (children have it then)
import nacl.bindings  # noqa: F401
import pytest
from hypothesis import HealthCheck, Phase, settings
from mutants import Mutant

ROOT = Path(__file__).parents[2]
CHILDREN = 2
SECONDS = 2.0
"""Processor time for a test that usually takes none; ten times the usual on top."""
SECONDS_AFRESH = 120
MEMORY = 4 * 2**30
WALL = 600.0
"""A child that waits for what never comes, such as a lock, ends after this."""

KILLED, SURVIVED, TIMEOUT, INVALID, APART = "killed", "survived", "timeout", "invalid", "apart"
_CODES = {0: SURVIVED, 1: KILLED, 3: INVALID, 4: APART}

settings.register_profile(
    "mutation",
    max_examples=25,
    deadline=None,
    database=None,
    derandomize=True,
    # Who kills needs no smallest example.
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)

Tests = Mapping[str, Sequence[str]]
Leave = Callable[[str], bool]


class Result(NamedTuple):
    """What became of one mutant."""

    mutant: Mutant
    outcome: str
    test: str
    """The test that failed, if one did."""


class Baseline(NamedTuple):
    """What the tests do with the true code."""

    seconds: dict[str, float]
    lines: dict[str, dict[int, list[str]]]
    """By module and line, the tests that ran it."""


def run(found: Sequence[Mutant], tests: Tests, leave: Leave) -> list[Result]:
    """Run the campaign and return the results, without what was no Python.

    Args:
        found: the mutants.
        tests: by module, the files of tests that must notice.
        leave: tells which tests are left out, by their id.
    """
    os.environ["HYPOTHESIS_PROFILE"] = "mutation"
    sys.dont_write_bytecode = True
    os.chdir(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TMPDIR"] = tempfile.tempdir = folder
        try:
            return _run(found, tests, leave)
        finally:
            del os.environ["TMPDIR"]
            tempfile.tempdir = None


def _run(found: Sequence[Mutant], tests: Tests, leave: Leave) -> list[Result]:
    within = [mutant for mutant in found if not mutant.at_import]
    results = _in_child(lambda: _collected(within, tests, leave))
    apart = [one.mutant for one in results if one.outcome == APART]
    apart += [mutant for mutant in found if mutant.at_import]

    def afresh(mutant: Mutant, _: int) -> int:
        return _afresh(mutant, tests[mutant.module], leave)

    results += (late := _pool(apart, afresh))
    if late and all(one.outcome == KILLED for one in late):
        # None of them shows that the tests pass this way too if nothing is changed.
        true = replace(apart[0], source=_path(apart[0].module).read_text(encoding="utf-8"))
        if _pool([true], afresh)[0].outcome != SURVIVED:
            raise SystemExit("the tests do not pass in a process of their own")
    return [one for one in results if one.outcome not in {INVALID, APART}]


def _collected(found: Sequence[Mutant], tests: Tests, leave: Leave) -> list[Result]:
    campaign = _Campaign(found, tests)
    campaign.at_import.start()
    files = dict.fromkeys(file for those in tests.values() for file in those)
    code = pytest.main([*_options(), *files], plugins=[_Left(leave), campaign])
    if campaign.results is None:
        raise SystemExit(f"the tests cannot be collected, or do not pass (pytest: {code})")
    return campaign.results


def _options() -> list[str]:
    # The profile has to be known before pytest loads what a test imports.
    known = "-Wignore:Module already imported:pytest.PytestAssertRewriteWarning"
    # Without a timer: a child has its own, and the option of a plugin that is off is an error.
    off = ["-p", "no:cacheprovider", "-o", "faulthandler_timeout=0"]
    return ["-q", "-s", "-x", known, *off, "--timeout=60"]


class _Left:
    """A pytest plugin that leaves tests out."""

    def __init__(self, leave: Leave) -> None:
        self._leave = leave

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if not self._leave(item.nodeid)]


class _Campaign:
    """A pytest plugin that takes the place of the loop over the tests."""

    def __init__(self, found: Sequence[Mutant], tests: Tests) -> None:
        self.results: list[Result] | None = None
        self.at_import = _coverage()
        self._mutants, self._tests = found, tests
        self._failed = False
        self._kills: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._failed = self._failed or report.failed

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self.at_import.stop()
        ran = self.at_import.get_data()
        self._imported = {module: ran.lines(str(_path(module))) or () for module in self._tests}
        self._items = {item.nodeid: item for item in session.items}
        self._functions = _functions()
        self._known = _in_child(self._learn)
        gc.freeze()
        self.results = _pool(self._mutants, self._try, self._learn_killer)
        return True

    def _learn(self) -> Baseline:
        """Run every test once, and learn which lines it runs."""
        cov = _coverage()
        cov.start()
        seconds = {}
        for nodeid in self._items:
            cov.switch_context(nodeid)
            start = time.process_time()
            self._run_one(nodeid)
            seconds[nodeid] = time.process_time() - start
            if self._failed:
                raise SystemExit(f"fails with the true code: {nodeid}")
        cov.stop()
        data = cov.get_data()
        print(f"\n{len(seconds)} tests, {sum(seconds.values()):.0f} s", flush=True)
        lines = {module: data.contexts_by_lineno(str(_path(module))) for module in self._tests}
        return Baseline(seconds, lines)

    def _run_one(self, nodeid: str) -> None:
        # No next item: fixtures of wider scopes are made anew for each test.
        item = self._items[nodeid]
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)

    def _chosen(self, mutant: Mutant) -> list[str]:
        """Return the tests that ran a line of the statement; who killed here goes first."""
        lines = self._known.lines[mutant.module]
        files = self._tests[mutant.module]
        ran = {name for line in mutant.lines for name in lines.get(line, ())}
        ran = {name for name in ran if name.partition("::")[0] in files}
        kills, seconds = self._kills[mutant.module, mutant.place], self._known.seconds
        return sorted(ran, key=lambda name: (-kills[name], seconds[name], name))

    def _learn_killer(self, result: Result) -> None:
        self._kills[result.mutant.module, result.mutant.place][result.test] += 1

    def _try(self, mutant: Mutant, writer: int) -> int:
        """Run the tests in a child; name the failing one through the pipe."""
        try:
            code = compile(mutant.source, str(_path(mutant.module)), "exec", dont_inherit=True)
        except SyntaxError:
            return 3
        chosen = self._chosen(mutant)
        if not chosen and not set(mutant.lines) & set(self._imported[mutant.module]):
            return 0
        # What no test runs has run at import, as what makes a table does.
        if not chosen or not self._put(mutant, code):
            return 4
        for nodeid in chosen:
            allowed = SECONDS + 10 * self._known.seconds[nodeid]
            signal.setitimer(signal.ITIMER_VIRTUAL, allowed)
            self._run_one(nodeid)
            if self._failed:
                os.write(writer, nodeid.encode())
                return 1
        return 0

    def _put(self, mutant: Mutant, code: types.CodeType) -> bool:
        """Put changed code under the functions that have it; False if there are none."""
        path, put = str(_path(mutant.module)), False
        for new in _nested(code):
            for function in self._functions.get((path, new.co_qualname, new.co_firstlineno), ()):
                if function.__code__ != new:
                    try:
                        function.__code__ = new
                    except ValueError:  # other free variables
                        return False
                    put = True
        return put


def _coverage() -> coverage.Coverage:
    return coverage.Coverage(
        data_file=None, config_file=False, include=[f"{ROOT}/envelope/*"], messages=False
    )


def _functions() -> dict[tuple[str, str, int], list[types.FunctionType]]:
    """Return the functions of the library that exist, by where their code stands."""
    found: dict[tuple[str, str, int], list[types.FunctionType]] = {}
    for thing in gc.get_objects():
        if isinstance(thing, types.FunctionType):
            code = thing.__code__
            if code.co_filename.startswith(f"{ROOT}/envelope/"):
                place = code.co_filename, code.co_qualname, code.co_firstlineno
                found.setdefault(place, []).append(thing)
    return found


def _nested(code: types.CodeType) -> Iterator[types.CodeType]:
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield const
            yield from _nested(const)


def _path(module: str) -> Path:
    return ROOT / "envelope" / (module.replace(".", "/") + ".py")


def _afresh(mutant: Mutant, files: Sequence[str], leave: Leave) -> int:
    """Import the changed module in a child that has not imported the library; run the tests."""
    path = str(_path(mutant.module))

    class Loader(importlib.machinery.SourceFileLoader):
        def get_data(self, wanted: str) -> bytes:
            return mutant.source.encode() if wanted == path else super().get_data(wanted)

        def path_stats(self, wanted: str) -> dict[str, float]:
            raise OSError  # no cached bytecode

    class Finder(importlib.machinery.PathFinder):
        @classmethod
        def find_spec(cls, name, where=None, target=None):
            if name != f"envelope.{mutant.module}":
                return None
            return importlib.util.spec_from_file_location(name, path, loader=Loader(name, path))

    sys.meta_path.insert(0, Finder)
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS_AFRESH, SECONDS_AFRESH))
    # One file after the other: most end with the first, and never collect the rest.
    for file in files:
        if pytest.main([*_options(), file], plugins=[_Left(leave)]) not in {0, 5}:
            return 1
    return 0


def _pool(
    found: Sequence[Mutant],
    work: Callable[[Mutant, int], int],
    killed: Callable[[Result], None] = lambda _: None,
) -> list[Result]:
    """Keep children at work, and return their results in the order of the mutants."""
    waiting = list(enumerate(found))[::-1]
    running: dict[int, tuple[int, Mutant, int, float]] = {}
    results: dict[int, Result] = {}
    while waiting or running:
        while waiting and len(running) < CHILDREN:
            index, mutant = waiting.pop()
            reader, pid = _start(mutant, work)
            running[pid] = index, mutant, reader, time.monotonic()
        select.select([reader for _, _, reader, _ in running.values()], [], [], 1.0)
        for pid, (index, mutant, reader, start) in list(running.items()):
            if time.monotonic() - start > WALL:
                os.kill(pid, signal.SIGKILL)
            status = _ended(pid, os.WNOHANG)
            if status is None:
                continue
            del running[pid]
            with os.fdopen(reader, "rb") as pipe:
                test = pipe.read().decode()
            outcome = _CODES.get(os.waitstatus_to_exitcode(status), TIMEOUT)
            results[index] = Result(mutant, outcome, test)
            if test:
                killed(results[index])
            _say(results[index], f"{len(results)}/{len(found)}")
    return [results[index] for index in sorted(results)]


def _say(result: Result, count: str) -> None:
    if result.outcome in {SURVIVED, TIMEOUT} or count.partition("/")[0].endswith("00"):
        mutant = result.mutant
        told = f"{count} {result.outcome} {mutant.module} {mutant.place}: "
        print(f"{told}{mutant.before} -> {mutant.after} {result.test}", flush=True)


def _start(mutant: Mutant, work: Callable[[Mutant, int], int]) -> tuple[int, int]:
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reader)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        _end(lambda: work(mutant, writer))
    os.close(writer)
    return reader, pid


def _in_child(work: Callable[[], Any]) -> Any:
    """Do work in a child and return what it returned; this process stays as it is."""
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "told"
        sys.stdout.flush()
        pid = os.fork()
        if not pid:
            _end(lambda: told.write_bytes(pickle.dumps(work())) * 0)
        _ended(pid)
        if not told.exists():
            raise SystemExit("the tests cannot be collected, or do not pass")
        return pickle.loads(told.read_bytes())


def _ended(pid: int, options: int = 0) -> int | None:
    """Return the status of a child that has ended, and end what it left running."""
    if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | options) is None:
        return None
    with contextlib.suppress(ProcessLookupError):  # It did not come to lead a group.
        os.killpg(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


def _end(work: Callable[[], int]) -> None:
    """Do the work of a child and end it, whatever happens."""
    code = 1
    try:
        os.setpgid(0, 0)
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # end with the parent (Linux)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        code = work()
    except SystemExit as end:
        print(end)
    finally:
        sys.stdout.flush()
        os._exit(code)
