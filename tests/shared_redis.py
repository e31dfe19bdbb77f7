"""Replay stores over a real server, with time handed in and a network that can fail.

The server and the script are the real ones; only where the script reads the time is a
key that the test sets.
"""

from __future__ import annotations

import atexit
import itertools
import shutil
import socket
import struct
import tempfile
from pathlib import Path

import redis
from local_redis import LocalRedis

from envelope.replay import RedisReplayStore

_numbers = itertools.count()
_server: list[LocalRedis] = []


def server():
    """Return the server that all tests share which do it no harm."""
    if not _server or _server[0].process.poll() is not None:
        folder = Path(tempfile.mkdtemp())
        _server[:] = [LocalRedis(folder)]
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        atexit.register(_server[0].kill)
        with redis.Redis.from_url(_server[0].url) as client:
            # Else whichever test is the first would ask once more than it counts.
            client.script_load(TimedStore._script())
    return _server[0]


def namespace():
    """Return a name that no other test has."""
    return f"test-{next(_numbers)}"


class TimedStore(RedisReplayStore):
    """A store whose server takes the time from the test, and whose network may fail.

    ``fault`` is None, or what becomes of the next questions: "lost" on the way, or
    "unheard", where the answer is.
    """

    def __init__(self, url, *, clock, **options):
        self.clock = clock
        self.fault = None
        self.asked = []
        super().__init__(url, **options)

    @staticmethod
    def _script():
        real = "redis.call('TIME')"
        text = RedisReplayStore._script()
        assert text.count(real) == 1
        return text.replace(real, "{0, redis.call('GET', 'now')}")

    def _run(self, command, script, calls):
        self.asked += [call.arguments for call in calls]
        if self.fault == "lost":
            raise redis.TimeoutError("the question was lost")
        self._server.ask([("SET", "now", self.clock())])
        replies = super()._run(command, script, calls)
        if self.fault == "unheard":
            raise redis.TimeoutError("the answer was lost")
        return replies

    def ask_as_before(self, arguments):
        """Let a question arrive once more, as a network may have held it back."""
        (reply,) = self._server.ask([("EVAL", self._text, *arguments)])
        return reply


def key_of(name, rest):
    """Return the name of a key in a namespace, or a pattern of such."""
    return "{" + name + "}" + rest


def bear(url, name, max_future=2.0):
    """Make a namespace whose memory was never lost: no cold start."""
    with redis.Redis.from_url(url) as client:
        run = client.info("server")["run_id"]
        history = client.info("replication")["master_replid"]
        times = struct.pack(">qq", -1, int(max_future * 1_000_000))
        record = {"run": run, "history": history, "times": times}
        client.hset(key_of(name, ":store"), mapping=record)


def born(url, clock, **options):
    """Return a store in a namespace of its own whose memory was never lost."""
    name = namespace()
    bear(url, name)
    return TimedStore(url, clock=clock, namespace=name, **options)


def free_port():
    """Return a port on loopback that nobody has."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])
