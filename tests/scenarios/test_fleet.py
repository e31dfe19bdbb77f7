"""Keys handed to real children: spawn, fork, forkserver, pipes, variables, folders.

The attacker owns the network, has recorded all, and waits for workers to be started again.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import zmq

from envelope import Fleet
from envelope.zeromq import SecureSocket

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "guides" / "fleets.md"
NAMES = ["router", "worker-0", "worker-1"]
CONTEXT = "pool.v1"
PATIENCE_MS = 20_000

PYTHON = [sys.executable, "-W", "error"]

TELLER = """
import sys
from envelope import Member, RejectedError
how, value = sys.argv[1:]
if how == "fd":
    member = Member.from_fd(int(value))
elif how == "env":
    member = Member.from_env(value)
else:
    member = Member.load(value, "worker-0")
opener = member.opener("pool.v1")
print("ready", flush=True)
for line in sys.stdin:
    try:
        print(opener.open(bytes.fromhex(line)).payload.decode(), flush=True)
    except RejectedError as error:
        print(error.code, flush=True)
"""

WORKER = """
import sys
import zmq
from envelope import Member
from envelope.zeromq import SecureSocket
member = Member.from_fd(0)
context = zmq.Context()
tasks = SecureSocket(context.socket(zmq.PULL), opener=member.opener("pool.v1"))
results = SecureSocket(context.socket(zmq.PUSH), sealer=member.sealer("pool.v1", to=["router"]))
tasks.socket.connect(sys.argv[1] + member.name)
results.socket.connect(sys.argv[1] + "results")
results.send(tasks.recv().payload.upper())
tasks.close()
results.close()
context.term()
"""


@pytest.fixture
def fleet():
    return Fleet.generate(NAMES, contexts=[CONTEXT])


@pytest.fixture
def start():
    """Starts a process; none outlives its test."""
    children = []

    def begin(script, *arguments, **options):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
        child = subprocess.Popen(
            [*PYTHON, "-c", script, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            **options,
        )
        children.append(child)
        return child

    yield begin
    for child in children:
        child.kill()
        child.communicate()


def ask(child, data):
    """Offer one envelope to a child; return the payload or the code."""
    child.stdin.write(data.hex() + "\n")
    child.stdin.flush()
    return child.stdout.readline().strip()


def is_ready(child):
    return child.stdout.readline() == "ready\n"


@pytest.fixture
def by_pipe(fleet, start):
    """Starts worker-0 with a text of its own, through a pipe."""

    def begin():
        with fleet.pipe("worker-0") as fd:
            child = start(TELLER, "fd", fd, pass_fds=[fd])
        assert is_ready(child)
        return child

    return begin


@pytest.mark.audit("A3", "R2")
def test_a_worker_that_is_started_again_refuses_what_was_recorded(fleet, by_pipe):
    """I record a task, kill the worker that did it, and offer it to the next one."""
    task = fleet["router"].sealer(CONTEXT, to=["worker-0"]).seal(b"pay")
    first = by_pipe()
    assert ask(first, task) == "pay"
    assert ask(first, task) == "replayed"
    first.kill()
    first.wait()
    assert ask(by_pipe(), task) == "before_start"


@pytest.mark.audit("A3", "R2")
def test_a_worker_with_a_variable_begins_cold_however_often_it_is_started(fleet, start):
    """I have a supervisor restart a worker with the environment of its first start."""
    environment = {"ENVELOPE_MEMBER": fleet.hand_out("worker-0")}
    task = fleet["router"].sealer(CONTEXT, to=["worker-0"]).seal(b"pay")
    for _ in range(2):
        child = start(TELLER, "env", "ENVELOPE_MEMBER", env=environment)
        assert is_ready(child)
        assert ask(child, task) == "before_start"


@pytest.mark.audit("A3", "R2")
def test_a_worker_from_a_folder_begins_cold(fleet, start, tmp_path):
    fleet.save(tmp_path / "keys")
    task = fleet["router"].sealer(CONTEXT, to=["worker-0"]).seal(b"pay")
    child = start(TELLER, "folder", tmp_path / "keys")
    assert is_ready(child)
    assert ask(child, task) == "before_start"


@pytest.mark.audit("A7")
def test_a_worker_does_not_do_what_another_one_was_told(fleet, by_pipe):
    """I carry a task to the wrong worker."""
    task = fleet["router"].sealer(CONTEXT, to=["worker-1"]).seal(b"pay")
    assert ask(by_pipe(), task) == "not_addressed"


@pytest.mark.audit("A12")
def test_a_stranger_with_keys_of_the_same_names_is_nobody(fleet, by_pipe):
    """I make a fleet of my own, with the same names."""
    mine = Fleet.generate(NAMES, contexts=[CONTEXT])
    assert ask(by_pipe(), mine["router"].sealer(CONTEXT).seal(b"pay")) == "unknown_sender"


def test_a_pool_of_subprocesses_works_through_sockets_at_once(fleet, start, tmp_path):
    """Each worker gets its keys by standard input; no one waits for a cold start."""
    address = f"ipc://{tmp_path}/"
    router, names = fleet["router"], NAMES[1:]
    context = zmq.Context()
    tasks = {}
    try:
        results = SecureSocket(context.socket(zmq.PULL), opener=router.opener(CONTEXT))
        results.socket.rcvtimeo = PATIENCE_MS
        results.socket.bind(f"{address}results")
        for name in names:
            child = start(WORKER, address)
            child.stdin.write(fleet.hand_out(name))
            child.stdin.close()
            child.stdin = None
            sealer = router.sealer(CONTEXT, to=[name])
            tasks[name] = SecureSocket(context.socket(zmq.PUSH), sealer=sealer)
            tasks[name].socket.bind(f"{address}{name}")
            tasks[name].send(name.encode())
        messages = [results.recv() for _ in names]
    finally:
        context.destroy(linger=0)
    done = {message.sender.name: message.payload for message in messages}
    assert done == {"worker-0": b"WORKER-0", "worker-1": b"WORKER-1"}


def programs():
    """Return the whole programs of the guide by their names."""
    blocks = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    return dict(blocks)


ENVIRONMENT = {
    key: value for key, value in os.environ.items() if key != "PYTHONWARNDEFAULTENCODING"
}
ENVIRONMENT["PYTHONPATH"] = str(ROOT)
"""Programs of a guide are not held to what the library is held to."""


def run(name, folder, *arguments):
    path = folder / name
    path.write_text(programs()[name])
    return subprocess.run(
        [*PYTHON, path, *arguments],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_the_pool_of_the_guide_runs_with_each_start_method(tmp_path, method):
    done = run("pool.py", tmp_path, method)
    assert (done.stdout, done.stderr) == ("worker-0 worker-1 worker-2\n", "")
    assert done.returncode == 0


def test_the_subprocess_of_the_guide_runs(tmp_path):
    done = run("start.py", tmp_path)
    assert (done.stdout, done.stderr, done.returncode) == ("worker-0 task 7\n", "", 0)


@pytest.mark.audit("K5")
def test_a_fleet_as_an_argument_of_spawn_is_refused_with_the_remedy(tmp_path):
    path = tmp_path / "wrong.py"
    path.write_text(
        "import multiprocessing\n"
        "from envelope import Fleet\n"
        "if __name__ == '__main__':\n"
        "    fleet = Fleet.generate(['a'], contexts=['x'])\n"
        "    start = multiprocessing.get_context('spawn')\n"
        "    start.Process(target=print, args=(fleet['a'],)).start()\n"
    )
    done = subprocess.run(
        [*PYTHON, path],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert "TypeError: a Member is not pickled; pass fleet.hand_out(name) on" in done.stderr
    assert "envsec1" not in done.stderr
