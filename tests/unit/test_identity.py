"""Identities: what is derived from a seed, what is checked, and what never prints.

The second half is about secrets: by which doors of Python an object could leak
one, and that each is shut.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import io
import json
import logging
import pickle
import pprint
import traceback
from types import SimpleNamespace

import pytest
from nacl.bindings import crypto_scalarmult_base, crypto_sign_seed_keypair
from support import World, flip, seeded

from envelope import (
    Identity,
    KeyFileError,
    Node,
    Peer,
    Policy,
    PublicIdentity,
    RejectedError,
    TrustStore,
    UsageError,
    keyblock,
    keyfile,
)
from envelope import identity as identities
from envelope.errors import StoreUnavailableError
from envelope.identity import read_handle
from envelope.keyfile import Cost
from envelope.replay import MemoryReplayStore

SEED = bytes(range(7, 39))
ME = Identity(SEED)
OTHER = Identity(bytes(32))


def blake(label: bytes, *data: bytes, key: bytes = b"") -> bytes:
    """Return the full hash of SPEC 2.2."""
    return hashlib.blake2b(label.ljust(128, b"\0") + b"".join(data), key=key).digest()


# --- Derivation ------------------------------------------------------------------------


@pytest.mark.audit("K2", "K4")
def test_both_keys_are_derived_from_the_seed_as_spec_3_1_says():
    ed_seed = blake(b"env1-ed25519", key=SEED)[:32]
    x_secret = blake(b"env1-x25519", key=SEED)[:32]
    signing_public, signing_secret = crypto_sign_seed_keypair(ed_seed)
    assert ME.public.public == signing_public + crypto_scalarmult_base(x_secret)
    assert (ME._sign_secret, ME._x_secret) == (signing_secret, x_secret)
    assert len({ed_seed, x_secret, SEED, blake(b"env1-hedge", key=SEED)[:32]}) == 4


@pytest.mark.audit("C6", "K4")
def test_the_hedges_are_keyed_by_the_seeds_hedge_under_their_own_labels():
    hedge = blake(b"env1-hedge", key=SEED)[:32]
    for state, label in (
        (ME._epoch_hedge, b"env1-epoch"),
        (ME._nonce_hedge, b"env1-nonce"),
        (ME._stream_hedge, b"env1-stream"),
    ):
        state = state.copy()  # noqa: PLW2901 (the identity's own stays as it is)
        state.update(b"data")
        assert state.digest() == blake(label, b"data", key=hedge)


@pytest.mark.audit("A12")
def test_the_key_id_is_that_of_spec_3_3():
    assert ME.public.key_id == blake(b"env1-keyid", ME.public.public)[:16]
    assert ME.key_id == ME.public.key_id


@pytest.mark.audit("K1")
@pytest.mark.parametrize(
    "seed", [b"", bytes(31), bytes(33), bytes(64), bytearray(32), "x" * 32, 32]
)
def test_a_seed_is_32_bytes_and_never_a_64_byte_secret(seed):
    with pytest.raises(UsageError, match="the seed of an identity is 32 random bytes"):
        Identity(seed)


@pytest.mark.audit("K1")
def test_a_new_identity_takes_its_seed_from_the_source_of_randomness():
    asked = []

    def source(n):
        asked.append(n)
        return SEED

    assert Identity.generate(random=source).public == ME.public
    assert asked == [32]
    assert Identity.generate().public != Identity.generate().public


# --- The public half -------------------------------------------------------------------


@pytest.mark.audit("K3")
def test_the_text_of_a_public_identity_reads_back():
    written = str(ME.public)
    raw = ME.public.public + blake(b"env1-text", b"envpub1", ME.public.public)[:6]
    assert written == "envpub1" + base64.b32encode(raw).decode().lower()
    assert PublicIdentity.parse(written) == ME.public
    assert f"{ME.public}" == written
    assert repr(ME.public) == f"<PublicIdentity {ME.key_id.hex()}>"


@pytest.mark.audit("K1")
@pytest.mark.parametrize("public", [b"", bytes(63), bytes(65), bytearray(64), "x" * 64, None])
def test_a_public_identity_is_64_bytes(public):
    with pytest.raises(UsageError) as raised:
        PublicIdentity(public)
    assert str(raised.value) == "a public identity is 64 bytes"


@pytest.mark.audit("K1", "C10", "A15")
def test_public_identities_are_told_apart_by_their_hash():
    assert len({hash(Identity(bytes([number]) * 32).public) for number in range(3)}) == 3


def test_an_identity_that_a_traceback_shows_half_made_shows_no_key_id():
    assert repr(PublicIdentity.__new__(PublicIdentity)) == "<PublicIdentity >"
    assert repr(Identity.__new__(Identity)) == "<Identity of nobody>"


@pytest.mark.parametrize("half", [bytes(32), b"\1" + bytes(31), b"\xff" * 32, b"\2" + bytes(31)])
def test_an_unsound_ed25519_half_is_refused(half):
    with pytest.raises(UsageError) as raised:
        PublicIdentity(half + ME.public.public[32:])
    assert str(raised.value) == "the Ed25519 half is not a canonical point of prime order"


@pytest.mark.audit("K1", "C10")
@pytest.mark.parametrize(
    "half", [bytes(32), b"\1" + bytes(31), b"\xff" * 32, b"\x09" + b"\xff" * 31]
)
def test_an_unsound_x25519_half_is_refused(half):
    with pytest.raises(UsageError) as raised:
        PublicIdentity(ME.public.public[:32] + half)
    assert str(raised.value) == "the X25519 half is not canonical, or of low order"


@pytest.mark.audit("K1")
def test_the_halves_are_not_exchanged():
    public = ME.public.public
    assert PublicIdentity(public).public == public
    # u = 2 is no y of any point: sound as the second half alone.
    assert PublicIdentity(public[:32] + b"\2" + bytes(31))
    with pytest.raises(UsageError, match="Ed25519"):
        PublicIdentity(b"\2" + bytes(31) + public[:32])


@pytest.mark.audit("K3")
def test_a_secret_text_is_not_read_as_a_public_one_and_the_other_way_round():
    with pytest.raises(UsageError, match="begins with envpub1"):
        PublicIdentity.parse(ME.export())
    with pytest.raises(UsageError, match="begins with envsec1"):
        Identity.parse(str(ME.public))


def test_a_public_identity_compares_by_both_keys():
    twin = PublicIdentity(ME.public.public)
    assert twin == ME.public
    assert hash(twin) == hash(ME.public)
    half = PublicIdentity(ME.public.public[:32] + OTHER.public.public[32:])
    assert half not in {twin, OTHER.public}
    assert ME.public != str(ME.public)
    assert ME.public != ME.public.public
    assert (ME.public == 7) is False


def test_a_public_identity_never_changes():
    for name in ("public", "key_id", "more"):
        with pytest.raises(AttributeError, match="PublicIdentity is immutable"):
            setattr(ME.public, name, b"")
    with pytest.raises(AttributeError, match="PublicIdentity is immutable"):
        del ME.public.key_id
    assert not hasattr(ME.public, "__dict__")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_public_identity_is_pickled_by_value_and_checked_again(protocol):
    pickled = pickle.dumps(ME.public, protocol)
    assert pickle.loads(pickled) == ME.public
    # A pickle in which the Ed25519 half was made unsound.
    make, (public,) = ME.public.__reduce__()
    assert (make, public) == (PublicIdentity, ME.public.public)
    with pytest.raises(UsageError):
        make(bytes(32) + public[32:])
    assert copy.copy(ME.public) == copy.deepcopy(ME.public) == ME.public


# --- Ways in and out -------------------------------------------------------------------


@pytest.mark.audit("K2", "K3")
def test_the_secret_text_is_that_of_spec_13_1_and_reads_back():
    raw = SEED + blake(b"env1-text", b"envsec1", SEED)[:8]
    assert ME.export() == "envsec1" + base64.b32encode(raw).decode().lower()
    assert Identity.parse(ME.export())._seed == SEED


def test_an_identity_is_read_from_the_environment(monkeypatch):
    monkeypatch.setenv("ENVELOPE_IDENTITY", ME.export())
    assert Identity.from_env().public == ME.public
    monkeypatch.setenv("MY_KEY", OTHER.export())
    assert Identity.from_env("MY_KEY").public == OTHER.public
    monkeypatch.delenv("ENVELOPE_IDENTITY")
    with pytest.raises(KeyFileError) as raised:
        Identity.from_env()
    assert str(raised.value) == "the environment variable ENVELOPE_IDENTITY is not set"


@pytest.mark.audit("K5")
@pytest.mark.parametrize("damage", [lambda s: s[:-1], lambda s: s + "\n", lambda s: s[:-2] + "aa"])
def test_a_damaged_variable_is_named_and_not_repeated(monkeypatch, damage):
    monkeypatch.setenv("MY_KEY", damage(ME.export()))
    with pytest.raises(KeyFileError) as raised:
        Identity.from_env("MY_KEY")
    assert str(raised.value).startswith("the environment variable MY_KEY: this envsec1... text")
    assert ME.export()[7:20] not in str(raised.value)
    assert raised.value.__suppress_context__
    assert raised.value.__cause__ is None


class TestReadHandle:
    """Of descriptors that are not there: what is read, how much of it, and what is closed."""

    @pytest.fixture
    def pieces(self, monkeypatch):
        """What arrives, piece by piece; behind it the end."""
        self.asked, self.closed, coming = [], [], []

        def read(fd, size):
            self.asked.append(size)
            return coming.pop(0)[:size] if coming else b""

        system = SimpleNamespace(read=read, close=self.closed.append)
        monkeypatch.setattr(identities, "os", system)
        return coming

    @pytest.mark.parametrize(("fd", "closed"), [(0, []), (1, []), (2, []), (3, [3]), (99, [99])])
    def test_all_but_standard_input_output_and_error_are_closed(self, pieces, fd, closed):
        pieces += [b"one", b" line"]
        assert read_handle(fd, 10) == "one line"
        assert self.closed == closed

    def test_the_limit_is_reached_exactly_also_in_pieces(self, pieces):
        pieces += [b"abc", b"d"]
        assert read_handle(3, 4) == "abcd"
        assert self.asked == [5, 2, 1]
        pieces += [b"abcd", b"e", b"f"]
        with pytest.raises(KeyFileError, match="file descriptor 3 holds something else than"):
            read_handle(3, 4)
        assert pieces == [b"f"]
        assert self.closed == [3, 3]

    def test_no_more_than_64_kib_are_read_at_once(self, pieces):
        pieces += [b"a" * 65_536, b"b"]
        assert len(read_handle(3, 100_000)) == 65_537
        assert self.asked == [65_536, 34_465, 34_464]

    @pytest.mark.parametrize(
        ("content", "line"),
        [
            (b"", ""),
            (b"\n", ""),
            (b"a\n", "a"),
            (b"a\n\n", "a\n"),
            (b"\na", "\na"),
            (b"a\r\n", "a\r"),
            (b" a ", " a "),
        ],
    )
    def test_one_line_feed_at_the_end_is_dropped_and_nothing_else(self, pieces, content, line):
        pieces.append(content)
        assert read_handle(3, 10) == line

    @pytest.mark.parametrize("content", [b"\x80", b"a\xff", "é".encode()])
    def test_what_is_not_ascii_is_refused_and_not_repeated(self, pieces, content):
        pieces.append(content)
        with pytest.raises(KeyFileError) as refused:
            read_handle(7, 10)
        assert str(refused.value) == "file descriptor 7 holds something else than was expected"

    def test_the_text_of_an_identity_is_looked_for_in_4096_bytes(self, pieces):
        pieces.append(b"x" * 4096)
        with pytest.raises(KeyFileError, match="begins with envsec1"):
            Identity.from_fd(3)
        pieces.append(b"x" * 4097)
        with pytest.raises(KeyFileError, match="something else"):
            Identity.from_fd(3)

    @pytest.mark.parametrize("fd", [2**31 - 1, 0])
    def test_the_numbers_of_descriptors_are_what_a_c_int_holds(self, pieces, fd):
        assert read_handle(fd, 10) == ""
        for wrong in (2**31, -1, True, 3.0, None):
            with pytest.raises(UsageError, match="number of an open file descriptor"):
                read_handle(wrong, 10)


@pytest.mark.parametrize("passphrase", [None, "correct horse"])
def test_an_identity_is_saved_with_its_public_half_beside_it(tmp_path, monkeypatch, passphrase):
    # The usual cost takes a second; what it is, is tested where it stands.
    monkeypatch.setitem(keyfile.save.__kwdefaults__, "cost", Cost(1, 8))
    path = tmp_path / "me.key"
    ME.save(path, passphrase)
    first, line = path.read_text(encoding="utf-8").splitlines()
    assert first == f"# public: {ME.public}"
    assert line.startswith("envsec1" if passphrase is None else "envkey1")
    loaded = Identity.load(str(path), passphrase)
    assert (loaded._seed, type(loaded)) == (SEED, Identity)
    assert Identity.load(path, passphrase=passphrase).public == ME.public


def test_without_a_passphrase_a_file_is_not_locked_and_a_locked_one_not_opened(
    tmp_path, monkeypatch
):
    monkeypatch.setitem(keyfile.save.__kwdefaults__, "cost", Cost(1, 8))
    ME.save(tmp_path / "open.key")
    assert Identity.load(tmp_path / "open.key").public == ME.public
    ME.save(tmp_path / "locked.key", "correct horse")
    with pytest.raises(KeyFileError, match="is locked; give its passphrase"):
        Identity.load(tmp_path / "locked.key")


# --- Secrets ---------------------------------------------------------------------------


def forms(secret: bytes) -> set[str]:
    """Return how a secret looks when something prints it."""
    return {
        repr(secret)[2:-1][:24],
        secret.hex()[:24],
        base64.b64encode(secret).decode()[:24],
        str(list(secret))[1:40],
    }


def secrets_of(*identities: Identity) -> set[str]:
    found = {identity.export()[7:40] for identity in identities}
    for identity in identities:
        for secret in (identity._seed, identity._x_secret, identity._sign_secret):
            found |= forms(secret)
        found |= forms(blake(b"env1-hedge", key=identity._seed)[:32])
    return found


class Holders:
    """One of every object that holds a secret, or stands beside one."""

    def __init__(self, folder):
        world = World()
        self.secrets = secrets_of(world.alice, world.bob)
        sealer = world.sealer(to=[world.bob.public])
        opener = world.opener()
        opener.open(sealer.seal(b"warm"))
        node = Node.create(folder / "node")
        self.secrets |= secrets_of(node.identity)
        self.objects = {
            "identity": world.alice,
            "public": world.alice.public,
            "sealer": sealer,
            "opener": opener,
            "node": node,
            "store": world.store(),
            "trust": world.trust,
            "peer": world.trust["alice"],
        }

    def leaks(self, shown: str) -> set[str]:
        return {secret for secret in self.secrets if secret in shown}


NAMES = ["identity", "public", "sealer", "opener", "node", "store", "trust", "peer"]


@pytest.fixture
def holders(tmp_path):
    return Holders(tmp_path)


@pytest.mark.filterwarnings("ignore::BytesWarning")  # how a secret is shown by mistake
def test_the_search_finds_secrets_however_they_are_shown(holders):
    alice = holders.objects["identity"]
    assert set(holders.objects) == set(NAMES)
    for shown in (
        alice.export(),
        repr(alice._seed),
        alice._x_secret.hex(),
        f"{alice._sign_secret}",
    ):
        assert holders.leaks(shown)


def logged(value):
    """Return what a log file would hold."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    record = logging.LogRecord("x", logging.INFO, "p", 1, "%s %r", (value, value), None)
    handler.emit(record)
    return stream.getvalue()


