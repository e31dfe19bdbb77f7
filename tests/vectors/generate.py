"""Write the vectors, or check that they are what would be written.

    python tests/vectors/generate.py            write tests/vectors/*.json
    python tests/vectors/generate.py --check    fail if a file differs
    python tests/vectors/generate.py --spec     write the example into docs/SPEC.md

Rules of this file: what it writes comes from the reference alone, and is a
function of the sources. One file for each outcome, named by it.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from vectors import (  # noqa: E402 (found by the line above)
    cases_accepted,
    cases_form,
    cases_place,
    cases_replay,
    cases_signature,
    cases_time,
    cases_unseal,
    derive,
    example,
    session,
)
from vectors.world import Json, key_table, layout, to_json_case  # noqa: E402 (as above)

MODULES = (
    cases_accepted,
    cases_form,
    cases_place,
    cases_time,
    cases_replay,
    cases_signature,
    cases_unseal,
)
SPEC = HERE.parents[1] / "docs" / "SPEC.md"
NOTE = (
    "Vectors of docs/SPEC.md, described in its section 15. "
    "Every key here is a test key, known to everybody: never use one."
)


def build() -> dict[str, str]:
    """Return the content of every file by its name."""
    files: dict[str, list[Json]] = {}
    for module in MODULES:
        for given in module.cases():
            files.setdefault(given.outcome, []).append(to_json_case(given))
    built = {}
    for outcome, cases in files.items():
        names = [one["name"] for one in cases]
        assert len(names) == len(set(names)), outcome
        used = {peer["key"] for one in cases for peer in one["trust"]}
        used |= {name for one in cases for name in one["receiver"]["identities"]}
        content = {"note": NOTE, "outcome": outcome, "keys": key_table(used), "cases": cases}
        built[f"{outcome}.json"] = layout(content) + "\n"
    built["derive.json"] = layout({"note": NOTE} | derive.build()) + "\n"
    built["session.json"] = layout({"note": NOTE} | session.build()) + "\n"
    return built


def main(arguments: list[str]) -> int:
    """Do what the arguments say."""
    if arguments == ["--spec"]:
        SPEC.write_text(example.put_into(SPEC.read_text(encoding="utf-8")), encoding="utf-8")
        return 0
    built = build()
    present = {path.name: path.read_text(encoding="utf-8") for path in HERE.glob("*.json")}
    if arguments == ["--check"]:
        differing = sorted(name for name in built | present if built.get(name) != present.get(name))
        for name in differing:
            sys.stderr.write(f"{name} is not what generate.py writes\n")
        return 1 if differing else 0
    if arguments:
        sys.stderr.write(__doc__ or "")
        return 2
    for name in present.keys() - built.keys():
        (HERE / name).unlink()
    for name, content in built.items():
        (HERE / name).write_text(content, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
