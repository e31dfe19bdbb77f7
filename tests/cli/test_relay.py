"""``envelope relay`` that cannot begin says why, and exits."""

from __future__ import annotations

import pytest

FLOW = """\
[[flow]]
name = "p"
context = "flow.p"
plain = {{ type = "PULL", bind = "{plain}" }}
sealed = {{ type = "PUSH", bind = "ipc://{here}/sealed" }}
to = {to}
"""


@pytest.fixture
def write(run, tmp_path):
    assert run("keygen", "--node", str(tmp_path / "a.node")).status == 0

    def make(**changes):
        values = {"plain": f"ipc://{tmp_path}/plain", "here": tmp_path, "to": "[]"} | changes
        file = tmp_path / "relay.toml"
        file.write_text('node = "a.node"\n' + FLOW.format(**values))
        return str(file)

    return make


def test_a_file_that_is_not_there(run, tmp_path):
    outcome = run("relay", str(tmp_path / "none.toml"))
    assert outcome.status == 2
    assert "is not a file" in outcome.err


def test_a_mistake_in_the_file(run, write):
    outcome = run("relay", write(to="[]"))
    assert outcome.status == 2
    assert "whom is it sealed to" in outcome.err


def test_a_peer_that_nobody_knows(run, write):
    outcome = run("relay", write(to='["nobody"]'))
    assert outcome.status == 2
    assert "nobody" in outcome.err


def test_a_place_that_cannot_be_bound(run, write):
    outcome = run("relay", write(plain="ipc:///nowhere/at/all", to="[]\nsign_only = true"))
    assert outcome.status == 2
    assert "flow 'p': ipc:///nowhere/at/all" in outcome.err


@pytest.mark.parametrize("every", ["0", "-1", "1e9", "nan"])
def test_figures_every_moment_or_never_are_refused(run, write, every):
    outcome = run("relay", write(), "--stats", every)
    assert outcome.status == 2
    assert "--stats" in outcome.err


def test_a_node_that_is_not_there(run, write, tmp_path):
    file = write(to="[]\nsign_only = true")
    (tmp_path / "a.node").rename(tmp_path / "b.node")
    outcome = run("relay", file)
    assert outcome.status == 2
    assert "is not a node" in outcome.err
