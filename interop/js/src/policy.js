/**
 * What a receiver requires and bears (SPEC 11.2). Times are microseconds, sizes bytes.
 *
 * @typedef {typeof DEFAULTS} Policy
 */

const SECOND = 1_000_000;

const DEFAULTS = Object.freeze({
  require: "signed",
  addressed: false,
  acceptOwn: false,
  maxAge: 30 * SECOND,
  maxFuture: 2 * SECOND,
  maxSize: 16 * 2 ** 20,
  window: 4096,
  maxStreams: 64,
});

/** @type {Record<string, [number, number]>} */
const BOUNDS = {
  maxAge: [1000, 86_400 * SECOND],
  maxFuture: [0, 60 * SECOND],
  maxSize: [144, 2 ** 31],
  window: [64, 65536],
  maxStreams: [1, 1024],
};

/** @param {Partial<Policy>} changes @returns {Policy} @throws {Error} */
export function makePolicy(changes = {}) {
  const policy = { ...DEFAULTS, ...changes };
  if (!["signed", "sealed"].includes(policy.require)) throw new Error("require: signed or sealed");
  for (const [name, [low, high]] of Object.entries(BOUNDS)) {
    const value = policy[name];
    if (!Number.isInteger(value) || value < low || value > high) {
      throw new Error(`${name} is from ${low} to ${high}`);
    }
  }
  return Object.freeze(policy);
}
