"""The limits that a receiver sets, at their edges (SPEC 11)."""

from __future__ import annotations

import dataclasses
import math

import pytest

from envelope import Policy, UsageError, policy


@pytest.mark.audit("P3")
def test_the_defaults_are_those_of_spec_11_2():
    assert dataclasses.asdict(Policy()) == {
        "require": "signed",
        "addressed": False,
        "accept_own": False,
        "max_age": 30.0,
        "max_future": 2.0,
        "max_size": 16 * 1024 * 1024,
        "window": 4096,
        "max_streams": 64,
    }


@pytest.mark.audit("P3")
def test_the_fixed_limits_are_those_of_spec_11_1():
    assert policy.MAX_BOUND_FRAMES == 64
    assert policy.MAX_BUNDLE == 4096
    assert policy.EPOCH_SECONDS == 600
    assert policy.EPOCH_ENVELOPES == 1_048_576


@pytest.mark.parametrize(
    ("name", "low", "high", "text"),
    [
        ("max_age", 0.001, 86_400, "max_age is a number of seconds from 0.001 to 86400"),
        ("max_future", 0, 60, "max_future is a number of seconds from 0 to 60"),
    ],
)
def test_seconds_have_bounds(name, low, high, text):
    for value in (low, float(low), high, float(high), 1, 1.5):
        assert getattr(Policy(**{name: value}), name) == value
    below = math.nextafter(low, -1)
    above = math.nextafter(high, math.inf)
    for value in (below, above, -1, math.nan, math.inf, -math.inf, "30", None, True, 30j):
        with pytest.raises(UsageError) as raised:
            Policy(**{name: value})
        assert str(raised.value) == text


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("max_size", 144, 2**31), ("window", 64, 65_536), ("max_streams", 1, 1024)],
)
def test_counts_have_bounds(name, low, high):
    for value in (low, low + 1, high - 1, high):
        assert getattr(Policy(**{name: value}), name) == value
    for value in (low - 1, high + 1, 0, -1, float(low), str(low), None, True):
        with pytest.raises(UsageError) as raised:
            Policy(**{name: value})
        assert str(raised.value) == f"{name} is an integer from {low} to {high}"


@pytest.mark.audit("C8")
def test_nothing_weaker_than_signed_can_be_asked_for():
    assert Policy(require="signed").require == "signed"
    assert Policy(require="sealed").require == "sealed"
    for value in ("none", "", "Signed", None, False, b"signed", ["signed"]):
        with pytest.raises(UsageError, match="nothing weaker exists"):
            Policy(require=value)


@pytest.mark.parametrize("name", ["addressed", "accept_own"])
def test_switches_are_true_or_false(name):
    assert getattr(Policy(**{name: True}), name) is True
    for value in (1, 0, None, "yes"):
        with pytest.raises(UsageError) as raised:
            Policy(**{name: value})
        assert str(raised.value) == f"{name} is True or False"


def test_a_policy_is_a_value():
    assert Policy() == Policy()
    assert hash(Policy()) == hash(Policy(window=4096))
    assert Policy(window=64) != Policy()
    assert not hasattr(Policy(), "__dict__")
    with pytest.raises(dataclasses.FrozenInstanceError):
        Policy().require = "sealed"
    with pytest.raises(TypeError):
        Policy("sealed")
    with pytest.raises(UsageError):
        dataclasses.replace(Policy(), window=63)
