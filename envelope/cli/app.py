"""The commands and their options.

Rules of this file: a command loads, calls, writes; stdout gets its result whole
or nothing. Whatever it raises, ``Commands`` turns into lines and a status.
"""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NoReturn, cast

import typer
from rich.console import Console
from typer.core import TyperGroup

from envelope import Identity, Node, Opener, Peer, Policy, Sealer, __version__, clock
from envelope.cli import fields, options, parties, passphrases, rendering, streams
from envelope.cli.failures import explain
from envelope.cli.status import table
from envelope.errors import TooLargeError, UsageError
from envelope.message import Message
from envelope.pairing.fingerprint import fingerprint
from envelope.replay import MemoryReplayStore
from envelope.wire import VERSION

_DEFAULT = Policy()


class Commands(TyperGroup):
    """All commands, with the one way in and out."""

    def main(self, args: Sequence[str] | None = None, *_: Any, **__: Any) -> NoReturn:
        """Run a command and exit: never by another exception than SystemExit."""
        try:
            with self.make_context("envelope", list(sys.argv[1:] if args is None else args)) as ctx:
                self.invoke(ctx)
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 (explain() knows them all)
            failure = explain(error)
            if isinstance(error, OSError):
                streams.abandon()
            for line in failure.lines:
                streams.say(line)
            sys.exit(failure.status)
        sys.exit(0)


app = typer.Typer(
    cls=Commands,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog="\b\n" + table(),
)


def _version(wanted: bool) -> None:  # noqa: FBT001 (Typer calls it)
    if wanted:
        streams.write_text(f"envelope {__version__}, format {VERSION}")
        raise typer.Exit


