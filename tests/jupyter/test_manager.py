"""examples/jupyter: a kernel on another machine, started and ended by Jupyter itself.

The far end is in a session of its own, as behind ssh: no signal reaches it, only the end
of its standard input does.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager
from relays import ROOT, wait_until

from envelope import Node
from envelope.errors import StoreFileError

TIMEOUT = 30
EXAMPLE = ROOT / "examples" / "jupyter"
DETACHED = """
import os, sys
os.setsid()
open("far.pid", "w").write(str(os.getpid()))
os.execv(sys.argv[1], sys.argv[1:])
"""

pytestmark = pytest.mark.timeout(120)


def argv_here(argv, folder):
    """Return the argv of the example with the places of this test; without ssh."""
    places = {
        "python3": sys.executable,
        "tcp://198.51.100.7:600{n}": f"ipc://{folder}/line-{{n}}",
        "tcp://0.0.0.0:600{n}": f"ipc://{folder}/far-{{n}}",
        "/opt/lab/sealed_kernel.py": str(EXAMPLE / "sealed_kernel.py"),
    }
    here = [places.get(one, one.replace("/opt/lab", str(folder))) for one in argv]
    at = here.index("ssh")
    return [*here[:at], sys.executable, "-c", DETACHED, *here[at + 2 :]]


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Notebook:
    """What a notebook server does, and somebody on the line."""

    def __init__(self, folder, make_nodes, make_wires, environment):
        self.folder = folder
        make_nodes(folder, "jupyter.*")
        self.wires = make_wires(folder / "line", folder / "far")
        spec = json.loads((EXAMPLE / "kernel.json").read_text())
        spec["argv"] = argv_here(spec["argv"], folder)
        kernels = folder / "kernels"
        (kernels / "sealed").mkdir(parents=True)
        (kernels / "sealed" / "kernel.json").write_text(json.dumps(spec))
        self.manager = KernelManager(
            kernel_name="sealed",
            kernel_spec_manager=KernelSpecManager(
                kernel_dirs=[str(kernels)], ensure_native_kernel=False
            ),
            connection_file=str(folder / "connection.json"),
        )
        (folder / "t").mkdir()
        self._log = (folder / "log").open("wb")
        self.manager.start_kernel(
            env={**environment(folder), "PYTHONPATH": str(ROOT), "TMPDIR": str(folder / "t")},
            cwd=str(folder),
            stdout=self._log,
            stderr=self._log,
        )
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=TIMEOUT)

    def run(self, code, **how):
        said = []
        reply = self.client.execute_interactive(
            code, output_hook=said.append, timeout=TIMEOUT, **how
        )
        assert reply["content"]["status"] == "ok", reply["content"]
        return "".join(one["content"].get("text", "") for one in said)

    @property
    def log(self):
        return (self.folder / "log").read_text()

    def is_free(self, name):
        """Tell whether no relay has this node any more."""
        with contextlib.suppress(StoreFileError), Node.load(self.folder / f"{name}.node") as node:
            return node.replay is not None
        return False

    def end(self):
        self.client.stop_channels()
        with contextlib.suppress(RuntimeError):
            self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()
        try:
            wait_until(lambda: self.is_free("near") and self.is_free("far"))
        except AssertionError:
            # The far end is there still, and nothing else would end it.
            os.kill(int((self.folder / "far.pid").read_text()), signal.SIGTERM)
            raise
        for wire in self.wires.values():
            wire.end()
        self._log.close()


@pytest.fixture
def notebook(tmp_path, monkeypatch, make_nodes, make_wires, environment):
    for name, value in environment(tmp_path).items():
        if name.startswith("JUPYTER_"):
            monkeypatch.setenv(name, value)
    one = Notebook(tmp_path, make_nodes, make_wires, environment)
    yield one
    one.end()


def test_jupyter_starts_interrupts_restarts_and_ends_a_kernel_behind_relays(notebook):
    manager, client = notebook.manager, notebook.client
    done = notebook.folder / "done"
    assert notebook.run(f"x = 6\nopen({str(done)!r}, 'a').write('once ')\nprint(x * 7)") == "42\n"
    asked = notebook.run(
        "print(input())", allow_stdin=True, stdin_hook=lambda _: client.input("valve 3")
    )
    assert asked == "valve 3\n"

    client.execute("print('on', end='', flush=True)\nwhile True: pass")
    while client.get_iopub_msg(timeout=TIMEOUT)["content"].get("text") != "on":
        pass
    manager.interrupt_kernel()
    assert client.get_shell_msg(timeout=TIMEOUT)["content"]["ename"] == "KeyboardInterrupt"

    connection = Path(manager.connection_file).read_bytes()
    recorded = list(notebook.wires["shell"].inward)
    for now in (False, True):
        # First as a user restarts it, then as what hangs is restarted.
        manager.restart_kernel(now=now)
        client.wait_for_ready(timeout=TIMEOUT)
        assert Path(manager.connection_file).read_bytes() == connection
        assert notebook.run("print('x' in globals())") == "False\n"
        notebook.wires["shell"].to_kernel(recorded)
        notebook.run("x = 6")
        assert done.read_text() == "once "

    manager.shutdown_kernel()
    # The figures of each relay's life are in the log.
    refused = re.findall(r"^shell .* replayed (\d+)", notebook.log, re.MULTILINE)
    assert sum(map(int, refused)) >= 2 * len(recorded) > 0
    assert notebook.is_free("near")
    assert notebook.is_free("far")


def test_a_kernel_whose_notebook_server_is_killed_ends(notebook):
    pid = int(notebook.run("import os; print(os.getpid())"))
    notebook.manager.shutdown_kernel(now=True)
    wait_until(lambda: not is_running(pid))
    wait_until(lambda: notebook.is_free("far"))


def test_a_second_kernel_does_not_get_the_node_of_one_that_runs(tmp_path, monkeypatch):
    found = importlib.util.spec_from_file_location("sealed_kernel", EXAMPLE / "sealed_kernel.py")
    example = importlib.util.module_from_spec(found)
    found.loader.exec_module(example)
    monkeypatch.setattr(example, "LOCK_PATIENCE", 0)
    refused = pytest.raises(SystemExit, match="in use")
    with example.alone(tmp_path), refused, example.alone(tmp_path):
        pytest.fail("it got it")
    with example.alone(tmp_path):
        pass
