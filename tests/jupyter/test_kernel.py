"""Jupyter through a pair of relays: everything works, and nothing can be run again."""

from __future__ import annotations

import itertools
import threading

import pytest
from relays import wait_until

TIMEOUT = 30


def text_of(said):
    return "".join(one["content"].get("text", "") for one in said if one["msg_type"] == "stream")


@pytest.mark.timeout(120)
class TestChannels:
    def test_all_five_channels_work(self, lab):
        sealed = lab(is_sealed=True)
        client = sealed.client()
        # shell and iopub, in order, small and large.
        assert text_of(sealed.run(client, "print(6 * 7)")) == "42\n"
        many = text_of(sealed.run(client, "for n in range(500): print(n)"))
        assert many.split() == [str(number) for number in range(500)]
        assert len(text_of(sealed.run(client, "print('x' * 2**20)"))) == 2**20 + 1
        # Binary buffers are frames of their own.
        said = sealed.run(
            client,
            "import comm\ncomm.create_comm(target_name='t').send({}, buffers=[b'\\0' * 9, b''])",
        )
        (sent,) = [one for one in said if one["msg_type"] == "comm_msg"]
        assert [bytes(one) for one in sent["buffers"]] == [b"\0" * 9, b""]
        # stdin: the kernel asks, whom it knows by the same routing id as on shell.
        asked = []

        def answer(message):
            asked.append(message["content"]["prompt"])
            client.input("valve 3")

        said = sealed.run(client, "print(input('which? '))", allow_stdin=True, stdin_hook=answer)
        assert (asked, text_of(said)) == (["which? "], "valve 3\n")
        # hb: answered by the kernel, not by a relay.
        assert client.hb_channel.is_beating()
        # control: an interrupt reaches code that runs.
        started = threading.Event()
        client.execute("import time\nprint('on')\nwhile True: time.sleep(0.01)")
        while not started.is_set():
            if client.get_iopub_msg(timeout=TIMEOUT)["content"].get("text") == "on\n":
                started.set()
        client.control_channel.send(client.session.msg("interrupt_request"))
        assert client.get_control_msg(timeout=TIMEOUT)["content"]["status"] == "ok"
        reply = client.get_shell_msg(timeout=TIMEOUT)
        assert reply["content"]["ename"] == "KeyboardInterrupt"
        # A shutdown is a message on control, too.
        client.shutdown()
        assert sealed.kernel.process.wait(timeout=TIMEOUT) == 0
        assert {name: row["refused"] for name, row in sealed.near.end().items()} == {
            name: {} for name in ("shell", "iopub", "stdin", "control", "hb")
        }

    def test_kernel_and_relays_restart(self, lab):
        sealed = lab(is_sealed=True)
        client = sealed.client()
        sealed.run(client, "x = 1")
        sealed.kernel.restart()
        client = sealed.client()
        assert text_of(sealed.run(client, "print('x' in globals())")) == "False\n"
        for relay, end in itertools.product((sealed.near, sealed.far), ("end", "kill")):
            getattr(relay, end)()
            relay.begin()
            client = sealed.client()
            assert text_of(sealed.run(client, "print('here')")) == "here\n"


@pytest.mark.audit("A3")
@pytest.mark.timeout(120)
class TestRepeating:
    """Somebody on the line recorded it all, and repeats it after a restart."""

    def perform(self, lab):
        client = lab.client()
        lab.run(client, f"open({str(lab.folder / 'done')!r}, 'a').write('once ')")
        assert self.done(lab) == "once "
        return client

    @staticmethod
    def done(lab):
        return (lab.folder / "done").read_text()

    def test_without_relays_the_code_runs_again(self, lab):
        plain = lab(is_sealed=False)
        self.perform(plain)
        plain.kernel.restart()
        plain.client()
        plain.wires["shell"].repeat()
        wait_until(lambda: self.done(plain) == "once once ")

    @pytest.mark.parametrize("restart", ["nothing", "kernel", "relay", "both"])
    def test_through_relays_it_does_not(self, lab, restart):
        sealed = lab(is_sealed=True)
        self.perform(sealed)
        if restart in ("kernel", "both"):
            sealed.kernel.restart()
        if restart in ("relay", "both"):
            sealed.far.kill()
            sealed.far.begin()
        count = len(sealed.wires["shell"].recorded)
        sealed.wires["shell"].repeat()
        # What comes after it is answered, so it was looked at before.
        client = sealed.client()
        sealed.run(client, "pass")
        assert self.done(sealed) == "once "
        refused = sealed.far.end()["shell"]["refused"]
        assert sum(refused.values()) >= count > 0
        assert set(refused) <= {"replayed", "before_start", "too_old", "stale"}
