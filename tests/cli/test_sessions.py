"""The main stories, as a person types them. Every line is a real process."""

from __future__ import annotations

import base64
import json
import os
import stat

import pytest
from support import identity

from envelope import Sealer

PAYLOAD = b"buy 7\n\x00\xff\r\nsell 3"


def append_peer(path, name, key):
    with path.open("a", encoding="utf-8") as file:
        file.write(f'[[peer]]\nname = "{name}"\nkey = "{key}"\ncontexts = ["orders"]\n')


def test_two_people_meet_and_one_writes_to_the_other(shell, desk):
    alice = shell("envelope keygen anna.key")
    assert alice.text.startswith("envpub1")
    assert alice.err == ""
    assert shell("envelope public anna.key").out == alice.out
    bert = shell("envelope keygen bert.key")
    append_peer(desk / "believed.toml", "anna", alice.text.strip())

    sent = shell(
        f"envelope seal --identity anna.key --context orders --to {bert.text.strip()}", PAYLOAD
    )
    assert PAYLOAD not in sent.out
    opened = shell(
        "envelope open --identity bert.key --trust believed.toml --context orders", sent.out
    )
    assert opened.out == PAYLOAD
    origin, memory = opened.err.splitlines()
    assert origin.startswith("sealed by anna (")
    assert origin.endswith(" s ago")
    assert "this run only" in memory


def test_two_nodes_need_no_other_files(shell, desk):
    left = shell("envelope keygen --node left.node").text.strip()
    right = shell("envelope keygen --node right.node").text.strip()
    assert shell("envelope public left.node").text.strip() == left
    append_peer(desk / "left.node" / "peers.toml", "right", right)
    append_peer(desk / "right.node" / "peers.toml", "left", left)

    sent = shell("envelope seal --node left.node --context orders --to right", PAYLOAD)
    opened = shell("envelope open --node right.node --context orders --require sealed", sent.out)
    assert opened.out == PAYLOAD
    assert opened.err.startswith("sealed by left (")


def test_a_topic_on_the_wrong_envelope_is_noticed(shell):
    sent = shell("envelope seal --identity alice.key --context orders --bound tea", PAYLOAD)
    wrong = shell("envelope open --trust peers.toml --context orders --bound beer", sent.out)
    assert wrong.status == 14
    what, then = wrong.err.splitlines()
    assert what.startswith("envelope refused, bad_signature: ")
    assert identity("alice").key_id.hex() in then
    assert "--bound" in then
    right = shell("envelope open --trust peers.toml --context orders --bound tea", sent.out)
    assert right.out == PAYLOAD


def test_a_stranger_is_refused_and_can_be_looked_at(shell):
    sent = shell("envelope seal --identity mallory.key --context orders", PAYLOAD)
    refused = shell("envelope open --trust peers.toml --context orders", sent.out)
    assert refused.status == 12
    assert "unknown_sender" in refused.err
    seen = json.loads(shell("envelope inspect --json", sent.out).out)
    sender = next(field for field in seen["fields"] if field["name"] == "sender")
    assert sender["value"] == identity("mallory").key_id.hex()
    assert sender["value"] in refused.err


def test_another_run_opens_the_same_envelope_and_says_so(shell):
    sent = shell("envelope seal --identity alice.key --context orders", PAYLOAD)
    for _ in range(2):
        again = shell("envelope open --trust peers.toml --context orders", sent.out)
        assert again.out == PAYLOAD
        assert "another run opens the same envelope again" in again.err


def test_a_bundle_comes_out_as_lines_of_base64(shell):
    payloads = [b"one", b"", b"\x00\n\xff"]
    sent = Sealer(identity("alice"), context="orders").seal_bundle(payloads)
    refused = shell("envelope open --trust peers.toml --context orders", sent)
    assert refused.status == 11
    assert "--bundle" in refused.err
    opened = shell("envelope open --trust peers.toml --context orders --bundle", sent)
    assert [base64.b64decode(line) for line in opened.out.split(b"\n")[:-1]] == payloads


@pytest.mark.audit("K7")
def test_a_new_key_is_private_and_an_old_one_is_not_overwritten(shell, desk):
    old = os.umask(0)
    try:
        made = shell("envelope keygen new.key")
    finally:
        os.umask(old)
    assert made.status == 0
    assert stat.S_IMODE((desk / "new.key").stat().st_mode) == 0o600
    before = (desk / "new.key").read_bytes()
    again = shell("envelope keygen new.key")
    assert again.status == 2
    assert "exists already" in again.err
    assert (desk / "new.key").read_bytes() == before


def test_a_key_that_others_can_read_is_refused_with_the_remedy(shell, desk):
    (desk / "alice.key").chmod(0o644)
    refused = shell("envelope seal --identity alice.key --context orders", PAYLOAD)
    assert refused.status == 2
    assert "chmod 600 alice.key" in refused.err


def test_a_locked_key_signs_with_its_passphrase_from_a_file(shell):
    sent = shell(
        "envelope seal --identity locked.key --passphrase-file passphrase --context orders", PAYLOAD
    )
    opened = shell("envelope open --trust peers.toml --context orders", sent.out)
    assert opened.out == PAYLOAD


def test_a_locked_key_without_a_terminal_says_what_to_give(shell):
    refused = shell(
        "envelope seal --identity locked.key --context orders", PAYLOAD, start_new_session=True
    )
    assert refused.status == 2
    assert "--passphrase-file" in refused.err


def test_the_help_shows_every_exit_status(shell):
    shown = shell("envelope --help").text
    for line in (
        "0  done",
        "1  a file or stream cannot be read or written",
        "2  wrong options, key file or trust file",
        "10  refused: too_large, malformed, version",
        "11  refused: policy",
        "12  refused: unknown_sender, reflected, not_trusted, not_addressed, unknown_session",
        "13  refused: stale, future, before_start, too_old, replayed",
        "14  refused: bad_signature, unseal",
        "15  refused: store_unavailable",
        "130  interrupted",
        "141  the reader of the output went away",
    ):
        assert f" {line}\n" in shown


def test_the_help_of_open_says_what_its_replay_memory_is(shell):
    shown = " ".join(shell("envelope open --help").text.split())
    assert "With --node the replay memory is the node's: an envelope opens once." in shown
    assert "it lasts for this run only" in shown


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra_one_line_says_what_to_install(shell, missing):
    refused = shell.script(
        f"import sys\nsys.modules[{missing!r}] = None\n"
        "from envelope.cli import main\nsys.argv = ['envelope', '--help']\nmain()\n"
    )
    assert refused.status == 2
    assert refused.err.splitlines() == [
        "envelope: the command line needs its extra: pip install 'signed-envelope[cli]'"
    ]
