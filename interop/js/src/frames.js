/**
 * Envelopes in ZeroMQ messages: `route, bound frames, envelope` (SPEC 16.1, 16.2).
 *
 * @typedef {object} Arrived
 * @property {Buffer[]} route with the empty frame, as it came; nothing vouches for it
 * @property {Buffer[]} bound
 * @property {Buffer} envelope
 * @property {boolean} control whether it is for the other end's library (SPEC 16.4)
 */
import { Refusal } from "./refusal.js";

const RESERVED = "envelope/v1/";
const CONTROLS = ["challenge", "answer", "sync", "done"].map((name) => RESERVED + name);

/** @param {Uint8Array | null} topic @returns {Uint8Array[]} @throws {Error} if reserved */
export function bindTopic(topic) {
  if (topic === null) return [];
  if (Buffer.from(topic).toString("latin1").startsWith(RESERVED)) {
    throw new Error(`a topic does not begin with ${RESERVED}`);
  }
  return [topic];
}

/**
 * @param {Buffer[]} frames of one message
 * @param {boolean} routed whether they came by a DEALER or ROUTER
 * @returns {Arrived}
 * @throws {Refusal} malformed
 */
export function splitFrames(frames, routed) {
  const end = routed ? frames.findIndex((frame) => frame.length === 0) + 1 : 0;
  if ((routed && end === 0) || end === frames.length) throw new Refusal("malformed");
  const bound = frames.slice(end, -1);
  const control = CONTROLS.includes(bound.at(-1)?.toString("latin1") ?? "");
  return { route: frames.slice(0, end), bound, envelope: frames.at(-1), control };
}
