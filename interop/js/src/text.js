/** Keys as text: base32 with a prefix and a checksum (SPEC 13.1). */
import { H } from "./hash.js";

const ALPHABET = "abcdefghijklmnopqrstuvwxyz234567";

/**
 * @param {string} prefix @param {Uint8Array} body
 * @param {number} check bytes of checksum, so that all together are a multiple of five
 * @returns {string}
 */
export function encodeText(prefix, body, check) {
  return prefix + base32(Buffer.concat([body, checksum(prefix, body, check)]));
}

/**
 * @param {string} text @param {string} prefix
 * @param {number} size bytes of the body @param {number} check bytes of the checksum
 * @returns {Buffer} the body
 * @throws {Error} if it is no such text; the text itself may be a secret, and is not told
 */
export function decodeText(text, prefix, size, check) {
  const letters = text.slice(prefix.length);
  const fits = text.startsWith(prefix) && letters.length === ((size + check) * 8) / 5;
  if (!fits || ![...letters].every((letter) => ALPHABET.includes(letter))) {
    throw new Error(`not a text of ${prefix}`);
  }
  const bytes = unbase32(letters);
  const body = bytes.subarray(0, size);
  if (!checksum(prefix, body, check).equals(bytes.subarray(size))) {
    throw new Error(`the checksum of a text of ${prefix} does not fit`);
  }
  return body;
}

/** @param {string} prefix @param {Uint8Array} body @param {number} size */
function checksum(prefix, body, size) {
  return H(size, "env1-text", [Buffer.from(prefix, "ascii"), body]);
}

/** @param {Buffer} bytes a multiple of five, so no bits are left over */
function base32(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; at += 5) {
    const group = bytes.readUIntBE(at, 5);
    for (let letter = 7; letter >= 0; letter--) {
      text += ALPHABET[Math.floor(group / 32 ** letter) % 32];
    }
  }
  return text;
}

/** @param {string} letters a multiple of eight */
function unbase32(letters) {
  const bytes = Buffer.alloc((letters.length * 5) / 8);
  for (let at = 0; at < letters.length; at += 8) {
    const group = [...letters.slice(at, at + 8)].reduce(
      (value, letter) => value * 32 + ALPHABET.indexOf(letter),
      0,
    );
    bytes.writeUIntBE(group, (at * 5) / 8, 5);
  }
  return bytes;
}
