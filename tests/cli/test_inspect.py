"""inspect: every field of an envelope, without any key, and nothing believed."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess

import pytest
from crafting import craft
from rich.console import Console
from support import START, World, flip

from envelope import message_id
from envelope.cli import rendering, streams
from envelope.cli.fields import describe

REQUEST = bytes(range(32))


@pytest.fixture
def world():
    return World()


@pytest.fixture
def kinds(world):
    """One envelope of each shape."""
    everyone = world.sealer()
    addressed = world.sealer(to=[world.bob.public, world.carol.public], sealed=False)
    sealed = world.sealer(to=[world.bob.public, world.carol.public])
    return {
        "signed": everyone.seal(b"payload"),
        "empty": everyone.seal(b""),
        "reply": everyone.seal(b"payload", in_reply_to=REQUEST),
        "bundle": everyone.seal_bundle([b"one", b"two"]),
        "addressed": addressed.seal(b"payload"),
        "sealed": sealed.seal(b"payload"),
        "sealed empty": sealed.seal(b""),
        "sealed reply": sealed.seal(b"payload", in_reply_to=REQUEST),
    }


SHAPES = [
    "signed",
    "empty",
    "reply",
    "bundle",
    "addressed",
    "sealed",
    "sealed empty",
    "sealed reply",
]


def as_json(outcome):
    return json.loads(outcome.out)


def named(seen, name):
    return [row for row in seen["fields"] + seen["key_block"] if row["name"] == name]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_fields_cover_every_byte_once(run, kinds, shape):
    data = kinds[shape]
    seen = as_json(run("inspect", "--json", stdin=data))
    at = 0
    for row in sorted(seen["fields"] + seen["key_block"], key=lambda r: (r["offset"], r["size"])):
        assert row["offset"] == at
        at += row["size"]
    assert at == seen["size"] == len(data)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_values_are_the_bytes_at_their_offsets(run, kinds, shape):
    data = kinds[shape]
    seen = as_json(run("inspect", "--json", stdin=data))
    for row in seen["fields"] + seen["key_block"]:
        raw = data[row["offset"] : row["offset"] + row["size"]]
        match row["value"]:
            case None:
                assert row["name"] in {"payload", "ciphertext"}
            case int(number):
                assert number == int.from_bytes(raw)
            case "ENV":
                assert raw == b"ENV"
            case str(digits):
                assert bytes.fromhex(digits) == raw


@pytest.mark.parametrize(
    ("shape", "payload", "overhead"),
    [
        ("signed", 7, 144),
        ("empty", 0, 144),
        ("reply", 7, 176),
        ("addressed", 7, 176),
        ("sealed", 7, 352),
        ("sealed empty", 0, 352),
        ("sealed reply", 7, 384),
    ],
)
def test_sizes_and_overhead_are_those_of_the_specification(run, kinds, shape, payload, overhead):
    seen = as_json(run("inspect", "--json", stdin=kinds[shape]))
    assert seen["payload_size"] == payload
    assert seen["overhead"] == overhead
    assert seen["body_size"] == payload + (16 if shape.startswith("sealed") else 0)
    assert seen["message_id"] == message_id(kinds[shape]).hex()
    assert seen["verified"] is False


def test_the_key_block_names_its_recipients(run, kinds, world):
    expected = sorted(who.key_id.hex() for who in (world.bob, world.carol))
    for shape, names in (
        ("addressed", ["recipient"] * 2),
        ("sealed", ["ephemeral", "commitment", *["recipient", "wrapped_key"] * 2]),
    ):
        seen = as_json(run("inspect", "--json", stdin=kinds[shape]))
        assert [row["name"] for row in seen["key_block"]] == names
        assert [row["value"] for row in named(seen, "recipient")] == expected
    assert as_json(run("inspect", "--json", stdin=kinds["signed"]))["key_block"] == []


@pytest.mark.parametrize(
    ("shape", "name", "meaning"),
    [
        ("signed", "kind", "signed, not encrypted"),
        ("sealed", "kind", "sealed: signed and encrypted"),
        ("signed", "flags", "none"),
        ("bundle", "flags", "a bundle of payloads"),
        ("reply", "flags", "a reply"),
        ("signed", "recipients", "none: for everyone in the context"),
        ("addressed", "recipients", "whom it is addressed to"),
        ("sealed", "recipients", "who can read it"),
        ("signed", "sender", "key id of the claimed sender"),
        ("signed", "sent_at", "2027-01-15 08:00:00.000000 UTC"),
        ("signed", "stream", "begun 2027-01-15 08:00:00.000000 UTC"),
        ("signed", "signature", "Ed25519, not checked"),
    ],
)
def test_a_meaning_is_given_in_words(run, kinds, shape, name, meaning):
    (row,) = named(as_json(run("inspect", "--json", stdin=kinds[shape])), name)
    assert row["meaning"] == meaning


def test_both_flags_are_named(run, world):
    data = world.sealer().seal_bundle([b"one"], in_reply_to=REQUEST)
    (row,) = named(as_json(run("inspect", "--json", stdin=data)), "flags")
    assert row["meaning"] == "a bundle of payloads and a reply"


def test_a_stream_id_that_holds_no_time_is_no_mistake(run, world):
    data = craft(world.alice, b"payload", stream=b"\xff" * 16)
    (row,) = named(as_json(run("inspect", "--json", stdin=data)), "stream")
    assert row["meaning"] == "begun at no date"


def test_plain_lines_name_the_same_fields_as_json(run, kinds):
    seen = as_json(run("inspect", "--json", stdin=kinds["sealed reply"]))
    shown = run("inspect", stdin=kinds["sealed reply"]).text.splitlines()
    assert shown[0] == "Nothing was verified: all of this is what the envelope claims."
    assert shown[1] == f"{seen['size']} bytes: payload 7, overhead 384"
    assert shown[2] == f"message id {seen['message_id']}"
    rows = {int(line.split()[0]): line for line in shown[4:]}
    for row in seen["fields"] + seen["key_block"]:
        line = rows[row["offset"]]
        assert line.split()[1:3] == [str(row["size"]), row["name"]]
        assert line.endswith(row["meaning"])
        assert str(row["value"] or "") in line


@pytest.mark.audit("E3")
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_no_payload_is_shown(run, world, options):
    data = world.sealer().seal(b"<payload>\x1b[2J")
    shown = run("inspect", *options, stdin=data)
    assert b"payload>" not in shown.out
    assert b"<payload>".hex().encode() not in shown.out
    assert b"\x1b" not in shown.out


def test_an_envelope_comes_from_a_file_or_stdin(run, desk, kinds):
    (desk / "one.env").write_bytes(kinds["signed"])
    expected = run("inspect", stdin=kinds["signed"]).out
    assert run("inspect", "one.env").out == expected
    assert run("inspect", "-", stdin=kinds["signed"]).out == expected


def test_what_is_tampered_with_is_shown_all_the_same(run, kinds):
    assert run("inspect", stdin=flip(kinds["signed"], -1)).status == 0


@pytest.mark.audit("P1")
@pytest.mark.parametrize(
    ("spoil", "code", "reason"),
    [
        (lambda _: b"", "malformed", "shorter than the shortest envelope"),
        (lambda _: b"X" * 200, "malformed", "does not begin with ENV"),
        (lambda data: data[:200], "malformed", "shorter than its header says"),
        (lambda data: flip(data, 5, 0x80), "malformed", "reserved flag bits"),
        (lambda data: flip(data, 3, 3), "version", "version 2"),
        (lambda data: data + bytes(16 * 2**20), "too_large", "larger than 16777216 bytes"),
    ],
)
def test_what_is_no_envelope_is_refused_with_the_reason(run, kinds, spoil, code, reason):
    refused = run("inspect", stdin=spoil(kinds["sealed"]))
    assert refused.status == 10
    assert refused.err.startswith(f"envelope refused, {code}: ")
    assert reason in refused.err


@pytest.mark.parametrize("name", ["nowhere.env", "."])
def test_a_file_that_cannot_be_read_is_the_environments_failure(run, name):
    refused = run("inspect", name)
    assert refused.status == 1
    assert refused.err.startswith(f"envelope: {name}: ")


# --- On a terminal ----------------------------------------------------------------------


def test_a_table_holds_every_field(kinds):
    envelope = describe(kinds["sealed reply"])
    console = Console(file=io.StringIO(), width=300, force_terminal=True)
    shown = rendering.to_table(envelope, console)
    assert "Nothing was verified" in shown
    for row in envelope.rows:
        assert row.meaning in shown
        assert str(row.value or "") in shown
    assert "\x1b[" in shown


def test_a_narrow_table_cuts_nothing(kinds):
    envelope = describe(kinds["sealed"])
    console = Console(file=io.StringIO(), width=80, force_terminal=True, no_color=True)
    assert "\N{HORIZONTAL ELLIPSIS}" not in rendering.to_table(envelope, console)


def test_only_a_terminal_gets_the_table(run, kinds, monkeypatch):
    assert "\N{BOX DRAWINGS LIGHT VERTICAL}" not in run("inspect", stdin=kinds["signed"]).text
    monkeypatch.setattr(streams, "is_terminal", lambda: True)
    assert "\N{BOX DRAWINGS LIGHT VERTICAL}" in run("inspect", stdin=kinds["signed"]).text


def test_a_person_at_a_terminal_gets_a_table(shell, desk, kinds):
    (desk / "one.env").write_bytes(kinds["signed"])
    master, slave = pty.openpty()
    process = shell.start(
        "envelope inspect one.env", stdin=subprocess.DEVNULL, stdout=slave, stderr=subprocess.PIPE
    )
    os.close(slave)
    screen = b""
    while True:
        try:
            piece = os.read(master, 4096)
        except OSError:  # EIO: the last of the other side has gone.
            break
        if not piece:
            break
        screen += piece
    os.close(master)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    assert "Nothing was verified" in screen.decode()
    assert "\N{BOX DRAWINGS LIGHT VERTICAL}" in screen.decode()
    assert str(START) in screen.decode()
