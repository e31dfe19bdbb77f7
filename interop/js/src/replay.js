/**
 * The replay guard in memory (SPEC 8): integers only, and no clock.
 *
 * Entries do not expire here, which 8.6 leaves open: each sender and context has
 * `maxStreams` at most.
 *
 * @typedef {object} Claim
 * @property {Buffer} stream
 * @property {number} sequence
 * @property {number} sentAt
 * @property {boolean} exempt from cold (SPEC 8.7)
 */
import { Refusal } from "./refusal.js";

/** The sequences of one stream that were accepted. */
class Stream {
  /** @param {number} window @param {number} floor */
  constructor(window, floor) {
    this.floor = floor;
    this.newest = -Infinity;
    this.top = -1;
    this.bits = new Uint8Array(window); // a ring: the last `window` sequences up to top
  }

  /** @param {Claim} claim */
  check({ sequence, sentAt }) {
    if (sentAt <= this.floor) throw new Refusal("too_old");
    if (sequence + this.bits.length <= this.top) throw new Refusal("too_old");
    if (sequence <= this.top && this.bits[sequence % this.bits.length]) {
      throw new Refusal("replayed");
    }
  }

  /** @param {Claim} claim @returns {number} what is missing just before it (SPEC 8.9) */
  mark({ sequence, sentAt }) {
    const window = this.bits.length;
    const skipped = Math.max(0, sequence - this.top - 1);
    const left = Math.min(window, sequence - this.top); // as many slots get a new meaning
    for (let back = 0; back < left; back++) this.bits[(sequence - back) % window] = 0;
    this.bits[sequence % window] = 1;
    this.top = Math.max(this.top, sequence);
    this.newest = Math.max(this.newest, sentAt);
    return skipped;
  }
}

/** The streams of one (domain, sender, context), and its floor. */
class Table {
  floor = -Infinity;
  streams = new Map();

  /** @returns {[string, Stream]} the entry with the lowest `newest` */
  oldest() {
    return [...this.streams].reduce((low, entry) =>
      entry[1].newest < low[1].newest ? entry : low,
    );
  }
}

export class Guard {
  #tables = new Map();

  /**
   * @param {object} options
   * @param {number | null} options.cold nothing up to it is accepted; null if the keys are new
   * @param {number} options.window
   * @param {number} options.maxStreams
   */
  constructor({ cold, window, maxStreams }) {
    this.cold = cold ?? -Infinity;
    this.window = window;
    this.maxStreams = maxStreams;
  }

  /**
   * Look only (SPEC 8.4).
   *
   * @param {string} place one (domain, sender, context)
   * @param {Claim} claim
   * @throws {Refusal} before_start, too_old, replayed
   */
  check(place, claim) {
    if (claim.sentAt <= this.cold && !claim.exempt) throw new Refusal("before_start");
    const table = this.#tables.get(place) ?? new Table();
    const stream = table.streams.get(claim.stream.toString("hex"));
    if (stream) return stream.check(claim);
    if (claim.sentAt <= table.floor) throw new Refusal("too_old");
    if (table.streams.size >= this.maxStreams && claim.sentAt <= table.oldest()[1].newest) {
      throw new Refusal("too_old");
    }
  }

  /**
   * Accept it, once (SPEC 8.5).
   *
   * @param {string} place
   * @param {Claim} claim
   * @returns {number} skipped
   * @throws {Refusal} before_start, too_old, replayed
   */
  mark(place, claim) {
    this.check(place, claim);
    const table = this.#tables.get(place) ?? new Table();
    this.#tables.set(place, table);
    const name = claim.stream.toString("hex");
    if (!table.streams.has(name)) this.#enter(table, name);
    return table.streams.get(name).mark(claim);
  }

  /** @param {Table} table @param {string} name */
  #enter(table, name) {
    if (table.streams.size >= this.maxStreams) {
      const [oldest, stream] = table.oldest();
      // First the floor: whatever drops an entry has raised it (SPEC 8.6).
      table.floor = Math.max(table.floor, stream.newest);
      table.streams.delete(oldest);
    }
    table.streams.set(name, new Stream(this.window, table.floor));
  }
}
