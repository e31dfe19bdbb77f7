/**
 * The envelope as bytes (SPEC 4): strict, canonical, and nothing but the layout.
 *
 * @typedef {object} Header
 * @property {number} kind SIGNED or SEALED
 * @property {boolean} bundle
 * @property {Uint8Array} sender key id, claimed until the signature was checked
 * @property {Uint8Array} stream
 * @property {number} sequence
 * @property {number} sentAt
 * @property {Uint8Array} nonce
 * @property {Uint8Array | null} inReplyTo
 * @property {Uint8Array | null} ephemeral only if sealed
 * @property {Uint8Array | null} com only if sealed
 * @property {Recipient[]} recipients strictly ascending by key id
 *
 * @typedef {object} Recipient
 * @property {Uint8Array} keyId
 * @property {Uint8Array | null} wrap only if sealed
 *
 * @typedef {Header & {head: Buffer, body: Buffer, signature: Buffer}} Decoded
 */
import { u16, u64 } from "./integers.js";
import { Refusal } from "./refusal.js";

export const SIGNED = 1;
export const SEALED = 2;
export const KEY_ID = 16;
export const TAG = 16;
export const MAX_RECIPIENTS = 256;
export const SEQUENCES = 2 ** 48;
export const SENT_ATS = 2 ** 53;

const MAGIC = Buffer.from("ENV", "ascii");
const VERSION = 1;
const BUNDLE = 1;
const REPLY = 2;
const HEADER = 80;
const MESSAGE_ID = 32;
const EPHEMERAL = 32;
const COM = 32;
const WRAP = 48;
const SIGNATURE = 64;

/**
 * @param {Uint8Array} envelope
 * @returns {Decoded} views of the envelope's bytes
 * @throws {Refusal} malformed, version
 */
export function decode(envelope) {
  const bytes = Buffer.from(envelope.buffer, envelope.byteOffset, envelope.length);
  require(bytes.length >= HEADER + SIGNATURE && bytes.subarray(0, 3).equals(MAGIC));
  if (bytes[3] !== VERSION) throw new Refusal("version");
  const [kind, flags, count] = [bytes[4], bytes[5], bytes.readUInt16BE(6)];
  require(kind === SIGNED || kind === SEALED);
  require(flags <= (BUNDLE | REPLY));
  require(count <= MAX_RECIPIENTS && (kind === SIGNED || count > 0));
  // Read whole: a number would round what is beyond 2^53.
  const sequence = bytes.readBigUInt64BE(40);
  const sentAt = bytes.readBigUInt64BE(48);
  require(sequence < SEQUENCES && sentAt < SENT_ATS);

  const h = flags & REPLY ? HEADER + MESSAGE_ID : HEADER;
  const k = keyBlockSize(kind, count);
  const end = bytes.length - SIGNATURE;
  require(end >= h + k + (kind === SEALED ? TAG : 0));
  return {
    kind,
    bundle: (flags & BUNDLE) !== 0,
    sender: bytes.subarray(8, 24),
    stream: bytes.subarray(24, 40),
    sequence: Number(sequence),
    sentAt: Number(sentAt),
    nonce: bytes.subarray(56, HEADER),
    inReplyTo: flags & REPLY ? bytes.subarray(HEADER, h) : null,
    ...decodeKeyBlock(kind, bytes.subarray(h, h + k)),
    head: bytes.subarray(0, h + k),
    body: bytes.subarray(h + k, end),
    signature: bytes.subarray(end),
  };
}

/**
 * @param {number} kind
 * @param {Buffer} block
 * @returns {Pick<Header, "ephemeral" | "com" | "recipients">}
 */
function decodeKeyBlock(kind, block) {
  const sealed = kind === SEALED;
  const entries = sealed ? block.subarray(EPHEMERAL + COM) : block;
  const size = sealed ? KEY_ID + WRAP : KEY_ID;
  /** @type {Recipient[]} */
  const recipients = [];
  for (let at = 0; at < entries.length; at += size) {
    const keyId = entries.subarray(at, at + KEY_ID);
    const before = recipients.at(-1);
    require(before === undefined || Buffer.compare(before.keyId, keyId) < 0);
    recipients.push({ keyId, wrap: sealed ? entries.subarray(at + KEY_ID, at + size) : null });
  }
  return {
    ephemeral: sealed ? block.subarray(0, EPHEMERAL) : null,
    com: sealed ? block.subarray(EPHEMERAL, EPHEMERAL + COM) : null,
    recipients,
  };
}

/**
 * @param {Header} header
 * @returns {Buffer} HEAD: header, in_reply_to and key block
 */
export function encodeHead(header) {
  const flags = (header.bundle ? BUNDLE : 0) | (header.inReplyTo ? REPLY : 0);
  return Buffer.concat([
    MAGIC,
    Buffer.from([VERSION, header.kind, flags]),
    u16(header.recipients.length),
    header.sender,
    header.stream,
    u64(header.sequence),
    u64(header.sentAt),
    header.nonce,
    header.inReplyTo ?? Buffer.alloc(0),
    header.ephemeral ?? Buffer.alloc(0),
    header.com ?? Buffer.alloc(0),
    ...header.recipients.flatMap(({ keyId, wrap }) => (wrap ? [keyId, wrap] : [keyId])),
  ]);
}

/** @param {number} kind @param {number} count */
function keyBlockSize(kind, count) {
  return kind === SEALED ? EPHEMERAL + COM + count * (KEY_ID + WRAP) : count * KEY_ID;
}

/** @param {boolean} holds one of the conditions of SPEC 4.3 */
function require(holds) {
  if (!holds) throw new Refusal("malformed");
}
