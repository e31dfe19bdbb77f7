"""seal and open: every option, and every way to be refused."""

from __future__ import annotations

import base64
import re

import pytest
from crafting import craft
from support import flip, identity

from envelope import Node, Sealer, clock, wire
from envelope.cli.status import OF_CODE

PAYLOAD = b"buy 7"
HOUR = 3600 * clock.SECOND
OPEN = ("open", "--trust", "peers.toml", "--context", "orders")


def sealer(name="alice", context="orders", **options):
    return Sealer(identity(name), context=context, **options)


def seal(run, *options, stdin=PAYLOAD, who="alice"):
    done = run("seal", "--identity", f"{who}.key", "--context", "orders", *options, stdin=stdin)
    assert (done.status, done.err) == (0, "")
    return done.out


def recipients(data):
    header = wire.decode(data)
    step = wire.KEY_ID_SIZE if header.kind == wire.SIGNED else wire.ENTRY_SIZE
    start = header.key_block + (0 if header.kind == wire.SIGNED else wire.KEYS_SIZE)
    return {data[at : at + 16] for at in range(start, header.body, step)}


# --- seal -------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [b"", b"\r\n\x00\xff\x1a", bytes(range(256)) * 400])
def test_any_bytes_go_through_unchanged(run, payload):
    assert run(*OPEN, stdin=seal(run, stdin=payload)).out == payload
    sealed = seal(run, "--to", str(identity("bob").public), stdin=payload)
    assert run(*OPEN, "--identity", "bob.key", stdin=sealed).out == payload


def test_without_recipients_it_is_signed_for_everyone(run):
    data = seal(run)
    assert wire.decode(data).kind == wire.SIGNED
    assert recipients(data) == set()


def test_recipients_are_texts_or_names(run):
    bob, carol = identity("bob"), identity("carol")
    data = seal(run, "--to", str(bob.public), "--to", "carol", "--trust", "peers.toml")
    assert wire.decode(data).kind == wire.SEALED
    assert recipients(data) == {bob.key_id, carol.key_id}


def test_signed_with_recipients_is_addressed_and_readable(run):
    data = seal(run, "--signed", "--to", str(identity("bob").public))
    assert wire.decode(data).kind == wire.SIGNED
    assert recipients(data) == {identity("bob").key_id}
    assert PAYLOAD in data


def test_signed_without_recipients_changes_nothing(run):
    assert wire.decode(seal(run, "--signed")).kind == wire.SIGNED


def test_bound_frames_are_the_bytes_of_the_command_line_in_their_order(run):
    data = seal(run, "--bound", "käse", "--bound", "\udcff")
    right = ("--bound", "käse", "--bound", "\udcff")
    assert run(*OPEN, *right, stdin=data).out == PAYLOAD
    assert run(*OPEN, "--bound", "\udcff", "--bound", "käse", stdin=data).status == 14
    bound = [b"k\xc3\xa4se", b"\xff"]
    assert run(*OPEN, *right, stdin=sealer().seal(PAYLOAD, bound=bound)).out == PAYLOAD


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("--context orders", "who signs? Give --identity PATH or --node FOLDER"),
        ("--identity alice.key", "Missing option '--context'"),
        ("--identity nobody.key --context orders", "nobody.key does not exist"),
        ("--identity alice.key --context orders --to bob", "--to 'bob' is the name of a peer"),
        ("--identity alice.key --context orders --to bob --trust nowhere.toml", "nowhere.toml"),
        ("--identity alice.key --context orders --to eve --trust peers.toml", "no peer is named"),
        ("--identity alice.key --context orders --to envpub1x", "cut short"),
        ("--node alice.node --context orders", "envelope keygen --node alice.node"),
        ("--node . --identity alice.key --context orders", "leave --identity and --trust out"),
        ("--node . --trust peers.toml --context orders", "leave --identity and --trust out"),
        ("--identity alice.key --context orders" + " --bound x" * 65, "at most 64 bound frames"),
        ("--identity alice.key --context " + "x" * 256, "at most 255 bytes"),
        ("--identity alice.key --context ''", "non-empty"),
    ],
)
def test_what_cannot_be_sealed_is_a_usage_error(run, arguments, reason):
    words = [word.strip("'") for word in arguments.split(" ")]
    refused = run("seal", *words, stdin=PAYLOAD)
    assert refused.status == 2
    assert reason in refused.err


