"""Every option and argument, described once.

Rules of this file: no defaults and no behaviour; types, names and help.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

NewPath = Annotated[
    Path, typer.Argument(metavar="PATH", help="What to make; nothing is there yet.")
]
KeyPath = Annotated[Path, typer.Argument(metavar="PATH", help="A key file, or a node's folder.")]
EnvelopeFile = Annotated[
    Path | None, typer.Argument(metavar="FILE", help="The envelope; stdin if left out.")
]

Context = Annotated[
    str, typer.Option("--context", metavar="NAME", help="The application's name for this flow.")
]
IdentityFile = Annotated[
    Path | None, typer.Option("--identity", metavar="PATH", help="Who you are: a key file.")
]
TrustFile = Annotated[
    Path | None, typer.Option("--trust", metavar="FILE", help="Who the others are: a trust file.")
]
NodeFolder = Annotated[
    Path | None,
    typer.Option(
        "--node", metavar="FOLDER", help="A node's folder, in place of --identity and --trust."
    ),
]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file", metavar="FILE", help="A private file with the passphrase in one line."
    ),
]
Bound = Annotated[
    list[str] | None,
    typer.Option(
        "--bound",
        metavar="TEXT",
        help="A frame that the envelope is bound to and does not carry, such as a topic; "
        "repeat it for more, in order.",
    ),
]

Lock = Annotated[bool, typer.Option("--passphrase", help="Lock it; asks twice, without echo.")]
AsNode = Annotated[
    bool, typer.Option("--node", help="Make a node: a folder with an identity and its peers.")
]
KeyId = Annotated[bool, typer.Option("--key-id", help="Print the key id too.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]

Recipients = Annotated[
    list[str] | None,
    typer.Option(
        "--to",
        metavar="RECIPIENT",
        help="Encrypt to this envpub1... text or peer's name; repeat it for more.",
    ),
]
SignedOnly = Annotated[
    bool, typer.Option("--signed", help="Sign and do not encrypt, also with --to.")
]

Require = Annotated[
    str, typer.Option("--require", metavar="signed|sealed", help="The least that is accepted.")
]
MaxAge = Annotated[
    float, typer.Option("--max-age", metavar="S", help="Accept up to this age, in seconds.")
]
Bundles = Annotated[
    bool, typer.Option("--bundle", help="Accept a bundle; print each payload as a line of base64.")
]

Log = Annotated[
    Path | None,
    typer.Option("--log", metavar="FILE", help="Events to publish: a file of JSON lines."),
]
Follow = Annotated[
    bool, typer.Option("--follow", help="Keep reading the log as it grows, until Ctrl-C.")
]
Seed = Annotated[
    int, typer.Option("--seed", metavar="N", help="Of the attacks; the same seed, the same counts.")
]
Events = Annotated[
    int | None, typer.Option("--events", metavar="N", help="How many events to publish.")
]
Picture = Annotated[
    Path | None, typer.Option("--svg", metavar="FILE", help="Draw the final picture.")
]

Seconds = Annotated[
    float, typer.Option("--seconds", metavar="S", help="How long processes are killed.")
]

RelayConfig = Annotated[
    Path, typer.Argument(metavar="FILE", help="The flows: a TOML file (docs/guides/relay.md).")
]
StatsEvery = Annotated[
    float | None, typer.Option("--stats", metavar="S", help="Print the figures every S seconds.")
]

Listen = Annotated[
    str | None,
    typer.Option(
        "--listen",
        metavar="ENDPOINT",
        help="Open this endpoint, such as tcp://*:7000; show a code.",
    ),
]
Connect = Annotated[
    str | None,
    typer.Option("--connect", metavar="ENDPOINT", help="Connect to the other end; type its code."),
]
PeerName = Annotated[
    str | None, typer.Option("--name", metavar="NAME", help="What to call the other side here.")
]
PeerContexts = Annotated[
    list[str] | None,
    typer.Option(
        "--contexts",
        metavar="PATTERN",
        help="Where the other side may send, such as orders.*; repeat it for more.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Ask nothing; for scripts.")]
OtherParty = Annotated[
    str, typer.Argument(metavar="PEER", help="An envpub1... text, or the name of a peer.")
]
