"""Where figures go: the block of a document that a benchmark owns, and the machine."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgpack
import nacl

import envelope


def machine() -> str:
    """Return the versions and the processor that figures are of."""
    return (
        f"Python {platform.python_version()}, PyNaCl {nacl.__version__}, "
        f"msgpack {'.'.join(map(str, msgpack.version))}, envelope {envelope.__version__}, "
        f"{_processor()}"
    )


def _processor() -> str:
    try:
        info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.machine()
    found = re.search(r"model name\s*:\s*(.+)", info)
    return found[1] if found else platform.machine()


def versions(packages: Iterable[str]) -> str:
    """Return what is installed of these packages."""
    found = []
    for package in packages:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"no {package}")
    return ", ".join(found)


def write(path: Path, name: str, lines: Sequence[str]) -> None:
    """Replace the block of this name in a document."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    block = "\n".join([begin, *lines, end])
    text = path.read_text(encoding="utf-8")
    text, count = re.subn(f"{begin}.*{end}", lambda _: block, text, flags=re.DOTALL)
    if count != 1:
        raise SystemExit(f"{path} has {count} blocks named {name}")
    path.write_text(text, encoding="utf-8")
