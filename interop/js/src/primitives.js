/**
 * The primitives of SPEC 2.1, by libsodium. The only importer of it, and the only source of
 * randomness.
 *
 * The sumo build is needed for `crypto_core_ed25519_is_valid_point` (SPEC 3.4). Functions
 * that meet what strangers made return null or false; whatever else throws is a bug.
 */
import { createRequire } from "node:module";

// Its build for `import` wants a global that Node.js 18 has not; that for `require` does not.
const sodium = createRequire(import.meta.url)("libsodium-wrappers-sumo");

await sodium.ready;

/**
 * @param {Uint8Array} data
 * @param {Uint8Array | null} key
 * @returns {Buffer} all 64 bytes
 */
export function blake2b(data, key = null) {
  return Buffer.from(sodium.crypto_generichash(64, data, key));
}

/** @param {number} size @returns {Buffer} */
export function randomBytes(size) {
  return Buffer.from(sodium.randombytes_buf(size));
}

/**
 * Compare in constant time.
 *
 * @param {Uint8Array} a @param {Uint8Array} b of the same length
 */
export function isEqual(a, b) {
  return sodium.memcmp(a, b);
}

/**
 * @param {Uint8Array} seed
 * @returns {{publicKey: Buffer, secretKey: Buffer}}
 */
export function ed25519Keys(seed) {
  const { publicKey, privateKey } = sodium.crypto_sign_seed_keypair(seed);
  return { publicKey: Buffer.from(publicKey), secretKey: Buffer.from(privateKey) };
}

/** @param {Uint8Array} data @param {Uint8Array} secretKey @returns {Buffer} */
export function ed25519Sign(data, secretKey) {
  return Buffer.from(sodium.crypto_sign_detached(data, secretKey));
}

/**
 * @param {Uint8Array} signature 64 bytes
 * @param {Uint8Array} data
 * @param {Uint8Array} publicKey
 * @returns {boolean}
 */
export function isEd25519Signature(signature, data, publicKey) {
  return sodium.crypto_sign_verify_detached(signature, data, publicKey);
}

/** @param {Uint8Array} key 32 bytes @returns {boolean} the first half of SPEC 3.4 */
export function isEd25519Key(key) {
  return sodium.crypto_core_ed25519_is_valid_point(key);
}

/** @param {Uint8Array} secret @returns {Buffer} */
export function x25519Base(secret) {
  return Buffer.from(sodium.crypto_scalarmult_base(secret));
}

/**
 * @param {Uint8Array} secret 32 bytes, clamped here
 * @param {Uint8Array} publicKey 32 bytes
 * @returns {Buffer | null} null if the result is zero: a key of low order
 */
export function x25519(secret, publicKey) {
  try {
    return Buffer.from(sodium.crypto_scalarmult(secret, publicKey));
  } catch {
    return null;
  }
}

/** @param {Uint8Array} key 32 bytes @returns {boolean} the second half of SPEC 3.4 */
export function isX25519Key(key) {
  // Any secret shows a low order: clamping makes each a multiple of 8.
  return isBelowPrime(key) && x25519(Buffer.alloc(32), key) !== null;
}

/** @param {Uint8Array} key little-endian, compared with 2^255 - 19 */
function isBelowPrime(key) {
  if (key[31] !== 0x7f) return key[31] < 0x7f;
  return key[0] < 0xed || key.subarray(1, 31).some((byte) => byte !== 0xff);
}

/**
 * @param {Uint8Array} key @param {Uint8Array} nonce
 * @param {Uint8Array} aad @param {Uint8Array} data
 * @returns {Buffer} ciphertext and tag
 */
export function aeadSeal(key, nonce, aad, data) {
  return Buffer.from(
    sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(data, aad, null, nonce, key),
  );
}

/**
 * @param {Uint8Array} key @param {Uint8Array} nonce
 * @param {Uint8Array} aad @param {Uint8Array} data at least 16 bytes
 * @returns {Buffer | null} null if it does not open
 */
export function aeadOpen(key, nonce, aad, data) {
  try {
    return Buffer.from(
      sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(null, data, aad, nonce, key),
    );
  } catch {
    return null;
  }
}

/**
 * @param {string} passphrase
 * @param {Uint8Array} salt 16 bytes
 * @param {number} passes
 * @param {number} memoryKib
 * @returns {Buffer} 32 bytes
 */
export function argon2id(passphrase, salt, passes, memoryKib) {
  const algorithm = sodium.crypto_pwhash_ALG_ARGON2ID13;
  return Buffer.from(
    sodium.crypto_pwhash(32, passphrase, salt, passes, memoryKib * 1024, algorithm),
  );
}
