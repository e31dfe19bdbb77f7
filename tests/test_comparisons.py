"""No secret is compared in time that depends on it: E2, read from the syntax tree.

Rules of this file: whatever is named like a secret or a MAC and stands in a comparison
is found, wherever in the package; what is no secret after all is excused here, by its
very text and with the reason. `equal` of `primitives` is the one way to compare one.
"""

from __future__ import annotations

import ast
import hmac
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import envelope
from envelope import primitives

# The package that is tested: beside the tests, or installed.
ROOT = Path(envelope.__file__).parent.parent
MODULES = sorted((ROOT / "envelope").rglob("*.py"))

SECRET_WORDS = {
    "answer", "chain", "commit", "commitment", "com", "confirm", "confirmation", "confirmations",
    "ed", "ephemeral", "hedge", "hmac", "kek", "key", "keys", "line", "mac", "macs", "passphrase",
    "password", "pin", "raw", "secret", "secrets", "seed", "seeds", "shared", "sig", "signature",
    "tag", "tags", "token", "tokens", "wrap", "wrapped",
}  # fmt: skip
"""Words of names that hold a secret, or what proves one: split at underscores."""
PUBLIC_NAMES = {
    "key_id", "key_ids", "key_id_size", "key_size", "tag_size", "key_block", "key_error",
    "signature_size", "public_key", "is_key", "on_key",
}  # fmt: skip
"""Names with such a word that are sizes or travel in clear."""
MAKERS = {"H", "_commit", "digest", "export", "hkdf_blake2b", "x25519", "argon2id"}
"""Calls whose result is a secret or a MAC, whatever it is named."""
MEASURES = {"len", "type", "isinstance", "id", "bool"}
"""Calls that say nothing of the content."""
SEARCHES = {"startswith", "endswith", "find", "rfind", "index", "rindex", "count", "__eq__"}
"""Methods that compare and stop early."""

EXCUSED = {
    ("envelope/cli/passphrases.py", "line.startswith(text.LOCKED.encode())"): (
        "asks for the kind of a key file, which is its first seven letters"
    ),
    ("envelope/cli/passphrases.py", "_ask('Again: ') != answer"): (
        "two answers of one person at the terminal; nobody else gives one or sees the verdict"
    ),
    ("envelope/cli/pairing.py", "answer.lower() in ('y', 'yes')"): (
        "yes or no, of the person at the terminal"
    ),
    ("envelope/cli/passphrases.py", "'\\n' in line"): (
        "a line feed in the owner's own passphrase file is an error, once, before any use"
    ),
    ("envelope/keyfile.py", "line.startswith(text.LOCKED)"): (
        "asks for the kind of a key file, which is its first seven letters"
    ),
    ("envelope/text.py", "encode(kind, raw[:size]) != text"): (
        "a checksum against typing errors in a text that the caller has; it proves nothing to "
        "anybody, and nobody who is not given the text can offer another"
    ),
    ("envelope/opener.py", "cache_key not in sender.keys"): (
        "the place in the cache: stream, key block and entry, as they were on the wire"
    ),
    ("envelope/primitives.py", "int.from_bytes(key, 'little') >= _FIELD_PRIME"): (
        "a public key, which is read"
    ),
    ("envelope/replay/server.py", "line not in lines"): "what a server says of itself",
    ("envelope/session/link.py", "ours.ephemeral < ephemeral"): (
        "public keys of two initiations, both in clear on the wire: which one goes on"
    ),
    ("envelope/zeromq/challenges.py", "bucket.tokens > 0"): "tokens of a rate, counted",
    ("envelope/zeromq/relayfile.py", "key not in known"): "names of settings in a TOML file",
}
"""By module and comparison: why nothing is told there to who measures time."""