@pytest.mark.audit("K5")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        ascii,
        format,
        "{}".format,
        lambda value: f"{value} {value!r} {value!s} {value!a}",
        lambda value: "%s %r %a" % (value, value, value),  # noqa: UP031 (the door under test)
        logged,
        pprint.pformat,
        lambda value: json.dumps({"value": value}, default=repr),
        lambda value: str(dir(value)),
        lambda value: str([value, {value: value}, (value,)]),
    ],
)
def test_no_secret_is_shown(holders, name, show):
    assert not holders.leaks(show(holders.objects[name]))


@pytest.mark.audit("K5")
@pytest.mark.parametrize("name", NAMES)
def test_no_secret_lies_in_the_variables_of_an_object(holders, name):
    # What error reporters and inspectors print of an object.
    value = holders.objects[name]
    assert not holders.leaks(repr(getattr(value, "__dict__", {})))


@pytest.mark.audit("K5")
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", ["identity", "sealer", "opener", "node", "store"])
def test_what_holds_a_secret_or_a_memory_is_not_pickled(holders, name, protocol):
    with pytest.raises(TypeError) as raised:
        pickle.dumps(holders.objects[name], protocol)
    assert not holders.leaks(str(raised.value))


@pytest.mark.audit("K5")
def test_the_refusal_to_pickle_names_the_way_out():
    with pytest.raises(TypeError, match=r"export\(\), from_env\(\) or a key file"):
        pickle.dumps(ME)


