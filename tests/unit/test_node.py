"""A folder that holds identity, peers and replay memory, made and used together."""

from __future__ import annotations

import os
import stat

import pytest
from support import World, identity

from envelope import (
    Identity,
    KeyFileError,
    Node,
    Opener,
    Peer,
    Policy,
    RejectedError,
    Sealer,
    StoreFileError,
    TrustFileError,
    UsageError,
)
from envelope import clock as clocks
from envelope.errors import BeforeStartError, ReplayedError

BOB, CAROL = identity("bob"), identity("carol")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "alice.node"


@pytest.fixture(params=[0, 0o077])
def any_umask(request):
    """The most careless and the most careful umask that a shell can have."""
    old = os.umask(request.param)
    yield
    os.umask(old)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def peers(folder, *names, contexts='["orders"]'):
    """Write peers.toml."""
    (folder / "peers.toml").write_text(
        "".join(
            f'[[peer]]\nname = "{name}"\nkey = "{identity(name).public}"\ncontexts = {contexts}\n'
            for name in names
        )
    )


class TestCreate:
    @pytest.mark.audit("K7")
    @pytest.mark.usefixtures("any_umask")
    def test_it_makes_a_private_folder_with_identity_and_peers(self, folder):
        node = Node.create(folder)
        assert {entry.name for entry in folder.iterdir()} == {
            "identity.key",
            "peers.toml",
            "replay.db",
            "replay.db.lock",
        }
        assert mode(folder) == 0o700
        assert mode(folder / "identity.key") == 0o600
        assert node.path == folder
        assert Identity.load(folder / "identity.key").public == node.identity.public

    @pytest.mark.audit("K7")
    @pytest.mark.usefixtures("any_umask")
    def test_nobody_else_may_write_the_list_of_peers(self, tmp_path):
        """Also in a folder that was there before, and is open to others."""
        folder = tmp_path / "open"
        folder.mkdir(mode=0o777)
        Node.create(folder)
        assert mode(folder / "peers.toml") == 0o644

    def test_folders_above_are_made_too_and_a_str_will_do(self, tmp_path):
        node = Node.create(str(tmp_path / "a" / "b" / "c"))
        assert node.path == tmp_path / "a" / "b" / "c"

    def test_two_nodes_are_two_identities(self, tmp_path):
        assert (
            Node.create(tmp_path / "a").identity.key_id
            != Node.create(tmp_path / "b").identity.key_id
        )

    def test_it_trusts_nobody_yet_and_says_how_to_change_that(self, folder):
        node = Node.create(folder)
        assert len(node.trust) == 0
        text = (folder / "peers.toml").read_text()
        for word in ("[[peer]]", "name", "key", "contexts"):
            assert word in text

    def test_its_example_of_a_peer_is_valid_but_for_the_key(self, folder):
        Node.create(folder)
        path = folder / "peers.toml"
        example = "\n".join(
            line.removeprefix("# ")
            for line in path.read_text().splitlines()
            if line.startswith(("# [[peer]]", "# name", "# key", "# contexts"))
        )
        path.write_text(example.replace("envpub1...", str(BOB.public)))
        assert Node.load(folder).trust["alice"].public == BOB.public

    def test_an_identity_is_never_replaced(self, folder):
        first = Node.create(folder)
        before = (folder / "identity.key").read_bytes()
        with pytest.raises(KeyFileError, match="exists already"):
            Node.create(folder)
        assert (folder / "identity.key").read_bytes() == before
        assert Node.load(folder).identity.public == first.identity.public

    def test_peers_that_were_written_before_stay(self, folder):
        folder.mkdir()
        peers(folder, "bob")
        before = (folder / "peers.toml").read_bytes()
        assert Node.create(folder).trust["bob"].public == BOB.public
        assert (folder / "peers.toml").read_bytes() == before

    def test_peers_that_cannot_be_read_leave_no_half_a_node(self, folder):
        folder.mkdir()
        (folder / "peers.toml").write_text("no TOML")
        with pytest.raises(TrustFileError):
            Node.create(folder)
        peers(folder, "bob")
        assert Node.load(folder).trust["bob"].public == BOB.public

    def test_a_file_is_no_folder(self, tmp_path):
        path = tmp_path / "file"
        path.write_text("")
        with pytest.raises(KeyFileError, match=f"{path} is not a folder"):
            Node.create(path)
        with pytest.raises(KeyFileError, match=f"cannot make {path}/below: "):
            Node.create(path / "below")

    def test_what_the_system_refuses_is_a_key_file_error(self, tmp_path):
        with pytest.raises(KeyFileError, match="cannot make"):
            Node.create(tmp_path / ("x" * 300))

    def test_the_replay_memory_is_born_with_the_key_and_waits_for_nothing(self, folder):
        Node.create(folder)
        with Node.load(folder) as node:
            guard = node.replay.guard("d", b"s" * 16, "c")
            guard.check(b"s" * 16, 0, 0, full_at=1, expected=False)

    def test_a_passphrase_locks_the_identity(self, folder):
        node = Node.create(folder, "correct horse")
        with pytest.raises(KeyFileError, match="is locked; give its passphrase"):
            Node.load(folder)
        assert Node.load(folder, "correct horse").identity.public == node.identity.public

    @pytest.mark.parametrize("passphrase", ["", b"bytes", 5])
    def test_a_passphrase_that_is_none_leaves_no_identity(self, folder, passphrase):
        with pytest.raises(UsageError, match="the passphrase is a non-empty str"):
            Node.create(folder, passphrase)
        assert not (folder / "identity.key").exists()
        assert Node.create(folder).path == folder


