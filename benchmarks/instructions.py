"""A guard against getting slower: instructions that a message costs beside its cryptography.

Rules of this file:

- Valgrind counts instructions, so a busy machine changes nothing: the same build of Python
  gives the same figures each time, but for what follows from random bytes.
- Of each path the calls of libsodium are subtracted, counted over the same arguments. What is
  left is ours, and is told in multiples of a yardstick in plain Python, counted in the same
  run: so builds of one version of Python can be compared.
- A path may cost ``TOLERANCE`` more than instructions.json says for this build of Python, and
  ``ELSEWHERE`` more than for another build of this version. Who makes one slower, and means
  it, or faster, writes that file anew with ``--update`` and says why in the commit.

Run: ``make guard``, or ``python benchmarks/instructions.py --help``.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import hashlib
import json
import logging
import os
import platform
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from envelope import Identity, Opener, Peer, Policy, RejectedError, Sealer, TrustStore
from envelope.replay import MemoryReplayStore
from envelope.session import SessionManager, channel
from envelope.session.cipher import libsodium

TOLERANCE = 0.05
ELSEWHERE = 0.60
"""Refusals differ by half between two builds of 3.11, all else by a twentieth."""
FILE = Path(__file__).with_suffix(".json")
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
BUILD = f"{platform.python_version()}, {platform.python_compiler()}"
COUNT = 64
"""Calls of the short run; the long one has as many more, and what one costs is the difference."""
BUNDLE = 128
CONTEXT = "guard"
PAYLOAD = bytes(range(256))
CRYPTOGRAPHY = (
    ("envelope.sealer", "sign"),
    ("envelope.sealer", "aead_encrypt"),
    ("envelope.opener", "verify"),
    ("envelope.opener", "aead_decrypt"),
    ("envelope.session.channel", "encrypt"),
    ("envelope.session.channel", "decrypt"),
)

YARDSTICK = "yardstick"

Work = Callable[[int], object]
"""Does one path so many times."""
_mark = os.getppid
"""Valgrind looks for calls of this, which nobody else makes: a count ends there."""


class _Step:
    """What the yardstick calls."""

    __slots__ = ("known", "total")

    def __init__(self) -> None:
        self.known = {number: number for number in range(8)}
        self.total = 0

    def go(self, number: int, *, more: int) -> int:
        self.total += self.known.get(number & 7, 0) + more
        return self.total


def yardstick(count: int) -> None:
    """Do what envelopes are made of: calls, attributes, slices, a dictionary, a hash."""
    step, unpack, state = (
        _Step(),
        struct.Struct(">3sBBBH16s16sQQ24s").unpack_from,
        hashlib.blake2b(),
    )
    for number in range(count):
        first, *_, last = unpack(PAYLOAD)
        step.go(number, more=len(first) + len(last))
        copy = state.copy()
        copy.update(PAYLOAD[16:80])
        copy.digest()


def cryptography_of(work: Work, count: int) -> Work:
    """Return the calls of libsodium that some work makes, as work; nothing else."""
    calls: list[tuple[Callable[..., object], tuple[Any, ...]]] = []

    def noting(function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: Any) -> object:
            calls.append((function, arguments))
            return function(*arguments)

        return call

    with contextlib.ExitStack() as patches:
        for module, name in CRYPTOGRAPHY:
            function = getattr(sys.modules[module], name)
            patches.enter_context(mock.patch(f"{module}.{name}", noting(function)))
        work(count)

    def repeat(_: int) -> None:
        for function, arguments in calls:
            function(*arguments)

    return repeat


class Paths:
    """The hot paths: sealing, opening, refusing; sending and receiving by a session."""

    def __init__(self) -> None:
        self.alice, self.bob = Identity.generate(), Identity.generate()
        self.trust = TrustStore(
            Peer(name, one.public, contexts=[CONTEXT])
            for name, one in (("alice", self.alice), ("bob", self.bob))
        )

    def sealer(self, *, sealed: bool, who: Identity | None = None) -> Sealer:
        """Return a sealer, for everyone or for one."""
        to = [self.bob.public] if sealed else []
        return Sealer(who or self.alice, context=CONTEXT, to=to)

    def opener(self) -> Opener:
        """Return a receiver with an empty memory, which has met the sender."""
        made = Opener(
            self.trust,
            context=CONTEXT,
            identity=self.bob,
            replay=MemoryReplayStore(first_life=True),
            policy=Policy(max_age=3600),  # Under Valgrind all takes fifty times as long.
        )
        made.open(self.sealer(sealed=False).seal(PAYLOAD))
        return made

    def sealing(self, *, sealed: bool) -> Callable[[], Work]:
        """Return sealing."""

        def make() -> Work:
            seal = self.sealer(sealed=sealed).seal
            seal(PAYLOAD)
            return lambda count: [seal(PAYLOAD) for _ in range(count)]

        return make

    def bundling(self) -> Work:
        """Return the sealing of bundles."""
        seal, bundle = self.sealer(sealed=True).seal_bundle, [PAYLOAD] * BUNDLE
        seal(bundle)
        return lambda count: [seal(bundle) for _ in range(count)]

    def opening(self, data: Sequence[bytes]) -> Callable[[], Work]:
        """Return opening."""

        def make() -> Work:
            open_ = self.opener().open
            return lambda count: [open_(one).payload for one in data[:count]]

        return make

    def opening_bundles(self, data: Sequence[bytes]) -> Callable[[], Work]:
        """Return the opening of bundles."""

        def make() -> Work:
            open_bundle = self.opener().open_bundle
            return lambda count: [open_bundle(one).payloads for one in data[:count]]

        return make

    def refusing(self, data: Sequence[bytes], *, repeated: bool = False) -> Callable[[], Work]:
        """Return refusing."""

        def make() -> Work:
            opener = self.opener()
            for one in data if repeated else ():
                opener.open(one)

            def work(count: int) -> None:
                for one in data[:count]:
                    try:
                        opener.open(one)
                    except RejectedError:
                        continue
                    raise AssertionError("accepted")

            return work

        return make

    def session(self) -> tuple[SessionManager, SessionManager]:
        """Return two ends with a session. Their time stands still, so none looks around."""
        here, there = (
            SessionManager(one, self.trust, context=CONTEXT, to=to.public, monotonic=lambda: 1)
            for one, to in ((self.alice, self.bob), (self.bob, self.alice))
        )
        here.send(b"")
        for sender, receiver in ((here, there), (there, here), (here, there)):
            receiver.receive(sender.outbox.popleft().data)
        return here, there

    def sending(self) -> Work:
        """Return sending by a session."""
        send = self.session()[0].send
        return lambda count: [send(PAYLOAD) for _ in range(count)]

    def receiving(self) -> Work:
        """Return receiving by a session."""
        here, there = self.session()
        data = [here.send(PAYLOAD) for _ in range(2 * COUNT)]
        receive: Any = there.receive
        return lambda count: [receive(one).payload for one in data[:count]]

    def all(self) -> Iterator[tuple[str, Callable[[], Work]]]:
        """Yield the paths by name; each makes its work anew."""
        signed, sealed = self.sealer(sealed=False), self.sealer(sealed=True)
        stranger = self.sealer(sealed=False, who=Identity.generate())
        bundle, most = [PAYLOAD] * BUNDLE, range(2 * COUNT)
        yield YARDSTICK, lambda: yardstick
        yield "seal, signed", self.sealing(sealed=False)
        yield "seal, sealed", self.sealing(sealed=True)
        yield f"seal a bundle of {BUNDLE}", self.bundling
        yield "open, signed", self.opening([signed.seal(PAYLOAD) for _ in most])
        yield "open, sealed", self.opening([sealed.seal(PAYLOAD) for _ in most])
        bundles = [sealed.seal_bundle(bundle) for _ in most]
        yield f"open a bundle of {BUNDLE}", self.opening_bundles(bundles)
        yield "refuse an unknown sender", self.refusing([stranger.seal(PAYLOAD) for _ in most])
        yield "refuse garbage", self.refusing([b"garbage" * 50] * len(most))
        again = [signed.seal(PAYLOAD) for _ in most]
        yield "refuse a replay", self.refusing(again, repeated=True)
        yield "send by a session", self.sending
        yield "receive by a session", self.receiving


def work_off() -> None:
    """Do all the work, under Valgrind, with a mark before and after each piece."""
    gc.disable()
    logging.disable(logging.CRITICAL)
    always = libsodium()  # The cipher that is there on every machine.
    with mock.patch.multiple(channel, encrypt=always.encrypt, decrypt=always.decrypt):
        for name, make in Paths().all():
            make()(COUNT)  # What is made once is made here.
            for count in (COUNT, 2 * COUNT):
                for work in (make(), cryptography_of(make(), count)):
                    _mark()
                    work(count)
                    _mark()
            print(name, flush=True)


def measure() -> dict[str, float]:
    """Return what each path costs, in yardsticks."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            "setarch", "-R",
            "valgrind", "--tool=callgrind", "--dump-before=getppid",
            f"--callgrind-out-file={folder}/out",
            sys.executable, __file__, "--child",
        ]  # fmt: skip
        run = subprocess.run(  # noqa: S603 (ourselves)
            command,
            env={**os.environ, "PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode:
            raise SystemExit(f"{run.stdout}{run.stderr}")
        names = run.stdout.split("\n")[:-1]
        # Between two marks of a piece of work lies one dump, and one more up to the next piece.
        dumps = [_total(Path(f"{folder}/out.{number}")) for number in range(2, 8 * len(names) + 1)]
    figures = {}
    for at, name in enumerate(names):
        short, short_crypto, long, long_crypto = dumps[8 * at : 8 * at + 8 : 2]
        figures[name] = ((long - long_crypto) - (short - short_crypto)) / COUNT
    unit = figures.pop(YARDSTICK)
    return {name: round(figure / unit, 3) for name, figure in figures.items()}


def _total(dump: Path) -> int:
    found = re.search(r"^totals: (\d+)$", dump.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise SystemExit(f"{dump.name} has no total")
    return int(found[1])


def compare(figures: dict[str, float], known: dict[str, float], tolerance: float) -> bool:
    """Print the figures beside those that are known; tell whether none is too high."""
    good = figures.keys() == known.keys()
    print(f"{'path':28}{'yardsticks':>12}{'known':>9}{'ratio':>8}")
    for name, figure in figures.items():
        was = known.get(name, 0.0)
        is_slower = figure > was * (1 + tolerance)
        good = good and not is_slower
        ratio = figure / was if was else 0.0
        print(f"{name:28}{figure:12.2f}{was:9.2f}{ratio:8.3f}{'  SLOWER' * is_slower}")
    return good


def main() -> int:
    """Count and compare, or write the figures anew."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--update", action="store_true", help="write the figures anew")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        work_off()
        return 0
    if not (shutil.which("valgrind") and shutil.which("setarch")):
        print(
            "the guard is left out: it needs valgrind, and setarch of util-linux", file=sys.stderr
        )
        return 1 if os.environ.get("CI") else 0
    known = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    figures = measure()
    if options.update:
        known[BUILD] = figures
        FILE.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    like = (
        BUILD
        if BUILD in known
        else min((one for one in known if one.startswith(f"{VERSION}.")), default=None)
    )
    if like is None:
        print(f"nothing is known of Python {VERSION}, so nothing is compared", file=sys.stderr)
        return 0
    tolerance = TOLERANCE if like == BUILD else ELSEWHERE
    print(f"Python {BUILD}, beside {like}: at most {tolerance:.0%} above")
    return 0 if compare(figures, known[like], tolerance) else 1


if __name__ == "__main__":
    sys.exit(main())
