"""Who someone is: Identity and PublicIdentity (SPEC 3).

Rules of this file:

- Only the 32-byte seed is stored; everything else is computed from it. A 64-byte
  Ed25519 secret is never read.
- Public keys are checked when they are read, so whoever holds a PublicIdentity
  holds two sound keys.
- A secret has no repr, no str, no format, no pickle. It leaves by ``export()``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn, Self

from envelope import keyfile, text
from envelope.errors import KeyFileError, UsageError
from envelope.primitives import (
    H,
    Hasher,
    hasher,
    is_ed25519_public,
    is_x25519_public,
    random_bytes,
    signing_keypair,
    x25519_public,
)

PathText = str | os.PathLike[str]

_MAX_TEXT: Final = 4096
"""Bytes read in search of an identity; its text has 71."""
_MAX_HANDLE: Final = 2**31
"""What a C int holds."""


def read_handle(fd: int, limit: int) -> str:
    """Read one line of ASCII from a file descriptor to its end, and close it.

    Standard input, output and error stay open: their numbers would be given to
    whatever is opened next. One line feed at the end is dropped.

    Args:
        fd: the descriptor; a blocking one.
        limit: bytes, at most.

    Raises:
        KeyFileError: it cannot be read, holds more, or something else than ASCII. The
            message does not repeat it.
        UsageError: no descriptor.
    """
    if type(fd) is not int or not 0 <= fd < _MAX_HANDLE:
        raise UsageError("fd is the number of an open file descriptor")
    content = b""
    try:
        try:
            while len(content) <= limit and (
                more := os.read(fd, min(limit + 1 - len(content), 65_536))
            ):
                content += more
        finally:
            if fd > 2:
                os.close(fd)
    except OSError as error:
        raise KeyFileError(f"cannot read file descriptor {fd}: {error.strerror}") from None
    if len(content) > limit or not content.isascii():
        raise KeyFileError(f"file descriptor {fd} holds something else than was expected")
    return content.decode("ascii").removesuffix("\n")


class PublicIdentity:
    """The public half of an identity: an Ed25519 and an X25519 key, both checked.

    Immutable, hashable, safe to share between threads and to pickle. Compares by
    its keys. ``str()`` is its text form, ``envpub1...``.

    Attributes:
        public: PUB, 64 bytes (SPEC 3.2).
        key_id: 16 bytes (SPEC 3.3). It finds a key; it proves nothing.
    """

    __slots__ = ("key_id", "public")
    public: bytes
    key_id: bytes

    def __init__(self, public: bytes) -> None:
        """Take PUB, 64 bytes.

        Raises:
            UsageError: wrong size or type, or a key that is not sound (SPEC 3.4).
        """
        if type(public) is not bytes or len(public) != 64:
            raise UsageError("a public identity is 64 bytes")
        if not is_ed25519_public(public[:32]):
            raise UsageError("the Ed25519 half is not a canonical point of prime order")
        if not is_x25519_public(public[32:]):
            raise UsageError("the X25519 half is not canonical, or of low order")
        object.__setattr__(self, "public", public)
        object.__setattr__(self, "key_id", H(16, b"env1-keyid", public))

    @classmethod
    def parse(cls, public_text: str) -> Self:
        """Read the text form, ``envpub1...`` (SPEC 13.1).

        Raises:
            UsageError: not such a text, or the keys in it are not sound.
        """
        return cls(text.decode(text.PUBLIC, public_text))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        """Refuse: a public identity is a value."""
        raise AttributeError("PublicIdentity is immutable")

    def __delattr__(self, name: str) -> NoReturn:
        """Refuse: a public identity is a value."""
        raise AttributeError("PublicIdentity is immutable")

    def __str__(self) -> str:
        """Return the text form, which ``parse`` reads."""
        return text.encode(text.PUBLIC, self.public)

    def __repr__(self) -> str:
        """Return a short form for people: the key id."""
        key_id = getattr(self, "key_id", b"")  # A traceback may show one half made.
        return f"<PublicIdentity {key_id.hex()}>"

    def __eq__(self, other: object) -> bool:
        """Compare by both keys."""
        if not isinstance(other, PublicIdentity):
            return NotImplemented
        return self.public == other.public

    def __hash__(self) -> int:
        """Hash by both keys."""
        return hash(self.public)

    def __reduce__(self) -> tuple[type[Self], tuple[bytes]]:
        """Pickle by value; unpickling checks the keys again."""
        return type(self), (self.public,)


class Identity:
    """The secret half: who holds it can sign and decrypt in this name.

    Make one with ``generate``, ``load``, ``parse``, ``from_env`` or ``from_fd``. Immutable and
    safe to share between threads. It cannot be pickled, and prints as its key id.
    Python cannot promise to wipe memory: the seed stays in this process until
    the process ends.

    Attributes:
        public: the ``PublicIdentity`` to hand out.
        key_id: that of ``public``.
    """

    __slots__ = (
        "_epoch_hedge",
        "_nonce_hedge",
        "_seed",
        "_sign_secret",
        "_stream_hedge",
        "_x_secret",
        "public",
    )
    public: PublicIdentity
    _seed: bytes
    _sign_secret: bytes
    _x_secret: bytes
    _epoch_hedge: Hasher
    _nonce_hedge: Hasher
    _stream_hedge: Hasher

    def __init__(self, seed: bytes) -> None:
        """Take the seed: 32 bytes from a cryptographic source, never a password (SPEC 3.1).

        Raises:
            UsageError: wrong size or type.
        """
        if type(seed) is not bytes or len(seed) != 32:
            raise UsageError("the seed of an identity is 32 random bytes; use Identity.generate()")
        signing_public, signing_secret = signing_keypair(H(32, b"env1-ed25519", key=seed))
        x_secret = H(32, b"env1-x25519", key=seed)
        hedge = H(32, b"env1-hedge", key=seed)
        fix = object.__setattr__
        fix(self, "public", PublicIdentity(signing_public + x25519_public(x_secret)))
        fix(self, "_seed", seed)
        fix(self, "_sign_secret", signing_secret)
        fix(self, "_x_secret", x_secret)
        fix(self, "_epoch_hedge", hasher(b"env1-epoch", key=hedge))
        fix(self, "_nonce_hedge", hasher(b"env1-nonce", key=hedge))
        fix(self, "_stream_hedge", hasher(b"env1-stream", key=hedge))

    @property
    def key_id(self) -> bytes:
        """The 16-byte key id of the public half."""
        return self.public.key_id

    @classmethod
    def generate(cls, *, random: Callable[[int], bytes] = random_bytes) -> Self:
        """Make a new identity from the operating system's random source."""
        return cls(random(32))

    @classmethod
    def parse(cls, secret_text: str) -> Self:
        """Read the secret text form, ``envsec1...`` (SPEC 13.1).

        Raises:
            UsageError: not such a text; the message does not repeat it.
        """
        return cls(text.decode(text.SECRET, secret_text))

    @classmethod
    def from_env(cls, variable: str = "ENVELOPE_IDENTITY") -> Self:
        """Read the secret text form from an environment variable.

        The variable stays set, and child processes inherit it.

        Raises:
            KeyFileError: the variable is not set, or holds no identity.
        """
        value = os.environ.get(variable)
        if value is None:
            raise KeyFileError(f"the environment variable {variable} is not set")
        try:
            return cls.parse(value)
        except UsageError as error:
            raise KeyFileError(f"the environment variable {variable}: {error}") from None

    @classmethod
    def from_fd(cls, fd: int) -> Self:
        """Read the secret text form from a file descriptor, such as a pipe's.

        Waits until the other end is closed. Then the descriptor is closed, unless it
        is standard input (0).

        Args:
            fd: the descriptor, as the parent passed it on.

        Raises:
            KeyFileError: it cannot be read, or holds no identity.
            UsageError: no descriptor.
        """
        secret_text = read_handle(fd, _MAX_TEXT)
        try:
            return cls.parse(secret_text)
        except UsageError as error:
            raise KeyFileError(f"file descriptor {fd}: {error}") from None

    @classmethod
    def load(cls, path: PathText, passphrase: str | None = None) -> Self:
        """Read a key file (SPEC 13.2).

        Args:
            path: the file; it must belong to this user and be private (0600).
            passphrase: needed if the file is locked. Unlocking takes about a
                second and 256 MiB, on purpose.

        Raises:
            KeyFileError: missing, unreadable, readable by others, damaged, locked,
                or the passphrase is wrong. The message says what to do.
            UsageError: the passphrase is empty or no str.
        """
        return cls(keyfile.load(Path(path), passphrase=passphrase))

    def save(self, path: PathText, passphrase: str | None = None) -> None:
        """Write a new key file, 0600, whole or not at all; never over another file.

        Args:
            path: where.
            passphrase: locks the file with Argon2id if given.

        Raises:
            KeyFileError: something is there already, or it cannot be written.
            UsageError: the passphrase is empty or no str.
        """
        keyfile.save(
            Path(path), self._seed, comment=f"public: {self.public}", passphrase=passphrase
        )

    def export(self) -> str:
        """Return the secret text form, ``envsec1...``: the one way out for a secret."""
        return text.encode(text.SECRET, self._seed)

    def __repr__(self) -> str:
        """Return the key id; never a secret."""
        public = getattr(self, "public", None)  # A traceback may show one half made.
        return f"<Identity {public.key_id.hex() if public else 'of nobody'}>"

    def __setattr__(self, name: str, value: object) -> NoReturn:
        """Refuse: an identity is one for good."""
        raise AttributeError("Identity is immutable")

    def __delattr__(self, name: str) -> NoReturn:
        """Refuse: an identity is one for good."""
        raise AttributeError("Identity is immutable")

    def __getstate__(self) -> NoReturn:
        """Refuse to hand out the secret.

        Raises:
            TypeError: always.
        """
        raise TypeError("the state of an Identity is its secret; see export()")

    def __copy__(self) -> Self:
        """Return the same object: a copy would only spread the secret."""
        return self

    def __deepcopy__(self, memo: object) -> Self:
        """Return the same object: a copy would only spread the secret."""
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse to be pickled.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            "an Identity is not pickled; hand it on by export(), from_env() or a key file"
        )
