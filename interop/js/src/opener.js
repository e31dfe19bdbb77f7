/**
 * From an envelope to messages, or to one refusal.
 *
 * The checks are those of SPEC 7.2 in its order, and their numbers stand beside them.
 * Nothing before step 8 writes, and step 11 is the only one that changes replay state.
 *
 * @typedef {object} Message
 * @property {Buffer} payload
 * @property {Buffer} id
 * @property {number} index in its bundle
 * @property {number} skipped
 * @property {import("./trust.js").Peer} sender
 * @property {boolean} sealed
 * @property {Buffer} stream
 * @property {number} sequence
 * @property {number} sentAt
 * @property {Buffer | null} inReplyTo
 *
 * @typedef {object} Expected
 * @property {Uint8Array[]} [bound] the frames beside the envelope
 * @property {Buffer | null} [inReplyTo] the id of the request, if a reply is expected
 * @property {Buffer[] | null} [asked] key ids that the request was addressed to, if known
 * @property {boolean} [bundle] whether a bundle may come
 */
import { decodeBundle } from "./bundle.js";
import { highestOf, wallClock } from "./clock.js";
import { checkContext, MAX_BOUND } from "./context.js";
import {
  aeadKeyOf,
  bindOf,
  bodyOf,
  commitmentOf,
  kekOf,
  messageId,
  placeOf,
  signedMessage,
} from "./derive.js";
import { Identity } from "./identity.js";
import { makePolicy } from "./policy.js";
import { aeadOpen, isEd25519Signature, isEqual, isX25519Key } from "./primitives.js";
import { Refusal } from "./refusal.js";
import { Guard } from "./replay.js";
import { ownStreams } from "./streams.js";
import { TrustStore } from "./trust.js";
import { decode, SEALED } from "./wire.js";

const NOTHING = Buffer.alloc(0);
const ZERO_NONCE = Buffer.alloc(24);

export class Opener {
  /**
   * @param {object} options
   * @param {TrustStore} options.trust
   * @param {string} options.context
   * @param {Identity[]} [options.identities] the one to prefer first (SPEC 7.5)
   * @param {Partial<import("./policy.js").Policy>} [options.policy]
   * @param {boolean} [options.firstLife] whether no earlier life used these keys (SPEC 8.7)
   * @param {number | null} [options.cold] in place of what firstLife says
   * @param {() => number} [options.clock] Unix us
   * @param {import("./streams.js").OwnStreams} [options.streams]
   */
  constructor(options) {
    const { trust, context, identities = [], clock = wallClock, streams = ownStreams } = options;
    this.trust = trust;
    this.context = checkContext(context);
    this.identities = identities;
    this.policy = makePolicy(options.policy);
    this.clock = highestOf(clock);
    this.streams = streams;
    this.born = streams.count;
    const { firstLife = false, cold = firstLife ? null : clock() + this.policy.maxFuture } =
      options;
    // The guard is this opener's alone, so its domain needs no name (SPEC 8.1).
    this.guard = new Guard({ ...this.policy, cold });
  }

  /**
   * @param {Uint8Array} bytes
   * @param {Expected} [expected]
   * @returns {Message[]} one, unless it is a bundle
   * @throws {Refusal} and nothing else, whatever the bytes are
   */
  open(bytes, expected = {}) {
    const { bound = [] } = expected;
    this.#checkSize(bytes, bound); // 1
    const envelope = decode(bytes); // 2
    this.#checkPolicy(envelope, expected); // 3
    const now = this.clock();
    const peer = this.#findSender(envelope, bound, now); // 4
    const own = this.#findRecipient(envelope); // 5
    this.#checkFreshness(envelope, now); // 6
    const claim = this.#claim(envelope);
    const place = `${envelope.sender.toString("hex")} ${this.context}`;
    this.guard.check(place, claim); // 7
    const bind = bindOf(peer.identity.pub, placeOf(this.context, bound), envelope.head);
    const body = bodyOf(envelope.body);
    checkSignature(envelope, peer, bind, body); // 8
    const payload = envelope.kind === SEALED ? unseal(envelope, peer, own, bind) : envelope.body; // 9
    const payloads = envelope.bundle ? decodeBundle(payload) : [payload]; // 10
    const skipped = this.guard.mark(place, claim); // 11
    return payloads.map((each, index) => ({
      payload: Buffer.from(each),
      id: messageId(envelope.head, body, index),
      index,
      skipped: index === 0 ? skipped : 0,
      sender: peer,
      sealed: envelope.kind === SEALED,
      stream: Buffer.from(envelope.stream),
      sequence: envelope.sequence,
      sentAt: envelope.sentAt,
      inReplyTo: envelope.inReplyTo && Buffer.from(envelope.inReplyTo),
    })); // 12
  }

