"""derive.json through the package: each step that leads to an envelope."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from vectors import reference

from envelope import Identity, KeyFileError, Peer, PublicIdentity, UsageError, keyfile
from envelope.binding import context_digest
from envelope.errors import UnsealError
from envelope.keyblock import make, unwrap
from envelope.keyfile import Cost
from envelope.primitives import LABELS, H, is_ed25519_public, is_x25519_public, x25519
from envelope.stream import Stream

ROWS = json.loads((Path(__file__).parent / "derive.json").read_text(encoding="utf-8"))


def rows(name):
    return [pytest.param(row, id=f"{name}{number}") for number, row in enumerate(ROWS[name])]


def unhex(row, *names):
    values = [bytes.fromhex(row[name]) for name in names]
    return values[0] if len(values) == 1 else values


class Source:
    """Hands out given bytes, one after the other, and only in the sizes asked for."""

    def __init__(self, *pieces):
        self.pieces = list(pieces)

    def __call__(self, size):
        piece = self.pieces.pop(0)
        assert len(piece) == size
        return piece


def test_every_list_has_a_test():
    tested = {
        *("hashes", "identities", "public_keys", "patterns", "contexts", "streams", "epochs"),
        *("wraps", "nonces", "envelopes", "locked", "bad_texts"),
    }
    assert set(ROWS) - {"note"} == tested
    assert all(ROWS.values())


@pytest.mark.audit("C7", "M2")
@pytest.mark.parametrize("row", rows("hashes"))
def test_hashes(row):
    key, data, expected = unhex(row, "key", "data", "hash")
    for n in (8, 32, 64):
        assert H(n, row["label"].encode(), data, key=key) == expected[:n]


@pytest.mark.audit("K2", "K4", "M2")
@pytest.mark.parametrize("row", rows("identities"))
def test_identities(row):
    identity = Identity(unhex(row, "seed"))
    assert identity.public.public == unhex(row, "pub")
    assert identity.key_id == unhex(row, "key_id")
    assert str(identity.public) == row["public_text"]
    assert identity.export() == row["secret_text"]
    assert PublicIdentity.parse(row["public_text"]) == identity.public
    assert Identity.parse(row["secret_text"]).public == identity.public
    assert identity._x_secret == unhex(row, "x_secret")
    assert identity._sign_secret[:32] == unhex(row, "ed_seed")


@pytest.mark.audit("K1", "C10", "M2")
@pytest.mark.parametrize("row", rows("public_keys"))
def test_public_keys(row):
    pub = unhex(row, "pub")
    text = reference.public_text(pub)
    if row["sound"]:
        assert PublicIdentity(pub).public == pub
        assert PublicIdentity.parse(text).public == pub
        return
    for read, value in ((PublicIdentity, pub), (PublicIdentity.parse, text)):
        with pytest.raises(UsageError):
            read(value)
    if len(pub) == 64:
        # Each unsound key is unsound in one half alone.
        assert is_ed25519_public(pub[:32]) is not is_x25519_public(pub[32:])


@pytest.mark.parametrize("row", rows("patterns"))
def test_patterns(row):
    public = Identity(bytes(32)).public
    if row["matches"] is None:
        with pytest.raises(UsageError):
            Peer("alice", public, contexts=[row["pattern"]])
    else:
        peer = Peer("alice", public, contexts=[row["pattern"]])
        assert peer.allows_context(row["context"]) is row["matches"]


@pytest.mark.audit("C1", "M2")
@pytest.mark.parametrize("row", rows("contexts"))
def test_contexts(row):
    bound = tuple(bytes.fromhex(frame) for frame in row["bound"])
    assert context_digest(row["context"].encode(), bound) == unhex(row, "ctx")


def test_contexts_that_differ_have_values_that_differ():
    values = [row["ctx"] for row in ROWS["contexts"]]
    assert len(values) == len(set(values))


@pytest.mark.parametrize("row", rows("streams"))
def test_streams(row, monkeypatch):
    monkeypatch.setattr("os.getpid", lambda: row["process"])
    hedge = Identity(unhex(row, "seed"))._stream_hedge
    source = Source(unhex(row, "random"))
    stream = Stream(hedge, now=row["start"], ns=row["ns"], random=source)
    assert stream.id == unhex(row, "stream")


@pytest.mark.audit("C5", "C7", "M2")
@pytest.mark.parametrize("row", rows("epochs"))
def test_epochs(row):
    sender, recipient = Identity(unhex(row, "seed")), Identity(bytes(32))
    source = Source(unhex(row, "random"))
    key_block, aead_key = make(
        sender, [recipient.public], stream=unhex(row, "stream"), now=row["now"], random=source
    )
    assert key_block[:64] == b"".join(unhex(row, "ephemeral", "com"))
    assert aead_key == unhex(row, "aead_key")


@pytest.mark.audit("C5", "M2")
@pytest.mark.parametrize("row", rows("wraps"))
def test_wraps(row):
    e, sender, to, stream = unhex(row, "e", "sender", "recipient", "stream")
    own = next(
        identity
        for identity in (Identity(bytes.fromhex(one["seed"])) for one in ROWS["identities"])
        if identity.public.public == to
    )
    keys = reference.Epoch(e, b"").ephemeral + unhex(row, "com")
    assert x25519(own._x_secret, keys[:32]) == unhex(row, "shared")
    key = H(32, b"env1-aead", key=unhex(row, "ck"))
    entry = own.key_id + unhex(row, "wrap")
    assert unwrap(own, PublicIdentity(sender), stream=stream, keys=keys, entry=entry) == key
    with pytest.raises(UnsealError):
        unwrap(own, own.public, stream=bytes(16), keys=keys, entry=entry)


@pytest.mark.audit("C6", "M2")
@pytest.mark.parametrize("row", rows("nonces"))
def test_nonces(row):
    hedge = Identity(unhex(row, "seed"))._nonce_hedge.copy()
    random, stream, ctx, payload = unhex(row, "random", "stream", "ctx", "payload")
    times = row["sequence"].to_bytes(8, "big") + row["sent_at"].to_bytes(8, "big")
    hedge.update(random + stream + times + ctx + payload[:1024])
    assert hedge.digest()[:24] == unhex(row, "nonce")


@pytest.mark.audit("C7")
def test_every_label_of_the_package_has_rows():
    assert {row["label"].encode() for row in ROWS["hashes"]} == LABELS


@pytest.mark.audit("K7", "M2")
@pytest.mark.parametrize("row", rows("locked"))
def test_locked(row, tmp_path):
    path = tmp_path / "there"
    path.write_text(f"# a comment\n\n{row['text']}\n", encoding="utf-8")
    path.chmod(0o600)
    assert Identity.load(path, row["passphrase"]).export() == reference.secret_text(
        unhex(row, "seed")
    )
    with pytest.raises(KeyFileError):
        Identity.load(path, row["passphrase"] + "x")
    salt, nonce = unhex(row, "salt", "nonce")
    written = tmp_path / "written"
    keyfile.save(
        written,
        unhex(row, "seed"),
        comment="a comment",
        passphrase=row["passphrase"],
        random=Source(salt, nonce, b"a name"),
        cost=Cost(row["passes"], row["memory_kib"]),
    )
    assert written.read_text(encoding="utf-8") == f"# a comment\n{row['text']}\n"


def test_a_passphrase_has_one_form():
    first, second = (row["text"] for row in ROWS["locked"][2:4])
    assert first == second


@pytest.mark.audit("K3", "M2")
@pytest.mark.parametrize("row", rows("bad_texts"))
def test_bad_texts(row):
    for parse in (PublicIdentity.parse, Identity.parse):
        with pytest.raises(UsageError):
            parse(row["text"])
