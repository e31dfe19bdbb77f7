"""The example of a worker pool runs, and its arrays survive hostile frames."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envelope.codec import decode_frames, encode_frames, encode_object
from envelope.errors import MalformedError, UsageError

FOLDER = Path(__file__).parents[2] / "examples" / "worker_pool"

_spec = importlib.util.spec_from_file_location("arrays", FOLDER / "arrays.py")
assert _spec is not None
assert _spec.loader is not None
arrays = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(arrays)


def there_and_back(array):
    return arrays.unpack(decode_frames(encode_frames(arrays.pack(array))))


def test_the_pool_computes_what_it_is_asked():
    done = subprocess.run(
        [sys.executable, str(FOLDER / "pool.py"), "--workers", "2", "--tasks", "6"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=FOLDER.parents[1],
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("6 of 6 results are right; refused: {}\n")


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype="<f4").reshape(3, 4),
        np.arange(12, dtype=">i8").reshape(3, 4).T,
        np.arange(12, dtype="u2")[::3],
        np.array(3.5),
        np.zeros((0, 4), "c16"),
        np.array([True, False]),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_an_array_comes_back_as_it_was(array):
    back = there_and_back(array)
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert np.array_equal(back, array)
    assert not back.flags.writeable


@pytest.mark.parametrize("array", [np.array([object()]), np.array(["text"]), np.zeros(2, "M8[s]")])
def test_what_is_no_number_is_not_sent(array):
    with pytest.raises(UsageError):
        arrays.pack(array)


@pytest.mark.audit("A20")
@pytest.mark.parametrize(
    "frames",
    [
        [],
        [encode_object(["<f4", [1]])],
        [encode_object(["<f4", [1]]), b"1234", b""],
        [encode_object(["<f4", [2]]), b"1234"],
        [encode_object(["<f4", [-1]]), b"1234"],
        [encode_object(["<f4", [True]]), b"1234"],
        [encode_object(["<f4", [2**40, 2**40]]), b"1234"],
        [encode_object(["<f4", [1] * 33]), b"1234"],
        [encode_object(["|O", [1]]), b"12345678"],
        [encode_object(["f4", [1]]), b"1234"],
        [encode_object(["nonsense", [1]]), b"1234"],
        [encode_object([["a", "<f4"], [1]]), b"1234"],
        [encode_object("<f4"), b"1234"],
        [b"\xc1", b"1234"],
    ],
)
def test_what_is_no_array_is_refused(frames):
    with pytest.raises(MalformedError):
        arrays.unpack(frames)


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_any_frames_are_an_array_or_refused(head, body):
    try:
        array = arrays.unpack([head, body])
    except MalformedError:
        return
    assert array.nbytes == len(body)
