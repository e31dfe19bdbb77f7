/**
 * The streams that this process began: what comes back of them is reflected (SPEC 7.2 step
 * 4), and they are newer than a memory that began before them (8.7).
 */

const MAX_STREAMS = 65536;

export class OwnStreams {
  #begun = new Map();

  /** How many were begun so far: a moment, for `isSince`. */
  count = 0;

  /** @param {Buffer} stream */
  begin(stream) {
    this.#begun.set(stream.toString("hex"), this.count++);
    if (this.#begun.size > MAX_STREAMS) this.#begun.delete(this.#begun.keys().next().value);
  }

  /** @param {Buffer} stream @returns {boolean} */
  has(stream) {
    return this.#begun.has(stream.toString("hex"));
  }

  /** @param {Buffer} stream @param {number} moment an earlier `count` @returns {boolean} */
  isSince(stream, moment) {
    return (this.#begun.get(stream.toString("hex")) ?? -1) >= moment;
  }
}

/** Those of this process. Tests make their own. */
export const ownStreams = new OwnStreams();