class TestLoad:
    def test_it_takes_up_identity_and_peers(self, folder):
        created = Node.create(folder)
        peers(folder, "bob", "carol")
        node = Node.load(folder)
        assert node.identity.public == created.identity.public
        assert [peer.name for peer in node.trust] == ["bob", "carol"]

    @pytest.mark.audit("R2")
    def test_replay_memory_that_was_lost_begins_cold(self, folder):
        Node.create(folder)
        (folder / "replay.db").unlink()
        with Node.load(folder) as node:
            guard = node.replay.guard("d", b"s" * 16, "c")
            with pytest.raises(BeforeStartError):
                guard.check(b"s" * 16, 0, clocks.wall(), full_at=1, expected=False)

    def test_a_missing_folder_says_what_to_do(self, folder):
        with pytest.raises(KeyFileError) as raised:
            Node.load(folder)
        says = f"{folder} is not a node; make it with: envelope keygen --node {folder}"
        assert str(raised.value) == says

    def test_a_folder_or_file_that_is_no_node_says_what_to_do(self, folder, tmp_path):
        folder.mkdir()
        (tmp_path / "file").write_text("")
        for place in (folder, tmp_path / "file"):
            with pytest.raises(KeyFileError, match="is not a node; make it with: envelope keygen"):
                Node.load(place)
        # What it says does.
        Node.create(folder)
        assert Node.load(folder)

    def test_a_folder_that_cannot_be_looked_into_is_not_said_to_be_empty(self):
        with pytest.raises(KeyFileError, match="File name too long"):
            Node.load("x" * 5000)
        with pytest.raises(KeyFileError, match="names no file"):
            Node.load("nul\0")

    @pytest.mark.audit("K7")
    def test_an_identity_that_others_can_read_is_refused(self, folder):
        Node.create(folder)
        (folder / "identity.key").chmod(0o640)
        with pytest.raises(KeyFileError, match="chmod 600"):
            Node.load(folder)

    def test_peers_must_be_there_and_right(self, folder):
        Node.create(folder)
        (folder / "peers.toml").write_text('[[peer]]\nname = "bob"\n')
        with pytest.raises(TrustFileError, match=r"peers.toml, line 1: key is missing"):
            Node.load(folder)
        (folder / "peers.toml").unlink()
        with pytest.raises(TrustFileError, match="does not exist"):
            Node.load(folder)


class TestDurability:
    @pytest.mark.audit("A3", "R2")
    def test_what_was_accepted_before_a_restart_is_refused_after_it(self, folder, tmp_path):
        alice = Node.create(tmp_path / "alice")
        data = alice.sealer("orders").seal(b"once")
        with Node.create(folder) as node:
            (folder / "peers.toml").write_text(
                f'[[peer]]\nname = "alice"\nkey = "{alice.identity.public}"\n'
                'contexts = ["orders"]\n'
            )
        for node in (Node.load(folder), Node.load(folder)):
            with node:
                opener = node.opener("orders")
                if node.replay.state() == {}:
                    assert opener.open(data).payload == b"once"
                else:
                    with pytest.raises(ReplayedError):
                        opener.open(data)
                assert node.opener("orders").replay is opener.replay

    @pytest.mark.audit("R2", "R6")
    def test_a_key_in_place_of_another_one_has_no_memory_to_open_by(self, folder):
        accepted = Sealer(BOB, context="orders").seal(b"once")
        old = Node.create(folder)
        peers(folder, "bob")
        with old as node:
            node.trust.reload()
            assert node.opener("orders").open(accepted).payload == b"once"
        (folder / "identity.key").rename(folder / "old.key")
        new = Identity.generate()
        new.save(folder / "identity.key")
        was, now = old.identity.key_id.hex(), new.key_id.hex()
        with Node.load(folder) as node, pytest.raises(StoreFileError) as raised:
            node.opener("orders")
        assert f"that of {was}, and its identity is {now}: what was" in str(raised.value)
        # What it says does: the old key in its place, and the new one beside it.
        (folder / "old.key").replace(folder / "identity.key")
        with Node.load(folder) as node:
            node.opener("orders")
            both = Opener(
                node.trust,
                context="orders",
                identity=[new, node.identity],
                replay=node.replay,
                domain=was,
            )
            with pytest.raises(ReplayedError):
                both.open(accepted)

    def test_a_key_may_take_the_place_of_one_that_opened_nothing(self, folder):
        Node.create(folder).close()
        (folder / "identity.key").unlink()
        Identity.generate().save(folder / "identity.key")
        with Node.load(folder) as node:
            node.opener("orders")

    def test_a_memory_that_knows_several_keys_is_also_this_ones(self, folder):
        with Node.create(folder) as node:
            for domain in ("another", node.identity.key_id.hex()):
                node.replay.guard(domain, b"s" * 16, "orders")
            assert node.replay.domains == {"another", node.identity.key_id.hex()}
            node.opener("orders")

    def test_many_may_seal_and_one_may_open(self, folder):
        with Node.create(folder) as node, Node.load(folder) as other:
            node.opener("orders")
            other.sealer("orders").seal(b"")
            with pytest.raises(StoreFileError, match="open in this process already"):
                other.opener("orders")
            node.close()
            other.opener("orders")

    def test_a_replay_store_that_cannot_be_used_is_told_when_it_is_needed(self, folder):
        Node.create(folder)
        (folder / "replay.db").write_bytes(b"x" * 5000)
        node = Node.load(folder)
        with pytest.raises(StoreFileError, match="cannot be used"):
            node.opener("orders")


