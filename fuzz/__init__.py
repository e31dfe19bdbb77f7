"""Fuzzing: one harness for each parser, and for the whole of ``Opener.open``.

Rules of this folder:

- A harness is one file in ``harnesses``. The first line of its docstring is its invariant.
- ``check(data)`` raises if the invariant does not hold, and else returns. It is a function
  of the data: keys are fixed, clocks are handed in, and nothing is left behind for the next.
- Only ``driver`` imports atheris. Everything else runs without it, and the corpora are
  replayed by ``tests/fuzz``.
"""
