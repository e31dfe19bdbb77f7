/** H, the one hash of the format, and its labels (SPEC 2.2, 2.3). */
import { blake2b } from "./primitives.js";

const BLOCK = 128;

const LABELS = [
  "env1-ed25519",
  "env1-x25519",
  "env1-hedge",
  "env1-keyid",
  "env1-context",
  "env1-bind",
  "env1-body",
  "env1-id",
  "env1-epoch",
  "env1-commit",
  "env1-aead",
  "env1-kek",
  "env1-nonce",
  "env1-stream",
  "env1-text",
  "env1-session",
  "env1-streams",
  "env1-message",
  "env1-hint",
  "env1-pair-run",
  "env1-pair-code",
  "env1-pair-key",
  "env1-pair-proof",
  "env1-pair-dh",
  "env1-pair-print",
];

const PADDED = new Map(
  LABELS.map((label) => [label, Buffer.concat([Buffer.from(label, "ascii")], BLOCK)]),
);

/**
 * @param {number} n how many bytes of the digest, 1 to 64
 * @param {string} label one of the table
 * @param {Uint8Array[]} data
 * @param {Uint8Array | null} key
 * @returns {Buffer}
 */
export function H(n, label, data, key = null) {
  const padded = PADDED.get(label);
  if (padded === undefined) throw new Error(`no such label: ${label}`);
  return blake2b(Buffer.concat([padded, ...data]), key).subarray(0, n);
}
