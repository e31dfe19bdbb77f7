"""Peers that put a payload into a container: COSE, DSSE, AWS, age, Tink.

Rules of this file: those of the package. Where two layers make one way, as with age and a
signature, what is encrypted is signed, by the fastest signature at hand.
"""

from __future__ import annotations

import json
from functools import partial

from nacl.signing import SigningKey
from nacl.utils import random

from peers.ways import ANYONE, CONTEXT, OPT, SHARED, YES, Does, Start, Way, need, steady

BOUND = CONTEXT.encode()
FRAME = 2**20
"""Bytes in a frame of the AWS Encryption SDK, whose documentation says to tune them: with
the default of 4096 large payloads cost more."""


def cose_sign1() -> Start:
    """COSE_Sign1 with EdDSA and external data."""
    cwt, jwk = need("cwt"), need("joserfc.jwk")
    pair = jwk.OKPKey.generate_key("Ed25519")
    named = {"kid": "01", "alg": "EdDSA"}
    private = cwt.COSEKey.from_jwk({**pair.as_dict(private=True), **named})
    public = cwt.COSEKey.from_jwk({**pair.as_dict(private=False), **named})
    sender = cwt.COSE.new(alg_auto_inclusion=True, kid_auto_inclusion=True)
    receiver = cwt.COSE.new()
    return steady(
        lambda payload: sender.encode(payload, private, external_aad=BOUND),
        lambda data: receiver.decode(data, public, external_aad=BOUND),
    )


def cose_encrypt0() -> Start:
    """COSE_Encrypt0 with ChaCha20-Poly1305 and external data."""
    cwt = need("cwt")
    key = cwt.COSEKey.generate_symmetric_key(alg="ChaCha20/Poly1305", kid="01")
    sender = cwt.COSE.new(alg_auto_inclusion=True, kid_auto_inclusion=True)
    receiver, iv = cwt.COSE.new(), cwt.COSEHeaders.IV

    def write(payload: bytes) -> bytes:
        unprotected = {iv: key.generate_nonce()}
        return bytes(sender.encode(payload, key, unprotected=unprotected, external_aad=BOUND))

    return steady(write, lambda data: receiver.decode(data, key, external_aad=BOUND))


def dsse() -> Start:
    """DSSE, an envelope of JSON, with an Ed25519 signer."""
    envelope = need("securesystemslib.dsse").Envelope
    signer = need("securesystemslib.signer").CryptoSigner.generate_ed25519()
    keys = [signer.public_key]

    def write(payload: bytes) -> bytes:
        made = envelope(payload, f"application/vnd.{CONTEXT}", {})
        made.sign(signer)
        return json.dumps(made.to_dict()).encode()

    def read(data: bytes) -> bytes:
        got = envelope.from_dict(json.loads(data))
        got.verify(keys, 1)
        return bytes(got.payload)

    return steady(write, read)


def aws(*, signed: bool, keyring: bool) -> Start:
    """AWS Encryption SDK with a key of our own; nothing leaves this machine."""
    sdk, names = need("aws_encryption_sdk"), need("aws_encryption_sdk.identifiers")
    client = sdk.EncryptionSDKClient(
        commitment_policy=names.CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT
    )
    suite = names.Algorithm.AES_256_GCM_HKDF_SHA512_COMMIT_KEY
    if signed:
        suite = names.Algorithm.AES_256_GCM_HKDF_SHA512_COMMIT_KEY_ECDSA_P384
    bound = {"context": CONTEXT}
    how = aws_keyring() if keyring else aws_master_key()
    # A master key provider has no argument for what the context has to be.
    expected = {"encryption_context": bound} if keyring else {}

    def write(payload: bytes) -> bytes:
        return bytes(
            client.encrypt(
                source=payload, algorithm=suite, encryption_context=bound, frame_length=FRAME, **how
            )[0]
        )

    return steady(write, lambda data: client.decrypt(source=data, **expected, **how)[0])


def aws_keyring() -> dict[str, object]:
    """Return a raw AES keyring of the Material Providers Library, as is recommended."""
    library = need("aws_cryptographic_material_providers.mpl")
    config = need("aws_cryptographic_material_providers.mpl.config")
    models = need("aws_cryptographic_material_providers.mpl.models")
    providers = library.AwsCryptographicMaterialProviders(config=config.MaterialProvidersConfig())
    settings = models.CreateRawAesKeyringInput(
        key_namespace=CONTEXT,
        key_name="key",
        wrapping_key=random(32),
        wrapping_alg=models.AesWrappingAlg.ALG_AES256_GCM_IV12_TAG16,
    )
    return {"keyring": providers.create_raw_aes_keyring(input=settings)}


