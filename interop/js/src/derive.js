/** The derived values of SPEC 5 and 6: each a function of its inputs alone. */
import { H } from "./hash.js";
import { u32, u64 } from "./integers.js";
import { aeadSeal, x25519Base } from "./primitives.js";

const SIGN = Buffer.from("envelope/v1/sign", "ascii");
const NONCE_PAYLOAD = 1024;
const ZERO_NONCE = Buffer.alloc(24);
const NOTHING = Buffer.alloc(0);

/**
 * CTX (SPEC 5.1).
 *
 * @param {string} context @param {Uint8Array[]} bound
 */
export function placeOf(context, bound) {
  const name = Buffer.from(context, "utf8");
  const frames = bound.flatMap((frame) => [u64(frame.length), frame]);
  return H(64, "env1-context", [u64(name.length), name, u32(bound.length), ...frames]);
}

/**
 * BIND (SPEC 5.2).
 *
 * @param {Uint8Array} sender PUB @param {Uint8Array} ctx @param {Uint8Array} head
 */
export function bindOf(sender, ctx, head) {
  return H(64, "env1-bind", [sender, ctx, head]);
}

/** BODY (SPEC 5.3). @param {Uint8Array} body as on the wire */
export function bodyOf(body) {
  return H(64, "env1-body", [body]);
}

/**
 * What Ed25519 signs (SPEC 5.4): 144 bytes.
 *
 * @param {Uint8Array} bind @param {Uint8Array} body BODY
 */
export function signedMessage(bind, body) {
  return Buffer.concat([SIGN, bind, body]);
}

/**
 * A message id (SPEC 5.5).
 *
 * @param {Uint8Array} head @param {Uint8Array} body BODY @param {number} index
 */
export function messageId(head, body, index) {
  return H(32, "env1-id", [head, body, u32(index)]);
}

/**
 * COM (SPEC 5.6).
 *
 * @param {Uint8Array} ck @param {Uint8Array} ephemeral
 * @param {Uint8Array} sender PUB @param {Uint8Array} stream
 */
export function commitmentOf(ck, ephemeral, sender, stream) {
  return H(32, "env1-commit", [ephemeral, sender, stream], ck);
}

/** The AEAD key (SPEC 5.6). @param {Uint8Array} ck */
export function aeadKeyOf(ck) {
  return H(32, "env1-aead", [], ck);
}

/**
 * KEK of one recipient (SPEC 5.7).
 *
 * @param {object} of
 * @param {Uint8Array} of.ephemeral
 * @param {Uint8Array} of.recipient PUB
 * @param {Uint8Array} of.sender PUB
 * @param {Uint8Array} of.stream
 * @param {Uint8Array} of.com
 * @param {Uint8Array} shared the X25519 result
 */
export function kekOf({ ephemeral, recipient, sender, stream, com }, shared) {
  return H(32, "env1-kek", [ephemeral, recipient, sender, stream, com], shared);
}

/** The wrap of CK (SPEC 5.7). @param {Uint8Array} kek @param {Uint8Array} ck */
export function wrapOf(kek, ck) {
  return aeadSeal(kek, ZERO_NONCE, NOTHING, ck);
}

/**
 * A stream (SPEC 6.2).
 *
 * @param {Uint8Array} hedge
 * @param {object} from
 * @param {number} from.start Unix us
 * @param {Uint8Array} from.random 32 bytes
 * @param {number} from.process its id
 * @param {bigint} from.ns Unix ns
 */
export function streamOf(hedge, { start, random, process, ns }) {
  const half = H(8, "env1-stream", [random, u64(process), u64(ns)], hedge);
  return Buffer.concat([u64(start), half]);
}

/**
 * The secrets of a key epoch (SPEC 6.3).
 *
 * @param {Uint8Array} hedge
 * @param {Uint8Array} random 64 bytes
 * @param {Uint8Array} stream
 * @param {number} now Unix us
 * @returns {{e: Buffer, ck: Buffer, ephemeral: Buffer}}
 */
export function epochOf(hedge, random, stream, now) {
  const both = H(64, "env1-epoch", [random, stream, u64(now)], hedge);
  const e = both.subarray(0, 32);
  return { e, ck: both.subarray(32), ephemeral: x25519Base(e) };
}

/**
 * The nonce of a sealed envelope (SPEC 6.4).
 *
 * @param {Uint8Array} hedge
 * @param {object} from
 * @param {Uint8Array} from.random 32 bytes
 * @param {Uint8Array} from.stream
 * @param {number} from.sequence
 * @param {number} from.sentAt
 * @param {Uint8Array} from.ctx
 * @param {Uint8Array} from.payload as it will be encrypted
 */
export function nonceOf(hedge, { random, stream, sequence, sentAt, ctx, payload }) {
  const begin = payload.subarray(0, NONCE_PAYLOAD);
  return H(24, "env1-nonce", [random, stream, u64(sequence), u64(sentAt), ctx, begin], hedge);
}