@pytest.mark.audit("K5")
def test_a_copy_of_an_identity_is_the_same_object():
    assert copy.copy(ME) is ME
    assert copy.deepcopy(ME) is ME
    assert copy.deepcopy({"me": [ME]})["me"][0] is ME


@pytest.mark.audit("C6")
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_sealer_is_not_copied(holders, copied):
    with pytest.raises(TypeError, match="a Sealer is not copied or pickled"):
        copied(holders.objects["sealer"])


@pytest.mark.audit("R1")
def test_a_replay_memory_is_not_deepened_into_two():
    with pytest.raises(TypeError):
        copy.deepcopy(MemoryReplayStore())


@pytest.mark.audit("K5")
def test_an_identity_has_no_variables_and_none_can_be_added():
    with pytest.raises(TypeError):
        vars(ME)
    with pytest.raises(AttributeError):
        ME.more = 1
    assert repr(ME) == str(ME) == f"<Identity {ME.key_id.hex()}>"


@pytest.mark.audit("K5")
def test_the_state_of_an_identity_is_not_handed_out():
    # What copyreg, and serialisers that imitate it, ask for.
    with pytest.raises(TypeError):
        ME.__getstate__()


@pytest.mark.parametrize("name", ["public", "_seed", "_sign_secret"])
def test_an_identity_never_changes(name):
    mine = Identity(SEED)
    with pytest.raises(AttributeError):
        setattr(mine, name, getattr(OTHER, name))
    with pytest.raises(AttributeError):
        delattr(mine, name)


