"""Profiles of Hypothesis, and what every test starts from.

A test with ``@pytest.mark.audit`` is evidence: here its skip becomes a failure.
"""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

from envelope.session import channel, cipher, noise

settings.register_profile(
    "default", max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "ci", parent=settings.get_profile("default"), derandomize=True, print_blob=True
)
settings.register_profile("long", parent=settings.get_profile("default"), max_examples=2000)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "default")
)


def pytest_configure() -> None:
    """Let sessions encrypt by libsodium if asked to, though OpenSSL is there."""
    if os.environ.get("TEST_CIPHER") == "libsodium":
        for module in (channel, noise):
            one = cipher.libsodium()
            vars(module).update(encrypt=one.encrypt, decrypt=one.decrypt)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let a test fail that answers a question of SECURITY.md and was skipped.

    A test that did not run, or may fail, answers nothing.
    """
    report = yield
    if item.get_closest_marker("audit") and (report.skipped or hasattr(report, "wasxfail")):
        _fail(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Let a module that has such tests fail, if it was skipped as a whole."""
    report = yield
    if (
        report.skipped
        and isinstance(collector, pytest.Module)
        and "mark.audit(" in collector.path.read_text(encoding="utf-8")
    ):
        _fail(report)
    return report


def _fail(report: pytest.TestReport | pytest.CollectReport) -> None:
    if hasattr(report, "wasxfail"):
        why = f"expected to fail: {vars(report).pop('wasxfail')}"
    else:
        why = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    report.outcome = "failed"
    report.longrepr = f"{report.nodeid} carries an id of SECURITY.md and must run. {why}"