def is_secret(node: ast.expr) -> bool:
    """Tell whether an expression is named like a secret, in whole or in a part."""
    if isinstance(node, ast.Call):
        made_by = node.func
        name = made_by.id if isinstance(made_by, ast.Name) else getattr(made_by, "attr", "")
        if name in MEASURES:
            return False
        parts: list[ast.expr] = [made_by.value] if isinstance(made_by, ast.Attribute) else []
        return name in MAKERS or any(map(is_secret, [*parts, *node.args]))
    if isinstance(node, ast.Name | ast.Attribute):
        name = node.id if isinstance(node, ast.Name) else node.attr
        if name.lower().strip("_") in PUBLIC_NAMES:
            return False
        return not name.isupper() and bool(SECRET_WORDS & set(re.split("[_0-9]+", name)))
    children = ast.iter_child_nodes(node)
    return any(is_secret(child) for child in children if isinstance(child, ast.expr))


def compared(node: ast.AST) -> list[ast.expr]:
    """Return what a node compares; nothing if it is no comparison by content."""
    match node:
        case ast.Compare(ops=ops) if not all(isinstance(op, ast.Is | ast.IsNot) for op in ops):
            return [node.left, *node.comparators]
        case ast.Match():
            return [node.subject]
        case ast.Call(func=ast.Attribute(value=value, attr=attr)) if attr in SEARCHES:
            return [value, *node.args]
    return []


def comparisons(source: str) -> Iterator[str]:
    """Yield the text of each comparison of what may be a secret."""
    for node in ast.walk(ast.parse(source)):
        if any(map(is_secret, compared(node))):
            yield ast.unparse(node)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.audit("E2", "C5")
@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_secret_is_compared_but_in_constant_time(path):
    found = set(comparisons(path.read_text(encoding="utf-8")))
    excused = {text for module, text in EXCUSED if module == name_of(path)}
    assert found - excused == set(), "use primitives.equal, or say in EXCUSED why not"
    assert excused - found == set(), "excused, and not there any more"


def test_every_excuse_is_of_a_module_that_is_there():
    assert {module for module, _ in EXCUSED} <= set(map(name_of, MODULES))
    assert all(len(reason) > 10 for reason in EXCUSED.values())


@pytest.mark.audit("E2", "C5")
def test_the_commitment_is_compared_in_constant_time():
    # What else is compared of envelopes is inside libsodium; pairing has two of its own.
    source = (ROOT / "envelope" / "keyblock.py").read_text(encoding="utf-8")
    calls = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "equal"
    ]
    assert len(calls) == 1
    assert all(map(is_secret, calls[0].args))
    assert primitives.equal is hmac.compare_digest


@pytest.mark.parametrize(
    "bad",
    [
        "if tag == expected: pass",
        "return_value = expected != message.tag",
        "assert self._seed == other._seed",
        "x = commitment in seen",
        "x = [k for k in ring if k != content_key]",
        "x = commitment[:16] == wire[:16]",
        "x = bytes(commitment) == wire",
        "x = _commit(a, b) == wire",
        "x = hkdf_blake2b(a, b) == wire",
        "x = H(32, label, key=a) == wire",
        "x = state.digest() == wire",
        "x = key_1 < key_2",
        "x = a == b == secret",
        "x = (secret, 1) == (other, 1)",
        "x = secret.hex() == other",
        "x = (secret if a else b) == other",
        "x = f'{secret}' == other",
        "x = their_mac.startswith(our)",
        "x = our.find(their_mac)",
        "match confirm:\n    case b'': pass",
        "def f(peer):\n    return peer.confirm_key == b''",
    ],
)
def test_a_comparison_of_secrets_is_found(bad):
    assert len(set(comparisons(bad))) == 1


@pytest.mark.parametrize(
    "good",
    [
        "x = equal(tag, expected)",
        "x = len(secret) != 32",
        "x = type(seed) is not bytes or len(seed) != 32",
        "x = passphrase is None",
        "x = header.key_id == other.key_id",
        "x = peer.key_id in own",
        "x = at + TAG_SIZE > len(data)",
        "x = kind == SEALED",
    ],
)
def test_what_compares_no_secret_is_not_found(good):
    assert not set(comparisons(good))
