/** From a payload to an envelope (SPEC 6). */
import { encodeBundle } from "./bundle.js";
import { wallClock } from "./clock.js";
import { checkBound, checkContext } from "./context.js";
import {
  aeadKeyOf,
  bindOf,
  bodyOf,
  commitmentOf,
  epochOf,
  kekOf,
  nonceOf,
  placeOf,
  signedMessage,
  streamOf,
  wrapOf,
} from "./derive.js";
import { Identity, PublicIdentity } from "./identity.js";
import { aeadSeal, randomBytes, x25519, x25519Base } from "./primitives.js";
import { ownStreams } from "./streams.js";
import { Peer } from "./trust.js";
import { encodeHead, MAX_RECIPIENTS, SEALED, SENT_ATS, SEQUENCES, SIGNED } from "./wire.js";

const EPOCH_US = 10 * 60 * 1_000_000;
const EPOCH_ENVELOPES = 2 ** 20;

/**
 * The key block of a sealed epoch, and the AEAD key (SPEC 5.6, 5.7).
 *
 * @param {PublicIdentity} sender
 * @param {PublicIdentity[]} to ascending by key id
 * @param {Buffer} stream
 * @param {Buffer} e @param {Buffer} ck
 */
export function keyBlock(sender, to, stream, e, ck) {
  const ephemeral = x25519Base(e);
  const com = commitmentOf(ck, ephemeral, sender.pub, stream);
  const recipients = to.map(({ pub, x25519: key, keyId }) => {
    const kek = kekOf(
      { ephemeral, recipient: pub, sender: sender.pub, stream, com },
      x25519(e, key),
    );
    return { keyId, wrap: wrapOf(kek, ck) };
  });
  return { ephemeral, com, recipients, aeadKey: aeadKeyOf(ck) };
}

/** @param {PublicIdentity[]} to @returns {ReturnType<keyBlock>} of one that is signed alone */
export function addresses(to) {
  const recipients = to.map(({ keyId }) => ({ keyId, wrap: null }));
  return { ephemeral: null, com: null, recipients, aeadKey: null };
}

/**
 * Steps 4 to 6 of SPEC 6.5: all that needs no memory.
 *
 * @param {Identity} identity
 * @param {ReturnType<keyBlock>} block
 * @param {object} of
 * @param {string} of.context
 * @param {Uint8Array[]} of.bound
 * @param {Uint8Array} of.payload a bundle is encoded already
 * @param {boolean} of.bundle
 * @param {Buffer} of.stream
 * @param {number} of.sequence
 * @param {number} of.sentAt
 * @param {Buffer | null} of.inReplyTo
 * @param {Buffer} of.random 24 bytes, or 32 to seal
 * @returns {Buffer}
 */
export function makeEnvelope(identity, { aeadKey, ...block }, of) {
  const ctx = placeOf(of.context, of.bound);
  const nonce = aeadKey ? identity.hedged((hedge) => nonceOf(hedge, { ...of, ctx })) : of.random;
  const kind = aeadKey ? SEALED : SIGNED;
  const head = encodeHead({ ...block, ...of, kind, nonce, sender: identity.public.keyId });
  const bind = bindOf(identity.public.pub, ctx, head);
  const body = aeadKey ? aeadSeal(aeadKey, nonce, bind, of.payload) : of.payload;
  return Buffer.concat([head, body, identity.sign(signedMessage(bind, bodyOf(body)))]);
}

/** One generator: a stream, a counter and, if it seals, a key epoch. */
export class Sealer {
  #stream = Buffer.alloc(0);
  #sequence = SEQUENCES; // none is left of no stream: the first envelope begins one
  #lastSentAt = 0;
  /** @type {{block: ReturnType<keyBlock>, to: string, began: number, left: number} | null} */
  #epoch = null;

