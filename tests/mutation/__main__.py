"""Mutation testing: change the core in every small way, and see that a test fails.

Fails if one survives that ``survivors.toml`` does not explain, or if that explains one
that no longer survives, or if less than 95 % of a module's mutants are killed. To a module
so small that two make more than 5 %, two are granted that are explained.

Run: ``make mutation``, or ``python tests/mutation --help``.
"""

from __future__ import annotations

import argparse
import hashlib
import pickle
import re
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import campaign
from campaign import KILLED, ROOT, SURVIVED, TIMEOUT, Result
from mutants import mutants

HERE = Path(__file__).parent
BAR = 0.95
GRANTED = 2
"""Survivors that a module may have however small it is; to be explained as any other."""
HEAD = [
    "| module | mutants | killed | of them by timeout | survived | killed | of those that show |",
    "|---|---:|---:|---:|---:|---:|---:|",
]

Key = tuple[str, str, str, str, int]


def main() -> int:
    """Run the campaign; return 1 if the tests are not good enough."""
    plan = tomllib.loads((HERE / "plan.toml").read_text(encoding="utf-8"))
    leave = _leaver(plan)
    args = _arguments(list(plan["modules"]))
    explained = _explained()
    problems = []
    for module in args.modules:
        tests = {module: _tests(module, plan["modules"][module])}
        source = ROOT / "envelope" / (module.replace(".", "/") + ".py")
        memory = _memory(source)  # Of what is read here: it may be edited meanwhile.
        found = [one for one in mutants(module, source) if re.search(args.grep, one.place)]
        known = _recall(memory) if args.again else []
        made = {mutant.key for mutant in found}
        killed = {
            one.mutant.key: one
            for one in known
            if one.outcome != SURVIVED and one.mutant.key in made
        }
        start = time.monotonic()
        fresh = [mutant for mutant in found if mutant.key not in killed]
        results = [*killed.values(), *campaign.run(fresh, tests, leave)]
        row = _row(module, results, explained)
        print(f"{row}\n{len(fresh)} mutants in {time.monotonic() - start:.0f} s")
        if not args.grep:
            _remember(memory, results)
            if args.write:
                _write(args.write, row)
        said = _problems(module, results, explained)
        print("\n".join(said), flush=True)
        problems += said
    return 1 if problems else 0


def _arguments(modules: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="such as wire; default: all")
    parser.add_argument("--write", type=Path, help="the document whose table is renewed")
    parser.add_argument(
        "--again",
        action="store_true",
        help="only what survived last time; what was killed stays so while its module is the same",
    )
    parser.add_argument(
        "--grep", default="", help="only functions whose qualified name has this expression"
    )
    args = parser.parse_args()
    args.modules = args.modules or modules
    unknown = set(args.modules) - set(modules)
    if unknown:
        parser.error(f"not in plan.toml: {', '.join(sorted(unknown))}")
    return args


def _leaver(plan: dict[str, Any]) -> Callable[[str], bool]:
    names = plan["without"]["names"]
    return lambda nodeid: any(part in nodeid for part in names)


def _tests(module: str, more: Sequence[str]) -> list[str]:
    """Return the files of tests that must notice a change of the module."""
    folder = ROOT / "tests/unit"
    own = sorted(folder.glob(f"test_{module.replace('.', '_')}*.py"))
    own = own or sorted(folder.glob(f"test_{module.rpartition('.')[2]}*.py"))
    return list(dict.fromkeys([*(str(path.relative_to(ROOT)) for path in own), *more]))


def _explained() -> dict[Key, str]:
    """Return why each known survivor cannot be seen."""
    path = HERE / "survivors.toml"
    explained = {}
    for one in tomllib.loads(path.read_text(encoding="utf-8")).get("survivor", []):
        key = one["module"], one["place"], one["before"], one["after"], one.get("nth", 1)
        explained[key] = one["why"]
    return explained


def _row(module: str, results: Sequence[Result], explained: dict[Key, str]) -> str:
    """Return the module's row: what was killed of all, and of what is not explained away."""
    count = Counter(result.outcome for result in results)
    hidden = sum(one.outcome == SURVIVED and one.mutant.key in explained for one in results)
    killed = count[KILLED] + count[TIMEOUT]
    return (
        f"| `{module}` | {len(results)} | {killed} | {count[TIMEOUT]} | {count[SURVIVED]} "
        f"| {_share(killed, len(results))} | {_share(killed, len(results) - hidden)} |"
    )


def _share(killed: int, of: int) -> str:
    """Return a share, rounded down: 100 % are all."""
    return f"{(killed * 1000 // of if of else 1000) / 10:.1f}%"


def _recall(path: Path) -> list[Result]:
    """Return the results of the last run over this very source; none if there was none."""
    return pickle.loads(path.read_bytes()) if path.exists() else []


def _remember(path: Path, results: Sequence[Result]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(pickle.dumps(list(results)))


def _memory(source: Path) -> Path:
    return ROOT / ".mutation" / hashlib.sha256(source.read_bytes()).hexdigest()


def _write(path: Path, row: str) -> None:
    """Renew the row of a module in the document's table."""
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition("<!-- mutation:begin -->\n")
    old, end, after = rest.partition("<!-- mutation:end -->")
    if not end:
        raise SystemExit(f"{path} has no block named mutation")
    rows = {line.split("|")[1]: line for line in [*HEAD, *old.splitlines(), row]}
    block = "".join(f"{line}\n" for line in rows.values())
    path.write_text(before + begin + block + end + after, encoding="utf-8")


def _problems(module: str, results: Sequence[Result], explained: dict[Key, str]) -> list[str]:
    """Return in words what is not good enough."""
    problems = []
    survivors = sum(result.outcome == SURVIVED for result in results)
    if survivors > max(GRANTED, round((1 - BAR) * len(results), 6)):
        problems.append(f"# {module}: less than {BAR:.0%} of {len(results)} killed")
    for result in results:
        key, survived = result.mutant.key, result.outcome == SURVIVED
        if survived and key not in explained:
            problems.append("# survives, and is not explained:\n" + _entry(key))
        elif not survived and key in explained:
            problems.append("# is explained, and killed:\n" + _entry(key))
    return problems


def _entry(key: Key) -> str:
    """Return a survivor as ``survivors.toml`` writes it."""
    module, place, before, after, nth = key
    lines = ["[[survivor]]", f'module = "{module}"', f'place = "{place}"']
    lines += [f"before = {_quoted(before)}", f"after = {_quoted(after)}"]
    if nth > 1:
        lines.append(f"nth = {nth}")
    return "\n".join([*lines, 'why = ""', ""])


def _quoted(text: str) -> str:
    return f"'''{text}'''" if "'" in text else f"'{text}'"


if __name__ == "__main__":
    sys.exit(main())