def test_a_payload_that_no_receiver_takes_is_refused(run):
    refused = run(
        "seal", "--identity", "alice.key", "--context", "orders", stdin=bytes(16 * 2**20 - 143)
    )
    assert refused.status == 2
    assert "larger than 16777216 bytes" in refused.err


@pytest.mark.audit("K5")
def test_a_secret_given_as_a_recipient_is_not_repeated(run):
    secret = identity("bob").export()
    arguments = ("seal", "--identity", "alice.key", "--context", "orders", "--to", secret)
    for more in ((), ("--trust", "peers.toml")):
        refused = run(*arguments, *more, stdin=PAYLOAD)
        assert refused.status == 2
        assert secret[7:20] not in refused.err
        assert "leaked" in refused.err


def test_a_revoked_recipient_is_not_sealed_to(run, desk):
    with (desk / "peers.toml").open("a", encoding="utf-8") as file:
        file.write("revoked = true\n")
    arguments = "seal --identity alice.key --context orders --trust peers.toml --to carol"
    refused = run(*arguments.split(), stdin=PAYLOAD)
    assert refused.status == 2
    assert "revoked" in refused.err


# --- open -------------------------------------------------------------------------------


def test_it_says_who_sealed_it_and_how_long_ago(run):
    opened = run(*OPEN, stdin=sealer().seal(PAYLOAD))
    first, second = opened.err.splitlines()
    assert first.startswith(f"signed by alice ({identity('alice').key_id.hex()}), ")
    assert first.endswith(" s ago")
    assert second == "replay memory: this run only; another run opens the same envelope again"


def test_max_age_takes_older_ones(run):
    data = craft(identity("alice"), PAYLOAD, sent_at=clock.wall() - HOUR)
    assert run(*OPEN, stdin=data).status == 13
    opened = run(*OPEN, "--max-age", "4000", stdin=data)
    assert opened.out == PAYLOAD
    assert re.search(r", 36\d\d\.\d s ago", opened.err)  # However slow the machine is.


def test_a_locked_identity_opens(run, desk):
    data = sealer("bob", to=[identity("alice").public]).seal(PAYLOAD)
    unlock = ("--identity", "locked.key", "--passphrase-file", "passphrase")
    assert run(*OPEN, *unlock, stdin=data).out == PAYLOAD


def test_a_node_opens_what_was_sealed_before_this_run_began(run, desk):
    node = Node.create(desk / "new.node")
    (desk / "new.node" / "peers.toml").write_bytes((desk / "peers.toml").read_bytes())
    data = sealer(to=[node.identity.public]).seal(PAYLOAD)
    opened = run("open", "--node", "new.node", "--context", "orders", stdin=data)
    assert opened.out == PAYLOAD
    assert opened.err.startswith("sealed by alice ")


def test_bundle_prints_a_line_of_base64_for_each_payload(run):
    payloads = [b"", b"\n", bytes(range(256))]
    bundle = sealer().seal_bundle(payloads)
    opened = run(*OPEN, "--bundle", stdin=bundle)
    assert [base64.b64decode(line) for line in opened.text.split("\n")[:-1]] == payloads
    single = run(*OPEN, "--bundle", stdin=sealer().seal(PAYLOAD))
    assert single.text == base64.b64encode(PAYLOAD).decode() + "\n"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("--context orders", "whom to believe? Give --trust FILE or --node FOLDER"),
        ("--context orders --identity bob.key", "whom to believe?"),
        ("--trust peers.toml", "Missing option '--context'"),
        ("--context orders --trust nowhere.toml", "nowhere.toml does not exist"),
        ("--context orders --trust alice.key", "alice.key: "),
        ("--context orders --trust peers.toml --require nothing", "nothing weaker exists"),
        ("--context orders --trust peers.toml --max-age 0", "max_age is a number of seconds"),
        ("--context orders --trust peers.toml --max-age nan", "max_age is a number of seconds"),
        ("--context orders --trust peers.toml --max-age soon", "--max-age"),
        ("--context orders --trust peers.toml --identity x.key", "x.key does not exist"),
        ("--context orders --node nowhere", "keygen --node nowhere"),
        ("--context orders --node . --trust peers.toml", "leave --identity and --trust out"),
    ],
)
def test_what_cannot_be_opened_is_a_usage_error(run, arguments, reason):
    refused = run("open", *arguments.split(), stdin=sealer().seal(PAYLOAD))
    assert refused.status == 2
    assert reason in refused.err


