"""``envelope pair``: two people, a short code, and questions to each one's owner.

Rules of this file: questions and the code go to stderr, answers come from stdin, and stdout
gets the other side's public text once it is pinned. Nothing is written unless the exchange
says that both ends agreed; whatever else happens, the other end is told that it is over.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final, NamedTuple

from envelope import clock
from envelope.cli import parties, streams
from envelope.errors import PairingError, UsageError
from envelope.identity import Identity, PublicIdentity
from envelope.pairing import codes, enrolment
from envelope.pairing.exchange import Connector, Listener, State
from envelope.pairing.fingerprint import fingerprint
from envelope.trust import Peer, TrustStore
from envelope.zeromq.pairing import Line

_PEERS: Final = "peers.toml"
_MAX_ANSWER: Final = 4096


class Owner(NamedTuple):
    """Who sits at this end, and what was said on the command line."""

    identity: Identity
    trust: TrustStore
    file: Path
    name: str
    contexts: tuple[str, ...]
    says_yes: bool


def run(  # noqa: PLR0913 (one argument for each option)
    *,
    listen: str | None,
    connect: str | None,
    identity: Path | None,
    trust: Path | None,
    node: Path | None,
    name: str | None,
    contexts: list[str] | None,
    yes: bool,
    passphrase_file: Path | None,
) -> None:
    """Pair once.

    Raises:
        PairingError: it ended without a peer.
        UsageError: an option, an answer, or the peers that are there already.
        TrustFileError, KeyFileError, OSError: as they say.
    """
    endpoint = listen if connect is None else connect
    if endpoint is None or (listen is not None and connect is not None):
        raise UsageError("one end gives --listen ENDPOINT, the other one --connect ENDPOINT")
    party = parties.load_party(
        identity=identity, trust=trust, node=node, passphrase_file=passphrase_file
    )
    if party.identity is None or party.trust is None:
        raise UsageError("who pairs? Give --node FOLDER, or --identity PATH and --trust FILE")
    file = node / _PEERS if node is not None else trust
    assert file is not None
    if yes and not (name and contexts):
        raise UsageError("--yes asks nothing, so it needs --name and --contexts")
    owner = _ask_owner(party.identity, party.trust, file, name, contexts, says_yes=yes)
    code = codes.generate() if connect is None else codes.parse(_ask("code: "))
    with Line(endpoint, listens=connect is None) as line:
        added = _Conversation(owner, code, line, listens=connect is None).hold()
    streams.write_text(str(added))


def _ask_owner(  # noqa: PLR0913 (what was said, and what it is about)
    identity: Identity,
    trust: TrustStore,
    file: Path,
    name: str | None,
    contexts: list[str] | None,
    *,
    says_yes: bool,
) -> Owner:
    """Ask for what was left out, and check it, before anything is sent."""
    name = name or _ask("name for the other side: ")
    patterns = contexts or [
        part.strip() for part in _ask("contexts it may send in (a, b.*): ").split(",")
    ]
    # Whose key it is does not matter yet: the name and the contexts are judged.
    peer = Peer(name, identity.public, contexts=patterns)
    if name in trust:
        streams.say(f"there is a {name!r} already: only the same key will be taken for it")
    return Owner(identity, trust, file, name, tuple(peer.contexts), says_yes)


class _Conversation:
    """One run, between a line and an owner."""

    def __init__(self, owner: Owner, code: str, line: Line, *, listens: bool) -> None:
        self._owner = owner
        self._line = line
        self._code = code
        side = Listener if listens else Connector
        self._exchange: Listener | Connector = side(owner.identity, code, now=clock.monotonic())

    def hold(self) -> PublicIdentity:
        """Return the other side, which is pinned.

        Raises:
            PairingError: it ended without a peer.
            KeyboardInterrupt, OSError, UsageError: what stopped it; the other side was told.
        """
        try:
            return self._hold()
        except BaseException:
            farewell = self._exchange.give_up()
            if farewell is not None:
                self._line.send(farewell)
            self._tell_how_it_ended()
            raise

    def _tell_how_it_ended(self) -> None:
        """Say what was added where, as far as it is known here (SPEC 19.7)."""
        owner = self._owner
        here = (
            f"{owner.name!r} is in {owner.file}"
            if self._is_in_file()
            else "this code is burned, and nothing was added here"
        )
        there = {
            True: "the other side has added you",
            False: "nor there",
            None: "whether the other side has added you is not known: ask, or pair again",
        }[self._exchange.is_pinned_there]
        streams.say(f"{here}; {there}")

    def _is_in_file(self) -> bool:
        """Tell whether the other side stands in the trust file, however it got there."""
        owner, other = self._owner, self._exchange.peer
        try:
            # Looked up: an interrupt may come right after the file took its place.
            peers = list(TrustStore.load(owner.file))
        except UsageError:
            return False
        return any(peer.name == owner.name and peer.public == other for peer in peers)

    def _hold(self) -> PublicIdentity:
        exchange, owner = self._exchange, self._owner
        if isinstance(exchange, Connector):
            self._line.send(exchange.begin(clock.monotonic()))
        else:
            where = self._line.endpoint
            streams.say(f"listening at {where}; the other end: envelope pair --connect ...")
            streams.say(f"code: {self._code}")
            streams.say("it is good for one try, within ten minutes")
        self._listen_until(State.PROVEN, State.WILLING)
        assert exchange.peer is not None
        other = exchange.peer
        is_known = enrolment.is_known(owner.trust, owner.name, other)
        accepts = owner.says_yes or self._ask_consent(other, is_known=is_known)
        decision = exchange.decide(accepts=accepts, now=clock.monotonic())
        if decision is not None:
            self._line.send(decision)
        if not accepts:
            raise PairingError("you said no; nothing was added, and this code is burned")
        if exchange.state is State.AWAITS_DECISION and not owner.says_yes:
            streams.say("waiting for the other side's owner")
        self._listen_until(State.AGREED)
        added = enrolment.add(owner.file, Peer(owner.name, other, contexts=owner.contexts))
        self._line.send(exchange.written(clock.monotonic()))
        self._listen_until(State.DONE)
        streams.say(
            f"added {owner.name!r} to {owner.file}; the other side has you, too"
            if added
            else f"{owner.name!r} was in {owner.file} already; the other side has you, too"
        )
        return other

    def _listen_until(self, *states: State) -> None:
        """Exchange messages until one of these states."""
        exchange = self._exchange
        while exchange.state not in states:
            assert exchange.deadline is not None
            message = self._line.receive(exchange.deadline)
            now = clock.monotonic()
            exchange.check_time(now)
            answer = None if message is None else exchange.receive(message, now)
            if answer is not None:
                self._line.send(answer)

    def _ask_consent(self, other: PublicIdentity, *, is_known: bool) -> bool:
        owner = self._owner
        streams.say("both sides know the code and have proven their keys")
        streams.say(f"fingerprint of you both: {fingerprint(owner.identity.public, other)}")
        if is_known:
            streams.say(f"{owner.name!r} is in {owner.file} with this key; it stays as it is")
            return _is_yes(_ask("go on? [y/N] "))
        contexts = ", ".join(owner.contexts)
        question = f"add {owner.name!r} with contexts [{contexts}] to {owner.file}? [y/N] "
        return _is_yes(_ask(question))


def _is_yes(answer: str) -> bool:
    return answer.lower() in ("y", "yes")


def _ask(question: str) -> str:
    """Return a line of stdin.

    Raises:
        UsageError: there is none.
    """
    streams.say(question, end="")
    line = "" if sys.stdin is None else sys.stdin.readline(_MAX_ANSWER)
    if not line:
        raise UsageError("no answer on stdin; --name, --contexts and --yes ask less")
    return line.strip()
