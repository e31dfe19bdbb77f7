"""Jupyter through a pair of relays: everything works as it does without them."""

from __future__ import annotations

import itertools

import pytest
from relays import wait_until

TIMEOUT = 30
CHANNELS = ("shell", "iopub", "stdin", "control", "hb")

pytestmark = pytest.mark.timeout(120)


def text_of(said):
    return "".join(one["content"].get("text", "") for one in said if one["msg_type"] == "stream")


@pytest.mark.parametrize("is_sealed", [False, True], ids=["plain", "sealed"])
class TestChannels:
    """On plain wires, too: so what fails through relays is due to them."""

    def test_all_five_channels_work(self, lab, is_sealed):
        one = lab(is_sealed=is_sealed)
        client = one.client()
        # shell and iopub, in order, small and large.
        assert text_of(one.run(client, "print(6 * 7)")) == "42\n"
        many = text_of(one.run(client, "for n in range(500): print(n)"))
        assert many.split() == [str(number) for number in range(500)]
        assert len(text_of(one.run(client, "print('x' * 2**20)"))) == 2**20 + 1
        # Binary buffers are frames of their own.
        said = one.run(
            client,
            "import comm\ncomm.create_comm(target_name='t').send({}, buffers=[b'\\0' * 9, b''])",
        )
        (sent,) = [message for message in said if message["msg_type"] == "comm_msg"]
        assert [bytes(buffer) for buffer in sent["buffers"]] == [b"\0" * 9, b""]
        # stdin: the kernel asks, whom it knows by the same routing id as on shell.
        asked = []

        def answer(message):
            asked.append(message["content"]["prompt"])
            client.input("valve 3")

        said = one.run(client, "print(input('which? '))", allow_stdin=True, stdin_hook=answer)
        assert (asked, text_of(said)) == (["which? "], "valve 3\n")
        # hb: answered by the kernel, not by a relay (see below).
        assert client.hb_channel.is_beating()
        # A shutdown is a message on control.
        client.shutdown()
        assert one.kernel.process.wait(timeout=TIMEOUT) == 0
        assert all(one.wires[name].outward for name in CHANNELS)
        for relay in (one.near, one.far) if is_sealed else ():
            assert {name: row["refused"] for name, row in relay.end().items()} == {
                name: {} for name in CHANNELS
            }

    def test_outputs_of_different_kinds_stay_in_order(self, lab, is_sealed):
        # Each kind has a topic of its own, and the end of the run is told on a third one.
        one = lab(is_sealed=is_sealed)
        # A write is a message; print would make two.
        said = one.run(
            one.client(), "import sys\nfor n in range(100): sys.stdout.write(str(n)); display(n)"
        )
        kinds = ("stream", "display_data")
        shown = [message["msg_type"] for message in said if message["msg_type"] in kinds]
        assert shown == list(kinds) * 100

    def test_code_that_runs_is_interrupted(self, lab, is_sealed):
        one = lab(is_sealed=is_sealed)
        client = one.client()
        for busy in ("while True: pass", "import time; time.sleep(600)"):
            client.execute(f"print('on', end='', flush=True)\n{busy}")
            while client.get_iopub_msg(timeout=TIMEOUT)["content"].get("text") != "on":
                pass
            client.control_channel.send(client.session.msg("interrupt_request"))
            assert client.get_control_msg(timeout=TIMEOUT)["content"]["status"] == "ok"
            reply = client.get_shell_msg(timeout=TIMEOUT)
            assert reply["content"]["ename"] == "KeyboardInterrupt"

    def test_the_first_subscriber_is_welcomed_with_a_message_that_has_no_topic(
        self, lab, is_sealed
    ):
        one = lab(is_sealed=is_sealed)
        client = one.connect()
        seen = [client.get_iopub_msg(timeout=TIMEOUT)]
        while seen[-1]["msg_type"] != "iopub_welcome":
            seen.append(client.get_iopub_msg(timeout=TIMEOUT))
        if is_sealed:
            # What is its first frame stands in clear where a topic does.
            assert any(frames[0] == b"<IDS|MSG>" for frames in one.wires["iopub"].outward)

    def test_two_clients_each_get_what_is_theirs(self, lab, is_sealed):
        one = lab(is_sealed=is_sealed)
        both = {"first": one.client(), "second": one.client()}
        for _, (name, client) in itertools.product(range(2), both.items()):
            said = one.run(
                client,
                "print(input())",
                allow_stdin=True,
                stdin_hook=lambda _, client=client, name=name: client.input(name),
            )
            assert text_of(said) == f"{name}\n"


def test_a_heart_beats_only_while_there_is_a_kernel(lab):
    one = lab(is_sealed=True)
    client = one.client()
    assert client.hb_channel.is_beating()
    one.kernel.kill()
    wait_until(lambda: not client.hb_channel.is_beating())
    one.kernel.begin()
    wait_until(client.hb_channel.is_beating)


def test_work_goes_on_after_a_restart_of_the_kernel_or_of_one_relay(lab):
    one = lab(is_sealed=True)
    one.run(one.client(), "x = 1")
    for relay, end in ((one.near, "kill"), (one.far, "kill"), (one.near, "end"), (one.far, "end")):
        getattr(relay, end)()
        relay.begin()
        assert text_of(one.run(one.client(), "print(x)")) == "1\n"
    one.kernel.restart()
    assert text_of(one.run(one.client(), "print('x' in globals())")) == "False\n"


def test_a_question_is_heard_though_it_is_the_first_thing_after_a_restart(lab):
    # The kernel asks by the id that it knows from shell; it must know it on stdin by then.
    one = lab(is_sealed=True)
    client = one.client()
    for relay in (one.far, one.near, one.far):
        relay.end()
        relay.begin()
        # What iopub says may come before it is subscribed to again.
        client.execute("x = input()", user_expressions={"x": "x"}, allow_stdin=True)
        client.get_stdin_msg(timeout=TIMEOUT)
        client.input("valve 3")
        reply = client.get_shell_msg(timeout=TIMEOUT)["content"]
        assert reply["user_expressions"]["x"]["data"]["text/plain"] == "'valve 3'"
