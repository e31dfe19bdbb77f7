"""What docs/guides/jupyter.md shows is what a relay takes."""

from __future__ import annotations

import json
import re
import textwrap

import pytest
from relays import ROOT

from envelope.zeromq import relayfile


def blocks(first):
    """Return the indented blocks of the guide whose first line begins so."""
    text = (ROOT / "docs" / "guides" / "jupyter.md").read_text()
    found = re.findall(r"(?:^ {8}.*\n|^\n(?= {8}))+", text, re.MULTILINE)
    plain = [textwrap.dedent(block).strip() for block in found]
    return [block for block in plain if block.startswith(first)]


@pytest.mark.parametrize("side", ["near", "far"])
def test_the_relay_files_of_the_guide_can_be_read(tmp_path, side):
    (shown,) = blocks(f'node = "{side}.node"')
    file = tmp_path / "relay.toml"
    file.write_text(shown)
    flows = relayfile.read(file).flows
    assert {"shell", "iopub"} <= {flow.name for flow in flows}
    assert len(flows) == shown.count("[[flow]]")


def test_the_flows_of_the_two_sides_are_counterparts():
    ends = {}
    for side in ("near", "far"):
        (shown,) = blocks(f'node = "{side}.node"')
        ends[side] = set(re.findall(r'context = "(lab\.(?:shell|iopub))"', shown))
        ends[side, "ports"] = set(re.findall(r"tcp://[0-9.]+:(600[12])", shown))
    assert ends["near"] == ends["far"] == {"lab.shell", "lab.iopub"}
    assert ends["near", "ports"] == ends["far", "ports"] == {"6001", "6002"}


def test_the_connection_file_of_the_guide_names_every_channel():
    (shown,) = blocks("{")
    about = json.loads(shown)
    channels = ("shell", "iopub", "stdin", "control", "hb")
    assert [about[f"{name}_port"] for name in channels] == [1, 2, 3, 4, 5]
    assert about["transport"] == "ipc"
