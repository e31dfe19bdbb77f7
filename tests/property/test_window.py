"""The window agrees with a set of all that was ever accepted (SPEC 8.3, 8.4)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from envelope.replay.window import MAX_SIZE, MIN_SIZE, Window

LIMIT = 2**48

sizes = st.one_of(st.integers(MIN_SIZE, 300), st.integers(MIN_SIZE, MAX_SIZE))


@st.composite
def journeys(draw):
    """A window's size, what fills it, and steps from its top: near, at its edges, and far."""
    size = draw(sizes)
    edges = [0, 1, 2, 7, 8, 9, size - 9, size - 8, size - 1, size, size + 1, size + 8, 2 * size]
    step = st.one_of(
        st.integers(-20, 20),
        st.integers(-size - 10, size + 10),
        st.sampled_from(edges + [-edge for edge in edges]),
        st.integers(0, 2**45),
    )
    dense = draw(st.integers(0, 2 * size)) if size <= 300 else 0
    start = draw(st.integers(0, 2 * size))
    return size, [start] + [1] * dense, draw(st.lists(step, max_size=80))


@given(journeys())
def test_every_verdict_and_figure_is_that_of_a_set(journey):
    size, filling, steps = journey
    window = Window(size)
    accepted = set()
    top = -1
    for step in filling + steps:
        sequence = min(max(0, top + step), LIMIT - 1)
        behind = sequence + size <= top
        assert (sequence <= window.top - window.size) == behind
        if behind:
            continue
        assert window.has(sequence) == (sequence in accepted)
        if sequence not in accepted:
            assert window.add(sequence) == max(0, sequence - top - 1)
            accepted.add(sequence)
            top = max(top, sequence)
        assert window.top == top
    assert window.bits() == sum(1 << (top - one) for one in accepted if top - one < size)
    first = min(accepted)
    for asked in (0, first, first + 1, top - size + 1, top - size + 2, top, top + 1):
        lowest = max(asked, top - size + 1, 0)
        inside = sum(lowest <= one <= top for one in accepted)
        assert window.holes(asked) == max(0, top - lowest + 1) - inside
