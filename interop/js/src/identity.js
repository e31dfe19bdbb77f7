/** Identities: one seed, and what follows from it (SPEC 3.1 to 3.4, 13.1). */
import { H } from "./hash.js";
import {
  ed25519Keys,
  ed25519Sign,
  isEd25519Key,
  isX25519Key,
  randomBytes,
  x25519,
  x25519Base,
} from "./primitives.js";
import { decodeText, encodeText } from "./text.js";

const SEED = 32;
const PUB = 64;

/** The public half. One that was made is sound: SPEC 3.4 was checked. */
export class PublicIdentity {
  /** @param {Uint8Array} pub 64 bytes @throws {Error} if it may not be accepted */
  constructor(pub) {
    const sound = pub.length === PUB && isEd25519Key(pub.subarray(0, 32));
    if (!sound || !isX25519Key(pub.subarray(32))) throw new Error("not a sound public key");
    this.pub = Buffer.from(pub);
    this.ed25519 = this.pub.subarray(0, 32);
    this.x25519 = this.pub.subarray(32);
    this.keyId = H(16, "env1-keyid", [this.pub]);
    Object.freeze(this);
  }

  /** @param {string} text @throws {Error} */
  static parse(text) {
    return new PublicIdentity(decodeText(text, "envpub1", PUB, 6));
  }

  toString() {
    return encodeText("envpub1", this.pub, 6);
  }
}

/** Both halves. The secrets are private fields: nothing prints them by accident. */
export class Identity {
  #seed;
  #secretKey;
  #xSecret;
  #hedge;

  /** @param {Uint8Array} seed 32 bytes from a cryptographic random source */
  constructor(seed) {
    if (seed.length !== SEED) throw new Error("a seed has 32 bytes");
    const { publicKey, secretKey } = ed25519Keys(H(32, "env1-ed25519", [], seed));
    this.#seed = Buffer.from(seed);
    this.#secretKey = secretKey;
    this.#xSecret = H(32, "env1-x25519", [], seed);
    this.#hedge = H(32, "env1-hedge", [], seed);
    this.public = new PublicIdentity(Buffer.concat([publicKey, x25519Base(this.#xSecret)]));
    Object.freeze(this);
  }

  static generate() {
    return new Identity(randomBytes(SEED));
  }

  /** @param {string} text `envsec1...` @throws {Error} */
  static parse(text) {
    return new Identity(decodeText(text, "envsec1", SEED, 8));
  }

  /** @returns {string} the secret as text */
  export() {
    return encodeText("envsec1", this.#seed, 8);
  }

  /** @param {Uint8Array} data @returns {Buffer} */
  sign(data) {
    return ed25519Sign(data, this.#secretKey);
  }

  /** @param {Uint8Array} key an X25519 key @returns {Buffer | null} null if of low order */
  agree(key) {
    return x25519(this.#xSecret, key);
  }

  /**
   * @template T
   * @param {(hedge: Buffer) => T} derivation one of derive.js
   * @returns {T}
   */
  hedged(derivation) {
    return derivation(this.#hedge);
  }
}
