"""Somebody is on the line between the relays, and nothing can be run or shown again.

Each attack is first made on plain wires, where it works: Jupyter's HMAC has one key for
all, and what a kernel remembers of its messages ends with its process.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from jupyter_client.session import Session
from relays import wait_until

TIMEOUT = 30
KEY = b"of every connection file in this test"
ALIVE = {"replayed", "stale"}
"""What a relay says whose memory is whole; stale if this machine is slow."""
CRASHED = {*ALIVE, "before_start", "too_old", "policy"}
"""policy: the other relay challenged what it could not place (SPEC 16.5)."""

pytestmark = [pytest.mark.timeout(120), pytest.mark.audit("A3")]


@dataclass
class Record:
    """What went over the line of each channel until now."""

    inward: dict
    outward: dict

    @classmethod
    def of(cls, lab):
        wires = lab.wires.items()
        return cls(
            {name: list(wire.inward) for name, wire in wires},
            {name: list(wire.outward) for name, wire in wires},
        )


def code(lab):
    return f"open({str(lab.folder / 'done')!r}, 'a').write('once '); print('secret', end='')"


def done(lab):
    return (lab.folder / "done").read_text()


def perform(lab):
    """Let code run that shows each time that it runs; return what was on the line."""
    client = lab.client()
    lab.run(client, code(lab))
    assert done(lab) == "once "
    exercise(lab, client)
    return Record.of(lab)


def exercise(lab, client):
    """Use every channel but hb: what is answered was sent after all that was before it."""
    lab.run(client, "input()", allow_stdin=True, stdin_hook=lambda _: client.input(""))
    client.control_channel.send(client.session.msg("kernel_info_request"))
    assert client.get_control_msg(timeout=TIMEOUT)["msg_type"] == "kernel_info_reply"


def wait_for_a_beat(lab):
    beats = len(lab.wires["hb"].outward)
    wait_until(lambda: len(lab.wires["hb"].outward) > beats)


# What somebody on the line can do; each returns where, and how many messages.


def send_again(lab, record):
    return "shell", lab.wires["shell"].to_kernel(record.inward["shell"])


def send_to_another_channel(lab, record):
    return "control", lab.wires["control"].to_kernel(record.inward["shell"])


def write_with_the_key(lab, record):
    """Whoever has a connection file has the key of the HMAC."""
    session = Session(key=KEY)
    request = {"code": code(lab), "silent": False, "allow_stdin": False}
    frames = session.serialize(session.msg("execute_request", request))
    return "shell", lab.wires["shell"].to_kernel([[b"somebody", *frames], frames])


@pytest.mark.parametrize("attack", [send_again, send_to_another_channel, write_with_the_key])
def test_without_relays_code_runs_that_nobody_sent(lab, attack):
    plain = lab(is_sealed=False)
    record = perform(plain)
    plain.kernel.restart()
    plain.client()
    attack(plain, record)
    wait_until(lambda: done(plain).startswith("once once "))


@pytest.mark.parametrize(
    ("attack", "codes"),
    [
        (send_again, ALIVE),
        (send_to_another_channel, {"bad_signature", "stale"}),
        (write_with_the_key, {"malformed"}),
    ],
)
def test_through_relays_it_does_not(lab, attack, codes):
    sealed = lab(is_sealed=True)
    record = perform(sealed)
    sealed.kernel.restart()
    client = sealed.client()
    channel, count = attack(sealed, record)
    exercise(sealed, client)
    assert done(sealed) == "once "
    refused = sealed.far.end()[channel]["refused"]
    assert sum(refused.values()) == count > 0
    assert set(refused) <= codes


def end(relay):
    relay.end()
    relay.begin()


def kill(relay):
    relay.kill()
    relay.begin()


RESTARTS = {
    "nothing": ([], None),
    "kernel": (["kernel"], None),
    "relays": (["near", "far"], end),
    "killed relays": (["near", "far"], kill),
    "all": (["kernel", "near", "far"], kill),
}


@pytest.mark.parametrize("restart", RESTARTS)
def test_a_whole_record_is_refused_after_any_restart(lab, restart):
    sealed = lab(is_sealed=True)
    record = perform(sealed)
    what, how = RESTARTS[restart]
    for one in what:
        if one == "kernel":
            sealed.kernel.restart()
        else:
            how(getattr(sealed, one))
    client = sealed.client()
    exercise(sealed, client)  # So that somebody on the line knows where the relay is now.
    sent = {
        name: (
            wire.to_kernel(record.inward[name]),
            wire.to_client([*record.outward[name], *record.inward[name]]),
        )
        for name, wire in sealed.wires.items()
    }
    seen = sealed.run(client, "print('after', end='')")
    exercise(sealed, client)
    wait_for_a_beat(sealed)
    assert done(sealed) == "once "
    said = [one["content"].get("text") for one in seen if one["msg_type"] == "stream"]
    assert said == ["after"]
    far, near = sealed.far.end(), sealed.near.end()
    codes = CRASHED if how is kill else ALIVE
    for name in ("shell", "stdin", "control", "hb"):
        assert sum(far[name]["refused"].values()) >= sent[name][0] > 0
        assert set(far[name]["refused"]) <= codes
    for name in ("shell", "iopub", "control"):
        assert sum(near[name]["refused"].values()) >= sent[name][1] > 0
        # What the client itself sent comes back to it as well.
        assert set(near[name]["refused"]) <= {*codes, "reflected", "unknown_sender"}


def test_without_relays_a_new_client_is_shown_old_results(lab):
    plain = lab(is_sealed=False)
    record = perform(plain)
    client = plain.client()
    plain.wires["iopub"].to_client(record.outward["iopub"])
    while client.get_iopub_msg(timeout=TIMEOUT)["content"].get("text") != "secret":
        pass


@pytest.mark.parametrize("is_sealed", [False, True], ids=["plain", "sealed"])
def test_code_and_results_are_on_the_line_in_clear_only_without_relays(lab, is_sealed):
    one = lab(is_sealed=is_sealed)
    record = perform(one)
    for channel, secret in (("shell", b"print('secret'"), ("iopub", b'"secret"')):
        seen = (*record.inward[channel], *record.outward[channel])
        assert any(secret in b"".join(frames) for frames in seen) is not is_sealed