def test_identities_are_distinct_objects_of_a_set():
    assert Identity(SEED) != ME
    assert len({ME, Identity(SEED)}) == 2


def trace(error: BaseException, *, capture_locals: bool) -> str:
    return "".join(
        traceback.TracebackException.from_exception(error, capture_locals=capture_locals).format()
    )


def raised_by(call, *kinds):
    with pytest.raises(kinds) as raised:
        call()
    return raised.value


class Calls:
    """Calls that fail, each beside the secrets that it had in hand."""

    def __init__(self, folder):
        self.folder = folder
        world = self.world = World()
        self.secrets = secrets_of(world.alice, world.bob)
        self.sealed = world.sealer(to=[world.bob.public]).seal(b"payload")
        self.path = folder / "alice.key"
        keyfile.save(
            self.path,
            world.alice._seed,
            comment="",
            passphrase="correct horse",
            random=seeded(),
            cost=Cost(1, 8),
        )

    def seal_wrong(self):
        self.world.sealer(to=[self.world.bob.public]).seal("text")

    def seal_large(self):
        self.world.sealer(to=[self.world.bob.public], max_size=300).seal(bytes(300))

    def open_flipped(self):
        self.world.opener().open(flip(self.sealed, 210))

    def open_other_context(self):
        self.world.opener().open(self.sealed, bound=[b"topic"])

    def open_short(self):
        self.world.opener().open(self.sealed[:-1])

    def pickle_identity(self):
        pickle.dumps(self.world.alice)

    def sealed_to_secret(self):
        self.world.sealer(to=[self.world.bob])

    def damaged_text(self):
        Identity.parse(self.world.alice.export()[:-1] + "a")

    def short_seed(self):
        Identity(self.world.alice._seed[:-1])

    def wrong_passphrase(self):
        Identity.load(self.path, "correct house")

    def unwrap_other(self):
        keyblock.unwrap(
            self.world.carol,
            self.world.alice.public,
            stream=bytes(16),
            keys=self.sealed[80:144],
            entry=self.sealed[144:208],
        )