@app.callback()
def root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Authenticity around every message: seal before send, open after receive."""


@app.command()
def keygen(
    path: options.NewPath,
    *,
    passphrase: options.Lock = False,
    passphrase_file: options.PassphraseFile = None,
    node: options.AsNode = False,
) -> None:
    """Make an identity, and print its public text for the peers."""
    secret = passphrases.to_lock(path, wanted=passphrase, file=passphrase_file)
    if node:
        identity = Node.create(path, secret).identity
    else:
        identity = Identity.generate()
        identity.save(path, secret)
    streams.write_text(str(identity.public))


@app.command()
def public(
    path: options.KeyPath,
    *,
    key_id: options.KeyId = False,
    passphrase_file: options.PassphraseFile = None,
) -> None:
    """Print the public text of an identity."""
    identity = parties.load_identity(path, passphrase_file)
    streams.write_text(str(identity.public))
    if key_id:
        streams.write_text(identity.key_id.hex())


@app.command()
def inspect(file: options.EnvelopeFile = None, *, as_json: options.AsJson = False) -> None:
    """Show the fields of an envelope, without any key. Nothing is verified."""
    data = streams.read(file, limit=_DEFAULT.max_size)
    if len(data) > _DEFAULT.max_size:
        raise TooLargeError(f"larger than {_DEFAULT.max_size} bytes")
    envelope = fields.describe(data)
    if as_json:
        shown = rendering.to_json(envelope)
    elif streams.is_terminal():
        shown = rendering.to_table(envelope, Console())
    else:
        shown = rendering.to_lines(envelope)
    streams.write_text(shown)


@app.command()
def seal(  # noqa: PLR0913 (one argument for each option)
    *,
    context: options.Context,
    identity: options.IdentityFile = None,
    to: options.Recipients = None,
    trust: options.TrustFile = None,
    node: options.NodeFolder = None,
    signed: options.SignedOnly = False,
    bound: options.Bound = None,
    passphrase_file: options.PassphraseFile = None,
) -> None:
    """Seal stdin to stdout.

    Without --to the envelope is signed for everyone in the context, and anyone
    can read it.
    """
    party = parties.load_party(
        identity=identity, trust=trust, node=node, passphrase_file=passphrase_file
    )
    if party.identity is None:
        raise UsageError("who signs? Give --identity PATH or --node FOLDER")
    sealer = Sealer(
        party.identity,
        context=context,
        to=parties.find_recipients(to or [], party.trust),
        sealed=False if signed else None,
    )
    payload = streams.read(None, limit=_DEFAULT.max_size)
    streams.write(sealer.seal(payload, bound=_frames(bound)))


@app.command("open")
def open_(  # noqa: PLR0913 (one argument for each option)
    *,
    context: options.Context,
    trust: options.TrustFile = None,
    identity: options.IdentityFile = None,
    node: options.NodeFolder = None,
    bound: options.Bound = None,
    require: options.Require = _DEFAULT.require,
    max_age: options.MaxAge = _DEFAULT.max_age,
    bundle: options.Bundles = False,
    passphrase_file: options.PassphraseFile = None,
) -> None:
    """Open an envelope from stdin, and write its payload to stdout.

    What is refused leaves stdout empty, and the exit status says why: see
    envelope --help.

    With --node the replay memory is the node's: an envelope opens once. Without,
    it lasts for this run only: another run opens the same envelope again, as long
    as it is not older than --max-age.
    """
    party = parties.load_party(
        identity=identity, trust=trust, node=node, passphrase_file=passphrase_file
    )
    if party.trust is None:
        raise UsageError("whom to believe? Give --trust FILE or --node FOLDER")
    # Policy checks what --require says.
    policy = Policy(require=cast("Literal['signed', 'sealed']", require), max_age=max_age)
    data = streams.read(None, limit=policy.max_size)
    if party.node is None:
        opener = Opener(
            party.trust,
            context=context,
            identity=party.identity,
            replay=MemoryReplayStore(first_life=True),
            policy=policy,
            domain="this run",
        )
    else:
        opener = party.node.opener(context, policy=policy)
    if bundle:
        messages = opener.open_bundle(data, bound=_frames(bound))
        first = messages[0]
        result = b"".join(base64.b64encode(payload) + b"\n" for payload in messages.payloads)
    else:
        first = opener.open(data, bound=_frames(bound))
        result = first.payload
    streams.write(result)
    streams.say(_origin(first))
    if party.node is None:
        streams.say("replay memory: this run only; another run opens the same envelope again")


@app.command()
def demo(
    *,
    log: options.Log = None,
    follow: options.Follow = False,
    seed: options.Seed = 7,
    events: options.Events = None,
    svg: options.Picture = None,
) -> None:
    """Send events through a hostile proxy; each lie of it is named."""
    # Late: it needs sockets, and no other command does.
    from envelope.demo import run  # noqa: PLC0415 (see above)

    status = run(log=log, follow=follow, seed=seed, events=events, svg=svg)
    streams.flush()
    raise typer.Exit(status)


@app.command("demo-session")
def demo_session(*, seed: options.Seed = 7, seconds: options.Seconds = 30.0) -> None:
    """Kill two ends of a session at random; nothing comes twice, and they recover."""
    # Late: it needs sockets.
    from envelope.demo import monkey  # noqa: PLC0415 (see above)

    status = monkey.run(seed=seed, seconds=seconds)
    streams.flush()
    raise typer.Exit(status)


@app.command()
def relay(
    file: options.RelayConfig,
    *,
    stats: options.StatsEvery = None,
    as_json: options.AsJson = False,
    passphrase_file: options.PassphraseFile = None,
) -> None:
    """Seal and open for programs that cannot: plain sockets inside, sealed ones outside.

    Ends by SIGTERM or Ctrl-C, when what has arrived has gone on; at once by a second one.
    """
    # Late: it needs sockets.
    from envelope.cli import relaying  # noqa: PLC0415 (see above)

    relaying.run(file, every=stats, as_json=as_json, passphrase_file=passphrase_file)


@app.command()
def pair(  # noqa: PLR0913 (one argument for each option)
    *,
    listen: options.Listen = None,
    connect: options.Connect = None,
    node: options.NodeFolder = None,
    identity: options.IdentityFile = None,
    trust: options.TrustFile = None,
    name: options.PeerName = None,
    contexts: options.PeerContexts = None,
    yes: options.Yes = False,
    passphrase_file: options.PassphraseFile = None,
) -> None:
    """Make two machines know each other, by a short code that two people speak.

    One end shows a code, the other one types it. A code is good for one try. When both
    ends have proven their keys and both owners agree, each adds the other to its peers.
    """
    try:
        # Late: it needs sockets, and an extra.
        from envelope.cli import pairing  # noqa: PLC0415 (see above)
    except ImportError as error:
        if error.name != "spake2":
            raise
        raise UsageError(str(error)) from None
    pairing.run(
        listen=listen,
        connect=connect,
        identity=identity,
        trust=trust,
        node=node,
        name=name,
        contexts=contexts,
        yes=yes,
        passphrase_file=passphrase_file,
    )


@app.command("fingerprint")
def fingerprint_(
    other: options.OtherParty,
    *,
    identity: options.IdentityFile = None,
    trust: options.TrustFile = None,
    node: options.NodeFolder = None,
    passphrase_file: options.PassphraseFile = None,
) -> None:
    """Print digits that are the same at both ends, to compare by another channel."""
    party = parties.load_party(
        identity=identity, trust=trust, node=node, passphrase_file=passphrase_file
    )
    if party.identity is None:
        raise UsageError("whose? Give --identity PATH or --node FOLDER")
    (found,) = parties.find_recipients([other], party.trust)
    public = found.public if isinstance(found, Peer) else found
    streams.write_text(fingerprint(party.identity.public, public))


def _frames(bound: list[str] | None) -> list[bytes]:
    """Return the bound frames: the very bytes of the command line."""
    return [os.fsencode(frame) for frame in bound or []]


def _origin(message: Message) -> str:
    kind = "sealed" if message.sealed else "signed"
    age = (clock.wall() - message.sent_at) / clock.SECOND
    return f"{kind} by {message.sender.name} ({message.sender.key_id.hex()}), {age:.1f} s ago"