def aws_master_key() -> dict[str, object]:
    """Return a raw master key provider, which the documentation calls legacy."""
    names = need("aws_encryption_sdk.identifiers")
    raw = need("aws_encryption_sdk.key_providers.raw")
    wrapping = raw.WrappingKey(
        wrapping_algorithm=names.WrappingAlgorithm.AES_256_GCM_IV12_TAG16_NO_PADDING,
        wrapping_key=random(32),
        wrapping_key_type=names.EncryptionKeyType.SYMMETRIC,
    )
    methods = {"provider_id": CONTEXT, "_get_raw_key": lambda _self, _name: wrapping}
    provider = type("Provider", (raw.RawMasterKeyProvider,), methods)()
    provider.add_master_key("key")
    return {"key_provider": provider}


def age(*, signed: bool) -> Start:
    """Encrypt with age to an X25519 key; sign the file with PyNaCl if asked."""
    pyrage = need("pyrage")
    bob = pyrage.x25519.Identity.generate()
    to, mine = [bob.to_public()], [bob]
    if not signed:
        return steady(
            lambda payload: pyrage.encrypt(payload, to), lambda data: pyrage.decrypt(data, mine)
        )
    signing = SigningKey.generate()
    verifying = signing.verify_key
    return steady(
        lambda payload: bytes(signing.sign(pyrage.encrypt(payload, to))),
        lambda data: pyrage.decrypt(verifying.verify(data), mine),
    )


def tink_signature() -> Start:
    """Tink's PublicKeySign with ED25519; the signature stands before the payload."""
    tink, signature = need("tink"), need("tink.signature")
    signature.register()
    handle = tink.new_keyset_handle(signature.signature_key_templates.ED25519)
    signer = handle.primitive(signature.PublicKeySign)
    verifier = handle.public_keyset_handle().primitive(signature.PublicKeyVerify)
    size = len(signer.sign(b""))

    def read(data: bytes) -> bytes:
        payload = data[size:]
        verifier.verify(data[:size], payload)
        return payload

    return steady(lambda payload: signer.sign(payload) + payload, read)


def tink_hybrid() -> Start:
    """Tink's HybridEncrypt: HPKE with X25519 and ChaCha20-Poly1305."""
    tink, hybrid = need("tink"), need("tink.hybrid")
    hybrid.register()
    handle = tink.new_keyset_handle(
        hybrid.hybrid_key_templates.DHKEM_X25519_HKDF_SHA256_HKDF_SHA256_CHACHA20_POLY1305
    )
    encrypter = handle.public_keyset_handle().primitive(hybrid.HybridEncrypt)
    decrypter = handle.primitive(hybrid.HybridDecrypt)
    return steady(
        lambda payload: encrypter.encrypt(payload, BOUND),
        lambda data: decrypter.decrypt(data, BOUND),
    )


def aws_way(name: str, *, signed: bool, keyring: bool) -> Way:
    """Return one way to use the AWS Encryption SDK."""
    does = Does(encrypted=YES, to="key", context=YES if keyring else OPT)
    note = SHARED
    if signed:
        does = does._replace(signed=YES)
        note = "its signing key is made anew for each message, so it names no sender"
    return Way(name, does, partial(aws, signed=signed, keyring=keyring), note=note)


WAYS = (
    Way("COSE Sign1 EdDSA", Does(signed=YES, context=YES), cose_sign1),
    Way("COSE Encrypt0", Does(encrypted=YES, to="key", context=YES), cose_encrypt0, note=SHARED),
    Way("DSSE Ed25519", Does(signed=YES, context=OPT), dsse),
    Way("Tink signature", Does(signed=YES), tink_signature),
    Way("Tink hybrid", Does(encrypted=YES, to="1", context=YES), tink_hybrid, note=ANYONE),
    Way("age", Does(encrypted=YES, to="1"), partial(age, signed=False), note=ANYONE),
    Way("age + signature", Does(signed=YES, encrypted=YES, to="1"), partial(age, signed=True)),
    aws_way("AWS keyring", signed=False, keyring=True),
    aws_way("AWS keyring + signature", signed=True, keyring=True),
    aws_way("AWS master key", signed=False, keyring=False),
    aws_way("AWS master key + signature", signed=True, keyring=False),
)