FAILING = [name for name in vars(Calls) if not name.startswith("_")]
HOLDS = ["seal_wrong", "seal_large", "open_flipped", "open_other_context", "open_short"]
HOLDS += ["pickle_identity", "wrong_passphrase"]


@pytest.mark.audit("K5")
@pytest.mark.parametrize("name", FAILING)
def test_no_traceback_shows_a_secret(tmp_path, name):
    calls = Calls(tmp_path)
    error = raised_by(getattr(calls, name), UsageError, RejectedError, KeyFileError, TypeError)
    shown = trace(error, capture_locals=False)
    assert not {secret for secret in calls.secrets if secret in shown}


@pytest.mark.audit("K5")
@pytest.mark.parametrize("name", HOLDS)
def test_no_traceback_with_the_values_of_variables_shows_a_key(tmp_path, name):
    # Holds wherever a caller has no raw secret in a variable. Reading a secret
    # (a text, a seed) has it in hand, and there the values do show it.
    calls = Calls(tmp_path)
    error = raised_by(getattr(calls, name), UsageError, RejectedError, KeyFileError, TypeError)
    shown = trace(error, capture_locals=True)
    assert not {secret for secret in calls.secrets if secret in shown}


@pytest.mark.audit("K5")
@pytest.mark.parametrize(
    "make",
    [
        lambda: World().sealer(to=[ME]),
        lambda: World().sealer(context=""),
        lambda: World().opener(trust=None),
        lambda: World().opener(context=""),
        lambda: World().trust.replace([None]),
        lambda: TrustStore([None]),
        lambda: PublicIdentity(b""),
        lambda: Identity(b""),
        lambda: Policy(window=1),
        lambda: Peer("a", None, contexts=["a"]),
    ],
)
def test_the_error_of_a_constructor_can_be_shown_with_the_values_of_variables(make):
    # The object is half made, and its repr must bear that: until Python 3.12 a
    # repr that raises takes the place of the error that was to be shown.
    error = raised_by(make, UsageError)
    assert str(error) in trace(error, capture_locals=True)


class Down(MemoryReplayStore):
    """A replay memory that answers, and then cannot remember."""

    def guard(self, *_place):
        return self

    def check(self, *_place, **_limits):
        """Find nothing that speaks against the envelope."""

    def mark(self, *_place, **_limits):
        raise StoreUnavailableError


@pytest.mark.audit("K5", "E3")
def test_a_refusal_after_decryption_shows_neither_the_payload_nor_its_key():
    # Error reporters send the values of variables home; what was refused was
    # not delivered, and has no business there.
    world = World()
    sealer = world.sealer(to=[world.bob.public])
    opener = world.opener(replay=Down(clock=world.clock))
    data = sealer.seal(b"between the two of us")
    error = raised_by(lambda: opener.open(data), StoreUnavailableError)
    shown = trace(error, capture_locals=True)
    assert "between the two of us" not in shown
    assert not {secret for secret in forms(sealer._epoch.aead_key) if secret in shown}
