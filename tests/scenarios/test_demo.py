"""The demonstration in whole: its processes, their ends, and what is seen of it.

Whole runs are few and short; what can be told without processes is told in
``test_demo_lies`` and ``test_demo_logs``.
"""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from envelope.demo import children, picture, run, stage
from envelope.demo.attacks import Act
from envelope.demo.channel import Channel, ParentGoneError
from envelope.demo.children import Company, DemoError
from envelope.demo.verdict import judge

SEED = 5
EVENTS = 300
PAUSE = threading.Event()
LOG = b"".join(b'{"n":%d,"_path":"%s"}\n' % (n, (b"dns", b"http")[n % 3 == 0]) for n in range(40))


# --- pipes and processes ------------------------------------------------------------------


def test_a_child_reads_commands_and_notices_that_its_parent_is_gone():
    source, write = os.pipe()
    channel = Channel(source, io.BytesIO())
    os.write(write, b'{"a":1}\ngo\nfin')
    assert channel.setting() == {"a": 1}
    assert channel.command() == "go"
    assert channel.command() is None
    os.write(write, b"ish\n")
    assert channel.command() == "finish"
    os.close(write)
    with pytest.raises(ParentGoneError):
        channel.command()
    os.close(source)


def test_a_child_whose_reports_nobody_reads_ends():
    read, sink = os.pipe()
    os.close(read)
    with os.fdopen(sink, "wb", buffering=0) as file, pytest.raises(ParentGoneError):
        Channel(0, file).tell({})


def test_a_child_that_fails_is_named_with_its_last_words():
    with Company({"nobody": "no such role"}) as company:
        company.tell(("nobody",), {})
        with pytest.raises(DemoError, match=r"nobody ended too early\n(.|\n)*KeyError"):
            company.wait(lambda: False, "nothing", until=None, watch=lambda: None)
        # What is told to it now is lost, and no error.
        company.tell(("nobody",), "go")


def test_a_child_that_does_not_end_is_killed(monkeypatch):
    monkeypatch.setattr(children, "_GRACE", 0.0)
    company = Company({"proxy": "proxy"})
    with company:
        process = company._children["proxy"]._process
        os.kill(process.pid, signal.SIGSTOP)
    assert process.returncode == -signal.SIGKILL


# --- whole runs ---------------------------------------------------------------------------


def _environment():
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "100"}


def _start(*options):
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "envelope.cli", "demo", *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment(),
        text=True,
        encoding="utf-8",
    )


def _demo(*options):
    with _start(*options) as process:
        out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def _times(out):
    """Return the column "times" of the first table, by act."""
    found = {act: re.search(rf"^{re.escape(act)} +([\d,]+|-) ", out, re.MULTILINE) for act in Act}
    return {act: int(match[1].replace(",", "").replace("-", "0")) for act, match in found.items()}


@pytest.fixture(scope="module")
def demonstration(tmp_path_factory):
    svg = tmp_path_factory.mktemp("picture") / "demo.svg"
    return *_demo("--events", str(EVENTS), "--seed", str(SEED), "--svg", str(svg)), svg


def test_the_demonstration_accounts_for_every_lie_and_every_event(demonstration):
    status, out, err, _ = demonstration
    assert (status, err) == (0, "")
    assert "All accounted for. 300 events" in out
    acts = "|".join(map(re.escape, Act))
    accounted = re.findall(rf"^(?:{acts}) +[\d,]+ .* (yes|NO) *$", out, re.MULTILINE)
    assert accounted == ["yes"] * len(Act)
    assert all(_times(out).values())
    assert max(map(len, out.splitlines())) <= 100


def test_the_picture_is_whole_and_asks_nobody_for_a_font(demonstration):
    svg = demonstration[-1].read_text(encoding="utf-8")
    root = ET.fromstring(svg)
    words = "".join(root.itertext()).replace("\N{NO-BREAK SPACE}", " ")
    assert "All accounted for." in words
    assert all(act in words for act in Act)
    assert re.findall(r"https?:[^\"']*", svg) == ["http://www.w3.org/2000/svg"]
    assert "@font-face" not in svg
    assert "@import" not in svg


def test_sabotaged_reports_make_exit_status_1_and_the_same_seed_the_same_counts(
    demonstration, monkeypatch, capsys
):
    def lie(publishers, proxy, subscribers):
        arrivals = subscribers["desk"]["arrivals"]
        del arrivals[next(n for n, one in enumerate(arrivals) if not isinstance(one, str))]
        return judge(publishers, proxy, subscribers)

    monkeypatch.setattr(stage, "judge", lie)
    assert run(None, follow=False, seed=SEED, events=EVENTS, svg=None) == 1
    out = capsys.readouterr().out
    assert "NOT all accounted for." in out
    assert "was let through, and delivered 0 times" in out
    assert _times(out) == _times(demonstration[1])


def test_a_log_is_followed_until_ctrl_c(tmp_path):
    log = tmp_path / "grows.log"
    log.write_bytes(LOG + b"no event\n")
    with _start("--log", str(log), "--follow") as process:
        assert "following the log" in process.stderr.readline()
        with log.open("ab") as file:
            file.write(LOG * 3)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert err == (
        "envelope demo: lines passed over, since they are no JSON objects: 1, "
        "the first was line 41\n"
    )
    assert "All accounted for. 160 events" in out


def test_a_run_that_takes_too_long_says_so_and_leaves_nobody_behind(monkeypatch, capsys):
    started = []
    start = children.Child.__init__

    def remember(child, *arguments):
        start(child, *arguments)
        started.append(child._process)

    monkeypatch.setattr(children.Child, "__init__", remember)
    monkeypatch.setattr(stage, "DEADLINE", 0)
    assert run(events=10) == 1
    assert "it takes too long: still waiting for the proxy" in capsys.readouterr().err
    assert len(started) == 5
    assert all(process.returncode is not None for process in started)


def _children_of(pid):
    tasks = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(one) for one in tasks.read_text(encoding="ascii").split()]


def _await_children(process):
    """Return the children's ids once there are five."""
    while len(found := _children_of(process.pid)) < 5:
        assert process.poll() is None
        PAUSE.wait(0.02)
    return found


def _is_running(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks at /proc")
@pytest.mark.parametrize(("sent", "status"), [("SIGINT", 130), ("SIGKILL", -signal.SIGKILL)])
def test_no_process_outlives_the_parent(sent, status):
    with _start() as process:
        found = _await_children(process)
        process.send_signal(signal.Signals[sent])
        process.communicate(timeout=60)
    assert process.returncode == status
    # The orphans of a killed parent notice by themselves; pytest's timeout is the bound.
    while any(map(_is_running, found)):
        PAUSE.wait(0.02)


def test_a_terminal_sees_the_figures_while_they_change():
    console = Console(file=io.StringIO(), force_terminal=True, width=90, height=60)
    scene = picture.Scene(seed=1, reports={})
    with picture.live(console, scene) as watch:
        scene.reports = {
            "north": {"sent": 12345},
            "proxy": {"counts": {Act.DROP: 77}},
            "desk": {"claimed": {"others": {"malformed": 55}}},
        }
        watch()
    shown = console.file.getvalue()
    assert "12,345 events published" in shown
    assert "77" in shown
    assert "refused: malformed" in shown