  /**
   * @param {Identity} identity
   * @param {object} options
   * @param {string} options.context
   * @param {(PublicIdentity | Peer)[] | null} [options.to] null: for everyone in the context
   * @param {boolean} [options.sealed] whether to encrypt for those in `to`
   * @param {() => number} [options.clock] Unix us
   * @param {(size: number) => Buffer} [options.random]
   * @param {import("./streams.js").OwnStreams} [options.streams]
   */
  constructor(identity, options) {
    const { context, to = null, sealed = to !== null } = options;
    if (sealed && to === null) throw new Error("sealing needs recipients: to");
    if (to !== null && (to.length < 1 || to.length > MAX_RECIPIENTS)) {
      throw new Error(`to has 1 to ${MAX_RECIPIENTS} recipients`);
    }
    this.identity = identity;
    this.context = checkContext(context);
    this.to = to;
    this.sealed = sealed;
    this.clock = options.clock ?? wallClock;
    this.random = options.random ?? randomBytes;
    this.streams = options.streams ?? ownStreams;
  }

  /**
   * @param {Uint8Array} payload
   * @param {{bound?: Uint8Array[], inReplyTo?: Buffer | null}} [options]
   * @returns {Buffer}
   * @throws {Error} for the caller's mistakes, and if no recipient is left; nothing is consumed
   */
  seal(payload, options = {}) {
    return this.#seal(payload, options, false);
  }

  /**
   * @param {Uint8Array[]} payloads 1 to 4096
   * @param {{bound?: Uint8Array[], inReplyTo?: Buffer | null}} [options]
   * @returns {Buffer}
   * @throws {Error}
   */
  sealBundle(payloads, options = {}) {
    return this.#seal(encodeBundle(payloads), options, true);
  }

  /**
   * @param {Uint8Array} payload
   * @param {{bound?: Uint8Array[], inReplyTo?: Buffer | null}} options
   * @param {boolean} bundle
   */
  #seal(payload, { bound = [], inReplyTo = null }, bundle) {
    if (!(payload instanceof Uint8Array)) throw new Error("a payload is bytes");
    if (inReplyTo !== null && inReplyTo.length !== 32) throw new Error("a message id has 32 bytes");
    checkBound(bound);
    const now = this.clock();
    if (!(now >= 0 && now < SENT_ATS)) throw new Error("the clock is out of bounds");
    const to = this.#recipients(now);
    if (now < this.#lastSentAt || this.#sequence >= SEQUENCES) this.#beginStream(now);
    const block = this.sealed ? this.#keyBlock(to, now) : addresses(to);
    this.#lastSentAt = now;
    return makeEnvelope(this.identity, block, {
      context: this.context,
      bound,
      payload,
      bundle,
      inReplyTo,
      stream: this.#stream,
      sequence: this.#sequence++,
      sentAt: now,
      random: this.random(this.sealed ? 32 : 24),
    });
  }

  /** @param {number} now @returns {PublicIdentity[]} ascending by key id, each once */
  #recipients(now) {
    if (this.to === null) return [];
    const valid = this.to.filter((one) => !(one instanceof Peer) || one.isValid(now));
    if (valid.length === 0) throw new Error("no recipient is left");
    const byId = new Map(
      valid
        .map((one) => (one instanceof Peer ? one.identity : one))
        .map((identity) => [identity.keyId.toString("hex"), identity]),
    );
    return [...byId.values()].sort((a, b) => Buffer.compare(a.keyId, b.keyId));
  }

  /** @param {number} now */
  #beginStream(now) {
    const from = {
      start: now,
      random: this.random(32),
      process: process.pid,
      ns: BigInt(now) * 1000n,
    };
    this.#stream = this.identity.hedged((hedge) => streamOf(hedge, from));
    this.#sequence = 0;
    this.#epoch = null;
    this.streams.begin(this.#stream);
  }

  /** @param {PublicIdentity[]} to @param {number} now @returns {ReturnType<keyBlock>} */
  #keyBlock(to, now) {
    const names = to.map(({ keyId }) => keyId.toString("hex")).join();
    const epoch = this.#epoch;
    const over =
      epoch === null || epoch.to !== names || epoch.left === 0 || now - epoch.began >= EPOCH_US;
    if (over) {
      const { e, ck } = this.identity.hedged((hedge) =>
        epochOf(hedge, this.random(64), this.#stream, now),
      );
      const block = keyBlock(this.identity.public, to, this.#stream, e, ck);
      this.#epoch = { block, to: names, began: now, left: EPOCH_ENVELOPES };
    }
    this.#epoch.left--;
    return this.#epoch.block;
  }
}