  /** @param {Uint8Array} bytes @param {Uint8Array[]} bound */
  #checkSize(bytes, bound) {
    const size = bound.reduce((sum, frame) => sum + frame.length, bytes.length);
    if (size > this.policy.maxSize || bound.length > MAX_BOUND) throw new Refusal("too_large");
  }

  /** @param {import("./wire.js").Decoded} envelope @param {Expected} expected */
  #checkPolicy(envelope, { inReplyTo = null, asked = null, bundle = false }) {
    const { kind, recipients, sender } = envelope;
    const fits =
      (kind === SEALED || this.policy.require !== "sealed") &&
      (recipients.length > 0 || !this.policy.addressed) &&
      (bundle || !envelope.bundle) &&
      (inReplyTo === null) === (envelope.inReplyTo === null) &&
      (inReplyTo === null || inReplyTo.equals(envelope.inReplyTo)) &&
      (inReplyTo === null || asked === null || asked.some((keyId) => keyId.equals(sender)));
    if (!fits) throw new Refusal("policy");
  }

  /**
   * @param {import("./wire.js").Decoded} envelope
   * @param {Uint8Array[]} bound
   * @param {number} now
   */
  #findSender({ sender, stream }, bound, now) {
    const peer = this.trust.get(sender);
    if (peer === undefined) throw new Refusal("unknown_sender");
    const own = this.identities.some((identity) => identity.public.keyId.equals(sender));
    if (own && (!this.policy.acceptOwn || this.streams.has(stream))) throw new Refusal("reflected");
    if (!peer.isValid(now) || !peer.may(this.context, bound)) throw new Refusal("not_trusted");
    return peer;
  }

  /**
   * @param {import("./wire.js").Decoded} envelope
   * @returns {{identity: Identity, wrap: Buffer | null} | null} null if it is for everyone
   */
  #findRecipient({ recipients }) {
    if (recipients.length === 0) return null;
    for (const identity of this.identities) {
      const entry = recipients.find(({ keyId }) => identity.public.keyId.equals(keyId));
      if (entry) return { identity, wrap: entry.wrap };
    }
    throw new Refusal("not_addressed");
  }

  /** @param {import("./wire.js").Decoded} envelope @param {number} now */
  #checkFreshness({ sentAt }, now) {
    if (sentAt < now - this.policy.maxAge) throw new Refusal("stale");
    if (sentAt > now + this.policy.maxFuture) throw new Refusal("future");
  }

  /**
   * @param {import("./wire.js").Decoded} envelope
   * @returns {import("./replay.js").Claim}
   */
  #claim({ stream, sequence, sentAt, inReplyTo }) {
    // A reply that is here was expected: step 3 let it pass.
    const exempt = inReplyTo !== null || this.streams.isSince(stream, this.born);
    return { stream, sequence, sentAt, exempt };
  }
}

/**
 * @param {import("./wire.js").Decoded} envelope
 * @param {import("./trust.js").Peer} peer
 * @param {Buffer} bind @param {Buffer} body BODY
 */
function checkSignature({ signature }, peer, bind, body) {
  if (!isEd25519Signature(signature, signedMessage(bind, body), peer.identity.ed25519)) {
    throw new Refusal("bad_signature");
  }
}

/**
 * @param {import("./wire.js").Decoded} envelope
 * @param {import("./trust.js").Peer} peer
 * @param {{identity: Identity, wrap: Buffer}} own
 * @param {Buffer} bind
 * @returns {Buffer} the payload
 */
function unseal(envelope, peer, { identity, wrap }, bind) {
  const { ephemeral, com, stream, nonce, body } = envelope;
  const sender = peer.identity.pub;
  const shared = isX25519Key(ephemeral) ? identity.agree(ephemeral) : null;
  if (shared === null) throw new Refusal("unseal");
  const kek = kekOf({ ephemeral, recipient: identity.public.pub, sender, stream, com }, shared);
  const ck = aeadOpen(kek, ZERO_NONCE, NOTHING, wrap);
  if (ck === null || !isEqual(commitmentOf(ck, ephemeral, sender, stream), com)) {
    throw new Refusal("unseal");
  }
  const payload = aeadOpen(aeadKeyOf(ck), nonce, bind, body);
  if (payload === null) throw new Refusal("unseal");
  return payload;
}