def test_a_trust_file_is_missed_before_a_passphrase_is_asked_for(run):
    arguments = "open --context orders --identity locked.key --trust nowhere.toml"
    assert "nowhere.toml does not exist" in run(*arguments.split()).err


# --- Refused ----------------------------------------------------------------------------

ALICE, BOB, CAROL = identity("alice"), identity("bob"), identity("carol")


def fresh(payload=PAYLOAD, *, ahead=0, **fields):
    return craft(ALICE, payload, sent_at=clock.wall() + ahead, **fields)


REFUSED = {
    "too large": (lambda: fresh() + bytes(16 * 2**20), (), "too_large", ""),
    "too many frames": (fresh, ("--bound", "x") * 65, "too_large", ""),
    "garbage": (lambda: PAYLOAD, (), "malformed", "all of it arrive, as binary?"),
    "a bad bundle": (lambda: fresh(flags=1), ("--bundle",), "malformed", "signed by"),
    "version 2": (lambda: flip(fresh(), 3, 3), (), "version", "newer version"),
    "signed, not sealed": (fresh, ("--require", "sealed"), "policy", "--require"),
    "a bundle": (lambda: sealer().seal_bundle([PAYLOAD]), (), "policy", "--bundle"),
    "a reply": (lambda: sealer().seal(PAYLOAD, in_reply_to=bytes(32)), (), "policy", ""),
    "a stranger": (lambda: sealer("mallory").seal(PAYLOAD), (), "unknown_sender", "envpub1"),
    "our own": (fresh, ("--identity", "alice.key"), "reflected", ""),
    "another context": (
        lambda: sealer(context="plans").seal(PAYLOAD),
        ("--context", "plans"),
        "not_trusted",
        "trust file",
    ),
    "sealed to another": (
        lambda: sealer(to=[CAROL.public]).seal(PAYLOAD),
        ("--identity", "bob.key"),
        "not_addressed",
        "",
    ),
    "sealed, and no identity": (
        lambda: sealer(to=[CAROL.public]).seal(PAYLOAD),
        (),
        "not_addressed",
        "--identity or --node",
    ),
    "old": (lambda: fresh(ahead=-HOUR), (), "stale", "--max-age"),
    "from the future": (lambda: fresh(ahead=HOUR), (), "future", "compare the clocks"),
    "bent": (lambda: flip(fresh(), -70), (), "bad_signature", "claimed sender"),
    "bound elsewhere": (fresh, ("--bound", "x"), "bad_signature", "--context and each --bound"),
    "sealed to nothing": (
        lambda: fresh(to=[BOB.public], sealed=True, spoil_tag=True),
        ("--identity", "bob.key"),
        "unseal",
        f"signed by {ALICE.key_id.hex()}",
    ),
}


@pytest.mark.audit("E3")
@pytest.mark.parametrize("story", REFUSED)
def test_a_refusal_has_its_status_its_code_and_a_remedy_and_no_payload(run, story):
    make, options, code, remedy = REFUSED[story]
    refused = run(*OPEN, *options, stdin=make())
    assert refused.status == OF_CODE[code]
    what, *then = refused.err.splitlines()
    assert what.startswith(f"envelope refused, {code}: ")
    assert remedy in refused.err
    assert all(line.startswith("  ") for line in then)
    assert PAYLOAD.decode() not in refused.err


def test_a_refusal_names_the_claimed_sender_once_it_was_read(run):
    claimed = f"claimed sender {identity('mallory').key_id.hex()}"
    assert claimed in run(*OPEN, stdin=sealer("mallory").seal(PAYLOAD)).err
    assert "claimed sender" not in run(*OPEN, stdin=b"garbage").err
