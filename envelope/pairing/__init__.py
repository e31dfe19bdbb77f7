"""Pairing: two people make two machines know each other by a short code (SPEC 19).

Rules of this package: ``exchange`` is the protocol, bytes in and bytes out; ``pake`` is the
only importer of spake2; ``enrolment`` is the only writer of trust files. No socket, no
terminal and no clock is here: ``envelope.zeromq.pairing`` and ``envelope.cli`` have them.
"""