class TestUse:
    @pytest.fixture
    def alice(self, tmp_path):
        return Node.create(tmp_path / "alice")

    @pytest.fixture
    def bob(self, tmp_path, alice):
        bob = Node.create(tmp_path / "bob")
        for node, name, other in ((alice, "bob", bob), (bob, "alice", alice)):
            (node.path / "peers.toml").write_text(
                f'[[peer]]\nname = "{name}"\nkey = "{other.identity.public}"\n'
                'contexts = ["orders"]\n'
            )
            node.trust.reload()
        return bob

    @pytest.mark.parametrize(
        ("options", "sealed", "addressed"),
        [
            ({}, False, False),
            ({"to": ["bob"]}, True, True),
            ({"to": ["bob"], "sealed": False}, False, True),
        ],
    )
    def test_what_one_seals_the_other_opens_once(self, alice, bob, options, sealed, addressed):
        sealer = alice.sealer("orders", **options)
        assert (sealer.sealed, sealer.addressed) == (sealed, addressed)
        data = sealer.seal(b"x")
        message = bob.opener("orders").open(data)
        assert (message.sender.name, message.payload, message.sealed) == ("alice", b"x", sealed)
        with pytest.raises(ReplayedError):
            bob.opener("orders").open(data)

    def test_recipients_are_names_peers_or_public_identities(self, alice, bob):
        for one in ("bob", alice.trust["bob"], bob.identity.public):
            data = alice.sealer("orders", to=[one]).seal(b"x")
            assert bob.opener("orders").open(data).sealed

    @pytest.mark.usefixtures("bob")
    def test_a_recipient_by_name_follows_the_trust_store(self, alice):
        sealer = alice.sealer("orders", to=["bob"])
        peers(alice.path, "carol")
        alice.trust.reload()
        with pytest.raises(UsageError, match="gone"):
            sealer.seal(b"x")

    def test_an_opener_has_the_policy_that_it_is_given(self, alice, bob):
        assert bob.opener("orders").policy == Policy()
        strict = bob.opener("orders", policy=Policy(require="sealed"))
        with pytest.raises(RejectedError, match="policy"):
            strict.open(alice.sealer("orders").seal(b"x"))
        assert strict.replay is bob.replay
        assert strict.domain == bob.identity.key_id.hex()

    @pytest.mark.audit("A5")
    def test_contexts_keep_apart(self, alice, bob):
        with pytest.raises(RejectedError, match="bad_signature"):
            bob.opener("orders").open(alice.sealer("stock").seal(b"x"))

    def test_an_unknown_name_is_a_usage_error(self, alice):
        with pytest.raises(UsageError, match="no peer is named 'dave'"):
            alice.sealer("orders", to=["dave"])

    @pytest.mark.parametrize(
        "to", ["bob", BOB.public, Peer("bob", BOB.public, contexts=["*"]), 5, None]
    )
    def test_recipients_are_a_list(self, alice, to):
        with pytest.raises(UsageError, match="to is a list"):
            alice.sealer("orders", to=to)

    @pytest.mark.parametrize("to", [[BOB], [b"bob"], [5], b"bob"])
    def test_a_recipient_is_never_a_secret_or_bytes(self, alice, to):
        with pytest.raises(UsageError):
            alice.sealer("orders", to=to)

    def test_wrong_arguments_are_those_of_sealer_and_opener(self, alice):
        with pytest.raises(UsageError, match="context"):
            alice.sealer("")
        with pytest.raises(UsageError, match="context"):
            alice.opener(b"orders")
        with pytest.raises(UsageError, match="sealing needs recipients"):
            alice.sealer("orders", sealed=True)
        with pytest.raises(UsageError, match="policy is a Policy"):
            alice.opener("orders", policy="sealed")

    @pytest.mark.audit("K5")
    def test_printing_it_shows_the_folder_and_no_secret(self, alice):
        assert repr(alice) == f"<Node {alice.path} {alice.identity.key_id.hex()}>"
        assert World().alice.export() not in repr(alice)
