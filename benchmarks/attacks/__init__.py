"""The attacks that every messaging glue meets, run against this library and its peers.

Rules of this package:

- A subject is used as its own documentation says, with every protection turned on that
  it documents for such a message; where each subject is defined, the pages are named.
- An attack is written once and works on what any subject puts on the wire. No outcome is
  written down beforehand, but that nothing may get through against this library.
- Before each attack an honest message has to be read: an attack on what does not work
  shows nothing.
- What an attacker has is what ``Subject.writer`` gives to that name: a member of the group
  has a member's keys, a stranger has keys that nobody trusts.

``subject`` says what a subject is, ``receivers`` where it reads; ``ours``, ``sockets``,
``tokens``, ``jose`` and ``glue`` have the subjects, ``generic`` the attacks; ``table`` says
what came out.
"""
