"""A subject without any protection: what every attack has to get through.

Rules of this file: importable by its name, for a restart reads in a new process.
"""

from __future__ import annotations

import pickle
from contextlib import contextmanager

from attacks.subject import Heard, Note, Subject, Wire


class Naked(Subject):
    """Pickles, as they are."""

    name = "nothing"
    used_as = "nothing is on"
    decoder = staticmethod(pickle.loads)

    def __init__(self, stack):
        del stack
        self.keys = None

    def writer(self, who):
        def write(note):
            data = pickle.dumps([note.sender, note.payload])
            if note.nested:
                lists = b"]" * note.nested + b"a" * (note.nested - 1)
                data = b"\x80\x04]X\5\0\0\0alicea" + lists + b"a."
            # What is read is the first frame: a frame that is cut off is not missed.
            return Wire(note.topic.encode(), [data, b"an attachment"])

        return write

    @staticmethod
    @contextmanager
    def reader(keys, who):
        def read(wire):
            sender, payload = pickle.loads(wire.frames[0])
            return Heard(payload, sender)

        yield read

    def weaker(self):
        return {"as it is": self.writer("alice")(Note()), "what reaches nobody": None}
