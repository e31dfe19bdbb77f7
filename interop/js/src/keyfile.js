/** The locked text of an identity (SPEC 13.2). Reading and writing files is the caller's. */
import { u32 } from "./integers.js";
import { Identity } from "./identity.js";
import { aeadOpen, aeadSeal, argon2id, randomBytes } from "./primitives.js";
import { decodeText, encodeText } from "./text.js";

const PREFIX = "envkey1";
const BODY = 96;
const CHECK = 9;

/**
 * @param {Uint8Array} seed
 * @param {string} passphrase
 * @param {{salt?: Uint8Array, nonce?: Uint8Array, passes: number, memoryKib: number}} options
 * @returns {string}
 */
export function lock(seed, passphrase, options) {
  const { salt = randomBytes(16), nonce = randomBytes(24), passes, memoryKib } = options;
  const cost = Buffer.concat([salt, u32(passes), u32(memoryKib)]);
  const key = stretch(passphrase, cost);
  const box = aeadSeal(key, nonce, Buffer.concat([Buffer.from(PREFIX), cost]), seed);
  return encodeText(PREFIX, Buffer.concat([cost, nonce, box]), CHECK);
}

/**
 * @param {string} text `envkey1...`
 * @param {string} passphrase
 * @returns {Identity}
 * @throws {Error} if the text is none, or the passphrase another
 */
export function unlock(text, passphrase) {
  const body = decodeText(text, PREFIX, BODY, CHECK);
  const [cost, nonce, box] = [body.subarray(0, 24), body.subarray(24, 48), body.subarray(48)];
  const key = stretch(passphrase, cost);
  const seed = aeadOpen(key, nonce, Buffer.concat([Buffer.from(PREFIX), cost]), box);
  if (seed === null) throw new Error("another passphrase, or the text was changed");
  return new Identity(seed);
}

/** @param {string} passphrase @param {Buffer} cost salt, passes and memory */
function stretch(passphrase, cost) {
  const [passes, memoryKib] = [cost.readUInt32BE(16), cost.readUInt32BE(20)];
  // Before anything is computed: a text of a stranger's must not cost more than this.
  if (passes < 1 || passes > 16 || memoryKib < 8 || memoryKib > 2 ** 20) {
    throw new Error("passes or memory out of bounds");
  }
  return argon2id(passphrase.normalize("NFC"), cost.subarray(0, 16), passes, memoryKib);
}
