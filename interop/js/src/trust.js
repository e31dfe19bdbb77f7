/** Who is believed, and in what (SPEC 3.5, 3.6). */
import { compilePattern } from "./context.js";
import { PublicIdentity } from "./identity.js";

/** One PUB of a peer, and what it may do. */
export class Peer {
  /**
   * @param {string} name two with one name are a rotation
   * @param {PublicIdentity} identity
   * @param {object} rights
   * @param {string[]} rights.contexts patterns, at least one
   * @param {Uint8Array[] | null} [rights.topics] prefixes, or null for no restriction
   * @param {number | null} [rights.notBefore] Unix us
   * @param {number | null} [rights.notAfter] Unix us
   * @param {boolean} [rights.revoked]
   */
  constructor(name, identity, rights) {
    const { contexts, topics = null, notBefore = null, notAfter = null, revoked = false } = rights;
    if (contexts.length === 0) throw new Error(`${name}: contexts has at least one pattern`);
    if (topics?.length === 0) throw new Error(`${name}: topics, if given, has at least one prefix`);
    this.name = name;
    this.identity = identity;
    this.patterns = contexts.map(compilePattern);
    this.topics = topics;
    this.notBefore = notBefore ?? -Infinity;
    this.notAfter = notAfter ?? Infinity;
    this.revoked = revoked;
    Object.freeze(this);
  }

  /** @param {number} now Unix us @returns {boolean} neither revoked nor outside its dates */
  isValid(now) {
    return !this.revoked && this.notBefore <= now && now < this.notAfter;
  }

  /** @param {string} context @param {Uint8Array[]} bound @returns {boolean} */
  may(context, bound) {
    return this.patterns.some((matches) => matches(context)) && this.#mayTopic(bound);
  }

  /** @param {Uint8Array[]} bound */
  #mayTopic(bound) {
    if (this.topics === null) return true;
    if (bound.length === 0) return false;
    return this.topics.some((topic) =>
      Buffer.from(bound[0].subarray(0, topic.length)).equals(topic),
    );
  }
}

/** Peers by key id. Never changes: a receiver that learns of new ones takes another. */
export class TrustStore {
  #peers = new Map();

  /** @param {Peer[]} peers @throws {Error} if a key, or half of one, stands twice */
  constructor(peers) {
    const halves = new Set();
    for (const peer of peers) {
      const { ed25519, x25519, keyId } = peer.identity;
      for (const half of [ed25519, x25519].map((key) => key.toString("hex"))) {
        if (halves.has(half)) throw new Error(`${peer.name}: this key stands here twice`);
        halves.add(half);
      }
      const id = keyId.toString("hex");
      if (this.#peers.has(id)) throw new Error(`${peer.name}: two identities with one key id`);
      this.#peers.set(id, peer);
    }
  }

  /** @param {Buffer} keyId @returns {Peer | undefined} */
  get(keyId) {
    return this.#peers.get(keyId.toString("hex"));
  }
}
